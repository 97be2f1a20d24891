"""What a study is to do: the command read and held against the config, before a trial begins."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from lightning.pytorch import Callback
from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.check.targets import target_of
from monai_lighter.check.walk import Built
from monai_lighter.config.items import (
    at,
    copied,
    is_computed,
    is_text,
    items,
    locate,
    located,
    normalize,
    plain_config,
    reached,
)
from monai_lighter.config.resolver import LOCATOR
from monai_lighter.errors import ConfigError, Finding, did_you_mean
from monai_lighter.study.study_folder import MAXIMIZE, MINIMIZE, StudyRequest
from monai_lighter.study.values import Range, format_value, read_values
from monai_lighter.system.metrics import Metrics, lower_is_better
from monai_lighter.trust.digest import find_changed_code, hash_file
from monai_lighter.workflow.check_config import Check
from monai_lighter.workflow.prepare import Asked, Prepared
from monai_lighter.workflow.resume import LOADING, find_differences
from monai_lighter.workflow.workflow import Workflow

__all__ = ["OPTIONS", "Plan", "digest_splits", "make_plan", "require_same", "require_same_splits", "require_unchanged"]

OPTIONS = ("init_id", "final_id", "logging_file", "meta_file", "properties_path", "tracking", "trust", "workflow_type")
"""Options of ``fit`` that every trial is given as they are."""
FOLDS = ("monai_lighter.Folds", "monai_lighter.data.folds.Folds")
MOVED = {"output_dir": "output", "ckpt_dir": "models", "log_dir": "logs"}
"""Items in which MONAI's bundles have their outputs, and the folder in that of a trial."""
WRITES = (*MOVED, "default_root_dir", "dirpath", "save_dir", "weights_save_path")
"""Arguments of components that are folders to write to."""
CONFIG_FILE = "config.yaml"
BEGINNINGS = ("args::fit::ckpt_path", "lightning::ckpt_path")
DIRECTIONS = {"min": MINIMIZE, "max": MAXIMIZE}
TURNED = ("key_metric_negative_sign", "metric_cmp_fn")
"""Arguments of MONAI's engines and handlers by which a lower key metric may be the better one."""
_reading = Lock()


class Plan(NamedTuple):
    """A study that may begin.

    Attributes:
        request: what is asked.
        config: the config with the first values, of plain values.
        first: config id to its first value.
        outputs: config id to the folder, seen from that of a trial, that is set for it.
        folds: ids of the `Folds` of the config.
        workflow: with the first values, of which nothing has been built.
    """

    request: StudyRequest
    config: dict[str, Any]
    first: dict[str, Any]
    outputs: dict[str, str]
    folds: list[str]
    workflow: Workflow


def make_plan(
    configs: Sequence[str],
    words: Mapping[str, str],
    over: Sequence[str] | None = None,
    n_trials: int | None = None,
    metric: str | None = None,
    direction: str | None = None,
    sampler_seed: int = 0,
    storage: str | None = None,
) -> Plan:
    """Reads what a study is to do.

    Args:
        configs: paths.
        words: config id to values, or option of ``fit`` to its value, as the command line has them.
        over: ids over whose values a parameter set has its mean; default: the folds of `Folds`.
        n_trials: parameter sets to draw; None for a grid.
        metric: logged name; default: what the config chooses weights by.
        direction: ``maximize`` or ``minimize``.
        sampler_seed: of the sampler.
        storage: URL of Optuna's database.

    Raises:
        ConfigError: all that is wrong in the command, and in the config with any of the values.
    """
    options = {id: text for id, text in words.items() if id in OPTIONS}
    read = {normalize(id): read_values(id, text) for id, text in words.items() if id not in OPTIONS}
    ranges = {id: values for id, values in read.items() if isinstance(values, Range)}
    grid = {id: values for id, values in read.items() if not isinstance(values, Range) and len(values) > 1}
    fixed = {id: values[0] for id, values in read.items() if not isinstance(values, Range) and len(values) == 1}
    first = {**fixed, **{id: values[0] for id, values in grid.items()}, **{id: each.low for id, each in ranges.items()}}
    prepared = _require_sound(configs, options, first, grid, ranges)
    _require_own_beginning(prepared.config)
    config, asked = prepared.config, dict(first)
    if prepared.native and config.get("seed") is None:  # which makes a trial that is killed, or repeated, the same
        fixed["seed"] = first["seed"] = 0
    folds = dict(_find_folds(config))
    chosen = [id for id in grid if locate(config, id) in folds.values()] if over is None else [*map(normalize, over)]
    _require_values(grid, ranges, chosen, n_trials)
    outputs = _find_outputs(prepared)
    workflow = Workflow([*configs], run_id="fit" if prepared.native else "run", **{**options, **first})  # type: ignore[arg-type]
    found, better = _find_metric(prepared, workflow, metric, direction)
    plain = _plain(prepared)
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    given = {**options, **{id: format_value(value) for id, value in fixed.items()}}
    lists, drawn = {id: [*values] for id, values in grid.items()}, {id: [*each] for id, each in ranges.items()}
    request = StudyRequest(
        [*configs], given, lists, drawn, chosen, n_trials, found, better, prepared.native, digest, sampler_seed
    )
    request = request._replace(storage=_without_password(storage or ""))
    return Plan(request, plain, asked, outputs, [*folds], workflow)


def _without_password(url: str) -> str:
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":***@") if password else url


def _plain(prepared: Prepared) -> dict[str, Any]:
    return plain_config(prepared.saved or prepared.config)


def _require_sound(
    configs: Sequence[str],
    options: Mapping[str, str],
    first: Mapping[str, Any],
    grid: Mapping[str, list[Any]],
    ranges: Mapping[str, Range],
) -> Prepared:
    """The config with the first value of each id; the others are tried one by one."""
    others = [{id: value} for id, values in grid.items() for value in values[1:]]
    others += [{id: each.high} for id, each in ranges.items()]
    checks = [_check(configs, options, {**first, **other}) for other in ({}, *others)]
    asked = {*grid, *ranges}
    found: list[Finding] = []
    for check in checks:
        left = check.prepared.left if check.prepared is not None else []
        idle = check.prepared.unused if check.prepared is not None else []
        found += [error for error in check.errors if error not in left or error.id in asked]
        found += [note for note in idle if note.id in asked]  # which fit says of MONAI's engines, and goes on
    if found or checks[0].prepared is None:
        raise ConfigError(dict.fromkeys(found))
    return checks[0].prepared


def _check(configs: Sequence[str], options: Mapping[str, str], override: Mapping[str, Any]) -> Check:
    ids = {name: options[name] for name in ("init_id", "final_id") if name in options}
    asked = Asked("fit", **ids)
    check = Check([*configs], override, asked, options.get("meta_file"), options.get("trust"))
    if check.prepared is not None and not check.prepared.native:
        asked = asked._replace(run_id="run")
        check = Check([*configs], override, asked, options.get("meta_file"), options.get("trust"))
    return check


def _require_values(
    grid: Mapping[str, list[Any]], ranges: Mapping[str, Range], over: Sequence[str], n_trials: int | None
) -> None:
    found = []
    for id in over:
        if id not in grid:
            hint = did_you_mean(id, grid) if grid else "Write --fold 0,1,2."
            found.append(Finding("over", f"must be ids with several values, got {id!r}", hint))
    if ranges and n_trials is None:
        found.append(
            Finding("n_trials", f"is missing, as {', '.join(ranges)} is drawn from a range", "Write --n_trials 30.")
        )
    if n_trials is not None and n_trials < 1:
        found.append(Finding("n_trials", f"must be 1 or more, got {n_trials}"))
    if n_trials is not None and not ranges and {*grid} <= {*over}:
        hint = 'Write --ID "log(1e-4, 1e-1)", or leave n_trials out.'
        found.append(Finding("n_trials", "is given, and no id has values to draw from", hint))
    if not grid and not ranges:
        hint = "Write --fold 0,1,2 or --learning_rate 1e-3,1e-2. A list has commas outside of brackets and quotes."
        found.append(Finding("study", "takes an id with several values, got none", hint))
    if found:
        raise ConfigError(found)


def _require_own_beginning(config: dict[str, Any]) -> None:
    """A checkpoint that all trials would go on from has seen the cases that folds are validated on, and their epochs are over."""
    for id in BEGINNINGS:
        place, value = located(config, id)
        if value is not None:
            hint = "To begin with its weights, write system::model: {_target_: monai_lighter.load_weights, …}."
            problem = f"is {value!r}, a checkpoint that every trial would go on from"
            raise ConfigError([Finding(place or id, problem, f"Leave it out: trials go on by themselves. {hint}")])


def _find_folds(config: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Id of each `Folds`, and where the number of its fold stands."""
    for id, value in items(config):
        if isinstance(value, dict) and value.get("_target_") in FOLDS:
            yield id, locate(config, f"{id}{ID_SEP_KEY}fold")


def _find_outputs(prepared: Prepared) -> dict[str, str]:
    """What is set so that all that a trial writes lies in its folder.

    Raises:
        ConfigError: folders that components of the fit write to, and that follow none of these.
    """
    config = copied(prepared.config)
    trainer = locate(config, "trainer") or "trainer"
    outputs = {f"{trainer}{ID_SEP_KEY}default_root_dir": "."} if prepared.native else {}
    outputs |= {id: folder for id, folder in MOVED.items() if isinstance(config.get(id), str)}
    for id, folder in outputs.items():
        ConfigParser(config).set(folder, id)
    found = []
    built = {one.id: one for components in prepared.built.values() for one in components}
    names = ", ".join(f"@{each}" for each in outputs) or f"an item {next(iter(MOVED))}"
    hint = f"Write it with {names}, which a study sets for each trial."
    for id, default in (each for one in sorted(built) for each in _list_places(built[one])):
        where = locate(config, id)
        value = at(config, where) if where is not None else default
        if isinstance(value, str) and not (where is not None and _follows(config, where, outputs)):
            what = f"is {value!r}" if where is not None else f"is not given, and {value!r} by default"
            found.append(Finding(id, f"{what}, to which all trials would write", hint))
    if found:
        raise ConfigError(found)
    return outputs


def _list_places(one: Built) -> Iterator[tuple[str, Any]]:
    """Ids of what a component writes to, with the default of each: folders, and the file of a callback."""
    target = target_of(one.target, LOCATOR) if is_text(one.target) else None
    is_callback = inspect.isclass(target) and issubclass(target, Callback)
    parameters: Mapping[str, Any] = {}
    if callable(target):
        with suppress(ValueError, TypeError):  # of those written in C
            parameters = inspect.signature(target).parameters
    for name in (*WRITES, *(("path",) if is_callback else ())):
        yield f"{one.id}{ID_SEP_KEY}{name}", parameters[name].default if name in parameters else None


def _follows(config: dict[str, Any], id: str, outputs: Mapping[str, str]) -> bool:
    return id in outputs or any(each in outputs for each, _ in reached(config, id))


def _find_metric(prepared: Prepared, workflow: Workflow, metric: str | None, direction: str | None) -> tuple[str, str]:
    """Logged name of the metric, empty for the key metric of the config, and its direction."""
    if direction not in (None, MAXIMIZE, MINIMIZE):
        hint = did_you_mean(str(direction), (MAXIMIZE, MINIMIZE))
        raise ConfigError([Finding("direction", f"must be {MAXIMIZE} or {MINIMIZE}, got {direction!r}", hint)])
    if not prepared.native:
        turned = [id for id, value in items(prepared.config) if value and id.rpartition(ID_SEP_KEY)[2] in TURNED]
        if turned and direction is None:
            hint = f"Give --direction {MINIMIZE} where less is better, else --direction {MAXIMIZE}."
            raise ConfigError([Finding("direction", f"is not known: {turned[0]} may turn it", hint)])
        return metric or "", direction or MAXIMIZE  # as MONAI's engines have it
    known = [*_find_monitors(prepared, workflow)]
    monitor, mode = next(iter(known), ("", None)) if metric is None else (metric, dict(known).get(metric))
    found = direction or DIRECTIONS.get(mode or "") or _guess_direction(prepared.config, workflow, monitor)
    if found is None:
        hint = f"Give --direction {MAXIMIZE} or --direction {MINIMIZE}."
        raise ConfigError([Finding("direction", f"is not known of {monitor or 'the key metric'}", hint)])
    return monitor, found


def _find_monitors(prepared: Prepared, workflow: Workflow) -> Iterator[tuple[str, str | None]]:
    """What a `ModelWeights` of the fit chooses weights by, else what a ``ModelCheckpoint`` does, wherever they stand."""
    built = [one for components in prepared.built.values() for one in components]
    for kind, default in (("ModelWeights", None), ("ModelCheckpoint", "min")):
        for one in built:
            if one.target.rpartition(".")[2] == kind:
                monitor, mode = (
                    _read_argument(prepared, workflow, f"{one.id}{ID_SEP_KEY}{name}") for name in ("monitor", "mode")
                )
                if monitor or (mode and not default):
                    yield monitor or "", mode or default


def _read_argument(prepared: Prepared, workflow: Workflow, id: str) -> Any:
    """The value of an argument, also of one that is computed; None where it is not given."""
    where, value = located(prepared.config, id)
    if is_computed(value):
        workflow.initialize()
        value = workflow.parser.get_parsed_content(where)
    return value


def _guess_direction(config: dict[str, Any], workflow: Workflow, monitor: str) -> str | None:
    """By the metric itself, as `ModelWeights` decides it; None where it is not known."""
    section = located(config, "system")[1]
    parts = monitor.split("/")
    if isinstance(section, dict) and (not monitor or parts[:2] == ["val", "metrics"]):
        where = locate(config, ID_SEP_KEY.join(("system", "metrics", "val")))
        workflow.initialize()
        metrics = Metrics(workflow.parser.get_parsed_content(where) if where is not None else {})
        name = next(iter(metrics.names), "") if not monitor else next((n for n in metrics.names if n == parts[2]), "")
        if name:
            return MINIMIZE if lower_is_better(metrics[name]) else MAXIMIZE
        return MINIMIZE if not monitor else None
    return MINIMIZE if "loss" in monitor else None


def require_unchanged(folder: Path, plan: Plan) -> None:
    """Holds the config files, as they are now, against the study: each trial reads them when it begins.

    Raises:
        ConfigError: they have been edited since; with all that differs.
    """
    request = plan.request
    options = {name: request.fixed[name] for name in OPTIONS if name in request.fixed}
    with _reading:
        check = _check(request.configs, options, plan.first)
    if check.prepared is None:
        raise ConfigError(check.errors)
    require_same(folder, plan._replace(config=_plain(check.prepared)))
    require_same_splits(plan.request, digest_splits(plan))


def require_same(folder: Path, plan: Plan) -> StudyRequest | None:
    """The study that a folder holds, if it is the one that is asked for; None where it holds none. More ``n_trials`` are the
    same.

    Raises:
        ConfigError: it holds another; with all that differs.
    """
    before = StudyRequest.read(folder)
    if before is None:
        return None
    hint = "Give another --name, or the command that it was begun with."
    now, found = plan.request, []
    for name in (
        "configs",
        "fixed",
        "grid",
        "ranges",
        "over",
        "n_trials",
        "metric",
        "direction",
        "native",
        "sampler_seed",
        "storage",
    ):
        was, asked = getattr(before, name), getattr(now, name)
        grows = name == "n_trials" and None not in (was, asked) and asked >= was
        if json.loads(json.dumps(asked)) != was and not grows:
            found.append(Finding(name, f"is {asked!r}, and was {was!r} when {folder} was begun", hint))
    if not found:
        kept = ConfigParser.load_config_file(folder / CONFIG_FILE)
        differing = find_differences(kept, plan.config, dict.fromkeys([*kept, *plan.config]), LOADING)
        found = [
            Finding(id, f"is {asked!r}, and was {was!r} when {folder} was begun", hint) for id, was, asked in differing
        ]
        changed = find_changed_code(before.code, plan.workflow.code_folders)
        found += [Finding(name, f"{now} since {folder} was begun", hint) for name, now in changed]
    if found:
        raise ConfigError(found)
    return before


def digest_splits(plan: Plan) -> dict[str, str]:
    """Config id of each `Folds` to the sha256 of its file; empty where that is not there.

    Args:
        plan: whose workflow has been initialized, if it has folds.
    """
    paths = {id: plan.workflow.parser.get_parsed_content(id).path for id in plan.folds}
    return {id: hash_file(path) if path.is_file() else "" for id, path in paths.items()}


def require_same_splits(request: StudyRequest, now: Mapping[str, str]) -> None:
    """Holds the files of folds against those that the study was begun with.

    Raises:
        ConfigError: there are other splits now: a case would be validated in two folds, or in none.
    """
    hint = "Put the file back as it was, or begin another study with --name."
    problem = "has other splits than those that the study was begun with, or is not there"
    found = [
        Finding(f"{id}{ID_SEP_KEY}path", problem, hint) for id, was in request.splits.items() if now.get(id) != was
    ]
    if found:
        raise ConfigError(found)
