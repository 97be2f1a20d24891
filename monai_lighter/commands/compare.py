"""``compare``: runs, case by case."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_lighter.commands.arguments import UsageError
from monai_lighter.commands.output import format_report
from monai_lighter.errors import BundleError, Finding
from monai_lighter.errors.packages import install_hint_of

if TYPE_CHECKING:
    from monai_lighter.study.comparison import Comparison, PairedResult

__all__ = ["compare"]


def compare(
    *runs: str,
    metric: str | None = None,
    lower_is_better: str | None = None,
    common_cases: bool = False,
    confidence: float = 0.95,
    html: str | None = None,
    names: bool = False,
    json: bool = False,
) -> str:
    """Compare runs with the first of them, paired by case.

    Example:

        monai-lighter compare baseline/eval larger/eval

    Of each metric and class: the mean difference with its bootstrap interval, the Wilcoxon signed-rank test (p, and by Holm's
    method for all that is compared at once), in how many cases a run is better, and the cases that differ most.

    Args:
        runs: tables of CaseMetrics (csv), or folders with one each.
        metric: the only one to compare.
        lower_is_better: metrics of which less is better, joined by commas; distances in mm or voxels are so anyway.
        common_cases: leave out cases that not every run has, rather than end with an error.
        confidence: of the intervals, above 0 and below 1.
        html: file for the same as a page, in which cases and runs are numbered.
        names: show the names of cases and runs in that page.
        json: print the report as JSON.
    """
    if len(runs) < 2:
        raise UsageError(
            Finding("runs", f"must be two or more, got {len(runs)}", "The others are compared with the first.")
        )
    try:
        from monai_lighter.study.comparison import compare_runs
    except ImportError as error:
        raise BundleError(f"compare needs SciPy. {install_hint_of(error)}") from error

    lower = [name for name in (lower_is_better or "").split(",") if name]
    found = compare_runs(runs, metric, lower, common_cases, float(confidence))
    if html is not None:
        _write_page(found, html, names)
    if json:
        summary = {**found._asdict(), "rows": ()}
        return format_report(summary, [_to_json(row) for row in found.rows], as_json=True)
    alone = {f"only in {path}": f"{len(cases)} cases, left out" for path, cases in found.unpaired.items()}
    alone.update({"not in all": ", ".join(found.unshared)} if found.unshared else {})
    summary = {"reference": found.reference, "intervals": f"{found.confidence:.0%}, bootstrap", **alone}
    lines = [format_report(summary, [_to_row(row) for row in found.rows])]
    for row in found.rows:
        if row.differing:
            lines += ["", f"{row.measured} differs most, {row.run}:"]
            lines += [f"  {case}  {before:.4g} -> {after:.4g}" for case, before, after in row.differing]
    return "\n".join(lines)


def _write_page(found: Comparison, file: str, names: bool) -> None:
    try:
        from monai_lighter.report.writing import write_comparison
    except ImportError as error:
        raise BundleError(f"--html needs jinja2, matplotlib and SciPy. {install_hint_of(error)}") from error

    write_comparison(found, Path(file), names)


def _to_row(row: PairedResult) -> dict[str, Any]:
    low, high = row.interval
    unit = f" {row.unit}" if row.unit else ""
    left_out = f" ({row.left_out} left out)" if row.left_out else ""
    return {
        "run": row.run,
        "metric": str(row.measured),
        "n": f"{row.n}{left_out}",
        "mean": f"{row.means[0]:.4g} -> {row.means[1]:.4g}{unit}",
        "difference": f"{row.difference:+.4g} [{low:.4g}, {high:.4g}]",
        "p": f"{row.p:.3g}",
        "Holm": f"{row.p_corrected:.3g}",
        "better/worse/equal": _count(row),
    }


def _count(row: PairedResult) -> str:
    if row.lower_is_better is None:
        return f"-/-/{row.equal} (neither is better)"
    return f"{row.better}/{row.worse}/{row.equal} (better is {'lower' if row.lower_is_better else 'higher'})"


def _to_json(row: PairedResult) -> dict[str, Any]:
    """A row as JSON has it, which knows no NaN."""
    from monai_lighter.study.case_tables import without_nan

    measured = dict(zip(("metric", "class", "loader"), row.measured, strict=True))
    numbers = {name: value for name, value in row._asdict().items() if name != "measured"}
    return {**measured, **{name: without_nan(value) for name, value in numbers.items()}}
