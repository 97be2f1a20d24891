"""A fit that goes on from a checkpoint as if it had not been stopped."""

from __future__ import annotations

import logging
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_only

from monai_lighter.errors.cases import list_entries
from monai_lighter.system.checkpoints import MADE_WITH
from monai_lighter.system.randomness import collect_random_numbers, restore_random_numbers
from monai_lighter.system.seeded import SeededLoader, find_reason_against_seeding

__all__ = ["Resumable"]

logger = logging.getLogger(__name__)

RANDOM, PLATEAUS = "random_numbers", "epoch_of_plateaus"
"""Keys of Lightning's checkpoints."""


class Resumable(LightningModule):
    """A LightningModule whose fit, with a seed, comes to the same weights bit for bit when it is stopped and gone on with.

    The training data are those of a `SeededLoader`, which begins at the epoch and batch of the checkpoint: Lightning begins with
    the order of epoch 0. A checkpoint holds where the random numbers of each process stand, and gradients that have been
    accumulated for a step that is not made yet.

    Attributes:
        seed: of the run; None leaves training data and random numbers as torch and Lightning have them.
        made_with: what a checkpoint says of the bundle and its code, in plain values.
    """

    seed: int | None = None
    made_with: dict[str, Any] | None = None
    _restored: dict[str, Any] | None = None
    _epoch_of_plateaus = -1

    def begin_training_data(self, loaders: Any) -> Any:
        """Loaders for the fit that is about to begin, or to go on.

        Args:
            loaders: a loader, or a list or dict of them.

        Returns:
            The same, with a `SeededLoader` for each whose numbers can depend on seed, epoch and index alone.
        """
        if self.seed is None:
            return loaders
        made = {
            place: self._make_seeded(number, place, one) for number, (place, one) in enumerate(list_entries(loaders))
        }
        if isinstance(loaders, dict):
            return dict(zip(loaders, made.values(), strict=True))
        return [*made.values()] if isinstance(loaders, (list, tuple)) else made[""]

    def _make_seeded(self, number: int, place: str, loader: Any) -> Any:
        reason = find_reason_against_seeding(loader)
        if reason is not None:
            _tell(f"system::dataloaders::train{place}: a fit that is resumed may draw other random numbers: {reason}.")
            return loader
        trainer = self.trainer
        seeded = SeededLoader(loader, (self.seed or 0) + number, trainer.world_size, trainer.global_rank)
        seeded.begin(*_find_position(trainer, len(seeded)))
        return seeded

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        own = collect_random_numbers()
        numbers: list[Any] = [own]
        if dist.is_available() and dist.is_initialized():
            numbers = [None] * dist.get_world_size()
            dist.all_gather_object(numbers, own)
        checkpoint[RANDOM] = numbers
        if self.made_with is not None:
            checkpoint[MADE_WITH] = self.made_with
        checkpoint[PLATEAUS] = self._epoch_of_plateaus
        gradients = {name: each.grad for name, each in self.named_parameters() if each.grad is not None}
        if gradients and self._trainer is not None and self._trainer.accumulate_grad_batches > 1:
            checkpoint["gradients"] = gradients

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._restored = {name: checkpoint.get(name) for name in (RANDOM, PLATEAUS, "gradients")}

    def on_train_start(self) -> None:
        super().on_train_start()
        restored, self._restored = self._restored, None
        numbers = (restored or {}).get(RANDOM) or []
        if self.seed is not None and self.global_step == 0:  # whatever building loaders with workers has drawn
            torch.manual_seed(self.seed + self.trainer.global_rank)
        if len(numbers) == self.trainer.world_size:
            restore_random_numbers(numbers[self.trainer.global_rank])
        epoch = (restored or {}).get(PLATEAUS)
        self._epoch_of_plateaus = -1 if epoch is None else epoch
        gradients = (restored or {}).get("gradients") or {}
        for name, each in self.named_parameters():
            if name in gradients:
                each.grad = gradients[name].to(each.device)

    def step_plateaus(self) -> None:
        """Automatic optimization: at the end of an epoch schedulers with a ``monitor`` step, before its checkpoint is written.

        Lightning has them step after that, and not at all in the epoch that a fit goes on in: each time a step is lost.
        """
        trainer, loop = self.trainer, self.trainer.fit_loop.epoch_loop
        ended = trainer.is_last_batch or loop.batch_progress.current.ready == trainer.num_training_batches
        if self.automatic_optimization and ended and self._epoch_of_plateaus != trainer.current_epoch:
            loop.update_lr_schedulers("epoch", update_plateau_schedulers=True)
            self._epoch_of_plateaus = trainer.current_epoch

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        has_stepped = metric is not None and self._epoch_of_plateaus == self.trainer.current_epoch
        if not has_stepped:  # else this is Lightning's call, after that of `step_plateaus`
            super().lr_scheduler_step(scheduler, metric)


@rank_zero_only
def _tell(message: str) -> None:
    logger.info(message)


def _find_position(trainer: Trainer, batches: int) -> tuple[int, int]:
    """The epoch in which a fit stands, from 0, and how many of its batches it has had."""
    loop: Any = trainer.fit_loop
    epochs, done = loop.epoch_progress.current, loop.epoch_loop.batch_progress.current.processed
    if epochs.ready == epochs.processed:  # between two epochs
        return epochs.processed, 0
    return (epochs.processed + 1, 0) if done >= batches else (epochs.processed, done)
