"""Lightning's averages of weights, before their first update."""

from __future__ import annotations

import logging
from itertools import chain
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging

from monai_lighter.internals import get_average

__all__ = ["BeforeAveraging", "has_started"]

logger = logging.getLogger(__name__)


def has_started(callback: WeightAveraging) -> bool:
    """Whether the average has been updated; until then it holds the weights that the fit began with."""
    average = get_average(callback)
    return average is None or bool(average.n_averaged)


class BeforeAveraging(Callback):
    """Lets the average of a ``WeightAveraging`` (``EMAWeightAveraging``, …) be the network itself until its first update.

    Lightning validates and saves the average, and ends a fit with it: before an update (``update_starting_at_step``) these would
    be the weights that the fit began with. `System` adds this callback to a fit that averages.
    """

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._follow(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._follow(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for callback in _find_waiting(trainer):
            logger.warning(
                f"trainer::callbacks: {type(callback).__name__} made no update in {trainer.global_step} steps: the weights are "
                "the network's own. Let it start earlier."
            )

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if _find_waiting(trainer) and "current_model_state" in checkpoint:
            checkpoint["state_dict"] = checkpoint["current_model_state"]

    @torch.no_grad()
    def _follow(self, trainer: Trainer, module: LightningModule) -> None:
        for callback in _find_waiting(trainer):
            average = get_average(callback).module
            for own, current in zip(
                chain(average.parameters(), average.buffers()),
                chain(module.parameters(), module.buffers()),
                strict=True,
            ):
                own.copy_(current)


def _find_waiting(trainer: Trainer) -> list[WeightAveraging]:
    return [one for one in trainer.callbacks if isinstance(one, WeightAveraging) and not has_started(one)]  # type: ignore[attr-defined]
