"""Training data whose random numbers depend on seed, epoch and index alone, and not on who draws them, or when.

What a case's transforms draw is a function of ``(seed, epoch, index)``, the order of the cases one of ``(seed, epoch)``: a run
draws the same with any number of workers, and of processes with one global batch; to go on within an epoch is to leave indices
out, and no batch is drawn again. (After MosaicML's elastic determinism.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, IterableDataset, Sampler

from monai_lighter.system.randomness import drawn_from, find_random_sources

__all__ = ["SeededLoader", "find_reason_against_seeding", "read_arguments"]

ORDER = 1
"""Parts the numbers that an order is drawn from from those of a case."""


class SeededDataset(Dataset):
    """A map-style dataset whose item ``(epoch, index)`` is drawn from ``(seed, epoch, index)``.

    Other attributes are those of the dataset. An item by its index alone is the dataset's own.

    Args:
        dataset: map-style; what in it draws by MONAI's ``Randomizable``, torch, numpy or Python is covered.
        seed: whole number, not below 0.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        self._sources: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in (
            "dataset",
            "seed",
            "_sources",
        ):  # a Subset's __getitems__; while it is unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, place: Any) -> Any:
        if not isinstance(place, tuple):
            return self.dataset[place]
        if self._sources is None:
            self._sources = [*find_random_sources(self.dataset)]
            for source in self._sources:
                source.R = np.random.RandomState()  # of its own: MONAI's transforms share one until they are seeded
        with drawn_from((self.seed, *place), self._sources):
            return self.dataset[place[1]]


class SeededSampler(DistributedSampler):
    """The order that a sampler gives when it draws from ``(seed, epoch)``, as ``(epoch, index)``; each process has every n-th.

    Args:
        sampler: of a ``DataLoader``; random, weighted, sequential or any other with an end.
        loader: the ``DataLoader``, for its dataset and ``drop_last``.
        seed: whole number, not below 0.
        num_replicas: processes.
        rank: of this process.
    """

    def __init__(self, sampler: Sampler, loader: DataLoader, seed: int, num_replicas: int, rank: int) -> None:
        self.sampler, self.first = sampler, 0
        super().__init__(_Counted(len(sampler)), num_replicas, rank, False, seed, loader.drop_last)  # type: ignore[arg-type]

    def begin(self, epoch: int, first: int) -> None:
        """Makes the next pass one through ``epoch`` without its ``first`` indices of this process."""
        self.epoch, self.first = epoch, first

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.begin(epoch, 0)

    def __iter__(self) -> Iterator[tuple[int, int]]:  # type: ignore[override]
        generator = getattr(self.sampler, "generator", None)
        if isinstance(generator, torch.Generator):  # the user's own, which would go on from epoch to epoch
            generator.manual_seed(int(np.random.SeedSequence((self.seed, self.epoch)).generate_state(1)[0]))
        with drawn_from((self.seed, self.epoch, 0, ORDER)):
            order = [*self.sampler]
        missing = self.total_size - len(order)
        order = [*order, *(order[i % len(order)] for i in range(missing))][: self.total_size] if order else order
        own = order[self.rank : self.total_size : self.num_replicas]
        yield from ((self.epoch, index) for index in own[self.first :])


class _Counted:
    """What ``DistributedSampler`` wants of a dataset: its length."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length


class SeededLoader(DataLoader):
    """A ``DataLoader`` of a `SeededDataset` by a `SeededSampler`; everything else is that of the loader given.

    It has no state of its own (``state_dict`` is empty): `System` begins it where the Trainer stands.

    Args:
        loader: with batches by torch's ``BatchSampler`` (`find_reason_against_seeding`).
        seed: whole number, not below 0.
        num_replicas: processes.
        rank: of this process.
    """

    def __init__(self, loader: DataLoader, seed: int, num_replicas: int = 1, rank: int = 0) -> None:
        sampler = SeededSampler(loader.sampler, loader, seed, num_replicas, rank)  # type: ignore[arg-type]
        super().__init__(
            SeededDataset(loader.dataset, seed),
            sampler=sampler,
            generator=torch.Generator().manual_seed(seed),  # else a pass would draw of the run's own numbers
            **read_arguments(loader),
        )

    def begin(self, epoch: int, batches: int) -> None:
        """Makes the next pass one through ``epoch``, without its first ``batches``."""
        self.sampler.begin(epoch, batches * (self.batch_size or 1))  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        """Nothing; Lightning asks for it to know that the loader can go on within an epoch."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes nothing."""


def read_arguments(loader: DataLoader) -> dict[str, Any]:
    """The keywords that a loader with batches by torch's ``BatchSampler`` was made with, but for those of order and chance."""
    names = ("batch_size", "num_workers", "collate_fn", "pin_memory", "drop_last", "timeout", "worker_init_fn")
    workers = ("multiprocessing_context", "prefetch_factor", "persistent_workers", "pin_memory_device", "in_order")
    return {name: getattr(loader, name) for name in (*names, *workers) if hasattr(loader, name)}


def find_reason_against_seeding(loader: Any) -> str | None:
    """Why what a loader gives cannot be made to depend on seed, epoch and index alone; None where it can."""
    if not isinstance(loader, DataLoader):
        return f"a {type(loader).__name__} is no torch DataLoader"
    if type(loader).__iter__ is not DataLoader.__iter__:
        return f"a {type(loader).__name__} makes its batches in a way of its own"
    if isinstance(loader.dataset, IterableDataset):
        return f"a {type(loader.dataset).__name__} is iterable and has no indices"
    if type(loader.batch_sampler) is not BatchSampler:
        return f"its batch_sampler is a {type(loader.batch_sampler).__name__}"
    if not hasattr(loader.sampler, "__len__"):
        return f"its sampler, a {type(loader.sampler).__name__}, has no length"
    return None
