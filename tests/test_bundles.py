"""The example bundles, trained for real: their figures, MONAI's tools on them, and the commands of their READMEs."""

import csv
import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ckpt_export, onnx_export, verify_net_in_out
from torch.testing import assert_close

from monai_lighter.share.exporting import FORMATS, export_bundle

BUNDLES = Path(__file__).parent.parent / "bundles"
NAMES = ("brain_tissue_segmentation", "digits_classification")
WORKFLOW = ("--workflow", "monai_lighter.Workflow")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, monai_bundle):
    """Copies of both bundles, each trained and measured by the commands of its README, wherever they are typed."""
    root = tmp_path_factory.mktemp("bundles")
    for name in NAMES:
        shutil.copytree(
            BUNDLES / name, root / name, ignore=shutil.ignore_patterns("data", "eval", "*.pt", "__pycache__")
        )
        for stage, config in (("fit", "train"), ("test", "evaluate")):
            file = f"{name}/configs/{config}.yaml"
            done = monai_bundle("run", stage, *WORKFLOW, "--config_file", file, cwd=root)
            assert done.returncode == 0, done.stderr
            (root / f"{name}.{stage}").write_text(done.stdout)
    return root


@pytest.fixture
def in_bundle(trained, monkeypatch):
    """Makes the folder of a trained bundle the working directory, and gives it."""

    def enter(name):
        monkeypatch.chdir(trained / name)
        monkeypatch.syspath_prepend(str(trained / name))
        return trained / name

    return enter


@pytest.mark.slow
def test_grey_and_white_matter_are_found_in_the_half_that_was_not_trained_on(trained):
    with (trained / NAMES[0] / "eval" / "dice.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["grey matter", "white matter"]
    assert np.mean([float(row["value"]) for row in rows]) >= 0.90


@pytest.mark.slow
def test_digits_are_told_apart(trained):
    (value,) = re.findall(r"^accuracy .*?([\d.]+)$", (trained / f"{NAMES[1]}.test").read_text(), re.MULTILINE)
    assert float(value) >= 0.95


@pytest.mark.slow
def test_label_maps_are_in_the_space_of_the_image(trained, monai_bundle):
    root = trained / NAMES[0]
    done = monai_bundle("run", "predict", *WORKFLOW, "--config_file", "configs/inference.yaml", cwd=root)
    assert done.returncode == 0, done.stderr
    predicted, image = (
        nibabel.load(root / path) for path in ("eval/right_image_pred.nii.gz", "data/right_image.nii.gz")
    )
    assert predicted.shape == image.shape
    assert_close(predicted.affine, image.affine)
    assert set(np.unique(predicted.dataobj)) == {0, 1, 2}


@pytest.mark.slow
def test_a_bundle_runs_with_no_flag(trained, monai_bundle):
    root = trained / NAMES[1]
    (root / "models" / "model.pt").rename(root / "models" / "kept.pt")
    fit = monai_bundle("run", "--config_file", "configs/train.yaml", "--max_epochs", 1, cwd=root)
    assert fit.returncode == 0, fit.stderr
    assert torch.load(root / "models" / "model.pt", weights_only=True)
    (root / "models" / "kept.pt").replace(root / "models" / "model.pt")
    predict = monai_bundle("run", "--config_file", "configs/inference.yaml", cwd=root)
    assert predict.returncode == 0, predict.stderr
    assert len((root / "eval" / "predictions.csv").read_text().splitlines()) > 100


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_tools_of_monai_work_on_it(name, in_bundle):
    in_bundle(name)
    inference = {"config_file": "configs/inference.yaml", "meta_file": "configs/metadata.json"}
    verify_net_in_out("network_def", device="cpu", **inference)
    export = {"net_id": "network_def", "ckpt_file": "models/model.pt", **inference}
    ckpt_export(filepath="models/exported.ts", **export)
    assert torch.jit.load("models/exported.ts")
    onnx_export(filepath="models/exported.onnx", **export)
    assert Path("models/exported.onnx").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_exports_give_what_the_network_gives(name, format, in_bundle):
    assert export_bundle(str(in_bundle(name)), format).difference <= 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_it_is_complete(name):
    root = BUNDLES / name
    files = (
        "configs/train.yaml",
        "configs/evaluate.yaml",
        "configs/inference.yaml",
        "configs/logging.conf",
        "docs/README.md",
    )
    assert all((root / file).is_file() for file in (*files, "LICENSE", "models/.gitkeep", "scripts/__init__.py"))
    metadata = json.loads((root / "configs" / "metadata.json").read_text())
    assert set(metadata["network_data_format"]) == {"inputs", "outputs"}
    assert {"lightning", "monai_lighter"} <= set(metadata["required_packages_version"])
