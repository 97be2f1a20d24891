"""A report as one page, and as JSON. Needs jinja2, matplotlib and SciPy."""

from __future__ import annotations

import gzip
import json
import math
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from monai_lighter import __version__
from monai_lighter.callbacks.case_slices import PLANES, CaseVolume
from monai_lighter.callbacks.score_table import format_number
from monai_lighter.errors import ConfigError, Finding
from monai_lighter.folders import name_below_shared_folder
from monai_lighter.report.content import Content, read_content
from monai_lighter.report.figures import draw_curves, draw_differences, draw_distribution, draw_slice
from monai_lighter.report.names import Names
from monai_lighter.report.scores import ALL, Score
from monai_lighter.safe_files import written_beside
from monai_lighter.study.case_tables import read_case_table, without_nan
from monai_lighter.study.comparison import Comparison

__all__ = ["write_comparison", "write_report"]

HERE = Path(__file__).parent
PAGE, NUMBERS = "report.html", "report.json"
LARGEST = 6_000_000
"""Bytes of a page."""
TOO_LARGE = "The volume is left out: with it the page would have more than 6 MB."
MARKS = ("Made by monai_lighter", '"names_shown"')
"""What stands in every page, and in the numbers beside it."""


def write_report(
    place: str | Path, output: str | Path | None = None, names: bool = False, lower_is_better: Sequence[str] = ()
) -> Path:
    """Writes the report of a run, a study or a bundle, as one page that needs no other file and no network, of at most 6 MB, and
    the same numbers as JSON beside it.

    Args:
        place: as of `read_content`.
        output: the page; default: ``report.html`` in the folder.
        names: whether names of cases, paths and texts of the config are shown.
        lower_is_better: metrics of which the lower value is the better one, beside those of which the tables say so.

    Returns:
        Path of the page.

    Raises:
        ConfigError: there is nothing to report; an output that is no page.
    """
    content = read_content(place, names, lower_is_better)
    folder = Path(place).parent if Path(place).is_file() else Path(place)
    page = folder / PAGE if output is None else Path(output)
    _check_target("output", page, page.with_suffix(".json"))
    text = _render_within_limit(content)
    with written_beside(page.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(without_nan(content.data), indent=1) + "\n", encoding="utf-8")
    with written_beside(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return page


def _check_target(name: str, page: Path, *others: Path) -> None:
    """Raises a ConfigError where the page, or what is written with it, would take the place of a file that is neither."""
    if page.suffix.lower() not in (".html", ".htm"):
        raise ConfigError([Finding(name, f"must be the name of a page, got {str(page)!r}", "Name it report.html.")])
    for file in (page, *others):
        if file.exists() and not any(mark in file.read_text("utf-8", "replace") for mark in MARKS):
            problem = f"{file} is there, and is no report that it could take the place of"
            raise ConfigError([Finding(name, problem, "Give another name, or move that file.")])


def write_comparison(found: Comparison, page: Path, names: bool = False) -> None:
    """Writes what `compare_runs` found as a page: the table, the intervals as a picture, and the cases that differ most.

    Args:
        found: the comparison.
        page: the file.
        names: whether runs and cases are shown by their names, and not by number.
    """
    _check_target("html", page)
    known = read_case_table(Path(found.reference)).cases
    own, below = Names(names, known), name_below_shared_folder(known)
    cases = {case: own.case(below.get(case, case)) for row in found.rows for case, _, _ in row.differing}
    paths = dict.fromkeys([found.reference, *(row.run for row in found.rows)])
    runs = {path: path if names else f"run {i}" for i, path in enumerate(paths, 1)}
    picture = draw_differences(found.rows, runs)
    text = _render("comparison.html", found=found, cases=cases, runs=runs, picture=picture, names_shown=names)
    with written_beside(page) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _render_within_limit(content: Content) -> str:
    """The page, without its volume and then its pictures of cases where it would be too large."""
    curves = draw_curves(content.curves) if content.curves else []
    slices = [(told, draw_slice(each)) for told, each in zip(content.data["slices"], content.slices, strict=True)]
    parts: dict[str, Any] = {
        "data": content.data,
        "curves": curves,
        "x": next((each.x for each in content.curves.values()), ""),
        "distributions": [[*_draw_distributions(each)] for each in content.scores],
        "slices": slices,
        "volume": _pack(content.volume) if content.volume is not None else None,
        "oriented": content.volume is not None and content.volume.is_oriented,
        "planes": [*_name_planes(content.volume)],
        "too_large": "",
        "names_shown": content.data["names_shown"],
    }
    text = _render("page.html", **parts)
    for left_out in ("volume", "slices"):
        if len(text.encode()) > LARGEST:
            parts |= {"volume": None, left_out: [], "too_large": TOO_LARGE}
            text = _render("page.html", **parts)
    while len(text.encode()) > LARGEST and any(table["cases"] for table in parts["data"]["tables"]):
        tables = [_halve(table) for table in parts["data"]["tables"]]
        parts["data"] = {**parts["data"], "tables": tables}
        text = _render("page.html", **parts)
    return text


def _halve(table: dict[str, Any]) -> dict[str, Any]:
    """A table with the worse half of its cases."""
    kept = table["cases"][: len(table["cases"]) // 2]
    return {**table, "cases": kept, "left_out_cases": table["left_out_cases"] + len(table["cases"]) - len(kept)}


def _render(template: str, **parts: Any) -> str:
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True)
    environment.filters.update(number=_format, raw=_format_for_sorting, area="{:,.4g}".format)
    script = (HERE / "page.js").read_text(encoding="utf-8")
    digest = b64encode(sha256(script.encode()).digest()).decode()  # of the one script that the page lets run
    style = (HERE / "page.css").read_text(encoding="utf-8")
    shared = {"js": Markup(script), "css": Markup(style), "digest": digest, "version": __version__}
    return environment.get_template(template).render(made=time.strftime("%Y-%m-%d %H:%M"), **shared, **parts)


def _draw_distributions(scores: list[Score]) -> Iterator[tuple[str, str]]:
    groups: dict[tuple[str, str], list[Score]] = {}
    for each in scores:
        groups.setdefault((each.measured.metric, each.measured.loader), []).append(each)
    for (metric, loader), group in groups.items():
        by_class = [each for each in group if each.measured.label != ALL] or group
        if any(each.n > 1 for each in by_class):
            title = " ".join(filter(None, (metric, loader)))
            yield title, draw_distribution(by_class, title)


def _pack(volume: CaseVolume) -> Markup:
    """JSON with shape, spacing, and the three arrays one after the other, as gzip in base64."""
    arrays = b"".join(each.tobytes() for each in (volume.image, volume.label, volume.pred))
    data = b64encode(gzip.compress(arrays, mtime=0)).decode()
    about = {"shape": volume.image.shape, "spacing": volume.spacing, "oriented": volume.is_oriented, "data": data}
    return Markup(json.dumps(about))


def _name_planes(volume: CaseVolume | None) -> Iterator[tuple[str, int]]:
    for axis in (2, 1, 0):
        yield PLANES[axis] if volume is not None and volume.is_oriented else f"across axis {axis}", axis


def _format(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "\N{EN DASH}"
    if isinstance(value, (Mapping, str)):
        return str(value)
    return format_number(float(value)) if math.isfinite(value) else "∞" if value > 0 else "-∞"


def _format_for_sorting(value: Any) -> str:
    """As JavaScript reads a number; empty where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(value) if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
