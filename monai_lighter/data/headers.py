"""NIfTI headers as they are stored, before MONAI's reader mends them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from monai.config import PathLike
from monai.data import NibabelReader
from monai.data.utils import correct_nifti_header_if_necessary
from monai.utils import ensure_tuple

__all__ = [
    "HeaderReader",
    "StoredHeader",
    "differences",
    "find_contradictions",
    "in_mm",
    "is_usable",
    "orientation",
    "spacing",
]

VOXELS = 0.05
"""Share of a voxel by which two grids may lie apart: headers are rounded to single precision."""
SPACING = 1e-3
"""Relative difference of two spacings that rounding explains."""


class StoredHeader(NamedTuple):
    """What a NIfTI file says of its grid.

    Attributes:
        shape: of all axes, those of time and channels too.
        zooms: ``pixdim`` of the spatial axes, in ``unit``.
        affine: what nibabel takes: the sform, else the qform, else one made of ``pixdim``.
        sform: ``(4, 4)``, or None where its code is 0.
        qform: ``(4, 4)``, or None where its code is 0 or it cannot be computed.
        unit: of the spatial axes: ``mm``, ``meter``, ``micron`` or ``unknown``.
        unknown_spacing: what it has where it does not say how large its voxels are; empty where it does.
    """

    shape: tuple[int, ...]
    zooms: tuple[float, ...]
    affine: np.ndarray
    sform: np.ndarray | None = None
    qform: np.ndarray | None = None
    unit: str = "unknown"
    unknown_spacing: str = ""


class HeaderReader(NibabelReader):
    """``monai.data.NibabelReader`` that keeps the headers of what it reads.

    MONAI's reader replaces the affine of a file whose sform contradicts its ``pixdim`` (``correct_nifti_header_if_necessary``)
    and leaves no trace of it. Nothing is read twice: this is the same reading with a look between its two steps.

    Args:
        reader: the reader whose settings are taken.

    Attributes:
        headers: file to its header, of the case that is being read.
    """

    def __init__(self, reader: NibabelReader) -> None:
        self.__dict__.update(vars(reader))
        self.headers: dict[str, StoredHeader] = {}

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        """Reads as ``NibabelReader.read`` does: an image, or a list of them for several files."""
        self.filenames = ensure_tuple(data)
        images = []
        for name in self.filenames:
            image: Any = nib.load(name, **{**self.kwargs, **kwargs})
            self.headers[str(name)] = _stored(image)
            images.append(correct_nifti_header_if_necessary(image))
        return images if len(images) > 1 else images[0]


def _stored(image: Any) -> StoredHeader:
    header = image.header
    forms: dict[str, np.ndarray | None] = {"sform": None, "qform": None}
    for name in forms:
        try:
            forms[name] = getattr(image, f"get_{name}")(coded=True)[0]
        except (AttributeError, ValueError, nib.spatialimages.HeaderDataError):  # no NIfTI; a quaternion that is none
            continue
    unit = header.get_xyzt_units()[0] if hasattr(header, "get_xyzt_units") else "unknown"
    zooms = tuple(map(float, header.get_zooms()[:3]))
    unknown = _find_unknown_spacing(image, zooms, unit, **forms)
    affine = np.array(image.affine, float)
    return StoredHeader(tuple(image.shape), zooms, affine, **forms, unit=unit, unknown_spacing=unknown)


def _find_unknown_spacing(image: Any, zooms: tuple[float, ...], unit: str, sform: Any, qform: Any) -> str:
    """What a NIfTI file has where it says nothing of its spacing: a ``pixdim`` of 0, in whose place nibabel puts 1 without a
    word, or the 1 of all axes, without a unit or a form, that programs write which know of none."""
    if not isinstance(image.header, nib.Nifti1Header) or sform is not None or 1.0 not in zooms:
        return ""
    if qform is None and unit == "unknown" and {*zooms} == {1.0}:
        return "pixdim 1 along all axes, no unit, no sform and no qform"
    with image.file_map["header" if "header" in image.file_map else "image"].get_prepare_fileobj("rb") as file:
        stored = type(image.header).from_fileobj(file, check=False)["pixdim"][1 : len(zooms) + 1]
    return "" if stored.all() else f"pixdim {' x '.join(f'{value:.4g}' for value in stored)}"


class _Grid(NamedTuple):
    """What follows of an affine: whether it can be used, its spacing in mm, its axis codes."""

    usable: bool
    spacing: tuple[float, ...] = ()
    codes: str = ""


@lru_cache(maxsize=1 << 14)
def _grid(values: bytes) -> _Grid:
    """Of an affine ``(4, 4)`` of float64; remembered, as the images of a case share one and it is asked for often."""
    affine = np.frombuffer(values).reshape(4, 4)
    if not np.isfinite(affine).all():
        return _Grid(False)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not lengths.all() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        return _Grid(False)
    return _Grid(True, tuple(lengths.tolist()), "".join(code or "?" for code in nib.aff2axcodes(affine)))


def is_usable(affine: np.ndarray) -> bool:
    """Whether an affine ``(4, 4)`` maps voxels to places: finite, and invertible at the scale of its own spacing."""
    return _grid(affine.tobytes()).usable


def orientation(affine: np.ndarray) -> str:
    """Axis codes of a usable affine ``(4, 4)``, such as ``RAS``."""
    return _grid(affine.tobytes()).codes


def spacing(affine: np.ndarray) -> tuple[float, ...]:
    """Spacing of a usable affine ``(4, 4)`` along its axes, in mm."""
    return _grid(affine.tobytes()).spacing


def find_contradictions(header: StoredHeader) -> Iterator[tuple[str, str]]:
    """What in a header contradicts itself: ``(level, sentence)``, the level ``error`` or ``note``.

    The sform must have the spacing that ``pixdim`` has, and the sform and the qform must say the same.
    """
    if not is_usable(header.affine):
        return
    for name, affine in (("sform", header.sform), ("qform", header.qform)):
        if affine is not None and is_usable(affine):
            own = spacing(affine)[: len(header.zooms)]
            if not _alike([abs(zoom) for zoom in header.zooms], own):
                yield "error", f"the {name} has a spacing of {in_mm(own)}, pixdim {in_mm(header.zooms)}"
                return
    if header.sform is None or header.qform is None or not is_usable(header.qform):
        return
    differing = dict(differences(header.sform, header.qform, header.shape[:3]))
    level = "error" if "orientation" in differing else "note"
    if differing:
        yield level, f"sform and qform differ: {', '.join(differing.values())}"


def differences(one: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> Iterator[tuple[str, str]]:
    """How two grids of a shape differ: ``(kind, values)``, the kinds ``spacing``, ``orientation`` and, where these agree,
    ``affine``.

    Args:
        one: usable affine ``(4, 4)``.
        other: usable affine ``(4, 4)``.
        shape: of the spatial axes, in voxels.
    """
    if np.array_equal(one, other):
        return
    rank = max(min(len(shape), 3), 1)
    spacings = [spacing(affine)[:rank] for affine in (one, other)]
    alike = _alike(*spacings)
    if not alike:
        yield "spacing", f"{in_mm(spacings[0])} and {in_mm(spacings[1])}"
    codes = [orientation(affine)[:rank] for affine in (one, other)]
    if codes[0] != codes[1]:
        yield "orientation", f"{codes[0]} and {codes[1]}"
    if alike and codes[0] == codes[1]:
        apart = _farthest(one, other, shape)
        if apart > VOXELS * min(spacings[0]):
            yield "affine", f"their corners lie up to {apart:.3g} mm apart"


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(math.isclose(a, b, rel_tol=SPACING, abs_tol=1e-6) for a, b in zip(one, other, strict=True))


def _farthest(one: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> float:
    """Largest distance of the corners of a volume in two affines, in mm."""
    ends = [(0, max(int(size) - 1, 0)) for size in (*shape, 1, 1)[:3]]
    corners = np.stack([*(axis.ravel() for axis in np.meshgrid(*ends)), np.ones(8)])
    return float(np.linalg.norm(((one - other) @ corners)[:3], axis=0).max())


def in_mm(values: Any) -> str:
    """``1 x 1.2 x 5 mm``."""
    return " x ".join(f"{float(value):.4g}" for value in values) + " mm"
