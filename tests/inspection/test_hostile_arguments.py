"""Arguments and items that are dangerous by their names, wherever they stand."""

import pytest
from planted import write_config

from monai_lighter.inspection import Level, inspect


@pytest.mark.parametrize(
    ("config", "level"),
    [
        ({"args": {"validate": {"ckpt_path": "x", "weights_only": False}}}, Level.DANGER),
        ({"args": {"validate": {"ckpt_path": "x", "weights_only": True}}}, Level.OK),
        ({"weights_only": "$@x"}, Level.DANGER),
        ({"x": {"a::weights_only": False}}, Level.DANGER),
        ({"x": [{"allow_pickle": True}]}, Level.DANGER),
        ({"x": [{"allow_pickle": False}]}, Level.OK),
        ({"a": "$@trainer.fit(@system, weights_only=False)"}, Level.DANGER),
        ({"a": "$@trainer.fit(@system, weights_only=True)"}, Level.OK),
        ({"a": "$@trainer.fit(@system, weights_only=@x)"}, Level.DANGER),
        ({"a": "$@trainer.fit(@system, **{'weights_only': False})"}, Level.DANGER),
        ({"a": "$@trainer.fit(@system, **dict(weights_only=False))"}, Level.DANGER),
        ({"a": "$@reader.read('x.npy', allow_pickle=True)"}, Level.DANGER),
        ({"a": "$@reader.read('x.npy', allow_pickle=False)"}, Level.OK),
    ],
)
def test_loading_of_pickles(config, level, tmp_path):
    assert inspect(write_config(tmp_path, config)).level is level


@pytest.mark.parametrize(
    ("config", "level"),
    [
        ({"project": "/tmp/stranger"}, Level.DANGER),
        ({"+project": "../stranger"}, Level.DANGER),
        ({"project": "~/stranger"}, Level.DANGER),
        ({"project": "$@bundle_root + '/..'"}, Level.DANGER),
        ({"project": "own"}, Level.LOOK),
        ({"x": {"project": "own"}}, Level.OK),
    ],
)
def test_project(config, level, tmp_path):
    root = write_config(tmp_path, {"system": {}})
    write_config(root, config, "configs/more.json")
    assert inspect(root).level is level


@pytest.mark.parametrize(
    "item",
    [
        {"_target_": "WriteFileMappingd", "keys": "pred", "mapping_file_path": "/home/you/thesis.json"},
        {"_target_": "ZarrAvgMerger", "merged_shape": [1], "store": "/home/you/thesis"},
        {"_target_": "ignite.handlers.ModelCheckpoint", "dirname": "/home/you/thesis"},
        {"_target_": "ignite.handlers.DiskSaver", "dirname": "/home/you/thesis"},
        {"_target_": "lightning.pytorch.loggers.TensorBoardLogger", "save_dir": ".", "name": "/home/you/thesis"},
        "$@network.to_torchscript('/home/you/thesis')",
        "$@network.to_onnx('/home/you/thesis')",
        "$@trainer.save_checkpoint('/home/you/thesis')",
        "$@profiler.export_chrome_trace('/home/you/thesis')",
        "$@table.to_json('/home/you/thesis')",
    ],
)
def test_writing_outside_of_the_bundle(item, tmp_path):
    report = inspect(write_config(tmp_path, {"a": item}))
    assert report.level is Level.LOOK
    assert any("writ" in entry.why and "/home/you/thesis" in entry.what for entry in report.at(Level.LOOK)), str(report)


@pytest.mark.parametrize(
    "expression", ["$@network.state_dict()", "$@logger.save_dir", "$@logger.writer", "$@table.to_dict()"]
)
def test_attributes_that_write_nothing(expression, tmp_path):
    assert inspect(write_config(tmp_path, {"a": expression})).level is Level.OK
