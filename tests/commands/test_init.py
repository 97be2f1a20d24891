import csv
import json
import re

import nibabel
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from PIL import Image

from monai_lighter import ConfigError, Workflow
from monai_lighter.commands.init import init
from monai_lighter.share.create import TASKS, create_bundle
from monai_lighter.share.layout import Bundle, SharingError
from monai_lighter.share.schema import check_metadata
from monai_lighter.share.synthetic import CASES, write_cases

ALL = [(task, dims) for task in TASKS for dims in (2, 3)]


@pytest.mark.parametrize(("task", "dims"), ALL)
def test_writes_a_complete_bundle(task, dims, tmp_path):
    files = create_bundle(tmp_path / "liver_lesions", task, dims, authors="Ada").files
    names = {file.relative_to(tmp_path / "liver_lesions").as_posix() for file in files}
    configs = {
        f"configs/{name}" for name in ("common.yaml", "train.yaml", "evaluate.yaml", "inference.yaml", "metadata.json")
    }
    assert names == {*configs, "docs/README.md", "LICENSE", "scripts/__init__.py", "scripts/dataset.py"}
    assert not [file for file in files if re.search(r"\{\{[\w:]+\}\}", file.read_text())]
    assert not (tmp_path / "liver_lesions" / "data").exists()
    metadata = json.loads((tmp_path / "liver_lesions" / "configs" / "metadata.json").read_text())
    assert check_metadata(metadata) == []
    assert metadata["name"] == "Liver lesions"
    assert metadata["authors"] == "Ada"


@pytest.mark.parametrize(("task", "dims"), ALL)
def test_the_configs_agree(task, dims, tmp_path):
    create_bundle(tmp_path / "b", task, dims)
    bundle = Bundle(tmp_path / "b")
    files = [bundle.require(name) for name in ("train", "evaluate", "inference")]
    configs = [bundle.read(file) for file in files]
    for key in ("network_def", "spacing", "num_channels"):
        assert configs[0][key] == configs[1][key] == configs[2][key]
    assert configs[0]["network_def"]["spatial_dims"] == dims


@pytest.mark.parametrize("task", TASKS)
def test_one_value_stands_in_one_place(task, tmp_path):
    create_bundle(tmp_path / "b", task, 2)
    bundle = Bundle(tmp_path / "b")
    shared = yaml.safe_load((bundle.root / "configs" / "common.yaml").read_text())
    raw = {name: bundle.require(name).read_text() for name in ("train", "evaluate", "inference")}
    for name, text in raw.items():
        content = yaml.safe_load(text)
        written = {key for key in shared if key in content and "%configs/common.yaml" not in str(content[key])}
        assert written <= {"preprocessing"}, name  # of which evaluation makes a Compose, with the label's
        assert not re.search(r"UNet|DenseNet|Spacingd|SlidingWindow", text)
    edited = (bundle.root / "configs" / "common.yaml").read_text().replace("[1.0, 1.0]", "[0.7, 0.9]")
    (bundle.root / "configs" / "common.yaml").write_text(edited)
    assert [bundle.read(bundle.require(name))["spacing"] for name in raw] == [[0.7, 0.9]] * 3


@pytest.mark.parametrize("task", TASKS)
def test_what_is_asked_for_is_in_configs_metadata_and_data(task, tmp_path):
    classes = {} if task == "regression" else {"num_classes": 4}
    create_bundle(tmp_path / "b", task, 3, synthetic=True, channels=2, spacing=[1.5, 1.5, 2], patch_size=32, **classes)
    bundle = Bundle(tmp_path / "b")
    config, metadata = bundle.read(bundle.require("inference")), bundle.metadata()
    assert config["spacing"] == [1.5, 1.5, 2.0]
    assert config["patch_size" if task == "segmentation" else "image_size"] == [32, 32, 32]
    assert config["num_channels"] == 2
    formats = metadata["network_data_format"]
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    assert (image["num_channels"], image["spatial_shape"]) == (2, [32, 32, 32])
    assert len(image["channel_def"]) == 2
    assert pred["num_channels"] == len(pred["channel_def"]) == (1 if task == "regression" else 4)
    assert check_metadata(metadata) == []
    with open(bundle.root / "data" / "cases.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    first, second = (nibabel.load(bundle.root / "data" / rows[0][name]).get_fdata() for name in ("image", "image_2"))
    assert first.shape == second.shape
    assert not np.array_equal(first, second)
    if task == "segmentation":
        label = nibabel.load(bundle.root / "data" / rows[0]["label"]).get_fdata()
        assert np.unique(label).tolist() == [0, 1, 2, 3]
    elif task == "classification":
        assert {row["label"] for row in rows} == {"0", "1", "2", "3"}


WRONG = {
    "a list that a shell broke off": ({"patch_size": "[64,"}, [r"^patch_size: is cut off, got '\[64,'\. Quote it"]),
    "spacing of two numbers in 3D": ({"spacing": [1, 1]}, [r"spacing: must be 3 numbers of mm in 3D, got \[1, 1\]"]),
    "spacing of nothing": ({"spacing": [1, 0, 1]}, ["spacing: must be 3 numbers of mm"]),
    "a size that the strides do not divide": (
        {"patch_size": [96, 96, 50]},
        [r"multiples of 8, .* got \[96, 96, 50\]. Use --patch_size \"\[96, 96, 48\]\""],
    ),
    "a size that is too small": ({"task": "classification", "patch_size": 8}, ["leaves nothing after the strides"]),
    "several at once": (
        {"num_classes": 1, "channels": 0, "patch_size": 4.5},
        ["num_classes: .*Count the background too", "channels: must be a whole", "patch_size: must be 3 whole numbers"],
    ),
    "classes of a regression": (
        {"task": "regression", "num_classes": 3},
        ["num_classes: is nothing that a regression"],
    ),
}


@pytest.mark.parametrize(("given", "messages"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_made_is_told_before_anything_is_written(given, messages, tmp_path):
    with pytest.raises(SharingError) as raised:
        init(str(tmp_path / "b"), **{"task": "segmentation", "dims": 3, **given})
    lines = str(raised.value).splitlines()
    assert len(lines) == len(messages)
    assert all(any(re.search(message, line) for line in lines) for message in messages)
    assert not (tmp_path / "b").exists()


def test_a_table_with_other_columns_names_them(tmp_path, monkeypatch):
    create_bundle(tmp_path / "b", "segmentation", 2)
    (tmp_path / "b" / "data").mkdir()
    (tmp_path / "b" / "data" / "cases.csv").write_text("scan,mask\na,b\n")
    names = {}
    exec((tmp_path / "b" / "scripts" / "dataset.py").read_text(), names)
    with pytest.raises(ValueError, match=r"must have the columns image and label, it has \['scan', 'mask'\]"):
        names["cases"](str(tmp_path / "b" / "data" / "cases.csv"))


def test_synthetic_labels_fit_the_task(tmp_path):
    for task in TASKS:
        write_cases(tmp_path / task, task, 2)
        with open(tmp_path / task / "cases.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == sum(CASES.values())
        assert all((tmp_path / task / row["image"]).is_file() for row in rows)
        labels = [row["label"] for row in rows]
        if task == "segmentation":
            label = nibabel.load(tmp_path / task / labels[0])
            assert set(label.get_fdata().ravel()) == {0, 1}
        elif task == "classification":
            assert set(labels) == {"0", "1"}
        else:
            assert all(5 < float(label) < 30 for label in labels)


def test_synthetic_data_are_the_same_each_time(tmp_path):
    for folder in ("a", "b"):
        write_cases(tmp_path / folder, "regression", 3)
    assert (tmp_path / "a" / "cases.csv").read_text() == (tmp_path / "b" / "cases.csv").read_text()


def test_everything_wrong_is_said_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SharingError) as raised:
        init(str(tmp_path), task="segmentatoin", dims=4)
    message = str(raised.value)
    assert "task: must be one of" in message
    assert "Did you mean 'segmentation'?" in message
    assert "dims: must be 2 or 3, got 4" in message
    assert "directory: must be empty" in message
    assert raised.value.exit_code == 2


def test_report(tmp_path):
    assert "cd " in init(str(tmp_path / "a"), dims=2)
    assert json.loads(init(str(tmp_path / "b"), dims=2, json=True))["rows"][0] == {"file": "LICENSE"}


def predict(root, images, **override):
    """Predicts with the bundle and random weights, of which the last class wins everywhere, and gives the label maps."""
    config = str(root / "configs" / "inference.yaml")
    parser = ConfigParser(Bundle(root).read(root / "configs" / "inference.yaml"))
    parser.update({key: value for key, value in override.items() if key.startswith("num_")})
    weights = parser.get_parsed_content("network_def").state_dict()
    *_, last = (value for name, value in weights.items() if name.endswith("conv.bias"))
    last += 1000.0 * (torch.arange(len(last)) == len(last) - 1)
    (root / "models").mkdir(exist_ok=True)
    torch.save(weights, root / "models" / "model.pt")
    trainer = {"trainer::enable_progress_bar": False, "trainer::accelerator": "cpu"}
    data = [{"image": str(image)} for image in images]
    workflow = Workflow(config, workflow_type="infer", run_id="predict", predict_data=data, **trainer, **override)
    workflow.initialize()
    workflow.run()
    return sorted(path.relative_to(root / "eval").as_posix() for path in (root / "eval").rglob("*.nii.gz"))


@pytest.mark.slow
class TestPredictions:
    """What a new bundle writes."""

    def test_folders_that_differ_are_kept(self, tmp_path):
        root = tmp_path / "b"
        create_bundle(root, "segmentation", 2)
        images = [tmp_path / "scans" / f"sub-0{i}" / "ses-1" / "T1w.nii.gz" for i in (1, 2)]
        for image in images:
            image.parent.mkdir(parents=True)
            nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).random((32, 32), np.float32), np.eye(4)), image)
        files = [f"sub-0{i}/ses-1/T1w_pred.nii.gz" for i in (1, 2)]
        assert predict(root, images) == files
        assert predict(root, images) == files  # again
        other = {"output_dir": str(root / "eval" / "one")}
        assert predict(root, images[:1], **other) == ["one/T1w_pred.nii.gz", *files]
        with pytest.raises(ConfigError, match="is the output of another case"):
            predict(root, images[1:], **other)

    @pytest.mark.parametrize(("classes", "dtype"), [(2, "uint8"), (256, "uint8"), (300, "uint16")])
    def test_any_number_of_classes(self, tmp_path, classes, dtype):
        create_bundle(tmp_path / "b", "segmentation", 2)
        nibabel.save(nibabel.Nifti1Image(np.zeros((32, 32), np.float32), np.eye(4)), tmp_path / "x.nii.gz")
        assert predict(tmp_path / "b", [tmp_path / "x.nii.gz"], num_classes=classes) == ["x_pred.nii.gz"]
        saved = nibabel.load(tmp_path / "b" / "eval" / "x_pred.nii.gz")
        assert saved.get_data_dtype() == dtype
        assert np.unique(saved.dataobj).tolist() == [classes - 1]

    def test_color_images(self, tmp_path):
        create_bundle(tmp_path / "b", "segmentation", 2)
        colors = np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(colors).save(tmp_path / "x.png")
        assert predict(tmp_path / "b", [tmp_path / "x.png"], num_channels=3) == ["x_pred.nii.gz"]
        saved = nibabel.load(tmp_path / "b" / "eval" / "x_pred.nii.gz")
        assert saved.shape == (56, 40)
        assert np.unique(saved.dataobj).tolist() == [1]

    @pytest.mark.parametrize(
        "affine",
        [
            [[0, 0, 1, 3], [-1, 0, 0, 5], [0, 1, 0, 7], [0, 0, 0, 1]],  # sagittal
            [[1, 0, 0, 3], [0, 0, -2, 5], [0, 1.5, 0, 7], [0, 0, 0, 1]],  # coronal
        ],
    )
    def test_any_orientation(self, tmp_path, affine):
        create_bundle(tmp_path / "b", "segmentation", 3)
        image = nibabel.Nifti1Image(np.zeros((16, 18, 20), np.float32), np.array(affine, float))
        nibabel.save(image, tmp_path / "x.nii.gz")
        assert predict(tmp_path / "b", [tmp_path / "x.nii.gz"], patch_size=[16, 16, 16]) == ["x_pred.nii.gz"]
        saved = nibabel.load(tmp_path / "b" / "eval" / "x_pred.nii.gz")
        assert saved.shape == image.shape
        assert np.allclose(saved.affine, affine, atol=1e-5)
