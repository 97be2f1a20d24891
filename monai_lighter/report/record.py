"""What a run has left in its folder, read again."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from monai.bundle import ConfigParser

from monai_lighter.callbacks.case_slices import CaseSlice, CaseVolume, read_slices
from monai_lighter.callbacks.curves import choose_table
from monai_lighter.callbacks.run_report import RUN, SLICES
from monai_lighter.callbacks.timing import FILE
from monai_lighter.errors import ConfigError, Finding
from monai_lighter.study.case_tables import CaseTable, is_case_table, read_case_table
from monai_lighter.study.study_folder import list_outside_studies
from monai_lighter.trust.digest import hash_file

__all__ = ["Curves", "RunRecord", "find_records", "read_curves", "read_record"]

METRICS, CONFIG = "metrics.csv", "config.yaml"
OLD = f"{RUN} and {SLICES} are of another run than the table. `monai-lighter test` makes all of them anew"

OTHER_EPOCH = "those that were kept are of another epoch than the best one"


class Curves(NamedTuple):
    """What was logged over an epoch.

    Attributes:
        x: ``epoch``, from 1, or ``step`` where an epoch has several values of one name.
        points: name to ``(x, value)``, of finite values alone.
    """

    x: str
    points: dict[str, list[tuple[float, float]]]


class RunRecord(NamedTuple):
    """A run as far as its folder tells.

    Attributes:
        folder: of its logs, or of its table.
        said: what `RunReport` wrote of it; empty where it did not.
        config: as it ran, of plain values; empty where it is not there.
        curves: of its csv logger, else of TensorBoard's.
        tables: of `CaseMetrics`.
        timing: as `Timing` has it.
        slices, volume: of its worst and median cases; of a fit those of its best epoch.
    """

    folder: Path
    said: dict[str, Any]
    config: dict[str, Any]
    curves: Curves
    tables: list[CaseTable]
    timing: dict[str, Any]
    slices: list[CaseSlice]
    volume: CaseVolume | None


def read_record(place: str | Path) -> RunRecord:
    """What is in the folder of a run, or beside a table of `CaseMetrics`.

    Raises:
        ConfigError: there is neither a log, a table of cases nor what `RunReport` writes.
    """
    path = Path(place)
    folder = path.parent if path.is_file() else path
    said, curves = _read_json(folder / RUN), read_curves(folder)
    listed = said.get("tables")  # those that the run wrote; beside them may be others
    files = [path] if path.is_file() else sorted(folder.glob("*.csv" if listed is None else "*"))
    files = [
        each for each in files if path.is_file() or (is_case_table(each) if listed is None else each.name in listed)
    ]
    tables = [read_case_table(each) for each in files]
    if not (tables or said or curves.points):
        hint = "Name the log folder of a run (lightning_logs/version_0), a csv of CaseMetrics, a study or a bundle."
        problem = f"has no {METRICS}, no table of CaseMetrics and no {RUN}" if folder.is_dir() else "is not there"
        raise ConfigError([Finding(str(place), problem, hint)])
    config = said.get("config") or {}
    if not config and (folder / CONFIG).is_file():
        config = dict(ConfigParser.load_config_file(str(folder / CONFIG)))
    timing = said.get("timing") or _read_json(folder / FILE)
    slices, volume = read_slices(folder / SLICES)
    best = said.get("best") if said.get("stage") == "fit" else None
    if best and any(each.epoch != best["epoch"] for each in slices):
        said, slices, volume = {**said, "slices": OTHER_EPOCH}, [], None
    others = [each for each in files if listed is not None and hash_file(each) != listed.get(each.name)]
    if others:
        said, config, timing, slices, volume = {"slices": OLD}, {}, {}, [], None
    return RunRecord(folder, said, config, curves, tables, timing, slices, volume)


def find_records(root: Path) -> list[RunRecord]:
    """Of all runs below a folder, but for the trials of studies, the newest fit and the newest test that have what `RunReport`
    writes; in place of a fit the newest logs, of a test the newest table of cases."""
    said = [(path, _read_json(path).get("stage")) for path in list_outside_studies(root, RUN)]
    fits = [path for path, stage in said if stage == "fit"] or list_outside_studies(root, METRICS)
    tests = [path for path, stage in said if stage == "test"] or [
        path for path in list_outside_studies(root, "*.csv") if is_case_table(path)
    ]
    newest = [max(files, key=lambda path: path.stat().st_mtime).parent for files in (fits, tests) if files]
    return [read_record(folder) for folder in dict.fromkeys(newest)]


def read_curves(folder: Path) -> Curves:
    """Curves of the run that logged to a folder; without points where it has no ``metrics.csv`` and no events of TensorBoard."""
    path = folder / METRICS
    rows: list[dict[str, str]] = []
    if path.is_file():
        with open(path, newline="", encoding="utf-8") as file:
            rows = [*csv.DictReader(file)]
    elif any(folder.glob("events.out.tfevents.*")):
        rows = _read_events(folder)
    read = [(row, _read_number(row.get("epoch")), _read_number(row.get("step"))) for row in rows]
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if _is_of_epoch(name)]
    counts = Counter((name, epoch) for row, epoch, _ in read for name in names if row.get(name) not in ("", None))
    by_epoch = all(epoch is not None for _, epoch, _ in read) and max(counts.values(), default=0) < 2
    points: dict[str, list[tuple[float, float]]] = {}
    for row, epoch, step in read:
        x = epoch + 1 if by_epoch and epoch is not None else step
        for name in names:
            value = _read_number(row.get(name))
            if x is not None and value is not None and math.isfinite(value):
                points.setdefault(name, []).append((x, value))
    return Curves("epoch" if by_epoch else "step", points)


def _is_of_epoch(name: str | None) -> bool:
    return bool(name) and name not in ("epoch", "step") and choose_table(str(name)) == "metrics"


def _read_number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _read_events(folder: Path) -> list[dict[str, str]]:
    """Rows as of a csv logger; none where TensorBoard is not installed."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415
    except ImportError:
        return []
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    rows: dict[int, dict[str, str]] = {}
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            rows.setdefault(event.step, {"step": str(event.step)})[name] = str(event.value)
    return [rows[step] for step in sorted(rows)]


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ConfigError([Finding(str(path), f"cannot be read: {error}", "Remove it.")]) from error
