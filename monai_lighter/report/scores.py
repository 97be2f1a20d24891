"""The numbers of a table of cases: by metric and class, and by case."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median, stdev
from typing import NamedTuple

from monai_lighter.study.case_tables import CaseTable, MetricKey
from monai_lighter.study.comparison import find_interval

__all__ = ["ALL", "Score", "choose_key", "summarize"]

ALL = "all"
"""Stands for all classes of a metric."""
MOST_VALUES = 10_000
"""Values that intervals are made of, of all scores together: about two seconds."""
CONFIDENCE = 0.95


class Score(NamedTuple):
    """One metric and class over the cases of a table.

    Attributes:
        measured: metric, class (`ALL` for the mean over those of several that a case has) and loader.
        unit: of a distance.
        lower_is_better: what is worse: a higher value, else a lower one; None where neither is, as of an entropy.
        values: case to value, in the order of the table; NaN where a case has none.
        n: cases with a finite value, of which all that follows is.
        without: cases with none (NaN); ``infinite``: with one that is not finite.
        mean, sd, median: sd of a sample (n - 1). NaN where there are too few cases.
        interval: of the mean, by bootstrap; NaN for fewer than two cases, and for the last ones of scores with many
            thousand values.
    """

    measured: MetricKey
    unit: str
    lower_is_better: bool | None
    values: dict[str, float]
    n: int
    without: int
    infinite: int
    mean: float
    sd: float
    median: float
    interval: tuple[float, float]

    @property
    def ordered(self) -> list[str]:
        """Cases that have a value, the worst first."""
        known = [case for case, value in self.values.items() if not math.isnan(value)]
        return sorted(known, key=lambda case: self.values[case], reverse=bool(self.lower_is_better))


def summarize(table: CaseTable, lower_is_better: Sequence[str] = ()) -> list[Score]:
    """A `Score` for each metric and class of a table, and one for all classes of a metric before those of several.

    Args:
        table: as `read_case_table` reads it.
        lower_is_better: metrics of which the lower value is the better one, beside those of which the table says so.
    """
    groups: dict[tuple[str, str], list[MetricKey]] = {}
    for each in table.values:
        groups.setdefault((each.loader, each.metric), []).append(each)
    scores: list[Score] = []
    for (loader, metric), keys in groups.items():
        lower: bool | None = metric in lower_is_better or any(each in table.lower for each in keys)
        if not lower and any(each in table.neither for each in keys):
            lower = None
        rows = [(each, table.values[each]) for each in keys]
        if len(keys) > 1:
            rows.insert(0, (MetricKey(metric, ALL, loader), _average([values for _, values in rows])))
        units = sorted({table.units[each] for each in keys if each in table.units})
        for measured, values in rows:
            counted = not scores or sum(len(each.values) for each in scores) + len(values) <= MOST_VALUES
            scores.append(_summarize(measured, " and ".join(units), lower, values, counted))
    return scores


def choose_key(scores: Sequence[Score], monitor: str = "") -> Score | None:
    """The score that stands for the run: of the metric that it was monitored by, else of the first one of which a value can be
    better than another; of all classes."""
    scores = [each for each in scores if each.lower_is_better is not None]
    named = [each for each in scores if f"/metrics/{each.measured.metric}/" in f"{monitor}/"]
    return next(iter([*named, *scores]), None)


def _average(columns: list[dict[str, float]]) -> dict[str, float]:
    """Mean over the classes that a case has."""
    cases = dict.fromkeys(case for column in columns for case in column)
    known = {case: [column[case] for column in columns if not math.isnan(column.get(case, math.nan))] for case in cases}
    return {case: fmean(values) if values else math.nan for case, values in known.items()}


def _summarize(
    measured: MetricKey, unit: str, lower: bool | None, values: dict[str, float], with_interval: bool
) -> Score:
    finite = [value for value in values.values() if math.isfinite(value)]
    without = sum(math.isnan(value) for value in values.values())
    return Score(
        measured=measured,
        unit=unit,
        lower_is_better=lower,
        values=values,
        n=len(finite),
        without=without,
        infinite=len(values) - len(finite) - without,
        mean=fmean(finite) if finite else math.nan,
        sd=stdev(finite) if len(finite) > 1 else math.nan,
        median=median(finite) if finite else math.nan,
        interval=find_interval(finite, CONFIDENCE) if with_interval else (math.nan, math.nan),
    )
