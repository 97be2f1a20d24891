"""Signals that ask a run to end: it ends after the step, with a checkpoint to go on from."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.trainer.states import TrainerFn
from lightning_utilities.core.rank_zero import rank_zero_only

from monai_lighter.system.checkpoints import ends_stretch, save_last
from monai_lighter.system.randomness import collect_random_numbers, restore_random_numbers

__all__ = ["RunStopped", "StopOnSignal"]

logger = logging.getLogger(__name__)

SAVE = 1
"""What the processes agree on where a checkpoint is asked for and no end; else it is the exit code."""
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

    A second signal ends the process at once. SIGUSR1 has a fit save, and go on; under SLURM the signal of its requeueing stays
    Lightning's. All processes end after the same step. Validation in a fit is ended too: going on from the checkpoint begins it
    again. What is written by case is whole or not there.

    Where a validation or the end of an epoch follows a step, the checkpoint is made there: Lightning leaves them out after one of
    the step. `Workflow` adds this callback to every run of a native config.
    """

    def __init__(self) -> None:
        self._received = 0
        self._numbers: dict[str, Any] | None = None
        self._validates_again = False
        self._batches: list[int] = []
        self._former: dict[int, Any] = {}

    def _receive(self, number: int, frame: Any) -> None:
        if number not in STOPS:
            self._received = self._received or SAVE
            return
        if self._received > SAVE:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._received = 128 + number

    def _listen(self, trainer: Trainer) -> None:
        """Takes the signals, Lightning's SIGTERM among them: what it had is put back when the run is over."""
        if self._former or threading.current_thread() is not threading.main_thread():
            return
        environment = trainer.strategy.cluster_environment if hasattr(trainer.strategy, "cluster_environment") else None
        numbers = [*STOPS, *([] if isinstance(environment, SLURMEnvironment) else [signal.SIGUSR1])]
        self._received = 0
        self._former = {number: signal.signal(number, self._receive) for number in numbers}

    def _agree(self, trainer: Trainer) -> int:
        """What has come, to any process."""
        if trainer.world_size == 1:
            return self._received
        received = torch.tensor(self._received, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(received, reduce_op="max"))  # type: ignore[arg-type]

    def _obey(self, trainer: Trainer) -> None:
        """Between two steps of a fit: saves where that is asked for, and ends the run where that is."""
        received = self._agree(trainer)
        if not received:
            return
        path = save_last(trainer)
        if path is not None:
            _tell(f"checkpoint of step {trainer.global_step} to {path}")
        self._received = 0 if received == SAVE else self._received
        if received > SAVE:
            raise RunStopped(received - 128)

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if ends_stretch(trainer, batch_idx):
            self._numbers = collect_random_numbers()  # before the loader of validation draws of them
        elif self._received or trainer.world_size > 1:
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
        if not (self._received or trainer.world_size > 1) or batch_idx >= self._batches[dataloader_idx]:
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
        if self._received > SAVE:
            raise RunStopped(self._received - 128)

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
def _tell(message: str) -> None:
    logger.info(message)
