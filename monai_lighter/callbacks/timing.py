"""Where the time of a run went."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from monai.data import CacheDataset, PersistentDataset
from torch.utils.data import DataLoader

from monai_lighter.safe_files import written_beside
from monai_lighter.system.case_pool import CasePool
from monai_lighter.system.logging import find_log_folder
from monai_lighter.system.profiler import PassThroughProfiler
from monai_lighter.system.tensors import as_list

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = ["Timing", "read_peak_memory"]

FILE = "timing.json"
MODES = {"fit": "train", "validate": "val", "test": "test", "predict": "predict"}
SHARE, SECONDS = 0.25, 5.0
"""A part that takes no less than this, of a run and at all, is one to do something about."""
MIB = 1 << 20
STATUS = Path("/proc/self/status")


class Timing(Callback):
    """Measures where the time of a run goes, and writes it to ``timing.json`` in the log folder when the run ends.

    ``seconds`` has the wall time of the first process: ``total``, of the loop alone, and its parts, ``data`` (waiting for
    batches), ``step`` (network, loss, optimizer, callbacks), of a fit ``validation`` and ``saving`` (checkpoints and weights),
    else ``postprocessing`` (with metrics and files of the cases, or waiting for the threads that do it); ``start`` is what came
    before, a sanity check among it. ``share`` has the same of the total, from 0 to 1; ``batches`` how many there were, ``memory``
    the peak of the process since it began and of the GPU in this run, in MiB; ``advice`` the config id to change where one part
    holds the rest back.

    It has no hook that is called in every step. `Workflow` adds it to every run of a native config but one with a profiler of
    Lightning's (``trainer::profiler``), which tells more.
    """

    def __init__(self) -> None:
        self.report: dict[str, Any] = {}
        self._stage = ""
        self._folder: Path | None = None
        self._entered = self._began = self._ended = self._validation_began = self._validation = 0.0
        self._before: dict[str, float] = {}
        self._first_batch = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.report, self._stage = {}, stage
        self._folder = find_log_folder(trainer)  # here, where all processes take part
        self._entered, self._began, self._ended = time.perf_counter(), 0.0, 0.0
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(trainer.strategy.root_device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._before, self._validation, self._ended = _read_profiler(trainer), 0.0, 0.0
        self._first_batch = trainer.fit_loop.total_batch_idx
        self._began = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ended = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._validation_began = _read_watch(trainer)
        else:
            self.on_train_start(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._validation += _read_watch(trainer) - self._validation_began
        else:
            self.on_train_end(trainer, pl_module)

    on_test_start = on_predict_start = on_train_start
    on_test_end = on_predict_end = on_train_end

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._write(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._began or self.report or not trainer.is_global_zero:
            return
        self._ended = self._ended or time.perf_counter()
        self.report = self._make_report(trainer, pl_module)
        if self._folder is not None:
            with written_beside(self._folder / FILE) as temporary:
                temporary.write_text(json.dumps(self.report, indent=2) + "\n", encoding="utf-8")

    def _make_report(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        total = self._ended - self._began
        spent = {name: value - self._before.get(name, 0.0) for name, value in _read_profiler(trainer).items()}
        parts = {"data": spent.get(MODES[self._stage], 0.0)}
        if self._stage == "fit":
            parts.update(validation=self._validation, saving=spent.get("saving", 0.0))
        else:
            parts.update(postprocessing=spent.get("postprocessing", 0.0))
        parts["step"] = max(total - sum(parts.values()), 0.0)
        batches = self._count_batches(trainer)
        return {
            "stage": self._stage,
            "batches": batches,
            "seconds": {"start": self._began - self._entered, "total": total, **parts},
            "share": {name: seconds / total if total else 0.0 for name, seconds in parts.items()},
            "seconds_per_step": parts["step"] / batches if batches else None,
            "memory": _read_memory(trainer.strategy.root_device),
            "advice": _advise(self._stage, parts, total, trainer, pl_module),
        }

    def _count_batches(self, trainer: Trainer) -> int | None:
        if self._stage == "fit":
            return trainer.fit_loop.total_batch_idx - self._first_batch
        count = sum(as_list(getattr(trainer, f"num_{MODES[self._stage]}_batches")))
        return int(count) if math.isfinite(count) else None

    def list_texts(self) -> list[str]:
        """The report as texts of a line: the parts, the largest first, with the peak of memory; the advice."""
        if not self.report:
            return []
        shares = sorted(self.report["share"].items(), key=lambda entry: -entry[1])
        parts = [f"{name} {share:.0%}" for name, share in shares if share >= 0.005]
        memory = [f"{mib / 1024:.1f} GB ({name})" for name, mib in self.report["memory"].items()]
        return [", ".join(parts), f"at most {', '.join(memory)}" if memory else "", self.report["advice"] or ""]


def _read_watch(trainer: Trainer) -> float:
    """Seconds on a watch that stands still while something is saved: callbacks do so within a validation, before or after us."""
    return time.perf_counter() - _read_profiler(trainer).get("saving", 0.0)


def _read_profiler(trainer: Trainer) -> dict[str, float]:
    """Seconds of the run so far by mode of the batches that were waited for, and by part."""
    profiler: PassThroughProfiler = trainer.profiler  # type: ignore[attr-defined]
    return {**profiler.measured, **{mode: profiler.count_waited(mode) for mode in MODES.values()}}


def read_peak_memory() -> int | None:
    """Bytes that this process has held at most; None where the system does not say (Windows).

    ``ru_maxrss`` begins, on Linux, with the memory of the process that started this one.
    """
    if STATUS.is_file():
        found = [line.split()[1] for line in STATUS.read_text().splitlines() if line.startswith("VmHWM")]
        if found:
            return int(found[0]) * 1024
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _read_memory(device: torch.device) -> dict[str, float]:
    """Peak in MiB of the process since it began, and of what torch allocated on the GPU."""
    memory = {}
    peak = read_peak_memory()
    if peak is not None:
        memory["process"] = peak / MIB
    if device.type == "cuda":
        memory["GPU"] = torch.cuda.max_memory_allocated(device) / MIB
    return memory


def _advise(
    stage: str, parts: dict[str, float], total: float, trainer: Trainer, pl_module: LightningModule
) -> str | None:
    """What to change where one part holds the others back; None where none does, or nothing is known to help."""
    mode = MODES[stage]
    slow = {name for name, seconds in parts.items() if seconds >= max(SECONDS, SHARE * total)}
    if "data" in slow:
        loader = getattr(pl_module, "dataloaders", {}).get(mode)
        return next(_advise_data(f"system::dataloaders::{mode}", loader, trainer), None)
    if "validation" in slow and trainer.check_val_every_n_epoch == 1:
        return "set trainer::check_val_every_n_epoch, to validate less often"
    if "postprocessing" in slow and stage != "fit":
        used = next((each.used for each in trainer.callbacks if isinstance(each, CasePool)), 0)  # type: ignore[attr-defined]
        if getattr(pl_module, "workers", None) == 0:
            return "leave out system::workers: 0: the network waits for each case to be finished"
        cores = _count_cores() // (trainer.world_size // trainer.num_nodes)
        transforms: Any = getattr(pl_module, "postprocessing", {})
        if (
            0 < used < cores and transforms.get(mode) is not None
        ):  # metrics and files have one thread, however many there are
            return f"set system::workers to {cores}, of which there are {used}"
    return None


def _advise_data(where: str, loader: Any, trainer: Trainer) -> Iterator[str]:
    if not isinstance(loader, DataLoader):
        return
    cores = _count_cores()
    if loader.num_workers == 0:
        yield f"set {where}::num_workers to {cores}: batches are made while no step runs"
    if trainer.strategy.root_device.type == "cuda" and not loader.pin_memory:
        yield f"set {where}::pin_memory to true"
    if not isinstance(loader.dataset, (CacheDataset, PersistentDataset)) and where.endswith("::train"):
        yield f"make {where}::dataset a CacheDataset: it keeps what comes before the first random transform"
    if loader.num_workers < cores:
        yield f"set {where}::num_workers to {cores}, of which there are {loader.num_workers}"


def _count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
