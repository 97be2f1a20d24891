"""What a run of a native config adds to its Trainer, unless the config has it: loggers, curves, a summary at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelSummary
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.callbacks.curves import CurvesLogger
from monai_lighter.callbacks.defaults import LearningRate, NetworkSummary
from monai_lighter.callbacks.run_report import RunReport
from monai_lighter.callbacks.run_summary import RunSummary
from monai_lighter.callbacks.timing import Timing
from monai_lighter.callbacks.trial_record import make_trial_record
from monai_lighter.config.items import at, items, locate
from monai_lighter.system.checkpoints import LastCheckpoint, SafeCheckpointIO
from monai_lighter.system.profiler import PassThroughProfiler
from monai_lighter.system.signals import StopOnSignal
from monai_lighter.system.watchdog import Watchdog
from monai_lighter.workflow.screen import Screen
from monai_lighter.workflow.tracking import SaveConfig

__all__ = ["furnish", "shows_summary"]


def shows_summary(config: Mapping[str, Any]) -> bool:
    """Whether a run ends with its summary: unless the config says ``run_summary: false``."""
    return config.get("run_summary") is not False


def furnish(trainer: Trainer, config: dict, screen: Screen, commands: Mapping[str, Sequence[str]]) -> None:
    """Adds to the Trainer of a native config what every run of one has.

    ``config.yaml`` in the log directory (`SaveConfig`); `CurvesLogger` beside Lightning's default logger, or in its place where
    TensorBoard is not installed; `LearningRate`, unless there is a ``LearningRateMonitor``; `NetworkSummary` in the place of
    Lightning's default summary; `Timing`, unless the Trainer has a profiler; `RunReport` where its extra is installed, unless the
    config says ``report: false``; `RunSummary`, unless there is one or the config
    says ``run_summary: false``; `LastCheckpoint` in the place of Lightning's default ``ModelCheckpoint``, `SafeCheckpointIO` in
    that of its way of writing; `StopOnSignal`; of several processes `Watchdog`; of a trial of a study `TrialRecord`.

    Args:
        trainer: as the config has made it.
        config: the config, of plain values.
        screen: how much the run prints.
        commands: stage (``fit``, ``test``, ``predict``) to the words of the command that runs it, for the summary.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks.append(SaveConfig(config))
    PassThroughProfiler.into(trainer)
    if isinstance(trainer.profiler, PassThroughProfiler):  # type: ignore[attr-defined]
        callbacks.append(Timing())
    SafeCheckpointIO.into(trainer)
    if _logs_by_default(config):
        _add_curves(trainer)
    if trainer.loggers and not any(isinstance(each, LearningRateMonitor) for each in callbacks):
        callbacks.append(LearningRate())
    if not any("ModelSummary" in str(value) for _, value in items(config) if isinstance(value, str)):
        trainer.callbacks = [  # type: ignore[attr-defined]
            NetworkSummary() if isinstance(each, ModelSummary) else each
            for each in callbacks
            if not (screen.quiet and isinstance(each, ModelSummary))
        ]
    if config.get("report") is not False and _can_report():
        trainer.callbacks.append(RunReport(config))  # type: ignore[attr-defined]
    if shows_summary(config) and not any(isinstance(each, RunSummary) for each in callbacks):
        trainer.callbacks.append(RunSummary(commands))  # type: ignore[attr-defined]
    if not any("ModelCheckpoint" in str(value) for _, value in items(config) if isinstance(value, str)):
        LastCheckpoint.into(trainer)
    if not trainer.fast_dev_run:  # type: ignore[attr-defined]
        trainer.callbacks += [StopOnSignal(), *make_trial_record()]  # type: ignore[attr-defined]
    if trainer.num_devices * trainer.num_nodes > 1:
        trainer.callbacks.insert(0, Watchdog())  # type: ignore[attr-defined]  # first: the callbacks after it may wait
    screen.clear_trainer(trainer)


def _can_report() -> bool:
    """Whether what reports are made with (the extra ``report``) is installed."""
    return all(find_spec(name) is not None for name in ("jinja2", "matplotlib", "scipy"))


def _logs_by_default(config: dict) -> bool:
    """Whether the Trainer has the logger that Lightning takes where none is named; one made by an expression is left alone."""
    trainer = locate(config, "trainer")
    section = at(config, trainer) if trainer is not None else None
    if section is not None and not isinstance(section, dict):
        return False
    where = locate(config, f"trainer{ID_SEP_KEY}logger")
    return where is None or at(config, where) in (None, True)


def _add_curves(trainer: Trainer) -> None:
    loggers = trainer.loggers
    if len(loggers) == 1 and type(loggers[0]) in (TensorBoardLogger, CSVLogger):
        own: Any = loggers[0]
        curves = CurvesLogger(own.save_dir, own.name, beside=own)  # in its folder, wherever that is
        trainer.loggers = [own, curves] if isinstance(own, TensorBoardLogger) else [curves]
