"""The ranges over all cases: what one wants to know to choose spacing, patch size, intensity window and classes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from monai_lighter.data.all_cases import canonical
from monai_lighter.data.expected import Expected
from monai_lighter.data.facts import ImageFacts
from monai_lighter.data.one_case import ReadCases, is_split, judges

__all__ = ["make_rows", "summarize"]

DIGITS = 6


def summarize(all_cases: Sequence[ReadCases], expected: Expected) -> dict[str, dict[str, Any]]:
    """Ranges of every mode.

    Returns:
        mode to ``cases``, ``images`` (key to ``spacing`` in mm and ``size`` in voxels, each ``[min, median, max]`` for the axes
        nearest to left-right, back-front, foot-head; ``orientation`` and ``channels`` with their numbers of images; ``intensity``
        with the smallest and largest value, and mean, standard deviation and percentiles of a sample) and ``labels`` (key
        to class to ``cases``, and for maps ``voxels`` and ``volume`` in ml, ``[min, median, max]`` of the cases that have it).
    """
    summary: dict[str, dict[str, Any]] = {}
    for cases in all_cases:
        images: dict[str, list[ImageFacts]] = defaultdict(list)
        for case in cases.facts:
            for image in case.images:
                images[image.key].append(image)
        mode = summary.setdefault(cases.mode, {"cases": 0, "images": {}, "labels": {}})
        mode["cases"] += len(cases.facts)
        for key, several in images.items():
            if key in cases.labels and any(image.labels and image.labels.is_map for image in several):
                plain = judges(cases, expected, key) and not any(is_split(image, expected) for image in several)
                mode["labels"][key] = _classes(several, expected.names if plain else {})
            else:
                mode["images"][key] = _grid(several)
        for key in cases.labels:
            numbers = Counter(case.numbers[key] for case in cases.facts if key in case.numbers)
            if numbers and expected.judged:
                mode["labels"][key] = {
                    _class(value, expected.names): {"cases": numbers[value]} for value in sorted(numbers)
                }
    return summary


def _grid(images: Sequence[ImageFacts]) -> dict[str, Any]:
    grids = [canonical(image) for image in images]
    finite = [image for image in images if math.isfinite(image.low)]
    kept: dict[str, Any] = {}
    known = [not image.unknown_spacing for image in images]
    spacings = [grid[0] for grid, is_known in zip(grids, known, strict=True) if grid[0] and is_known]
    shapes = [grid[1] for grid in grids]
    if spacings:
        kept["spacing"] = _ranges(spacings)
    kept["size"] = _ranges(shapes)
    codes = Counter(image.orientation for image in images if image.usable)
    kept |= {"orientation": dict(codes)} if codes else {}
    kept["channels"] = {str(n): count for n, count in Counter(image.channels for image in images).items()}
    if finite:
        values = {
            "min": min(image.low for image in finite),
            "p0.5": float(np.median([image.percentiles[0] for image in finite])),
            "mean": float(np.mean([image.mean for image in finite])),
            "std": float(np.mean([image.std for image in finite])),
            "p99.5": float(np.median([image.percentiles[1] for image in finite])),
            "max": max(image.high for image in finite),
        }
        kept["intensity"] = {name: _short(value) for name, value in values.items()}
    return kept


def _ranges(rows: Iterable[Sequence[float]]) -> list[list[float]]:
    """``[min, median, max]`` of each axis, over the rows that have as many axes as most."""
    given = list(rows)
    rank = Counter(map(len, given)).most_common(1)[0][0]
    array = np.array([row for row in given if len(row) == rank], float).reshape(-1, rank)
    return [[_short(f(axis)) for f in (np.min, np.median, np.max)] for axis in array.T]


def _classes(images: Sequence[ImageFacts], names: Mapping[int, str]) -> dict[str, dict[str, Any]]:
    voxels: dict[int, list[int]] = defaultdict(list)
    volumes: dict[int, list[float]] = defaultdict(list)
    for image in images:
        for value, count in (image.labels.counts if image.labels else {}).items():
            voxels[value].append(count)
            if image.usable and image.affine is not None and len(image.shape) == 3:
                volumes[value].append(count * abs(float(np.linalg.det(image.affine[:3, :3]))) / 1000)
    rows = {}
    for value in sorted(voxels):
        row: dict[str, Any] = {"cases": len(voxels[value]), "voxels": _spread(voxels[value])}
        rows[_class(value, names)] = row | ({"volume": _spread(volumes[value])} if volumes[value] else {})
    return rows


def _class(value: float, names: Mapping[int, str]) -> str:
    name = names.get(int(value)) if math.isfinite(value) else None
    return f"{value:g}" if name is None or name == f"{value:g}" else f"{value:g} ({name})"


def _spread(values: Sequence[float]) -> list[float]:
    return [_short(min(values)), _short(float(np.median(values))), _short(max(values))]


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def make_rows(summary: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    """The summary as the rows of a table: ``mode``, ``entry``, ``what``, ``min``, ``median``, ``max``."""
    rows = []
    for mode, values in summary.items():
        for key, image in values["images"].items():
            for what, unit in (("spacing", "mm"), ("size", "voxels")):
                if what in image:
                    columns = [" x ".join(f"{axis[n]:.4g}" for axis in image[what]) for n in range(3)]
                    rows.append(_row(mode, key, f"{what} ({unit})", *columns))
            if "intensity" in image:
                shown = image["intensity"]
                middle = (
                    f"{shown['mean']:.4g} ± {shown['std']:.4g}, 99 % in {shown['p0.5']:.4g} to {shown['p99.5']:.4g}"
                )
                rows.append(_row(mode, key, "intensity", f"{shown['min']:.4g}", middle, f"{shown['max']:.4g}"))
            counts = {"orientation": image.get("orientation", {}), "channels": image["channels"]}
            for what, found in counts.items():
                if found:
                    rows.append(_row(mode, key, what, "", ", ".join(f"{name} ({n})" for name, n in found.items()), ""))
        for key, classes in values["labels"].items():
            for name, found in classes.items():
                volumes = found.get("volume") or found.get("voxels")
                unit = ", ml" if "volume" in found else ", voxels" if "voxels" in found else ""
                columns = [f"{value:.4g}" for value in volumes] if volumes else ["", "", ""]
                rows.append(_row(mode, key, f"class {name} in {found['cases']} cases{unit}", *columns))
    return rows


def _row(mode: str, entry: str, what: str, low: str, middle: str, high: str) -> dict[str, str]:
    return {"mode": mode, "entry": entry, "what": what, "min": low, "median": middle, "max": high}
