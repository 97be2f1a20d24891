"""New bundles from the templates that come with the package."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from monai_lighter.data.folds import Folds
from monai_lighter.errors import Finding, did_you_mean
from monai_lighter.share.fingerprint import Fingerprint, make_criterion, make_crop, read_fingerprint
from monai_lighter.share.found_cases import find_cases
from monai_lighter.share.layout import SharingError
from monai_lighter.share.network_plan import CROPS, default_network, render_network
from monai_lighter.share.synthetic import SPLITS, write_cases

__all__ = ["TASKS", "NewBundle", "create_bundle"]

TEMPLATES = Path(__file__).parent.parent / "templates"
TASKS = ("segmentation", "classification", "regression")
PATCH_SIZES = {2: 64, 3: 48}
"""By number of spatial dimensions, in pixels or voxels along each of them."""
FACTORS = {"segmentation": 8, "classification": 16, "regression": 16}
"""By how much the networks of the templates make an image smaller: their strides are 2, 2, 2 and 2, 2, 2, 2."""
MODALITIES = ("CT", "MR")
MEMORY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([GM]i?B?)?\s*", re.I)
FIELD = re.compile(r"\{\{([\w:]+)\}\}")


class NewBundle(NamedTuple):
    """What `create_bundle` wrote.

    Attributes:
        files: without the data.
        layout: of the data that it was given, empty without.
        found: what was read from them, None without.
    """

    files: list[Path]
    layout: str = ""
    found: Fingerprint | None = None


class _Wanted(NamedTuple):
    """What `create_bundle` is asked for."""

    task: str
    dims: int | None
    num_classes: int | None
    channels: int | None
    spacing: Any
    patch_size: Any
    modality: str | None
    memory: Any


def create_bundle(
    directory: str | Path,
    task: str,
    dims: int | None = None,
    synthetic: bool = False,
    authors: str | None = None,
    *,
    data: str | Path | None = None,
    memory: str | float = "8GB",
    modality: str | None = None,
    num_classes: int | None = None,
    channels: int | None = None,
    spacing: float | Sequence[float] | None = None,
    patch_size: int | Sequence[int] | None = None,
) -> NewBundle:
    """Write a complete native bundle; what is not said is read from the data, where there are any.

    Args:
        directory: where; must be empty or not exist. Its name is the bundle's.
        task: one of `TASKS`.
        dims: spatial dimensions, 2 or 3; default: those of the data, else 3.
        synthetic: also write small synthetic data to ``data/``.
        authors: for the metadata.
        data: table or folder of the cases to train with (`find_cases`). They stay where they are.
        memory: of a training step, as ``8GB``; patch and batch are chosen to fit it.
        modality: ``CT`` or ``MR``; default: what the data say.
        num_classes: of a segmentation with the background, of a classification all; default: 2. A regression has none.
        channels: of the images; default: 1.
        spacing: of the voxels that the network sees, in mm: a number, or one for each spatial dimension; default: 1 mm.
        patch_size: what the network sees at once, in voxels: a number, or one for each spatial dimension; default: 64 in 2D,
            48 in 3D. For classification and regression the size that images are cropped or padded to.

    Raises:
        SharingError: all that is wrong with what is wanted; a directory that is not empty; what is wrong with the data. Nothing
            has been written then.
        ConfigError: the cases cannot be split into folds.
    """
    root = Path(directory).resolve()
    wanted = _Wanted(task, dims, num_classes, channels, spacing, patch_size, modality, memory)
    findings = [*_find_wrong(wanted, data is not None)]
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        findings.append(Finding("directory", f"must be empty or not exist, got {str(directory)!r}", "Choose another."))
    if synthetic and data is not None:
        findings.append(Finding("synthetic", "is nothing that a bundle with data has", "Leave one of the two out."))
    broken = [finding for finding in findings if finding.hint.startswith("Quote")]
    if findings:
        raise SharingError(*(broken or findings))  # what a shell broke off is the cause of the others
    layout, found = "", None
    if data is not None:
        cases = find_cases(Path(data).expanduser().resolve(), task)
        found = read_fingerprint(cases, task, wanted._asdict(), _read_memory(memory) or 0)
        _split(found, None)  # what is wrong with them is told before anything is written
        layout = cases.layout
    title = re.sub(r"[_\W]+", " ", root.name).strip().capitalize() or "Bundle"
    source = "synthetic images, generated with the bundle" if synthetic else "say where the data come from"
    words = {
        **_describe(wanted, SPLITS if synthetic else {}, found),
        "title": title,
        "authors": authors or f"The authors of {title}",
        "data_source": source,
    }
    there = root.exists()
    try:
        files = [file for folder in ("common", task) for file in _fill(TEMPLATES / folder, root, words)]
        if synthetic:
            write_cases(root / "data", task, dims or 3, num_classes or 2, channels or 1)
        if found is not None:
            _write_table(root / "data" / "cases.csv", found)
            _split(found, root / "splits.json")
    except BaseException:  # as a full disk, or Ctrl-C: nothing half-written; all that is in the directory is from here
        for path in root.iterdir() if root.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if root.is_dir() and not there:
            root.rmdir()
        raise
    return NewBundle(sorted(files), layout, found)


def _find_wrong(wanted: _Wanted, has_data: bool) -> Iterator[Finding]:
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
    if wanted.channels is not None and not _is_whole(wanted.channels, 1):
        yield Finding(
            "channels", f"must be a whole number from 1 on, got {wanted.channels!r}", "One a modality, or colour."
        )
    if wanted.modality not in (None, *MODALITIES):
        problem = f"must be CT or MR, got {wanted.modality!r}"
        yield Finding("modality", problem, did_you_mean(str(wanted.modality), MODALITIES))
    if _read_memory(wanted.memory) is None:
        yield Finding("memory", f"must be a size, got {wanted.memory!r}", "As in --memory 8GB.")
    if wanted.dims not in (None, *PATCH_SIZES):
        yield Finding("dims", f"must be 2 or 3, got {wanted.dims!r}", "Use the number of spatial axes.")
    else:
        yield from _find_wrong_sizes(wanted, has_data)


def _find_wrong_sizes(wanted: _Wanted, has_data: bool) -> Iterator[Finding]:
    for name in ("spacing", "patch_size"):
        given = getattr(wanted, name)
        dims = wanted.dims or (len(given) if has_data and isinstance(given, list) and len(given) in PATCH_SIZES else 3)
        value = _spread(given, dims)
        whole = name == "patch_size"
        if value is not None and (len(value) != dims or not all(_is_size(each, whole) for each in value)):
            kind = "whole numbers of voxels" if whole else "numbers of mm"
            example = json.dumps([PATCH_SIZES[dims] if whole else 1.5] * dims)
            problem = f"must be {dims} {kind} in {dims}D, got {given!r}"
            yield Finding(name, problem, f'One for each spatial axis, as in --{name} "{example}".')
        elif value is not None and whole and wanted.task in TASKS and not has_data:
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


def _read_memory(given: Any) -> float | None:
    """Bytes; None where it is no size. GB and GiB are both 2^30, as graphics cards are sold; a bare number is of GB."""
    found = MEMORY.fullmatch(str(given))
    if found is None or not float(found[1]):
        return None
    return float(found[1]) * (1 << 20 if (found[2] or "G")[0] in "mM" else 1 << 30)


def _describe(wanted: _Wanted, splits: dict[str, Any], found: Fingerprint | None) -> dict[str, str]:
    """What stands in the places of the templates."""
    if found is not None:
        dims, channels, classes = found.dims, found.channels, found.classes
        network, patch, spacing, names = found.plan.network, found.plan.size, found.plan.spacing, found.names
    else:
        dims, channels, classes = wanted.dims or 3, wanted.channels or 1, wanted.num_classes or 2
        patch = _spread(wanted.patch_size, dims) or [PATCH_SIZES[dims]] * dims
        spacing, names = _spread(wanted.spacing, dims) or [1.0] * dims, {}
        network = default_network(wanted.task, dims)
    usual = {0: "background", 1: "object"} if classes == 2 else {0: "background"}
    names = {**({} if wanted.task == "classification" else usual), **names}
    images = ["image"] if channels == 1 else [f"channel {i}" for i in range(channels)]
    folds = {"n_splits": 5, "test_size": 0.2, "stratify": "label" if wanted.task == "classification" else None}
    folds |= {"subject": None, **splits, **(found.folds if found else {})}
    return {
        "dims": str(dims),
        "channels": str(channels),
        "num_classes": str(classes),
        "patch_size": json.dumps(patch),
        "spacing": json.dumps([float(each) for each in spacing]),
        "axcodes": "RAS"[:dims],
        "points": "pixels" if dims == 2 else "voxels",
        "channels_of_image": "single channel" if channels == 1 else f"{channels} channel",
        "channel_def": json.dumps({str(i): name for i, name in enumerate(images)}),
        "class_def": json.dumps({str(i): names.get(i, f"class {i}") for i in range(classes)}),
        "classes": "0 is background, " + ("1 is the object" if classes == 2 else f"1 to {classes - 1} are the classes"),
        "network": render_network(network),
        **{key: json.dumps(value) if value is None else str(value) for key, value in folds.items()},
        **_describe_training(wanted.task, classes, found),
    }


def _describe_training(task: str, classes: int, found: Fingerprint | None) -> dict[str, str]:
    """Batch, crop and loss, and what the comments say they are from."""
    if found is None:
        sources = ("channels_from", "classes_from", "spacing_from", "patch_from", "batch_from", "cache_from")
        return {
            **dict.fromkeys(sources, ""),
            "batch_size": "2" if task == "segmentation" else "4",
            "cache_rate": "1.0",
            "modality": "n/a",
            "normalisation": "  - {_target_: NormalizeIntensityd, keys: image, channel_wise: true}",
            "crop": '  - {_target_: RandSpatialCropd, keys: [image, label], roi_size: "@patch_size", random_size: false}',
            "criterion": "{_target_: torch.nn.CrossEntropyLoss}",
        }
    labels = [item["label"] for item in found.items] if task == "classification" else [0]
    batch = found.plan.batch // CROPS if task == "segmentation" else found.plan.batch
    return {**found.words, "batch_size": str(batch), "crop": make_crop(classes), "criterion": make_criterion(labels)}


def _split(found: Fingerprint, path: Path | None) -> list[dict[str, Any]]:
    """The cases that fold 0 trains on; writes which case is in which fold."""
    return Folds(found.items, path=path, **found.folds).train


def _write_table(table: Path, found: Fingerprint) -> None:
    """Writes a row a case, as the bundle's ``scripts/dataset.py`` reads them."""
    table.parent.mkdir(parents=True, exist_ok=True)
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, item in enumerate(found.items):
            images = [item["image"]] if isinstance(item["image"], str) else item["image"]
            columns = [
                "image",
                *(f"image_{i}" for i in range(2, len(images) + 1)),
                *(key for key in item if key != "image"),
            ]
            if not number:
                writer.writerow(columns)
            writer.writerow([*images, *(value for key, value in item.items() if key != "image")])


def _fill(template: Path, root: Path, words: dict[str, str]) -> list[Path]:
    written = []
    for source in sorted(template.rglob("*")):
        if source.is_dir() or "__pycache__" in source.parts:
            continue
        target = root / source.relative_to(template)
        target.parent.mkdir(parents=True, exist_ok=True)
        quoted = {"authors": json.dumps(words["authors"])[1:-1]} if source.suffix == ".json" else {}
        replace = partial(_replace_field, {**words, **quoted})
        target.write_text(FIELD.sub(replace, source.read_text("utf-8")), "utf-8")
        written.append(target)
    return written


def _replace_field(words: dict[str, str], match: re.Match[str]) -> str:
    kind, _, package = match[1].partition(":")
    return version(package).partition("+")[0] if kind == "version" else words[match[1]]
