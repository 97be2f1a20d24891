"""Cases in folds, none of them, and no subject, in two parts."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from lightning.fabric.utilities import rank_zero_only
from monai.utils import optional_import

from monai_lighter.errors import ConfigError, Finding
from monai_lighter.folders import name_below_shared_folder
from monai_lighter.safe_files import written_beside

__all__ = ["Folds", "read_table", "write_splits"]

logger = logging.getLogger(__name__)


class Folds:
    """Cross-validation: ``train``, ``val`` and ``test`` of one fold of a list of cases, on scikit-learn's splitters.

    Each case is in ``val`` of one fold and in ``train`` of the others; those of ``test`` are in no fold. A subject's cases stay
    together. The splits are written to a file, and read from it ever after, so that every fold, on whichever machine, is of the
    same splits; a file that does not fit the cases or what is asked for is an error, and stays. With ``n_repeats`` the folds go
    on: of 5 splits, fold 5 is the first of the second repetition.

    Args:
        data: list of dictionaries, as MONAI's datasets take it, or a csv file with a row a case, whose cells are taken as
            files where there is such a file, seen from the table's folder.
        fold: from 0 to ``n_splits * n_repeats - 1``.
        n_splits: folds, 2 or more.
        n_repeats: how often the cases are split anew.
        test_size: share of the cases, or of the subjects, that is kept for the test, from 0 to 0.5; as near to it as one of
            equal parts comes.
        subject: key of the cases that says whose a case is; default: each case is a subject.
        stratify: key of the cases whose values (classes) are to be as frequent in each fold.
        name: key of the cases that tells them apart, in the file of splits; default: ``image``, else the first.
        seed: of the shuffling.
        path: json file of the splits; None writes none.

    Attributes:
        train: cases to train on.
        val: cases to validate.
        test: cases of the test, the same in all folds.

    Raises:
        ConfigError: fewer subjects than folds, a key that a case does not have, two cases of one name, a number out of range; a
            file of splits of other cases or for other arguments.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]] | str | Path,
        fold: int = 0,
        n_splits: int = 5,
        n_repeats: int = 1,
        test_size: float = 0.0,
        subject: str | None = None,
        stratify: str | None = None,
        name: str | None = None,
        seed: int = 0,
        path: str | Path | None = "splits.json",
    ) -> None:
        self.cases = read_table(Path(data)) if isinstance(data, (str, Path)) else _check_cases(data)
        self.fold, self.subject, self.stratify, self.path = (
            fold,
            subject,
            stratify,
            None if path is None else Path(path),
        )
        self.name = name or ("image" if self.cases and "image" in self.cases[0] else next(iter(self.cases[0]), "image"))
        self.asked: dict[str, Any] = {
            "n_splits": n_splits,
            "n_repeats": n_repeats,
            "test_size": test_size,
            "seed": seed,
        }
        self.asked |= {"subject": subject, "stratify": stratify}
        self._check()

    @property
    def train(self) -> list[dict[str, Any]]:
        return self._take("train")

    @property
    def val(self) -> list[dict[str, Any]]:
        return self._take("val")

    @property
    def test(self) -> list[dict[str, Any]]:
        is_new = self.path is not None and not self.path.is_file()
        cases = self._take("test")
        if is_new:  # as where a bundle is tested on another machine
            logger.warning(
                f"{self.path}: was not there, and {len(self.cases)} cases are split anew; a network that was trained on other "
                "splits has seen cases of this test. Copy the file of its training."
            )
        return cases

    def _take(self, part: str) -> list[dict[str, Any]]:
        splits = self._splits
        out = {*splits["test"]} if part != "test" else set()
        chosen = {*(splits["test"] if part == "test" else splits["folds"][self.fold])}
        keep = chosen if part != "train" else {*self._names} - chosen - out
        return [case for case, own in zip(self.cases, self._names, strict=True) if own in keep]

    @cached_property
    def _names(self) -> list[str]:
        """A name for each case that is the same wherever the data lie."""
        texts = [_as_text(case.get(self.name)) for case in self.cases]
        below = {full: short for short, full in name_below_shared_folder(texts).items()}
        return [below[text] for text in texts]

    def _check(self) -> None:
        findings = [*self._find_faults()]
        if findings:
            raise ConfigError(findings)

    def _find_faults(self) -> list[Finding]:
        asked, found = self.asked, []
        for argument, value in {**asked, "fold": self.fold}.items():
            kind, what = (float, "a number") if argument == "test_size" else (int, "a whole number")
            if argument not in ("subject", "stratify") and not (
                isinstance(value, (int, kind)) and not isinstance(value, bool)
            ):
                found.append(Finding(argument, f"must be {what}, got {value!r}"))
        if found:
            return found
        if asked["n_splits"] < 2 or asked["n_repeats"] < 1:
            found.append(
                Finding(
                    "n_splits, n_repeats",
                    f"must be 2 or more, 1 or more, got {asked['n_splits']}, {asked['n_repeats']}",
                )
            )
        if not 0 <= asked["test_size"] <= 0.5:
            found.append(Finding("test_size", f"must be from 0 to 0.5, got {asked['test_size']}"))
        if not 0 <= self.fold < asked["n_splits"] * asked["n_repeats"]:
            found.append(
                Finding("fold", f"must be from 0 to {asked['n_splits'] * asked['n_repeats'] - 1}, got {self.fold}")
            )
        keys = {"name": self.name, "subject": self.subject, "stratify": self.stratify}
        for argument, key in keys.items():
            lacking = [i for i, case in enumerate(self.cases) if key is not None and _is_lacking(case.get(key))]
            if lacking:
                hint = f"The cases have {', '.join(self.cases[lacking[0]])}."
                found.append(
                    Finding(argument, f"case {lacking[0]} has no {key!r}, and {len(lacking) - 1} others", hint)
                )
        return found or self._find_twins()

    def _find_twins(self) -> list[Finding]:
        twice = [name for name, count in Counter(self._names).items() if count > 1]
        if twice:
            problem = f"{len(twice)} cases stand more than once, such as {twice[0]!r} by their {self.name!r}"
            return [Finding("data", problem, "Remove them, or give the key that tells cases apart as name.")]
        subjects = len({*self._subjects})
        if subjects < self.asked["n_splits"] + (self.asked["test_size"] > 0):
            kind = "cases" if self.subject is None else "subjects"
            return [Finding("n_splits", f"is {self.asked['n_splits']}, for {subjects} {kind}", "Give fewer.")]
        return []

    @property
    def _subjects(self) -> list[str]:
        return self._names if self.subject is None else [_as_text(case[self.subject]) for case in self.cases]

    @cached_property
    def _splits(self) -> dict[str, Any]:
        """``test`` and ``folds``, each a list of names of cases; of the file where it is there."""
        if self.path is not None and self.path.is_file():
            return self._read(self.path)
        splits = self._split()
        if self.path is not None:
            write_splits(self.path, {**self.asked, **splits})
        return splits

    def _read(self, path: Path) -> dict[str, Any]:
        hint = "Give another path, or remove the file where no fold has been trained on it."
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            listed = {*known["test"], *(name for fold in known["folds"] for name in fold)}
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError([Finding("path", f"{path} is there and is no file of splits", hint)]) from error
        found = [
            Finding(name, f"is {value!r}, and {path} was written for {known.get(name)!r}", hint)
            for name, value in self.asked.items()
            if known.get(name) != value
        ]
        new, gone = {*self._names} - listed, listed - {*self._names}
        for problem, names in (("that are not in", new), ("fewer than in", gone)):
            if names:
                found.append(Finding("data", f"has {len(names)} cases {problem} {path}, such as {min(names)!r}", hint))
        found = found or [*self._find_torn(known, path, hint)]
        if found:
            raise ConfigError(found)
        return known

    def _find_torn(self, known: dict[str, Any], path: Path, hint: str) -> Iterator[Finding]:
        """Subjects that a file has in two parts, as theirs have been corrected since or the file was edited."""
        count, owners = self.asked["n_splits"], dict(zip(self._names, self._subjects, strict=True))
        for first in range(0, len(known["folds"]), count):
            parts = [known["test"], *known["folds"][first : first + count]]
            of_parts = Counter(subject for part in parts for subject in {owners[name] for name in part})
            torn = sorted(subject for subject, times in of_parts.items() if times > 1)
            if torn:
                kind = "cases" if self.subject is None else f"subjects ({self.subject})"
                yield Finding("path", f"{path} has {len(torn)} {kind} in two parts, such as {torn[0]!r}", hint)
                return

    def _split(self) -> dict[str, Any]:
        names = np.array(self._names, dtype=object)
        everything = np.argsort(names)  # the same splits in whichever order files are listed
        test = everything[:0]
        if self.asked["test_size"]:
            fewer = int(1 / self.asked["test_size"])
            parts = min((fewer, fewer + 1), key=lambda count: abs(1 / count - self.asked["test_size"]))
            test = next(self._list_parts(everything, parts, self.asked["seed"]))
        rest = everything[~np.isin(everything, test)]
        folds = [
            sorted(names[part])
            for repeat in range(self.asked["n_repeats"])
            for part in self._list_parts(rest, self.asked["n_splits"], self.asked["seed"] + repeat)
        ]
        return {"test": sorted(names[test]), "folds": folds}

    def _list_parts(self, indices: Any, n_splits: int, seed: int) -> Any:
        """Indices of each of ``n_splits`` equal parts."""
        splitters, _ = optional_import(
            "sklearn.model_selection"
        )  # a second, which a run that reads its splits does not need
        kind = f"{'Stratified' if self.stratify else ''}{'Group' if self.subject else ''}KFold"
        splitter = getattr(splitters, kind)(n_splits=n_splits, shuffle=True, random_state=seed)
        classes = [_as_text(self.cases[i].get(self.stratify)) for i in indices]
        try:
            groups = [self._subjects[i] for i in indices] if self.subject else None
            parts = [part for _, part in splitter.split(indices, classes, groups)]
        except ValueError as error:
            problem = f"{len(indices)} cases cannot be split into {n_splits} parts: {str(error).rstrip('.')}"
            hint = "Give fewer n_splits, a larger test_size, or no stratify."
            raise ConfigError([Finding("n_splits, test_size, stratify", problem, hint)]) from error
        yield from (indices[part] for part in parts)


def _check_cases(data: Any) -> list[dict[str, Any]]:
    cases = list(data) if isinstance(data, Sequence) else []
    if not cases or not all(isinstance(case, dict) for case in cases):
        got = f"{len(cases)} of {type(cases[0]).__name__}" if cases else "none" if data == [] else type(data).__name__
        raise ConfigError([Finding("data", f"must be a list of dictionaries, one a case, got {got}")])
    return cases


def _is_lacking(value: Any) -> bool:
    """Also NaN, which is pandas' empty cell."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def read_table(table: Path) -> list[dict[str, Any]]:
    """The rows of a csv file; cells that name a file, seen from the table's folder, as its path.

    Raises:
        ConfigError: there is no such table, it is not UTF-8, has no rows, or a row has not as many cells as the header.
    """
    if not table.is_file():
        raise ConfigError([Finding("data", f"there is no table {str(table)!r}")])
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            rows = [*csv.DictReader(file)]
    except UnicodeDecodeError as error:
        hint = "Save it so: spreadsheets call it CSV UTF-8."
        raise ConfigError([Finding("data", f"{table} is no text in UTF-8", hint)]) from error
    uneven = [number for number, row in enumerate(rows, 1) if None in row or None in row.values()]
    if uneven or not rows:
        problem = f"row {uneven[0]} has not as many cells as the header" if uneven else "has no rows"
        raise ConfigError([Finding("data", f"{table}: {problem}", "Mend the table.")])
    return [
        {
            key: str(table.parent / cell)
            if cell and os.path.exists(table.parent / cell)
            else cell  # also of a long text
            for key, cell in row.items()
        }
        for row in rows
    ]


def _as_text(value: Any) -> str:
    """Of several files (channels) the first; 7, 7.0 and ' 7' are one, as tables write and read numbers in all these ways."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return str(int(first) if isinstance(first, float) and first.is_integer() else first).strip()


@rank_zero_only
def write_splits(path: Path, splits: dict[str, Any]) -> None:
    """Writes a file of splits: what was asked for, ``test`` and ``folds``."""
    with written_beside(path) as temporary:
        temporary.write_text(json.dumps(splits, indent=1) + "\n", encoding="utf-8")
