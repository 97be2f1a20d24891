"""``init``: a new bundle."""

from __future__ import annotations

import shlex
from pathlib import Path

from monai_lighter.commands.output import format_report

__all__ = ["init"]


def init(
    directory: str,
    task: str = "segmentation",
    dims: int = 3,
    synthetic: bool = False,
    authors: str | None = None,
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
        json: print the report as JSON.
    """
    from monai_lighter.share.create import create_bundle

    directory = str(directory)
    root = Path(directory).resolve()
    files = create_bundle(directory, task, dims, synthetic, authors)
    rows = [{"file": str(file.relative_to(root))} for file in files]
    train = f"cd {shlex.quote(directory)} && monai-lighter fit configs/train.yaml"
    data = (
        "synthetic cases in data/"
        if synthetic
        else "put train.csv, val.csv and test.csv into data/, see docs/README.md"
    )
    return format_report({"bundle": directory, "data": data, "next": train}, rows, json)
