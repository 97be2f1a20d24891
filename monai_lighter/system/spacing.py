"""Distances in mm: the spacing of the cases that a metric compares, and the metrics that are given it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.metrics import Cumulative, HausdorffDistanceMetric, SurfaceDistanceMetric
from monai.utils import ImageMetaKey
from monai.utils.enums import MetaKeys
from torch import Tensor

from monai_lighter.system.batches import split_cases
from monai_lighter.system.metric_inputs import StandIn

__all__ = ["Compared", "Spaced", "is_distance", "read_spacing", "takes_spacing"]

SPACING = "spacing"


def read_spacing(image: Any) -> tuple[float, ...] | None:
    """Length of a voxel along each spatial axis, in mm: the norms of the columns of the affine.

    Args:
        image: one case, ``(C, H, W[, D])``.

    Returns:
        None where it is not known: no `MetaTensor`, or one that has the identity that MONAI puts for an affine, of no file or
        of an array (npy, npz); a picture (PNG, JPEG), whose reader tells no space; an affine with a column that is zero or not
        finite.
    """
    if not isinstance(image, MetaTensor) or image.ndim < 2 or MetaKeys.SPACE not in image.meta:
        return None
    affine = np.asarray(image.affine.detach().cpu(), dtype=float)
    is_read = ImageMetaKey.FILENAME_OR_OBJ in image.meta and MetaKeys.ORIGINAL_AFFINE in image.meta
    if not is_read and np.array_equal(affine, np.eye(len(affine))):
        return None
    axes = min(image.ndim, affine.shape[-1]) - 1
    lengths = np.sqrt((affine[:-1, :axes] ** 2).sum(0))
    return tuple(map(float, lengths)) if np.isfinite(lengths).all() and lengths.all() else None


class Compared:
    """The cases of a batch as they are compared, for what is asked of their metadata.

    The metadata of a case are those of its prediction, which postprocessing may have brought back to the space of the file;
    where that has no spacing, those of its target, else of its input, of the prediction's size.

    Args:
        input, target: of the batch, with their metadata.
        pred: after postprocessing.
        heads: keys of the heads, where a prediction is an item that has the keys of the batch too.
    """

    def __init__(self, input: Any, target: Any, pred: Any, heads: Sequence[str] = ()) -> None:
        self.input, self.target, self.pred, self.heads = input, target, pred, heads

    @cached_property
    def images(self) -> list[MetaTensor | None]:
        """The image whose metadata count, for each case; None where there is none."""
        parts = (split_cases(value, self.input) for value in (self.pred, self.target, self.input))
        return [self._image(*case) for case in zip(*parts, strict=False)]

    def _image(self, pred: Any, target: Any, input: Any) -> MetaTensor | None:
        if isinstance(pred, Mapping) and self.heads:
            pred = [pred.get(key) for key in self.heads]
        size = _first(pred, Tensor)
        found = (_first(value, MetaTensor) for value in (pred, target, input))
        images = [image for image in found if image is not None and (size is None or image.shape[1:] == size.shape[1:])]
        return next((image for image in images if read_spacing(image) is not None), images[0] if images else None)

    @cached_property
    def spacings(self) -> list[tuple[float, ...] | None]:
        """Spacing of each case in mm (`read_spacing`)."""
        return [read_spacing(image) for image in self.images]

    @property
    def meta(self) -> list[dict]:
        """MONAI's metadata of each case (``filename_or_obj``, ``affine``, …) and its ``spacing`` in mm, or None."""
        return [
            {**({} if image is None else image.meta), SPACING: spacing}
            for image, spacing in zip(self.images, self.spacings, strict=True)
        ]


def _first(value: Any, kind: type) -> Any:
    """The first image ``(C, H, W[, D])`` in a case's part of one or several heads, inputs or targets."""
    if isinstance(value, Tensor):
        return value if isinstance(value, kind) and value.ndim > 1 else None
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return next((found for part in parts if (found := _first(part, kind)) is not None), None)


def takes_spacing(metric: Any) -> bool:
    """Whether the call of a metric takes ``spacing``: as an argument of its own, or, of MONAI's, among those by keyword."""
    methods = ("_compute_tensor", "__call__") if isinstance(metric, Cumulative) else ("update",)
    functions = [getattr(type(metric), name) for name in methods if hasattr(type(metric), name)]
    parameters = [inspect.signature(function).parameters for function in functions]
    if any(SPACING in names for names in parameters):
        return True
    by_keyword = parameters[0].values() if isinstance(metric, Cumulative) and parameters else ()
    return any(one.kind is inspect.Parameter.VAR_KEYWORD for one in by_keyword)


def is_distance(metric: Any) -> bool:
    """Whether the values of a metric are in mm where it is given a spacing."""
    known = isinstance(metric, (HausdorffDistanceMetric, SurfaceDistanceMetric))
    return known or (takes_spacing(metric) and "distance" in type(metric).__name__.lower())


class Spaced(StandIn):
    """A metric for one batch: called without ``spacing``, it is given that of the cases.

    Where the spacings of the cases differ, a metric of MONAI is called for each case by itself; a torchmetrics metric is given
    a sequence of them.

    Args:
        metric: takes ``spacing``.
        spacings: of the cases of the batch, in mm; None counts as 1 along each axis (voxels).
    """

    def __init__(self, metric: Any, spacings: Sequence[tuple[float, ...] | None]) -> None:
        super().__init__(metric)
        self._spacings = spacings

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if SPACING in keywords:
            return self._metric(*arguments, **keywords)
        known = set(self._spacings)
        if len(known) == 1:
            return self._call(next(iter(known)), arguments, keywords)
        given = next((value for value in (*arguments, *keywords.values()) if isinstance(value, (Tensor, list))), ())
        if len(given) != len(self._spacings):
            raise ValueError(
                f"a metrics adapter that calls a metric with {len(given)} of {len(self._spacings)} cases, whose spacings "
                f"differ, must give it their `spacing`."
            )
        if not isinstance(self._metric, Cumulative):
            return self._metric(*arguments, **keywords, spacing=[list(each or ()) for each in self._spacings])
        return _joined([self._call_case(i, arguments, keywords) for i in range(len(given))])

    def _call_case(self, i: int, arguments: tuple, keywords: dict[str, Any]) -> Any:
        def take(value: Any) -> Any:
            of_cases = isinstance(value, (Tensor, list)) and len(value) == len(self._spacings)
            return value[i : i + 1] if of_cases else value

        one = {name: take(value) for name, value in keywords.items()}
        return self._call(self._spacings[i], tuple(map(take, arguments)), one)

    def _call(self, spacing: tuple[float, ...] | None, arguments: tuple, keywords: dict[str, Any]) -> Any:
        if spacing is None:
            return self._metric(*arguments, **keywords)
        return self._metric(*arguments, **keywords, spacing=list(spacing))


def _joined(values: list) -> Any:
    """What a metric gave for several cases, as it would have given it for the batch."""
    if isinstance(values[0], Tensor):
        return torch.cat(values)
    if isinstance(values[0], (list, tuple)):
        return [_joined(list(parts)) for parts in zip(*values, strict=True)]
    return values
