"""Cases are postprocessed, measured and saved in threads while the network computes the next ones."""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import copy_context
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torchmetrics import Metric

from monai_lighter.errors.marks import mark_batch
from monai_lighter.system.profiler import FINISHING
from monai_lighter.system.saving import find_savers
from monai_lighter.system.step_outputs import CaseJob, StepOutputs
from monai_lighter.system.threads import copy_transform, find_joint, find_random, find_unknown

__all__ = ["CasePool", "check_workers", "count_workers", "read_free_memory"]

logger = logging.getLogger(__name__)

MOST = 4
"""Threads by default, where cores and memory are for more."""
MEMORY_OF_CASE = 4 * 2**30
"""Bytes of memory that there must be for each thread, by default."""
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
"""Of a Trainer: those whose step leaves alone what all threads share, torch's default dtype."""


def check_workers(workers: Any) -> int | None:
    """The number of threads as it was given.

    Raises:
        ValueError: neither None nor a whole number from 0.
    """
    if workers is None or (isinstance(workers, int) and not isinstance(workers, bool) and workers >= 0):
        return workers
    raise ValueError(
        "system::workers: must be a number of threads, 0 (each case is finished before the next one is begun) or null, got "
        f"{workers!r}."
    )


def count_workers(processes: int = 1) -> int:
    """Threads by default: one for each core and for each 4 GiB of memory that is free, at most 4.

    Args:
        processes: of the run, on this machine.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST, max(1, cores // processes), read_free_memory() // MEMORY_OF_CASE // processes)


def read_free_memory() -> int:
    """Bytes of memory that programs can still have; where the system does not say, those of `MOST` cases."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return MOST * MEMORY_OF_CASE


class CasePool(Callback):
    """Threads that finish the cases of validation, test and prediction of a `System`, while it computes the next ones.

    Of each batch the postprocessing runs in one of ``workers`` threads, each with a copy of the transforms. What has an order
    (metrics, the logging adapter, and what callbacks do with `when_ready`: tables, files of a `FileWriter`) runs in one more
    thread, batch after batch. At most ``workers + 2`` batches are held at a time, that of the network among them. With the last
    batch of each loader all are waited for, so that nothing is under way when an epoch ends. When a run ends by an error, the
    cases before it are finished; when it ends by a signal, those that have not been begun are dropped.

    Where the results would not be those of one thread, or cannot be known to be, there is none, and the log says why.

    Args:
        workers: threads; 0 for none; None for `count_workers`, and none where a part is not MONAI's, torchmetrics' or this
            package's.

    Attributes:
        used: threads of the mode that ran last.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._given = workers
        self.used = 0
        self._told: set[str] = set()
        self._forget()

    def _forget(self) -> None:
        self._workers: int | None = None
        self._profile: Callable[[str], AbstractContextManager] = nullcontext
        self._numbers_cases = False
        self._executors: list[ThreadPoolExecutor] = []
        self._copies: list[Any] = []
        self._pending: deque[CaseJob] = deque()
        self._next: CaseJob | None = None
        self._error: BaseException | None = None

    def begin(self, system: Any, mode: str, names: Any) -> bool:
        """Whether the cases of the step that begins may be handed over; waits until there is room for them.

        Args:
            system: whose step it is.
            mode: ``val``, ``test`` or ``predict``.
            names: file names of the cases, or None.

        Raises:
            Exception: of the first case that has failed.
        """
        if self._workers is None:
            self._open(system, mode)
        if not self._workers or (self._numbers_cases and names is None):  # SaveImaged counts cases without names
            self.drain()
            return False
        self.start()
        while self._pending and (len(self._pending) > self._workers + 1 or self._is_done(self._pending[0])):
            self.wait(self._pending.popleft())
        return True

    @staticmethod
    def _is_done(job: CaseJob) -> bool:
        return job.future is not None and job.future.done()

    def submit(
        self, known: dict[str, Any], postprocess: Callable, complete: Callable, batch: Any, place: str
    ) -> StepOutputs:
        """Hands a batch over, and gives its outputs. It is begun when callbacks have seen them (`end_step`).

        Args:
            known: all entries, in their order, with anything for those that ``complete`` gives.
            postprocess, complete, batch, place: as `CaseJob` has them.
        """
        self._next = CaseJob(known, postprocess, complete, batch, place)
        return StepOutputs(known, self._next, self)

    def start(self) -> None:
        """Begins the batch that was handed over last."""
        job, self._next = self._next, None
        if job is not None and job.future is None:
            threads, lane = self._executors
            postprocessed = threads.submit(copy_context().run, self._postprocess, job)
            job.future = lane.submit(copy_context().run, self._complete, job, postprocessed)
            self._pending.append(job)

    def wait(self, job: CaseJob) -> dict[str, Any]:
        """The entries of a batch that were missing, and all that callbacks do with it done.

        Raises:
            Exception: of the first case that has failed.
        """
        if job.future is None:
            self.start()
        if job.future is not None:
            with self._profile(FINISHING):
                job.future.result()
        if self._error is not None:
            raise self._error
        return job.values

    def drain(self) -> None:
        """Waits for all batches.

        Raises:
            Exception: of the first case that has failed.
        """
        self.start()
        while self._pending:
            self.wait(self._pending.popleft())

    def end_step(self, trainer: Trainer, batch_idx: int, dataloader_idx: int) -> None:
        """Begins the batch of a step, which callbacks have seen; waits for all where it is the last of its loader."""
        self.start()
        if self._pending and _ends_loader(trainer, batch_idx, dataloader_idx):
            self.drain()

    def _postprocess(self, job: CaseJob) -> None:
        if self._error is None:
            transform = self._copies.pop()
            try:
                with job.state.entered():
                    job.items = job.postprocess(transform)
            finally:
                self._copies.append(transform)

    def _complete(self, job: CaseJob, postprocessed: Future) -> None:
        try:
            postprocessed.result()
            if self._error is None:
                with job.state.entered():
                    job.values = job.complete(*job.items)
                with job.loop_state.entered():
                    for function in job.then:
                        function({**job.known, **job.values})
        except BaseException as error:
            if self._error is None:
                mark_batch(error, job.batch, job.place)
                self._error = error
        finally:
            job.forget()

    def _open(self, system: Any, mode: str) -> None:
        workers = (
            count_workers(system.trainer.world_size // system.trainer.num_nodes) if self._given is None else self._given
        )
        transform = system.postprocessing.get(mode)
        self._workers = self.used = 0
        self._profile = system.trainer.profiler.profile
        if not workers or not (transform is not None or mode == "predict" or system.metrics[mode].names):
            return
        reason = self._find_reason(system, mode)
        if reason is None:
            try:
                self._copies = [copy_transform(transform) for _ in range(workers)]
            except Exception as error:
                reason = f"a copy of postprocessing for each thread cannot be made ({type(error).__name__}: {error})"
        if reason is not None:
            self._tell(f"system::workers: {mode} finishes each case before the next one: {reason}")
            return
        self._workers, self._numbers_cases = workers, any(find_savers(transform))
        self.used = workers
        self._executors = [ThreadPoolExecutor(workers, "postprocessing"), ThreadPoolExecutor(1, "metrics")]

    def _find_reason(self, system: Any, mode: str) -> str | None:
        """Why the cases of a mode are not finished in threads; None where they are."""
        trainer = system.trainer
        if trainer.precision not in PRECISIONS:
            return f"precision {trainer.precision} changes torch's default dtype, for all threads"
        if mode == "predict" and trainer.predict_loop.return_predictions:
            return "all predictions are kept (return_predictions)"
        metrics = [system.metrics[mode][name] for name in system.metrics[mode].names] if mode != "predict" else []
        counted = next((type(metric).__name__ for metric in metrics if isinstance(metric, Metric)), None)
        if counted is not None:
            return f"{counted} of torchmetrics logs a value in each step"
        adapters = [system.adapters[mode][name] for name in ("metrics", "logging")]
        parts = [system.postprocessing.get(mode), adapters, metrics]
        random, unknown = find_random(parts), None if self._given else find_unknown(parts)
        joint = find_joint(system.postprocessing.get(mode))
        if joint is not None:
            return f"{joint} in it writes one file for all cases"
        if random is not None:
            return f"{random} in it draws random numbers"
        if unknown is not None:
            return f"{unknown} may not be for threads; if it is, set system::workers to their number"
        return None

    def _tell(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            logger.log(logging.INFO if self._given is None else logging.WARNING, message)

    def _close(self) -> None:
        """Ends the threads: the cases that they are at are finished, those that they have not begun are dropped."""
        for executor in self._executors:
            executor.shutdown(cancel_futures=executor is self._executors[0])
        self._forget()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.drain()
        self._close()

    on_test_epoch_end = on_predict_epoch_end = on_validation_epoch_end

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._error is None and not isinstance(exception, (SystemExit, KeyboardInterrupt)):
            with suppress(Exception):  # the exception of the run is told, and that of a case below
                self.drain()
        error = self._error
        self._close()
        if error is not None and error is not exception:
            logger.error(f"a case before that failed too: {error}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._close()


def _ends_loader(trainer: Trainer, batch_idx: int, dataloader_idx: int) -> bool:
    """Whether a batch is the last of its loader. The iterator over the next one may begin processes, beside which no thread may
    be at work; of several loaders without length it is not known before, and each batch counts as the last."""
    loop: Any
    counts: Any
    if trainer.predicting:
        loop, counts = trainer.predict_loop, trainer.num_predict_batches
    elif trainer.testing:
        loop, counts = trainer.test_loop, trainer.num_test_batches
    else:
        fits = trainer.state.fn == TrainerFn.FITTING
        loop = trainer.fit_loop.epoch_loop.val_loop if fits else trainer.validate_loop
        counts = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
    if loop.batch_progress.is_last_batch:
        return True
    return len(counts) > 1 and (batch_idx + 1 >= counts[dataloader_idx] or math.isinf(counts[dataloader_idx]))
