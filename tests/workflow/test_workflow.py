import json
import sys
from pathlib import Path

import nibabel
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from monai.bundle import create_workflow
from monai.bundle.scripts import run_workflow

from monai_lighter import CaseError, ComponentError, ConfigError, System, Workflow
from monai_lighter.trust.digest import run_digest
from monai_lighter.trust.report import inspect

pytestmark = pytest.mark.usefixtures("impatient_workers")


def workflow(bundle, name="train", *files, **override):
    return Workflow([str(bundle / "configs" / f"{name}.yaml"), *files], logging_file=False, **override)


@pytest.mark.slow
def test_fit_writes_the_best_weights_into_the_bundle(bundle):
    run = workflow(bundle, run_id="fit")
    assert run.run() == [None]
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert state.keys() == run.network_def.state_dict().keys()


@pytest.mark.slow
def test_predict_writes_a_file_for_each_case(bundle):
    assert workflow(bundle, "inference", run_id="predict").run() == [None]
    assert sorted(path.name for path in (bundle / "eval").glob("*.nii.gz")) == [
        "image_4_trans.nii.gz",
        "image_5_trans.nii.gz",
    ]


@pytest.mark.slow
def test_predictions_in_mixed_precision_can_be_transformed_and_saved(bundle):
    numpy_transform = {"_target_": "FillHolesd", "keys": "pred"}
    changes = {"system::inferer": None, "system::postprocessing::predict::transforms::0": numpy_transform}
    workflow(bundle, "inference", run_id="predict", **changes, **{"trainer::precision": "bf16-mixed"}).run()
    assert nibabel.load(bundle / "eval" / "image_4_trans.nii.gz").shape == (16, 16, 1, 2)


@pytest.mark.slow
def test_predictions_can_be_had(bundle):
    run = workflow(bundle, "inference", run_id="predict", **{"args::predict::return_predictions": True})
    (predictions,) = run.run()
    assert len(predictions) == 2


@pytest.mark.parametrize(
    ("workflow_type", "stage"),
    [("train", "fit"), ("training", "fit"), ("Eval", "test"), ("infer", "predict"), ("inference", "predict")],
)
def test_with_no_run_id_the_stage_follows_from_the_workflow_type(bundle, workflow_type, stage):
    assert workflow(bundle, workflow_type=workflow_type).stage == stage
    assert workflow(bundle, workflow_type=workflow_type, run="$1").stage is None
    assert workflow(bundle, workflow_type=workflow_type, run_id="validate").stage == "validate"


def test_any_other_run_id_is_an_expression(bundle, extra):
    expressions = {"greet": "$'hello ' + @name", "several": ["$1", "$2"], "name": "you", "run": "$len(@data)"}
    file = extra(expressions)
    assert workflow(bundle, "train", file, run_id="greet").run() == ["hello you"]
    assert workflow(bundle, "train", file, run_id="several").run() == [1, 2]
    assert workflow(bundle, "train", file).run() == [6]


def test_an_unknown_run_id(bundle):
    with pytest.raises(ConfigError) as caught:
        workflow(bundle, run_id="fitt").run()
    assert str(caught.value) == "run_id: run ID 'fitt' doesn't exist in the config file. Did you mean 'fit'?"


def test_initialize_and_finalize_expressions(bundle, tmp_path):
    marker = str(tmp_path / "marks")
    expressions = {
        "initialize": [f"$open('{marker}', 'a').write('i')"],
        "finalize": f"$open('{marker}', 'a').write('f')",
        "run": f"$open('{marker}', 'a').write('r')",
    }
    run = workflow(bundle, **expressions)
    assert run.initialize() == [1]
    run.run()
    assert run.finalize() == [1]
    begin = f"$open('{marker}', 'a').write('b')"
    run = workflow(bundle, **expressions, begin=begin, init_id="begin", final_id="none")
    run.run()
    run.finalize()
    assert Path(marker).read_text() == "irfbr"


def test_initialize_is_idempotent_and_builds_nothing(bundle, extra, marks):
    run = workflow(bundle, "train", extra({"network_def": marks.component("network")}), run_id="fit")
    run.initialize()
    config = run.parser.get()
    assert run.initialize() is None
    assert run.parser.get() is config
    assert marks() == []
    assert isinstance(run.network_def, torch.nn.Module)
    run.initialize()
    assert marks() == ["network"]


@pytest.fixture
def marks(bundle):
    """A component that leaves its name in a file when it is built, and what was left there."""
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "__init__.py").write_text("")
    (bundle / "scripts" / "marks.py").write_text(
        "import torch\n"
        "from monai.metrics import DiceMetric\n"
        "from pathlib import Path\n"
        "def mark(name, **kwargs):\n"
        "    with (Path(__file__).parent / 'marks.txt').open('a') as file:\n"
        "        file.write(name + '\\n')\n"
        "    return DiceMetric() if 'metric' in name else torch.nn.Conv2d(1, 2, 1)\n"
    )
    file = bundle / "scripts" / "marks.txt"

    def read():
        return file.read_text().split() if file.exists() else []

    read.component = lambda name: {"_target_": "scripts.marks.mark", "name": name}
    return read


STAGES = {
    "fit": {"train-data", "val-data", "optimizer", "scheduler", "criterion", "val-metric", "fit-args", "fit-inferer"},
    "validate": {"val-data", "criterion", "val-metric"},
    "test": {"test-data"},
    "predict": {"predict-data", "predict-inferer"},
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_builds_only_what_it_needs(bundle, extra, marks, stage):
    config = {
        "system": {
            "model": marks.component("model"),
            "criterion": marks.component("criterion"),
            "optimizer": marks.component("optimizer"),
            "scheduler": marks.component("scheduler"),
            "inferer": {"train": marks.component("fit-inferer"), "predict": marks.component("predict-inferer")},
            "metrics": {"val": [marks.component("val-metric")]},
            "dataloaders": {mode: marks.component(f"{mode}-data") for mode in ("train", "val", "test", "predict")},
        },
        "args": {"fit": {"ckpt_path": marks.component("fit-args")}},
        "trainer": {"_target_": "scripts.trainer.Recorder"},
        "unused": marks.component("unused"),
    }
    (bundle / "scripts" / "trainer.py").write_text(
        "from lightning.pytorch import Trainer\n"
        "class Recorder(Trainer):\n"
        "    def fit(self, model, **kwargs): return 'fit', kwargs\n"
        "    def validate(self, model, **kwargs): return 'validate', kwargs\n"
        "    def test(self, model, **kwargs): return 'test', kwargs\n"
        "    def predict(self, model, **kwargs): return 'predict', kwargs\n"
    )
    run = workflow(bundle, "train", extra(config), run_id=stage)
    ((ran, arguments),) = run.run()
    assert ran == stage
    expected = {"fit": {"ckpt_path"}, "predict": {"return_predictions"}}
    assert set(arguments) == expected.get(stage, {"verbose"})
    assert set(marks()) == STAGES[stage] | {"model"}


@pytest.mark.slow
def test_a_run_can_be_resumed(bundle, tmp_path):
    trainer = {"trainer::logger": {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": str(tmp_path)}}
    workflow(bundle, run_id="fit", **trainer).run()
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    run = workflow(bundle, run_id="fit", max_epochs=2, **{"args::fit::ckpt_path": str(checkpoint)})
    run.run()
    assert run.trainer.current_epoch == 2
    assert run.trainer.global_step == 4


@pytest.mark.slow
@pytest.mark.parametrize("as_expression", [False, True])
def test_the_full_config_is_saved_with_the_run(bundle, tmp_path, as_expression):
    override = {
        "trainer::logger": {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": str(tmp_path)},
        "max_epochs": 2,
        "args": {"predict": {"return_predictions": False}},
    }
    if as_expression:
        override["run"] = "$@trainer.fit(@system)"
    run = workflow(bundle, run_id="run" if as_expression else "fit", **override)
    run.run()
    (file,), (checkpoint,) = tmp_path.rglob("config.yaml"), tmp_path.rglob("*.ckpt")
    saved = yaml.safe_load(file.read_text())
    assert saved["max_epochs"] == 2
    assert saved["bundle_root"] == "."
    assert saved["args"] == override["args"]
    assert saved["system"]["dataloaders"].keys() == {"train", "val"}
    assert torch.load(checkpoint, weights_only=True)["hyper_parameters"] == saved


@pytest.mark.slow
def test_the_saved_config_trains_again(bundle, tmp_path):
    logger = {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": str(tmp_path)}
    workflow(bundle, run_id="fit", **{"trainer::logger": logger}).run()
    (file,) = tmp_path.rglob("config.yaml")
    (bundle / "configs" / "again.yaml").write_text(file.read_text())
    workflow(bundle, "again", run_id="fit", **{"trainer::logger": False}).run()


@pytest.mark.slow
def test_a_property_set_from_python_is_saved_too(bundle, tmp_path):
    logger = {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": str(tmp_path)}
    run = workflow(bundle, run_id="fit", **{"trainer::logger": logger})
    run.initialize()
    run.max_epochs = 2
    run.network_def = network = torch.nn.Conv2d(1, 2, 1)
    run.run()
    (file,) = tmp_path.rglob("config.yaml")
    saved = yaml.safe_load(file.read_text())
    assert saved["max_epochs"] == 2
    assert saved["network_def"] == repr(network)


def test_overrides_merges_macros_and_several_files(bundle, extra, tmp_path):
    (tmp_path / "nets.yaml").write_text(
        "small: {_target_: torch.nn.Conv2d, in_channels: 1, out_channels: 2, kernel_size: 1}\n"
    )
    first = extra({"network_def": f"%{tmp_path}/nets.yaml::small", "+trainer": {"max_steps": 3}}, "a.yaml")
    second = extra(
        {"+augmentation": [{"_target_": "RandFlipd", "keys": "image"}], "trainer#barebones": False}, "b.yaml"
    )
    train = bundle / "configs" / "train.yaml"
    for files in ([str(train), first, second], (train, first, second), f"{train},{first},{second}"):
        run = Workflow(files, logging_file=False, run_id="fit", **{"trainer::min_steps": 2, "augmentation#1#prob": 1})
        run.initialize()
        assert isinstance(run.network_def, torch.nn.Conv2d)
        assert run.parser["trainer::max_steps"] == 3
        assert run.parser["trainer::barebones"] is False
        assert run.parser["trainer::min_steps"] == 2
        assert run.parser["augmentation"][1] == {"_target_": "RandFlipd", "keys": "image", "prob": 1}


def test_a_macro_can_be_overridden_before_it_is_expanded(bundle, extra):
    file = extra({"base": {"a": 1}, "copy": "%base"})
    run = workflow(bundle, "train", file, run_id="copy", base={"a": 2})
    run.initialize()
    assert run.parser["copy"] == {"a": 2}


def test_meta_and_logging_files(bundle, tmp_path):
    (bundle / "configs" / "metadata.json").write_text('{"version": "1.2.3", "monai_version": "1.6.1"}')
    (bundle / "configs" / "logging.conf").write_text("not read")
    run = workflow(bundle, run_id="fit")
    run.initialize()
    assert run.version == "1.2.3"
    (tmp_path / "other.json").write_text('{"version": "2"}')
    run = workflow(bundle, run_id="fit", meta_file=str(tmp_path / "other.json"))
    run.initialize()
    assert run.version == "2"
    message = r"^logging_file: Cannot find the logging config file: none\.conf\. Mend the path\.$"
    with pytest.raises(FileNotFoundError, match=message):
        Workflow(str(bundle / "configs" / "train.yaml"), logging_file="none.conf")


def test_the_bundle_is_importable_before_anything_resolves(bundle, extra, marks):
    imports = extra({"imports": ["$import glob", "$from scripts.marks import mark"], "initialize": "$mark('early')"})
    run = workflow(bundle, "train", imports, run_id="fit")
    run.initialize()
    assert marks() == ["early"]
    assert sys.path[1] == str(bundle)
    run = workflow(bundle, "train", imports, run_id="fit")
    run.initialize()
    assert sys.path.count(str(bundle)) == 1


def test_a_project_is_imported(bundle, extra):
    project = bundle / "mine"
    project.mkdir()
    (project / "__init__.py").write_text("")
    (project / "nets.py").write_text("import torch\ndef net(): return torch.nn.Conv2d(1, 2, 1)\n")
    run = workflow(bundle, "train", extra({"project": "mine", "network_def": {"_target_": "project.nets.net"}}))
    run.initialize()
    assert isinstance(run.network_def, torch.nn.Conv2d)


def test_a_project_may_be_named_from_where_the_command_runs_as_in_lighter(bundle, extra, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "__init__.py").write_text("value = 7\n")
    monkeypatch.chdir(tmp_path)
    run = workflow(
        bundle, "train", extra({"project": "./elsewhere", "run": "$project.value", "imports": ["$import project"]})
    )
    assert run.run() == [7]


def test_what_is_wrong_with_overrides_macros_and_project_comes_together(bundle, extra):
    wrong = {"project": "none", "trainer::max_epoch": 1, "trainr::max_epochs": 1}
    with pytest.raises(ConfigError) as caught:
        workflow(bundle, **wrong).initialize()
    ids = ["trainr::max_epochs", "project", "trainer::max_epoch"]
    assert [finding.id for finding in caught.value.findings] == ids
    with pytest.raises(ConfigError) as caught:
        workflow(bundle, "train", extra({"copy": "%nothing"}), **wrong).initialize()
    assert [finding.id for finding in caught.value.findings] == ["trainr::max_epochs", "copy", *ids[1:]]


def test_paths_are_those_of_the_bundle_wherever_the_command_runs(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Workflow("bundle/configs/train.yaml", logging_file=False, run_id="fit")
    run.initialize()
    assert run.bundle_root == str(bundle)
    assert run.trainer.default_root_dir == str(bundle)
    run = Workflow("bundle/configs/train.yaml", logging_file=False, run_id="fit", bundle_root="bundle/.")
    run.initialize()
    assert run.bundle_root == "bundle/."
    assert len(run.train_dataset) == 4


@pytest.mark.slow
def test_from_python(bundle):
    train = str(bundle / "configs" / "train.yaml")
    run = create_workflow("monai_lighter.Workflow", config_file=train, logging_file=False, max_epochs=1)
    assert isinstance(run, Workflow)
    assert isinstance(run.parser.get_parsed_content("system"), System)
    run_workflow(Workflow, config_file=train, logging_file=False, run_id="validate")
    run_workflow("monai_lighter.Workflow", config_file=train, logging_file=False)
    assert (bundle / "models" / "model.pt").is_file()


def test_arguments_from_a_file(bundle, tmp_path):
    arguments = {"config_file": str(bundle / "configs" / "train.yaml"), "run_id": "fit", "trainer::max_epochs": 3}
    (tmp_path / "args.yaml").write_text(yaml.safe_dump(arguments))
    run = create_workflow(Workflow, args_file=str(tmp_path / "args.yaml"), logging_file=False)
    assert run.stage == "fit"
    assert run.max_epochs == 3


def test_a_config_with_no_system_is_monais(bundle, extra, tmp_path):
    config = {"initialize": "$1", "run": "$@a + 1", "a": 1, "b": "%a", "_meta_": {}}
    path = extra(config, "plain.yaml")
    run = Workflow(path, logging_file=False, a=4, properties_path=None)
    assert not run.native
    assert run.run() == [5]
    assert run.finalize() == []
    with pytest.raises(ConfigError, match=r"run_id: run ID 'fit' doesn't .* A stage needs a `system` section\."):
        Workflow(path, logging_file=False, run_id="fit").run()
    with pytest.raises(ConfigError, match="nope::x: override whose parent 'nope' does not exist"):
        Workflow(path, logging_file=False, **{"nope::x": 1}).initialize()


@pytest.mark.slow
def test_any_lightning_module_may_be_the_system(bundle, extra):
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "module.py").write_text(
        "import torch\n"
        "from lightning.pytorch import LightningDataModule, LightningModule\n"
        "class Data(LightningDataModule):\n"
        "    def train_dataloader(self): return torch.utils.data.DataLoader(torch.ones(4, 1), batch_size=2)\n"
        "class Module(LightningModule):\n"
        "    def __init__(self, width):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(1, width)\n"
        "    def training_step(self, batch, index): return self.layer(batch).mean()\n"
        "    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), lr=0.1)\n"
    )
    config = {
        "system": {"_target_": "scripts.module.Module", "width": 2},
        "args": {"fit": {"datamodule": {"_target_": "scripts.module.Data"}}},
    }
    run = workflow(bundle, "train", extra(config), run_id="fit", **{"trainer::enable_checkpointing": False})
    run.run()
    assert run.trainer.global_step == 2
    assert run.parser.get_parsed_content("system").hparams["max_epochs"] == 1


TOLD = "max_epoch: override adds 'max_epoch', which nothing in the config refers to. Did you mean 'max_epochs'?"


def test_overrides_that_nothing_uses_end_a_native_run(bundle):
    names = {"max_epoch": 3, "initialize": "$1", "device": "cpu", "seed": 1, "run": "$2", "files": []}
    with pytest.raises(ConfigError) as caught:
        workflow(bundle, **names).initialize()
    assert str(caught.value) == TOLD


def test_overrides_that_nothing_uses_are_said_at_both_ends_of_a_run_of_engines(tmp_path, caplog):
    (tmp_path / "train.yaml").write_text("max_epochs: 3\nrun: $@max_epochs + 1\n")
    run = Workflow(str(tmp_path / "train.yaml"), logging_file=False, max_epoch=5)

    def told():
        return [one.getMessage() for one in caplog.records if one.getMessage().startswith("max_epoch:")]

    run.initialize()
    assert told() == [TOLD]
    assert run.run() == [4]
    run.finalize()
    assert told() == [TOLD, TOLD]


def test_a_call_without_a_config():
    with pytest.raises(
        ConfigError, match=r"must be a file or several, got none. Name one: --config_file configs/train.yaml."
    ):
        Workflow()
    with pytest.raises(ConfigError, match=r"Did you mean --config_file a.yaml\?"):
        Workflow(config="a.yaml")


@pytest.mark.parametrize("name", ["run_id", "init_id", "final_id"])
def test_a_second_file_that_became_an_id(bundle, name):
    file = str(bundle / "configs" / "train.yaml")
    with pytest.raises(ConfigError) as caught:
        Workflow(file, **{name: "b.yaml"})
    assert str(caught.value).startswith(f"{name}: must be the id of an item, got the file 'b.yaml'.")
    assert f"--config_file {file},b.yaml." in str(caught.value)


@pytest.mark.parametrize(
    ("word", "stage"), [("train", "fit"), ("evaluate", "test"), ("val", "validate"), ("infer", "predict")]
)
def test_other_words_for_stages(bundle, word, stage):
    with pytest.raises(ConfigError, match=f"run ID '{word}' doesn't exist in the config file. Did you mean '{stage}'"):
        workflow(bundle, run_id=word).run()


def test_a_config_that_is_run_from_inside_configs(bundle, monkeypatch, caplog):
    monkeypatch.chdir(bundle / "configs")
    run = Workflow("train.yaml", run_id="fit", logging_file=False)
    run.initialize()
    assert run.bundle_path == bundle
    assert run.parser["bundle_root"] == str(bundle)
    Path("engines.yaml").write_text("bundle_root: .\nrun: $1\n")
    Workflow("engines.yaml", logging_file=False).initialize()
    assert (
        f"bundle_root: '.' is {bundle / 'configs'} here, in the folder of the configs. Run the command in"
        in caplog.text
    )


@pytest.mark.slow
def test_the_digest_of_what_runs_is_logged(bundle, caplog):
    caplog.set_level("INFO")
    before = inspect(bundle)
    workflow(bundle, run_id="fit").run()
    assert f"sha256 over configs, models, scripts: {before.digest}" in caplog.text
    assert before.digest in str(before)
    assert run_digest(bundle) != before.digest == json.loads(before.to_json())["sha256"]


def test_short_names_are_monais_alone(bundle):
    run = workflow(bundle)
    assert run.parser.locator.get_component_module_name("SupervisedTrainer") == "monai.engines.trainer"
    assert run.parser.locator.get_component_module_name("Freezer") is None


def test_keys_may_be_numbers(bundle, extra):
    names = {0: "background", 1: "$'li' + 'ver'"}
    dropout = "$0.5 if @names::1 == 'liver' and len(@names) == 2 else 0"
    config = {"names": names, "network_def::dropout": dropout, "run": "$@network_def.dropout"}
    run = workflow(bundle, "train", extra(config))
    assert run.run() == [0.5]


def test_a_constructor_that_raises_names_its_item(bundle):
    run = workflow(bundle, run_id="fit", **{"system::metrics::val::dice::reduction": "$1 / 0"})
    with pytest.raises(ComponentError) as caught:
        run.run()
    assert str(caught.value).startswith("system::metrics::val::dice::reduction: '$1 / 0' failed: ZeroDivisionError")
    run = workflow(bundle, run_id="fit", **{"system::optimizer::lr": -1})
    with pytest.raises(ComponentError, match=r"^system::optimizer: torch.optim.AdamW could not be built: ValueError: "):
        run.run()


@pytest.mark.slow
def test_errors_of_the_run_itself_are_left_alone(bundle):
    run = workflow(bundle, run_id="fit", **{"system::dataloaders::train::batch_size": 3, "network_def::in_channels": 2})
    with pytest.raises(RuntimeError) as caught:
        run.run()
    assert not isinstance(caught.value, (CaseError, ComponentError))


@pytest.mark.slow
@pytest.mark.parametrize("as_expression", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_names_the_data_and_the_case(bundle, workers, as_expression):
    (bundle / "data" / "image_2.nii.gz").write_bytes(b"broken")
    override = {"system::dataloaders::train::num_workers": workers}
    if as_expression:
        override["run"] = "$@trainer.fit(@system)"
    with pytest.raises(CaseError) as caught:
        workflow(bundle, run_id="run" if as_expression else "fit", **override).run()
    message = str(caught.value)
    assert message.startswith("system::dataloaders::train: case image=")
    assert "image_2.nii.gz" in message
    assert "\n" not in message.split("failed:", maxsplit=1)[0]


def test_a_broken_file_in_a_cache_names_the_dataset_and_the_case(bundle):
    (bundle / "data" / "label_5.nii.gz").write_bytes(b"broken")
    run = workflow(bundle, run_id="fit", **{"system::dataloaders::val::dataset::_target_": "CacheDataset"})
    with pytest.raises(ComponentError) as caught:
        run.run()
    message = str(caught.value)
    assert message.startswith("system::dataloaders::val::dataset: CacheDataset could not be built: ")
    assert "label_5.nii.gz" in message
    assert "Case: image=" in message


@pytest.mark.slow
def test_a_bare_transform_that_fails_as_postprocessing_names_itself_and_the_case(bundle):
    with pytest.raises(CaseError) as caught:
        workflow(bundle, run_id="validate", **{"system::postprocessing::val::keys": ["pred", "labl"]}).run()
    assert str(caught.value).startswith("system::postprocessing::val: case image=")
    assert "image_4.nii.gz" in str(caught.value)


@pytest.mark.slow
def test_predictions_of_a_network_with_several_outputs_are_inverted_and_saved_in_their_space(bundle):
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "__init__.py").touch()
    (bundle / "scripts" / "two_heads.py").write_text(
        "import torch\n"
        "class TwoHeads(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return {'seg': torch.cat([x, 1 - x], 1), 'score': x.mean((2, 3))}\n"
    )
    transforms = "system::postprocessing::predict::transforms"
    invert = {"_target_": "Invertd", "keys": "seg", "transform": "@preprocessing", "orig_keys": "image"}
    changes = {
        "network_def": {"_target_": "scripts.two_heads.TwoHeads"},
        "system::inferer": None,
        "preprocessing::transforms::1": {"_target_": "SpatialPadd", "keys": "image", "spatial_size": [20, 20]},
        f"{transforms}::0": {"_target_": "Compose", "transforms": [invert]},
        f"{transforms}::1::keys": "seg",
    }
    workflow(bundle, "inference", run_id="predict", **changes).run()
    saved = nibabel.load(bundle / "eval" / "image_4_trans.nii.gz")
    given = nibabel.load(bundle / "data" / "image_4.nii.gz")
    assert saved.shape[:2] == given.shape[:2] == (16, 16)
    assert (saved.affine == given.affine).all()


@pytest.mark.slow
def test_a_postprocessing_that_fails_names_itself_and_the_case(bundle):
    transforms = {"_target_": "Compose", "transforms": [{"_target_": "AsDiscreted", "keys": ["pred", "lable"]}]}
    with pytest.raises(CaseError) as caught:
        workflow(bundle, run_id="validate", **{"system::postprocessing::val": transforms}).run()
    assert str(caught.value).startswith("system::postprocessing::val: case image=")
    assert "image_4.nii.gz" in str(caught.value)


def weights(bundle, **override):
    run = workflow(bundle, run_id="fit", max_epochs=2, seed=3, **override)
    run.run()
    return run.network_def.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("loader", ["DataLoader", "torch.utils.data.DataLoader"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_seed_makes_runs_equal_bit_for_bit(bundle, workers, loader):
    override = {
        "system::dataloaders::train::num_workers": workers,
        "system::dataloaders::train::_target_": loader,
        "system::dataloaders::train::dataset::transform": {
            "_target_": "Compose",
            "transforms": "$@preprocessing + @augmentation + [lambda d: {k: d[k] for k in ('image', 'label')}]",
        },
        "augmentation": [{"_target_": "RandGaussianNoised", "keys": "image", "prob": 0.5}],
    }
    torch.rand(7)
    first = weights(bundle, **override)
    torch.rand(3)
    second = weights(bundle, **override)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_another_seed_makes_another_run(bundle):
    first, second = weights(bundle), weights(bundle, **{"trainer::logger": False})
    assert all(torch.equal(first[name], second[name]) for name in first)
    run = workflow(bundle, run_id="fit", max_epochs=2, seed=4)
    run.run()
    assert not all(torch.equal(first[name], value) for name, value in run.network_def.state_dict().items())


def test_the_trainer_is_lightnings(bundle):
    run = workflow(bundle, run_id="fit", **{"trainer::max_epochs": 4, "trainer::limit_train_batches": 1})
    run.initialize()
    assert type(run.parser.get_parsed_content("trainer")) is Trainer
    assert run.trainer.trainer is run.parser.get_parsed_content("trainer")
    assert run.trainer.max_epochs == 4


def test_a_config_file_that_is_no_yaml_is_a_config_error(bundle, extra):
    with pytest.raises(ConfigError, match=r"^config_file: .*extra\.yaml cannot be read: while parsing"):
        workflow(bundle, "train", extra("a: [1"))
    with pytest.raises(ConfigError, match=r"^config_file: .*extra\.json cannot be read: Expecting"):
        workflow(bundle, "train", extra("{", "extra.json"))
    with pytest.raises(
        FileNotFoundError, match=r"config_file: Cannot find the config file: .*none\.yaml\. Mend the path"
    ):
        workflow(bundle, "none")
    with pytest.raises(ValueError, match="Unsupported workflow type"):
        workflow(bundle, workflow_type="sleep")


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(
    ("name", "stage", "id"),
    [
        ("train", "fit", "system::dataloaders::train::dataset"),
        ("train", "fit", "system::dataloaders::val::dataset"),
        ("train", "validate", "system::dataloaders::val::dataset"),
        ("inference", "predict", "system::dataloaders::predict::dataset"),
    ],
)
def test_an_empty_list_of_cases_is_an_error(bundle, name, stage, id, shuffle):
    changes = {f"{id}::data": [], f"{id.removesuffix('::dataset')}::shuffle": shuffle}
    with pytest.raises(ConfigError, match=f"^{id}: has no items, which stage '{stage}' needs"):
        workflow(bundle, name, run_id=stage, **changes).run()
    assert not (bundle / "models").exists()


@pytest.mark.parametrize("run", ["$@trainer.fit(@system)", ["$print('begins')", "$@trainer.validate(@system)"]])
def test_an_empty_list_of_cases_of_an_expression(bundle, run):
    empty = {"system::dataloaders::val::dataset::data": []}
    with pytest.raises(ConfigError, match=r"^system::dataloaders::val::dataset: has no items, which stage "):
        workflow(bundle, "train", run_id="own", own=run, **empty).run()


def test_an_empty_dataset_that_is_referred_to(bundle, extra):
    config = {"cases": {"_target_": "CacheDataset", "data": "$@data[:0]", "progress": False}}
    with pytest.raises(ConfigError, match=r"^system::dataloaders::val::dataset: has no items, .* those of cases\."):
        workflow(bundle, "train", extra(config), run_id="fit", **{"system::dataloaders::val::dataset": "@cases"}).run()


def test_loaders_without_batches(bundle):
    train = {"system::dataloaders::train::drop_last": True, "system::dataloaders::train::batch_size": 5}
    val = {"system::dataloaders::val": "$torch.utils.data.DataLoader([])"}
    with pytest.raises(ConfigError) as caught:
        workflow(bundle, run_id="fit", **train, **val).run()
    assert [(one.id, one.problem.partition(", got ")[2]) for one in caught.value.findings] == [
        ("system::dataloaders::train", "4 items of data"),
        ("system::dataloaders::val::dataset", "0 items of data"),
    ]


@pytest.mark.slow
def test_empty_data_that_are_not_used_are_no_error(bundle):
    limit = {"system::dataloaders::val::dataset::data": [], "trainer::limit_val_batches": 0}
    assert workflow(bundle, run_id="fit", **limit).run() == [None]


@pytest.mark.slow
def test_a_cache_of_another_transform_is_told(bundle, extra, caplog):
    cases = {
        "_target_": "PersistentDataset",
        "data": "$@data[4:]",
        "transform": {"_target_": "Compose", "transforms": "@preprocessing"},
        "cache_dir": str(bundle / "cache"),
    }
    hashed = {"hash_transform": {"_target_": "monai.data.utils.pickle_hashing", "_mode_": "callable"}}
    lower = {"preprocessing::1::minv": -1.0}

    def validate(cases, **changes):
        caplog.clear()
        file = extra({"cases": cases})
        run = workflow(
            bundle, "train", file, run_id="validate", **{"system::dataloaders::val::dataset": "@cases"}, **changes
        )
        run.run()
        (loader,) = run.parser.get_parsed_content("system").dataloaders.values()
        return float(loader.dataset[0]["image"].min()), caplog.text.count(
            "items of earlier runs are taken from cache_dir"
        )

    assert validate(cases) == (0, 0)
    assert validate(cases, **lower) == (0, 1)  # MONAI's fault, and what is said of it
    assert validate({**cases, **hashed}, **lower) == (-1, 0)
    files = set((bundle / "cache").iterdir())
    assert validate({**cases, **hashed}, **lower) == (-1, 0)
    assert set((bundle / "cache").iterdir()) == files  # the same transform is taken from the cache
    assert validate({**cases, **hashed}) == (0, 0)
