"""Datasets in a run: those with nothing in them, and the replacement of cached items between epochs."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from monai.data import SmartCacheDataset

__all__ = ["SmartCache", "count_items"]


def count_items(data: Any) -> int | None:
    """Length of a dataset (items) or of a loader (batches); None where it has none, as with an ``IterableDataset``."""
    try:
        return len(data)
    except (TypeError, NotImplementedError):
        return None


class SmartCache(Callback):
    """Makes a ``SmartCacheDataset`` replace part of its cache after each epoch, as ``monai.handlers.SmartCacheHandler`` does.

    `System` adds it to a fit whose training data are one.

    Args:
        dataset: of the training data.
    """

    def __init__(self, dataset: SmartCacheDataset) -> None:
        self.dataset = dataset

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.dataset.start()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.dataset.update_cache()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.dataset.shutdown()

    def on_exception(self, *args: Any) -> None:
        self.dataset.shutdown()
