"""Learning rates that change within an epoch, and those of LightningModules that log none themselves."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from monai_lighter.system.logging import Recorded
from monai_lighter.system.optimizers import read_optimizer_stats

__all__ = ["LearningRate"]


class LearningRate(Callback):
    """Logs learning rates where they change: over the epoch, and by step as soon as one changes within an epoch (a warm-up).

    ``train/optimizer/CLASS/lr/step`` beside ``train/optimizer/CLASS/lr``, which `System` logs itself, of the first step of an
    epoch, and this callback for other LightningModules. Every ``log_every_n_steps`` of the Trainer, as all by step.
    `Workflow` adds it to runs of native configs that have a logger and no ``LearningRateMonitor`` of Lightning's.
    """

    def __init__(self) -> None:
        self._before: dict[str, float] = {}
        self._changes = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._before, self._changes = {}, False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Recorded):
            for name, value in _read_rates(trainer).items():
                pl_module.log(name, value, on_step=False, on_epoch=True)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        rates = _read_rates(trainer)
        self._changes = self._changes or (batch_idx > 0 and rates != self._before)
        self._before = rates
        for name, value in rates.items() if self._changes else ():
            pl_module.log(f"{name}/step", value, on_step=True, on_epoch=False)


def _read_rates(trainer: Trainer) -> dict[str, float]:
    stats = read_optimizer_stats(trainer.optimizers)
    return {f"train/{name}": float(value) for name, value in stats.items() if "/lr" in name}
