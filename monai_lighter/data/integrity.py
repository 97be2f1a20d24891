"""The check of the cases of a config: every case of every mode is loaded once, and what is wrong is told at once."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from monai_lighter.config.stages import MODES
from monai_lighter.data.all_cases import judge_cohort
from monai_lighter.data.case_lists import find_table_flaws
from monai_lighter.data.expected import Expected, expect, find_label_keys
from monai_lighter.data.findings import ERROR, NOTE, CaseFinding
from monai_lighter.data.one_case import ReadCases, judge_case
from monai_lighter.data.ranges import summarize
from monai_lighter.data.reading import CaseFacts, Loading, list_files_in
from monai_lighter.data.sources import CaseSource, Sources, find_sources
from monai_lighter.errors import ConfigError, Finding

__all__ = ["DataCheck", "check_cases", "require_sound_cases"]

logger = logging.getLogger(__name__)

WORKERS = 8
"""Most cases that are loaded at the same time."""


class DataCheck:
    """What is wrong with the cases of a config, what is worth knowing of them, and their ranges.

    Every case of every mode is loaded once, with the loading transforms of its dataset alone (`Loading`); nothing of the
    network is built. Of an image a few numbers are kept, so that memory is that of the cases being loaded.

    Args:
        config: with its macros expanded and its metadata; sections of a native config as ``add_defaults`` leaves them.
        native: whether the config has a ``system`` section.
        modes: of a native config, those to look at.
        built: of a config of engines, ids of the components that its run builds; empty for all.
        workers: cases loaded at the same time; None for as many as there are cores, up to 8.

    Attributes:
        findings: errors first, each level in the order of cases.
        summary: mode to ranges (`summarize`).
        cases: number of cases that were loaded.
        seconds: that it took.
    """

    def __init__(
        self,
        config: dict,
        native: bool,
        modes: Collection[str] = MODES,
        built: Collection[str] = (),
        workers: int | None = None,
    ) -> None:
        start = time.perf_counter()
        expected = expect(config)
        sources = find_sources(config, native, modes, built)
        all_cases = check_cases(sources.found, expected, workers)
        found = [*_of_sources(sources), *_of_tables(sources, all_cases)]
        for cases in all_cases:
            found += judge_case(cases, expected)
        found += judge_cohort(all_cases, expected)
        self.findings = sorted(dict.fromkeys(found), key=lambda finding: finding.level != ERROR)
        self.summary = summarize(all_cases, expected)
        self.cases = sum(len(cases.facts) for cases in all_cases)
        self.seconds = time.perf_counter() - start

    @property
    def errors(self) -> list[CaseFinding]:
        """Findings that are no notes."""
        return [finding for finding in self.findings if finding.level == ERROR]

    @property
    def notes(self) -> list[CaseFinding]:
        """Findings that need not be wrong."""
        return [finding for finding in self.findings if finding.level == NOTE]


@rank_zero_only
def require_sound_cases(config: dict, modes: Collection[str]) -> None:
    """Checks the cases of a native config, in the first process alone, and logs the notes.

    Args:
        config: with its macros expanded, its metadata, and the sections that ``add_defaults`` gives it.
        modes: whose cases are read.

    Raises:
        ConfigError: what is wrong with them, all at once.
    """
    done = DataCheck(config, True, modes)
    for note in done.notes:
        logger.warning(str(note))
    if done.errors:
        raise ConfigError(Finding(each.id, each.sentence, each.hint) for each in done.errors)
    logger.info("%d cases checked in %.1f s: nothing is wrong with them.", done.cases, done.seconds)


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, WORKERS)


def check_cases(sources: Sequence[CaseSource], expected: Expected, workers: int | None) -> list[ReadCases]:
    """Loads every case of the sources once, several at a time, and keeps what is told of it.

    A case that is several times in the data of a mode is loaded once. On a terminal a bar shows how far it is.

    Args:
        sources: cases and transforms, by mode.
        expected: what the config says of its cases.
        workers: cases that are loaded at the same time; None for as many as there are cores, up to 8.
    """
    distinct = [_distinct(source.cases) for source in sources]
    total = sum(map(len, distinct))
    found: list[ReadCases] = []
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(max(_cores() if workers is None else workers, 1)) as pool,
        tqdm(total=total, desc="cases", unit="case", disable=None, file=sys.stderr, leave=False) as bar,
    ):
        warnings.simplefilter("ignore")  # what readers warn of is told below, with the case
        for source, indices in zip(sources, distinct, strict=True):
            first = source.cases[next(iter(indices))]
            loading = Loading(source.transform, any(list_files_in(value) for value in _values(first)))
            labels = find_label_keys(expected, source.mode, _keys(source, indices))
            facts: list[CaseFacts] = []
            try:
                for each in pool.map(_examiner(loading, source, labels), indices.items()):
                    facts.append(each)
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            found.append(ReadCases(source.mode, source.id, facts, _names(facts), loading, labels))
    return found


def _examiner(loading: Loading, source: CaseSource, labels: Sequence[str]) -> Any:
    return lambda entry: loading.examine(entry[0], source.cases[entry[0]], labels, entry[1])


def _distinct(cases: Sequence) -> dict[int, int]:
    """Indices of the cases that differ from those before them, and how often each is in the data."""
    first: dict[str, int] = {}
    times: dict[int, int] = {}
    for index in range(len(cases)):
        case = cases[index]
        named = isinstance(case, (str, Path)) or (
            isinstance(case, Mapping) and any(list_files_in(value) for value in case.values())
        )
        mark = repr(case) if named else f"item {index}"
        position = first.setdefault(mark, index)
        times[position] = times.get(position, 0) + 1
    return times


def _values(case: Any) -> Iterator[Any]:
    yield from case.values() if isinstance(case, Mapping) else (case,)


def _keys(source: CaseSource, indices: Collection[int]) -> list[str]:
    keys = dict.fromkeys(
        str(key) for n in indices for case in [source.cases[n]] if isinstance(case, Mapping) for key in case
    )
    return list(keys)


def _names(facts: Sequence[CaseFacts]) -> list[str]:
    """The first file of each case below the folder that all have in common; ``item N`` where it has none."""
    firsts = [next((file for files in case.files.values() for file in files), "") for case in facts]
    paths = [os.path.abspath(file) for file in firsts if file]
    try:
        folder = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    except ValueError:  # several drives
        folder = ""
    return [
        f"item {case.position}" if not file else os.path.relpath(os.path.abspath(file), folder) if folder else file
        for case, file in zip(facts, firsts, strict=True)
    ]


def _of_sources(sources: Sources) -> Iterator[CaseFinding]:
    failed = {(id, problem): (id, mode, problem, hint) for id, mode, problem, hint in reversed(sources.failed)}
    for id, mode, problem, hint in reversed(failed.values()):
        told = hint or "Mend the data list, or what it is made of."
        yield CaseFinding(ERROR, "data list", mode, id, "", "", "", problem, told)
    for id, mode, reason in sources.unknown:
        hint = "Give the cases to a MONAI dataset to have them checked."
        yield CaseFinding(NOTE, "not checked", mode, id, "", "", "", f"the cases cannot be checked: {reason}", hint)


def _of_tables(sources: Sources, all_cases: Sequence[ReadCases]) -> Iterator[CaseFinding]:
    """What is wrong with the tables that the data of a mode were made of; each table once."""
    seen: set[str] = set()
    for mode, files in sources.tables.items():
        used = {key for cases in all_cases if cases.mode == mode for case in cases.facts for key in case.keys}
        used |= {key for cases in all_cases if cases.mode == mode for key in cases.loading.keys}
        broken = [id for id, failed, *_ in sources.failed if failed == mode]
        id = next(iter([*broken, *(cases.id for cases in all_cases if cases.mode == mode)]), mode)
        for file in files:
            for value, problem, hint in find_table_flaws(file, used, bool(broken)) if file not in seen else ():
                yield CaseFinding(ERROR, "columns", mode, id, "", file, value, problem, hint)
            seen.add(file)
