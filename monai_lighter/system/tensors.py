"""Tensors without the metadata of MONAI or the graph of autograd, and one thing or several as a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from monai.data import MetaTensor
from torch import Tensor

__all__ = ["as_list", "detach", "plain"]


def plain(value: Any) -> Any:
    """Tensors for MetaTensors, also inside lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return value.as_tensor() if isinstance(value, MetaTensor) else value
    if isinstance(value, (list, tuple)):
        parts = [plain(item) for item in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def detach(value: Any) -> Any:
    """Tensors without graph, also inside lists, tuples and dicts; bfloat16, which NumPy does not have, as float32."""
    return _detach(value) if isinstance(value, Tensor) else apply_to_collection(value, Tensor, _detach)


def _detach(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.float() if tensor.dtype is torch.bfloat16 else tensor


def as_list(value: Any, single: tuple[str, ...] = ()) -> list:
    """One thing, a list or a dict of them, as a list; a dict with one of the keys ``single`` counts as one thing."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [value] if any(key in value for key in single) else list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else [value]
