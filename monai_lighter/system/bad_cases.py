"""Cases that cannot be read or transformed: left out of a run within a budget, and listed."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from pydoc import locate
from typing import Any, NamedTuple

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning_utilities.core.rank_zero import rank_zero_only
from monai.bundle.config_item import ConfigComponent, ConfigItem
from monai.data import CacheDataset, SmartCacheDataset
from torch.utils.data import DataLoader, Dataset, IterableDataset

from monai_lighter.config.stages import RAISE, SKIP
from monai_lighter.errors import CaseError, in_short
from monai_lighter.errors.cases import find_case, find_transform, list_entries
from monai_lighter.errors.machine import is_of_machine
from monai_lighter.errors.marks import walk_causes
from monai_lighter.internals import copy_loader
from monai_lighter.safe_files import written_beside
from monai_lighter.system.batches import CaseNumber
from monai_lighter.system.logging import find_log_folder
from monai_lighter.system.tensors import as_list

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["LEFT_OUT", "BadCases", "Skipping", "SkippingDataset", "check_bad_cases", "make_tolerant"]

BUDGET = 10
"""How many cases may be left out where the config does not say."""
LEFT_OUT = 3
"""Exit code of a command that came to its end without some of its cases."""
KEY = "bad_cases"
"""Key of Lightning's checkpoints."""
SHOWN = 20

logger = logging.getLogger(__name__)


class BadCase(NamedTuple):
    """A row of the list: the case, the class of the transform that failed (empty for none), why, and mode of the loader."""

    case: str
    transform: str
    cause: str
    mode: str


class BadCases:
    """The bad cases of a run: a csv with the columns ``case, transform, cause, mode``, to which all processes and workers add.

    A row is appended and synced before the run goes on. Each case of a loader stands in it once, and counts once.

    Args:
        budget: how many there may be.

    Attributes:
        path: of the csv, which is there as soon as there is a bad case.
        totals: mode, with the place of a loader among several (``val::site_a``), to the number of its cases.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.path: Path | None = None
        self.totals: dict[str, int] = {}

    def place(self, trainer: Trainer, stage: str) -> None:
        """Chooses the file of a stage of a Trainer: beside its other tables. Every process calls it."""
        self.path = (find_log_folder(trainer) or Path(trainer.default_root_dir)) / f"bad_cases_{stage}.csv"

    def begin(self, rows: Sequence[Sequence[str]]) -> None:
        """Begins the list, in the place of an earlier run's, with the rows of the run that is gone on with."""
        assert self.path is not None
        if rows:
            with written_beside(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([BadCase._fields, *rows])
        else:
            self.path.unlink(missing_ok=True)

    def read(self) -> list[BadCase]:
        """The rows so far."""
        if self.path is None or not self.path.is_file():
            return []
        return _parse(self.path.read_bytes())[0]

    def add(self, error: Exception, index: int, mode: str) -> None:
        """Takes note of a case that raised an error.

        Raises:
            CaseError: there are more than the budget, or no case of the loader is left.
        """
        *_, cause = walk_causes(error)
        told = " ".join(in_short(cause).split())
        row = BadCase(find_case(error) or f"item {index}", find_transform(error), told, mode)
        rows = self._append(row)
        of_mode = sum(each.mode == mode for each in rows)
        if len(rows) > self.budget:
            allowed = f"system::max_bad_cases: {len(rows)} cases cannot be read or transformed, {self.budget} may be"
            raise CaseError("\n".join([f"{allowed}. Mend them, or allow more. List: {self.path}", *_describe(rows)]))
        if of_mode >= self.totals.get(mode, len(rows) + 1):
            none = f"system::dataloaders::{mode}: none of its {of_mode} cases can be read or transformed"
            raise CaseError("\n".join([f"{none}. List: {self.path}", *_describe(rows)]))

    def _append(self, row: BadCase) -> list[BadCase]:
        """The rows with this one, which is on the disk when it returns."""
        if self.path is None:
            return [row]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)  # released when it is closed
            file.seek(0)
            rows, whole = _parse(file.read())
            if any((each.case, each.mode) == (row.case, row.mode) for each in rows):
                return rows
            file.truncate(whole)  # what a process that was killed has begun
            text = io.StringIO()
            csv.writer(text).writerows([row] if whole else [BadCase._fields, row])
            file.write(text.getvalue().encode())
            file.flush()
            os.fsync(file.fileno())
        return [*rows, row]


def _parse(content: bytes) -> tuple[list[BadCase], int]:
    """The whole rows of a list, and how many bytes they and the header have."""
    whole = content.rfind(b"\n") + 1
    rows = list(csv.reader(io.StringIO(content[:whole].decode(), newline="")))
    return [BadCase(*row) for row in rows[1:]], whole


def _describe(rows: Sequence[BadCase]) -> Iterator[str]:
    yield from (f"  {row.mode}: case {row.case}: {row.cause}" for row in rows[:SHOWN])
    if len(rows) > SHOWN:
        yield f"  and {len(rows) - SHOWN} more"


class _Missing:
    """Stands for an item that could not be made."""


class Remaining(NamedTuple):
    """A batch without the items that could not be made; None where none is left.

    Attributes:
        batch: of the others.
        positions: of these in the batch as it was meant, from 0.
    """

    batch: Any
    positions: list[int]


class SkippingDataset(Dataset):
    """A map-style dataset that goes on where an item cannot be made, and lists the case.

    Other attributes are those of the dataset.

    Args:
        dataset: map-style.
        bad_cases: where bad cases are listed.
        mode: of the loader, as the list has it.
        replaces: whether the next item that can be made takes the place of one that cannot: in training. Which one that is
            follows from dataset and index alone. Else a mark stands there, which `SkippingCollate` leaves out.
    """

    def __init__(self, dataset: Any, bad_cases: BadCases, mode: str, replaces: bool) -> None:
        self.dataset, self.bad_cases, self.mode, self.replaces = dataset, bad_cases, mode, replaces

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if (
            name.startswith("__") or name == "dataset"
        ):  # items are made one by one, and while it is unpickled it has none
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, index: int) -> Any:
        count = len(self)
        for number in range(count if self.replaces else 1):
            place = (index + number) % count
            try:
                return self.dataset[place]
            except Exception as error:
                if is_of_machine(error):
                    raise
                self.bad_cases.add(error, place, self.mode)
        if not self.replaces:
            return _Missing()
        raise CaseError(f"system::dataloaders::{self.mode}: none of its {count} cases can be read or transformed")


class SkippingCollate:
    """``collate_fn`` that leaves out the items that a `SkippingDataset` could not make.

    Args:
        inner: the loader's own ``collate_fn``.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, items: Any) -> Any:
        positions = [i for i, item in enumerate(items) if not isinstance(item, _Missing)]
        if len(positions) == len(items):
            return self.inner(items)
        return Remaining(self.inner([items[i] for i in positions]) if positions else None, positions)


class Skipping(LightningModule):
    """A LightningModule that leaves cases out that cannot be read or transformed, where it has `BadCases`.

    In training another case takes the place; in validation, test and prediction the batch is without it, so that none counts
    twice, and a batch with nothing left is passed over.

    Attributes:
        dataloaders: mode to loaders.
        bad_cases: of the run; None where a bad case ends it.
        positions: of the items of this batch in the batch as it was meant; None where all are there.
    """

    dataloaders: Mapping[str, Any]
    bad_cases: BadCases | None = None
    positions: list[int] | None = None
    _listed: list[list[str]] | None = None
    _has_begun = False

    @property
    def has_none_left(self) -> bool:
        """Whether no item of this batch could be made."""
        return self.positions is not None and not self.positions

    def skip_bad_cases(self, mode: str, loaders: Any) -> Any:
        """Loaders of a mode, or one, that leave bad cases out; the same where bad cases end the run."""
        if self.bad_cases is None or self._trainer is None:
            return loaders
        if not self._has_begun:
            self._begin()
        made = {place: self._guard(mode, place, loader) for place, loader in list_entries(loaders)}
        if isinstance(loaders, Mapping):
            return dict(zip(loaders, made.values(), strict=True))
        return [*made.values()] if isinstance(loaders, (list, tuple)) else made[""]

    def _begin(self) -> None:
        trainer, self._has_begun = self.trainer, True
        assert self.bad_cases is not None
        if isinstance(trainer.strategy, (FSDPStrategy, ModelParallelStrategy)):
            kind = type(trainer.strategy).__name__
            raise ValueError(
                f"system::on_bad_case: must be {RAISE} with a {kind}, all of whose processes call the network."
            )
        self.bad_cases.place(trainer, str(trainer.state.fn and trainer.state.fn.value))
        rows, self._listed = self._listed or [], None
        if trainer.is_global_zero:
            self.bad_cases.begin(rows)
        trainer.strategy.barrier()

    def _guard(self, mode: str, place: str, loader: DataLoader) -> DataLoader:
        assert self.bad_cases is not None
        self.bad_cases.totals[f"{mode}{place}"] = len(loader.dataset)  # type: ignore[arg-type]
        skipping = SkippingDataset(loader.dataset, self.bad_cases, f"{mode}{place}", mode == "train")
        guarded = copy_loader(loader, skipping)
        if mode != "train":
            guarded.collate_fn = SkippingCollate(loader.collate_fn)
        return guarded

    def number_cases(self, mode: str, count: int, batch_idx: int, dataloader_idx: int) -> list[int] | None:
        """Numbers of the cases of a batch of an evaluation that have no names, from 0 in the order of the data, over all
        processes; None where no case is left out of a run."""
        if self.bad_cases is None:
            return None
        loader = as_list(self.dataloaders[mode])[
            dataloader_idx
        ]  # as given: Lightning gives those of predict a batch_sampler
        positions = range(count) if self.positions is None else self.positions[:count]
        first, processes = batch_idx * loader.batch_size, self.trainer.world_size
        return [CaseNumber((first + each) * processes + self.global_rank) for each in positions]

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if isinstance(batch, Remaining):
            self.positions, batch = batch.positions, batch.batch
        elif self.positions is not None:
            self.positions = None
        return super().on_before_batch_transfer(batch, dataloader_idx)

    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """What Lightning gives a ``BasePredictionWriter`` are indices of the cases that there are predictions of."""
        super().on_predict_batch_start(batch, batch_idx, dataloader_idx)
        if self.positions is not None:
            loop = self.trainer.predict_loop
            epoch = loop.epoch_batch_indices[dataloader_idx : dataloader_idx + 1]
            for indices in {
                id(each): each for each in (loop.current_batch_indices, *(each[-1] for each in epoch if each))
            }.values():
                indices[:] = [indices[i] for i in self.positions if i < len(indices)]

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self._has_begun = False

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        rows = self.bad_cases.read() if self.bad_cases is not None else []
        if rows:
            checkpoint[KEY] = [[*row] for row in rows]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING:
            self._listed = checkpoint.get(KEY)

    def teardown(self, stage: str) -> None:
        super().teardown(stage)
        if self.bad_cases is not None:
            _tell(self.bad_cases)


@rank_zero_only
def _tell(bad_cases: BadCases) -> None:
    count = len(bad_cases.read())
    if count:  # as an error, which a quiet run shows too
        total, were = sum(bad_cases.totals.values()), "was" if count == 1 else "were"
        logger.error(f"{count} of {total} {'case' if total == 1 else 'cases'} {were} left out: {bad_cases.path}")


def check_bad_cases(on_bad_case: Any, max_bad_cases: Any, dataloaders: Mapping[str, Any]) -> BadCases | None:
    """Where bad cases are listed; None where they end the run.

    Args:
        on_bad_case: ``raise`` or ``skip``.
        max_bad_cases: how many may be left out; None for `BUDGET`.
        dataloaders: mode to loaders.

    Raises:
        ValueError: what is wrong with these; loaders of which no case can be left out.
    """
    if on_bad_case not in (RAISE, SKIP):
        raise ValueError(f"system::on_bad_case: must be {RAISE} or {SKIP}, got {on_bad_case!r}.")
    if on_bad_case == RAISE:
        if max_bad_cases is not None:
            raise ValueError(f"system::max_bad_cases: is for on_bad_case: {SKIP}, got {max_bad_cases!r}. Leave it out.")
        return None
    if max_bad_cases is not None and (
        isinstance(max_bad_cases, bool) or not isinstance(max_bad_cases, int) or max_bad_cases < 1
    ):
        raise ValueError(f"system::max_bad_cases: must be a whole number from 1, got {max_bad_cases!r}.")
    if not dataloaders:
        raise ValueError(f"system::on_bad_case: {SKIP} is for the loaders of system::dataloaders, got none.")
    for mode, given in dataloaders.items():
        for place, loader in list_entries(given):
            reason = _find_reason(mode, loader)
            if reason:
                raise ValueError(f"system::dataloaders::{mode}{place}: {reason}, or set on_bad_case: {RAISE}.")
    return BadCases(BUDGET if max_bad_cases is None else max_bad_cases)


def _find_reason(mode: str, loader: Any) -> str:
    """Why no case of a loader can be left out, and what to do; empty where it can."""
    if not isinstance(loader, DataLoader):
        return f"a {type(loader).__name__} has no dataset to leave a bad case out of. Take a DataLoader"
    if isinstance(loader.dataset, (IterableDataset, SmartCacheDataset)):  # whose thread ends
        return f"a {type(loader.dataset).__name__} ends at its first bad case. Take a CacheDataset or PersistentDataset"
    if mode != "train" and loader.batch_size is None:
        return "a bad case is left out of batches of a known size. Give it a batch_size in place of a batch_sampler"
    return ""


class _CacheComponent(ConfigComponent):
    """A ``CacheDataset``, or one derived from it, that is built though the cache of a case cannot be computed.

    That case stays uncomputed, as with ``runtime_cache``, and fails again when it is asked for.
    """

    def instantiate(self, **kwargs: Any) -> object:
        config, target = self.get_config(), self.resolve_module_name()
        kind = locate(target) if isinstance(target, str) else target
        if isinstance(kind, type) and issubclass(kind, CacheDataset) and not issubclass(kind, SmartCacheDataset):
            self.update_config({**config, "_target_": partial(_build_cache, kind)})
        return super().instantiate(**kwargs)


class _FillingCache(CacheDataset):
    """A ``CacheDataset`` while it is built: what cannot be computed is left out of its cache."""

    def _load_cache_item(self, idx: int) -> Any:
        try:
            return super()._load_cache_item(idx)
        except Exception as error:
            if is_of_machine(error) or self.hash_as_key:  # by hashes MONAI computes another item than the one asked for
                raise
            return None


def _build_cache(kind: type[CacheDataset], /, *args: Any, **kwargs: Any) -> CacheDataset:
    dataset: Any = type(kind.__name__, (_FillingCache, kind), {})(*args, **kwargs)
    dataset.__class__ = kind
    return dataset


def make_tolerant(item: ConfigItem) -> ConfigItem:
    """An item of a config, as it is built where cases that cannot be cached are left out."""
    return _CacheComponent(item.get_config(), item.get_id(), item.locator) if type(item) is ConfigComponent else item
