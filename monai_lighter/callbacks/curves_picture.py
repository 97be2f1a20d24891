"""The picture of what a fit has logged."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.utils import optional_import

from monai_lighter.safe_files import written_beside

__all__ = ["draw_curves"]

COLUMNS = 2
MOST_CURVES = 8
"""Curves in one panel."""


def draw_curves(table: Path, picture: Path) -> None:
    """Draws the columns of a table by step, with a panel for losses, one for each metric and one for learning rates.

    Args:
        table: ``metrics.csv`` with a column ``step``.
        picture: png file; it is replaced when the new one is complete. None is made of a single row.
    """
    with open(table, newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name in [*(rows[0] if rows else ())]:
        points = [(float(row["step"]), float(row[name])) for row in rows if row[name] not in ("", None)]
        points = [point for point in points if math.isfinite(point[1])]
        if name not in ("epoch", "step") and points:
            curves.setdefault(_choose_panel(name), {})[name] = points
    if curves and len(rows) > 1:
        _draw_panels(curves, picture)


def _choose_panel(name: str) -> str:
    parts = [part for part in name.split("/") if part != "epoch"]
    if "loss" in name:
        return "loss"
    if len(parts) > 2 and parts[1] in ("metrics", "optimizer"):
        return parts[2] if parts[1] == "metrics" else parts[-1]
    return name


def _draw_panels(curves: Mapping[str, Mapping[str, list[tuple[float, float]]]], picture: Path) -> None:
    figure_class: Any = optional_import("matplotlib.figure", name="Figure")[0]  # not pyplot, which chooses a display
    columns = min(COLUMNS, len(curves))
    rows = -(-len(curves) // columns)
    figure = figure_class(figsize=(6 * columns, 3.2 * rows), layout="constrained")
    for place, (title, panel) in enumerate(curves.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        for name, points in [*panel.items()][:MOST_CURVES]:
            axes.plot(
                *zip(*points, strict=True), label=name.removesuffix("/epoch"), marker="." if len(points) < 30 else ""
            )
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    with written_beside(picture) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
