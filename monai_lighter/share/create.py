"""New bundles from the templates that come with the package."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from monai_lighter.errors import Finding, did_you_mean
from monai_lighter.share.layout import SharingError
from monai_lighter.share.synthetic import write_cases

__all__ = ["TASKS", "create_bundle"]

TEMPLATES = Path(__file__).parent.parent / "templates"
TASKS = ("segmentation", "classification", "regression")
PATCH_SIZES = {2: 64, 3: 48}
"""By number of spatial dimensions, in pixels or voxels along each of them."""
FACTORS = {"segmentation": 8, "classification": 16, "regression": 16}
"""By how much the networks of the templates make an image smaller: their strides are 2, 2, 2 and 2, 2, 2, 2."""
FIELD = re.compile(r"\{\{([\w:]+)\}\}")


class _Wanted(NamedTuple):
    """What `create_bundle` is asked for."""

    task: str
    dims: int
    num_classes: int | None
    channels: int
    spacing: Any
    patch_size: Any


def create_bundle(
    directory: str | Path,
    task: str,
    dims: int,
    synthetic: bool = False,
    authors: str | None = None,
    *,
    num_classes: int | None = None,
    channels: int = 1,
    spacing: float | Sequence[float] | None = None,
    patch_size: int | Sequence[int] | None = None,
) -> list[Path]:
    """Write a complete native bundle.

    Args:
        directory: where; must be empty or not exist. Its name is the bundle's.
        task: one of `TASKS`.
        dims: spatial dimensions, 2 or 3.
        synthetic: also write small synthetic data to ``data/``.
        authors: for the metadata.
        num_classes: of a segmentation with the background, of a classification all; default: 2. A regression has none.
        channels: of the images.
        spacing: of the voxels that the network sees, in mm: a number, or one for each spatial dimension; default: 1 mm.
        patch_size: what the network sees at once, in voxels: a number, or one for each spatial dimension; default: 64 in 2D,
            48 in 3D. For classification and regression the size that images are cropped or padded to.

    Returns:
        The files, without the data.

    Raises:
        SharingError: all that is wrong with what is wanted; a directory that is not empty.
    """
    root = Path(directory).resolve()
    wanted = _Wanted(task, dims, num_classes, channels, spacing, patch_size)
    findings = [*_find_wrong(wanted)]
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        findings.append(Finding("directory", f"must be empty or not exist, got {str(directory)!r}", "Choose another."))
    broken = [finding for finding in findings if finding.hint.startswith("Quote")]
    if findings:
        raise SharingError(*(broken or findings))  # what a shell broke off is the cause of the others
    title = re.sub(r"[_\W]+", " ", root.name).strip().capitalize() or "Bundle"
    source = "synthetic images, generated with the bundle" if synthetic else "say where the data come from"
    words = {
        **_describe(wanted),
        "title": title,
        "authors": authors or f"The authors of {title}",
        "data_source": source,
    }
    files = [file for folder in ("common", task) for file in _fill(TEMPLATES / folder, root, words)]
    if synthetic:
        write_cases(root / "data", task, dims, num_classes or 2, channels)
    return sorted(files)


def _find_wrong(wanted: _Wanted) -> Iterator[Finding]:
    for name, value in wanted._asdict().items():
        if isinstance(value, str) and value.startswith(("[", "(")) and value[-1] not in "])":
            yield Finding(name, f"is cut off, got {value!r}", f'Quote it, as in --{name} "[64, 64]".')
    if wanted.task not in TASKS:
        problem = f"must be one of {', '.join(TASKS)}, got {wanted.task!r}"
        yield Finding("task", problem, did_you_mean(str(wanted.task), TASKS))
    if wanted.task == "regression" and wanted.num_classes is not None:
        yield Finding("num_classes", "is nothing that a regression has", "Leave it out.")
    elif wanted.num_classes is not None and not _is_whole(wanted.num_classes, 2):
        hint = "Count the background too." if wanted.task == "segmentation" else "Count all of them."
        yield Finding("num_classes", f"must be a whole number from 2 on, got {wanted.num_classes!r}", hint)
    if not _is_whole(wanted.channels, 1):
        yield Finding(
            "channels", f"must be a whole number from 1 on, got {wanted.channels!r}", "One a modality, or colour."
        )
    if wanted.dims not in PATCH_SIZES:
        yield Finding("dims", f"must be 2 or 3, got {wanted.dims!r}", "Use the number of spatial axes.")
        return
    for name in ("spacing", "patch_size"):
        value = _spread(getattr(wanted, name), wanted.dims)
        whole = name == "patch_size"
        if value is not None and (len(value) != wanted.dims or not all(_is_size(each, whole) for each in value)):
            kind = "whole numbers of voxels" if whole else "numbers of mm"
            example = json.dumps([PATCH_SIZES[wanted.dims] if whole else 1.5] * wanted.dims)
            problem = f"must be {wanted.dims} {kind} in {wanted.dims}D, got {getattr(wanted, name)!r}"
            yield Finding(name, problem, f'One for each spatial axis, as in --{name} "{example}".')
        elif value is not None and whole and wanted.task in TASKS:
            yield from _find_unfit(value, wanted.task)


def _find_unfit(sizes: list[int], task: str) -> Iterator[Finding]:
    factor = FACTORS[task]
    if task == "segmentation" and any(size % factor for size in sizes):
        strides = "the strides of the network, 2, 2 and 2"
        better = [max(factor, round(size / factor) * factor) for size in sizes]
        problem = f"must be multiples of {factor}, which {strides} divide, got {sizes}"
        yield Finding("patch_size", problem, f'Use --patch_size "{json.dumps(better)}".')
    elif min(sizes) < factor:
        hint = f"Use {factor} or more along each axis."
        yield Finding("patch_size", f"leaves nothing after the strides of the network, got {sizes}", hint)


def _is_whole(value: Any, lowest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= lowest


def _is_size(value: Any, whole: bool) -> bool:
    if whole:
        return _is_whole(value, 1)
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _spread(value: Any, dims: int) -> list | None:
    """One value for each spatial dimension; None where none is given."""
    if value is None:
        return None
    return list(value) if isinstance(value, (list, tuple)) else [value] * dims


def _describe(wanted: _Wanted) -> dict[str, str]:
    """What stands in the places of the templates."""
    dims, channels, classes = wanted.dims, wanted.channels, wanted.num_classes or 2
    size = json.dumps(_spread(wanted.patch_size, dims) or [PATCH_SIZES[dims]] * dims)
    spacing = [float(each) for each in _spread(wanted.spacing, dims) or [1.0] * dims]
    names = ["background", "object"] if classes == 2 else ["background", *(f"class {i}" for i in range(1, classes))]
    if wanted.task == "classification":
        names = [f"class {i}" for i in range(classes)]
    images = ["image"] if channels == 1 else [f"channel {i}" for i in range(channels)]
    return {
        "dims": str(dims),
        "channels": str(channels),
        "num_classes": str(classes),
        "patch_size": size,
        "image_size": size,
        "spacing": json.dumps(spacing),
        "axcodes": "RAS"[:dims],
        "points": "pixels" if dims == 2 else "voxels",
        "channels_of_image": "single channel" if channels == 1 else f"{channels} channel",
        "channel_def": json.dumps({str(i): name for i, name in enumerate(images)}),
        "class_def": json.dumps({str(i): name for i, name in enumerate(names)}),
        "classes": "0 is background, " + ("1 is the object" if classes == 2 else f"1 to {classes - 1} are the classes"),
    }


def _fill(template: Path, root: Path, words: dict[str, str]) -> list[Path]:
    written = []
    for source in sorted(template.rglob("*")):
        if source.is_dir() or "__pycache__" in source.parts:
            continue
        target = root / source.relative_to(template)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(FIELD.sub(lambda match: _word(match.group(1), words), source.read_text("utf-8")), "utf-8")
        written.append(target)
    return written


def _word(name: str, words: dict[str, str]) -> str:
    kind, _, package = name.partition(":")
    return version(package).partition("+")[0] if kind == "version" else words[name]
