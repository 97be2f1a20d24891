"""What a study came to: a table of its trials, means over folds, and one table of all cases, each from the fold it was in."""

from __future__ import annotations

import csv
import json
import math
import shlex
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

from monai_lighter.safe_files import written_beside
from monai_lighter.study.case_tables import CaseTable, MetricKey, read_case_table
from monai_lighter.study.locks import locked
from monai_lighter.study.study_folder import COMPLETE, ParameterSet, Study, Trial

__all__ = ["summarize_study", "write_results"]


def summarize_study(study: Study) -> dict[str, Any]:
    """All that is known of a study, as ``results.json`` has it: trials, parameter sets, the best one, and how it is repeated."""
    best = study.best
    return {
        "study": study.folder.name,
        "metric": study.request.metric or next((each.metric for each in study.trials if each.metric), ""),
        "direction": study.request.direction,
        "over": study.request.over,
        "states": dict(Counter(each.state for each in study.trials)),
        "best": None if best is None else _describe_set(best),
        "commands": [] if best is None else [shlex.join(each.command) for each in best.trials],
        "sets": [_describe_set(each) for each in study.sets],
        "trials": [_describe_trial(each) for each in study.trials],
    }


def _describe_set(one: ParameterSet) -> dict[str, Any]:
    values = [each.value for each in one.trials]
    numbers = [each.number for each in one.trials]
    return {
        "set": one.number,
        "parameters": one.parameters,
        "trials": numbers,
        "values": values,
        "mean": one.mean,
        "std": one.std,
    }


def _describe_trial(trial: Trial) -> dict[str, Any]:
    names = ("number", "set", "parameters", "state", "value", "exit_code", "seconds", "attempts", "note")
    return {**{name: getattr(trial, name) for name in names}, "epoch": trial.shown_epoch, "folder": trial.folder.name}


def write_results(study: Study) -> None:
    """Writes ``results.json``, ``results.csv`` and the out-of-fold tables of a study."""
    with locked(study.folder / "lock"):  # all that have joined come to its end at once
        _write_results(study)


def _write_results(study: Study) -> None:
    with written_beside(study.results_path) as temporary:
        temporary.write_text(json.dumps(summarize_study(study), indent=1) + "\n", encoding="utf-8")
    ids = list(dict.fromkeys(id for each in study.trials for id in each.parameters))
    names = {"state": "state", "value": "value", "epoch": "shown_epoch"}
    names |= {name: name for name in ("exit_code", "seconds", "attempts")}
    table = written_beside(study.results_path.with_suffix(".csv"))
    with table as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "set", *ids, *names])
        for each in study.trials:
            parameters = [each.parameters.get(id, "") for id in ids]
            writer.writerow([each.number, each.set, *parameters, *(getattr(each, name) for name in names.values())])
    sets = [one for one in study.sets if one.mean is not None and all(each.cases_path.is_file() for each in one.trials)]
    former = {*study.folder.glob("out_of_fold*.csv")}  # of trials that have been run again since, perhaps
    for one in sets if study.request.over else ():
        rows = list_out_of_fold(one)
        paths = [study.folder / f"out_of_fold_{one.number:03d}.csv"] if len(study.sets) > 1 else []
        paths += [study.out_of_fold_path] if study.best is not None and one.number == study.best.number else []
        for path in paths if rows else ():  # metrics of torchmetrics have no value for a case
            _write_table(path, rows)
            former.discard(path)
    for path in former:
        path.unlink()


def list_out_of_fold(one: ParameterSet) -> list[dict[str, Any]]:
    """Rows of one table of the validation cases of a parameter set: each case, metric and class once.

    A case that several trials have validated (repeated folds, several seeds) has the mean of its values, of those that are
    numbers; ``fold`` names the trials' folds, joined by ``;``, and a column ``repeats`` says how many they are.

    Args:
        one: whose trials are all complete.
    """
    tables = [(each.fold, read_case_table(each.cases_path)) for each in one.trials if each.state == COMPLETE]
    found: dict[tuple[str, MetricKey], list[tuple[str, float]]] = {}
    units: dict[MetricKey, str] = {}
    lower: set[MetricKey] = set()
    neither: set[MetricKey] = set()
    for fold, table in tables:
        units.update(table.units)
        lower |= table.lower
        neither |= table.neither
        for case, key, value in _list_values(table):
            found.setdefault((case, key), []).append((fold, value))
    repeated = any(len(values) > 1 for values in found.values())
    loaders = any(key.loader for _, key in found)
    rows = []
    for (case, key), values in sorted(found.items(), key=lambda item: (item[0][0], item[0][1].metric)):
        numbers = [value for _, value in values if not math.isnan(value)]
        row: dict[str, Any] = {"case": case, **({"loader": key.loader} if loaders else {})}
        row |= {"metric": key.metric, "class": key.label, "value": fmean(numbers) if numbers else math.nan}
        row |= {"unit": units.get(key, "")} if units else {}
        better = "lower" if key in lower else "neither" if key in neither else "higher"
        row |= {"better": better} if lower or neither else {}
        row |= {"fold": ";".join(fold for fold, _ in values), **({"repeats": len(values)} if repeated else {})}
        rows.append(row)
    return rows


def _list_values(table: CaseTable) -> list[tuple[str, MetricKey, float]]:
    return [(case, key, value) for key, values in table.values.items() for case, value in values.items()]


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with written_beside(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
