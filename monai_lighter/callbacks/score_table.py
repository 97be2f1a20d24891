"""What an evaluation came to as a table of at most 80 columns: by metric and class, with the worst cases."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from torch import Tensor

from monai_lighter.callbacks.case_values import Scores

__all__ = ["WIDTH", "format_number", "format_scores"]

WIDTH = 80
WORST = 3
"""Cases that are named as the worst of a metric."""
ALL = "all"
"""Stands for all classes of a metric."""
NUMBERS = (10, 10, 7)
"""Widths of mean, standard deviation and n."""


def format_number(value: float) -> str:
    """Four digits after the point, or an exponent where these would not show the value."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 or value != value else f"{value:.3e}"


def format_scores(scores: Sequence[Scores], logged: Mapping[str, float], mode: str) -> list[str]:
    """Lines of a table with a row for each metric and each of its classes.

    Means are the logged ones, wherever a value has been logged. Standard deviation (of a sample, ``N - 1``) and ``n`` are over
    the cases that have a value; of a metric with several classes as a whole, over the means of the cases. What has no values
    by case has a mean alone.

    Args:
        scores: values by case; of those without names of cases none is told as the worst.
        logged: values of the epoch by logged name.
        mode: ``val`` or ``test``.
    """
    rows = [*_rows_of_scores(scores, logged, mode), *_rows_of_others(scores, logged, mode)]
    if not rows:
        return []
    titles = ("metric", "class", "mean", "sd", "n")
    classes = min(20, max(len(row[1]) for row in (*rows, titles)))
    names = min(WIDTH - classes - sum(NUMBERS) - 8, max(len(row[0]) for row in (*rows, titles)))
    widths = (names, classes)
    lines, before = [], ""
    for row in (titles, *rows):
        text = [_shorten(cell, width).ljust(width) for cell, width in zip(row, widths, strict=False)]
        text[0] = text[0] if row[0] != before else " " * names
        before = row[0]
        numbers = [cell.rjust(width) for cell, width in zip(row[2:], NUMBERS, strict=True)]
        lines.append("  ".join([*text, *numbers]).rstrip())
    return [*lines, *_describe_worst(scores)]


def _rows_of_scores(scores: Iterable[Scores], logged: Mapping[str, float], mode: str) -> Iterator[tuple[str, ...]]:
    for each in scores:
        values, suffix = each.values, f"/{each.loader}" if each.loader else ""
        key = f"{mode}/metrics/{each.metric}"
        title = " ".join(filter(None, (each.metric, f"[{each.unit}]" if each.unit else "", each.loader)))
        own = _find_logged(logged, f"{key}/epoch", suffix)
        yield (title, ALL if len(each.classes) > 1 else each.classes[0], *_describe(values.nanmean(1), own))
        for i, name in enumerate(each.classes if len(each.classes) > 1 else ()):
            yield (title, name, *_describe(values[:, i], _find_logged(logged, f"{key}/{name}/epoch", suffix)))


def _find_logged(logged: Mapping[str, float], name: str, suffix: str) -> float | None:
    """The value of an epoch; that of a loader without a name is logged with Lightning's own number."""
    for each in (f"{name}{suffix}", f"{name}/dataloader_idx_{suffix[1:]}"):
        if each in logged:
            return float(logged[each])
    return None


def _describe(values: Tensor, logged: float | None) -> tuple[str, str, str]:
    known = values[~values.isnan()].double()
    mean = logged if logged is not None else float(known.mean()) if len(known) else float("nan")
    spread = format_number(float(known.std())) if len(known) > 1 and bool(known.isfinite().all()) else "-"
    return format_number(mean), spread, str(len(known))


def _rows_of_others(scores: Sequence[Scores], logged: Mapping[str, float], mode: str) -> Iterator[tuple[str, ...]]:
    """What has been logged of the mode without values by case: losses, torchmetrics, whatever a LightningModule logs."""
    told = tuple(f"{mode}/metrics/{each.metric}/" for each in scores)
    for name, value in logged.items():
        if not name.startswith(told or ("\0",)):
            short = name.removeprefix(f"{mode}/").removeprefix("metrics/")
            title, _, loader = short.partition("/epoch")
            metric, _, label = title.partition("/") if title.count("/") == 1 and name != title else (title, "", "")
            yield f"{metric}{loader.replace('/', ' ')}", label, format_number(float(value)), "", ""


def _describe_worst(scores: Iterable[Scores]) -> Iterator[str]:
    """A line for each metric with the cases that have its worst values, of several classes by their mean."""
    for each in scores:
        values = each.values.nanmean(1)
        known = [i for i in range(len(values)) if not bool(values[i].isnan())]
        if len(known) > 1 and len(each.cases) == len(values):
            known.sort(key=lambda i: float(values[i]), reverse=each.lower_is_better)
            names = _shorten_names(each.cases)
            worst = ", ".join(f"{names[i]} {format_number(float(values[i]))}" for i in known[:WORST])
            title = " ".join(filter(None, ("worst", each.metric, each.loader)))
            yield from textwrap.wrap(
                f"{title}: {worst}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )


def _shorten_names(cases: Sequence[Any]) -> list[str]:
    """Names of cases without their folders, where that tells them apart."""
    whole = [str(case) for case in cases]
    short = [PurePath(name).name for name in whole]
    counts = Counter(short)
    return [name if counts[name] == 1 else long for name, long in zip(short, whole, strict=True)]


def _shorten(text: str, width: int) -> str:
    """A text without its middle, where it is too long."""
    if len(text) <= width:
        return text
    keep = width - 3
    return f"{text[: keep - keep // 2]}...{text[len(text) - keep // 2 :]}"
