"""The memory that a step of training takes, told without taking it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from monai_lighter.internals import observe_results

__all__ = ["estimate_step_memory"]

MOMENTS = 2
"""What AdamW keeps of each weight."""


def estimate_step_memory(
    build: Callable[[], nn.Module],
    criterion: nn.Module,
    image: Sequence[int],
    target: Sequence[int],
    target_type: torch.dtype = torch.float32,
) -> int:
    """Bytes of all tensors of a step of training at its peak: weights, gradients, the moments of AdamW, and what forward,
    loss and backward hold.

    The step is done on torch's ``meta`` device, whose tensors have shapes and no values, with a look at every storage that an
    operation makes and that is let go. Work space of the device's own libraries, and Python itself, are not counted.

    Args:
        build: gives the network, in float32.
        criterion: called with the network's output and the target.
        image: shape of the input, ``(B, C, H, W[, D])``.
        target: shape of the target.
        target_type: of its values.
    """
    counted = _LiveBytes()
    with observe_results(counted.observe):
        with torch.device("meta"):
            network = build().train()
        weights = counted.live
        output = network(torch.empty(*image, device="meta"))
        criterion(output, torch.empty(*target, dtype=target_type, device="meta")).backward()
    return counted.peak + MOMENTS * weights


class _LiveBytes:
    """Bytes of the storages that are alive, and the most that they have been."""

    def __init__(self) -> None:
        self.live = self.peak = 0
        self.known: set[int] = set()

    def observe(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if tensor.is_meta and id(storage) not in self.known:
            self.known.add(id(storage))
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._forget, id(storage), storage.nbytes()).atexit = False

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size
