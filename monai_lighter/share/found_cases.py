"""The cases of a folder or a table, in the layouts that data usually come in."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from monai_lighter.data.all_cases import SUBJECT, SUBJECT_KEYS
from monai_lighter.data.folds import read_table
from monai_lighter.share.layout import SharingError

__all__ = ["FoundCases", "find_cases"]

SUFFIX = re.compile(r"\.(nii\.gz|nii|mha|mhd|nrrd|png|jpe?g|tiff?|bmp|npy)$", re.I)
PAIRS = (("imagesTr", "labelsTr"), ("images", "labels"), ("images", "masks"), ("image", "label"), ("image", "mask"))
"""Folders of images and of label maps: nnU-Net's, and plain ones."""
CHANNEL = re.compile(r"_\d{4}$")
"""Ending of the name of a channel's file, as nnU-Net has it."""
MR = re.compile(r"MRI?\b|T1|T2|FLAIR|DWI|ADC|PD\b|SWI|CINE")
"""Beginning of the name of a channel of MR in a dataset.json; others (PET, R, noNorm) say nothing."""
LABELS = re.compile(r"_(dseg|seg|mask|label|labels)$", re.I)
"""Ending of the name of a label map in a data set like BIDS."""
PARTS = re.compile(r"(train_?)?split|(sub)?set|dataset_?split|partition|fold", re.I)
"""Column of a table that says what a case is for."""
EMPTY = ("", "nan", "<na>", "null")
"""What tables have in place of a value: nothing, or what pandas writes."""
PLACES = (
    "a csv table with the columns image and label, or a folder: imagesTr and labelsTr, images and labels, dataset.json of the "
    "Medical Segmentation Decathlon, sub-… as BIDS has them, or (classification) a folder a class"
)


class FoundCases(NamedTuple):
    """What a folder or a table has of cases.

    Attributes:
        layout: how they lay there.
        cases: ``image`` (a list of files, one a channel, or one with all), ``label`` (a file, a class, or a number), and, where
            the table or the paths say it, ``subject``.
        modality: ``CT`` or ``MR``, where a dataset.json says so, else empty.
        names: class to its name, where known.
    """

    layout: str
    cases: list[dict[str, Any]]
    modality: str = ""
    names: dict[int, str] = {}


def find_cases(place: Path, task: str) -> FoundCases:
    """The cases of a table or folder. No image is read.

    Args:
        place: csv file, or folder.
        task: ``segmentation``, whose labels are files, ``classification`` or ``regression``, whose labels are values.

    Raises:
        SharingError: there is nothing there, or no layout that is known; images without a label; labels of another kind than the
            task has.
    """
    if place.is_file() and place.suffix.lower() == ".csv":
        found: FoundCases | None = _read_rows(place, task)
    elif place.is_dir():
        found = next(filter(None, (read(place) for read in _readers(task))), None)
    else:
        hint = f"Give {PLACES}." if place.exists() else "Mend the path."
        raise _refuse(f"there is no table (.csv) and no folder {str(place)!r}", hint)
    if found is None or not found.cases:
        raise _refuse(f"{str(place)!r} has no cases in a layout that is known", f"Known are {PLACES}.")
    return _with_subjects(_with_labels(found, task), place if place.is_dir() else place.parent)


def _refuse(problem: str, hint: str) -> SharingError:
    return SharingError.of("data", problem, hint)


def _readers(task: str) -> list[Callable[[Path], FoundCases | None]]:
    if task != "segmentation":
        return [_read_classes] if task == "classification" else []
    return [_read_decathlon, _read_pairs, _read_subjects]


def _name_class(cell: str, table: Path) -> str:
    """A label as it stands in the table, also where a folder beside that has its name and `read_table` took it for that."""
    return os.path.relpath(cell, table.parent) if os.path.isabs(cell) and os.path.isdir(cell) else cell


def _read_rows(table: Path, task: str) -> FoundCases:
    rows = read_table(table)
    columns = [*rows[0]]
    if not {"image", "label"} <= {*columns}:
        hint = "Rename them." if len(columns) > 1 else "Save it with commas between the cells."
        raise _refuse(f"{table} must have the columns image and label, it has {', '.join(columns)}", hint)
    part = next((name for name in columns if PARTS.fullmatch(name.strip())), None)
    if part is not None:
        parts = ", ".join(sorted({row[part] for row in rows})[:4])
        hint = "Leave out the rows of the test, and then the column; a test of the others is made, of a fifth of them."
        raise _refuse(
            f"{table} says in the column {part!r} ({parts}) which part a case is in, and init splits anew", hint
        )
    images = ["image", *(name for name in columns if re.fullmatch(r"image_\d+", name))]
    subject = next((name for name in columns if SUBJECT_KEYS.match(name)), None)
    own = {"subject": subject} if subject else {}
    for number, row in enumerate(rows, 1):
        for name in (name for name in (*images, "label") if row[name].strip().lower() in EMPTY):
            hint = "Fill it in, or leave the row out; a channel that most cases lack has no column."
            raise _refuse(f"row {number} of {table} has no {name}, its cell is {row[name]!r}", hint)
    cases = [
        {
            "image": [row[name] for name in images],
            "label": row["label"] if task == "segmentation" else _name_class(row["label"], table),
            **{key: row[name] for key, name in own.items()},
        }
        for row in rows
    ]
    return FoundCases("table", cases)


def _describe_dataset(folder: Path) -> dict[str, Any]:
    """What dataset.json says, of the Decathlon or of nnU-Net; nothing where there is none."""
    file = folder / "dataset.json"
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _refuse(f"{file} is no JSON: {error}", "Mend it.") from error
    return content if isinstance(content, dict) else {}


def _read_decathlon(folder: Path) -> FoundCases | None:
    listed = _describe_dataset(folder).get("training")
    if not isinstance(listed, list) or not all(
        isinstance(each, dict) and isinstance(each.get("image"), str) and isinstance(each.get("label"), str)
        for each in listed
    ):
        return None
    if not any((folder / each["image"]).exists() for each in listed):  # nnU-Net's first version leaves the _0000 out
        return None
    cases = [{"image": [str(folder / each["image"])], "label": str(folder / each["label"])} for each in listed]
    return _told(folder, FoundCases("Medical Segmentation Decathlon", cases))


def _told(folder: Path, found: FoundCases) -> FoundCases:
    """With the modality and the names of classes that dataset.json gives."""
    told = _describe_dataset(folder)
    channels = told.get("channel_names") or told.get("modality")
    kinds = {str(kind).upper() for kind in (channels.values() if isinstance(channels, dict) else ())}
    modality = "CT" if kinds == {"CT"} else "MR" if kinds and all(MR.match(kind) for kind in kinds) else ""
    pairs = (told.get("labels") or {}).items() if isinstance(told.get("labels") or {}, dict) else ()
    both = [(key, value) if str(key).isdigit() else (value, key) for key, value in pairs]
    for number, name in both:
        _require_class(folder / "dataset.json", number, str(name))
    names = {int(number): str(name) for number, name in both if str(number).isdigit()}
    return found._replace(modality=modality, names=names)


def _require_class(file: Path, number: Any, name: str) -> None:
    """Raises a SharingError for what nnU-Net has beside classes: voxels to be left out, and regions of several classes."""
    if name.strip().lower() == "ignore":
        problem = f"{file}: the label {name!r} ({number}) is of voxels to leave out, which would be trained as a class"
        hint = "Give these voxels a class in the label maps (as 0, background), and take it out of dataset.json."
        raise _refuse(f"{problem}, and measured as one", f"{hint} Or write a config whose loss has an ignore_index.")
    if isinstance(number, list):
        problem = (
            f"{file}: the label {name!r} is a region of several classes, {number}, and the new network has classes"
        )
        hint = "Name each class with its own number. Or write a config with a channel for each region."
        raise _refuse(f"{problem} that exclude each other", hint)


def _read_pairs(folder: Path) -> FoundCases | None:
    for images, labels in PAIRS:
        if (folder / images).is_dir() and (folder / labels).is_dir():
            found = FoundCases(f"{images} and {labels}", [*_pair(folder / images, folder / labels)])
            return _told(folder, found)
    return None


def _list_images(folder: Path) -> dict[str, Path]:
    """Path below the folder, without its suffix, to the file."""
    found: dict[str, Path] = {}
    for path in _list_files(folder):
        name = SUFFIX.sub("", path.relative_to(folder).as_posix())
        if name in found:
            problem = (
                f"{str(found[name])!r} and {path.name!r} have one name, so that it is not known which one the case has"
            )
            raise _refuse(problem, "Remove one of them.")
        found[name] = path
    return found


def _list_files(folder: Path) -> list[Path]:
    """Images, but none that are hidden or in a hidden folder (``._x.nii.gz``, ``.ipynb_checkpoints``)."""
    files = sorted(path for path in folder.rglob("*") if SUFFIX.search(path.name))
    return [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _pair(images: Path, labels: Path) -> Iterator[dict[str, Any]]:
    maps = _list_images(labels)
    channels: dict[str, dict[str, str]] = defaultdict(dict)
    for name, file in _list_images(images).items():
        short = CHANNEL.sub("", name)
        own = short if short in maps and name not in maps else name
        channels[own][name.removeprefix(own)] = str(file)
    for one, other, what in ((channels, maps, "no label map"), (maps, channels, "no image")):
        alone = sorted({*one} - {*other})
        if alone:
            problem = f"{len(alone)} cases of {images.name} and {labels.name} have {what}, such as {alone[0]!r}"
            raise _refuse(problem, "A label map has the name of its image, without the _0000 of channels.")
    usual = Counter(map(tuple, channels.values())).most_common(1)
    for name, files in channels.items():
        if tuple(files) != usual[0][0]:
            has, most = (" and ".join(f"{name}{ending}" for ending in each) for each in (tuple(files), usual[0][0]))
            problem = f"{name!r} of {images.name} has {has}, and not {most} as most cases have them"
            raise _refuse(problem, "Complete it, or take it out of both folders.")
        yield {"image": [*files.values()], "label": str(maps[name])}


def _read_subjects(folder: Path) -> FoundCases | None:
    """One case a subject and session, as BIDS has them; the label maps beside the images, or in ``derivatives``."""
    if not any(path.is_dir() for path in folder.glob("sub-*")):
        return None
    images: dict[tuple, dict[str, str]] = defaultdict(dict)
    labels: dict[tuple, list[str]] = defaultdict(list)
    for name, file in _list_images(folder).items():
        case = tuple(re.findall(r"(?:^|/)(sub-[^/_]+|ses-[^/_]+)(?=/)", name))
        kind = name.rpartition("_")[2]
        if case and LABELS.search(name):
            labels[case].append(str(file))
        elif case and "derivatives" not in name.split("/"):
            if kind in images[case]:
                problem = f"{'/'.join(case)} has two images {kind}, {images[case][kind]} and {file}"
                raise _refuse(problem, "Write a table (image, label) that says which of them is the case's.")
            images[case][kind] = str(file)
    cases = {case: kinds for case, kinds in images.items() if kinds}
    usual = Counter(tuple(sorted(kinds)) for kinds in cases.values()).most_common(1)
    for case, kinds in cases.items():
        found = f"{len(labels[case])} label maps (…_dseg, _seg, _mask, _label) and {', '.join(sorted(kinds))}"
        if len(labels[case]) != 1 or tuple(sorted(kinds)) != usual[0][0]:
            problem = f"{'/'.join(case)} has {found}, not one label map and {', '.join(usual[0][0])} as most have"
            raise _refuse(problem, "Complete it, or write a table (image, label) of the cases to train with.")
    listed = [
        {"image": [kinds[kind] for kind in sorted(kinds)], "label": labels[case][0], "subject": case[0]}
        for case, kinds in cases.items()
    ]
    return FoundCases("BIDS", listed)


def _read_classes(folder: Path) -> FoundCases | None:
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    classes = {path: files for path in folders if (files := _list_files(path))}
    if len(classes) < 2:
        return None
    names = ", ".join(path.name for path in classes)
    if any((folder / one).is_dir() and (folder / other).is_dir() for one, other in PAIRS):
        raise _refuse(f"{names} are folders of images and label maps, not of classes", "Is it a segmentation?")
    below = [{file.relative_to(path).parts[:-1][:1] for file in files} for path, files in classes.items()]
    if len(below[0]) > 1 and all(each == below[0] for each in below):
        problem = (
            f"{names} have the same folders, such as {max(below[0])[0]!r}: parts of the data, as it seems, not classes"
        )
        raise _refuse(problem, "Give one of them, or a table (image, label) of all cases.")
    cases = [{"image": [str(file)], "label": path.name} for path, files in classes.items() for file in files]
    return FoundCases("a folder a class", cases)


def _with_labels(found: FoundCases, task: str) -> FoundCases:
    """Labels as the task has them: files; classes from 0 on, named by what they were called; numbers."""
    values = [str(case["label"]).strip() for case in found.cases]
    files = [os.path.isfile(value) or bool(SUFFIX.search(value)) for value in values]
    if (task == "segmentation") != all(files):
        wrong = values[files.index(task != "segmentation")] if task == "segmentation" or any(files) else values[0]
        hint = "A label map is a file (segmentation), a class or a number is not (--task classification or regression)."
        raise _refuse(f"the label {wrong!r} is none of a {task}", hint)
    if task == "segmentation":
        return found
    numbers = [_read_number(value) for value in values]
    if task == "regression":
        if None in numbers:
            raise _refuse(f"the label {values[numbers.index(None)]!r} is no number", "Mend the table.")
        return found._replace(cases=[case | {"label": n} for case, n in zip(found.cases, numbers, strict=True)])
    return _number_classes(found, values, numbers)


def _number_classes(found: FoundCases, values: list[str], numbers: list[float | None]) -> FoundCases:
    """Classes from 0 on, with the names that they have."""
    whole = all(number is not None and number == int(number) and number >= 0 for number in numbers)
    if whole:
        classes = [int(number or 0) for number in numbers]
        names = {number: f"class {number}" for number in range(max(classes) + 1)}
    else:
        texts = sorted(set(values))
        classes, names = [texts.index(value) for value in values], dict(enumerate(texts))
        alike = next((pair for pair in combinations(texts, 2) if pair[0].casefold() == pair[1].casefold()), None)
        if alike is not None:
            raise _refuse(f"the classes {alike[0]!r} and {alike[1]!r} differ by capitals alone", "Give both one name.")
    if len(names) < 2:
        raise _refuse(f"all labels are {values[0]!r}", "A classification needs two classes.")
    broken = [number for number in numbers if number is not None and number != int(number)]
    if broken and None not in numbers:
        raise _refuse(f"the label {broken[0]:g} is no class", "Classes are whole numbers or texts (--task regression).")
    return found._replace(
        cases=[case | {"label": n} for case, n in zip(found.cases, classes, strict=True)], names=names
    )


def _read_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None


def _with_subjects(found: FoundCases, folder: Path) -> FoundCases:
    """With the subjects that paths below the folder name, where nothing else says it, each case of another name its own one;
    without any where no subject has two cases."""
    cases = found.cases
    blank = [not str(case.get("subject") or "").strip() for case in cases]
    if any(blank) and not all(blank):
        problem = f"the subject of {sum(blank)} cases is blank, such as of {cases[blank.index(True)]['image'][0]!r}"
        raise _refuse(problem, "Fill it in: what belongs to one subject must stay in one fold.")
    if all(blank):
        paths = [os.path.relpath(case["image"][0], folder) for case in cases]
        matches = [SUBJECT.search(Path(path).as_posix()) for path in paths]
        subjects = [path if match is None else match[1].lower() for path, match in zip(paths, matches, strict=True)]
    else:
        subjects = [str(case["subject"]).strip() for case in cases]
    bare = [{key: value for key, value in case.items() if key != "subject"} for case in cases]
    if len({*subjects}) == len(cases):
        return found._replace(cases=bare)
    return found._replace(cases=[case | {"subject": s} for case, s in zip(bare, subjects, strict=True)])
