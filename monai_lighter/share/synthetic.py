"""Small synthetic images, to try a bundle before its data are there."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

__all__ = ["CASES", "SHAPES", "write_cases", "write_image"]

CASES = {"train": 8, "val": 4, "test": 4}
SHAPES = {2: (80, 72), 3: (52, 48, 44)}
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
"""LPS voxel axes, as scanners often give them, of 1 mm."""


def write_cases(directory: str | Path, task: str, dims: int, seed: int = 0) -> None:
    """Write ``train.csv``, ``val.csv``, ``test.csv`` (columns image, label) and the NIfTI files that they name.

    An image is a bright ball (a disc in 2D) in noise. Its label is, for segmentation, the map of it; for classification,
    whether it is hollow; for regression, its radius in mm.

    Args:
        directory: where; made if missing.
        task: ``segmentation``, ``classification`` or ``regression``.
        dims: 2 or 3.
        seed: of the random numbers.
    """
    directory = Path(directory)
    random = np.random.default_rng(seed)
    for split, count in CASES.items():
        rows = []
        for i in range(count):
            hollow = i % 2 if task == "classification" else 0
            image, ball, radius = _case(SHAPES[dims], random, hollow)
            name = f"{split}_{i:02d}.nii.gz"
            write_image(directory / "images" / name, image)
            label: Any = {"classification": hollow, "regression": f"{radius:.2f}"}.get(task)
            if label is None:
                label = f"labels/{name}"
                write_image(directory / label, ball.astype(np.uint8))
            rows.append((f"images/{name}", label))
        with open(directory / f"{split}.csv", "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("image", "label"), *rows])


def _case(shape: Sequence[int], random: np.random.Generator, hollow: int) -> tuple[np.ndarray, np.ndarray, float]:
    radius = random.uniform(0.15, 0.35) * min(shape)
    centre = [random.uniform(radius, size - radius) for size in shape]
    grid = np.meshgrid(*map(np.arange, shape), indexing="ij")
    distance = np.sqrt(sum((axis - place) ** 2 for axis, place in zip(grid, centre, strict=True)))
    ball = (distance < radius) & ~(hollow & (distance < radius / 2))
    return 100 * ball + random.normal(0, 10, shape), ball, radius


def write_image(file: Path, image: np.ndarray) -> None:
    """Write a NIfTI file of 1 mm spacing.

    Args:
        file: path; its folder is made if missing.
        image: ``(H, W[, D])``, or with channels last.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    data = image if image.dtype == np.uint8 else image.astype(np.float32)
    nib.save(nib.Nifti1Image(data, AFFINE), file)
