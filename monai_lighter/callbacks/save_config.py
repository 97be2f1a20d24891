"""The config beside the logs of the run it made."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from monai.bundle import ConfigParser

__all__ = ["SaveConfig"]


class SaveConfig(Callback):
    """Writes the full config to ``config.yaml`` in the Trainer's ``log_dir``, as Lightning's ``SaveConfigCallback`` does.

    It is done when the run begins and then takes itself out of the Trainer's callbacks, each of which Lightning calls six
    times in a step.

    Args:
        config: the config, of plain values.
    """

    def __init__(self, config: dict) -> None:
        self.config = config

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        trainer.callbacks = [callback for callback in trainer.callbacks if callback is not self]  # type: ignore[attr-defined]
        directory = trainer.strategy.broadcast(trainer.log_dir)
        if directory is None or trainer.fast_dev_run or not trainer.loggers:  # type: ignore[attr-defined]
            return
        if trainer.is_global_zero:
            Path(directory).mkdir(parents=True, exist_ok=True)
            ConfigParser.export_config_file(self.config, Path(directory) / "config.yaml", "yaml", sort_keys=False)
