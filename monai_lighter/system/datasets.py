"""Datasets in a run: those with nothing in them, old caches, and the replacement of cached items between epochs."""

from __future__ import annotations

from collections.abc import Iterator
from time import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from monai.bundle.utils import ID_SEP_KEY
from monai.data import LMDBDataset, PersistentDataset, SmartCacheDataset

from monai_lighter.config.stages import find_loaders
from monai_lighter.errors import Finding
from monai_lighter.internals import end_replacement
from monai_lighter.system.tensors import as_list

__all__ = ["SmartCache", "count_items", "describe_old_cache", "find_without_batches"]

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


def find_without_batches(system: Any, config: dict, stage: str) -> Iterator[Finding]:
    """Loaders of a stage that give no batch, and why.

    Args:
        system: of the run.
        config: native config, pruned to the stage.
        stage: whose loaders are looked at, but for those that the Trainer takes no batch of.
    """
    loaders = getattr(system, "dataloaders", None)
    if not isinstance(loaders, dict):
        return
    for id in find_loaders(config, stage):
        for loader in as_list(loaders.get(id.rpartition(ID_SEP_KEY)[2])):
            if count_items(loader) == 0:
                items = count_items(getattr(loader, "dataset", None))
                problem = f"has no batches, which stage {stage!r} needs, got {items} items of data"
                if items:
                    yield Finding(id, problem, "Lower batch_size, or leave drop_last out.")
                else:
                    yield Finding(
                        f"{id}{ID_SEP_KEY}dataset", problem, "Mend its list of cases, or leave the loader out."
                    )


class SmartCache(Callback):
    """Makes a ``SmartCacheDataset`` replace part of its cache after each epoch, as ``monai.handlers.SmartCacheHandler`` does.

    `System` adds it to a fit whose training data are one.

    Args:
        dataset: of the training data.
    """

    def __init__(self, dataset: SmartCacheDataset) -> None:
        self.dataset = dataset
        self._error: Exception | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.dataset.manage_replacement = self._replace  # type: ignore[method-assign]
        self.dataset.start()

    def _replace(self) -> None:
        """What the dataset's thread does; a case that fails ends the thread, which the dataset would wait for."""
        try:
            type(self.dataset).manage_replacement(self.dataset)
        except Exception as error:
            self._error = error
            end_replacement(self.dataset)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.dataset.update_cache()
        if self._error is not None:
            raise self._error

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.dataset.shutdown()

    def on_exception(self, *args: Any) -> None:
        self.dataset.shutdown()
