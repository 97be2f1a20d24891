"""The networks of new bundles, and how large a patch and a batch they take in a given memory."""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.networks import nets

from monai_lighter.share.layout import SharingError
from monai_lighter.share.step_memory import estimate_step_memory

__all__ = [
    "CROPS",
    "NetworkPlan",
    "default_network",
    "in_gigabytes",
    "plan_classifier",
    "plan_segmenter",
    "render_network",
]

VOLUMES = {2: 2048**2, 3: 256**3}
"""By spatial dimensions, points of the patch that is made smaller until it fits (nnU-Net's)."""
SMALLEST = 4
"""Points that an axis keeps at the bottom of the network (nnU-Net's ``min_feature_map_size``)."""
LEAST = 16
"""Points of the axes of the smallest patch: `DynUNet` has two strides or more."""
SHARE = 0.8
"""Of the memory that is given, what tensors may take; the rest is for the work space of the device's libraries."""
CROPS = 2
"""Crops of a case in a batch."""
OF_DATA = 0.05
"""Share of all voxels that a batch has at most (nnU-Net's)."""
COARSER = 1.15
"""Factor of the spacing of a classification whose images do not fit."""
BATCHES = (4, 8, 16, 32)
GIB = 1 << 30


class NetworkPlan(NamedTuple):
    """A network, and what it is trained with.

    Attributes:
        network: ``network_def`` of the config.
        size: of the patch, or of the whole image, in voxels.
        spacing: in mm.
        batch: patches or images of a training step.
        memory: of that step, in bytes.
    """

    network: dict[str, Any]
    size: list[int]
    spacing: list[float]
    batch: int
    memory: int


def default_network(task: str, dims: int) -> dict[str, Any]:
    """``network_def`` of a bundle that knows nothing of its data."""
    if task == "segmentation":
        own: dict[str, Any] = {"channels": [16, 32, 64, 128], "strides": [2, 2, 2], "norm": "batch"}
        return {"_target_": "UNet", **_shared(dims, "@num_classes"), **own}
    own = {"init_features": 16, "growth_rate": 8, "block_config": [2, 2, 2]}
    return {"_target_": "DenseNet", **_shared(dims, "@num_classes" if task == "classification" else 1), **own}


def in_gigabytes(count: float) -> str:
    """``5.2 GB``, below 1 GB ``210 MB``."""
    return f"{count / GIB:.2g} GB" if count >= GIB else f"{count / (1 << 20):.0f} MB"


def _shared(dims: int, outputs: Any) -> dict[str, Any]:
    return {"spatial_dims": dims, "in_channels": "@num_channels", "out_channels": outputs}


def render_network(network: dict[str, Any]) -> str:
    """``network_def`` as YAML, a line each argument."""
    plain = {key: value if str(value).isalnum() else json.dumps(value) for key, value in network.items()}
    return "\n".join(["network_def:", *(f"  {key}: {value}" for key, value in plain.items())])


def plan_segmenter(
    sizes: np.ndarray, spacing: Sequence[float], channels: int, classes: int, memory: float, given: list[int] | None
) -> NetworkPlan:
    """A `DynUNet` (nnU-Net's network) with the largest patch that fits, and then the largest batch.

    As nnU-Net does (Isensee et al. 2021, Nature Methods 18; ``get_pool_and_conv_props``): the patch begins as a cube, in mm, cut
    to the median size, and loses where it is largest beside it; an axis is halved while it has 8 points and its spacing is within
    twice the finest, and has kernels of 3 from where its spacing is. A batch has two patches or more.

    Args:
        sizes: of the cases in voxels of that spacing, ``(N, dims)``.
        spacing: in mm.
        channels: of the images.
        classes: with the background.
        memory: of a training step, in bytes.
        given: a patch that is wanted, which is taken as it is.

    Raises:
        SharingError: the patch that is wanted does not fit the strides; nothing fits the memory.
    """
    usual = np.ceil(np.median(sizes, axis=0))
    patches = [given] if given else [*_list_patches(usual, spacing)]
    if given and given != (better := _plan_strides(given, spacing)[0]):
        problem = f"must be multiples of what the strides of the network divide, got {given}"
        raise SharingError.of("patch_size", problem, f'Use --patch_size "{json.dumps(better)}".')

    @cache
    def estimate(number: int, batch: int = CROPS) -> int:
        patch, *levels = _plan_strides(patches[number], spacing)
        return _estimate_segmenter(_dynunet(*levels), patch, channels, classes, batch)

    number = min(bisect_left(range(len(patches)), True, key=lambda n: estimate(n) <= SHARE * memory), len(patches) - 1)
    patch, *levels = _plan_strides(patches[number], spacing)
    taken = estimate(number)
    if taken > SHARE * memory:
        _refuse(taken, patch, memory)
    most = min(OF_DATA * sizes.prod(axis=1).sum() / math.prod(patch), CROPS * len(sizes) / 2)
    steps = (SHARE * memory - taken) // (estimate(number, 2 * CROPS) - taken)
    batch = int(CROPS * max(min(1 + steps, most // CROPS), 1))
    return NetworkPlan(_dynunet(*levels), patch, list(spacing), batch, estimate(number, batch))


def _list_patches(usual: np.ndarray, spacing: Sequence[float]) -> Iterator[list[int]]:
    """Patches from the largest to the smallest; each is made smaller where it is largest beside the median case."""
    edge = (VOLUMES[len(spacing)] * math.prod(spacing)) ** (1 / len(spacing))
    wanted = [max(min(round(edge / mm), int(size)), 1) for mm, size in zip(spacing, usual, strict=True)]
    while True:
        patch, _, strides = _plan_strides(wanted, spacing)
        yield patch
        if max(patch) <= LEAST:
            return
        axis = int(np.argmax(np.array(patch) / usual * (np.array(patch) > LEAST)))
        smaller = max(patch[axis] - math.prod(level[axis] for level in strides), LEAST)
        wanted = [*patch[:axis], smaller, *patch[axis + 1 :]]


def _refuse(taken: int, size: Sequence[int], memory: float) -> None:
    problem = f"{in_gigabytes(memory)} are not enough for a step with {size} voxels, which takes {in_gigabytes(taken)}"
    raise SharingError.of("memory", problem, f"Give {math.ceil(taken / SHARE / GIB * 10) / 10:g}GB or more.")


def _plan_strides(
    wanted: Sequence[int], spacing: Sequence[float]
) -> tuple[list[int], list[list[int]], list[list[int]]]:
    """The patch with axes that the strides divide, kernels and strides of each level."""
    kernels, strides = _halve(wanted, spacing)
    if len(strides) < 3:
        wanted = [max(size, LEAST) for size in wanted]
        kernels, strides = _halve(wanted, spacing)
    total = [math.prod(level[axis] for level in strides) for axis in range(len(spacing))]
    return [math.ceil(size / each) * each for size, each in zip(wanted, total, strict=True)], kernels, strides


def _halve(wanted: Sequence[int], spacing: Sequence[float]) -> tuple[list[list[int]], list[list[int]]]:
    sizes, mm = np.array(wanted), np.array(spacing, float)
    fine = mm / mm.min() < 2
    kernels, strides = [np.where(fine, 3, 1).tolist()], [[1] * len(mm)]
    while (able := sizes >= 2 * SMALLEST).any():
        halved = able & (mm / mm[able].min() < 2)
        sizes, mm = np.where(halved, np.ceil(sizes / 2).astype(int), sizes), np.where(halved, mm * 2, mm)
        fine |= mm / mm.min() < 2
        kernels.append(np.where(fine, 3, 1).tolist())
        strides.append(np.where(halved, 2, 1).tolist())
    return kernels, strides


def _dynunet(kernels: list[list[int]], strides: list[list[int]]) -> dict[str, Any]:
    levels = {"kernel_size": kernels, "strides": strides, "upsample_kernel_size": strides[1:]}
    return {"_target_": "DynUNet", **_shared(len(strides[0]), "@num_classes"), **levels}


def _estimate_segmenter(network: dict[str, Any], patch: list[int], channels: int, classes: int, batch: int) -> int:
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    shapes = ((batch, channels, *patch), (batch, 1, *patch))
    return estimate_step_memory(lambda: _build(network, channels, classes), loss, *shapes)


def _build(network: dict[str, Any], channels: int, classes: int) -> torch.nn.Module:
    known = {"@num_channels": channels, "@num_classes": classes}
    arguments = {key: known.get(str(value), value) for key, value in network.items() if key != "_target_"}
    return getattr(nets, network["_target_"])(**arguments)


def plan_classifier(
    task: str,
    sizes: np.ndarray,
    spacing: Sequence[float],
    channels: int,
    classes: int,
    memory: float,
    given: list[int] | None,
) -> NetworkPlan:
    """The network of a classification or regression, with images that hold all of every case: where these do not fit, of a
    coarser spacing.

    Args:
        task: ``classification`` or ``regression``.
        sizes: of the cases in voxels of that spacing, ``(N, dims)``.
        spacing: in mm.
        channels: of the images.
        classes: all of them.
        memory: of a training step, in bytes.
        given: a size that is wanted, which is taken as it is.

    Raises:
        SharingError: nothing fits the memory.
    """
    network = default_network(task, len(spacing))
    mm, largest = np.array(spacing, float), sizes.max(axis=0)

    def estimate(size: list[int], batch: int) -> int:
        wanted = ((batch,), torch.int64) if task == "classification" else ((batch, 1), torch.float32)
        loss = torch.nn.CrossEntropyLoss() if task == "classification" else torch.nn.MSELoss()
        return estimate_step_memory(lambda: _build(network, channels, classes), loss, (batch, channels, *size), *wanted)

    while True:
        size = given or [max(math.ceil(each), LEAST) for each in largest]
        taken = estimate(size, BATCHES[0])
        if taken <= SHARE * memory:
            break
        if given or max(size) <= LEAST:
            _refuse(taken, size, memory)
        mm, largest = mm * COARSER, largest / COARSER
    fitting = [n for n in BATCHES[1:] if n <= len(sizes) * OF_DATA * 2 and estimate(size, n) <= SHARE * memory]
    batch = max([BATCHES[0], *fitting])
    return NetworkPlan(network, size, [float(f"{each:.4g}") for each in mm], batch, estimate(size, batch))
