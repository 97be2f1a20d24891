"""Experiment tracking of native configs: Lightning's loggers under the names MONAI's tracking settings have."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

from monai_lighter.callbacks.trial_record import find_trial_folder
from monai_lighter.errors import ComponentError, ConfigError, Finding, did_you_mean, in_short
from monai_lighter.internals import choose_version, has_version
from monai_lighter.safe_files import written_beside
from monai_lighter.system.logging import find_log_folder

__all__ = [
    "SETTINGS",
    "SaveConfig",
    "add_tracking",
    "claim_log_folders",
    "read_tracking_settings",
    "save_executed",
    "save_for_study",
]

MOST_AT_ONCE = 100
"""Runs of one folder that begin in the same moment."""
SETTINGS = ("output_dir", "tracking_uri", "experiment_name", "run_name", "save_execute_config")


def read_tracking_settings(tracking: str | dict) -> dict:
    """MONAI's tracking settings: known by name, read from a file, or given.

    Raises:
        ConfigError: a string that is neither a name nor a file.
    """
    if isinstance(tracking, str) and tracking in DEFAULT_EXP_MGMT_SETTINGS:
        return DEFAULT_EXP_MGMT_SETTINGS[tracking]
    if isinstance(tracking, str) and not Path(tracking).is_file():
        hint = did_you_mean(tracking, DEFAULT_EXP_MGMT_SETTINGS)
        raise ConfigError([Finding("tracking", f"must be 'mlflow' or a settings file, got {tracking!r}", hint)])
    return ConfigParser.load_config_files(tracking)


def add_tracking(config: dict, tracking: str | dict) -> None:
    """In place: adds Lightning's ``MLFlowLogger`` to ``trainer::logger``.

    Follows ``ConfigWorkflow.patch_bundle_tracking`` with the settings of ``monai.bundle.utils.DEFAULT_MLFLOW_SETTINGS``:
    ``output_dir``, ``tracking_uri``, ``experiment_name``, ``run_name``, each a top-level item that may be overridden.

    Args:
        config: native config, before macros are expanded.
        tracking: ``mlflow``, the path of a settings file, or settings.

    Raises:
        ConfigError: a string that is neither; a ``trainer`` that is no section.
    """
    settings = read_tracking_settings(tracking).get("configs", {})
    defaults = read_tracking_settings("mlflow")["configs"]
    for name in SETTINGS:
        config.setdefault(name, deepcopy(settings.get(name, defaults.get(name))))
    logger = {
        "_target_": "lightning.pytorch.loggers.MLFlowLogger",
        "tracking_uri": "@tracking_uri",
        "experiment_name": "@experiment_name",
        "run_name": "@run_name",
        "artifact_location": "$str(@output_dir) + '/mlruns'",
    }
    trainer = config.get("trainer") or {}
    if not isinstance(trainer, dict):
        raise ConfigError([Finding("trainer", f"must be a section to be tracked, got {trainer!r}", "Write it out.")])
    config["trainer"] = trainer
    present = trainer.get("logger")
    if isinstance(present, list):
        present.append(logger)
    else:
        trainer["logger"] = [logger] if present in (None, True, False) else [present, logger]


@rank_zero_only
def save_executed(parser: ConfigParser, config: dict) -> None:
    """Writes the config where MONAI's ``save_execute_config`` says: False nowhere, True to ``output_dir``, else to that path."""
    target = parser.get_parsed_content("save_execute_config") if "save_execute_config" in parser else True
    if not target:
        return
    if target is True:
        name = f"config_{time.strftime('%Y%m%d_%H%M%S')}.json"
        target = Path(parser.get_parsed_content("output_dir")) / name
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    parser.export_config_file(config, target)


@rank_zero_only
def save_for_study(config: dict) -> None:
    """Writes the config that runs, of plain values, into the folder of the trial that this process is, if it is one."""
    folder = find_trial_folder()
    if folder is not None:
        with written_beside(folder / "config.yaml") as temporary:
            ConfigParser.export_config_file(config, temporary, "yaml", sort_keys=False)


@rank_zero_only
def claim_log_folders(loggers: Iterable[Any]) -> None:
    """Makes the folders of loggers that number them, so that of two runs which begin at once each has its own."""
    for logger in loggers:
        if (
            not isinstance(logger, (CSVLogger, TensorBoardLogger))
            or has_version(logger)
            or getattr(logger, "beside", None)
        ):
            continue
        with suppress(OSError):  # of a place that cannot be written to `SaveConfig` tells
            for _ in range(MOST_AT_ONCE):
                choose_version(logger)
                with suppress(FileExistsError):
                    Path(logger.log_dir).mkdir(parents=True)
                    break


class SaveConfig(Callback):
    """Writes the full config to ``config.yaml`` in the log folder of the run, as Lightning's ``SaveConfigCallback`` does.

    It is done when the run begins and then takes itself out of the Trainer's callbacks, each of which Lightning calls six
    times in a step.

    Args:
        config: the config, of plain values.

    Raises:
        ComponentError: the folder cannot be made or written to.
    """

    def __init__(self, config: dict) -> None:
        self.config = config

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        trainer.callbacks = [callback for callback in trainer.callbacks if callback is not self]  # type: ignore[attr-defined]
        directory = find_log_folder(trainer)
        if directory is None:
            return
        try:
            if trainer.is_global_zero:
                directory.mkdir(parents=True, exist_ok=True)
                ConfigParser.export_config_file(self.config, directory / "config.yaml", "yaml", sort_keys=False)
        except OSError as error:
            problem = f"trainer::logger: cannot write to its folder, {directory}: {in_short(error)}"
            hint = "Give another (trainer::default_root_dir, or save_dir of the logger)."
            raise ComponentError("trainer::logger", f"{problem}. {hint}") from error
