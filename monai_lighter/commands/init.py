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
    dims: int | None = None,
    synthetic: bool = False,
    authors: str | None = None,
    data: str | None = None,
    memory: str = "8GB",
    modality: str | None = None,
    num_classes: int | None = None,
    channels: int | None = None,
    spacing: float | list[float] | None = None,
    patch_size: int | list[int] | None = None,
    json: bool = False,
) -> str:
    """Write a complete bundle that trains: configs, metadata, docs, license, scripts.

    Example, from nothing to a trained network:

        monai-lighter init spleen --task segmentation --dims 3 --synthetic
        cd spleen
        monai-lighter fit configs/train.yaml

    From data of one's own, whose spacing, sizes, intensities and classes are read:

        monai-lighter init liver --data /data/liver --memory 8GB

    Args:
        directory: where; must be empty or not exist. Its name is the bundle's.
        task: segmentation, classification or regression.
        dims: spatial dimensions of the images, 2 or 3; default: those of the data, else 3.
        synthetic: also write small synthetic data to data/, to try the bundle with.
        authors: for the metadata.
        data: a csv table (image, label, maybe subject) or a folder: imagesTr and labelsTr, images and labels, dataset.json of the
            Decathlon, sub-… of BIDS, for classification a folder a class. The files stay where they are.
        memory: what a training step on these data may take; patch and batch follow. Default: 8GB.
        modality: CT or MR, for the intensities; default: as dataset.json says, else by the values.
        num_classes: of a segmentation with the background, of a classification all; default: those of the data, else 2.
        channels: of the images, such as 4 for four MRI sequences; default: those of the data, else 1.
        spacing: of the voxels that the network sees, in mm, as in "[1.5, 1.5, 2.0]"; default: the median of the data, else 1.
        patch_size: what the network sees at once, in voxels, as in "[96, 96, 96]"; default: what fits the data and the memory,
            without data 64 in 2D, 48 in 3D.
        json: print the report as JSON.
    """
    from monai_lighter.data.findings import shortened
    from monai_lighter.share.create import create_bundle
    from monai_lighter.share.network_plan import in_gigabytes

    directory = str(directory)
    root = Path(directory).resolve()
    sizes: dict[str, Any] = {"spacing": spacing, "patch_size": patch_size, "memory": memory, "modality": modality}
    made = create_bundle(
        directory, task, dims, synthetic, authors, data=data, num_classes=num_classes, channels=channels, **sizes
    )
    rows = [{"file": str(file.relative_to(root))} for file in made.files]
    train = f"cd {shlex.quote(directory)} && monai-lighter fit configs/train.yaml"
    told = "synthetic cases in data/" if synthetic else "put cases.csv into data/, see docs/README.md"
    report: dict[str, Any] = {"bundle": directory, "data": told}
    if made.found is not None:
        report["data"] = f"{len(made.found.items)} cases ({made.layout})"
        report["memory"] = f"about {in_gigabytes(made.found.plan.memory)} a training step, of {memory}"
        notes = [*shortened(made.found.notes)]
        report |= {"notes": notes if json else "\n       ".join(notes)} if notes else {}
    return format_report({**report, "next": train}, rows, json)
