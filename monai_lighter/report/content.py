"""What stands in a report: the one source of its page and of ``report.json``."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monai_lighter import __version__
from monai_lighter.callbacks.case_slices import CaseSlice, CaseVolume, read_slices
from monai_lighter.callbacks.run_report import RUN, SLICES, choose_cases
from monai_lighter.callbacks.run_summary import format_duration
from monai_lighter.callbacks.score_table import format_number
from monai_lighter.errors import ConfigError, Finding, did_you_mean
from monai_lighter.report.names import Names
from monai_lighter.report.record import Curves, RunRecord, find_records, read_curves, read_record
from monai_lighter.report.scores import ALL, CONFIDENCE, Score, choose_key, summarize
from monai_lighter.share.layout import PROOF, Bundle
from monai_lighter.study.case_tables import read_case_table
from monai_lighter.study.study_folder import STUDY, Study, read_study

__all__ = ["Content", "read_content"]

SHOWN_SCORES = 30
"""Columns of the table of cases; of more the classes are left out."""
SHOWN_CASES = 2000
METADATA = ("name", "version", "task", "description", "intended_use", "authors", "data_source", "label_classes", PROOF)
VERSIONS = ("monai_version", "pytorch_version", "numpy_version")
KNOWN_TABLES = {"case_metrics_val": "val", "case_metrics_test": "test", "out_of_fold": "out of fold"}
"""Others are named by the user."""
NO_CURVES = (
    "No curves: nothing was logged to a csv file. Lightning's default logger does, and a monai_lighter.CurvesLogger."
)
NO_CASES = (
    "No table of cases in this folder: trainer::callbacks has no monai_lighter.CaseMetrics, or that has another path."
)
NO_SLICES = (
    "No pictures: a fit and a test keep slices of the worst and the median cases, where a metric of MONAI's has a value for each "
    "case, the run has logs or a table, and the extra `report` is installed (pip install 'monai_lighter[report]')."
)
OF_STUDY = "Of the validations that the weights of the best parameter set are of: of each fold by its own network."


class Content(NamedTuple):
    """A report.

    Attributes:
        kind: ``run``, ``study`` or ``bundle``.
        data: all that stands in it, of plain values; no names unless they were asked for.
        curves: name of a run to its curves.
        scores: of each table of ``data["tables"]``.
        slices, volume: to be drawn, their cases with the names that are shown.
    """

    kind: str
    data: dict[str, Any]
    curves: dict[str, Curves]
    scores: list[list[Score]]
    slices: list[CaseSlice]
    volume: CaseVolume | None


def read_content(place: str | Path, shown: bool = False, lower_is_better: Sequence[str] = ()) -> Content:
    """What there is to say of a run, a study or a bundle.

    Args:
        place: folder of logs, or of a table of cases; such a table; folder of a study, or of a bundle.
        shown: whether names of cases, paths and texts of the config are shown.
        lower_is_better: metrics of which the lower value is the better one, beside those of which the tables say so.

    Raises:
        ConfigError: there is nothing to report.
        SharingError: metadata of a bundle that cannot be read.
    """
    path = Path(place)
    if (path / STUDY).is_file():
        study = read_study(path)
        found = study.best.trials if study.best else study.trials
        curves = {f"trial {trial.number}": read for trial in found if (read := _find_curves(trial.folder)).points}
        return _make("study", _read_study_records(study), shown, lower_is_better, curves, study=study)
    if (path / "configs").is_dir():
        bundle = Bundle(path)
        return _make("bundle", find_records(bundle.root), shown, lower_is_better, bundle=bundle.metadata())
    return _make("run", [read_record(path)], shown, lower_is_better)


def _find_curves(trial: Path) -> Curves:
    """Those of all logs of a trial, which has begun new ones where it went on; of an epoch in several, the newest."""
    files = sorted(trial.rglob("metrics.csv"), key=lambda file: file.stat().st_mtime)
    read = [read_curves(file.parent) for file in files]
    x = read[-1].x if read else "epoch"
    points: dict[str, dict[float, float]] = {}
    for each in (curves for curves in read if curves.x == x):
        for name, values in each.points.items():
            points.setdefault(name, {}).update(values)
    return Curves(x, {name: sorted(values.items()) for name, values in points.items()})


def _read_study_records(study: Study) -> list[RunRecord]:
    """The table out of fold, with the config of a trial of the best parameter set."""
    tables = [read_case_table(study.out_of_fold_path)] if study.out_of_fold_path.is_file() else []
    trials = study.best.trials if study.best else study.trials
    run = next((_find_newest(trial.folder, RUN) for trial in trials), None)
    first = read_record(run.parent) if run is not None else None
    empty = Curves("epoch", {})
    if first is None:
        return [RunRecord(study.folder, {}, {}, empty, tables, {}, [], None)]
    return [first._replace(folder=study.folder, tables=tables, curves=empty, slices=[], volume=None)]


def _find_newest(folder: Path, name: str) -> Path | None:
    return max(folder.rglob(name), key=lambda path: path.stat().st_mtime, default=None)


def _choose_slices(study: Study, scores: Sequence[Score]) -> tuple[list[CaseSlice], CaseVolume | None]:
    """Those of the worst and the median cases of all folds of the best parameter set, by the out-of-fold table."""
    found: dict[str, CaseSlice] = {}
    volumes: dict[str, CaseVolume] = {}
    for trial in study.best.trials if study.best else ():
        path = _find_newest(trial.folder, SLICES)
        slices, volume = read_slices(path) if path is not None else ([], None)
        if all(trial.epoch in (None, each.epoch) for each in slices):
            found.update({each.case: each for each in slices})
            volumes.update({volume.case: volume} if volume is not None else {})
    metrics = {each.metric for each in found.values()}
    score = next((each for each in scores if each.measured.metric in metrics), None)
    if score is None:
        return [], None
    values = {case: value for case, value in score.values.items() if not math.isnan(value)}
    roles = choose_cases(values, bool(score.lower_is_better), {*found})
    chosen = [found[case]._replace(role=role) for case, role in roles.items()]
    return chosen, next((volumes[case] for case in roles if case in volumes), None)


def _describe_origin(slices: Sequence[CaseSlice], run: RunRecord | None) -> str:
    """Of which validation the pictures are; empty in a test.

    Args:
        slices: all of one validation.
        run: that they are of; None of a study.
    """
    epoch = slices[0].epoch if slices else None
    if epoch is None or run is None:
        return OF_STUDY if slices and run is None else ""
    text = f"Of the validation in epoch {epoch + 1}{', whose weights are the best' if run.said.get('best') else ''}."
    return f"{text} The table is of the last one." if run.tables else text


def _make(
    kind: str,
    records: list[RunRecord],
    shown: bool,
    lower_is_better: Sequence[str],
    curves: dict[str, Curves] | None = None,
    study: Study | None = None,
    bundle: Mapping[str, Any] | None = None,
) -> Content:
    tables = [table for record in records for table in record.tables]
    shown_run = next(
        (record for record in reversed(records) if record.slices), None
    )  # of a bundle the test, else the fit
    slices, volume = (shown_run.slices, shown_run.volume) if shown_run is not None else ([], None)
    names = Names(shown, [case for table in tables for case in table.cases] + [each.case for each in slices])
    metrics = sorted({each.metric for table in tables for each in table.values})
    for name in lower_is_better:
        if name not in metrics:
            hint = did_you_mean(name, metrics)
            raise ConfigError([Finding("lower_is_better", f"must be a metric of the tables, got {name!r}", hint)])
    scores = [summarize(table, lower_is_better) for table in tables]
    if study is not None:
        slices, volume = _choose_slices(study, [each for table in scores for each in table])
    if curves is None:
        curves = {str(record.said.get("stage") or "run"): record.curves for record in records if record.curves.points}
    monitor = next((record.said["best"]["monitor"] for record in records if record.said.get("best")), "")
    keys = [choose_key(each, monitor) for each in scores]
    slices = [each._replace(case=names.case(each.case)) for each in slices]
    volume = volume and volume._replace(case=names.case(volume.case))
    data: dict[str, Any] = {
        "kind": kind,
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "monai_lighter": __version__,
        "names_shown": shown,
        "headline": [*_list_headline(records, keys, study)],
        "curves": {run: each._asdict() for run, each in curves.items()},
        "tables": [
            _describe_table(table.path.stem, each, key, names)
            for table, each, key in zip(tables, scores, keys, strict=True)
        ],
        "slices": [_describe_slice(each) for each in slices],
        "slices_of": _describe_origin(slices, shown_run),
        "volume": None if volume is None else {"case": volume.case, "spacing": volume.spacing, "steps": volume.steps},
        "missing": _list_missing(records, curves, tables, slices, study is not None, names),
        "runs": [_describe_run(record, names) for record in records if record.said.get("stage") or record.config],
        "warnings": list(
            dict.fromkeys(names.text(text) for record in records for text in record.said.get("warnings", ()))
        ),
        "study": _describe_study(study, names) if study is not None else None,
        "bundle": _describe_bundle(bundle, names) if bundle is not None else None,
    }
    return Content(kind, data, curves, scores, slices, volume)


def _list_headline(
    records: list[RunRecord], keys: list[Score | None], study: Study | None
) -> Iterable[tuple[str, str, str]]:
    """What comes first: a name, a number and what it is."""
    for key in keys:
        if key is not None and key.n:
            low, high = key.interval
            interval = (
                f"{CONFIDENCE:.0%} interval {format_number(low)} to {format_number(high)}, " if low == low else ""
            )
            unit = f" {key.unit}" if key.unit else ""
            where = " ".join(filter(None, (key.measured.metric, key.measured.loader)))
            note = f"mean of {key.n} {'case' if key.n == 1 else 'cases'}, {interval}{_say_better(key)} is better"
            yield where, f"{format_number(key.mean)}{unit}", note
    if study is not None and study.best is not None and study.best.mean is not None:
        spread = "" if study.best.std is None else f" ± {format_number(study.best.std)}"
        what = "mean and standard deviation" if spread else "mean"
        note = f"{what} of the best parameter set, {study.request.metric or 'key metric'}"
        yield "best", f"{format_number(study.best.mean)}{spread}", note
    for record in records:
        best = record.said.get("best")
        if best and study is None:
            better = "lower" if best["mode"] == "min" else "higher"
            yield (
                best["monitor"],
                format_number(best["value"]),
                f"best, in epoch {best['epoch'] + 1}; {better} is better",
            )
        seconds = record.timing.get("seconds", {}).get("total")
        if seconds and study is None:
            stage = record.said.get("stage") or record.timing.get("stage") or "run"
            epochs = record.said.get("epochs")
            yield f"time of the {stage}", format_duration(seconds), f"{epochs} epochs" if epochs else ""


def _say_better(score: Score) -> str:
    return "neither" if score.lower_is_better is None else "lower" if score.lower_is_better else "higher"


def _describe_table(title: str, scores: list[Score], key: Score | None, names: Names) -> dict[str, Any]:
    """The scores, and a row for each case, worst first by the key metric, of as many as are shown."""
    columns = (
        scores if len(scores) <= SHOWN_SCORES else [each for each in scores if each.measured.label == ALL] or scores
    )
    columns = columns[:SHOWN_SCORES]
    cases = dict.fromkeys((score.measured.loader, case) for score in scores for case in score.values)
    order = {case: place for place, case in enumerate(key.ordered)} if key is not None else {}
    ranked = sorted(cases, key=lambda each: order.get(each[1], len(order)))[:SHOWN_CASES]
    rows = [
        {
            "case": names.case(case),
            "loader": loader,
            "values": [
                score.values.get(case, math.nan) if score.measured.loader == loader else math.nan for score in columns
            ],
        }
        for loader, case in ranked
    ]
    return {
        "title": title if names.shown else KNOWN_TABLES.get(title, "cases"),
        "scores": [{**_describe_score(each), "is_key": each is key} for each in scores],
        "columns": [str(each.measured) + (f" [{each.unit}]" if each.unit else "") for each in columns],
        "left_out_columns": len(scores) - len(columns),
        "cases": rows,
        "left_out_cases": len(cases) - len(rows),
        "has_loaders": any(each.measured.loader for each in scores),
        "ranked_by": str(key.measured) if key is not None else "",
    }


def _describe_score(score: Score) -> dict[str, Any]:
    metric, label, loader = score.measured
    counts = {name: getattr(score, name) for name in ("n", "without", "infinite", "mean", "sd", "median")}
    low, high = score.interval
    return {
        "metric": metric,
        "class": label,
        "loader": loader,
        "unit": score.unit,
        "better": _say_better(score),
        **counts,
        "low": low,
        "high": high,
    }


def _describe_slice(shown: CaseSlice) -> dict[str, Any]:
    told = (
        "case",
        "role",
        "metric",
        "value",
        "classes",
        "plane",
        "number",
        "total",
        "error",
        "unit",
        "oblique",
        "channels",
    )
    epoch = None if shown.epoch is None else shown.epoch + 1
    return {**{name: getattr(shown, name) for name in told}, "epoch": epoch, "has_image": bool(shown.image.size)}


def _list_missing(
    records: list[RunRecord],
    curves: Mapping[str, Any],
    tables: Sequence[Any],
    slices: Sequence[Any],
    is_study: bool,
    names: Names,
) -> dict[str, str]:
    """What is not there, and how to get it."""
    found: dict[str, str] = {}
    tests = [record for record in records if record.said.get("stage") != "fit"]
    if not curves and (is_study or len(tests) < len(records)):
        found["curves"] = NO_CURVES
    if not tables:
        found["cases"] = (
            "No out-of-fold table: the study has no folds, or they are not through." if is_study else NO_CASES
        )
    if not slices:
        problem = next((record.said["slices"] for record in records if record.said.get("slices")), "")
        found["slices"] = f"No pictures: {names.text(problem)}." if problem else NO_SLICES
    return found


def _describe_run(record: RunRecord, names: Names) -> dict[str, Any]:
    said, config = record.said, record.config
    about = {"stage": said.get("stage"), "ended": said.get("ended"), "seed": config.get("seed")}
    about |= {"bundle digest (sha256)": said.get("digest"), "parameters": said.get("parameters")}
    timing = record.timing
    return {
        "about": {name: value for name, value in about.items() if value is not None},
        "hardware": {name: value for name, value in said.get("hardware", {}).items() if value is not None},
        "versions": said.get("versions", {}),
        "timing": {name: timing[name] for name in ("seconds", "share", "memory", "batches") if timing.get(name)},
        "advice": names.text(timing.get("advice") or ""),
        "config": names.config(config),
    }


def _describe_study(study: Study, names: Names) -> dict[str, Any]:
    best = study.best
    rows = [
        {
            "set": one.number,
            "best": best is not None and one.number == best.number,
            "parameters": {id: names.parameter(id, value) for id, value in one.parameters.items()},
            "mean": one.mean,
            "std": one.std,
            "trials": [
                {
                    "trial": trial.number,
                    "over": ", ".join(names.parameter(id, value) for id, value in trial.over.items()),
                    "state": trial.state,
                    "value": trial.value,
                    "epoch": trial.shown_epoch,
                    "seconds": trial.seconds,
                    "attempts": trial.attempts,
                    "note": names.text(trial.note),
                }
                for trial in one.trials
            ],
        }
        for one in study.sets
    ]
    return {"metric": study.request.metric, "direction": study.request.direction, "sets": rows}


def _describe_bundle(metadata: Mapping[str, Any], names: Names) -> dict[str, Any]:
    told = [name for name in METADATA if isinstance(metadata.get(name), str)]
    versions = {name: str(metadata[name]) for name in VERSIONS if name in metadata}
    required = metadata.get("required_packages_version")
    measured = metadata.get("eval_metrics")
    return {
        "about": {name: names.text(metadata[name]) for name in told},
        "versions": {**versions, **(required if isinstance(required, Mapping) else {})},
        "eval_metrics": {str(k): v for k, v in measured.items()} if isinstance(measured, Mapping) else {},
    }
