"""The end of an engine's iteration, in its place among the callbacks of a Trainer."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

__all__ = ["EndIteration"]


class EndIteration(Callback):
    """Ends the engine's iteration at the end of a batch, before checkpoints are written: the module's own hook comes after them.

    The steps of an own iteration are counted here, as Lightning cannot see them.
    """

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        module.end_iteration()  # type: ignore[operator]
        if not module.automatic_optimization:
            progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
            progress.increment_ready()
            progress.increment_completed()
