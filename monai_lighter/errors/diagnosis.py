"""What a step that failed was given: the values and shapes that its parts do not take, with the case and what they do take.

Read on the way out of a failed step, so that reading it may take a while. Nothing here raises: what cannot be told is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from monai_lighter.errors.cases import describe_batch
from monai_lighter.errors.marks import Mark

__all__ = ["describe_shapes", "describe_values", "find_non_finite_rows", "is_non_finite", "list_facts", "name_rows"]

MOST_ENTRIES = 4
DIVISORS = (2, 4, 8, 16, 32, 64, 128)
CONVOLUTIONS = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
ON_VALUES = ("system::criterion", "system::metrics::", "system::postprocessing::")


def list_facts(mark: Mark, system: Any) -> list[str]:
    """What stands out in what the part was given, a line each.

    Args:
        mark: of the error.
        system: with ``model``, ``criterion`` and ``inferer`` where it has them.
    """
    facts: list[str] = []
    mode = mark.place.partition(" ")[0]
    with suppress(Exception):  # an accelerator that has failed gives no values any more
        if mark.part.startswith(ON_VALUES):
            facts += _check_labels(mark, getattr(getattr(system, "criterion", None), "ignore_index", None))
            facts += _check_output_size(mark, system)
            given = {name: mark.given.get(name) for name in ("input", "target")}
            facts += describe_values(
                mark.batch, {name: each for name, each in given.items() if not isinstance(each, list)}
            )
        elif mark.part in ("system::model", "system::inferer"):
            input = mark.given.get("input")
            facts += list(_check_dimensions(system.model, input)) or list(_check_size(system, input, mode))
    return facts


def describe_shapes(value: Any) -> str:
    """Shapes and types of the tensors in a value: ``(1, 2, 16, 16) float32``, in brackets those of a list or dict."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {describe_shapes(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        shown = [describe_shapes(each) for each in value[:MOST_ENTRIES]]
        return "[" + ", ".join([*shown, *(["…"] if len(value) > MOST_ENTRIES else [])]) + "]"
    return type(value).__name__


def name_rows(batch: Any, tensor: Any) -> list[str]:
    """What names the rows of a tensor of a step: the files of the entry of the batch whose data it is, else the cases."""
    entries = (
        batch if isinstance(batch, Mapping) else dict(enumerate(batch)) if isinstance(batch, (list, tuple)) else {}
    )
    for key, entry in entries.items():
        if isinstance(entry, Tensor) and isinstance(tensor, Tensor) and _share_data(entry, tensor):
            names = describe_batch({key: entry} if isinstance(batch, Mapping) else entry)
            if names:
                return names
    return describe_batch(batch)


def _share_data(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _name_row(names: Sequence[str], i: int) -> str:
    return names[i] if i < len(names) else f"item {i} of the batch"


def find_non_finite_rows(value: Any) -> list[int]:
    """Indices of the cases of a tensor ``(B, …)``, or of heads and inputs of such, that are not finite.

    One pass over the values, without a copy of them: of sums, which are not finite where a value is not; where a sum is not,
    the values themselves decide, as a sum can also be too large.
    """
    if isinstance(value, Tensor):
        value = value.as_tensor() if isinstance(value, MetaTensor) else value
        rows = value.flatten(1) if value.ndim > 1 else value.reshape(-1, 1)
        return [i for i in _find_suspects(rows) if not rows[i].isfinite().all()]
    if isinstance(value, Mapping):
        value = tuple(value.values())
    return sorted({i for each in value for i in find_non_finite_rows(each)}) if isinstance(value, (list, tuple)) else []


def is_non_finite(case: Any) -> bool:
    """Whether there is a value in one case, a tensor or lists, tuples and dicts of such, that is not finite."""
    if isinstance(case, Tensor):
        return bool(find_non_finite_rows(case.reshape(1, -1)))
    parts = case.values() if isinstance(case, Mapping) else case if isinstance(case, (list, tuple)) else ()
    return any(is_non_finite(part) for part in parts)


def _find_suspects(rows: Tensor) -> list[int]:
    """Rows ``(B, N)`` whose sum is not finite."""
    if not rows.is_floating_point() or not rows.numel():
        return []
    sums = rows.sum(1, dtype=torch.promote_types(rows.dtype, torch.float32)).tolist()
    return [i for i, total in enumerate(sums) if not math.isfinite(total)]


def describe_values(batch: Any, given: Mapping[str, Any]) -> list[str]:
    """A line for each case of the batch whose input or target holds values that are not finite.

    Args:
        batch: as the loader gave it.
        given: name to what a part was given: a tensor ``(B, …)``, or lists, tuples and dicts of such.
    """
    lines = []
    for name, value in given.items():
        names = name_rows(batch, value)
        for i in find_non_finite_rows(value):
            lines.append(f"the {name} of {_name_row(names, i)} is not finite{_count(value, i)}")
    return lines


def _count(value: Any, i: int) -> str:
    if not isinstance(value, Tensor):
        return ""
    nans, infinite, total = int(value[i].isnan().sum()), int(value[i].isinf().sum()), value[i].numel()
    return f": NaN in {nans} and infinite in {infinite} of {total} values"


def _check_labels(mark: Mark, ignored: Any) -> Iterator[str]:
    """Class indices outside of the classes of a prediction."""
    target, pred = mark.given.get("target"), mark.given.get("pred")
    if isinstance(pred, (list, tuple)) and pred and isinstance(pred[0], Tensor) and isinstance(target, Tensor):
        pred = pred[0]  # deep supervision
    if not isinstance(pred, Tensor) or not isinstance(target, Tensor) or pred.ndim < 2:
        return
    classes = pred.shape[1]
    is_index = target.ndim == pred.ndim - 1 or (target.ndim == pred.ndim and target.shape[1] == 1)
    if not is_index or classes < 2:
        return
    names = name_rows(mark.batch, target)
    for i, row in enumerate(target):
        values = [value for value in row.unique().tolist() if value != ignored and value == value]
        wrong = [value for value in values if not 0 <= value < classes or value != int(value)]
        if wrong:
            told = ", ".join(f"{value:g}" for value in wrong[:MOST_ENTRIES]) + (
                ", …" if len(wrong) > MOST_ENTRIES else ""
            )
            yield (
                f"{_name_row(names, i)} has the value {told}: with {classes} classes, 0 to {classes - 1} are allowed. "
                "Map the values (MapLabelValued), or give the network as many outputs"
            )


def _check_dimensions(model: nn.Module, input: Any) -> Iterator[str]:
    """An input of another number of spatial dimensions than the network's convolutions."""
    dims = next(
        (dims for module in model.modules() for kind, dims in CONVOLUTIONS.items() if isinstance(module, kind)), None
    )
    if isinstance(input, Tensor) and dims is not None and input.ndim != dims + 2:
        axes = ", ".join("HWD"[:dims])
        cure = "A series in time is no volume: choose one of its volumes, or take its last axis for channels"
        if input.ndim < dims + 2:
            channel = "EnsureChannelFirstd after LoadImaged, or ensure_channel_first: true in it"
            cure = f"Either the images lack their channel ({channel}), or spatial_dims of the network are of others"
        yield f"the network takes (B, C, {axes}), the input has {input.ndim} dimensions: {tuple(input.shape)}. {cure}"


def _check_size(system: Any, input: Any, mode: str, same_size: bool = False) -> Iterator[str]:
    """A size that the network's strides do not divide, with the nearest size that it takes."""
    if not isinstance(input, Tensor) or input.ndim < 3:
        return
    size, what = tuple(input.shape[2:]), "input"
    inferers = getattr(system, "inferer", {})
    roi = getattr(inferers.get(mode or next(iter(inferers), "")), "roi_size", None)
    if isinstance(roi, Sequence) and len(roi) == len(size):
        size, what = tuple(a if a > 0 else b for a, b in zip(roi, size, strict=True)), "roi_size"
    example = torch.empty(input.shape[:2] + size, dtype=input.dtype, device="meta")
    if _takes(system.model, example, same_size):
        return
    for divisor in DIVISORS:
        larger = tuple(-(-length // divisor) * divisor for length in size)
        if larger != size and _takes(system.model, example.new_empty(input.shape[:2] + larger), same_size):
            yield (
                f"the network does not take the {what} {size}, it takes {larger}: multiples of {divisor}. "
                f"Pad or crop to it (DivisiblePadd(k={divisor})), or choose such patches (roi_size)"
            )
            return


def _check_output_size(mark: Mark, system: Any) -> Iterator[str]:
    """A prediction of another size than input and target have: some networks round a size that their strides do not divide."""
    sizes = [value.shape[2:] for name in ("input", "pred") if isinstance(value := mark.given.get(name), Tensor)]
    target = mark.given.get("target")
    if len(set(sizes)) == 2 and isinstance(target, Tensor) and target.shape[-len(sizes[0]) :] == sizes[0]:
        yield from _check_size(system, mark.given["input"], mark.place.partition(" ")[0], same_size=True)


def _takes(model: nn.Module, example: Tensor, same_size: bool) -> bool:
    """Whether a network takes an input, tried without its weights: on the meta device nothing is computed or changed.

    Args:
        model: the network.
        example: ``(B, C, H, W[, D])`` on the meta device.
        same_size: its output must be of the size of the input.
    """
    state = {
        name: torch.empty_like(value, device="meta")
        for name, value in [*model.named_parameters(), *model.named_buffers()]
    }
    try:
        with torch.no_grad():
            output = torch.func.functional_call(model, state, (example,))
    except Exception:
        return False
    return not same_size or getattr(output, "shape", ())[2:] == example.shape[2:]
