from pydoc import locate

import pytest

from monai_lighter.config.lighter import translated


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
        ("my.lighter.System", "my.lighter.System"),
        ("lighter_tools.System", "lighter_tools.System"),
    ],
)
def test_paths_of_lighter_stand_for_this_packages(lighter, ours):
    assert translated({"a": [{"_target_": lighter}]}) == {"a": [{"_target_": ours}]}


@pytest.mark.parametrize(
    "path",
    [
        "lighter.System",
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
