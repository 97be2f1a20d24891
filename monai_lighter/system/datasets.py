"""Datasets in a run: those with nothing in them, old caches, and the replacement of cached items between epochs."""

from __future__ import annotations

from time import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from monai.data import LMDBDataset, PersistentDataset, SmartCacheDataset

__all__ = ["SmartCache", "count_items", "describe_old_cache"]

STARTED = time()
"""When this process began, in seconds, as far as datasets are concerned."""


def count_items(data: Any) -> int | None:
    """Length of a dataset (items) or of a loader (batches); None where it has none, as with an ``IterableDataset``."""
    try:
        return len(data)
    except (TypeError, NotImplementedError):
        return None


def describe_old_cache(data: Any) -> str | None:
    """What is to be said of a ``PersistentDataset`` that takes items from earlier runs, whatever its transform was then."""
    if not isinstance(data, PersistentDataset) or data.transform_hash or not data.cache_dir:
        return None
    if isinstance(data, LMDBDataset):  # which fills its own when it is built, as far as items are not there
        is_old = data.db_file.is_file() and data.db_file.stat().st_mtime < STARTED
    else:
        is_old = data.cache_dir.is_dir() and any(data.cache_dir.iterdir())
    if not is_old:
        return None
    return (
        f"items of earlier runs are taken from cache_dir {str(data.cache_dir)!r}, whatever the transform was then. Write "
        "hash_transform: {_target_: monai.data.utils.pickle_hashing, _mode_: callable}, or empty it when a transform changes."
    )


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
