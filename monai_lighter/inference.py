"""From input to prediction, and from prediction to finished items."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from monai.data import MetaTensor, decollate_batch
from monai.inferers import PatchInferer, SaliencyInferer
from monai.utils.enums import CommonKeys
from torch import Tensor
from torch.nn import Module

from monai_lighter.metrics import plain

__all__ = ["argument_names", "decollated", "detached", "infer", "item_count", "with_metadata"]


def infer(inferer: Callable | None, input: Any, model: Module, **kwargs: Any) -> Any:
    """Prediction of the model, through a MONAI ``Inferer`` where there is one.

    Networks get plain tensors. A `SaliencyInferer` needs gradients, which Lightning's evaluation loops turn off: they are
    turned on for it. A `PatchInferer` without splitter needs the metadata, which hold the places of the patches.

    Args:
        inferer: called as ``inferer(input, model, **kwargs)``.
        input: ``(B, C, H, W[, D])``, or whatever the model takes.
        model: the network.
        kwargs: for the network.
    """
    if inferer is None:
        return plain(model(plain(input), **kwargs))
    if isinstance(inferer, SaliencyInferer):
        with torch.inference_mode(False), torch.enable_grad():
            return plain(inferer(plain(input).clone(), model, **kwargs)).detach()
    if isinstance(inferer, PatchInferer) and inferer.splitter is None:
        return plain(inferer(input, model, **kwargs))
    return plain(inferer(plain(input), model, **kwargs))


def argument_names(model: Module) -> set[str]:
    """Names of the arguments of a model's ``forward``; none for a traced TorchScript module, which does not tell them."""
    try:
        return set(inspect.signature(model.forward).parameters)
    except ValueError:
        return set()


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
