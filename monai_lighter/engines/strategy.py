"""How a Trainer treats the networks and optimizers of an engine: it leaves them where the engine has them."""

from __future__ import annotations

import signal
import threading
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import SingleDeviceStrategy

__all__ = ["EnginePrecision", "InPlaceStrategy"]


class InPlaceStrategy(SingleDeviceStrategy):
    """One process, one device: that of the engine.

    Nothing is moved, neither at the start (a config moves its networks itself) nor at the end (it may go on to use them). Where
    the bundle has begun a process group and wrapped its networks itself (``multi_gpu_train`` under ``torchrun``), each process
    is a run of its own here, and only the first writes what Lightning writes. SIGTERM ends the process as it did before.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.global_rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        self._on_sigterm = signal.getsignal(signal.SIGTERM)

    @property
    def is_global_zero(self) -> bool:
        return self.global_rank == 0

    def on_train_start(self) -> None:
        self._restore_sigterm()

    def on_validation_start(self) -> None:
        self._restore_sigterm()

    def _restore_sigterm(self) -> None:
        """Undoes the handler of a Trainer that has begun, which would let the batch end first."""
        if self._on_sigterm is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def model_to_device(self) -> None:
        """Networks are where the engine's config put them."""

    def teardown(self) -> None:
        self.precision_plugin.teardown()
        if self.accelerator is not None:
            self.accelerator.teardown()
        self.checkpoint_io.teardown()


class EnginePrecision(MixedPrecision):
    """The scaling of gradients of an engine with ``amp``, by its own ``GradScaler``; its step decides what is autocast."""

    def __init__(self, scaler: torch.amp.GradScaler) -> None:
        super().__init__("16-mixed", "cuda", scaler)

    def forward_context(self) -> Any:
        return nullcontext()
