"""Hooks of a step at less cost: those that do nothing are not called, and a name that is set is not looked at."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor

from monai_lighter.internals import CURRENT_HOOK

__all__ = ["QuickHooks", "leave_out_idle_hooks"]

OF_STEP = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
"""Hooks that Lightning calls in each step of a fit, of every callback and of the module."""
KNOWN = ("monai_lighter.", "lightning.pytorch.")
"""Packages whose callbacks are known not to be called by anything but Lightning."""


def leave_out_idle_hooks(owner: Callback | LightningModule) -> None:
    """Has Lightning pass over those hooks of a training step that are empty, as Lightning's base class has them.

    Lightning calls whatever is callable. An attribute of the instance that is not callable hides the method from it, and from
    nobody's ``super()``. One that has been given to the class since an earlier run is called.
    """
    base: type = Callback if isinstance(owner, Callback) else LightningModule
    for name in OF_STEP:
        if getattr(type(owner), name) is getattr(base, name):
            vars(owner).setdefault(name, None)
        elif vars(owner).get(name, base) is None:
            del vars(owner)[name]


class QuickHooks(LightningModule):
    """A LightningModule whose hooks cost less, and those of the callbacks that are known.

    In all that is set, ``torch.nn.Module`` looks for parameters and modules: not in the name of the hook at work. Hooks of a step
    that are empty are not called; a callback of anybody else is called as ever.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == CURRENT_HOOK:
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Lightning's, which looks through a batch for what can be moved: plain tensors on the CPU need not be moved to it."""
        if device.type == "cpu" and type(batch) is dict and all(type(v) is Tensor and v.is_cpu for v in batch.values()):
            return {**batch}
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if type(callback).__module__.startswith(KNOWN):
                leave_out_idle_hooks(callback)
        leave_out_idle_hooks(self)
