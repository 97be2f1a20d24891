"""Collating batches with cases that could not be read. Follows ``lighter.utils.data`` of Lighter 0.0.4."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from torch.utils.data import Dataset, default_collate

__all__ = ["collate_replace_corrupted"]


def collate_replace_corrupted(batch: list, dataset: Dataset, default_collate_fn: Callable | None = None) -> Any:
    """Collates a batch in which every None (a case that the dataset could not read) is replaced by another case.

    Args:
        batch: items of the dataset.
        dataset: gives None for a corrupted case; must have a length.
        default_collate_fn: collates the complete batch. Default: ``torch.utils.data.default_collate``.

    Raises:
        ValueError: 100 cases in a row were corrupted.
    """
    complete = [item for item in batch if item is not None]
    for _ in range(100 * max(1, len(batch))):
        if len(complete) == len(batch):
            return (default_collate_fn or default_collate)(complete)
        item = dataset[random.randrange(len(dataset))]  # type: ignore[arg-type]
        if item is not None:
            complete.append(item)
    raise ValueError(f"dataset must hold cases that can be read, got {100 * len(batch)} corrupted ones in a row.")
