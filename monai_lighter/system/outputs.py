"""What a run of a `System` will write, known before the first case."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from lightning.pytorch import Callback, LightningModule, Trainer
from monai.data import MetaTensor
from monai.transforms import SaveImaged
from monai.utils import ImageMetaKey, ensure_tuple
from torch.utils.data import Subset

from monai_lighter.errors import ConfigError, Finding
from monai_lighter.system.adapters import BatchAdapter
from monai_lighter.system.bad_cases import SkippingDataset
from monai_lighter.system.batches import read_case_names
from monai_lighter.system.images import describe_unusable_affine
from monai_lighter.system.ledger import Ledger, Output
from monai_lighter.system.processes import gather
from monai_lighter.system.provenance import digest_recipe
from monai_lighter.system.saving import CheckedSaver, find_savers, plan_saved
from monai_lighter.system.step_outputs import when_ready
from monai_lighter.system.tensors import as_list

__all__ = ["ItemNames", "Outputs", "Planning", "describe_table", "list_data", "warn_of_lost_files"]

SHOWN = 10
"""Findings of a kind that are listed; of the others the number is told."""
logger = logging.getLogger(__name__)


class Planning(Protocol):
    """A callback that writes a file for each case."""

    def plan(self, identifier: str, label: str, named: bool = True, source: str | None = None) -> Output:
        """The file that a case of this identifier, read from this source, will be written to."""


class Outputs(Callback):
    """Sees to it that the files of a run of `System` are kept apart, and that nobody's affine is ignored unsaid.

    When validation, test or prediction begins, the names of all files that ``SaveImaged`` and `FileWriter` will write are
    worked out from the data of MONAI's datasets. Two cases with one file, a file that would take the place of an input, or of
    an earlier output of another case, end the run there. Names that are not known then are looked at when they are written.
    In test and prediction a case whose NIfTI affine cannot be used is named in a warning. What came of each case stands in the
    `Manifest` of the folder that it is written to.

    `System` adds it to every run; callbacks that write find it with `Outputs.of`.

    Attributes:
        ledger: of the files of cases, and of what came of these.
        skipped: cases of this prediction that are whole from an earlier run.
        written: files of cases that this process wrote in the evaluation or prediction that ended last.
        tables: files of tables, and the callback that each is of.
        writers: callbacks that write a file for each predicted case.
    """

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.skipped = 0
        self.written: list[Path] = []
        self.tables: dict[Path, Callback] = {}
        self.writers: list[Planning] = []
        self._checked: list[SaveImaged] = []
        self._planned: set[str] = set()
        self._told: set[str] = set()
        self._began = 0.0

    @classmethod
    def of(cls, trainer: Trainer) -> Outputs:
        """The one of a Trainer, which is given one where it has none."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        found = [callback for callback in callbacks if isinstance(callback, cls)]
        if not found:
            found = [cls()]
            callbacks += found
        return found[0]

    def add(self, writer: Planning) -> None:
        """Takes note of a callback that writes a file for each predicted case."""
        if writer not in self.writers:
            self.writers.append(writer)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.ledger, self.written, self.skipped = Ledger(), [], 0
        self._planned, self._told = set(), set()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(trainer, pl_module, "val", trainer.val_dataloaders)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(trainer, pl_module, "test", trainer.test_dataloaders)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(trainer, pl_module, "predict", trainer.predict_dataloaders)

    def _start(self, trainer: Trainer, system: Any, mode: str, loaders: Any) -> None:
        savers = list(find_savers(getattr(system, "postprocessing", {}).get(mode)))
        writers = self.writers if mode == "predict" else []
        if not savers and not writers:
            return
        if mode == "predict" and self.tables and getattr(system, "skip_existing", False):
            raise ConfigError([describe_table(type(table).__name__) for table in self.tables.values()])
        self.ledger.reset(self._make_shared_folder(trainer))
        if mode == "predict" and not self.ledger.recipe:
            self.ledger.recipe = digest_recipe(system, trainer)
        if mode not in self._planned:
            self._planned.add(mode)
            self._check(system, mode, savers, writers, as_list(loaders))
            trainer.strategy.barrier()  # else a file of another process could look like an earlier run's
        for saved in savers:
            saved.saver = CheckedSaver(  # type: ignore[assignment]
                _get_saver(saved), self.ledger, f"system::postprocessing::{mode}"
            )
        self._checked = savers

    def _make_shared_folder(self, trainer: Trainer) -> Path | None:
        if trainer.world_size == 1:
            return None
        folder = Path(trainer.default_root_dir) / f".outputs-{trainer.strategy.broadcast(uuid4().hex)}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _check(self, system: Any, mode: str, savers: list[SaveImaged], writers: list[Planning], loaders: list) -> None:
        outputs: list[Output] = []
        for number, loader in enumerate(loaders):
            items = list(list_data(getattr(loader, "dataset", None)))
            place = f" of loader {number}" if len(loaders) > 1 else ""
            adapter = getattr(system, "adapters", {}).get(mode, {}).get("batch")
            names = ItemNames(adapter, f"system::postprocessing::{mode}")
            self.expect(names, items)
            planned = [
                output
                for index, item in enumerate(items)
                for output in names.plan(item, f"case {index}{place}", savers, writers)
            ]
            if _follows_from_data(planned, self.ledger, names, loader):
                outputs += planned
        for root in {output.root for output in outputs}:
            self.ledger.open(root)
        clashes, refusals = self.ledger.check(outputs)
        findings = [*_shorten(clashes), *_shorten(refusals)]
        if findings:
            raise ConfigError(findings)

    def expect(self, names: ItemNames, items: list[Any]) -> None:
        """Tells the ledger of the cases of the data, and of the files that they are read from."""
        for item in items:
            files = list(list_files(item))
            self.ledger.protect(files)
            if case := names.read_case(item):
                self.ledger.expect(case, item, [*files, names.name(item)[1] or case])

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._began = time.monotonic()
        files = list(_find_sources(batch))
        self.ledger.protect(files)
        for file in files:
            problem = None if file in self._told else describe_unusable_affine(file)
            self._told.add(file)
            if problem:
                logger.warning(
                    f"case {file}: the affine in its header cannot be used: {problem}. Spacing and orientation are those, in "
                    "whatever depends on them; files on the grid of the case keep its own header. Correct the header."
                )

    on_predict_batch_start = on_test_batch_start

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """After the writers, which come before it in the Trainer's callbacks: the cases of the batch have ended."""
        when_ready(outputs, partial(self._finish_cases, batch, self._began))

    def _finish_cases(self, batch: Any, began: float, outputs: Any) -> None:
        of_step = outputs if isinstance(outputs, Mapping) else {}
        identifiers = of_step.get("identifier")
        known = identifiers if isinstance(identifiers, (list, tuple)) else ()
        for case in read_case_names(of_step.get("input"), batch) or known:
            self.ledger.finish(str(case), began)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.ledger.close()
        shared, roots = self.ledger._shared, self.ledger.list_roots()
        if shared is not None:  # which some processes may not have written to
            roots = [*{root for own in gather(roots) for root in own}]
        if trainer.is_global_zero:
            self._note_bad_cases(pl_module)
            self.ledger.rewrite(roots)
        if shared is not None:
            trainer.strategy.barrier()
            shutil.rmtree(shared, ignore_errors=True)
        self._restore()

    on_test_end = on_predict_end = on_validation_end

    def _note_bad_cases(self, system: Any) -> None:
        """Tells the ledger of the cases that were left out of a prediction."""
        bad_cases = getattr(system, "bad_cases", None)
        for row in bad_cases.read() if bad_cases is not None else ():
            if row.mode.startswith("predict"):
                self.ledger.fail(self.ledger.find_described(row.case), row.cause)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self.ledger._shared is not None:
            shutil.rmtree(self.ledger._shared, ignore_errors=True)
        self._restore()

    def _restore(self) -> None:
        """Gives the transforms of the config back what they were built with."""
        for saved in self._checked:
            saved.saver = _get_saver(saved)
        self._checked = []
        self.written = self.ledger.list_written()
        self.ledger.reset()


def describe_table(kind: str) -> Finding:
    """Why a table of all cases and ``skip_existing`` do not go together."""
    problem = f"a {kind} writes one table, in which the cases that are left out would be missing"
    return Finding("skip_existing", problem, "Leave one of the two out.")


def warn_of_lost_files(loader: Any, transform: Any, id: str) -> None:
    """Warns of files that ``SaveImaged`` of an engine of MONAI will write over, a case's by another's or an input.

    Nothing is changed by it, and no case is read: the engine writes what it writes under Ignite.

    Args:
        loader: data of the engine.
        transform: its postprocessing.
        id: config id of the engine.
    """
    savers = list(find_savers(transform))
    items = list(list_data(getattr(loader, "dataset", None))) if savers else []
    ledger, names = Ledger(), ItemNames(BatchAdapter(), f"{id}::postprocessing")
    ledger.protect(file for item in items for file in list_files(item))
    planned = [
        output._replace(overwrite=True)
        for index, item in enumerate(items)
        for output in names.plan(item, f"case {index}", savers, [])
    ]
    for found in ledger.check(planned):
        for finding in _shorten(found):
            logger.warning(f"{finding} As it is, the one that comes last is kept.")


class ItemNames:
    """How the names of a case follow from its data item; where they do not, there are none.

    Args:
        adapter: takes input and identifier out of a batch; names follow where it is a `BatchAdapter` with keys.
        id: config id of the postprocessing.
    """

    def __init__(self, adapter: Any, id: str) -> None:
        known = isinstance(adapter, BatchAdapter) and isinstance(adapter.input_accessor, (str, type(None)))
        self.key = (adapter.input_accessor or "image") if known else None
        self._identifier = adapter.identifier_accessor if known else None
        self._id = id

    def plan(self, item: Any, label: str, savers: list[SaveImaged], writers: list[Planning]) -> Iterator[Output]:
        """The files that a case will be written to."""
        source, identifier = self.name(item)
        label = f"{label} ({identifier or source})"
        for saved in savers if source is not None else ():
            yield from plan_saved(
                saved, lambda key: _read_file_name(item[key]) if key in item else source, label, self._id
            )
        if identifier is not None:
            yield from (writer.plan(identifier, label, source=source) for writer in writers)

    def read_case(self, item: Any) -> str:
        """What a case is known by, in the manifest too: its source file, else its identifier; empty where it has neither."""
        source, identifier = self.name(item)
        return source or identifier or ""

    def name(self, item: Any) -> tuple[str | None, str | None]:
        """The source file of a case, and its identifier, from its data item or from that after its transforms."""
        if self.key is None or not isinstance(item, Mapping):
            return None, None
        source = self.find_source(item.get(self.key))
        if self._identifier is None:
            return source, source
        known = isinstance(self._identifier, str) and isinstance(item.get(self._identifier), (str, int))
        return source, str(item[self._identifier]) if known else None

    @staticmethod
    def find_source(value: Any) -> str | None:
        """The file that an image is read from, or has been read from."""
        if isinstance(value, MetaTensor):
            name = value.meta.get(ImageMetaKey.FILENAME_OR_OBJ)
            return None if name is None else str(name)
        return _read_file_name(value)


def _follows_from_data(planned: list[Output], ledger: Ledger, names: ItemNames, loader: Any) -> bool:
    """Whether the planned names are those that the items have after their transforms, which may rename them.

    Looked at where there is something against them alone, on the first case of the data.
    """
    if not any(ledger.check(planned)):
        return True
    try:
        item = loader.dataset[0]
        item = item[0] if isinstance(item, (list, tuple)) and item else item
        return names.name(item) == names.name(next(iter(list_data(loader.dataset))))
    except Exception:  # the run will say it, with the case
        return False


def list_data(dataset: Any) -> Iterable[Any]:
    """The data items of MONAI's datasets, before their transforms."""
    if isinstance(dataset, Subset):
        inner = list(list_data(dataset.dataset))
        return [inner[index] for index in dataset.indices] if inner else []
    if isinstance(dataset, SkippingDataset):
        return list_data(dataset.dataset)
    data = dataset if isinstance(dataset, (list, tuple)) else getattr(dataset, "data", None)
    return data if isinstance(data, (list, tuple)) else []


def _read_file_name(value: Any) -> str | None:
    """The file that is read from a data item's value; of a list of them the first, which gives the image its name."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return str(Path(first).expanduser()) if isinstance(first, (str, os.PathLike)) else None


def list_files(item: Any) -> Iterator[str]:
    for value in item.values() if isinstance(item, Mapping) else ensure_tuple(item):
        for part in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(part, (str, os.PathLike)):
                yield str(Path(part).expanduser())


def _find_sources(batch: Any) -> Iterator[str]:
    if isinstance(batch, MetaTensor):
        yield from map(str, ensure_tuple(batch.meta.get(ImageMetaKey.FILENAME_OR_OBJ, ())))
    elif isinstance(batch, (Mapping, list, tuple)):
        for value in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _find_sources(value)


def _get_saver(saved: SaveImaged) -> Any:
    return saved.saver.saver if isinstance(saved.saver, CheckedSaver) else saved.saver


def _shorten(findings: list[Finding]) -> list[Finding]:
    if len(findings) <= SHOWN:
        return findings
    last = findings[SHOWN - 1]
    rest = len(findings) - SHOWN + 1
    return [*findings[: SHOWN - 1], Finding(last.id, f"{rest} more of the same, such as: {last.problem}", last.hint)]
