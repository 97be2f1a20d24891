"""What is kept of an image once it has been looked at: a few numbers, so that memory does not grow with the cases."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils import ImageMetaKey, MetaKeys
from torch import Tensor

from monai_lighter.data.headers import StoredHeader, is_usable, orientation

__all__ = ["ImageFacts", "Labels", "is_image", "make_array", "measure"]

CHUNK = 1 << 18
"""Voxels looked at at once, which is what a core's cache holds."""
SAMPLE = 1 << 14
"""Voxels of an image, evenly spread, from which mean and percentiles are taken; of one with fewer than twice as many all."""
SORTED = 1 << 12
"""Of them, those from which percentiles are taken."""
FEW = 16
"""Values up to which comparing with each is faster than counting them all at once."""
CLASSES = 256
"""Values of a label beyond which it is shown as an image."""
MANY = 1 << 16
"""Values of a label beyond which it is no label map."""


class Labels(NamedTuple):
    """Values of a label map.

    Attributes:
        counts: integer value to its number of voxels; empty where there are too many values for a label map.
        broken: some of the values that are no integers, ascending.
        broken_voxels: how many voxels have such a value.
    """

    counts: dict[int, int]
    broken: tuple[float, ...] = ()
    broken_voxels: int = 0

    @property
    def is_map(self) -> bool:
        """Whether the values are as those of classes are: few, and integers."""
        return 0 < len(self.counts) <= CLASSES and not self.broken


class ImageFacts(NamedTuple):
    """An image of a case as its loading transforms gave it.

    Attributes:
        key: of the item; empty where the case is the image itself.
        file: path it was read from; empty where it was given as an array.
        files: all of them, where several were stacked.
        shape: spatial shape, in voxels.
        channels: number of channels; of several volumes in time, these.
        axes: number of axes: spatial ones, and one of channels or time where a file has several.
        affine: ``(4, 4)`` voxel to mm as MONAI uses it; None where the image has no geometry.
        headers: of its files, as stored.
        low: smallest finite value; nan where there is none.
        high: largest finite value.
        nans: voxels that are not a number.
        infs: voxels that are infinite.
        mean: of a sample of the finite voxels; nan for a label map.
        std: of that sample.
        percentiles: the 0.5th and 99.5th, of up to 4096 of that sample.
        content: what two images share if they are one: shape, range, sum of all voxels and checksum of the sample; empty
            where all voxels have one value, as labels of several cases may.
        labels: values, of a label map.
    """

    key: str
    file: str
    files: tuple[str, ...]
    shape: tuple[int, ...]
    channels: int
    axes: int
    affine: np.ndarray | None
    headers: tuple[StoredHeader, ...] = ()
    low: float = float("nan")
    high: float = float("nan")
    nans: int = 0
    infs: int = 0
    mean: float = float("nan")
    std: float = float("nan")
    percentiles: tuple[float, float] = (float("nan"), float("nan"))
    content: tuple = ()
    labels: Labels | None = None

    @property
    def voxels(self) -> int:
        """Number of voxels, of all channels."""
        return int(np.prod(self.shape)) * self.channels

    @property
    def usable(self) -> bool:
        """Whether there is an affine, and it can be used."""
        return self.affine is not None and is_usable(self.affine)

    @property
    def unknown_spacing(self) -> str:
        """What it has where its file does not say how large its voxels are; empty where it does."""
        if self.affine is None:
            return "no geometry, as pictures and arrays have none"
        return next((header.unknown_spacing for header in self.headers if header.unknown_spacing), "")

    @property
    def orientation(self) -> str:
        """Axis codes such as ``RAS``, of a 2D image such as ``LP``; empty without a usable affine."""
        return orientation(self.affine)[: len(self.shape)] if self.affine is not None and self.usable else ""


def is_image(value: Any) -> bool:
    """Whether a value of an item is an image or a label map: an array of two or more axes."""
    return isinstance(value, (Tensor, np.ndarray)) and value.ndim > 1


def make_array(image: Any) -> np.ndarray:
    """The numbers of a tensor or an array, without a copy where there need be none."""
    if not isinstance(image, Tensor):
        return image
    tensor = image.as_tensor() if isinstance(image, MetaTensor) else image
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def measure(
    key: str, image: Any, files: tuple[str, ...], headers: tuple[StoredHeader, ...] = (), label: bool = False
) -> ImageFacts:
    """Looks at every voxel of an image once.

    Args:
        key: of the item.
        image: ``(C, H, W[, D])``, or as its metadata (`MetaTensor`) says.
        files: that it was read from.
        headers: of these files.
        label: whether its values are classes, and are to be counted.
    """
    array = make_array(image)
    shape, channels = _shape(image, array)
    affine = _affine(image)
    axes = len(shape) + (channels > 1 and len(files) < 2)
    facts = ImageFacts(key, files[0] if files else "", files, shape, channels, axes, affine, headers)
    flat = array.ravel(order="K")
    if not flat.size or flat.dtype.kind not in "biuf":
        return facts
    low, high, nans, infs = _range(flat)
    kept: dict[str, Any] = {}
    if label:
        kept["labels"] = _labels(flat, low, high, gaps=nans + infs > 0)
    spread = np.ascontiguousarray(flat[:: (flat.size // SAMPLE) | 1])
    if low < high:
        total = _sum(flat, kept.get("labels"))
        kept["content"] = (array.shape, low, high, total, zlib.crc32(spread.data.cast("B")))
    sample = spread if spread.dtype.kind != "f" or not nans + infs else spread[np.isfinite(spread)]
    if sample.size and not (label and kept["labels"].is_map):  # whose values have no mean
        ordered = np.sort(sample[:: sample.size // SORTED + 1])
        few = tuple(float(ordered[round(share * (ordered.size - 1))]) for share in (0.005, 0.995))
        exact = sample.astype(np.float64)
        mean = float(exact.mean())
        exact -= mean
        std = float(np.sqrt(exact.dot(exact) / exact.size))
        kept |= {"mean": mean, "std": std, "percentiles": few}
    return facts._replace(low=low, high=high, nans=nans, infs=infs, **kept)


def _shape(image: Any, array: np.ndarray) -> tuple[tuple[int, ...], int]:
    """Spatial shape and number of channels: by the metadata, else with channels first."""
    meta = image.meta if isinstance(image, MetaTensor) else {}
    spatial = meta.get(MetaKeys.SPATIAL_SHAPE)
    if spatial is not None:
        shape = tuple(int(size) for size in spatial)
        if len(shape) == array.ndim and shape == array.shape:
            return shape, 1
        volume = int(np.prod(shape))
        if volume and array.size % volume == 0:
            return shape, array.size // volume
        if not array.size:
            return shape, 1
    return (array.shape[1:], array.shape[0]) if array.ndim > 2 else (array.shape, 1)


def _affine(image: Any) -> np.ndarray | None:
    if not isinstance(image, MetaTensor):
        return None
    affine = image.meta.get(MetaKeys.ORIGINAL_AFFINE, image.meta.get(MetaKeys.AFFINE))
    array = None if affine is None else make_array(affine).astype(float)
    if array is None or array.shape != (4, 4):
        return None
    unread = MetaKeys.ORIGINAL_AFFINE not in image.meta and ImageMetaKey.FILENAME_OR_OBJ in image.meta
    return (
        None if unread and np.array_equal(array, np.eye(4)) else array
    )  # MONAI's own, of a file of no geometry (PNG, npy)


def _chunks(flat: np.ndarray) -> Iterator[np.ndarray]:
    return (flat[start : start + CHUNK] for start in range(0, flat.size, CHUNK))


def _range(flat: np.ndarray) -> tuple[float, float, int, int]:
    """Smallest and largest finite value, and how many are not a number, and infinite."""
    low, high = float(flat.min()), float(flat.max())
    if np.isfinite(low) and np.isfinite(high):
        return low, high, 0, 0
    low, high, nans, infs = np.inf, -np.inf, 0, 0
    for chunk in _chunks(flat):
        finite = chunk[np.isfinite(chunk)]
        unknown = int(np.isnan(chunk).sum())
        nans, infs = nans + unknown, infs + chunk.size - finite.size - unknown
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high, nans, infs) if low <= high else (float("nan"), float("nan"), nans, infs)


def _sum(flat: np.ndarray, labels: Labels | None) -> float:
    """Of all voxels; of a label map, whose voxels have been counted, without looking at them again."""
    if labels is not None and labels.counts and not labels.broken:
        return float(sum(value * count for value, count in labels.counts.items()))
    return float(flat.sum())


def _labels(flat: np.ndarray, low: float, high: float, gaps: bool) -> Labels:
    if not np.isfinite(low) or high - low >= MANY:
        return Labels({})
    first, last = int(np.floor(low)), int(np.ceil(high))
    counts = np.zeros(last - first + 1, np.int64)
    broken: set[float] = set()
    voxels = 0
    small = np.uint8 if first >= 0 and last < 256 else np.int64
    for chunk in _chunks(flat):
        finite = chunk[np.isfinite(chunk)] if gaps else chunk
        if counts.size <= FEW:
            few = [np.count_nonzero(finite == value) for value in range(first, last + 1)]
            if sum(few) == finite.size:
                counts += few
                continue
        values = finite.astype(small, copy=False)
        if finite.dtype.kind == "f" and not (values == finite).all():
            whole = values == finite
            voxels += int(whole.size - whole.sum())
            broken.update(np.unique(finite[~whole])[:3].tolist())
            values = values[whole]
        if counts.size <= FEW:
            counts += [np.count_nonzero(values == value) for value in range(first, last + 1)]
        else:
            counts += np.bincount(values.astype(np.int64) - first, minlength=counts.size)
    found = {first + int(i): int(counts[i]) for i in np.flatnonzero(counts)}
    return Labels(found, tuple(sorted(broken)[:3]), voxels)
