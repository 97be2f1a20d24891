"""The tables of `CaseMetrics`, read again."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monai_lighter.errors import ConfigError, Finding
from monai_lighter.folders import name_below_shared_folder

__all__ = ["CaseTable", "MetricKey", "find_case_table", "is_case_table", "pair_cases", "read_case_table", "without_nan"]

COLUMNS = ["metric", "class", "value"]
MIXED = "mm and voxels"
"""Unit of a distance of which some cases have no known spacing."""


class MetricKey(NamedTuple):
    """What the values of a table are of: a metric and a class, and a loader where the table has several."""

    metric: str
    label: str
    loader: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.loader, self.metric, self.label)))


class CaseTable(NamedTuple):
    """Values by case.

    Attributes:
        path: the csv file.
        values: metric and class to case to value, which may be NaN, in the order of the file.
        units: metric and class to ``mm`` or ``voxels``, or `MIXED`, of distances.
        lower: metrics and classes of which the lower value is the better one: distances, and those of which the table says so.
        neither: those of which the table says that no value is better than another, such as an entropy.
    """

    path: Path
    values: dict[MetricKey, dict[str, float]]
    units: dict[MetricKey, str]
    lower: frozenset[MetricKey] = frozenset()
    neither: frozenset[MetricKey] = frozenset()

    @property
    def cases(self) -> list[str]:
        """Every case that has a value, once."""
        return list(dict.fromkeys(case for values in self.values.values() for case in values))


def find_case_table(place: str | Path) -> Path:
    """The csv file itself, or the one table of `CaseMetrics` in a folder, at any depth.

    Raises:
        ConfigError: none is there, or several are.
    """
    path = Path(place)
    if path.is_file():
        return path
    found = sorted(file for file in path.rglob("*.csv") if is_case_table(file)) if path.is_dir() else []
    if len(found) == 1:
        return found[0]
    if not found:
        hint = "`monai-lighter test` writes one where trainer::callbacks has a monai_lighter.CaseMetrics."
        what = "has no table of CaseMetrics (case, metric, class, value)" if path.is_dir() else "is not there"
        raise ConfigError([Finding(str(place), what, hint)])
    listed = ", ".join(str(file.relative_to(path)) for file in found[:4])
    raise ConfigError([Finding(str(place), f"has {len(found)} tables of CaseMetrics: {listed}", "Name one.")])


def read_case_table(path: Path) -> CaseTable:
    """Reads the table of `CaseMetrics`.

    Raises:
        ConfigError: it is no such table, or has a value twice or one that is no number.
    """
    if not is_case_table(path):
        raise ConfigError([Finding(str(path), "is no table of CaseMetrics (case, metric, class, value)", "Name one.")])
    values: dict[MetricKey, dict[str, float]] = {}
    units: dict[MetricKey, str] = {}
    lower: set[MetricKey] = set()
    neither: set[MetricKey] = set()
    findings = []
    with open(path, newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            measured = MetricKey(row["metric"], row["class"], row.get("loader") or "")
            own = values.setdefault(measured, {})
            if row["case"] in own:
                findings.append(Finding(f"{path}, line {number}", f"case {row['case']!r} has {measured} twice"))
            try:
                own[row["case"]] = float(row["value"])
            except (TypeError, ValueError):
                findings.append(Finding(f"{path}, line {number}", f"value must be a number, got {row['value']!r}"))
            if row.get("unit"):
                units[measured] = row["unit"] if units.get(measured, row["unit"]) == row["unit"] else MIXED
            if row.get("unit") or row.get("better") == "lower":
                lower.add(measured)
            elif row.get("better") == "neither":
                neither.add(measured)
    if findings:
        raise ConfigError(findings)
    return CaseTable(path, values, units, frozenset(lower), frozenset(neither))


def pair_cases(tables: Sequence[CaseTable]) -> list[dict[str, str]]:
    """Which case of each table is which: by its text, else by its path below the folder that the table's cases share.

    Args:
        tables: of which the names of the cases are taken.

    Returns:
        for each table, the name that the tables share to the table's own.
    """
    plain = [{case: case for case in table.cases} for table in tables]
    if all(own.keys() == plain[0].keys() for own in plain):
        return plain
    below = [name_below_shared_folder(table.cases) for table in tables]
    shared, shared_below = _count_shared(plain), _count_shared(below)
    return below if shared_below > shared else plain


def _count_shared(names: list[dict[str, str]]) -> int:
    return len(set.intersection(*(set(own) for own in names)))


def is_case_table(path: Path) -> bool:
    """Whether a csv file is a table of `CaseMetrics`, by its header."""
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        header = next(csv.reader(file), [])
    return header[:1] == ["case"] and set(COLUMNS) <= set(header)


def without_nan(value: Any) -> Any:
    """Numbers, also in lists and mappings, as JSON has them: null for NaN, a text for infinity."""
    if isinstance(value, Mapping):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
