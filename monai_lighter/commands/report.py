"""``report``: what a run, a study or a bundle came to, as one page."""

from __future__ import annotations

from pathlib import Path

from monai_lighter.commands.arguments import require_path
from monai_lighter.commands.output import format_report
from monai_lighter.errors import BundleError
from monai_lighter.errors.packages import install_hint_of

__all__ = ["report"]


def report(
    place: str,
    output: str | None = None,
    names: bool = False,
    lower_is_better: str | None = None,
    json: bool = False,
) -> str:
    """Write what a run, a study or a bundle came to as one page that needs no network.

    Example:

        monai-lighter report lightning_logs/version_0

    The page has curves, scores with bootstrap intervals, a table of cases, the distribution by class, the worst and the median
    cases as pictures, a volume to leaf through, what ran and its warnings. Beside it, under the same name, the same numbers are
    JSON. Cases are numbered, and paths, names and texts of the config left out, unless --names is given.

    Args:
        place: log folder of a run, folder or csv of a CaseMetrics table, folder of a study, or bundle.
        output: the page; default: report.html in that folder.
        names: show names of cases, paths and the whole config.
        lower_is_better: metrics of which less is better, joined by commas; those of which the table says so are so anyway.
        json: print what was written as JSON.
    """
    require_path("place", place, "a run, a study or a bundle")
    try:
        from monai_lighter.report.writing import write_report
    except ImportError as error:
        raise BundleError(f"report needs jinja2, matplotlib and SciPy. {install_hint_of(error)}") from error

    lower = [name for name in (lower_is_better or "").split(",") if name]
    page = write_report(place, output, names, lower)
    numbers = Path(page).with_suffix(".json")
    return format_report({"report": str(page), "numbers": str(numbers), "bytes": page.stat().st_size}, as_json=json)
