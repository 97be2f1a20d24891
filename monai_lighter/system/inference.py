"""From input to prediction, and from prediction to finished items."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from monai.inferers import PatchInferer, SaliencyInferer, SlidingWindowInferer
from torch import Tensor
from torch.nn import Module

from monai_lighter.ensemble import average_members, list_turns
from monai_lighter.flip_inferer import FlipInferer, find_inner, gives_label_maps
from monai_lighter.label_inferer import SlidingWindowLabelInferer
from monai_lighter.system.tensors import plain

__all__ = ["infer", "keep", "list_arguments"]


def infer(inferer: Callable | None, input: Any, model: Any, **kwargs: Any) -> Any:
    """Prediction of the model, through a MONAI ``Inferer`` where there is one.

    The members of an `Ensemble` that take turns each see the whole input, but for label maps, whose inferer has them do so.
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
    if len(list_turns(model)) > 1 and not gives_label_maps(inferer) and not isinstance(inferer, SaliencyInferer):
        return average_members(model, lambda member: infer(inferer, input, member, **kwargs))
    if isinstance(inferer, SaliencyInferer):
        with torch.inference_mode(False), torch.enable_grad():
            return plain(inferer(plain(input).clone(), model, **kwargs)).detach()
    inner = find_inner(inferer)
    if isinstance(inner, PatchInferer) and inner.splitter is None:
        return plain(inferer(input, model, **kwargs))
    return plain(inferer(plain(input), model, **kwargs))


def keep(inferer: Callable | None, pred: Any) -> Any:
    """A prediction that stays as it is when the next one is made.

    A network may give each in the same memory, as those of ``monai.networks.trt_compile`` and of CUDA graphs do: its tensors
    are copied, but where an inferer has put windows together, or taken a mean, in memory of its own.
    """
    if isinstance(inferer, (SlidingWindowInferer, SlidingWindowLabelInferer, FlipInferer)):
        return pred
    return apply_to_collection(pred, Tensor, Tensor.clone)


def list_arguments(model: Module) -> set[str]:
    """Names of the arguments of a model's ``forward``; none for a traced TorchScript module, which does not tell them."""
    try:
        return set(inspect.signature(model.forward).parameters)
    except ValueError:
        return set()
