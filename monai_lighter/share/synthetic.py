"""Small synthetic images, to try a bundle before its data are there."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_lighter.data.folds import Folds, read_table, write_splits

__all__ = ["CASES", "SHAPES", "SPLITS", "write_cases", "write_nifti"]

CASES = {"train": 8, "val": 4, "test": 4}
"""Cases by what their names begin with: their part in fold 0."""
SPLITS: dict[str, Any] = {"n_splits": 3, "test_size": 0.25}
"""For `Folds`; the other folds validate four of the cases named train each."""
SHAPES = {2: (80, 72), 3: (52, 48, 44)}
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
"""LPS voxel axes, as scanners often give them, of 1 mm."""


def write_cases(
    directory: str | Path, task: str, dims: int, num_classes: int = 2, channels: int = 1, seed: int = 0
) -> None:
    """Write ``cases.csv`` (columns image, label), the NIfTI files that it names, and, beside the folder, ``splits.json``.

    An image is a bright ball (a disc in 2D) in noise. Its label is, for segmentation, the map of it, of more classes of its
    shells, the brighter the further out; for classification, how large the hollow in it is; for regression, its radius in mm.

    Args:
        directory: where; made if missing.
        task: ``segmentation``, ``classification`` or ``regression``.
        dims: 2 or 3.
        num_classes: of a segmentation with the background, of a classification all.
        channels: of an image, each in a file of its own (columns image, image_2, …) with noise of its own.
        seed: of the random numbers.
    """
    directory = Path(directory)
    random = np.random.default_rng(seed)
    names = ["image", *(f"image_{i}" for i in range(2, channels + 1))]
    rows = []
    for split, count in CASES.items():
        for i in range(count):
            hollow = i % num_classes if task == "classification" else 0
            shells = num_classes - 1 if task == "segmentation" else 1
            ball, radius = _ball(SHAPES[dims], random, hollow / num_classes, shells)
            images = [f"images/{split}_{i:02d}{name.removeprefix('image')}.nii.gz" for name in names]
            for image in images:
                write_nifti(directory / image, 100 * ball / shells + random.normal(0, 10, ball.shape))
            label: Any = {"classification": hollow, "regression": f"{radius:.2f}"}.get(task)
            if label is None:
                label = f"labels/{split}_{i:02d}.nii.gz"
                write_nifti(directory / label, ball.astype(np.uint8))
            rows.append((*images, label))
    with open(directory / "cases.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([(*names, "label"), *rows])
    _write_splits(directory, "label" if task == "classification" else None)


def _write_splits(directory: Path, stratify: str | None) -> None:
    folds = Folds(read_table(directory / "cases.csv"), stratify=stratify, path=None, **SPLITS)
    train, val, test = ([f"{part}_{i:02d}.nii.gz" for i in range(count)] for part, count in CASES.items())
    splits = {"test": test, "folds": [val, train[::2], train[1::2]]}
    write_splits(directory.parent / "splits.json", {**folds.asked, **splits})


def _ball(shape: Sequence[int], random: np.random.Generator, hollow: float, shells: int) -> tuple[np.ndarray, float]:
    """A map of the shells of a ball, from 1 at its centre on, 0 outside and in its hollow, and its radius."""
    radius = random.uniform(0.15, 0.35) * min(shape)
    centre = [random.uniform(radius, size - radius) for size in shape]
    grid = np.meshgrid(*map(np.arange, shape), indexing="ij")
    distance = np.sqrt(sum((axis - place) ** 2 for axis, place in zip(grid, centre, strict=True)))
    shell = 1 + np.floor(shells * distance / radius)
    return np.where((distance < radius) & (distance >= hollow * radius), shell, 0), radius


def write_nifti(file: Path, image: np.ndarray) -> None:
    """Write a NIfTI file of 1 mm spacing.

    Args:
        file: path; its folder is made if missing.
        image: ``(H, W[, D])``, or with channels last.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    data = image if image.dtype == np.uint8 else image.astype(np.float32)
    nib.save(nib.Nifti1Image(data, AFFINE), file)
