"""Errors that are the machine's and no case's: memory that is not there, too many open files, workers that were killed."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from monai_lighter.errors.marks import walk_causes

__all__ = ["AtWork", "advise_on_memory", "find_killed", "is_of_machine", "is_out_of_memory"]

NO_MEMORY = re.compile(r"DefaultCPUAllocator: (can't allocate|not enough) memory|\bout of memory\b", re.IGNORECASE)
KILLED = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: ([^.]+)|exited unexpectedly)"
)
"""What torch says of a worker that is gone."""
SHORT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT)
MOST_INDICES = 8
OF_LOADER = (
    "lower num_workers or prefetch_factor of the loader or cache_rate of a CacheDataset, or crop such images before what "
    "needs the memory"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was lacking, of the CPU or of an accelerator: an error of Python, NumPy or torch."""
    return any(
        isinstance(cause, (MemoryError, torch.OutOfMemoryError))
        or (isinstance(cause, RuntimeError) and NO_MEMORY.search(str(cause)) is not None)
        for cause in walk_causes(error)
    )


def is_of_machine(error: BaseException) -> bool:
    """Whether an error that was raised while a case was read says nothing about the case."""
    return is_out_of_memory(error) or any(
        (isinstance(cause, OSError) and cause.errno in SHORT_OF) or KILLED.search(str(cause)) is not None
        for cause in walk_causes(error)
    )


def advise_on_memory(part: str, mode: str = "", system: Any = None) -> str:
    """What to change where a part of the config lacked memory, with the values that it has now.

    Args:
        part: config id of the part that was at work.
        mode: of the step.
        system: with ``inferer`` and ``dataloaders`` by mode, where it has them.
    """
    if not part.startswith("system::") or part.startswith("system::dataloaders"):
        return f"out of memory: {OF_LOADER}"
    ways = list(_list_sizes(mode, system))
    if part.startswith(("system::postprocessing", "system::metrics")):
        ways.append("take the classes together (argmax) before what needs the memory")
    elif mode in ("", "train"):
        ways.append("crop smaller patches, or set trainer::precision to 16-mixed or bf16-mixed")
    return f"out of memory: {', '.join(ways)}"


def _list_sizes(mode: str, system: Any) -> Iterator[str]:
    loader = getattr(system, "dataloaders", {}).get(mode)
    size = getattr(loader, "batch_size", None)
    if size is None or size > 1:
        yield f"lower system::dataloaders::{mode or 'train'}::batch_size{_now(size)}"
    inferer = getattr(system, "inferer", {}).get(mode)
    for name in ("sw_batch_size", "roi_size") if hasattr(inferer, "sw_batch_size") else ():
        value = getattr(inferer, name, None)
        if value != 1:
            yield f"lower system::inferer::{name}{_now(value)}"
    if hasattr(inferer, "sw_device"):
        yield "put windows together on the CPU (system::inferer::device: cpu)"


def _now(value: Any) -> str:
    return "" if value is None else f" (now {value})"


class AtWork:
    """What each worker of a loader is at work on, in memory that processes share: it outlives a worker that is killed.

    Args:
        workers: their number.
    """

    def __init__(self, workers: int) -> None:
        self._rows = torch.zeros(workers, 2 + MOST_INDICES, dtype=torch.int64).share_memory_()
        self._own: Any = None
        self._pid = 0

    def start(self, worker: int) -> None:
        """Says, in a worker, which one it is."""
        self._own, self._pid = self._rows[worker].numpy(), os.getpid()

    def begin(self, place: Any) -> None:
        """Takes note of an item, ``index`` or ``(epoch, index)``, or of a list of them; it takes about a microsecond."""
        places = place[:MOST_INDICES] if isinstance(place, list) else [place]
        indices = [each[-1] if isinstance(each, tuple) else each for each in places]
        if all(isinstance(each, int) for each in indices):
            self._own[: 2 + len(indices)] = (self._pid, len(indices), *indices)

    def end(self) -> None:
        """The items are made."""
        self._own[1] = -abs(self._own[1])

    def find(self, pid: int) -> tuple[list[int], bool] | None:
        """Indices of the items that a worker was asked for last, and whether they were made; None for a process that has not been
        asked for any."""
        row = next((row for row in self._rows.tolist() if row[0] == pid), None)
        return None if row is None else (row[2 : 2 + abs(row[1])], row[1] < 0)


def find_killed(
    error: BaseException, workers: Mapping[str, Sequence[AtWork]]
) -> tuple[str, str, tuple[list[int], bool]] | None:
    """Which worker was killed, where an error says that one was.

    Args:
        error: that ended the run.
        workers: config id of a loader to what its workers are at work on.

    Returns:
        Config id of its loader, what happened to it, and what it was at work on, as `AtWork.find` has it; None for another error.
    """
    matches = [match for cause in walk_causes(error) if (match := KILLED.search(str(cause)))]
    if not matches:
        return None
    said = next((match[2] for match in matches if match[2]), None)
    pids = [int(pid) for match in matches for pid in match[1].split(",")]
    happened = (
        f"worker {pids[0]} {'exited unexpectedly' if said is None else f'was killed by a signal ({said.strip()})'}"
    )
    found = [(id, at.find(pid)) for pid in pids for id, several in workers.items() for at in several]
    known = next(((id, places) for id, places in found if places is not None), None)
    return (known[0], happened, known[1]) if known else ("system::dataloaders", happened, ([], False))
