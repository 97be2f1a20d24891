"""Memory and time of a step."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from monai_lighter.callbacks.timing import read_peak_memory
from monai_lighter.trace.rows import wait_for_gpu

__all__ = ["measure_step"]

MIB = 1 << 20
TIMES, ENOUGH = 5, 5.0
"""A step is measured so often, unless that takes more seconds than are enough."""


def measure_step(step: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """Run a step a few times, and give the median of its ``seconds`` and the largest ``memory`` meanwhile, in MiB, as text.

    On a GPU that is what torch had allocated there, elsewhere the memory of the process; where the system does not let the
    peak be reset, the largest since the process began.
    """
    cuda = device.type == "cuda"
    reset = cuda or _reset_peak()
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    taken: list[float] = []
    while len(taken) < TIMES and sum(taken) < ENOUGH:
        start = time.perf_counter()
        step()
        wait_for_gpu()
        taken.append(time.perf_counter() - start)
    seconds = round(median(taken), 4)
    peak = torch.cuda.max_memory_allocated(device) if cuda else read_peak_memory()
    where = f"on {device}" if cuda else "the process" if reset else "the process since it began"
    return {"seconds": seconds, "memory": "unknown" if peak is None else f"{peak / MIB:.0f} MiB ({where})"}


def _reset_peak() -> bool:
    """Whether Linux forgot the peak of this process (``man 5 proc``, ``clear_refs``)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
