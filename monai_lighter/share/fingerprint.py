"""What a new bundle takes from its data: spacing, sizes, intensities and classes, each with what it was read from."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from monai.transforms import Compose, LoadImaged

from monai_lighter.data.all_cases import canonical, judge_cohort
from monai_lighter.data.expected import Expected
from monai_lighter.data.facts import ImageFacts, make_array
from monai_lighter.data.findings import ERROR, NOTE, CaseFinding
from monai_lighter.data.integrity import check_cases
from monai_lighter.data.one_case import ReadCases, judge_case
from monai_lighter.data.sources import CaseSource
from monai_lighter.errors import Finding
from monai_lighter.share.found_cases import FoundCases
from monai_lighter.share.layout import SharingError
from monai_lighter.share.network_plan import CROPS, NetworkPlan, in_gigabytes, plan_classifier, plan_segmenter
from monai_lighter.system.case_pool import read_free_memory

__all__ = ["Fingerprint", "make_criterion", "make_crop", "read_fingerprint"]

COARSE, PERCENTILE = 3, 10
"""Spacing and size of an axis, against the others, from which it is coarse, and the percentile of spacings taken there."""
AIR = -500
"""Hounsfield units below which there is air, which a CT always has; other modalities have no such values."""
VOXELS = 10_000
"""Voxels of a case from which the intensities of the foreground are taken (nnU-Net's)."""
UNEVEN = 2
"""How much more frequent than another a class is before the loss weighs them."""
DIGITS = 4
VALUE, CACHED = 4, 0.5
"""Bytes of a voxel, preprocessed, and share of the free memory that the cache of a training takes at most."""


class Fingerprint(NamedTuple):
    """What the templates are filled with, and what is told of it.

    Attributes:
        words: field of the templates to its text.
        items: data list of the cases.
        folds: arguments of `Folds`.
        plan: network and memory.
        notes: what in the cases need not be wrong.
        dims: spatial dimensions.
        channels: of the images.
        classes: of a regression 1.
        names: class to its name, where known.
    """

    words: dict[str, str]
    items: list[dict[str, Any]]
    folds: dict[str, Any]
    plan: NetworkPlan
    notes: list[CaseFinding]
    dims: int
    channels: int
    classes: int
    names: dict[int, str]


def read_fingerprint(found: FoundCases, task: str, wanted: dict[str, Any], memory: float) -> Fingerprint:
    """Reads every case once, as `check --data` does, and chooses what fits them. Nothing is written.

    Args:
        found: the cases.
        task: ``segmentation``, ``classification`` or ``regression``.
        wanted: ``dims``, ``num_classes``, ``channels``, ``spacing``, ``patch_size`` and ``modality`` as the user wants them, None
            where the data are to say.
        memory: of a training step, in bytes.

    Raises:
        SharingError: what is wrong with the cases, all at once; nothing fits the memory.
    """
    items = [case | ({"image": case["image"][0]} if len(case["image"]) == 1 else {}) for case in found.cases]
    keys = ["image", "label"] if task == "segmentation" else ["image"]
    load = Compose([LoadImaged(keys, ensure_channel_first=True)])
    read, classes, notes = _read(items, load, task, wanted)
    images = [image for case in read.facts for image in case.images if image.key == "image"]
    dims, channels = len(images[0].shape), images[0].channels
    grids = [canonical(image) for image in images]
    spacings = np.array([grid[0] or (1.0,) * dims for grid in grids])
    sizes = np.array([grid[1] for grid in grids], float)
    given, patch = (_spread(wanted[key], key, dims) for key in ("spacing", "patch_size"))
    unknown = _find_unknown_spacing(images, given)
    spacing, spacing_from = _choose_spacing(spacings, sizes, given, unknown)
    sizes = sizes * spacings / spacing
    folds = _plan_folds(items, task)
    network = (channels, classes, memory, patch)
    if task == "segmentation":
        plan = plan_segmenter(sizes, spacing, *network)
    else:
        plan = plan_classifier(task, sizes, spacing, *network)
    modality, modality_from = _find_modality(found, images, wanted["modality"])
    size = f"the median case has {_sizes(np.median(sizes, axis=0))}"
    if task != "segmentation":
        size = f"the largest case has {_sizes(sizes.max(axis=0))}" + ("" if unknown else f" at {_sizes(spacing)} mm")
    series = [*_note_fourth_axis(read, images)]
    words = {
        "channels_from": f", in each of {len(items)} cases" + (": the fourth axis of their files" if series else ""),
        "classes_from": _describe_classes(read, classes, found, task),
        "spacing_from": spacing_from,
        "patch_from": f"; {size}",
        "batch_from": f"  # {_describe_batch(plan, task, memory)}",
        **_plan_cache(sizes, plan, channels, task),
        "modality": modality or "n/a",
        "normalisation": _normalise(items, load, modality, modality_from, task),
    }
    return Fingerprint(words, items, folds, plan, [*notes, *series], dims, channels, classes, found.names)


def _read(
    items: list[dict[str, Any]], load: Compose, task: str, wanted: dict[str, Any]
) -> tuple[ReadCases, int, list[CaseFinding]]:
    """The cases, their number of classes, and what need not be wrong with them."""
    judged = task != "regression"
    asked = (wanted["channels"], wanted["dims"], {"train": "label"}, (), judged)
    expected = Expected(None, "", False, {}, *asked)
    [read] = check_cases([CaseSource("train", "data", items, load)], expected, None)
    highest = [max(each.labels.counts, default=0) for case in read.facts for each in case.images if each.labels]
    highest += [int(case.numbers["label"]) for case in read.facts if judged and "label" in case.numbers]
    classes = wanted["num_classes"] or max([1, *(value + 1 for value in highest)]) if judged else 1
    expected = expected._replace(classes=classes if judged else None, named_by="--num_classes")
    found = [*judge_case(read, expected), *judge_cohort([read], expected)]
    found = [each._replace(level=NOTE) if each.kind == "class never occurs" else each for each in found]
    wrong = [Finding("data", each.sentence, each.hint) for each in found if each.level == ERROR]
    axes = {len(image.shape) for case in read.facts for image in case.images}
    if not wrong and (axes - {2, 3} or len(axes) > 1 or wanted["dims"] not in (None, *axes)):
        wanted_axes = f"{wanted['dims']}D as --dims says" if wanted["dims"] else "2D, or all 3D"
        wrong.append(Finding("data", f"must be all {wanted_axes}, got {sorted(axes)}D", "Leave the others out."))
    if not wrong:
        wrong += _find_many_axes(read)
    if not wrong and judged:
        wrong += [*_find_tilted_slices(read), *_find_odd_labels(read, wanted["num_classes"])]
    if not wrong and judged and classes < 2:
        wrong.append(Finding("data", "no label has anything but background", "Is it the right folder?"))
    if wrong:
        raise SharingError(*wrong)
    return read, classes, [each for each in found if each.level == NOTE]


def _find_many_axes(read: ReadCases) -> Iterator[Finding]:
    """Vectors and the like, whose fifth axis MONAI takes for channels and the fourth for one of space."""
    for image in (each for case in read.facts for each in case.images):
        shape = next((header.shape for header in image.headers if len(header.shape) > 4), None)
        if shape is not None:
            problem = f"{image.file} has {len(shape)} axes, {_sizes(shape)}, and there is place for three and channels"
            yield Finding("data", problem, "Write the channels as its fourth axis, and leave the fifth out.")
            return


def _note_fourth_axis(read: ReadCases, images: Sequence[ImageFacts]) -> Iterator[CaseFinding]:
    """Channels that may be points in time: nothing in a file tells the two apart (NIfTI's fourth axis is time, in which the
    Decathlon keeps channels)."""
    found = [each for each in images if each.axes > 3 or any(len(header.shape) > 3 for header in each.headers)]
    found = [each for each in found if each.channels > max(len(each.files), 1)]
    if found:
        problem = f"the fourth axis of {len(found)} of {len(images)} images is taken as {found[0].channels} channels"
        hint = "Are they points in time? Then write a file of the one volume that is to be looked at."
        yield read.finding(NOTE, "channels", problem, hint, found[0].channels, file=found[0].file)


def _find_unknown_spacing(images: Sequence[ImageFacts], given: Any) -> str:
    """What the files have where none says how large its voxels are; empty where each of them does.

    Raises:
        SharingError: some of them do and others do not; none of them, in 3D, and no spacing is wanted.
    """
    unknown = [image for image in images if image.unknown_spacing]
    if not unknown:
        return ""
    such = f"do not say how large their voxels are, such as {unknown[0].file}: {unknown[0].unknown_spacing}"
    if len(unknown) < len(images):
        hint = "Write it into these files, or leave them out."
        raise SharingError.of("data", f"{len(unknown)} of {len(images)} images {such}", hint)
    if given is None and len(images[0].shape) > 2:
        hint = "Write it into the files, or say --spacing 1, which leaves them as they are."
        raise SharingError.of("spacing", f"is not known: the images {such}", hint)
    return unknown[0].unknown_spacing


def _find_tilted_slices(read: ReadCases) -> Iterator[Finding]:
    """2D images that leave the axial plane, as sagittal ones do: MONAI takes two rows of the affine, and has no spacing."""
    for image in (each for case in read.facts for each in case.images if len(each.shape) == 2):
        if image.affine is not None and image.usable and abs(image.affine[2, :2]).max() > 1e-3:
            problem = (
                f"{image.file} is a 2D image in a sagittal, coronal or oblique plane, of which MONAI has no spacing"
            )
            hint = "Write all of them, and their labels, as volumes of one slice, or with an affine of their own plane."
            yield Finding("data", problem, hint)
            return


def _find_odd_labels(read: ReadCases, wanted: int | None) -> Iterator[Finding]:
    """Label maps of several channels, as pictures with colours are, and values that are no numbers of classes, as 0 and 255."""
    for image in (each for case in read.facts for each in case.images if each.labels and each.channels > 1):
        problem = f"the label map {image.file} has {image.channels} channels"
        yield Finding("data", problem, "Write one channel, whose values are the classes, from 0 (background) on.")
        return
    present = sorted(_count_cases(read))
    if wanted is None and present and present[-1] + 1 > 2 * len(present):
        values = ", ".join(map(str, present[:6])) + (", …" if len(present) > 6 else "")
        problem = f"the labels are {values}: of {present[-1] + 1} classes most occur in no case"
        yield Finding("data", problem, f"Number the classes from 0 on, or say --num_classes {present[-1] + 1}.")


def _spread(value: Any, name: str, dims: int) -> list | None:
    """One value for each axis; None where none is given."""
    spread = list(value) if isinstance(value, (list, tuple)) else [value] * dims
    if len(spread) != dims:
        raise SharingError.of(name, f"must be {dims} numbers, as the data are {dims}D, got {value!r}")
    return None if value is None else spread


def _choose_spacing(spacings: np.ndarray, sizes: np.ndarray, given: Any, unknown: str) -> tuple[list[float], str]:
    """The median of each axis; of an axis much coarser than the others, and with fewer voxels, the 10th percentile, so that the
    finer of its cases do not lose slices (nnU-Net's ``determine_fullres_target_spacing``; Isensee et al. 2021).

    Args:
        spacings: of the cases in mm, ``(N, dims)``.
        sizes: of the cases in voxels, ``(N, dims)``.
        given: spacing that is wanted.
        unknown: what the files have in its place; empty where they say it.
    """
    found = " x ".join(_range(axis) for axis in spacings.T)
    if unknown:
        text = f", not measured: no file says it ({unknown}), and MONAI takes {found}"
        return given or [_short(each) for each in np.median(spacings, axis=0)], text
    if given is not None:
        return given, f"; the {len(spacings)} cases have {found}"
    middle, usual = np.median(spacings, axis=0), np.median(sizes, axis=0)
    text = f", median of {len(spacings)} cases: {found}"
    worst = int(np.argmax(middle))
    others = np.delete(middle, worst).max()
    if middle[worst] > COARSE * others and usual[worst] * COARSE < np.delete(usual, worst).min():
        middle[worst] = max(np.percentile(spacings[:, worst], PERCENTILE), others)
        text += f"; of the coarse axis the {PERCENTILE}th percentile (nnU-Net)"
    return [_short(each) for each in middle], text


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _range(values: Sequence[float] | np.ndarray) -> str:
    low, high = _short(min(values)), _short(max(values))
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _sizes(values: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{round(float(value), 2):g}" for value in values)


def _find_modality(found: FoundCases, images: Sequence[ImageFacts], given: str | None) -> tuple[str, str]:
    """``CT``, ``MR`` or none, and what says so. Values are asked of one channel alone: a CT beside a PET is no CT."""
    if given or found.modality:
        return given or found.modality, "--modality" if given else "dataset.json"
    air = sum(image.low < AIR for image in images if image.channels == 1)
    if air > len(images) / 2:
        return "CT", f"guessed: {air} of {len(images)} cases have values below {AIR}, as air in a CT has"
    return "", "no CT, as far as values tell"


def _normalise(items: list[dict[str, Any]], load: Callable[[Any], Any], modality: str, source: str, task: str) -> str:
    """The transforms of the intensities. Of CT, whose values mean the same in each case, the range of the foreground of all
    cases; else mean and deviation of each case and channel (both nnU-Net's)."""
    each_alone = f"  - {{_target_: NormalizeIntensityd, keys: image, channel_wise: true}}  # of each case; {source}"
    if modality != "CT":
        return each_alone
    values = np.concatenate([_sample(load(item)) for item in items])
    low, high = (_short(value) for value in np.percentile(values, (0.5, 99.5)))
    mean, deviation = _short(values.mean()), _short(values.std())
    if not low < high or not deviation:
        return each_alone
    where = "the foreground" if task == "segmentation" else "all voxels"
    window = f"a_min: {low}, a_max: {high}, b_min: {low}, b_max: {high}, clip: true"
    scale = f"subtrahend: {mean}, divisor: {deviation}"
    return "\n".join(
        [
            f"  # CT ({source}): 0.5th and 99.5th percentile, mean and deviation of {where} of {len(items)} cases (nnU-Net)",
            f"  - {{_target_: ScaleIntensityRanged, keys: image, {window}}}",
            f"  - {{_target_: NormalizeIntensityd, keys: image, {scale}}}",
        ]
    )


def _sample(case: dict[str, Any]) -> np.ndarray:
    """Values of the foreground of a case, evenly spread; of all voxels where it has no label map."""
    image, label = make_array(case["image"]), case["label"]
    where = make_array(label)[0] > 0 if getattr(label, "ndim", 0) > 1 else np.ones(image.shape[1:], bool)
    values = image[:, where].ravel()
    return values[:: max(values.size // VOXELS, 1)].astype(np.float64)


def _count_cases(read: ReadCases) -> Counter[int]:
    """Class to the number of cases that have it."""
    maps = [set(each.labels.counts) for case in read.facts for each in case.images if each.labels]
    numbers = [{int(case.numbers["label"])} for case in read.facts if "label" in case.numbers]
    return Counter(value for values in maps or numbers for value in values)


def _describe_classes(read: ReadCases, classes: int, found: FoundCases, task: str) -> str:
    counts, total = _count_cases(read), len(read.facts)
    if task != "segmentation":
        counted = ", ".join(f"{counts[value]} of {found.names.get(value, value)}" for value in range(classes))
        return f"  # {counted}"
    text = f"labels {', '.join(map(str, sorted(counts)))} of {total} cases"
    absent = [str(value) for value in range(classes) if not counts[value]]
    few = [f"{value} in {counts[value]}" for value in range(classes) if 0 < counts[value] < total]
    text += f"; {', '.join(absent)} in none" if absent else ""
    text += f"; {', '.join(few)}" if few else ""
    return f"; {text}"


def _describe_batch(plan: NetworkPlan, task: str, memory: float) -> str:
    many = f"each with {CROPS} patches" if task == "segmentation" else "images"
    return f"{many}; a step takes about {in_gigabytes(plan.memory)} of the {in_gigabytes(memory)} given"


def _plan_cache(sizes: np.ndarray, plan: NetworkPlan, channels: int, task: str) -> dict[str, str]:
    """Cases, preprocessed, as far as they fit half of the memory that is free: with all of many, the process would be killed."""
    voxels = sizes.prod(axis=1).sum() * (channels + 1)
    if task != "segmentation":
        voxels = len(sizes) * math.prod(plan.size) * channels
    needed, free = VALUE * voxels, read_free_memory()
    rate = min(1.0, math.floor(CACHED * free / needed * 100) / 100)
    told = f"; all of them take {in_gigabytes(needed)}"
    return {"cache_rate": str(rate), "cache_from": told + (f", and {in_gigabytes(free)} were free" if rate < 1 else "")}


def _plan_folds(items: list[dict[str, Any]], task: str) -> dict[str, Any]:
    """Five folds beside a test of a fifth, fewer where there are fewer subjects, or fewer of a class."""
    subject = "subject" if "subject" in items[0] else None
    owners: dict[Any, set] = {}
    for number, item in enumerate(items):
        label = item["label"] if task == "classification" else None
        owners.setdefault(label, set()).add(item["subject"] if subject else number)
    everybody = len(set().union(*owners.values()))
    if everybody < 3:
        problem = f"has {everybody} {'subjects' if subject else 'cases'}"
        raise SharingError.of("data", problem, "Training, validation and test need one each.")
    fewest = min(map(len, owners.values()))
    able = [n for n in (5, 4, 3) if fewest - math.ceil(fewest / min(n + 1, 5)) >= n]
    n_splits = max(able, default=2)
    test_size = round(1 / min(n_splits + 1, 5), 2)
    stratify = "label" if task == "classification" else None
    return {"n_splits": n_splits, "test_size": test_size, "subject": subject, "stratify": stratify}


def make_crop(classes: int) -> str:
    """The crop of a training on label maps: around each class as often as around the background."""
    lines = [
        "_target_: RandCropByLabelClassesd  # around each class as often as around the background",
        "keys: [image, label]",
        "label_key: label",
        'spatial_size: "@patch_size"',
        'num_classes: "@num_classes"',
        f"ratios: {json.dumps([1] * classes)}",
        f"num_samples: {CROPS}",
        "max_samples_per_class: 10000",
        "warn: false  # a case that lacks a class is cropped around the others",
    ]
    return "\n".join(f"  {'-' if not n else ' '} {line}" for n, line in enumerate(lines))


def make_criterion(labels: Sequence[int]) -> str:
    """The loss of a classification, which weighs classes where one is much more frequent than another."""
    counts = Counter(labels)
    if max(counts.values()) < UNEVEN * min(counts.values()):
        return "{_target_: torch.nn.CrossEntropyLoss}"
    weights = [
        _short(len(labels) / len(counts) / counts[value]) if counts[value] else 0.0 for value in range(max(counts) + 1)
    ]
    return f'{{_target_: torch.nn.CrossEntropyLoss, weight: "$torch.tensor({weights})"}}  # by how rare a class is'
