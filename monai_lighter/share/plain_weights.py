"""Weights as a bundle hands them on: plain state dicts."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch

from monai_lighter.models import network_state_dict
from monai_lighter.share.layout import SharingError
from monai_lighter.study.study_folder import list_outside_studies
from monai_lighter.system.tensors import plain

__all__ = ["find_checkpoint_to_share", "name_metric", "read_best", "read_checkpoint", "write_plain_weights"]

ESCAPES = re.compile(r"\x1b\[[\d;]*m")
"""Colours of a terminal, which PyTorch puts into its messages."""
ADVICE = "weights_only"
"""In the lines of its messages that advise to do without."""


def read_checkpoint(file: Path) -> Any:
    """Read a checkpoint to the CPU, with ``weights_only=True`` and never otherwise.

    Raises:
        SharingError: the file is broken, or holds other objects than tensors and plain values.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, TypeError, ValueError) as error:
        texts = map(str.strip, ESCAPES.sub("", str(error)).splitlines())
        lines = [text for text in texts if text and ADVICE not in text]
        reason = next((line for line in lines if "Unsupported" in line), (lines or [type(error).__name__])[0])
        reason = reason.partition("Please")[0][:200].rstrip(". ")
        hint = "Give --weights a file of tensors alone; see monai_lighter.ModelWeights."
        raise SharingError.of("weights", f"{file} cannot be read with weights_only=True: {reason}", hint) from error


def write_plain_weights(source: Path, target: Path) -> None:
    """Write the network's state dict of a checkpoint of any kind, alone, contiguous, on the CPU: the same bytes each time.

    Raises:
        SharingError: `read_checkpoint`, or there is no tensor in it.
    """
    checkpoint = read_checkpoint(source)
    state = network_state_dict(checkpoint) if isinstance(checkpoint, dict) else {}
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise SharingError.of("weights", f"{source} holds no state dict of a network", "Give --weights another file.")
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save({name: plain(value).detach().contiguous().clone() for name, value in tensors.items()}, target)


def find_checkpoint_to_share(root: Path) -> Path | None:
    """Find the Lightning checkpoint below a directory that was written last, but for those of studies."""
    files = list_outside_studies(root, "checkpoints/*.ckpt")
    return max(files, key=lambda path: (path.stat().st_mtime_ns, path.name), default=None)


def read_best(checkpoint: Path) -> dict[str, float]:
    """Read the key metric of the run that wrote a Lightning checkpoint, as `ModelWeights` keeps it: ``{"val_dice": 0.93}``.

    Raises:
        SharingError: `read_checkpoint`.
    """
    state = read_checkpoint(checkpoint)
    callbacks = state.get("callbacks") if isinstance(state, dict) else None
    for name, values in (callbacks or {}).items():
        if name.startswith("ModelWeights") and values.get("best") is not None:
            return {name_metric(values["monitor"]): round(float(values["best"]), 4)}
    return {}


def name_metric(monitor: str) -> str:
    """Name of a metric in metadata: ``val_dice`` for ``val/metrics/dice/epoch``."""
    return "_".join(part for part in monitor.split("/") if part not in ("metrics", "epoch", "total"))
