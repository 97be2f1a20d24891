"""Labels that lie beside what they mark, though headers and shapes agree: padded or cut on one side, or of another scan."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

__all__ = ["Shift", "find_better_shift"]

VOXELS = 1 << 12
"""Voxels from which a correlation is taken."""
STEPS = (2, 3, 4, 5, 6, 8)
"""Shifts that are tried, in voxels, both ways along each axis."""
CLEAR, WORSE = 0.4, 0.6
"""Smallest correlation that says anything, and the share of it below which the label as it stands is worse."""


class Shift(NamedTuple):
    """Where a label would lie better.

    Attributes:
        axis: of the image.
        voxels: that it is to be moved, upwards where positive.
        correlation: of the image and the foreground, moved.
        before: their correlation as they are.
    """

    axis: int
    voxels: int
    correlation: float
    before: float


def find_better_shift(image: np.ndarray, label: np.ndarray) -> Shift | None:
    """The shift along an axis with which the foreground of a label follows the intensities of its image, where it does not
    without. None where it does, or where the two are not related closely enough to say, or a value is not finite.

    Args:
        image: ``(H, W[, D])``.
        label: of the same shape; all that is not 0 is foreground.
    """
    best: Shift | None = None
    for axis in range(image.ndim):
        stride = max(math.ceil((image.size / VOXELS) ** (1 / max(image.ndim - 1, 1))), 1)
        few = tuple(slice(None) if each == axis else slice(None, None, stride) for each in range(image.ndim))
        values = np.moveaxis(image[few], axis, -1).astype(np.float32)
        mask = np.moveaxis(label[few] != 0, axis, -1).astype(np.float32)
        before = _correlation(values, mask)
        if before >= CLEAR or not mask.any() or not np.isfinite(values).all():
            return None
        for step in (step for step in STEPS if step < image.shape[axis] // 2):
            for sign, moved, fixed in (
                (1, mask[..., :-step], values[..., step:]),
                (-1, mask[..., step:], values[..., :-step]),
            ):
                found = _correlation(fixed, moved)
                if best is None or found > best.correlation:
                    best = Shift(axis, sign * step, found, before)
    clear = best is not None and best.correlation >= CLEAR and best.before <= WORSE * best.correlation
    return best if clear else None


def _correlation(values: np.ndarray, mask: np.ndarray) -> float:
    """Absolute correlation of Pearson; 0 where one of the two is constant."""
    values, mask = values - values.mean(), mask - mask.mean()
    scale = math.sqrt(float((values * values).sum()) * float((mask * mask).sum()))
    return abs(float((values * mask).sum())) / scale if 0 < scale < math.inf else 0.0
