"""What is wrong with a case by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from monai.transforms import ResampleToMatchd

from monai_lighter.data.expected import Expected, changing
from monai_lighter.data.facts import ImageFacts, Labels
from monai_lighter.data.findings import ERROR, NOTE, CaseFinding
from monai_lighter.data.headers import StoredHeader, differences, find_contradictions, is_usable
from monai_lighter.data.reading import CaseFacts, Loading, Unreadable

__all__ = ["ReadCases", "is_split", "judge_case", "judges", "sizes"]


class ReadCases(NamedTuple):
    """The cases of one dataset, once they have been read.

    Attributes:
        mode: ``train``, ``val``, …
        id: config id of the dataset.
        facts: of each case that differs from those before it.
        names: of these cases.
        loading: of the dataset.
        labels: keys of entries that are labels.
    """

    mode: str
    id: str
    facts: list[CaseFacts]
    names: list[str]
    loading: Loading
    labels: tuple[str, ...]

    def finding(
        self, level: str, kind: str, problem: str, hint: str, value: Any = "", case: str = "", file: str = ""
    ) -> CaseFinding:
        """A finding in these cases."""
        return CaseFinding(level, kind, self.mode, self.id, case, file, str(value), problem, hint)


def judges(cases: ReadCases, expected: Expected, key: str) -> bool:
    """Whether the values of a label are the classes that losses and metrics are about, as far as can be told."""
    return expected.judged and not changing(cases.loading.rest, key)


def judge_case(cases: ReadCases, expected: Expected) -> Iterator[CaseFinding]:
    """Findings in each case by itself, in order."""
    for case, name in zip(cases.facts, cases.names, strict=True):
        for key in case.blank:
            yield _blank(cases, name, key)
        for key in cases.loading.keys if case.keys else ():
            if key not in case.keys:
                level = NOTE if key in cases.loading.optional else ERROR
                problem, hint = f"the entry {key!r} is not there", "Add it, or leave the case out."
                yield cases.finding(level, "missing", problem, hint, key, name)
        for each in case.unreadable:
            yield from _unreadable(cases, name, each)
        for image in case.images:
            yield from _image(cases, name, image, expected)
        for key, number in case.numbers.items():
            if key in cases.labels and judges(cases, expected, key):
                yield from _number(cases, name, key, number, expected)
        yield from _pairs(cases, name, case.images)
        for key, shift in case.shifts.items() if expected.judged else ():
            way = f"moved by {shift.voxels:+d} voxels along axis {shift.axis}"
            problem = (
                f"the label follows the image better {way}: correlation {shift.correlation:.2f}, now {shift.before:.2f}"
            )
            hint = "Look at both: was one of them padded, cut or moved?"
            yield cases.finding(NOTE, "alignment", problem, hint, way, name, next(iter(case.files.get(key, ())), ""))


def sizes(shape: Sequence[int]) -> str:
    """``64 x 64 x 40``."""
    return " x ".join(map(str, shape))


def _blank(cases: ReadCases, name: str, key: str) -> CaseFinding:
    problem, hint = f"the entry {key!r} is blank", "Fill it in, or leave the case out."
    return cases.finding(ERROR, "missing", problem, hint, "blank", name)


def _unreadable(cases: ReadCases, name: str, each: Unreadable) -> Iterator[CaseFinding]:
    headers = dict(each.headers)
    for header_file, header in headers.items():
        yield from _header(cases, name, header_file, header)
    found = list(_stacked(cases, name, headers))
    yield from found
    if found:
        return
    path, value = Path(each.file), each.cause
    kind, problem, hint = "unreadable", f"cannot be read: {each.cause}", "Mend or replace the file."
    if each.file and not path.exists():
        problem, hint, value = "is not there", "Mend the path, or put the file there.", "no file"
    elif each.file and path.is_dir():
        value = "a folder"
        hint = "A folder with no DICOM series is no image: is a cell of the table, or an entry of the list, blank?"
    elif each.file and path.is_file() and not path.stat().st_size:
        kind, problem, value = "empty", "is empty, 0 bytes", "0 bytes"
        hint = "Copy or export the file again."
    elif not each.file:
        hint = "Mend the case, or the transforms that load it."
    yield cases.finding(ERROR, kind, problem, hint, value, name, each.file)


def _stacked(cases: ReadCases, name: str, headers: dict[str, StoredHeader]) -> Iterator[CaseFinding]:
    """How the files of one entry, which are stacked as channels, differ."""
    hint = "Resample the modalities to one grid."
    for (first, reference), (file, header) in product([*headers.items()][:1], [*headers.items()][1:]):
        if header.shape[:3] != reference.shape[:3]:
            problem = f"its shape {sizes(header.shape)} is not that of {first}, {sizes(reference.shape)}"
            yield cases.finding(ERROR, "shape", problem, hint, sizes(header.shape), name, file)
        if is_usable(header.affine) and is_usable(reference.affine):
            for kind, values in differences(header.affine, reference.affine, header.shape[:3]):
                problem = f"its {kind} is not that of {first}: {values}"
                yield cases.finding(ERROR, kind, problem, hint, values, name, file)


def _image(cases: ReadCases, name: str, image: ImageFacts, expected: Expected) -> Iterator[CaseFinding]:
    what = image.file or f"entry {image.key!r}"
    if not image.voxels:
        problem = f"has no voxels, its shape is {sizes(image.shape)}"
        yield cases.finding(ERROR, "empty", problem, "Export it again.", sizes(image.shape), name, what)
        return
    for count, kind, noun in ((image.nans, "NaN", "not a number"), (image.infs, "Inf", "infinite")):
        if count:
            problem = f"is {noun} in {count} of {image.voxels} voxels"
            hint = "Replace them in the file: one makes all weights NaN."
            yield cases.finding(ERROR, kind, problem, hint, count, name, what)
    if image.headers:
        for file, header in zip(image.files, image.headers, strict=False):
            yield from _header(cases, name, file, header)
    elif image.affine is not None and not image.usable:
        yield _unusable(cases, name, what, image.affine)
    if image.key in cases.labels:
        if image.labels is not None and judges(cases, expected, image.key):
            yield from _labels(cases, name, what, image, image.labels, expected)
    elif image.low == image.high:
        problem, hint = f"all its voxels are {image.low:.6g}", "Leave the case out, or export it again."
        yield cases.finding(ERROR, "constant", problem, hint, f"{image.low:.6g}", name, what)


def _header(cases: ReadCases, name: str, file: str, header: StoredHeader) -> Iterator[CaseFinding]:
    if not is_usable(header.affine):
        yield _unusable(cases, name, file, header.affine)
    for level, problem in find_contradictions(header):
        hint = "MONAI and other programs take different ones: write the right one to all three."
        yield cases.finding(level, "contradicting affine", problem, hint, problem, name, file)
    if header.unknown_spacing:
        problem = f"does not say how large its voxels are: {header.unknown_spacing}"
        hint = "Write it into the file: MONAI takes 1 mm."
        yield cases.finding(NOTE, "spacing", problem, hint, header.unknown_spacing, name, file)
    if header.unit in ("meter", "micron"):
        problem = f"its spacing is in {header.unit}, which MONAI takes for mm"
        yield cases.finding(NOTE, "unit", problem, "Write it in mm.", header.unit, name, file)


def _unusable(cases: ReadCases, name: str, file: str, affine: np.ndarray) -> CaseFinding:
    if not np.isfinite(affine).all():
        what = "holds NaN or Inf"
    elif not affine[:3, :3].any():
        what = "is zero"
    else:
        what = "cannot be inverted"
    rows = "[" + ", ".join("[" + ", ".join(f"{v:.4g}" for v in row) + "]" for row in affine[:3]) + "]"
    hint = "Write one with the spacing and orientation of the scan."
    return cases.finding(ERROR, "unusable affine", f"its affine {what}: {rows}", hint, rows, name, file)


def _labels(
    cases: ReadCases, name: str, what: str, image: ImageFacts, labels: Labels, expected: Expected
) -> Iterator[CaseFinding]:
    if labels.broken:
        few = ", ".join(f"{value:.6g}" for value in labels.broken)
        problem = f"the label has values that are no integers, such as {few}, in {_voxels(labels.broken_voxels)}"
        hint = "Round them where the file is written: what reads them as classes cuts off."
        yield cases.finding(ERROR, "label value", problem, hint, few, name, what)
    allowed = range(2) if image.channels > 1 and image.channels == expected.classes else expected.values
    if allowed is None or (image.channels > 1 and image.channels != expected.classes) or is_split(image, expected):
        return
    present = labels.counts or dict.fromkeys((int(image.low), int(image.high)), 0)
    outside = [value for value in present if value not in allowed and value not in expected.ignored]
    if outside:
        few = ", ".join(map(str, outside[:5])) + (", …" if len(outside) > 5 else "")
        many = sum(present[value] for value in outside)
        where = f" in {_voxels(many)}" if many else ""
        problem = f"the label has the value {few}{where}, the classes are {allowed[0]} to {allowed[-1]}"
        yield cases.finding(ERROR, "label value", problem, _hint_classes(expected), few, name, what)
    elif list(present) == [0] and not labels.broken:
        yield cases.finding(NOTE, "background", "the label is background alone", "Is that so?", 0, name, what)


def _voxels(count: int) -> str:
    return f"{count} voxel" if count == 1 else f"{count} voxels"


def is_split(image: ImageFacts, expected: Expected) -> bool:
    """Whether a map of one channel is to become one channel for each class, in a way that is not known."""
    return expected.several and image.channels == 1 and (expected.classes or 0) > 1


def _hint_classes(expected: Expected) -> str:
    by = f" ({expected.named_by})" if expected.named_by else ""
    return f"Map the values to the classes, or set their number{by}."


def _number(cases: ReadCases, name: str, key: str, number: float, expected: Expected) -> Iterator[CaseFinding]:
    allowed = expected.values
    if not np.isfinite(number):
        yield _blank(cases, name, key)
    elif number != int(number):
        problem = f"the entry {key!r} must be a class, got {number:.6g}"
        yield cases.finding(ERROR, "label value", problem, "Write an integer.", f"{number:.6g}", name)
    elif allowed is not None and int(number) not in allowed and int(number) not in expected.ignored:
        problem = f"the entry {key!r} is {int(number)}, the classes are {allowed[0]} to {allowed[-1]}"
        yield cases.finding(ERROR, "label value", problem, _hint_classes(expected), int(number), name)


def _pairs(cases: ReadCases, name: str, images: Sequence[ImageFacts]) -> Iterator[CaseFinding]:
    """How the label and the modalities of a case differ from its first image."""
    pictures = [image for image in images if image.key not in cases.labels and image.voxels]
    reference = pictures[0] if pictures else None
    for image in images:
        if reference is None or image is reference or not image.voxels:
            continue
        matched = any(isinstance(each, ResampleToMatchd) and image.key in each.keys for each in cases.loading.rest)
        level = NOTE if matched else ERROR
        what = "label" if image.key in cases.labels else image.key
        file, other = image.file or f"entry {image.key!r}", reference.file or f"entry {reference.key!r}"
        hint = (
            "ResampleToMatchd brings it there." if matched else f"Resample it to the image, or mend the {what}'s file."
        )
        if image.shape != reference.shape:
            problem = f"the shape of the {what}, {sizes(image.shape)}, is not that of {other}, {sizes(reference.shape)}"
            yield cases.finding(level, "shape", problem, hint, sizes(image.shape), name, file)
        if not image.usable or not reference.usable:
            continue
        assert image.affine is not None
        assert reference.affine is not None
        for kind, values in differences(image.affine, reference.affine, image.shape):
            problem = f"the {kind} of the {what} is not that of {other}: {values}"
            yield cases.finding(level, kind, problem, hint, values, name, file)
        if image.key not in cases.labels and image.content and image.content == reference.content:
            problem = f"the {what} has the same content as {other}"
            yield cases.finding(ERROR, "duplicate", problem, "Is it the right file?", "same voxels", name, file)
