import pytest
import yaml
from parts import classification, trainer

from monai_lighter.workflow.tracking import SaveConfig

pytestmark = pytest.mark.slow

CONFIG = {"seed": 0, "system": {"model": "@network_def"}, "network_def": {"_target_": "UNet", "channels": [4, 8]}}


def test_the_config_lies_in_the_log_directory(tmp_path):
    run = trainer(tmp_path, logger=True, callbacks=[SaveConfig(CONFIG)])
    run.fit(classification())
    assert not any(isinstance(callback, SaveConfig) for callback in run.callbacks)
    file = tmp_path / "lightning_logs" / "version_0" / "config.yaml"
    assert yaml.safe_load(file.read_text()) == CONFIG
    assert list(yaml.safe_load(file.read_text())) == list(CONFIG)


def test_without_a_logger_or_in_a_fast_development_run_nothing_is_written(tmp_path):
    trainer(tmp_path, callbacks=[SaveConfig(CONFIG)]).validate(classification(), verbose=False)
    trainer(tmp_path, logger=True, fast_dev_run=True, callbacks=[SaveConfig(CONFIG)]).fit(classification())
    assert not list(tmp_path.rglob("config.yaml"))
