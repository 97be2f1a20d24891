"""Callbacks of every fit of a native config: the learning rates that change, and the networks, a line each."""

from __future__ import annotations

import logging
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary

from monai_lighter.system.logging import Recorded
from monai_lighter.system.optimizers import read_optimizer_stats

__all__ = ["LearningRate", "NetworkSummary"]

summary_logger = logging.getLogger("lightning.pytorch.callbacks.model_summary")


class LearningRate(Callback):
    """Logs learning rates where they change: over the epoch, and by step as soon as one changes within an epoch (a warm-up).

    ``train/optimizer/CLASS/lr/step`` beside ``train/optimizer/CLASS/lr``, which `System` logs itself, of the first step of an
    epoch, and this callback for other LightningModules. Every ``log_every_n_steps`` of the Trainer, as all by step.
    `Workflow` adds it to runs of native configs that have a logger and no ``LearningRateMonitor`` of Lightning's.
    """

    def __init__(self) -> None:
        self._before: list[float] = []
        self._changes = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._before, self._changes = [], False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Recorded):
            for name, value in _read_rates(trainer).items():
                pl_module.log(name, value, on_step=False, on_epoch=True)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        rates = [float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self._changes = self._changes or (batch_idx > 0 and rates != self._before)
        self._before = rates
        for name, value in _read_rates(trainer).items() if self._changes else ():
            pl_module.log(f"{name}/step", value, on_step=True, on_epoch=False)


class NetworkSummary(ModelSummary):
    """Lightning's ``ModelSummary`` as a line for each part that has parameters: its name, class and number of parameters.

    Losses and metrics, which have none, are left out. It is what a fit of a native config has, unless one is named in
    ``trainer::callbacks`` or ``enable_model_summary`` is false.
    """

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        columns = dict(summary_data)
        rows = zip(columns["Name"], columns["Type"], columns["Params"], strict=True)
        lines = [f"{name}: {kind}, {count.strip()} parameters" for name, kind, count in rows if count.strip() != "0"]
        frozen = total_parameters - trainable_parameters
        held = f", {frozen:,} of them frozen" if frozen else ""
        if lines:
            lines[-1] += f"{held}, {model_size:.1f} MB"
        for line in lines:
            summary_logger.info(line)


def _read_rates(trainer: Trainer) -> dict[str, float]:
    stats = read_optimizer_stats(trainer.optimizers)
    return {f"train/{name}": float(value) for name, value in stats.items() if "/lr" in name}
