"""Memory and time of a step."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from monai_lighter.trace.rows import wait_for_gpu

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = ["measure_step"]

STATUS = Path("/proc/self/status")
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
    peak = torch.cuda.max_memory_allocated(device) if cuda else _read_peak()
    where = f"on {device}" if cuda else "the process" if reset else "the process since it began"
    return {"seconds": seconds, "memory": "unknown" if peak is None else f"{peak / MIB:.0f} MiB ({where})"}


def _reset_peak() -> bool:
    """Whether Linux forgot the peak of this process (``man 5 proc``, ``clear_refs``)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _read_peak() -> int | None:
    if STATUS.is_file():
        found = [line.split()[1] for line in STATUS.read_text().splitlines() if line.startswith("VmHWM")]
        if found:
            return int(found[0]) * 1024
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
