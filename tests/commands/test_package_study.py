"""The folds of a study as one bundle: what is in it, that it gives the mean of its members elsewhere, and what is refused."""

import csv
import json
import shutil
import zipfile

import nibabel
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer

from monai_lighter import Ensemble
from monai_lighter.commands.package import package
from monai_lighter.errors import ConfigError
from monai_lighter.share.exporting import FORMATS, export_bundle
from monai_lighter.share.layout import Bundle, SharingError
from monai_lighter.share.loading import find_bundle, load_bundle
from monai_lighter.share.packaging import package_bundle
from monai_lighter.study.study_folder import COMPLETE, FAILED, RUNNING, StudyRequest, Trial

CHANNELS = [8, 16, 16, 32]
SETS = [
    {"network_def::channels": [16, 32, 64, 128], "learning_rate": 0.1},
    {"network_def::channels": CHANNELS, "learning_rate": 0.01},
]


def run_config(bundle, parameters):
    """The config of a trial, as its folder has it."""
    parser = ConfigParser(bundle.read(bundle.root / "configs" / "train.yaml"))
    for id, value in parameters.items():
        parser.set(value, id)
    return parser


def make_study(root, folder, states=(COMPLETE,) * 6, native=True):
    """A study of two parameter sets and three seeds each, of which the second set is the better one, as if it had run."""
    bundle = Bundle(root)
    grid = {"learning_rate": [0.1, 0.01], "seed": [0, 1, 2]}
    request = StudyRequest(
        ["configs/train.yaml"],
        {"patch_size": "[32, 32]", "dataset_dir": "/data", "resume": "auto", "network_def::dropout": "0.25"},
        grid,
        {},
        ["seed"],
        None,
        "val/metrics/dice/epoch",
        "maximize",
        native,
        "",
    )
    folder.mkdir(parents=True)
    request.write(folder)
    for number, state in enumerate(states):
        which, seed = divmod(number, 3)
        own = folder / f"{number:03d}"
        (own / "models").mkdir(parents=True)
        parameters = {**SETS[which], "seed": seed}
        fixed = {"patch_size": [32, 32], "dataset_dir": "/data", "network_def::dropout": 0.25}
        parser = run_config(bundle, {**parameters, **fixed})
        (own / "config.yaml").write_text(yaml.safe_dump(parser.get()))
        torch.manual_seed(number)
        torch.save(parser.get_parsed_content("network_def").state_dict(), own / "models" / "model.pt")
        value = 0.5 + number / 100 if state == COMPLETE else None
        note = "RuntimeError: out of memory" if state == FAILED else ""
        trial = Trial(own, number, which, parameters, {"seed": seed}, state, value, cwd=str(root), note=note)
        trial._replace(metric="val/metrics/dice/epoch", weights="models/model.pt").write()
    with open(folder / "out_of_fold.csv", "w", newline="") as file:
        rows = [["case", "metric", "class", "value"]]
        csv.writer(file).writerows(
            [*rows, *([f"c{i}", "dice", "1", value] for i, value in enumerate((0.5, 0.9, "nan")))]
        )
    return folder


@pytest.fixture
def study(created, tmp_path):
    return make_study(created(), tmp_path / "studies" / "lr")


def members(study):
    networks = []
    for number in (3, 4, 5):
        parser = ConfigParser(yaml.safe_load((study / f"{number:03d}" / "config.yaml").read_text()))
        network = parser.get_parsed_content("network_def")
        network.load_state_dict(torch.load(study / f"{number:03d}" / "models" / "model.pt"))
        networks.append(network.eval())
    return networks


@pytest.mark.slow
def test_elsewhere_it_gives_the_mean_of_its_members(study, tmp_path):
    networks = members(study)
    made = package_bundle(study, tmp_path / "out.zip")
    assert [row["result"] for row in made.checks] == ["passed"] * len(made.checks)
    assert {"inference on a synthetic case", "static check of evaluate"} <= {row["check"] for row in made.checks}
    data = tmp_path / "lesion" / "data"
    images = sorted((data.parent / "data").rglob("*.nii.gz"))
    image = next(file for file in images if "label" not in file.name)
    kept = tmp_path / "case.nii.gz"
    shutil.copy(image, kept)
    shutil.rmtree(tmp_path / "lesion")
    shutil.rmtree(study)
    root = find_bundle(made.file, bundle_dir=tmp_path / "elsewhere", progress=False)
    workflow = load_bundle(root, workflow_type="infer")
    workflow.dataset_data = [{"image": str(kept)}]
    workflow.initialize()
    model = workflow.parser.get_parsed_content("system").model.eval()
    assert isinstance(model, Ensemble)
    noise = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = torch.stack([network(noise) for network in networks]).mean(0)
        assert torch.allclose(model(noise), expected, atol=1e-6)
    workflow.run()
    (written,) = (root / "eval").rglob("*.nii.gz")
    item = workflow.parser.get_parsed_content("preprocessing")({"image": str(kept)})
    inferer = SlidingWindowInferer((32, 32), sw_batch_size=4, overlap=0.5, mode="gaussian")
    with torch.no_grad():
        scores = torch.stack([inferer(item["image"][None].as_tensor(), network) for network in networks]).mean(0)[0]
    found = nibabel.load(written).get_fdata().astype(int).squeeze()
    assert found.shape == nibabel.load(kept).shape[:2]
    flips = [np.flip(scores.argmax(0).numpy(), axes) for axes in ((), (0,), (1,), (0, 1))]
    assert (
        max((found == flip).mean() for flip in flips if flip.shape == found.shape) > 0.999
    )  # of orientations, the source's


def test_what_is_in_it(study, tmp_path):
    made = package_bundle(study, tmp_path / "out.zip", prove=False)
    assert [name for name in made.files if name.startswith("models/")] == [f"models/model_{i}.pt" for i in range(3)]
    with zipfile.ZipFile(made.file) as archive:
        read = {name: archive.read(f"lesion/{name}").decode() for name in made.files if not name.endswith(".pt")}
    for name in ("inference", "evaluate"):
        config = yaml.safe_load(read[f"configs/{name}.yaml"])
        assert config["system"]["model"] == "@network_def"
        assert config["network_def"]["_target_"] == "monai_lighter.Ensemble"
        assert config["network_def"]["networks"]["channels"] == CHANNELS
        assert config["network_def"]["networks"]["dropout"] == 0.25  # which no config of the bundle names
        assert config["network_def"]["weights"] == "@weights"
        assert config["patch_size"] == [32, 32]
        assert config["dataset_dir"] == "$@bundle_root + '/data'"
        assert config["weights"] == [f"$@bundle_root + '/models/model_{i}.pt'" for i in range(3)]
    metadata = json.loads(read["configs/metadata.json"])
    assert metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] == [32, 32]
    metrics = metadata["eval_metrics"]
    values = [0.53, 0.54, 0.55]
    assert metrics["val_dice"] == round(np.mean(values), 4)
    assert metrics["val_dice_std"] == round(np.std(values, ddof=1), 4)
    assert metrics["out_of_fold_dice_1"] == 0.7
    readme = read["docs/README.md"]
    assert "3 networks of a study as one, which differ in seed" in readme
    assert '"learning_rate' not in readme
    assert "learning_rate 0.01" in readme
    assert not any(str(tmp_path) in text for text in read.values())
    again = package_bundle(study, tmp_path / "again.zip", prove=False)
    assert again.digest == made.digest


def test_the_name_of_the_file(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = json.loads(package("studies/lr", prove=False, json=True))
    assert said["package"] == str(tmp_path / "lesion_lr_v0.1.0.zip")
    assert len(said["changes"]) == 1  # predictions do not come from the learning rate


def test_a_setting_that_predictions_come_from_and_that_they_do_not_share(study, tmp_path):
    file = tmp_path / "lesion" / "configs" / "inference.yaml"
    file.write_text(file.read_text().replace('patch_size: "%configs/common.yaml::patch_size"', "patch_size: [48, 48]"))
    changes = " ".join(map(str, package_bundle(study, tmp_path / "out.zip", prove=False).changes))
    assert "inference.yaml: has not what the study has set: it shares none of patch_size with the training" in changes
    assert "evaluate.yaml" not in changes


def test_a_network_within_the_system_and_parts_that_refer_to_it(study, tmp_path):
    root = tmp_path / "lesion"
    for name in ("inference", "evaluate"):
        file = root / "configs" / f"{name}.yaml"
        text = file.read_text()
        inner = "{_target_: monai_lighter.load_weights, model: '%configs/common.yaml::network_def', ckpt_path: models/model.pt}"
        text = text.replace(
            '{_target_: monai_lighter.load_weights, model: "@network_def", ckpt_path: "@weights"}', inner
        )
        if name == "evaluate":  # its own network stays an item of its own, parts of which are referred to
            text = file.read_text().replace('to_onehot: "@num_classes"', 'to_onehot: "@network_def::out_channels"')
        file.write_text(text)
    made = package_bundle(study, tmp_path / "out.zip", prove=False)
    with zipfile.ZipFile(made.file) as archive:
        inference, evaluate = (
            yaml.safe_load(archive.read(f"lesion/configs/{name}.yaml")) for name in ("inference", "evaluate")
        )
    assert inference["system"]["model"]["_target_"] == "monai_lighter.Ensemble"
    assert inference["system"]["model"]["weights"][2] == "$@bundle_root + '/models/model_2.pt'"
    network = inference["system"]["model"]["networks"]
    assert (network["channels"], network["dropout"]) == (CHANNELS, 0.25)  # what the study has set of network_def
    assert (
        evaluate["system"]["postprocessing"]["test"]["transforms"][2]["to_onehot"]
        == "@network_def::networks::out_channels"
    )


def test_a_value_that_the_trials_did_not_have(study, tmp_path):
    file = tmp_path / "lesion" / "configs" / "common.yaml"
    file.write_text(file.read_text().replace("norm: batch", "norm: instance"))
    with pytest.raises(
        SharingError, match=r"network_def::norm: the weights were trained with 'batch', and inference\.yaml"
    ):
        package_bundle(study, tmp_path / "out.zip", prove=False)
    assert not (tmp_path / "out.zip").exists()


def test_a_value_that_the_trials_did_not_have_in_the_config_of_the_test_alone(study, tmp_path):
    """As if the training config had been edited since, and inference.yaml with it."""
    root = tmp_path / "lesion"
    for number in range(6):
        file = study / f"{number:03d}" / "config.yaml"
        config = yaml.safe_load(file.read_text())
        config["preprocessing"][1]["axcodes"] = "LA"
        file.write_text(yaml.safe_dump(config))
    inference = root / "configs" / "inference.yaml"
    literal = json.dumps(config["preprocessing"])
    inference.write_text(inference.read_text().replace('"%configs/common.yaml::preprocessing"', literal))
    with pytest.raises(SharingError, match=r"preprocessing: the weights were trained with .*, and evaluate\.yaml has"):
        package_bundle(study, tmp_path / "out.zip", prove=False)


@pytest.mark.parametrize(
    ("states", "native", "message"),
    [
        (
            (COMPLETE, FAILED, COMPLETE),
            True,
            "001: fold 1 is failed: RuntimeError: out of memory. Its log is .*001/log.txt",
        ),
        (
            (COMPLETE, RUNNING, COMPLETE),
            True,
            "no parameter set of which all 3 trials are complete. Give the study's command",
        ),
        ((COMPLETE, COMPLETE), True, "no parameter set of which all 3 trials are complete"),
        ((COMPLETE,) * 3, False, "is a study of MONAI's engines"),
    ],
)
def test_folds_that_are_not_there(created, tmp_path, states, native, message):
    study = make_study(created(), tmp_path / "studies" / "lr", states, native)
    with pytest.raises(SharingError, match=message):
        package_bundle(study, tmp_path / "out.zip", prove=False)
    assert not (tmp_path / "out.zip").exists()


def test_sets_that_are_not_whole_are_told(created, tmp_path):
    study = make_study(created(), tmp_path / "studies" / "lr", (COMPLETE,) * 3 + (FAILED,))
    made = package_bundle(study, tmp_path / "out.zip", prove=False)
    assert "has parameter sets that are not whole and were left out: 1" in " ".join(map(str, made.changes))


def test_what_cannot_be_packaged(study, tmp_path):
    with pytest.raises(SharingError, match="weights: is for a bundle of one network"):
        package_bundle(study, weights="x.pt", prove=False)
    (study / "004" / "models" / "model.pt").unlink()
    with pytest.raises(SharingError, match=r"lacks the weights of .*004"):
        package_bundle(study, prove=False)
    shutil.rmtree(tmp_path / "lesion")
    study = make_moved(study)
    with pytest.raises(SharingError, match=r"was made with .*train.yaml, which is not there"):
        package_bundle(study, prove=False)
    (study / "study.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        package_bundle(study, prove=False)


def make_moved(study):
    torch.save({"x": torch.zeros(1)}, study / "004" / "models" / "model.pt")
    return study


@pytest.mark.parametrize("format", [*FORMATS])
def test_the_folds_are_exported_as_one_network(format, study, tmp_path):
    """The file gives the mean of the members, and needs none of their weights."""
    networks = members(study)
    root = find_bundle(package_bundle(study, tmp_path / "out.zip", prove=False).file, bundle_dir=tmp_path / "elsewhere")
    made = export_bundle(root, format)
    moved = made.file.rename(tmp_path / made.file.name)
    shutil.rmtree(root)
    noise = torch.rand(made.input_shape)
    with torch.inference_mode():
        expected = torch.stack([network(noise) for network in networks]).mean(0)
        assert torch.allclose(FORMATS[format][2](moved)(noise), expected, atol=1e-5)


def test_folds_that_cannot_be_exported_say_why(study, tmp_path):
    root = find_bundle(package_bundle(study, tmp_path / "out.zip", prove=False).file, bundle_dir=tmp_path / "elsewhere")
    file = root / "configs" / "inference.yaml"
    config = yaml.safe_load(file.read_text())
    config["network_def"]["cpu_offload"] = True
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(SharingError, match=r"network_def: has members that take turns.*Set cpu_offload to false"):
        export_bundle(root)
    config["network_def"]["cpu_offload"] = False
    file.write_text(yaml.safe_dump(config))
    (root / "models" / "model_1.pt").unlink()
    with pytest.raises(SharingError, match=r"network_def: cannot be built: .*model_1\.pt"):
        export_bundle(root)
