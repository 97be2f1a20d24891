import csv
import json
import re

import nibabel
import pytest
import yaml

from monai_lighter.commands.init import init
from monai_lighter.share.create import TASKS, create_bundle
from monai_lighter.share.layout import SharingError
from monai_lighter.share.schema import check_metadata
from monai_lighter.share.synthetic import CASES, write_cases

ALL = [(task, dims) for task in TASKS for dims in (2, 3)]


@pytest.mark.parametrize(("task", "dims"), ALL)
def test_writes_a_complete_bundle(task, dims, tmp_path):
    files = create_bundle(tmp_path / "liver_lesions", task, dims, authors="Ada")
    names = {file.relative_to(tmp_path / "liver_lesions").as_posix() for file in files}
    configs = {f"configs/{name}" for name in ("train.yaml", "evaluate.yaml", "inference.yaml", "metadata.json")}
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
    configs = [
        yaml.safe_load((tmp_path / "b" / "configs" / f"{n}.yaml").read_text())
        for n in ("train", "evaluate", "inference")
    ]
    for key in ("network_def", "spacing", "num_channels"):
        assert configs[0][key] == configs[1][key] == configs[2][key]
    assert configs[0]["network_def"]["spatial_dims"] == dims


def test_synthetic_labels_fit_the_task(tmp_path):
    for task in TASKS:
        write_cases(tmp_path / task, task, 2)
        for split, count in CASES.items():
            with open(tmp_path / task / f"{split}.csv", newline="") as file:
                rows = list(csv.DictReader(file))
            assert len(rows) == count
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
    assert (tmp_path / "a" / "train.csv").read_text() == (tmp_path / "b" / "train.csv").read_text()


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
