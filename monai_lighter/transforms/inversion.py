"""The label map of a prediction on the grid of its source, without interpolating what does not decide it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import USE_COMPILED
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.networks.utils import to_norm_affine
from monai.transforms import (
    BorderPadd,
    CenterSpatialCropd,
    Compose,
    CropForegroundd,
    DivisiblePadd,
    Flipd,
    Invertd,
    InvertibleTransform,
    MapTransform,
    Orientationd,
    Rotate90d,
    Spacingd,
    SpatialCropd,
    SpatialPadd,
    TraceableTransform,
)
from monai.utils.enums import TraceKeys
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

__all__ = ["InvertArgmaxd"]

MOVES = (
    *(Orientationd, Flipd, Rotate90d),
    *(SpatialPadd, BorderPadd, DivisiblePadd, CropForegroundd, SpatialCropd, CenterSpatialCropd),
)
"""Transforms whose inverse moves voxels, drops some or adds zeros, so that it is the same before the argmax and after it."""
MARGIN = 1e-5
"""Of the largest value: by how much a class must lead in all corners of a cell to win within it, whatever is rounded there. What
interpolation rounds is at most 1.2e-6 of it in float32."""
SLACK = 1e-3
"""Of a voxel: how far from where a point was computed its cell is looked for. Rounding moves it by less, up to 10,000 voxels."""
ROWS = 64
"""Points from which on torch multiplies matrices as it does for a whole volume; fewer may be rounded in another way."""
CHUNK = 65536
"""Points that are computed at a time, so that they stay in the cache."""


class InvertArgmaxd(Invertd):
    """``Invertd`` and then ``AsDiscreted`` with ``argmax: true``, in one: the same label map, voxel for voxel.

    Where the resampling of a ``Spacingd`` is inverted with ``nearest_interp: false``, MONAI interpolates every class at every
    voxel of the source, in float64, and then compares them. A class that leads at all eight corners of a cell also leads at
    every point between them, as the weights are the same for all classes and none is negative. So only voxels of cells whose
    corners differ, or hardly differ in their first two classes, are interpolated here (by the same function at the same
    points), one class at a time; memory does not grow with classes x voxels of the source.

    What cannot be done so is interpolated as a whole, as MONAI does it: other interpolation or padding (``Spacingd`` has bilinear
    and border unless told), images ``(C, H, W)``, several resamplings or ones other than ``Spacingd``, transforms before it
    that can be inverted and do more than move voxels, values that are not finite, and devices other than the CPU.

    Takes items with ``keys`` of shape ``(C, H, W[, D])``, probabilities or logits, and gives ``(1, H, W[, D])`` of the source,
    float32, with the class as value, of equal ones the first. The arguments are ``Invertd``'s; ``post_func`` gets the label map.

    Args:
        keys: of the predictions.
        transform: the ``Compose``, or the one dictionary transform, that the image went through.
        orig_keys, meta_keys, orig_meta_keys, meta_key_postfix, nearest_interp, to_tensor, device, post_func, allow_missing_keys:
            see ``monai.transforms.Invertd``.

    Raises:
        ValueError: a transform that is neither, such as ``OneOf``.
    """

    def __init__(self, keys: Any, transform: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(keys, transform, *args, **kwargs)
        if type(self.transform) is Compose:
            self.transform: Any = _ArgmaxInverse(self.transform.flatten().transforms)
        elif isinstance(self.transform, MapTransform):
            self.transform = _ArgmaxInverse([self.transform])
        else:
            kind = type(self.transform).__name__
            raise ValueError(
                f"transform must be a Compose or a dictionary transform, got {kind}. Write Invertd and AsDiscreted for it."
            )


class _ArgmaxInverse(Compose):
    """Transforms of which the inverse also takes the argmax, as early as it can."""

    def inverse(self, data: Any) -> Any:
        (key,) = (key for key, value in data.items() if isinstance(value, MetaTensor))
        place = self._find_resampling(key)
        data = dict(_invert(self.transforms[place + 1 :], data))
        if place < 0:
            return {**data, key: _argmax(data[key])}
        resample = self.transforms[place]
        labels = _invert_resampling(data[key], resample)
        data[key] = _argmax(_invert([resample], data)[key]) if labels is None else labels
        return _invert(self.transforms[:place], data)

    def _find_resampling(self, key: Any) -> int:
        """Index of the one ``Spacingd``, if whatever is inverted after it only moves voxels; else -1."""
        places = [i for i, each in enumerate(self.transforms) if type(each) is Spacingd and key in each.keys]
        if len(places) != 1:
            return -1
        before = [each for each in self.transforms[: places[0]] if isinstance(each, InvertibleTransform)]
        return places[0] if all(type(each) in MOVES for each in before) else -1


def _invert(transforms: Iterable[Any], data: Any) -> Any:
    invertible = [each for each in transforms if isinstance(each, InvertibleTransform)]
    return Compose(invertible).inverse(data) if invertible else data


def _argmax(image: MetaTensor) -> MetaTensor:
    """Label map ``(1, …)`` in float32. ``torch.max`` has the indices of ``torch.argmax`` in a tenth of its time."""
    labels = MetaTensor(image.as_tensor().max(0, keepdim=True).indices.float())
    return labels.copy_meta_from(image)


def _invert_resampling(image: MetaTensor, spacing: Spacingd) -> MetaTensor | None:
    """Label map of a prediction ``(C, H, W, D)`` on the grid from before a ``Spacingd``; None where it must be left to MONAI."""
    resample = spacing.spacing_transform.sp_resample
    operation = image.applied_operations[-1] if image.applied_operations else {}
    settings, size = operation.get(TraceKeys.EXTRA_INFO, {}), tuple(operation.get(TraceKeys.ORIG_SIZE, ()))
    dtype = getattr(torch, str(settings.get("dtype")), None)
    if (
        operation.get(TraceKeys.CLASS_NAME) != type(resample).__name__
        or (settings.get("mode"), settings.get("padding_mode")) != ("bilinear", "border")
        or dtype not in (torch.float32, torch.float64)
        or not image.is_floating_point()
        or len(size) != image.ndim - 1
        or len(size) != 3
        or size == tuple(image.shape[1:])  # MONAI leaves it alone if the affine is nearly the same
        or image.device.type != "cpu"  # elsewhere a product of fewer rows may be rounded in another way
        or USE_COMPILED  # MONAI interpolates by code of its own
    ):
        return None
    source, target = (to_affine_nd(3, np.asarray(affine, float)) for affine in (image.affine, settings["src_affine"]))
    matrix = torch.as_tensor(np.linalg.solve(source, target))
    labels = _interpolate_labels(image.as_tensor(), size, matrix.to(dtype), settings["align_corners"] is True)
    if labels is None:
        return None
    resample.pop_transform(image)
    described = TraceableTransform.track_transform_meta(image, sp_size=size, affine=matrix)
    return MetaTensor(labels.float()[None]).copy_meta_from(described)


def _interpolate_labels(image: Tensor, size: Sequence[int], matrix: Tensor, align_corners: bool) -> Tensor | None:
    """Argmax of an image interpolated as ``monai.networks.layers.AffineTransform`` does, without interpolating most of it.

    Args:
        image: ``(C, H, W, D)``.
        size: of the output.
        matrix: ``(4, 4)``, from voxels of the output to those of the image; its type is that of the computation.
        align_corners: see ``torch.nn.functional.grid_sample``.

    Returns:
        int16, of ``size``; None where it cannot be done so: see `_find_leaders`, and axes that are not those of the image.
    """
    labels = _find_leaders(image)
    theta = to_norm_affine(matrix[None], image.shape[1:], size, align_corners)[0, [2, 1, 0]][:, [2, 1, 0, 3]]
    lengths = torch.tensor(image.shape[:0:-1])
    oblique = (theta[:, :3] - theta[:, :3].diag().diag()).abs().sum(1) * lengths
    if labels is None or (oblique > SLACK / 2).any():
        return None
    lines = [_make_line(axis, size, theta, align_corners) for axis in range(3)]
    for axis in (2, 1, 0):  # rows of the first axis, along which copying is cheapest, when the volume is largest
        row, length = theta[2 - axis].double(), image.shape[1 + axis]
        points = row[2 - axis] * lines[axis].double() + row[3] + 1
        points = points / 2 * (length - 1) if align_corners else (points * length - 1) / 2
        labels = _spread(labels, axis, points.clamp(0, length - 1))
    labels = labels.flatten()
    doubtful = torch.nonzero(labels < 0)[:, 0]
    labels[doubtful] = _interpolate(image, _find_points(doubtful, lines, theta), align_corners)
    return labels.view(*size)


def _find_leaders(image: Tensor) -> Tensor | None:
    """For each voxel of ``(C, H, W, D)`` its largest class, -1 where it leads by less than `MARGIN`.

    The first class needs to lead by nothing, as it wins also where others are equal.

    Returns:
        int16 ``(H, W, D)``; None if values are not finite, or so large or small that float32 does not hold what comes of them.
    """
    image = image if image.dtype == torch.float64 else image.float()
    low, high = image.aminmax()
    largest = torch.maximum(low.abs(), high.abs())
    if not (largest == 0 or 1e-30 < largest < 1e30) or len(image) > torch.iinfo(torch.int16).max:
        return None
    first, second = image[0], torch.full_like(image[0], -torch.inf)
    leaders = torch.zeros_like(first, dtype=torch.int16)
    for number, values in enumerate(image[1:], 1):
        second = torch.maximum(second, torch.minimum(first, values))
        leaders.masked_fill_(values > first, number)
        first = torch.maximum(first, values)
    return leaders.masked_fill_((first - second <= MARGIN * largest) & (leaders > 0), -1)


def _make_line(axis: int, size: Sequence[int], theta: Tensor, align_corners: bool) -> Tensor:
    """Coordinates of the output along an axis from which ``affine_grid`` makes its points."""
    shape = [size[axis] if each == axis else 1 for each in range(3)]
    identity = torch.eye(3, 4, dtype=theta.dtype)
    return affine_grid(identity[None], [1, 1, *shape], align_corners)[..., 2 - axis].flatten()


def _spread(labels: Tensor, axis: int, points: Tensor) -> Tensor:
    """Labels at points along an axis: that of all voxels that the point may lie between, -1 where they differ."""
    length = labels.shape[axis]
    pairs = _agree(labels.narrow(axis, 0, length - 1), labels.narrow(axis, 1, length - 1))
    pairs = torch.cat([pairs, labels.narrow(axis, length - 1, 1)], axis)
    before, after = ((points + shift).floor().long().clamp(0) for shift in (-SLACK, SLACK))
    return _agree(pairs.index_select(axis, before), pairs.index_select(axis, after))


def _agree(one: Tensor, other: Tensor) -> Tensor:
    return torch.where(one == other, one, -1)


def _find_points(voxels: Tensor, lines: Sequence[Tensor], theta: Tensor) -> Tensor:
    """Where voxels of the output, by their flat index, lie in the image: ``(N, 3)``, as ``affine_grid`` has them."""
    (_, height, depth), points = map(len, lines), voxels.new_empty(len(voxels), 3, dtype=theta.dtype)
    rows = theta.new_ones(CHUNK + ROWS, 4)
    for some, place in zip(voxels.split(CHUNK), points.split(CHUNK), strict=True):
        count, lower = len(some), some // depth
        for column, index in enumerate((some % depth, lower % height, lower // height)):
            rows[:count, column] = lines[2 - column][index]
        place.copy_(rows[None, : count + ROWS].bmm(theta.T[None])[0, :count])
    return points


def _interpolate(image: Tensor, points: Tensor, align_corners: bool) -> Tensor:
    """Largest class of ``(C, H, W, D)`` at points ``(N, 3)``, one channel in memory at a time."""
    best, labels = None, torch.zeros(len(points), dtype=torch.int16)
    for number, channel in enumerate(image):
        source = channel[None, None].to(points.dtype)
        values = grid_sample(source, points[None, :, None, None], "bilinear", "border", align_corners).flatten().float()
        if best is not None:
            labels.masked_fill_(values > best, number)
        best = values if best is None else torch.maximum(best, values)
    return labels
