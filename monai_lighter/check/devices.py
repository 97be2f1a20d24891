"""Devices that a config asks for and that this machine does not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning.pytorch.accelerators import AcceleratorRegistry, CUDAAccelerator, MPSAccelerator
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.config.items import is_computed, is_text, located
from monai_lighter.errors import Finding, Note

__all__ = ["find_absent_devices"]

AUTO, CPU, CUDA, GPU, MPS = "auto", "cpu", "cuda", "gpu", "mps"
EVERYWHERE = "Write accelerator: auto, which takes what there is, or cpu."


def find_absent_devices(config: dict, section: str) -> Iterator[Finding]:
    """A finding for an accelerator that there is not, and a `Note` for one, or for devices, that this machine does not have.

    Args:
        config: macros expanded.
        section: id of the keywords of the Trainer.
    """
    where, name = located(config, f"{section}{ID_SEP_KEY}accelerator")
    if not is_text(name) or name.lower() == AUTO:
        return
    known = AcceleratorRegistry.available_accelerators()
    name = name.lower()
    if name not in (*known, GPU):
        kind, _, index = name.partition(":")
        hint = (
            f"Write accelerator: {GPU if kind == CUDA else kind}, devices: [{index}]."
            if index.isdigit()
            else EVERYWHERE
        )
        yield Finding(where, f"must be one of {', '.join(sorted([*known, GPU, AUTO]))}, got {name!r}", hint)
        return
    count = _count(name)
    if count == 0:
        there = [CPU, *(kind for kind in (CUDA, MPS) if _count(kind))]
        yield Note(where, f"{name!r} is not on this machine, which has {', '.join(there)}", EVERYWHERE)
        return
    at, devices = located(config, f"{section}{ID_SEP_KEY}devices")
    wanted = _count_wanted(devices)
    if count is not None and wanted is not None and wanted > count:
        problem = f"this machine has {count} of {name!r}, got {devices!r}"
        yield Note(at, problem, "Write auto for all of them, or fewer.")


def _count(name: str) -> int | None:
    """How many devices of an accelerator there are; None where they are not counted."""
    if name == CPU:
        return None
    if name == GPU:
        return _count(MPS) or _count(CUDA)
    kinds: dict[str, Any] = {CUDA: CUDAAccelerator, MPS: MPSAccelerator}
    kind: Any = kinds.get(name) or AcceleratorRegistry[name]["accelerator"]
    if not kind.is_available():
        return 0
    return kind.auto_device_count() if name == CUDA else None


def _count_wanted(devices: Any) -> int | None:
    """How many devices there must be for a number of them, or for the last of their indices."""
    if isinstance(devices, str) and not is_computed(devices) and devices.isdigit():
        devices = int(devices)
    if isinstance(devices, int) and not isinstance(devices, bool):
        return devices
    if isinstance(devices, list) and devices and all(isinstance(index, int) for index in devices):
        return max(devices) + 1
    return None
