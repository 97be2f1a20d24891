"""Runs compared case by case. Needs SciPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from monai_lighter.errors import ConfigError, Finding, did_you_mean
from monai_lighter.study.case_tables import CaseTable, MetricKey, find_case_table, pair_cases, read_case_table

__all__ = ["Comparison", "PairedResult", "compare_runs"]

RESAMPLES = 9999
MOST_DRAWN = 1 << 23
"""Values that a bootstrap holds at once: 64 MB."""
WORST = 5
"""Cases that differ most, of each comparison."""


class PairedResult(NamedTuple):
    """Two runs on the same cases, by one metric and class.

    Attributes:
        run: the table of the run that is compared with the first.
        measured: metric and class.
        unit: ``mm`` or ``voxels`` of a distance; empty otherwise.
        lower_is_better: what ``better`` means: a lower value, else a higher one; None where the tables say that neither is.
        n: cases that have a finite value in both.
        left_out: cases that have a finite value in one alone, or an infinite one in any.
        means: of the first run and of this one, over those cases.
        difference: mean of this run minus the first, case by case.
        interval: of the mean difference, by bootstrap (bias-corrected and accelerated, ``scipy.stats.bootstrap``).
        p: of the Wilcoxon signed-rank test (``scipy.stats.wilcoxon``), two-sided; 1 where no case differs; NaN without cases.
        p_corrected: the same by Holm's method for all that is compared at once.
        better: cases in which this run is better; ``worse``, ``equal`` likewise. None of the first two where neither is.
        differing: the cases that differ most, with the values of the first run and of this one.
    """

    run: str
    measured: MetricKey
    unit: str
    lower_is_better: bool | None
    n: int
    left_out: int
    means: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    p: float
    p_corrected: float
    better: int | None
    worse: int | None
    equal: int
    differing: list[tuple[str, float, float]]


class Comparison(NamedTuple):
    """What `compare_runs` found.

    Attributes:
        reference: table of the run that the others are compared with.
        confidence: of the intervals, from 0 to 1.
        unpaired: table to the cases that another one does not have.
        unshared: metrics and classes that not every table has.
        rows: a comparison for each run, metric and class.
    """

    reference: str
    confidence: float
    unpaired: dict[str, list[str]]
    unshared: list[str]
    rows: list[PairedResult]


def compare_runs(
    runs: Sequence[str | Path],
    metric: str | None = None,
    lower_is_better: Sequence[str] = (),
    common_cases: bool = False,
    confidence: float = 0.95,
) -> Comparison:
    """Compares runs with the first of them, paired by case, from the tables of `CaseMetrics`.

    Cases are paired by name; where the data were moved, by their path below the folder that all of a table share.

    Args:
        runs: csv files, or folders with one such table each; two or more.
        metric: the only one to compare; default: all that the tables have.
        lower_is_better: metrics of which the lower value is the better one. Distances, which have a unit, are so anyway, and
            those of which the tables say so.
        common_cases: leave out cases that not every run has, which is an error otherwise.
        confidence: of the intervals, above 0 and below 1.

    Raises:
        ConfigError: fewer than two runs; tables that are not there, no tables, or without a metric in common; cases that are not
            in all of them; a confidence out of range.
    """
    if len(runs) < 2:
        raise ConfigError([Finding("compare", f"takes two runs or more, got {len(runs)}")])
    if not 0 < confidence < 1:
        raise ConfigError([Finding("confidence", f"must be above 0 and below 1, got {confidence}", "0.95 is usual.")])
    tables = [read_case_table(find_case_table(run)) for run in runs]
    names = pair_cases(tables)
    unpaired = _find_unpaired(tables, names)
    if unpaired and not common_cases:
        raise ConfigError([*_describe_unpaired(unpaired)])
    wanted = _choose(tables, metric, lower_is_better)
    lower = {
        *lower_is_better,
        *(each.metric for table in tables for each in table.lower),
    }  # an old table may not say so
    rows = [
        _compare(tables[0], table, names[0], own, measured, measured.metric in lower, confidence)
        for table, own in zip(tables[1:], names[1:], strict=True)
        for measured in wanted
    ]
    corrected = correct_by_holm([row.p for row in rows])
    rows = [row._replace(p_corrected=p) for row, p in zip(rows, corrected, strict=True)]
    unshared = sorted(
        {str(each) for table in tables for each in table.values if any(each not in one.values for one in tables)}
    )
    return Comparison(str(tables[0].path), confidence, unpaired, unshared, rows)


def _find_unpaired(tables: list[CaseTable], names: list[dict[str, str]]) -> dict[str, list[str]]:
    common = set.intersection(*(set(own) for own in names))
    found = {str(table.path): sorted(set(own) - common) for table, own in zip(tables, names, strict=True)}
    return {path: cases for path, cases in found.items() if cases}


def _describe_unpaired(unpaired: dict[str, list[str]]) -> list[Finding]:
    hint = "Give --common_cases to compare those that all have."
    return [
        Finding(path, f"has {len(cases)} cases that not every run has: {', '.join(cases[:3])}", hint)
        for path, cases in unpaired.items()
    ]


def _choose(tables: list[CaseTable], metric: str | None, lower_is_better: Sequence[str]) -> list[MetricKey]:
    """What is compared: metrics and classes that all tables have."""
    common = [each for each in tables[0].values if all(each in table.values for table in tables[1:])]
    metrics = sorted({each.metric for each in common})
    if not common:
        raise ConfigError([Finding("compare", "the tables have no metric and class in common")])
    for name in filter(None, (metric, *lower_is_better)):
        if name not in metrics:
            raise ConfigError(
                [Finding("metric", f"must be one that all tables have, got {name!r}", did_you_mean(name, metrics))]
            )
    for each in common:
        units = sorted({table.units.get(each, "no unit") for table in tables})
        if len(units) > 1:
            raise ConfigError(
                [Finding(str(each), f"is in {' and '.join(units)}", "Values of two units cannot be compared.")]
            )
    return [each for each in common if metric in (None, each.metric)]


def _compare(
    first: CaseTable,
    second: CaseTable,
    first_names: dict[str, str],
    second_names: dict[str, str],
    measured: MetricKey,
    lower: bool,
    confidence: float,
) -> PairedResult:
    before, after = first.values[measured], second.values[measured]
    common = [name for name in first_names if name in second_names]
    pairs = {
        name: (before.get(first_names[name], math.nan), after.get(second_names[name], math.nan)) for name in common
    }
    known = {name: pair for name, pair in pairs.items() if all(math.isfinite(value) for value in pair)}
    left_out = sum(
        1 for name, pair in pairs.items() if name not in known and not all(math.isnan(value) for value in pair)
    )
    values = np.array([*known.values()], dtype=float).reshape(-1, 2)
    change = values[:, 1] - values[:, 0]
    directed = lower or measured not in first.neither | second.neither
    gain = -change if lower else change
    furthest = sorted(known, key=lambda name: -abs(known[name][1] - known[name][0]))[:WORST]
    return PairedResult(
        run=str(second.path),
        measured=measured,
        unit=first.units.get(measured, ""),
        lower_is_better=lower if directed else None,
        n=len(known),
        left_out=left_out,
        means=(float(values[:, 0].mean()), float(values[:, 1].mean())) if known else (math.nan, math.nan),
        difference=float(change.mean()) if known else math.nan,
        interval=find_interval(change, confidence),
        p=_test(change),
        p_corrected=math.nan,
        better=int((gain > 0).sum()) if directed else None,
        worse=int((gain < 0).sum()) if directed else None,
        equal=int((gain == 0).sum()),
        differing=[(name, *known[name]) for name in furthest if known[name][0] != known[name][1]],
    )


def find_interval(values: Any, confidence: float) -> tuple[float, float]:
    """Interval of the mean by bootstrap, bias-corrected and accelerated; NaN for fewer than two values.

    Args:
        values: ``(N,)``.
        confidence: from 0 to 1.
    """
    if len(values) < 2:
        return math.nan, math.nan
    if np.ptp(values) == 0:  # of which scipy has no interval
        return float(values[0]), float(values[0])
    batch = max(1, MOST_DRAWN // len(values))
    found = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, batch=batch, confidence_level=confidence, rng=0
    ).confidence_interval
    return float(found.low), float(found.high)


def _test(change: Any) -> float:
    if not len(change):
        return math.nan
    return float(stats.wilcoxon(change).pvalue) if np.any(change) else 1.0


def correct_by_holm(values: Sequence[float]) -> list[float]:
    """p-values for several comparisons at once, by Holm's step-down method (1979); a NaN is no comparison, and stays.

    Args:
        values: p-values, from 0 to 1.
    """
    order = sorted((i for i, value in enumerate(values) if not math.isnan(value)), key=lambda i: values[i])
    corrected, largest = list(values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, values[i] * (len(order) - rank)))
        corrected[i] = largest
    return corrected
