import pytest

from monai_lighter.config.items import locate, plain_config
from monai_lighter.config.stages import add_defaults, find_absent_ids, has_model_section, is_native, pruned

FULL = {
    "data": [1, 2],
    "system": {
        "model": "@net",
        "criterion": {"_target_": "Loss"},
        "optimizer": {"_target_": "Adam"},
        "scheduler": {"_target_": "Step"},
        "inferer": {"train": 1, "val": 2, "predict": 3},
        "dataloaders": {"train": "a", "val": "b", "test": "c", "predict": "d"},
        "metrics": {"train": "a", "val": "b", "test": "c"},
        "adapters": {"train": {"batch": 1}, "predict": {"batch": 1}},
        "postprocessing": {"val": 1, "predict": 2},
    },
    "args": {"fit": {"ckpt_path": "x"}, "predict": {"return_predictions": True}},
}


def test_is_native():
    assert is_native({"system": None})
    assert not is_native({"train": {}})
    assert is_native({"system": {"model": "@net"}})
    assert is_native({"system": {"_target_": "project.Module"}})
    assert not is_native({"system": {"name": "scanner 3"}, "trainer": {"_target_": "SupervisedTrainer"}})
    assert not is_native(["system"])


@pytest.mark.parametrize(
    ("stage", "modes", "kept"),
    [
        ("fit", {"train", "val"}, {"criterion", "optimizer", "scheduler"}),
        ("validate", {"val"}, {"criterion"}),
        ("test", {"test"}, set()),
        ("predict", {"predict"}, set()),
    ],
)
def test_a_stage_keeps_only_what_it_builds(stage, modes, kept):
    system = pruned(FULL, stage)["system"]
    assert set(system["dataloaders"]) == modes
    for section in ("metrics", "adapters", "postprocessing", "inferer"):
        assert set(system[section]) == modes & FULL["system"][section].keys()
    assert {"criterion", "optimizer", "scheduler"} & system.keys() == kept
    assert pruned(FULL, stage)["args"] == {stage: FULL["args"].get(stage, {})}


def test_pruning_leaves_the_config_and_the_objects_in_it_alone():
    thing = object()
    config = {**FULL, "thing": thing}
    result = pruned(config, "predict")
    assert "train" in config["system"]["dataloaders"]
    assert result["thing"] is thing
    assert result["data"] is not config["data"]


def test_a_section_that_is_a_reference_is_opened_so_that_it_can_be_pruned():
    config = {
        "sys": {"_target_": "monai_lighter.System", "model": "@net", "optimizer": 1, "dataloaders": "@loaders"},
        "loaders": {"train": 1, "predict": 2},
        "system": "@sys",
        "trainer": "@run",
        "run": {"max_epochs": 1},
        "args": "@run_args",
        "run_args": {"fit": {"ckpt_path": "last"}},
    }
    add_defaults(config, "/bundle")
    assert config["sys"]["dataloaders"] == "@loaders"
    assert config["trainer"]["max_epochs"] == "@run::max_epochs"
    assert config["trainer"]["default_root_dir"] == "/bundle"
    needed = pruned(config, "predict")
    assert needed["system"] == {
        "_target_": "monai_lighter.System",
        "model": "@sys::model",
        "dataloaders": {"predict": "@loaders::predict"},
    }
    assert pruned(config, "fit")["args"] == {"fit": "@run_args::fit"}


def test_pruning_leaves_alone_what_is_no_section_by_mode():
    config = {"system": {"inferer": {"_target_": "Inferer", "val": 1}, "dataloaders": "@loaders"}, "args": None}
    assert pruned(config, "predict") == config
    assert pruned({"system": "@other"}, "fit") == {"system": "@other"}


def test_defaults():
    config = {"system": {"model": 1}, "trainer": None}
    add_defaults(config, "/bundle")
    assert config["system"]["_target_"] == "monai_lighter.System"
    assert config["trainer"] == {"_target_": "lightning.pytorch.Trainer", "default_root_dir": "/bundle"}


def test_defaults_do_not_replace_what_is_given():
    config = {"system": {"_target_": "my.System"}, "trainer": {"_target_": "my.Trainer", "default_root_dir": "x"}}
    add_defaults(config, "/bundle")
    assert config["system"]["_target_"] == "my.System"
    assert config["trainer"] == {"_target_": "my.Trainer", "default_root_dir": "x"}
    config = {"system": "@s", "trainer": "@t"}
    add_defaults(config, "/bundle")
    assert config == {"system": "@s", "trainer": "@t"}


def test_plain_config():
    config = {"_meta_": {"version": "1"}, "a": (1, None), 2: {"object": print}}
    assert plain_config(config) == {"a": [1, None], "2": {"object": repr(print)}}


@pytest.mark.parametrize(
    ("id", "found"),
    [
        ("a::b", "a::b"),
        ("c", "a"),
        ("c::b", "a::b"),
        ("d::0::x", "d::0::x"),
        ("d::1::b", "a::b"),
        ("d::-1", "a"),
        ("d::9", None),
        ("d::x", None),
        ("a::missing", None),
        ("old::b", "a::b"),
        ("around", None),
        ("expression::b", None),
        ("text", "text"),
    ],
)
def test_locate_follows_references(id, found):
    config = {
        "a": {"b": 1},
        "c": "@a",
        "d": [{"x": 1}, "@a"],
        "old": "@d#1",
        "around": "@around",
        "expression": "$@a",
        "text": "@a/b",
    }
    assert locate(config, id) == found


def channel_def(**names):
    return {"network_data_format": {"outputs": {"pred": {"channel_def": names}}}}


@pytest.mark.parametrize(
    ("config", "labels"),
    [
        ({"labels": {1: "grey", 2: "white"}}, "@labels"),
        ({"labels": {"1": "grey"}, "_meta_": channel_def(**{"0": "other"})}, "@labels"),
        ({"_meta_": channel_def(**{"0": "background", "1": "grey"})}, {"0": "background", "1": "grey"}),
        ({"labels": "$[1, 2]"}, None),  # a config's own item of that name
        ({"labels": {"a": "b"}}, None),
        ({"labels": {1: {"_target_": "x"}}}, None),
        ({"labels": {}}, None),
        ({"_meta_": channel_def(**{"0": "channel 0", "1": "class 1"})}, None),  # nobody has named them
        ({"_meta_": channel_def(**{"0": "$__import__('os')", "1": "grey"})}, None),  # metadata are never evaluated
        ({"_meta_": channel_def(**{"0": "grey", "1": "grey"})}, None),
        ({"_meta_": {"network_data_format": {"outputs": {}}}}, None),
        ({}, None),
    ],
)
def test_names_of_classes(config, labels):
    config["system"] = {"model": 1}
    add_defaults(config, "/bundle")
    assert config["system"].get("labels") == labels
    config["system"] = {"model": 1, "labels": {0: "own"}}
    add_defaults(config, "/bundle")
    assert config["system"]["labels"] == {0: "own"}
    config["system"] = {"_target_": "project.Module"}
    add_defaults(config, "/bundle")
    assert "labels" not in config["system"]


MODEL = {
    "model": {"_target_": "project.Net", "network": "@net"},
    "data": {"_target_": "monai_lighter.LighterDataModule", "train_dataloader": 1, "test_dataloader": 2},
    "trainer": {"_target_": "lightning.pytorch.Trainer"},
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"trainer": {"_target_": "pytorch_lightning.Trainer"}}, True),
        ({"trainer": {"_target_": "lightning.pytorch.trainer.trainer.Trainer"}}, True),
        ({"trainer": {"_target_": "SupervisedTrainer"}}, False),
        ({"trainer": {"max_epochs": 1}}, False),
        ({"model": "@net"}, False),
        ({"system": {"model": "@model"}}, False),
    ],
)
def test_has_model_section(change, expected):
    assert has_model_section({**MODEL, **change}) is expected
    assert is_native({**MODEL, **change}) is (expected or "system" in change)


def test_a_model_section_is_the_system_and_its_data_are_those_of_the_stages():
    config = {**MODEL, "args": {"fit": {"ckpt_path": "last"}, "test": {"dataloaders": "@other"}, "predict": None}}
    given = plain_config(config)
    add_defaults(config, "/bundle")
    assert config["system"] == "@model"
    assert config["args"] == {
        "fit": {"datamodule": "@data", "ckpt_path": "last"},
        "test": {"dataloaders": "@other"},
        "predict": None,
    }
    assert config["trainer"]["default_root_dir"] == "/bundle"
    assert given["args"]["fit"] == {"ckpt_path": "last"}
    config = {**MODEL, "data": {"_target_": "project.Data"}}
    add_defaults(config, "/bundle")
    assert all(config["args"][stage] == {"datamodule": "@data"} for stage in ("fit", "validate", "test", "predict"))


def test_ids_of_what_comes_before_and_after_a_run():
    config = {"begin": "$1", "system": {}}
    assert not list(find_absent_ids("initialize", "finalize", config))
    assert not list(find_absent_ids("begin", "none", config))
    first, last = find_absent_ids("begn", "64]", config)
    assert str(first) == "init_id: 'begn' doesn't exist in the config file. Did you mean 'begin'?"
    assert str(last).startswith("final_id: '64]' doesn't exist in the config file. It is the rest of a list")
