"""The pictures of a report, each as a data URI. Needs matplotlib."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure  # not pyplot, which chooses a display
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from monai_lighter.callbacks.case_slices import CaseSlice
from monai_lighter.callbacks.curves import choose_panel
from monai_lighter.report.record import Curves
from monai_lighter.report.scores import Score
from monai_lighter.study.comparison import PairedResult

__all__ = ["draw_curves", "draw_differences", "draw_distribution", "draw_slice"]

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#785ef0", "#8c6d31")
"""Told apart by people who see few colours (Okabe and Ito, and two more)."""
ALONE = ("#00b7eb", "#ff9f1c")
"""Label and prediction where there is one class."""
RATE = "lr"
WRONG = (0.9, 0.1, 0.1, 0.30)
MOST_DOTS = 300
MOST_SHAPES = 1000
"""Dots of a picture; of more they are an image in it, which takes less room."""
MOST_COLUMNS = 24
LONGEST = 24
"""Letters of a name in a picture."""
STYLE: Any = {
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "report",
}


def draw_curves(runs: Mapping[str, Curves]) -> list[tuple[str, str]]:
    """A figure for losses, each metric and learning rates: title and picture.

    Args:
        runs: name to curves. Of several, the folds of a study, each is a thin line, with their mean and the band from the lowest
            to the highest where all of them have a value.
    """
    panels: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for curves in runs.values() for name in curves.points):
        panels.setdefault(choose_panel(name), []).append(name)
    panels.pop("momentum", None)
    order = sorted(panels, key=lambda title: (title != "loss", title == RATE))
    return [(title, _draw_panel(title, sorted(panels[title])[: len(COLORS)], runs)) for title in order]


def _draw_panel(title: str, names: Sequence[str], runs: Mapping[str, Curves]) -> str:
    with rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for name, color in zip(names, COLORS, strict=False):
            curves = [each.points[name] for each in runs.values() if name in each.points]
            label = _shorten(name)
            if len(curves) == 1:
                marker = "." if len(curves[0]) < 30 else ""
                axes.plot(*zip(*curves[0], strict=True), color=color, marker=marker, label=label)
                continue
            for points in curves:
                axes.plot(*zip(*points, strict=True), color=color, alpha=0.35, linewidth=0.8)
            shared = sorted(set.intersection(*({x for x, _ in points} for points in curves)))
            values = np.array([[dict(points)[x] for x in shared] for points in curves]).reshape(len(curves), -1)
            if shared:
                axes.plot(shared, values.mean(0), color=color, linewidth=2, label=f"{label}, mean of {len(curves)}")
                axes.fill_between(shared, values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)
        axes.set_title("learning rate" if title == RATE else _quote(title))
        axes.set_xlabel(next(iter(runs.values())).x)
        if all(each.x == "epoch" for each in runs.values()):
            axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small", frameon=False)
        return _to_svg(figure)


def draw_distribution(scores: Sequence[Score], title: str) -> str:
    """A box for each class of one metric, with a dot for each case; what is not finite is left out.

    Args:
        scores: of one metric and loader.
        title: of the metric.
    """
    scores = [each for each in scores if each.n][:MOST_COLUMNS]
    random = np.random.default_rng(0)
    with rc_context(STYLE):
        figure = Figure(figsize=(max(3.6, 1.4 + 0.8 * len(scores)), 3.4), layout="constrained")
        axes = figure.add_subplot()
        for i, (each, color) in enumerate(zip(scores, COLORS * MOST_COLUMNS, strict=False), 1):
            values = np.array([value for value in each.values.values() if math.isfinite(value)])
            axes.boxplot(
                values, positions=[i], widths=0.5, showfliers=False, medianprops={"color": color, "linewidth": 2}
            )
            dots = values if len(values) <= MOST_DOTS else random.choice(values, MOST_DOTS, replace=False)
            axes.plot(
                i + random.uniform(-0.14, 0.14, len(dots)),
                dots,
                ".",
                color=color,
                alpha=0.6,
                markersize=5,
                rasterized=len(dots) * len(scores) > MOST_SHAPES,
            )
        names = [_label(each.measured.label) for each in scores]
        turn = 45 if sum(map(len, names)) > 9 * len(names) or len(names) > 8 else 0
        axes.set_xticks(range(1, len(names) + 1), names, rotation=turn, ha="right" if turn else "center")
        axes.set_xlim(0.4, len(names) + 0.6)
        unit = scores[0].unit if scores else ""
        axes.set_ylabel(_quote(f"{title} [{unit}]" if unit else title))
        axes.grid(axis="x", visible=False)
        return _to_svg(figure)


def draw_differences(rows: Sequence[PairedResult], runs: Mapping[str, str]) -> str:
    """Mean differences with their intervals, a panel for each metric and unit; empty where none is known.

    Args:
        rows: of a comparison.
        runs: table of a run to the name that it is shown by.
    """
    groups: dict[tuple[str, str], list[PairedResult]] = {}
    for row in rows[:MOST_COLUMNS]:
        if math.isfinite(row.difference):
            groups.setdefault((row.measured.metric, row.unit), []).append(row)
    if not groups:
        return ""
    sizes = [len(group) for group in groups.values()]
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.9 * len(groups) + 0.34 * sum(sizes)), layout="constrained")
        for axes, ((metric, unit), group) in zip(
            figure.subplots(len(groups), squeeze=False, height_ratios=[size + 1.5 for size in sizes])[:, 0],
            groups.items(),
            strict=True,
        ):
            for place, row in enumerate(group):
                axes.plot(row.interval, (place, place), color=COLORS[0], linewidth=2)
                axes.plot(row.difference, place, "o", color=COLORS[0])
            names = [(row.measured.label, row.measured.loader, runs[row.run]) for row in group]
            labels = [" ".join(_label(name) for name in each if name) for each in names]
            axes.set_yticks(range(len(group)), labels, fontsize="small")
            axes.set_ylim(len(group) - 0.5, -0.5)
            axes.axvline(0, color="#888888", linewidth=1)
            axes.set_xlabel(_quote(f"difference of {metric}" + (f" [{unit}]" if unit else "")))
        return _to_svg(figure)


def draw_slice(shown: CaseSlice) -> str:
    """A slice with the contours of label (solid) and prediction (dashed), and what differs in red; axes in mm where known."""
    rows, columns = shown.label.shape[1:] if shown.label.size else shown.image.shape
    height, width = rows * shown.pixel[0], columns * shown.pixel[1]
    scale = 4.2 / max(height, width)
    with rc_context(STYLE):
        size = (max(2.4, width * scale) + 0.8, max(1.6, height * scale) + 1.1)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot(facecolor="#222222")
        extent = (0.0, width, height, 0.0)
        if shown.image.size:
            axes.imshow(shown.image, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
        wrong = (shown.label != shown.pred).any(0) if len(shown.label) else np.zeros((rows, columns), bool)
        axes.imshow(wrong[..., None] * np.array(WRONG), extent=extent, interpolation="nearest")
        x, y = (np.arange(columns) + 0.5) * shown.pixel[1], (np.arange(rows) + 0.5) * shown.pixel[0]
        for i in range(len(shown.label)):
            pair = ALONE if len(shown.label) == 1 else (COLORS[i % len(COLORS)],) * 2
            for mask, color, line in ((shown.label[i], pair[0], "solid"), (shown.pred[i], pair[1], "dashed")):
                if mask.any() and not mask.all() and min(mask.shape) > 1:
                    axes.contour(x, y, mask.astype(float), levels=[0.5], colors=color, linestyles=line, linewidths=1.4)
        for side, place in zip(shown.sides, ((0.02, 0.5), (0.98, 0.5), (0.5, 0.98), (0.5, 0.02)), strict=False):
            align = {0.02: ("left", "bottom"), 0.98: ("right", "top")}
            ha, va = align.get(place[0], ("center", ""))[0], align.get(place[1], ("", "center"))[1]
            text = axes.text(*place, side, color="white", ha=ha, va=va, transform=axes.transAxes, weight="bold")
            text.set_path_effects([withStroke(linewidth=2.5, foreground="black")])
        axes.set_aspect("equal")
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.grid(False)
        axes.set_xlabel(shown.unit)
        axes.set_ylabel(shown.unit)
        figure.legend(handles=_make_legend(shown), loc="outside upper center", ncols=3, frameon=False, fontsize="small")
        return _to_png(figure)


def _make_legend(shown: CaseSlice) -> list[Any]:
    alone = len(shown.classes) == 1
    one, other = ALONE if alone else ("#555555", "#555555")
    handles: list[Any] = [
        Line2D([], [], color=one, label="label"),
        Line2D([], [], color=other, ls="--", label="prediction"),
    ]
    handles.append(Patch(color=WRONG[:3], alpha=0.5, label="differs"))
    names = [] if alone else shown.classes
    return handles + [Patch(color=color, label=_label(name)) for name, color in zip(names, COLORS, strict=False)]


def _label(text: str) -> str:
    """A text that leaves place for the rest of a picture: its beginning and its end, by which long names differ."""
    return _quote(text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}…{text[-(LONGEST // 2) :]}")


def _shorten(name: str) -> str:
    return _quote(name.removesuffix("/epoch"))


def _quote(text: str) -> str:
    """A text in which matplotlib finds no formula, and no name to be left out of a legend."""
    return text.replace("$", r"\$").lstrip("_") or "-"


def _to_svg(figure: Figure) -> str:
    file = BytesIO()
    figure.savefig(file, format="svg", transparent=False, metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{b64encode(file.getvalue()).decode()}"


def _to_png(figure: Figure) -> str:
    file = BytesIO()
    figure.savefig(file, format="png", dpi=130, metadata={"Software": None})
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
