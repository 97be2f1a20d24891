"""Networks adapted: weights from files, layers replaced. Follows ``lighter.utils.model`` of Lighter 0.0.4."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any

import torch
from torch.nn import Identity, Module, Sequential

__all__ = [
    "adjust_prefix_and_load_state_dict",
    "load_weights",
    "network_state_dict",
    "remove_n_last_layers_sequentially",
    "replace_layer_with",
    "replace_layer_with_identity",
]

logger = logging.getLogger(__name__)

SYSTEM_PREFIX = "model."


def network_state_dict(checkpoint: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """State dict of the network inside a checkpoint.

    Args:
        checkpoint: a plain state dict, a Lightning checkpoint (``state_dict``, of which the entries of ``System.model`` are
            taken and lose their leading ``model.``), or a dict that MONAI's ``CheckpointSaver`` wrote (``model`` or ``net``).
    """
    if "state_dict" in checkpoint:
        state = checkpoint["state_dict"]
        inner = {key[len(SYSTEM_PREFIX) :]: value for key, value in state.items() if key.startswith(SYSTEM_PREFIX)}
        return inner or dict(state)
    for name in ("model", "net", "network"):
        if isinstance(checkpoint.get(name), Mapping):
            return dict(checkpoint[name])
    return dict(checkpoint)


def load_weights(
    model: Module,
    ckpt_path: str | PathLike,
    ckpt_to_model_prefix: Mapping[str, str] | None = None,
    layers_to_ignore: Iterable[str] | None = None,
    strict: bool = True,
) -> Module:
    """Loads weights into a network and gives the network, so that it can stand in a config where a network is wanted.

    Follows ``lighter.utils.model.adjust_prefix_and_load_state_dict``. Only tensors are read from the file
    (``weights_only=True``).

    Args:
        model: the network.
        ckpt_path: a plain state dict, a Lightning checkpoint, or a checkpoint of MONAI's ``CheckpointSaver``.
        ckpt_to_model_prefix: renames leading parts of the names, such as ``{"encoder": "backbone.encoder"}``; what no prefix
            matches is left out.
        layers_to_ignore: names, after renaming, that are not loaded.
        strict: every weight of the network must be in the file and the other way round. Taken for False where prefixes or
            ignored layers are given.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no name of the file is one of the network's, or an ignored layer is not in the file.
    """
    state = network_state_dict(torch.load(ckpt_path, map_location="cpu", weights_only=True))
    if ckpt_to_model_prefix:
        state = _rename(state, ckpt_to_model_prefix)
    for name in layers_to_ignore or ():
        if name not in state:
            raise ValueError(f"layers_to_ignore must be names in {ckpt_path}, got {name!r}.")
        del state[name]
    own = model.state_dict()
    if not own.keys() & state.keys():
        raise ValueError(
            f"{ckpt_path} must hold weights of {type(model).__name__}, but shares no name with it: "
            f"it holds {', '.join(list(state)[:3]) or 'none'}, …; the network has {', '.join(list(own)[:3]) or 'none'}, …."
        )
    partial = ckpt_to_model_prefix or layers_to_ignore
    result = model.load_state_dict(state, strict=strict and not partial)
    if result.missing_keys or result.unexpected_keys:
        logger.info(f"{ckpt_path}: not loaded {result.unexpected_keys}; left as they were {result.missing_keys}")
    return model


def adjust_prefix_and_load_state_dict(
    model: Module,
    ckpt_path: str | PathLike,
    ckpt_to_model_prefix: Mapping[str, str] | None = None,
    layers_to_ignore: Iterable[str] | None = None,
) -> Module:
    """`load_weights` that takes what fits, under its name in Lighter 0.0.4."""
    return load_weights(model, ckpt_path, ckpt_to_model_prefix, layers_to_ignore, strict=False)


def _rename(state: dict[str, torch.Tensor], prefixes: Mapping[str, str]) -> dict[str, torch.Tensor]:
    renamed = {}
    for old, new in prefixes.items():
        old, new = (f"{prefix}." if prefix and not prefix.endswith(".") else prefix for prefix in (old, new))
        renamed.update({new + key[len(old) :]: value for key, value in state.items() if key.startswith(old)})
    return renamed


def replace_layer_with(model: Module, layer_name: str, new_layer: Module) -> Module:
    """The network with one layer replaced in place.

    Args:
        model: the network.
        layer_name: dotted name, such as ``layer4.fc``.
        new_layer: what takes its place.

    Raises:
        AttributeError: no such layer.
    """
    model.get_submodule(layer_name)
    parent, _, name = layer_name.rpartition(".")
    setattr(model.get_submodule(parent), name, new_layer)
    return model


def replace_layer_with_identity(model: Module, layer_name: str) -> Module:
    """`replace_layer_with` a ``torch.nn.Identity``."""
    return replace_layer_with(model, layer_name, Identity())


def remove_n_last_layers_sequentially(model: Module, num_layers: int = 1) -> Sequential:
    """The children of a network but the last ``num_layers``, one after another."""
    return Sequential(*list(model.children())[:-num_layers])
