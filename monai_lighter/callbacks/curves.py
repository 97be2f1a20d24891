"""What is logged as tables and a picture, with nothing to install."""

from __future__ import annotations

import csv
import math
import os
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from monai.utils import optional_import

from monai_lighter.safe_files import written_beside

__all__ = ["CurvesLogger", "choose_panel", "choose_table"]

MODES = ("train", "val", "test")
EVERY = 30.0
"""Seconds between two drawings of a fit that goes on."""
COLUMNS = 2
MOST_CURVES = 8
"""Curves in one panel."""


class CurvesLogger(CSVLogger):
    """Lightning's ``CSVLogger`` with a row for each epoch, and the steps apart.

    ``metrics.csv`` has a row for each step at which something was logged over an epoch: the columns ``epoch`` (from 0), ``step``
    (optimizer steps before it) and one for each name. Training and validation of an epoch stand in one row; a cell is empty
    where the epoch had no such value. ``train_steps.csv``, ``val_steps.csv`` and ``test_steps.csv`` have a row for each logged
    step, of the names that end in ``/step`` (``_step`` of a LightningModule, in ``steps.csv``); the step of validation counts
    its batches. Where matplotlib is installed, ``curves.png`` shows what ``metrics.csv`` has: redrawn at the end of an epoch, at
    most twice a minute, and at the end of the fit.

    Rows go to disk as they come. Files that are there, of a run with the same directory that goes on, are added to.

    Args:
        save_dir: directory above ``name``.
        name: ``lightning_logs``, as of Lightning's own.
        version: number or name of the folder. Default: the next number that is free.
        beside: Lightning's own logger, in whose directory the tables are to be.
    """

    def __init__(
        self,
        save_dir: str | Path,
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        beside: TensorBoardLogger | CSVLogger | None = None,
    ) -> None:
        super().__init__(save_dir, name, version)
        self.beside = beside
        self._tables: dict[str, _LogTable] = {}
        self._drawn = 0.0
        self._open = False

    @property
    def version(self) -> int | str:
        """That of the logger beside it, where there is one: a progress bar shows those of all loggers."""
        return super().version if self.beside is None else self.beside.version

    @property
    def log_dir(self) -> str:
        return super().log_dir if self.beside is None else self.beside.log_dir

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The directory of the tables, made on the first call."""
        if not self._open:
            os.makedirs(self.log_dir, exist_ok=True)
            self._open = True
        return Path(self.log_dir)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None) -> None:
        """``hparams.yaml``, which a TensorBoard logger beside this one writes itself."""
        if not isinstance(self.beside, TensorBoardLogger):
            values = vars(params) if isinstance(params, Namespace) else dict(params or {})
            save_hparams_to_yaml(str(self.experiment / "hparams.yaml"), values)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:  # type: ignore[override]
        """Adds values to the rows that they belong to.

        Args:
            metrics: numbers by name; ``epoch`` is the epoch that they are of.
            step: optimizer steps before them; of an evaluation's own steps, its batches.
        """
        by_table: dict[str, dict[str, float]] = {}
        for name, value in metrics.items():
            if name != "epoch":
                by_table.setdefault(choose_table(name), {})[name] = float(value)
        epoch = metrics.get("epoch")
        for table, values in by_table.items():
            known = {"epoch": epoch} if epoch is not None else {}
            if table not in self._tables:
                self._tables[table] = _LogTable(self.experiment / f"{table}.csv")
            self._tables[table].add({**known, "step": step or 0}, values)
        if "metrics" in by_table and time.monotonic() - self._drawn > EVERY:
            self.draw()

    @rank_zero_only
    def draw(self) -> None:
        """Draws ``curves.png`` anew, where matplotlib is installed."""
        self._drawn = time.monotonic()
        table = self._tables.get("metrics")
        if table is not None and optional_import("matplotlib")[1]:
            _draw_curves(table.path, table.path.with_name("curves.png"))

    @rank_zero_only
    def save(self) -> None:
        """Rows are on disk already."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.draw()


def choose_table(name: str) -> str:
    """The table that a logged name stands in: ``metrics`` for values of an epoch."""
    parts = name.split("/")
    if "step" in parts[1:]:
        return f"{parts[0]}_steps" if parts[0] in MODES else "steps"
    return "steps" if name.endswith("_step") else "metrics"


class _LogTable:
    """A csv file in which the last row may yet grow, and new columns may come.

    Args:
        path: the file; one that is there is added to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        self._row: dict[str, str] = {}
        self._start = 0
        if path.is_file():
            with open(path, newline="", encoding="utf-8") as file:
                self.columns = next(csv.reader(file), [])
            self._start = path.stat().st_size

    def add(self, place: Mapping[str, float], values: Mapping[str, float]) -> None:
        """Adds values to the last row, where that is of the same place and has none of them, else to a new one."""
        given = {**{name: str(int(value)) for name, value in place.items()}, **_format_all(values)}
        grows = bool(self._row) and self._row["step"] == given["step"] and not (self._row.keys() & values.keys())
        if grows and self._row.get("epoch", given.get("epoch")) == given.get("epoch", self._row.get("epoch")):
            self._row.update(given)
        else:
            self._row, self._start = given, self.path.stat().st_size if self.path.is_file() else 0
        if not self._row.keys() <= {*self.columns}:
            self._widen()
        with open(self.path, "r+", newline="", encoding="utf-8") as file:
            file.truncate(self._start)
            file.seek(self._start)
            csv.writer(file).writerow([self._row.get(name, "") for name in self.columns])

    def _widen(self) -> None:
        """Writes the file anew with the columns of the last row, and without that row."""
        rows: list[dict[str, str]] = []
        if self.path.is_file():
            with open(self.path, "rb") as raw:
                text = raw.read(self._start).decode("utf-8")
            rows = [*csv.DictReader(text.splitlines())]
        new = [name for name in self._row if name not in self.columns]
        self.columns = [*(name for name in ("epoch", "step") if name in (*self.columns, *new))] + [
            name for name in (*self.columns, *new) if name not in ("epoch", "step")
        ]
        with written_beside(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        self._start = self.path.stat().st_size


def _format_all(values: Mapping[str, float]) -> dict[str, str]:
    """Numbers with the digits that float32 has."""
    return {name: f"{value:.7g}" for name, value in values.items()}


def _draw_curves(table: Path, picture: Path) -> None:
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
            curves.setdefault(choose_panel(name), {})[name] = points
    if curves and len(rows) > 1:
        _draw_panels(curves, picture)


def choose_panel(name: str) -> str:
    """What a logged name is drawn with: ``loss``, the name of a metric, ``lr``."""
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
