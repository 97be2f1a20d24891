"""Networks adapted: weights from files, layers replaced. Follows ``lighter.utils.model`` of Lighter 0.0.4."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any, Literal, NamedTuple

import torch
from torch.nn import Identity, Module, Sequential
from torch.nn.parameter import is_lazy

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
    strict: bool | Literal["fit"] = True,
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
        strict: every weight of the network must be in the file and the other way round. False: names that are on one side
            alone are left out, shapes must agree; taken for False where prefixes or ignored layers are given. ``fit``, to train
            a network on for other classes or channels: what has the name and the shape of a weight of the network is loaded,
            the rest stays as it was, and a warning says how much that is.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no name of the file is one of the network's, with ``fit`` no parameter of that name has its shape; an
            ignored layer is not in the file; another ``strict``.
        RuntimeError: the file does not fit the network, with numbers and three examples of what is missing, is too much or has
            another shape.
    """
    if strict not in (True, False, "fit"):
        raise ValueError(f"strict must be true, false or fit, got {strict!r}.")
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
            f"it holds {_name_some(state) or 'none'}; the network has {_name_some(own) or 'none'}."
        )
    misfits = _Misfits.between(state, own)
    if strict == "fit":
        state = {name: value for name, value in state.items() if name in own and name not in misfits.shapes}
        _report_fit(model, ckpt_path, state, misfits)
    elif misfits.shapes or (strict and not (ckpt_to_model_prefix or layers_to_ignore) and any(misfits)):
        hint = "With strict: fit what fits is loaded, to train on."
        raise RuntimeError(f"{ckpt_path} does not fit {type(model).__name__}: {misfits}. {hint}")
    elif any(misfits):
        logger.info(f"{ckpt_path}: {misfits}")
    model.load_state_dict(state, strict=False)
    return model


class _Misfits(NamedTuple):
    """Names of what does not fit between a file and a network; of shapes, the name to what they are."""

    missing: list[str]
    unexpected: list[str]
    shapes: dict[str, str]

    @classmethod
    def between(cls, state: Mapping[str, Any], own: Mapping[str, torch.Tensor]) -> _Misfits:
        shapes = {}
        for name in own:
            if name in state and not is_lazy(own[name]):  # a lazy layer takes any shape
                given, wanted = (tuple(getattr(part[name], "shape", ())) for part in (state, own))
                shapes.update({name: f"{name} {given} for {wanted}"} if given != wanted else {})
        return cls([name for name in own if name not in state], [name for name in state if name not in own], shapes)

    def __str__(self) -> str:
        kinds = {"not in the file": self.missing, "not in the network": self.unexpected}
        kinds["of another shape"] = [*self.shapes.values()]
        return "; ".join(f"{len(names)} {kind}: {_name_some(names)}" for kind, names in kinds.items() if names)


def _name_some(names: Iterable[str]) -> str:
    """Three of them, and whether there are more."""
    names = list(names)
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _report_fit(model: Module, ckpt_path: str | PathLike, taken: Mapping[str, Any], misfits: _Misfits) -> None:
    """Says what of a file is loaded, and what is not.

    Raises:
        ValueError: no parameter of the network is: statistics of its layers alone are no training.
    """
    name = type(model).__name__
    parameters = dict(model.named_parameters())
    if not parameters.keys() & taken.keys():
        raise ValueError(f"{ckpt_path} has nothing that fits {name}: {misfits}.")
    numbers = [sum(parameters[key].numel() for key in part if key in parameters) for part in (taken, parameters)]
    said = f"{ckpt_path}: {len(taken)} of {len(model.state_dict())} tensors of {name} loaded"
    share = f"{100 * numbers[0] / numbers[1]:.1f} % of its parameters"
    level = logging.WARNING if any(misfits) else logging.INFO
    logger.log(level, f"{said}, {share}{f'; left: {misfits}' if any(misfits) else ''}")


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
