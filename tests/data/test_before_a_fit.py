"""``data: check`` in a config, and ``check --data`` on the command line."""

import csv
import json
import logging

import numpy as np
import pytest

from monai_lighter import ConfigError, Workflow

pytestmark = pytest.mark.usefixtures("own_modules")


def written(folder):
    folder.check()
    return folder.root / "configs" / "train.yaml"


def test_the_report_as_text(folder, check_command):
    folder.change("train_1/label.nii.gz", lambda label: np.where(label, 5, 0).astype(np.uint8))
    folder.write("train_2", shape=(40, 14, 10))
    code, output = check_command(written(folder), "--data")
    assert code == 2
    said = "error: system::dataloaders::train::dataset: case train_1/image.nii.gz, "
    count = int((folder.load("train_1/label.nii.gz") == 5).sum())
    hint = "Map the values to the classes, or set their number (network_def::out_channels)."
    sentence = f"the label has the value 5 in {count} voxels, the classes are 0 to 2. {hint}"
    assert said + f"{folder.root}/train_1/label.nii.gz: {sentence}" in output
    assert "note: system::dataloaders::train::dataset: case train_2/image.nii.gz" in output
    assert "size (voxels)" in output
    code, output = check_command(written(folder))
    assert (code, "size (voxels)" in output) == (0, False)


def test_notes_do_not_fail(folder, check_command):
    folder.write("train_2", shape=(40, 14, 10))
    code, output = check_command(written(folder), "--data")
    assert (code, "size outlier" in output or "its size 40 x 14 x 10" in output) == (0, True)


def test_json_and_a_table(folder, check_command, tmp_path):
    (folder.root / "train_1" / "image.nii.gz").unlink()
    folder.change("val_1/image.nii.gz", np.ones_like)
    code, output = check_command(written(folder), "--data", "--json", "--csv", tmp_path / "found.csv")
    report = json.loads(output)["data"]
    assert (code, report["cases"], report["errors"], report["notes"]) == (2, 9, 2, 0)
    missing, constant = report["rows"]
    assert missing["file"] == f"{folder.root}/train_1/image.nii.gz"
    assert (constant["mode"], constant["kind"], constant["value"]) == ("val", "constant", "1")
    assert report["summary"]["train"]["images"]["image"]["spacing"] == [[1.5] * 3, [1.2] * 3, [2] * 3]
    with open(tmp_path / "found.csv", newline="") as file:
        assert list(csv.DictReader(file)) == report["rows"]


def test_many_findings_of_a_kind_are_shortened(folder, check_command):
    folder.config["train_data"] = [folder.write(f"more_{i}") for i in range(14)]
    for i in range(13):
        folder.change(f"more_{i}/image.nii.gz", lambda image: image * 0)
    code, output = check_command(written(folder), "--data")
    assert code == 2
    assert output.count("all its voxels are 0") == 10
    assert "3 more of this kind (constant). --json and --csv FILE give them all." in output


def test_one_stage(folder, check_command):
    folder.change("train_1/image.nii.gz", np.ones_like)
    assert check_command(written(folder), "--data", "--run_id", "validate")[0] == 0
    assert check_command(written(folder), "--data", "--run_id", "fit")[0] == 2


def test_an_item_of_that_name_is_still_an_item(folder, check_command):
    folder.config["data"] = folder.config["train_data"]
    folder.config["train_data"] = "@data"
    code, output = check_command(written(folder), "--data", "[]", "--json")
    assert (code, "data" in json.loads(output)) == (0, False)
    assert check_command(written(folder), "--data")[0] == 0


@pytest.mark.slow
def test_a_fit_begins_with_the_check(folder, caplog):
    folder.config["data"] = "check"
    folder.write("train_2", shape=(40, 14, 10))
    folder.config["augmentation"] = [
        {"_target_": "RandSpatialCropd", "keys": ["image", "label"], "roi_size": [8, 8, 8], "random_size": False}
    ]
    folder.config["preprocessing"].append(
        {"_target_": "CenterSpatialCropd", "keys": ["image", "label"], "roi_size": [8] * 3}
    )
    with caplog.at_level(logging.WARNING, "monai_lighter"):
        Workflow(str(written(folder)), run_id="fit", logging_file=False).run()
    assert "its size 40 x 14 x 10" in caplog.text
    assert (folder.root / "models" / "model.pt").is_file()


@pytest.mark.parametrize("run", [{"run_id": "fit"}, {"run": "$@trainer.fit(@system)"}])
def test_a_fit_of_faulty_cases_does_not_begin(folder, run):
    folder.config["data"] = "check"
    folder.change("train_1/label.nii.gz", lambda label: np.where(label, 5, 0).astype(np.uint8))
    (folder.root / "val_0" / "image.nii.gz").unlink()
    with pytest.raises(ConfigError) as raised:
        Workflow(str(written(folder)), logging_file=False, **run).run()
    assert [each.id for each in raised.value.findings] == [
        f"system::dataloaders::{m}::dataset" for m in ("train", "val")
    ]
    assert "the classes are 0 to 2. Map the values" in str(raised.value)
    assert "val_0/image.nii.gz: is not there." in str(raised.value)
    assert not (folder.root / "models").exists()


def test_only_a_fit_begins_with_it(folder):
    folder.config["data"] = "check"
    folder.change("val_1/label.nii.gz", lambda label: np.where(label, 5, 0).astype(np.uint8))
    assert Workflow(str(written(folder)), run_id="run", run="$1", logging_file=False).run() == [1]


def test_the_check_leaves_random_states_alone(folder):
    folder.config["data"] = "check"
    folder.config["seed"] = 0
    run = Workflow(str(written(folder)), run_id="run", run=["$__import__('torch').rand(1).item()"], logging_file=False)
    plain = run.run()
    folder.config["run"] = ["$__import__('torch').rand(1).item()", "$str('.fit(')"]
    again = Workflow(str(written(folder)), run_id="run", logging_file=False).run()
    assert again[0] == plain[0]
