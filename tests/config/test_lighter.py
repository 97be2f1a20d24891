from pydoc import locate

import pytest

from monai_lighter.config.lighter import is_installed, is_lighter, translated


@pytest.mark.parametrize(
    ("lighter", "ours"),
    [
        ("lighter.System", "monai_lighter.System"),
        ("lighter.system.System", "monai_lighter.System"),
        ("lighter.adapters.BatchAdapter", "monai_lighter.BatchAdapter"),
        ("lighter.adapters.CriterionAdapter", "monai_lighter.CriterionAdapter"),
        ("lighter.callbacks.Freezer", "monai_lighter.Freezer"),
        ("lighter.callbacks.freezer.Freezer", "monai_lighter.Freezer"),
        ("lighter.callbacks.FileWriter", "monai_lighter.FileWriter"),
        ("lighter.callbacks.writer.file.FileWriter", "monai_lighter.FileWriter"),
        ("lighter.callbacks.writer.table.TableWriter", "monai_lighter.TableWriter"),
        ("lighter.utils.model.replace_layer_with", "monai_lighter.models.replace_layer_with"),
        (
            "lighter.utils.model.adjust_prefix_and_load_state_dict",
            "monai_lighter.models.adjust_prefix_and_load_state_dict",
        ),
        ("lighter.utils.data.collate_replace_corrupted", "monai_lighter.collate.collate_replace_corrupted"),
        ("lighter.LighterModule", "monai_lighter.LighterModule"),
        ("lighter.model.LighterModule", "monai_lighter.LighterModule"),
        ("lighter.LighterDataModule", "monai_lighter.LighterDataModule"),
        ("lighter.callbacks.CsvWriter", "monai_lighter.CsvWriter"),
        ("lighter.callbacks.file_writer.FileWriter", "monai_lighter.OutputWriter"),
        ("my.lighter.System", "my.lighter.System"),
        ("lighter_tools.System", "lighter_tools.System"),
    ],
)
def test_paths_of_lighter_stand_for_this_packages(lighter, ours):
    assert translated({"a": [{"_target_": lighter}]}) == {"a": [{"_target_": ours}]}


@pytest.mark.parametrize(
    "path",
    [
        "lighter.LighterDataModule",
        "lighter.LighterModule",
        "lighter.System",
        "lighter.callbacks.CsvWriter",
        "lighter.callbacks.base_writer.BaseWriter",
        "lighter.callbacks.file_writer.FileWriter",
        "lighter.adapters.BatchAdapter",
        "lighter.adapters.CriterionAdapter",
        "lighter.adapters.LoggingAdapter",
        "lighter.adapters.MetricsAdapter",
        "lighter.callbacks.freezer.Freezer",
        "lighter.callbacks.TableWriter",
        "lighter.callbacks.writer.base.BaseWriter",
        "lighter.callbacks.writer.file.FileWriter",
        "lighter.callbacks.writer.table.TableWriter",
        "lighter.utils.data.collate_replace_corrupted",
        "lighter.utils.model.adjust_prefix_and_load_state_dict",
        "lighter.utils.model.remove_n_last_layers_sequentially",
        "lighter.utils.model.replace_layer_with",
        "lighter.utils.model.replace_layer_with_identity",
    ],
)
def test_every_path_leads_to_an_object(path):
    assert locate(translated({"_target_": path})["_target_"]) is not None


def test_expressions_are_translated_and_other_text_is_not():
    config = {"a": "$lighter.utils.model.replace_layer_with_identity(@net, 'fc')", "b": "see lighter.System"}
    assert translated(config) == {
        "a": "$monai_lighter.models.replace_layer_with_identity(@net, 'fc')",
        "b": "see lighter.System",
    }


def test_the_trainer_becomes_that_of_our_system():
    config = {"system": {"_target_": "lighter.System"}, "trainer": {"_target_": "pytorch_lightning.Trainer"}}
    assert translated(config)["trainer"]["_target_"] == "lightning.pytorch.Trainer"
    config["trainer"]["x"] = "$pytorch_lightning.loggers.CSVLogger('x')"
    assert translated(config)["trainer"]["x"] == "$lightning.pytorch.loggers.CSVLogger('x')"


def test_a_system_of_pytorch_lightning_keeps_its_trainer():
    config = {"system": {"_target_": "my.Module"}, "trainer": {"_target_": "pytorch_lightning.Trainer"}}
    assert translated(config) == config


def test_the_config_given_is_not_changed():
    config = {"system": {"_target_": "lighter.System"}}
    translated(config)
    assert config == {"system": {"_target_": "lighter.System"}}


def test_a_config_with_a_model_section_is_of_lighter_0_1_0():
    trainer = {"_target_": "pytorch_lightning.Trainer", "callbacks": [{"_target_": "lighter.callbacks.FileWriter"}]}
    config = translated({"model": {"_target_": "project.Net"}, "trainer": trainer})
    assert config["trainer"] == {
        "_target_": "lightning.pytorch.Trainer",
        "callbacks": [{"_target_": "monai_lighter.OutputWriter"}],
    }


def test_with_lighter_installed_a_model_section_is_left_to_it(tmp_path, monkeypatch):
    (tmp_path / "lighter").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    config = {"model": {"_target_": "lighter.LighterModule"}, "trainer": {"_target_": "pytorch_lightning.Trainer"}}
    assert not is_installed()  # a folder of that name is no package
    (tmp_path / "lighter" / "__init__.py").write_text("")
    assert is_installed()
    assert translated(config) == config
    system = {"system": {"_target_": "lighter.System"}, "trainer": {"_target_": "pytorch_lightning.Trainer"}}
    assert translated(system)["trainer"]["_target_"] == "lightning.pytorch.Trainer"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"system": {"_target_": "lighter.System"}}, True),
        ({"a": ["$lighter.utils.model.replace_layer_with_identity(1)"]}, True),
        ({"project": ".", "system": {}}, True),
        ({"system": {"_target_": "monai_lighter.System"}, "note": "as lighter.System"}, False),
    ],
)
def test_is_lighter(config, expected):
    assert is_lighter(config) is expected
