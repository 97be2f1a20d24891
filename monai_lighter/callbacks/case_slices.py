"""One slice of a case as its metrics saw it: image, label and prediction, where they differ most."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.utils import SpaceKeys, optional_import
from monai.utils.enums import MetaKeys
from torch import Tensor

from monai_lighter.safe_files import written_beside
from monai_lighter.system.spacing import read_spacing
from monai_lighter.system.tensors import plain

__all__ = ["CaseSlice", "CaseVolume", "Grid", "cut_slice", "cut_volume", "read_slices", "write_slices"]

PLANES = ("sagittal", "coronal", "axial")
SIDES = ("APSI", "RLSI", "RLAP")
"""Left, right, top and bottom of a slice of each plane: the patient's right is at the left, as radiologists have it."""
LARGEST = 512
"""Pixels of a side; of larger slices every second, third, … one is kept."""
MOST_CLASSES = 8
MOST_VOXELS = 700_000
MOST_CHANNELS = 255


class Grid(NamedTuple):
    """Label and prediction of a case, in voxels that run to the right, to the front and upwards (R, A, S) where that is known.

    Attributes:
        label, pred: ``(W, H[, D])`` integers, or ``(W, H[, D], C)`` truth values where classes may overlap.
        affine: of the grid.
        shape, origin: ``(H, W[, D])`` and affine of the case as it was given.
        spacing: of a voxel, in mm; None where it is not known.
        is_oriented: whether the directions are known.
        oblique: largest angle between an axis of the voxels and that of the patient, in degrees.
        swapped: of two dimensions, whether the first axis is the horizontal one, as in files of images.
    """

    label: np.ndarray
    pred: np.ndarray
    affine: np.ndarray
    shape: tuple[int, ...]
    origin: np.ndarray
    spacing: tuple[float, ...] | None
    is_oriented: bool
    oblique: float
    swapped: bool

    @property
    def ndim(self) -> int:
        return len(self.affine) - 1

    @classmethod
    def of_case(cls, target: Any, pred: Any, image: MetaTensor | None) -> Grid | None:
        """That of a case; None where label and prediction are no label maps of one size, in two or three dimensions.

        Args:
            target, pred: ``(C, H, W[, D])``: a label map (C is 1), one-hot, or a channel for each of classes that may overlap.
            image: that has their geometry.
        """
        maps = _read_maps(target, pred)
        if maps is None:
            return None
        label, own = maps
        ndim = pred.ndim - 1
        spacing = None if image is None else read_spacing(image)
        affine = np.eye(ndim + 1) if spacing is None else _read_affine(image, ndim)
        origin, oriented, oblique = affine, False, 0.0
        if ndim == 3 and spacing is not None:
            turn = nib.orientations.io_orientation(affine)
            oriented = bool(np.isfinite(turn).all())
        if oriented:
            affine = affine @ nib.orientations.inv_ornt_aff(turn, pred.shape[1:])
            label, own = (nib.orientations.apply_orientation(each, turn) for each in (label, own))
            lengths = np.linalg.norm(affine[:3, :3], axis=0)
            spacing = tuple(map(float, lengths))
            oblique = float(np.degrees(np.arccos(np.clip(abs(np.diag(affine)[:3]) / lengths, 0, 1))).max())
        shape = tuple(pred.shape[1:])
        return cls(label, own, affine, shape, origin, spacing, oriented, oblique, isinstance(image, MetaTensor))


class CaseSlice(NamedTuple):
    """A slice as it is looked at: rows from top to bottom.

    Attributes:
        case: its name.
        role: ``worst`` or ``median``; empty until it is known.
        metric: by which; ``value``: of the case, the mean over its classes.
        classes: names of those in the slice.
        label, pred: ``(K, rows, columns)``, true where the class is.
        image: ``(rows, columns)`` from 0 to 255, or empty where there is none on this grid.
        pixel: height and width of a pixel; ``unit``: theirs, ``mm`` or ``voxels``.
        plane: ``axial``, ``coronal``, ``sagittal``; else how the axes lie.
        sides: left, right, top, bottom, as ``RLAP``; empty where they are not known.
        number, total: of the slice, from 1, and how many there are.
        error: the area in which label and prediction differ, in square units.
        oblique: as of `Grid`.
        channels: of the image, whose first is shown.
        epoch: from 0, of the fit in whose validation it was cut; None in a test.
    """

    case: str
    role: str
    metric: str
    value: float
    classes: list[str]
    label: np.ndarray
    pred: np.ndarray
    image: np.ndarray
    pixel: tuple[float, float]
    unit: str
    plane: str
    sides: str
    number: int
    total: int
    error: float
    oblique: float
    channels: int
    epoch: int | None = None


class CaseVolume(NamedTuple):
    """A volume with fewer voxels: ``(W, H, D)`` to the right, to the front, upwards.

    Attributes:
        case: its name.
        image, label, pred: uint8; of classes that may overlap the last one counts.
        spacing: of the voxels that are kept; ``unit``: theirs.
        steps: every how many-th voxel was kept along each axis.
        is_oriented: whether directions are known.
    """

    case: str
    image: np.ndarray
    label: np.ndarray
    pred: np.ndarray
    spacing: tuple[float, ...]
    unit: str
    steps: tuple[int, ...]
    is_oriented: bool


def cut_slice(grid: Grid, input: Any, labels: Mapping[int, str], case: str, metric: str, value: float) -> CaseSlice:
    """The slice, of all directions, in which label and prediction differ over the largest area.

    Args:
        grid: of the case.
        input: of the model, ``(C, H, W[, D])``, on any grid whose affine is known.
        labels: class to its name.
        case, metric, value: as of `CaseSlice`.
    """
    ndim, size = grid.ndim, grid.spacing or (1.0,) * grid.ndim
    axis, index, error = _find_slice(grid, size)
    kept = [each for each in range(ndim) if each != axis]
    place: list[Any] = [slice(None)] * ndim
    if axis is not None:
        place[axis] = index
    names, label, pred = _split_classes(grid.label[tuple(place)], grid.pred[tuple(place)], len(kept), labels)
    ranges = [np.arange(grid.label.shape[each]) if each != axis else np.array([index]) for each in range(ndim)]
    image = _sample(grid, input, ranges)
    flat = np.zeros((0, 0), np.uint8) if image is None else image.reshape(label.shape[1:])
    lookable = [_turn(each, grid) for each in (*label, *pred, *([flat] if image is not None else []))]
    step = max(1, -(-max(lookable[0].shape if lookable else flat.shape) // LARGEST))
    lookable = [each[::step, ::step] for each in lookable]
    count = len(names)
    across = (size[kept[1]], size[kept[0]]) if grid.swapped or ndim == 3 else (size[kept[0]], size[kept[1]])
    plane = PLANES[axis] if axis is not None and grid.is_oriented else _describe_axes(kept, grid)
    blank = np.zeros((0, *(lookable[0].shape if lookable else (0, 0))), bool)
    return CaseSlice(
        case=case,
        role="",
        metric=metric,
        value=value,
        classes=names,
        label=np.stack(lookable[:count]) if count else blank,
        pred=np.stack(lookable[count : 2 * count]) if count else blank,
        image=_to_bytes(lookable[-1]) if image is not None else flat,
        pixel=(across[0] * step, across[1] * step),
        unit="voxels" if grid.spacing is None else "mm",
        plane=plane,
        sides=SIDES[axis] if axis is not None and grid.is_oriented else "",
        number=index + 1,
        total=1 if axis is None else grid.label.shape[axis],
        error=error,
        oblique=grid.oblique,
        channels=input.shape[0] if isinstance(input, Tensor) else 0,
    )


def cut_volume(grid: Grid, input: Any, case: str) -> CaseVolume | None:
    """The whole case with fewer voxels; None in two dimensions, and where there is no image on a known grid."""
    if grid.ndim != 3:
        return None
    shape, size = grid.label.shape[:3], np.array(grid.spacing or (1.0, 1.0, 1.0))
    steps = np.ones(3, int)
    while np.prod([-(-n // step) for n, step in zip(shape, steps, strict=True)]) > MOST_VOXELS:
        steps[int(np.argmin(steps * size))] += 1  # where voxels are smallest
    image = _sample(grid, input, [np.arange(0, n, step) for n, step in zip(shape, steps, strict=True)])
    if image is None:
        return None
    thin = tuple(slice(None, None, step) for step in steps)
    label, pred = (_flatten(each[thin]) for each in (grid.label, grid.pred))
    spacing, unit = tuple(map(float, steps * size)), "voxels" if grid.spacing is None else "mm"
    steps_kept = tuple(map(int, steps))
    return CaseVolume(case, _to_bytes(image), label, pred, spacing, unit, steps_kept, grid.is_oriented)


def write_slices(path: Path, slices: Sequence[CaseSlice], volume: CaseVolume | None) -> None:
    """Slices, and a volume, in one npz file."""
    arrays: dict[str, np.ndarray] = {}
    kept: list[Any] = [*slices, *([] if volume is None else [volume])]
    for i, each in enumerate(kept):
        fields = each._asdict()
        arrays.update({f"{i}/{name}": value for name, value in fields.items() if isinstance(value, np.ndarray)})
        rest = {name: value for name, value in fields.items() if not isinstance(value, np.ndarray)}
        arrays[f"{i}"] = np.array(json.dumps([type(each).__name__, rest]))
    with written_beside(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_slices(path: Path) -> tuple[list[CaseSlice], CaseVolume | None]:
    """What `write_slices` wrote; nothing where there is no such file."""
    slices: list[CaseSlice] = []
    volume = None
    if path.is_file():
        with np.load(path, allow_pickle=False) as file:
            for key in [name for name in file.files if "/" not in name]:
                kind, fields = json.loads(str(file[key]))
                fields |= {name.partition("/")[2]: file[name] for name in file.files if name.startswith(f"{key}/")}
                if kind == CaseSlice.__name__:
                    slices.append(CaseSlice(**fields))
                else:
                    volume = CaseVolume(**fields)
    return slices, volume


def _read_maps(target: Any, pred: Any) -> tuple[np.ndarray, np.ndarray] | None:
    if not (isinstance(target, Tensor) and isinstance(pred, Tensor)) or target.shape[1:] != pred.shape[1:]:
        return None
    if pred.ndim not in (3, 4) or not pred.numel():
        return None
    label, own = _read_map(target), _read_map(pred)
    if label is not None and own is not None and label.ndim != own.ndim and len(target) == len(pred) > 1:
        label, own = (plain(each).detach().movedim(0, -1).bool().cpu().numpy() for each in (target, pred))
    return None if label is None or own is None or label.shape != own.shape else (label, own)


def _read_map(value: Tensor) -> np.ndarray | None:
    """``(*spatial)`` classes, of one-hot too; ``(*spatial, C)`` where classes overlap; None of what is no label map."""
    value = plain(value).detach()
    if len(value) == 1:
        if value.is_floating_point() and not bool((value == value.round()).all() & (value.abs() < 2**31).all()):
            return None
        return value[0].to(torch.int32).cpu().numpy()
    if len(value) > MOST_CHANNELS:
        return None
    largest, channel = value.max(
        0
    )  # one-hot: a 1 at each voxel, and nothing else; a volume of many classes is looked at twice
    if bool((largest == 1).all()) and int(value.count_nonzero()) == channel.numel():
        return channel.to(torch.int32).cpu().numpy()
    return value.movedim(0, -1).bool().cpu().numpy() if bool(((value == 0) | (value == 1)).all()) else None


def _read_affine(image: Any, ndim: int) -> np.ndarray:
    """``(ndim + 1, ndim + 1)``, to R, A, S."""
    affine = to_affine_nd(ndim, np.asarray(image.affine.detach().cpu(), dtype=float))
    if image.meta.get(MetaKeys.SPACE) == SpaceKeys.LPS:
        affine = np.diag([-1.0, -1.0, *([1.0] * (ndim - 1))]) @ affine
    return affine


def _find_slice(grid: Grid, size: Sequence[float]) -> tuple[int | None, int, float]:
    """Axis and index of the largest area of error, and that area; where there is none, of the largest label."""
    differs: Any = grid.label != grid.pred
    differs = differs.any(-1) if grid.label.ndim > grid.ndim else differs
    if grid.ndim == 2:
        return None, 0, float(differs.sum() * np.prod(size))
    found = _find_largest(differs, size)
    if not found[2]:
        held: Any = grid.label.any(-1) if grid.label.ndim > grid.ndim else grid.label != 0
        return (*_find_largest(held, size)[:2], 0.0)
    return found


def _find_largest(marked: np.ndarray, size: Sequence[float]) -> tuple[int, int, float]:
    best = (2, marked.shape[2] // 2, 0.0)
    for axis in (2, 1, 0):
        counts = marked.sum(axis=tuple(each for each in range(3) if each != axis))
        area = float(counts.max() * np.prod([size[each] for each in range(3) if each != axis]))
        if area > best[2]:
            best = (axis, int(counts.argmax()), area)
    return best


def _split_classes(
    label: np.ndarray, pred: np.ndarray, ndim: int, labels: Mapping[int, str]
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names of the classes of a slice but for the background of label maps, and ``(K, …)`` of each, the largest first."""
    if label.ndim > ndim:
        pairs = {i: (label[..., i], pred[..., i]) for i in range(label.shape[-1])}
    else:
        present = [int(each) for each in np.union1d(np.unique(label), np.unique(pred)) if each != 0]
        pairs = {each: (label == each, pred == each) for each in present}
    sizes = {each: int((one | other).sum()) for each, (one, other) in pairs.items()}
    kept = sorted([each for each in sizes if sizes[each]], key=lambda each: -sizes[each])[:MOST_CLASSES]
    kept.sort()
    stacked = [np.array([pairs[each][i] for each in kept], bool).reshape(-1, *label.shape[:ndim]) for i in (0, 1)]
    return [str(labels.get(each, each)) for each in kept], stacked[0], stacked[1]


def _sample(grid: Grid, input: Any, ranges: Sequence[np.ndarray]) -> np.ndarray | None:
    """The first channel of the input at voxels of the grid, by the affines of both; None where that of another grid is not
    known.

    Args:
        grid: of the case.
        input: ``(C, H, W[, D])``.
        ranges: indices along each axis of the grid.
    """
    if not isinstance(input, Tensor) or input.ndim != grid.ndim + 1 or not input.numel():
        return None
    values = plain(input)[0].detach().float().cpu().numpy()
    if read_spacing(input) is not None and grid.spacing is not None:
        source = _read_affine(input, grid.ndim)
    elif values.shape == grid.shape:
        source = grid.origin
    else:
        return None
    places = np.stack([each.ravel() for each in np.meshgrid(*ranges, indexing="ij")])
    joined = np.linalg.inv(source) @ grid.affine
    places = joined[:-1, :-1] @ places + joined[:-1, -1:]
    map_coordinates = optional_import("scipy.ndimage", name="map_coordinates")[0]
    outside = float(values.flat[0])  # of a corner, which is background more often than not
    places = np.where(abs(places - places.round()) < 1e-3, places.round(), places)
    return map_coordinates(values, places, order=1, cval=outside).reshape([len(each) for each in ranges])


def _turn(values: np.ndarray, grid: Grid) -> np.ndarray:
    """A slice ``(first axis, second axis)`` as it is looked at."""
    if grid.is_oriented:
        return values[::-1, ::-1].T
    return values.T if grid.swapped or grid.ndim == 3 else values


def _describe_axes(kept: Sequence[int], grid: Grid) -> str:
    right, down = (kept[0], kept[1]) if grid.swapped or grid.ndim == 3 else (kept[1], kept[0])
    return f"axis {right} to the right, axis {down} downwards"


def _flatten(values: np.ndarray) -> np.ndarray:
    """uint8 ``(W, H, D)`` of a label map, or of classes that may overlap, counted from 1."""
    if values.ndim == 3:
        return np.clip(values, 0, 255).astype(np.uint8)
    numbers = np.arange(1, values.shape[-1] + 1)
    return (values * numbers).max(-1).astype(np.uint8)


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """From 0 to 255 between the first and the last percent of the values."""
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, (1, 99)) if known.size else (0.0, 1.0)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / ((high - low) or 1.0)
    return (np.clip(scaled, 0, 1) * 255).round().astype(np.uint8)
