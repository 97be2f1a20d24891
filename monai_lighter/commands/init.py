"""``init``: a new bundle."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from monai_lighter.commands.output import format_report

__all__ = ["init"]


def init(
    directory: str,
    task: str = "segmentation",
    dims: int = 3,
    synthetic: bool = False,
    authors: str | None = None,
    num_classes: int | None = None,
    channels: int = 1,
    spacing: float | list[float] | None = None,
    patch_size: int | list[int] | None = None,
    json: bool = False,
) -> str:
    """Write a complete bundle that trains: configs, metadata, docs, license, scripts.

    Example, from nothing to a trained network:

        monai-lighter init spleen --task segmentation --dims 3 --synthetic
        cd spleen
        monai-lighter fit configs/train.yaml

    Args:
        directory: where; must be empty or not exist. Its name is the bundle's.
        task: segmentation, classification or regression.
        dims: spatial dimensions of the images, 2 or 3.
        synthetic: also write small synthetic data to data/, to try the bundle with.
        authors: for the metadata.
        num_classes: of a segmentation with the background, of a classification all; default: 2.
        channels: of the images, such as 4 for four MRI sequences.
        spacing: of the voxels that the network sees, in mm, as in "[1.5, 1.5, 2.0]"; default: 1.
        patch_size: what the network sees at once, in voxels, as in "[96, 96, 96]"; default: 64 in 2D, 48 in 3D.
        json: print the report as JSON.
    """
    from monai_lighter.share.create import create_bundle

    directory = str(directory)
    root = Path(directory).resolve()
    sizes: dict[str, Any] = {"spacing": spacing, "patch_size": patch_size}
    files = create_bundle(
        directory, task, dims, synthetic, authors, num_classes=num_classes, channels=channels, **sizes
    )
    rows = [{"file": str(file.relative_to(root))} for file in files]
    train = f"cd {shlex.quote(directory)} && monai-lighter fit configs/train.yaml"
    data = (
        "synthetic cases in data/"
        if synthetic
        else "put train.csv, val.csv and test.csv into data/, see docs/README.md"
    )
    return format_report({"bundle": directory, "data": data, "next": train}, rows, json)
