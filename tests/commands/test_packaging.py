import json
import os
import re
import shutil
import zipfile

import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, verify_net_in_out
from monai.networks.nets import UNet

from monai_lighter.commands.package import package
from monai_lighter.config.stages import is_native
from monai_lighter.share.derive import derive_inference
from monai_lighter.share.exporting import export_bundle
from monai_lighter.share.layout import Bundle, SharingError
from monai_lighter.share.loading import find_bundle
from monai_lighter.share.metadata import find_packages
from monai_lighter.share.packaging import package_bundle
from monai_lighter.share.portable import find_leaks, make_config_portable
from monai_lighter.share.proof import prove_archive
from monai_lighter.share.schema import check_metadata


def content(archive, name):
    with zipfile.ZipFile(archive) as file:
        return file.read(name)


def test_same_input_same_bytes_and_nothing_else_in_it(created, tmp_path):
    root = created()
    for name in (
        "lightning_logs/version_0/events.out",
        "eval/pred.nii.gz",
        "models/model.ts",
        ".git/config",
        "notes.csv",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("private")
    shutil.copy(root / "models" / "model.pt", root / "models" / "model_last.pt")
    first = package_bundle(root, tmp_path / "first.zip", prove=False)
    copy = tmp_path / "other" / "lesion"
    shutil.copytree(root, copy)
    second = package_bundle(copy, tmp_path / "second.zip", prove=False)
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    assert first.digest == second.digest
    assert set(first.files) == {
        "LICENSE",
        "configs/common.yaml",
        "configs/evaluate.yaml",
        "configs/inference.yaml",
        "configs/metadata.json",
        "configs/train.yaml",
        "docs/README.md",
        "models/model.pt",
        "scripts/__init__.py",
        "scripts/dataset.py",
    }
    assert all(str(tmp_path).encode() not in content(first.file, f"lesion/{name}") for name in first.files)


def test_metadata_is_what_is_true(created, tmp_path):
    root = created()
    file = root / "configs" / "metadata.json"
    metadata = json.loads(file.read_text())
    metadata["network_data_format"]["inputs"]["image"].update(num_channels=7, spatial_shape=[1], modality="CT")
    metadata.update(monai_version="0.1", references=["mine"], proof="passed: all that an earlier package had")
    file.write_text(json.dumps(metadata))
    made = package_bundle(root, tmp_path / "out.zip", version="2.0.0", prove=False)
    filled = json.loads(content(made.file, "lesion/configs/metadata.json"))
    image, pred = (filled["network_data_format"][side][key] for side, key in (("inputs", "image"), ("outputs", "pred")))
    assert (image["num_channels"], image["spatial_shape"], image["dtype"]) == (1, [64, 64], "float32")
    assert image["modality"] == "CT"
    assert image["is_patch_data"]
    assert (pred["num_channels"], pred["spatial_shape"]) == (2, [64, 64])
    assert filled["version"] == "2.0.0"
    assert "2.0.0" in filled["changelog"]
    assert filled["monai_version"] != "0.1"
    assert "proof" not in filled  # this one was not tried out
    assert filled["references"] == ["mine"]
    assert {"lightning", "monai_lighter", "nibabel"} <= set(filled["required_packages_version"])
    assert filled["training_data"]["train_cases"] == 8
    assert filled["training_data"]["image_shape_max"] == [80, 72]
    assert check_metadata(filled) == []


@pytest.mark.slow
def test_nothing_but_a_training_config_weights_and_no_data(created, tmp_path):
    root = created(synthetic=False)
    for name in ("configs/inference.yaml", "configs/evaluate.yaml", "configs/metadata.json", "docs/README.md"):
        (root / name).unlink()
    made = package_bundle(root, tmp_path / "out.zip")
    assert [row["result"] for row in made.checks] == ["passed"] * 5
    proof = json.loads(content(made.file, "lesion/configs/metadata.json"))["proof"]
    assert proof == f"passed: {', '.join(row['check'] for row in made.checks)}"
    assert "configs/inference.yaml: was derived" in str(made.changes[0])
    assert any(change.id == "metadata::authors" for change in made.changes)
    readme = content(made.file, "lesion/docs/README.md").decode()
    assert "run predict --workflow monai_lighter.Workflow --config_file configs/inference.yaml" in readme


def test_lightning_checkpoint_becomes_plain_weights(created, tmp_path):
    root = created()
    state = torch.load(root / "models" / "model.pt", weights_only=True)
    (root / "models" / "model.pt").unlink()
    folder = root / "lightning_logs" / "version_0" / "checkpoints"
    folder.mkdir(parents=True)
    weights = {"best": 0.87654, "best_epoch": 1, "monitor": "val/metrics/dice/epoch", "mode": "max"}
    checkpoint = {
        "state_dict": {f"model.{name}": value for name, value in state.items()},
        "optimizer_states": [{"secret": torch.ones(3)}],
        "callbacks": {"ModelWeights": weights},
    }
    torch.save(checkpoint, folder / "epoch=1.ckpt")
    made = package_bundle(root, tmp_path / "out.zip", prove=False)
    (tmp_path / "model.pt").write_bytes(content(made.file, "lesion/models/model.pt"))
    plain = torch.load(tmp_path / "model.pt", weights_only=True)
    assert plain.keys() == state.keys()
    assert all(torch.equal(plain[name], state[name]) for name in state)
    metadata = json.loads(content(made.file, "lesion/configs/metadata.json"))
    assert metadata["eval_metrics"] == {"val_dice": 0.8765}
    assert "| val_dice | 0.8765 |" in content(made.file, "lesion/docs/README.md").decode()
    assert not (root / "models" / "model.pt").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "models" / "model.pt").unlink(), "weights: .* has no models/model.pt"),
        (
            lambda root: (root / "models" / "model.pt").write_text("no"),
            "weights: .* cannot be read with weights_only=True",
        ),
        (lambda root: torch.save([1, 2], root / "models" / "model.pt"), "holds no state dict"),
        (
            lambda root: (root / "docs" / "x.md").write_text("see /home/ada/scans"),
            "docs/x.md:1: names a path of this machine",
        ),
        (lambda root: (root / "configs" / "metadata.json").write_text("{"), "metadata.json of lesion cannot be read"),
    ],
)
def test_what_keeps_a_bundle_from_being_packaged(spoil, message, created, tmp_path):
    root = created()
    spoil(root)
    with pytest.raises(SharingError, match=message):
        package_bundle(root, tmp_path / "out.zip", prove=False)
    assert not (tmp_path / "out.zip").exists()


@pytest.mark.slow
def test_a_package_that_does_not_work_is_not_written(created, tmp_path):
    root = created("classification")
    config = root / "configs" / "common.yaml"
    config.write_text(config.read_text().replace("NormalizeIntensityd", "NormalizIntensityd"))
    metadata = json.loads((root / "configs" / "metadata.json").read_text())
    metadata["data_type"] = 3
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(SharingError) as raised:
        package_bundle(root, tmp_path / "out.zip")
    message = str(raised.value)
    assert "metadata::data_type: 3 is not of type 'string'" in message
    assert "static check of inference: failed" in message
    assert "Did you mean 'NormalizeIntensityd'?" in message
    assert not (tmp_path / "out.zip").exists()


def test_report(created, tmp_path):
    printed = package(str(created("regression")), str(tmp_path / "out.zip"), prove=False, json=True)
    assert json.loads(printed)["package"] == str(tmp_path / "out.zip")
    assert "configs/train.yaml" in json.loads(printed)["files"]


def test_a_second_packaging_replaces_its_section_of_the_readme(created, tmp_path):
    root = created()
    made = package_bundle(root, tmp_path / "one.zip", prove=False)
    (root / "docs" / "README.md").write_bytes(content(made.file, "lesion/docs/README.md"))
    again = package_bundle(root, tmp_path / "two.zip", version="0.2.0", prove=False)
    readme = content(again.file, "lesion/docs/README.md").decode()
    assert readme.count("written by monai_lighter package") == 1
    assert "## Version 0.2.0" in readme


def test_derived_inference_of_a_training_config():
    config = {
        "label_only": 1,
        "net": {"_target_": "UNet", "in_channels": "@channels"},
        "channels": 1,
        "keys": ["image", "label"],
        "modes": ["bilinear", "nearest"],
        "pre": [
            {"_target_": "LoadImaged", "keys": ["image", "label"]},
            {"_target_": "Spacingd", "keys": "@keys", "mode": "@modes"},
            {"_target_": "AsDiscreted", "keys": "label", "to_onehot": 2},
        ],
        "random": [{"_target_": "RandFlipd", "keys": ["image", "label"]}],
        "system": {
            "model": "@net",
            "inferer": {"train": None, "val": {"_target_": "SlidingWindowInferer"}},
            "postprocessing": {"val": {"_target_": "AsDiscreted", "keys": ["pred", "label"], "argmax": [True, False]}},
            "dataloaders": {
                "val": {"dataset": {"transform": {"_target_": "Compose", "transforms": "$@pre + @random"}}}
            },
        },
    }
    derived = derive_inference(config, spatial=True)
    assert is_native(derived)
    assert derived["preprocessing"]["transforms"] == [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "Spacingd", "keys": "image", "mode": "bilinear"},
    ]
    assert derived["system"]["inferer"] == {"_target_": "SlidingWindowInferer"}
    steps = [step["_target_"] for step in derived["system"]["postprocessing"]["predict"]["transforms"]]
    assert steps == ["Activationsd", "Invertd", "AsDiscreted", "SaveImaged"]
    assert derived["net"] == config["net"]
    assert derived["channels"] == 1
    assert not {"label_only", "random", "pre", "keys", "modes"} & derived.keys()
    config["system"]["dataloaders"]["val"]["dataset"]["transform"] = "$make(@pre)"
    with pytest.raises(SharingError, match="transforms cannot be read off"):
        derive_inference(config, spatial=True)


def test_configs_lose_their_absolute_paths_and_keep_their_comments(tmp_path):
    text = f"""bundle_root: {tmp_path}  # here
dataset_dir: "/data/ada/scans"
weights: {tmp_path}/models/model.pt
pretrained: [/models/sam.pt, 1]
home: ~/ada/scans.csv
output: $@bundle_root + '/eval'  # no path
"""
    new, findings = make_config_portable(text, tmp_path)
    values = yaml.safe_load(new)
    assert values["bundle_root"] == "."
    assert values["dataset_dir"] == "$@bundle_root + '/data'"
    assert values["weights"] == "$@bundle_root + '/models/model.pt'"
    assert values["pretrained"] == ["$@bundle_root + '/data/sam.pt'", 1]
    assert values["home"] == "$@bundle_root + '/data/scans.csv'"
    assert values["output"] == "$@bundle_root + '/eval'"
    assert "# here" in new
    assert [finding.id for finding in findings] == ["dataset_dir", "pretrained::0", "home"]
    (tmp_path / "a.py").write_text(f"x = 1\nopen('{tmp_path}/b')\n")
    assert [finding.id for finding in find_leaks(tmp_path, tmp_path)] == ["a.py:2"]


def test_required_packages_are_those_of_configs_and_code(tmp_path):
    code = tmp_path / "helper.py"
    code.write_text("import os\nimport sklearn.metrics\nfrom scripts import other\nfrom . import third\n")
    config = {
        "imports": ["$import pandas as pd"],
        "a": {"_target_": "torchmetrics.MeanAbsoluteError"},
        "b": {"_target_": "LoadImaged", "keys": "image", "reader": "ITKReader"},
        "c": {"_target_": "scripts.mine.Net"},
        "d": {"_target_": "no_such_package.Net"},
    }
    found = find_packages([config], [code], {"scripts"}, native=True)
    assert set(found) == {"lightning", "monai_lighter", "pandas", "scikit-learn", "torchmetrics", "itk"}
    assert "pytorch-ignite" in find_packages([{}], [], set(), native=False)


def test_proof_of_an_archive_that_is_none(tmp_path):
    (tmp_path / "x.zip").write_text("no zip")
    with pytest.raises(SharingError, match=r"x\.zip cannot be unpacked"):
        prove_archive(tmp_path / "x.zip", tmp_path / "source")


def test_large_files_name_what_the_package_lacks(created, tmp_path):
    root = created()
    listed = [
        {"path": path, "url": f"http://nowhere.invalid/{path}"} for path in ("models/model.pt", "models/model.ts")
    ]
    data = {"path": "models/atlas.nii.gz", "url": "http://nowhere.invalid/atlas.nii.gz"}
    (root / "large_files.yml").write_text(yaml.safe_dump({"large_files": [*listed, data]}))
    made = package_bundle(root, tmp_path / "out.zip", prove=False)
    assert yaml.safe_load(content(made.file, "lesion/large_files.yml")) == {"large_files": [data]}
    (change,) = [change for change in made.changes if change.id == "large_files"]
    assert change.problem == "no longer name models/model.pt, models/model.ts"
    (root / "large_files.yml").write_text(yaml.safe_dump({"large_files": listed}))
    made = package_bundle(root, tmp_path / "again.zip", prove=False)
    assert "large_files.yml" not in made.files
    found = find_bundle(made.file, bundle_dir=tmp_path / "cache", progress=False)  # which would download
    assert torch.load(found / "models" / "model.pt", weights_only=True)


def run_of(root, **values):
    """Leaves what a run leaves whose config had other values than the bundle's: config.yaml and a checkpoint."""
    config = Bundle(root).read(root / "configs" / "train.yaml")
    parser = ConfigParser(config)
    parser.update({"bundle_root": "/data/ada", **values})
    log = root / "lightning_logs" / "version_0"
    (log / "checkpoints").mkdir(parents=True)
    (log / "config.yaml").write_text(yaml.safe_dump(parser.get()))
    torch.save({"state_dict": {}, "hyper_parameters": parser.get()}, log / "checkpoints" / "a.ckpt")
    return log


class TestTheRunOfTheWeights:
    def test_what_predictions_do_not_come_from_is_a_note(self, created, tmp_path):
        root = created()
        run_of(root, max_epochs=7, **{"trainer::devices": 2})
        made = package_bundle(root, tmp_path / "out.zip", prove=False)
        (note,) = [change for change in made.changes if change.id == "train.yaml"]
        listed = "max_epochs 7 (50 in the file), trainer::devices 2 (nothing in the file)"
        assert note.problem == f"the run of the weights had other values: {listed}"

    def test_a_trial_of_a_study_is_none(self, created, tmp_path):
        root = created()
        (root / "studies" / "lr").mkdir(parents=True)
        (root / "studies" / "lr" / "study.json").write_text("{}")
        run_of(root, spacing=[2.0, 2.0]).parent.rename(root / "studies" / "lr" / "000")
        made = package_bundle(root, tmp_path / "out.zip", prove=False)
        assert [change for change in made.changes if change.id == "train.yaml"] == []

    @pytest.mark.parametrize("source", ["config.yaml", "checkpoint"])
    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (
                {"spacing": [2.0, 2.0]},
                r"^spacing: the weights were trained with \[2.0, 2.0\], and inference.yaml has \[1",
            ),
            ({"network_def::norm": "instance"}, "^network_def::norm: the weights were trained with 'instance'"),
            (  # an argument that the configs leave to its default
                {"network_def::act": "relu"},
                "^network_def::act: the weights were trained with 'relu', and inference.yaml has nothing",
            ),
            (
                {"network_def": {"_target_": "SegResNet"}},
                "^network_def: the weights were trained with a SegResNet, .* a UNet",
            ),
            (
                {"preprocessing": [{"_target_": "LoadImaged", "keys": "image"}]},
                "^preprocessing: the weights were trained with",
            ),
        ],
    )
    def test_what_predictions_come_from_must_be_in_the_configs(self, values, message, source, created, tmp_path):
        root = created()
        log = run_of(root, **values)
        if source == "checkpoint":
            (log / "config.yaml").unlink()
        with pytest.raises(SharingError, match=message):
            package_bundle(root, tmp_path / "out.zip", prove=False)
        package_bundle(root, tmp_path / "out.zip", weights=root / "models" / "model.pt", prove=False)  # of another run

    @pytest.mark.parametrize("values", [{"network_def::norm": "instance"}, {"network_def::act": "relu"}])
    def test_also_where_the_network_stands_elsewhere(self, values, created, tmp_path):
        root = created()
        config = root / "configs" / "inference.yaml"
        text = config.read_text().replace('network_def: "%configs/common.yaml::network_def"\n', "")
        config.write_text(text.replace('model: "@network_def"', 'model: "%configs/common.yaml::network_def"'))
        run_of(root, max_epochs=7)
        package_bundle(root, tmp_path / "out.zip", prove=False)
        (root / "lightning_logs").rename(root / "before")
        run_of(root, **values)
        with pytest.raises(SharingError, match=f"^{next(iter(values))}: the weights were trained with"):
            package_bundle(root, tmp_path / "again.zip", prove=False)

    def test_a_value_that_inference_has_of_its_own_may_differ(self, created, tmp_path):
        root = created()
        config = root / "configs" / "inference.yaml"
        config.write_text(config.read_text().replace('spacing: "%configs/common.yaml::spacing"', "spacing: [2.0, 2.0]"))
        run_of(root, spacing=[2.0, 2.0])
        assert package_bundle(root, tmp_path / "out.zip", prove=False).file.is_file()


def test_a_network_that_is_no_item_of_its_own(created, tmp_path):
    root = created()
    for file in (root / "configs").glob("*.yaml"):
        text = file.read_text().replace('network_def: "%configs/common.yaml::network_def"\n', "")
        text = text.replace('params: "$@network_def', 'params: "$@system::model')
        file.write_text(text.replace('"@network_def"', '"%configs/common.yaml::network_def"'))
    made = package_bundle(root, tmp_path / "out.zip", prove=False)
    filled = json.loads(content(made.file, "lesion/configs/metadata.json"))
    assert filled["network_data_format"]["outputs"]["pred"]["num_channels"] == 2


@pytest.mark.parametrize("kind", ["package", "export"])
def test_a_lightning_module_of_its_own_gets_one_sentence(kind, created, tmp_path):
    root = created()
    for name in ("train", "inference"):
        config = "system: {_target_: scripts.net.Net}\ntrainer: {}\n"
        (root / "configs" / f"{name}.yaml").write_text(config)
    with pytest.raises(SharingError) as raised:
        package_bundle(root, tmp_path / "out.zip") if kind == "package" else export_bundle(root)
    assert str(raised.value) == (
        "network_def: is not in inference.yaml, whose network is within scripts.net.Net. "
        "Write the network as network_def, and hand it on: '@network_def'."
    )


@pytest.mark.slow
def test_a_package_that_reads_the_bundle_it_was_made_from_is_not_written(created, tmp_path, monkeypatch):
    root = created("classification")
    monkeypatch.setenv("ATLAS", str(root / "data" / "cases.csv"))
    monkeypatch.setenv("PYTHONPATH", str(root), prepend=os.pathsep)
    atlas = "imports: [$import os]\natlas: $open(os.environ['ATLAS']).read()\ninitialize: $@atlas\n"
    config = root / "configs" / "inference.yaml"
    config.write_text(f"{atlas}{config.read_text()}")
    with pytest.raises(SharingError, match=r"cases\.csv is in the bundle that was packaged, which nobody else has"):
        package_bundle(root, tmp_path / "out.zip")


@pytest.mark.slow
def test_weights_of_another_network_are_told_in_a_line(created, tmp_path):
    root = created()
    torch.save(UNet(2, 1, 2, channels=[8] * 9, strides=[1] * 8).state_dict(), root / "models" / "model.pt")
    with pytest.raises(SharingError) as raised:
        package_bundle(root, tmp_path / "out.zip")
    (line,) = [line for line in str(raised.value).splitlines() if "inference on" in line]
    assert re.search(
        r"does not fit UNet: \d+ not in the file: model\.\S+, model\.\S+, model\.\S+, …; \d+ not in the network", line
    )
    assert len(line) < 1000


@pytest.mark.parametrize("name", ["verify", "export"])
def test_tools_of_monai_read_the_macros_in_the_folder_of_the_bundle(name, created, monkeypatch):
    root = created()
    monkeypatch.chdir(root)
    given = {"meta_file": "configs/metadata.json", "config_file": "configs/inference.yaml"}
    if name == "verify":
        verify_net_in_out("network_def", device="cpu", **given)
        workflow = ConfigWorkflow("configs/inference.yaml", workflow_type="infer", logging_file=False)
        workflow.initialize()
        assert type(workflow.preprocessing).__name__ == "Compose"
        assert type(workflow.network_def).__name__ == "UNet"
    else:
        ckpt_export("network_def", filepath="models/a.ts", ckpt_file="models/model.pt", **given)
        assert torch.jit.load("models/a.ts")
