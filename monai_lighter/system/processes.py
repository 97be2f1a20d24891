"""Evaluation over several processes, with no item counted twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning_utilities.core.apply_func import apply_to_collection
from monai.metrics import Cumulative
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from monai_lighter.internals import get_items, set_items
from monai_lighter.system.seeded import find_reason_against_seeding, read_arguments

__all__ = ["count_own_items", "gather", "share_few", "share_items", "take"]


class _OwnItems(DistributedSampler):
    """Each item once, in order; a process may have none."""

    def __init__(self, dataset: Any, num_replicas: int, rank: int) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=False)
        self.num_samples = len(range(rank, len(dataset), num_replicas))

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.rank, len(self.dataset), self.num_replicas))  # type: ignore[arg-type]


class _WithoutLength(DataLoader):
    """One whose process Lightning takes through prediction even where it has no batch; it leaves out those of length 0, which
    the others would then wait for."""

    def __len__(self) -> int:
        raise TypeError


def share_few(loaders: Any, trainer: Trainer) -> Any:
    """Loaders of a prediction, of which those of fewer items than there are processes leave some processes without one.

    Lightning's ``UnrepeatedDistributedSampler`` ends there in an ``AssertionError``. In prediction DDP has the processes wait for
    each other nowhere; of networks in parts (FSDP) all must take part, and it stays an error.

    Args:
        loaders: a ``DataLoader``, or a list or dict of them.
        trainer: that predicts.
    """
    if trainer.world_size == 1 or not isinstance(trainer.strategy, DDPStrategy):
        return loaders

    def share(loader: DataLoader) -> DataLoader:
        if find_reason_against_seeding(loader) or type(loader.sampler) not in (SequentialSampler, RandomSampler):
            return loader
        if not 0 < len(loader.dataset) < trainer.world_size:  # type: ignore[arg-type]
            return loader
        own = _OwnItems(loader.dataset, trainer.world_size, trainer.global_rank)
        return _WithoutLength(loader.dataset, sampler=own, generator=loader.generator, **read_arguments(loader))

    return apply_to_collection(loaders, DataLoader, share)


def count_own_items(loader: Any, batch_idx: int) -> tuple[int, int] | None:
    """How many items of this process's batch are its own, and how many it holds.

    ``torch.utils.data.DistributedSampler`` repeats items so that each process sees equally many. They stand last in the
    order it deals out, so the process holding position ``p`` of ``n`` items has an item of its own while ``p < n``.

    Args:
        loader: what Lightning iterates over.
        batch_idx: index of the batch in this process, from 0.

    Returns:
        ``(own, held)``, or None where nothing is repeated.
    """
    sampler = getattr(loader, "sampler", None)
    if not isinstance(loader, DataLoader) or not isinstance(sampler, DistributedSampler) or loader.batch_size is None:
        return None
    total = len(sampler.dataset)  # type: ignore[arg-type]
    own = len(range(sampler.rank, total, sampler.num_replicas))
    if own >= len(sampler):
        return None
    start = batch_idx * loader.batch_size
    held = min(loader.batch_size, len(sampler) - start)
    return max(0, min(held, own - start)), held


def take(batch: Any, count: int, held: int) -> Any:
    """The first ``count`` of the ``held`` items of a collated batch: tensors, lists, and dicts or pairs of them."""
    if isinstance(batch, Mapping):
        return {key: take(value, count, held) for key, value in batch.items()}
    if isinstance(batch, Tensor):
        return batch[:count] if batch.ndim and len(batch) == held else batch
    if isinstance(batch, (list, tuple)):
        of_tensors = any(isinstance(item, Tensor) and item.ndim and len(item) == held for item in batch)
        if len(batch) == held and not of_tensors:
            return batch[:count]
        taken = [take(item, count, held) for item in batch]
        return type(batch)(*taken) if hasattr(batch, "_fields") else type(batch)(taken)
    return batch


def gather(value: Any) -> list[Any]:
    """The values (objects that can be pickled, tensors on the CPU) of all processes, by rank."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def share_items(metric: Cumulative) -> None:
    """Gives a MONAI metric what those of all processes gathered, so that it aggregates over all items.

    ``Cumulative._sync`` does so too, but waits for ever where a process has no item. Here items also come in the order in
    which ``DistributedSampler`` dealt them out, so that the result is that of one process bit for bit.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    parts = gather([[row.cpu() for row in buffer] for buffer in get_items(metric)])
    buffers = zip(*(part for part in parts if part), strict=True)
    set_items(
        metric,
        [torch.stack([row for rows in zip_longest(*b) for row in rows if row is not None]) for b in buffers],
    )
