"""Batches, items and tensors: what a batch holds, and plain tensors for those of MONAI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from monai.data import MetaTensor, decollate_batch
from monai.utils.enums import CommonKeys
from torch import Tensor

__all__ = ["as_list", "decollated", "detached", "item_count", "plain", "with_metadata"]


def plain(value: Any) -> Any:
    """Tensors for MetaTensors, also inside lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return value.as_tensor() if isinstance(value, MetaTensor) else value
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(plain(item) for item in value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def detached(value: Any) -> Any:
    """Tensors without graph, also inside lists, tuples and dicts; bfloat16, which NumPy does not have, as float32."""
    return _detached(value) if isinstance(value, Tensor) else apply_to_collection(value, Tensor, _detached)


def _detached(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.float() if tensor.dtype is torch.bfloat16 else tensor


def item_count(input: Any) -> int:
    """Number of items in a batch: rows of a tensor, of the first of several inputs; length of a list."""
    if isinstance(input, Tensor):
        return input.shape[0] if input.ndim else 1
    if isinstance(input, Mapping):
        return item_count(next(iter(input.values()), None))
    if isinstance(input, tuple) and input:
        return item_count(input[0])
    return len(input) if isinstance(input, list) else 1


def with_metadata(pred: Any, source: Any) -> Any:
    """The prediction as `MetaTensor` with the metadata and applied operations of the input, as under MONAI's engines.

    Args:
        pred: ``(B, …)``, or lists, tuples and dicts of such; what is no tensor with one row per input stays as it is.
        source: ``(B, …)`` input as it came from the loader.
    """
    if not isinstance(source, MetaTensor):
        return pred

    def described(tensor: Tensor) -> Tensor:
        if tensor.shape[:1] != source.shape[:1]:
            return tensor
        result = MetaTensor(tensor)
        result.copy_meta_from(source, copy_attr=False)
        return result

    return described(pred) if isinstance(pred, Tensor) else apply_to_collection(pred, Tensor, described)


def decollated(batch: Any, input: Any, target: Any, pred: Any) -> list[dict]:
    """A batch and its prediction as a list of items, each with the keys of the batch and ``pred``.

    Args:
        batch: what the loader gave; where it is no dict, items have ``image`` and ``label``.
        input, target: of the batch, ``(B, C, H, W[, D])``.
        pred: ``(B, C, H, W[, D])``, or a dict of such, whose entries then are keys of their own.
    """
    if isinstance(batch, Mapping):
        whole = dict(batch)
    else:
        whole = {CommonKeys.IMAGE: input}
        if target is not None:
            whole[CommonKeys.LABEL] = target
    whole.update(pred if isinstance(pred, Mapping) else {CommonKeys.PRED: pred})
    return decollate_batch(whole)


def as_list(value: Any, single: tuple[str, ...] = ()) -> list:
    """One thing, a list or a dict of them, as a list; a dict with one of the keys ``single`` counts as one thing."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [value] if any(key in value for key in single) else list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else [value]
