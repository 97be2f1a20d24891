"""Signals that ask a run to end: it ends after the step, with a checkpoint to go on from."""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.trainer.states import TrainerFn
from lightning_utilities.core.rank_zero import rank_zero_only

from monai_lighter.internals import get_cluster_environment
from monai_lighter.system.checkpoints import ends_stretch, save_last
from monai_lighter.system.randomness import collect_random_numbers, restore_random_numbers

__all__ = ["RunStopped", "StopOnSignal"]

logger = logging.getLogger(__name__)

STOPS = (signal.SIGINT, signal.SIGTERM)
NOT_BEGUN = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
"""Progress by which Lightning takes a validation for one that was broken off, and has it done."""


class RunStopped(SystemExit):
    """A run that a signal has ended, with the exit code of a shell for it: 130 (SIGINT, Ctrl-C) or 143 (SIGTERM).

    Attributes:
        signal: that came.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(128 + signal_number)
        self.signal = signal.Signals(signal_number)


class StopOnSignal(Checkpoint):
    """Ends a run after the step in which SIGTERM or SIGINT (Ctrl-C) came; a fit leaves ``last.ckpt`` before.

    A second signal ends the process at once. SIGUSR1 has a fit save, and go on. Under SLURM the signal for that is the one of
    Lightning's ``SLURMEnvironment`` (``requeue_signal``), and the job is requeued, unless ``auto_requeue`` is false: Lightning's
    own handler saves in the middle of a step. All processes end after the same step. Validation in a fit is ended too: going
    on from the checkpoint begins it again. What is written by case is whole or not there.

    Where a validation or the end of an epoch follows a step, the checkpoint is made there: Lightning leaves them out after one of
    the step. `Workflow` adds this callback to every run of a native config.
    """

    def __init__(self) -> None:
        self._code = 0
        self._asked = self._requeues = False
        self._numbers: dict[str, Any] | None = None
        self._validates_again = False
        self._batches: list[int] = []
        self._former: dict[int, Any] = {}

    def _receive(self, number: int, frame: Any) -> None:
        if number not in STOPS:
            self._asked = True
            return
        if self._code:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._code = 128 + number

    @property
    def _is_called(self) -> bool:
        return self._asked or self._code > 0

    def _listen(self, trainer: Trainer) -> None:
        """Takes the signals, Lightning's SIGTERM among them: what it had is put back when the run is over."""
        if self._former or threading.current_thread() is not threading.main_thread():
            return
        environment, asks = get_cluster_environment(trainer), signal.SIGUSR1
        self._requeues = isinstance(environment, SLURMEnvironment) and environment.auto_requeue
        if isinstance(environment, SLURMEnvironment) and environment.requeue_signal is not None:
            asks = environment.requeue_signal
        numbers = [*STOPS, *([asks] if asks not in STOPS else [])]
        self._code, self._asked = 0, False
        self._former = {number: signal.signal(number, self._receive) for number in numbers}

    def _agree(self, trainer: Trainer) -> tuple[int, bool]:
        """What has come, to any process: the exit code of an end, and whether a checkpoint is asked for."""
        if trainer.world_size == 1:
            return self._code, self._asked
        received = torch.tensor([self._code, self._asked], device=trainer.strategy.root_device)
        code, asked = trainer.strategy.reduce(received, reduce_op="max").tolist()  # type: ignore[union-attr]
        return code, bool(asked)

    def _obey(self, trainer: Trainer) -> None:
        """Between two steps of a fit: saves where that is asked for, and ends the run where that is."""
        code, asked = self._agree(trainer)
        if not (code or asked):
            return
        path = self._save(trainer)
        if path is not None:
            _tell(f"checkpoint of step {trainer.global_step} to {path}")
        self._asked = False
        if asked and self._requeues:
            _requeue()
        if code:
            raise RunStopped(code - 128)

    def _save(self, trainer: Trainer) -> Path | None:
        return save_last(trainer)

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if ends_stretch(trainer, batch_idx):
            self._numbers = collect_random_numbers()  # before the loader of validation draws of them
        elif self._is_called or trainer.world_size > 1:
            self._obey(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._obey(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(trainer)
        self._batches = []
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._numbers = self._numbers or collect_random_numbers()
            self._batches = [_find_least(trainer, count) for count in trainer.num_val_batches]

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._numbers is None or not self._batches:
            self._end()
            return
        if not (self._is_called or trainer.world_size > 1) or batch_idx >= self._batches[dataloader_idx]:
            return
        now = collect_random_numbers()
        restore_random_numbers(self._numbers)
        self._validates_again = True
        try:
            self._obey(trainer)
        finally:
            self._validates_again = False
            restore_random_numbers(now)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._numbers = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._validates_again:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            progress["total"] = dict(NOT_BEGUN)
            progress["current"] = dict.fromkeys(NOT_BEGUN, 0)
            progress["is_last_batch"] = False

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(trainer)

    def on_test_batch_end(self, *args: Any) -> None:
        self._end()

    def on_predict_batch_end(self, *args: Any) -> None:
        self._end()

    def _end(self) -> None:
        """Ends this process's part of an evaluation: processes need not have equally many batches to agree after."""
        if self._asked and self._requeues:
            _requeue()
        self._asked = False
        if self._code:
            raise RunStopped(self._code - 128)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop_listening()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._stop_listening()

    def _stop_listening(self) -> None:
        former, self._former, self._numbers = self._former, {}, None
        for number, handler in former.items():
            if signal.getsignal(number) == self._receive:  # else Lightning has put back what was there before
                signal.signal(number, handler)


def _find_least(trainer: Trainer, batches: int | float) -> int:
    """The least number of batches that a process has of a loader; 0 where it is not known."""
    own = torch.tensor(int(batches) if math.isfinite(batches) else 0, device=trainer.strategy.root_device)
    return int(trainer.strategy.reduce(own, reduce_op="min"))  # type: ignore[arg-type]


@rank_zero_only
def _requeue() -> None:
    """Asks SLURM to begin this job again; it ends it first."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
    try:
        subprocess.run(["scontrol", "requeue", job], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        logger.warning(f"SLURM job {job} is not requeued: {error}")
    else:
        logger.info(f"SLURM job {job} is requeued")


@rank_zero_only
def _tell(message: str) -> None:
    logger.info(message)
