"""Going on with a prediction: cases whose outputs are whole are left out before they are loaded."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning_utilities.core.apply_func import apply_to_collection
from monai.data.folder_layout import FolderLayout
from monai.transforms import SaveClassificationd
from torch.utils.data import DataLoader, SequentialSampler, Subset

from monai_lighter.errors import ConfigError, Finding
from monai_lighter.errors.cases import list_entries
from monai_lighter.system.ledger import Output, identify
from monai_lighter.system.manifest import SKIPPED, WRITTEN, ManifestRow
from monai_lighter.system.outputs import ItemNames, Outputs, describe_table, list_data
from monai_lighter.system.provenance import digest_recipe
from monai_lighter.system.saving import find_savers
from monai_lighter.system.seeded import find_reason_against_seeding, read_arguments

__all__ = ["leave_out_whole"]

ID = "skip_existing"
LOADER = "system::dataloaders::predict"
logger = logging.getLogger(__name__)


def leave_out_whole(system: Any, loaders: Any) -> Any:
    """The loaders of a prediction without the cases that are whole, which become ``skipped`` in the manifest.

    A case is whole where every folder of the run has it in its manifest, made of the same (the config as far as it predicts, the
    weights, the files of the case), with the outputs that it would have today, and these are there with their sha256.

    Args:
        system: of a run, all of whose callbacks have been set up.
        loaders: a ``DataLoader``, or a list or dict of them.

    Raises:
        ConfigError: a case cannot be told before it is loaded, or nobody could say that its outputs are all.
    """
    trainer = system.trainer
    outputs = Outputs.of(trainer)
    names = ItemNames(system.adapters["predict"]["batch"], "system::postprocessing::predict")
    listed = [(f"{LOADER}{place}", loader) for place, loader in list_entries(loaders)]
    findings = [*_check_writing(system, outputs)]
    findings += [finding for id, loader in listed for finding in _check_loader(id, loader, names)]
    items = [[*list_data(getattr(loader, "dataset", None))] for _, loader in listed]
    findings += [] if findings else _check_twins([names.read_case(item) for each in items for item in each])
    if findings:
        raise ConfigError(findings)
    outputs.expect(names, [item for each in items for item in each])
    outputs.ledger.recipe = digest_recipe(system, trainer)
    if not outputs.ledger.recipe:
        hint = "Leave skip_existing out."
        raise ConfigError([Finding(ID, "what this config and its weights are cannot be written down", hint)])
    whole: set[str] = set()
    if trainer.is_global_zero:
        whole = _Folders(system, outputs, names).take_whole(items, trainer.world_size)
    whole = trainer.strategy.broadcast(whole)
    outputs.skipped = len(whole)
    return (
        apply_to_collection(loaders, DataLoader, lambda loader: _leave_out(loader, names, whole)) if whole else loaders
    )


def _check_writing(system: Any, outputs: Outputs) -> Iterator[Finding]:
    savers = [*find_savers(system.postprocessing.get("predict"))]
    if not savers and not outputs.writers:
        hint = "Add a SaveImaged to system::postprocessing::predict or a FileWriter to trainer::callbacks."
        yield Finding(ID, "nothing in the config writes a file for each case", hint)
    for saved in savers:
        layout: Any = saved.saver.folder_layout
        if not isinstance(layout, FolderLayout):
            problem = f"where a SaveImaged with a {type(layout).__name__} writes is not known before the run"
            yield Finding(ID, problem, "Give it an output_dir in place of folder_layout.")
    for transform in _find_tables(system.postprocessing.get("predict")):
        yield describe_table(type(transform).__name__)


def _find_tables(transform: Any) -> Iterator[SaveClassificationd]:
    if isinstance(transform, SaveClassificationd):
        yield transform
    for inner in getattr(transform, "transforms", None) or ():
        yield from _find_tables(inner)


def _check_loader(id: str, loader: Any, names: ItemNames) -> Iterator[Finding]:
    """What keeps cases of a loader from being told before they are loaded."""
    reason = find_reason_against_seeding(loader)
    if reason is None and type(loader.sampler) is not SequentialSampler:
        reason = f"its cases come in the order of a {type(loader.sampler).__name__}"
    dataset = getattr(loader, "dataset", None)
    items = [*list_data(dataset)]
    if reason is None and (not items or len(items) != len(dataset)):  # type: ignore[arg-type]
        reason = f"a {type(dataset).__name__} does not say its cases before it loads them"
    unnamed = next((place for place, item in enumerate(items) if not names.read_case(item)), None)
    if reason is None and unnamed is not None:
        reason = f"case {unnamed} has in its item neither a file as image nor an identifier"
    if reason is not None:
        hint = (
            "Take a torch or MONAI DataLoader, not shuffled, of a MONAI Dataset of dicts with the files of each case."
        )
        yield Finding(ID, f"{id}: {reason}", hint)


def _check_twins(cases: list[str]) -> list[Finding]:
    twin = next((case for case in cases if cases.count(case) > 1), None) if len({*cases}) < len(cases) else None
    hint = "List each once, or leave skip_existing out."
    return [] if twin is None else [Finding(ID, f"two cases of the data are {twin} and cannot be told apart", hint)]


class _Folders:
    """The folders that a prediction writes to, and their manifests."""

    def __init__(self, system: Any, outputs: Outputs, names: ItemNames) -> None:
        self._savers = [*find_savers(system.postprocessing.get("predict"))]
        self._writers, self._names, self._ledger = outputs.writers, names, outputs.ledger
        layouts: list[Any] = [saved.saver.folder_layout for saved in self._savers]
        roots = [layout.output_dir for layout in layouts]
        roots += [writer.plan("case", "case").root for writer in self._writers]
        self._manifests = {manifest.folder: manifest for manifest in (self._ledger.open(Path(root)) for root in roots)}
        self._rows = {folder: manifest.group_by_case() for folder, manifest in self._manifests.items()}

    def take_whole(self, loaders: list[list[Any]], processes: int) -> set[str]:
        """The cases that are whole; their rows say that they are skipped.

        Args:
            loaders: items of each.
            processes: Lightning cannot share fewer cases than these; so many of a loader are predicted, though they are whole.
        """
        items = {self._names.read_case(item): item for each in loaders for item in each}
        found = {case: rows for case, item in items.items() if (rows := self._find_rows(case, item)) is not None}
        stale = sum(case not in found and self._has_outputs(case) for case in items)
        for each in loaders:
            whole = [case for case in map(self._names.read_case, each) if case in found]
            left = len(each) - len(whole)
            for case in whole[: max(processes - left, 0) if left else 0]:
                del found[case]
        for folder, manifest in self._manifests.items():
            manifest.append(
                *(row._replace(state=SKIPPED) for rows in found.values() for at, row in rows if at == folder)
            )
        if found:
            self._ledger.rewrite(self._manifests)
        logger.info(f"{ID}: {len(found)} of {len(items)} cases are whole and are left out")
        if stale:
            why = "of other weights, another config or other data, or are not as they were written"
            logger.warning(
                f"{ID}: outputs of {stale} of {len(items)} cases are {why}: these cases are predicted again."
            )
        return {*found}

    def _find_rows(self, case: str, item: Any) -> list[tuple[Path, ManifestRow]] | None:
        """Folders and rows of a case that is whole; None of one that is not."""
        made_of = self._ledger.digest_made_of(case)
        found = []
        for folder, rows in self._rows.items():
            own = [row for row in rows.get(identify(case, folder), ()) if made_of and row.made_of == made_of]
            if not own or not all(row.state in (WRITTEN, SKIPPED) and row.is_whole(folder) for row in own):
                return None
            found += [(folder, row) for row in own]
        noted = [os.path.join(folder, name) for folder, row in found for name in row.outputs]
        planned = self._names.plan(item, case, self._savers, self._writers)
        return found if all(_is_among(output, noted) for output in planned) else None

    def _has_outputs(self, case: str) -> bool:
        return any(row.outputs for folder, rows in self._rows.items() for row in rows.get(identify(case, folder), ()))


def _is_among(output: Output, files: list[str]) -> bool:
    """Whether an output is one of some files, whose suffix it may lack."""
    place = os.path.join(os.path.realpath(output.path.parent), output.path.name)
    return any(file.startswith(place) for file in files)


def _leave_out(loader: DataLoader, names: ItemNames, whole: set[str]) -> DataLoader:
    kept = [place for place, item in enumerate(list_data(loader.dataset)) if names.read_case(item) not in whole]
    return DataLoader(Subset(loader.dataset, kept), generator=loader.generator, **read_arguments(loader))
