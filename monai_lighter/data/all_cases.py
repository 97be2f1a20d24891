"""What is wrong with cases beside each other: those that differ from the rest, stand twice, or leak."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from monai_lighter.data.expected import Expected, changing
from monai_lighter.data.facts import ImageFacts
from monai_lighter.data.findings import ERROR, NOTE, CaseFinding
from monai_lighter.data.headers import in_mm, spacing
from monai_lighter.data.one_case import ReadCases, is_split, judges, sizes
from monai_lighter.data.reading import CaseFacts

__all__ = ["SUBJECT", "SUBJECT_KEYS", "canonical", "judge_cohort"]

FEW = 5
"""Cases below which nothing is called an outlier."""
SPACING, SIZE = 1.5, 2.0
"""Factors from the median that are no outlier yet."""
DEVIATIONS = 6.0
"""Robust standard deviations of the logarithm that are no outlier yet."""
SUBJECT = re.compile(
    r"(?:^|[/\\_.-])(sub-[A-Za-z0-9]+|(?:subject|subj|sub|patient|pat|participant)[-_]?\d+)(?=[/\\_.-]|$)", re.I
)
"""How a path names a subject: as BIDS does, or with a number."""
SUBJECT_KEYS = re.compile(r"^(subject|patient|participant)([-_ ]?id)?$", re.I)
AXES = {"L": 0, "R": 0, "P": 1, "A": 1, "I": 2, "S": 2}
TRAINS = "train"


def judge_cohort(all_cases: Sequence[ReadCases], expected: Expected) -> Iterator[CaseFinding]:
    """Findings in the cases of each mode together, then between modes."""
    files = [file for cases in all_cases for case in cases.facts for each in case.files.values() for file in each]
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files]) if files else ""
    marked = [_Marked(cases, folder) for cases in all_cases]
    for cases, marks in zip(all_cases, marked, strict=True):
        keys = dict.fromkeys(image.key for case in cases.facts for image in case.images)
        for key in keys:
            images = [(name, image) for case, name in _named(cases) for image in case.images if image.key == key]
            yield from _odd_axes(cases, key, images)
            yield from _odd_channels(cases, key, images, expected, len(keys))
            yield from _outliers(cases, key, images)
            yield from _orientations(cases, key, images)
        yield from _missing(cases)
        yield from _names_of_columns(cases)
        yield from _unjudged(cases, expected)
        yield from _repeated(cases)
        yield from _never(cases, expected, all_cases)
        yield from _duplicates(cases, marks.shared)
    for one, other in combinations(marked, 2):
        modes = (one.cases.mode, other.cases.mode)
        if modes[0] != modes[1] and "predict" not in modes:
            yield from _leaks(*((other, one) if modes[1] == TRAINS else (one, other)))


def _named(cases: ReadCases) -> Iterator[tuple[CaseFacts, str]]:
    return zip(cases.facts, cases.names, strict=True)


def canonical(image: ImageFacts) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Spacing in mm, and size in voxels, along the axes that are nearest to left-right, back-front, foot-head.

    Without a usable affine: no spacing, and the size of the axes as stored.
    """
    rank = len(image.shape)
    if not image.usable or rank > 3:
        return (), image.shape
    assert image.affine is not None
    lengths = spacing(image.affine)
    order = sorted(range(rank), key=lambda axis: AXES.get(image.orientation[axis], axis))
    return tuple(lengths[axis] for axis in order), tuple(image.shape[axis] for axis in order)


Named = Sequence[tuple[str, ImageFacts]]


def _odd_axes(cases: ReadCases, key: str, images: Named) -> Iterator[CaseFinding]:
    counts = Counter(image.axes for _, image in images)
    usual, many = counts.most_common(1)[0]
    for name, image in images if many > len(images) / 2 else ():
        if image.axes != usual:
            more = f", {image.channels} volumes or channels" if image.channels > 1 else ""
            problem = f"it is {image.axes}D{more}, {many} others are {usual}D"
            hint = "Take one volume of it, or leave the case out."
            yield cases.finding(ERROR, "axes", problem, hint, f"{image.axes}D", name, image.file or f"entry {key!r}")


def _odd_channels(cases: ReadCases, key: str, images: Named, expected: Expected, keys: int) -> Iterator[CaseFinding]:
    counts = Counter(image.channels for _, image in images)
    usual, many = counts.most_common(1)[0]
    axes = Counter(image.axes for _, image in images).most_common(1)[0][0]
    single = key not in cases.labels and keys - len(cases.labels) <= 1
    wanted = expected.channels if single and not changing(cases.loading.rest, key, channels=True) else None
    if wanted and usual != wanted and len(counts) == 1:
        problem = f"the images have {usual} channels, the network takes {wanted}"
        yield cases.finding(ERROR, "channels", problem, "Set in_channels of the network.", usual)
        return
    right = wanted or (usual if many > len(images) / 2 else None)
    for name, image in images:
        if right is not None and image.channels != right and image.axes == axes:
            problem = f"it has {image.channels} channels, {'the network takes' if wanted else 'others have'} {right}"
            hint = "Convert it, or leave the case out."
            yield cases.finding(ERROR, "channels", problem, hint, image.channels, name, image.file or f"entry {key!r}")


def _outliers(cases: ReadCases, key: str, images: Named) -> Iterator[CaseFinding]:
    if key in cases.labels:
        return  # as their images
    grids = [canonical(image) for _, image in images]
    for kind, part, factor in (("spacing", 0, SPACING), ("size", 1, SIZE)):
        rank = Counter(len(grid[part]) for grid in grids).most_common(1)[0][0]
        chosen = [n for n, grid in enumerate(grids) if len(grid[part]) == rank and min(grid[part], default=0) > 0]
        if len(chosen) < FEW or not rank:
            continue
        values = np.array([grids[n][part] for n in chosen], float)
        for row in _far(values, factor):
            name, image = images[chosen[row]]
            middle = np.median(values, axis=0)
            shown = in_mm(values[row]) if kind == "spacing" else sizes(grids[chosen[row]][1])
            usual = in_mm(middle) if kind == "spacing" else sizes([round(v) for v in middle])
            problem = f"its {kind} {shown} is far from the median, {usual}"
            yield cases.finding(NOTE, f"{kind} outlier", problem, "Is that so?", shown, name, image.file)


def _far(values: np.ndarray, factor: float) -> list[int]:
    """Rows of positive values ``(N, axes)`` of which one lies far from the median of its column."""
    logs = np.log(values)
    away = np.abs(logs - np.median(logs, axis=0))
    limit = np.maximum(math.log(factor), DEVIATIONS * 1.4826 * np.median(away, axis=0))
    return [int(row) for row in np.flatnonzero((away > limit).any(axis=1))]


def _orientations(cases: ReadCases, key: str, images: Named) -> Iterator[CaseFinding]:
    oriented = any("Orientation" in type(each).__name__ for each in cases.loading.rest)
    codes = Counter(image.orientation for _, image in images if image.usable)
    if len(codes) > 1 and not oriented and key not in cases.labels:
        shown = ", ".join(f"{count} {code}" for code, count in codes.most_common())
        problem = f"the orientations of {key or 'the images'} differ: {shown}"
        yield cases.finding(NOTE, "orientation", problem, "Orientationd brings them to one.", shown)


def _missing(cases: ReadCases) -> Iterator[CaseFinding]:
    """Entries that most other cases have, and that the loaders do not already require; lists of files that are shorter."""
    counts = Counter(key for case in cases.facts for key in case.keys)
    wanted = {key for key, count in counts.items() if count > len(cases.facts) / 2} - set(cases.loading.keys)
    wanted = {key for key in wanted if key in cases.labels or any(key in case.files for case in cases.facts)}
    for case, name in _named(cases):
        for key in sorted(wanted - set(case.keys)) if case.keys else ():
            problem, hint = f"the entry {key!r}, which other cases have, is not there", "Add it, or leave the case out."
            yield cases.finding(ERROR, "missing", problem, hint, key, name)
    for key in counts:
        lengths = Counter(len(case.files[key]) for case in cases.facts if key in case.files)
        usual, many = lengths.most_common(1)[0] if lengths else (0, 0)
        for case, name in _named(cases) if many > sum(lengths.values()) / 2 else ():
            found = len(case.files.get(key, ()))
            if found and found != usual:
                problem = f"the entry {key!r} has {found} files, others have {usual}"
                hint = "Add the modality that is missing, or leave the case out."
                yield cases.finding(ERROR, "missing", problem, hint, f"{found} files", name)


def _names_of_columns(cases: ReadCases) -> Iterator[CaseFinding]:
    """Keys that a table with a BOM or another separator leaves behind."""
    for key in dict.fromkeys(key for case in cases.facts for key in case.keys):
        if key.startswith(("\ufeff", "ï»¿")) or (";" in key) or "\t" in key or key != key.strip():
            hint = "Read its table with encoding='utf-8-sig' and its own separator."
            yield cases.finding(ERROR, "columns", f"the cases have an entry named {key!r}", hint, repr(key))


def _unjudged(cases: ReadCases, expected: Expected) -> Iterator[CaseFinding]:
    for key in cases.labels if expected.judged else ():
        name = changing(cases.loading.rest, key)
        if name and any(image.key == key for case in cases.facts for image in case.images):
            problem = f"the values of {key!r} are not compared with the classes, as {name} may change them"
            yield cases.finding(NOTE, "not judged", problem, "See the values in the summary.", name)


def _repeated(cases: ReadCases) -> Iterator[CaseFinding]:
    if len({case.times for case in cases.facts}) > 1:
        for case, name in _named(cases):
            if case.times > 1:
                problem = f"the case stands {case.times} times in the data"
                yield cases.finding(NOTE, "repeated", problem, "Is that meant?", case.times, name)


def _never(cases: ReadCases, expected: Expected, all_cases: Sequence[ReadCases]) -> Iterator[CaseFinding]:
    """Classes that no label of a mode has. In training that is an error, but for numbers that the labels of all modes leave out
    below their highest one (0, 1, 2, 4 of BraTS)."""
    for key in cases.labels if expected.values is not None else ():
        found = _occurring(cases, key, expected) if judges(cases, expected, key) else set()
        absent = [value for value in expected.values or () if value not in found]
        if absent and found:
            anywhere = set().union(*(_occurring(each, key, expected) for each in all_cases))
            is_gap = not anywhere & {*absent} and max(absent) < max(anywhere)
            level = ERROR if cases.mode == TRAINS and not is_gap else NOTE
            shown = ", ".join(expected.name(value) for value in absent[:5]) + (", …" if len(absent) > 5 else "")
            problem = f"no {key} of {len(cases.facts)} cases has {shown}"
            by = f" ({expected.named_by})" if expected.named_by else ""
            hint = f"Add cases that have it, or set the number of classes{by}."
            hint = "Is that meant? Else number the classes without it." if is_gap else hint
            yield cases.finding(level, "class never occurs", problem, hint, ", ".join(map(str, absent)))


def _occurring(cases: ReadCases, key: str, expected: Expected) -> set[int]:
    """Values of a label over all cases; none where a class is a channel."""
    found = {int(case.numbers[key]) for case in cases.facts if math.isfinite(case.numbers.get(key, math.nan))}
    for image in (image for case in cases.facts for image in case.images if image.key == key):
        if image.labels is None or is_split(image, expected) or image.channels > 1:
            return set()
        found |= set(image.labels.counts)
    return found


def _duplicates(cases: ReadCases, shared: Container[Any]) -> Iterator[CaseFinding]:
    """Images of several cases of a mode that are one, and labels that are one while the images differ."""
    seen: dict[tuple, tuple[str, str]] = {}
    for case, name in _named(cases):
        again = [(image.key, image.content) in seen for image in case.images if image.key not in cases.labels]
        for image in case.images:
            if not image.content or image.content in shared:
                continue
            first, file = seen.setdefault((image.key, image.content), (name, image.file))
            is_label = image.key in cases.labels
            if first == name or (is_label and any(again)):
                continue
            same = bool(image.file) and os.path.realpath(file) == os.path.realpath(image.file)
            level = NOTE if is_label or same else ERROR
            hint = "Is that meant?" if level == NOTE else "Leave one of them out."
            what = "is also in" if same else "has the same voxels as"
            problem = f"the {image.key or 'image'} {what} case {first}"
            yield cases.finding(level, "duplicate", problem, hint, first, name, image.file)


class _Marked:
    """The cases of a mode, and by what each would be known again in another.

    Attributes:
        cases: of the mode.
        marks: of each case (`_marks`).
        shared: values that most cases share, such as an atlas: they tell nothing of a case.
    """

    def __init__(self, cases: ReadCases, folder: str) -> None:
        self.cases = cases
        self.marks = [[*_marks(case, cases, folder)] for case in cases.facts]
        counts = Counter(mark for marks in self.marks for mark in set(marks))
        most = max(len(cases.facts) / 2, FEW)
        self.shared = {value for (kind, value), count in counts.items() if kind != "subject" and count > most}


def _leaks(one: _Marked, other: _Marked) -> Iterator[CaseFinding]:
    """The same file, content or subject in two modes. Between validation and test it is a note."""
    first, second = one.cases.mode, other.cases.mode
    level = ERROR if first == TRAINS else NOTE
    hint = f"Leave it out of {first} or {second}: a case that was trained on says nothing of others."
    known: dict[tuple[str, Any], str] = {}
    common = one.shared | other.shared
    for marks, name in zip(one.marks, one.cases.names, strict=True):
        for mark in marks:
            known.setdefault(mark, name)
    said = {"file": "its file is also in", "content": "it has the voxels of", "subject": "its subject is also in"}
    for (case, name), marks in zip(_named(other.cases), other.marks, strict=True):
        found = [mark for mark in marks if mark in known and mark[1] not in common]
        if found:
            kind, value = min(found, key=lambda mark: list(said).index(mark[0]))
            problem = f"{said[kind]} {first}, case {known[kind, value]}"
            file = next((image.file for image in case.images), "")
            shown = str(value) if kind != "content" else "same voxels"
            yield other.cases.finding(level, "leakage", problem, hint, shown, name, file)


def _marks(case: CaseFacts, cases: ReadCases, folder: str) -> Iterator[tuple[str, Any]]:
    """Files, contents and subject of a case; paths name a subject below the folder that all cases lie in (``/data/sub_2024``)."""
    for key, files in case.files.items():
        if key not in cases.labels:
            yield from (("file", os.path.realpath(file)) for file in files)
    for image in case.images:
        if image.key not in cases.labels and image.content:
            yield "content", image.content
    named = [text for key, text in case.texts.items() if SUBJECT_KEYS.match(key) and text.strip()]
    for files in case.files.values() if not named else ():
        named += [match[1] for file in files for match in [SUBJECT.search(os.path.relpath(file, folder))] if match]
    yield from (("subject", text.lower()) for text in named[:1])
