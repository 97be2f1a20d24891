"""Values that are not finite: the loss that stops a fit, and the cases that are named."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from torch import Tensor

from monai_lighter.errors import NonFiniteError
from monai_lighter.errors.cases import describe_batch, join_names
from monai_lighter.errors.diagnosis import describe_values, find_non_finite_rows, is_non_finite, name_rows
from monai_lighter.system.batches import count_cases, split_cases
from monai_lighter.system.processes import gather
from monai_lighter.system.tensors import plain

__all__ = ["FiniteLoss", "note_cases"]

logger = logging.getLogger(__name__)


class _UnjudgedLoss(NamedTuple):
    """A loss on its way to the CPU, and the batch it is of."""

    finite: Tensor
    copied: Any
    loss: Tensor
    batch: Any
    given: Mapping[str, Any]
    place: str


class FiniteLoss(LightningModule):
    """A LightningModule whose fit stops at the first loss that is not finite, before a weight is touched.

    It is the loss as the criterion gave it that is looked at, and not the gradients, nor the loss that a ``GradScaler`` has
    scaled: gradients that overflow in 16 bits are the scaler's to skip. On a device the answer is copied while the backward
    pass runs and is waited for after it has been queued, before the optimizer: the device never waits for the CPU. Of several
    processes all stop when one has such a loss, as the gradients of all are averaged.
    """

    _watched: _UnjudgedLoss | None = None

    def watch_loss(self, loss: Tensor, batch: Any, given: Mapping[str, Any], batch_idx: int) -> None:
        """Takes note of the loss of a training batch; `on_after_backward` judges it, on the CPU it is judged at once.

        Args:
            loss: scalar.
            batch: as the loader gave it.
            given: ``input`` and ``target``, of which those that are not finite are named.
            batch_idx: index of the batch in its epoch.

        Raises:
            NonFiniteError: on the CPU, a loss that is not finite.
        """
        shared = self.trainer.world_size > 1 and dist.is_available() and dist.is_initialized()
        on_cpu = loss.device.type == "cpu"
        if loss.numel() != 1 or (on_cpu and not shared and math.isfinite(loss.item())):
            return  # of a loss that is no scalar the backward pass says so
        finite = loss.detach().isfinite().all()
        if shared:
            finite = finite.to(torch.int32)
            dist.all_reduce(finite, dist.ReduceOp.MIN)
        copied = None
        if finite.is_cuda:
            finite, copied = finite.to("cpu", non_blocking=True), torch.cuda.Event()
            copied.record()
        place = f"epoch {self.current_epoch + 1}, batch {batch_idx + 1}"
        watched = _UnjudgedLoss(finite, copied, loss.detach(), batch, given, place)
        if on_cpu:
            _judge(watched)
        else:
            self._watched = watched

    def on_after_backward(self) -> None:
        watched = self._watched
        if watched is not None:
            self._watched = None
            _judge(watched)


def _judge(watched: _UnjudgedLoss) -> None:
    if watched.copied is not None:
        watched.copied.synchronize()
    if not watched.finite:
        raise NonFiniteError(_tell(watched))


def _tell(watched: _UnjudgedLoss) -> str:
    facts: list[str] = []
    if not watched.loss.isfinite().all():
        cases = join_names(describe_batch(watched.batch), "; ")
        facts = [f"cases: {cases}"] if cases else []
        facts += describe_values(watched.batch, watched.given) or [
            "input and target are finite: the cause is in the network, the loss or a learning rate that is too high"
        ]
    told = [line for part in gather(facts) for line in part]
    loss = (
        f"the loss is {watched.loss.float().sum().item():g}" if facts else "the loss of another process is not finite"
    )
    return "\n".join(
        [f"system::criterion: {loss} in {watched.place}. The fit ends with the weights as they were before.", *told]
    )


def note_cases(mode: str, batch: Any, identifiers: Any, input: Any, pred: Any) -> list[str] | None:
    """Names in the log the cases whose input or prediction is not finite.

    Args:
        mode: of the step.
        batch: as the loader gave it.
        identifiers: names of the items, or None.
        input: ``(B, C, H, W[, D])``, or lists or dicts of such.
        pred: as the network gave it.

    Returns:
        A note for each item of the batch, empty for those that are finite; None where all are.
    """
    of_input, of_pred = _find_cases(input, input), _find_cases(pred, input)
    if not of_input and not of_pred:
        return None
    names = [str(name) for name in identifiers] if identifiers is not None else name_rows(batch, input)
    notes = [""] * count_cases(input)
    for i in sorted(of_input | of_pred):
        held = [what for what, rows in (("input", of_input), ("prediction", of_pred)) if i in rows]
        notes[i] = f"{' and '.join(held)} not finite"
        logger.warning(
            f"{mode}: case {names[i] if i < len(names) else f'{i} of the batch'}: {notes[i]} (NaN or infinite)"
        )
    return notes


def _find_cases(value: Any, input: Any) -> set[int]:
    """Cases that are not finite, of a tensor ``(B, …)`` at once; what has no entry for each case is every case's."""
    if isinstance(value, Tensor) and value.shape[:1] == (count_cases(input),):
        return set(find_non_finite_rows(value))
    return {i for i, case in enumerate(split_cases(plain(value), input)) if is_non_finite(case)}
