"""From nothing to somebody else's prediction, each step in a process of its own."""

import json
import zipfile

import nibabel
import numpy as np
import pytest

pytestmark = pytest.mark.slow

STEPS = ("run", "--workflow", "monai_lighter.Workflow", "--trainer::accelerator", "cpu")
CASES = [
    ("segmentation", 2, "onnx"),
    ("segmentation", 3, "torchscript"),
    ("classification", 2, "pt2"),
    ("regression", 3, "torchscript"),
]


@pytest.mark.parametrize(("task", "dims", "format"), CASES, ids=[f"{task}-{dims}d" for task, dims, _ in CASES])
def test_from_nothing(task, dims, format, tmp_path, verb):
    root = tmp_path / "mine"
    made = verb("init", root, "--task", task, "--dims", dims, "--synthetic", "--json")
    assert {row["file"] for row in made["rows"]} >= {"configs/train.yaml", "configs/metadata.json", "LICENSE"}

    run, *flags = STEPS
    verb(run, "fit", *flags, "--config_file", "configs/train.yaml", "--max_epochs", 1, module="monai.bundle", cwd=root)
    assert (root / "models" / "model.pt").is_file()

    archive = tmp_path / "mine.zip"
    packaged = verb("package", root, "-o", archive, "--json")
    assert packaged["rows"]
    assert all(row["result"] == "passed" for row in packaged["rows"])
    names = zipfile.ZipFile(archive).namelist()
    assert not [
        name for name in names if "data" in name.split("/") or "lightning_logs" in name or name.endswith(".ckpt")
    ]

    if task == "segmentation":
        inspected = json.loads(verb("inspect", archive, "--json", code=1).stdout)
        assert inspected["code"]
        assert all(entry["own"] for entry in inspected["code"])

    elsewhere = tmp_path / "elsewhere"
    zipfile.ZipFile(archive).extractall(elsewhere)
    image = root / "data" / "images" / "test_00.nii.gz"
    data = ("--predict_data", f"[{{'image': '{image}'}}]")
    config = ("--config_file", "configs/inference.yaml")
    verb(run, "predict", *flags, *config, *data, module="monai.bundle", cwd=elsewhere / "mine")
    _check_prediction(task, elsewhere / "mine" / "eval", image)

    exported = verb("export", elsewhere / "mine", "--format", format, "--json")
    assert float(exported["rows"][0]["max difference"]) <= 1e-5


def _check_prediction(task, directory, image):
    if task == "segmentation":
        predicted, source = nibabel.load(directory / "test_00_pred.nii.gz"), nibabel.load(image)
        assert predicted.shape == source.shape
        assert np.allclose(predicted.affine, source.affine)
    else:
        lines = (directory / "predictions.csv").read_text().splitlines()
        assert len(lines) == 2
        assert str(image) in lines[1]
