"""``study``: many runs of one config: folds, a grid, a search."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_lighter.commands import INTERRUPTED
from monai_lighter.commands.arguments import UsageError, require_configs
from monai_lighter.commands.output import Printed, format_report
from monai_lighter.errors import BundleError, Finding, in_short
from monai_lighter.errors.packages import install_hint_of

if TYPE_CHECKING:
    from monai_lighter.study.study_folder import Study

__all__ = ["study"]

OF_SUBMISSION = ("cluster", "cluster_options", "devices", "n_jobs")
"""Options of the command that its workers are not given."""


def study(
    *config: str,
    name: str | None = None,
    n_trials: int | None = None,
    over: str | None = None,
    metric: str | None = None,
    direction: str | None = None,
    noprune: bool = False,
    sampler_seed: int = 0,
    n_jobs: int | None = None,
    devices: str | None = None,
    storage: str | None = None,
    cluster: str | None = None,
    cluster_options: Any = None,
    retry_failed: bool = False,
    json: bool = False,
    **override: str,
) -> Printed:
    """Train a config many times: folds, a grid of values, a search.

    Example:

        monai-lighter study configs/train.yaml --fold 0,1,2,3,4 --learning_rate 1e-3,1e-2

    Commas outside of brackets and quotes make a list of values: all combinations are run. --learning_rate "log(1e-4, 1e-1)",
    "uniform(0, 1)" or "int(2, 8)" is a range, of which --n_trials values are drawn; of lists too, but for folds. Each trial is
    a process of fit with a folder of its own, studies/NAME/000. The same command goes on with what was stopped or killed,
    and joins where it runs already, on this machine or another one. See docs/studies.md.

    Args:
        config: file; several are merged in order.
        name: of the study, its folder in studies; default: the name of the last config file.
        n_trials: values to draw, each run on all folds: makes a search of the grid.
        over: ids over whose values the mean is taken, joined by commas; default: the fold of a monai_lighter.Folds.
        metric: logged name of the value that is looked at; default: the key metric of the config.
        direction: maximize or minimize; default: as the metric has it.
        noprune: let trials of a search end that are worse than the median of those before.
        sampler_seed: of what is drawn.
        n_jobs: trials at once; default: 1, or one for each device.
        devices: of CUDA_VISIBLE_DEVICES, joined by commas and dealt out to the trials.
        storage: URL of Optuna's database; default: a journal in the study's folder.
        cluster: have n_jobs workers run by submitit: slurm, or local.
        cluster_options: of submitit, such as "{'slurm_partition': 'gpu', 'gpus_per_node': 1, 'timeout_min': 600}".
        retry_failed: run again what has failed.
        json: print the report as JSON.
        override: items of the config, by their ids: one value, a list, or a range.
    """
    configs = require_configs(config, "study")
    if "resume" in override or "run_id" in override:
        raise UsageError(Finding("resume, run_id", "are set by the study itself", "Leave them out."))
    try:
        from monai_lighter.study.plan import make_plan
        from monai_lighter.study.runner import begin_study
        from monai_lighter.study.storage import Queue
    except ImportError as error:
        raise BundleError(f"study needs Optuna. {install_hint_of(error)}") from error
    from monai_lighter.study.study_folder import FOLDER, read_study

    if str(Path.cwd()) not in sys.path:  # as `fit` has it
        sys.path.insert(0, str(Path.cwd()))
    listed = [each.strip() for each in over.split(",")] if over is not None else None
    plan = make_plan(configs, override, listed, n_trials, metric, direction, sampler_seed, storage)
    folder = Path(FOLDER) / (name or Path(configs[-1]).stem)
    plan = begin_study(folder, plan)
    slots = [each.strip() for each in devices.split(",")] if devices else []
    at_once = max(1, n_jobs or len(slots))
    queue = _open_queue(Queue, folder, plan.request, storage, not noprune)
    queue.retry(retry_failed)
    whole = _run(folder, plan, queue, slots, at_once, cluster, cluster_options)
    return _report(read_study(folder), whole, json)


def _open_queue(kind: Any, folder: Path, request: Any, storage: str | None, prune: bool) -> Any:
    try:
        return kind(folder, request, storage, prune)
    except ImportError as error:
        raise BundleError(f"storage: {error}. {install_hint_of(error)}") from error
    except Exception as error:
        if storage is None or isinstance(error, BundleError):
            raise
        raise BundleError(
            f"storage: Optuna cannot use it: {in_short(error)}. Give the URL of a database, such as sqlite:///study.db."
        ) from error


def _run(folder: Path, plan: Any, queue: Any, devices: list[str], n_jobs: int, cluster: Any, options: Any) -> bool:
    from monai_lighter.study.runner import run_study

    if cluster is None:
        return run_study(folder, plan, queue, devices, n_jobs)
    try:
        from monai_lighter.study.cluster import run_on_cluster
    except ImportError as error:
        raise BundleError(f"cluster needs submitit. {install_hint_of(error)}") from error
    words = [*_drop_options(sys.argv[1:])]
    codes = run_on_cluster(words, folder / "cluster", cluster, n_jobs, options or {})
    if not queue.is_over and any(code not in (0, INTERRUPTED) for code in codes):
        ended = ", ".join(map(str, codes))
        raise BundleError(
            f"cluster: workers ended with exit code {ended}, and trials are left. See {folder / 'cluster'}."
        )
    return bool(queue.is_over)


def _drop_options(words: list[str]) -> Iterator[str]:
    """The words of a command without some options and their values."""
    rest = iter(words)
    for word in rest:
        option, given, _ = word.lstrip("-").replace("-", "_").partition("=")
        if word.startswith("--") and option in OF_SUBMISSION:
            _ = given or next(rest, "")
        elif not (word.startswith("--") and option == "retry_failed"):  # it stands alone, or has its value with it
            yield word


def _report(study: Study, whole: bool, as_json: bool) -> Printed:
    from monai_lighter.study.results import summarize_study, write_results
    from monai_lighter.study.study_folder import COMPLETE, FAILED

    write_results(study)
    found = summarize_study(study)
    failed = [each for each in study.trials if each.state == FAILED]
    code = INTERRUPTED if not whole else 1 if failed else 0
    if as_json:
        return Printed(format_report(found, as_json=True), code)
    trials = [_to_row(each, study.request.over) for each in study.trials]
    summary = {"study": str(study.folder), "metric": f"{found['metric']} ({study.request.direction})"}
    summary |= {"trials": ", ".join(f"{count} {state}" for state, count in found["states"].items())}
    lines = [format_report(summary, trials)]
    if study.request.over:
        lines += [
            "",
            format_report({"mean over": ", ".join(study.request.over)}, [_to_set_row(one) for one in study.sets]),
        ]
    for each in failed:
        lines += ["", f"trial {each.number:03d} failed with exit code {each.exit_code}, {each.log_path}:", each.note]
    lines += [
        f"\ntrial {each.number:03d}: {each.note}" for each in study.trials if each.state == COMPLETE and each.note
    ]
    if study.out_of_fold_path.is_file():
        with open(study.out_of_fold_path, encoding="utf-8") as file:
            several = ", the mean of those that were validated several times" if "repeats" in file.readline() else ""
        lines += ["", f"cases, each once{several}, of the best: {study.out_of_fold_path}"]
    if study.best is not None:
        lines += ["", f"best: {_name_best(study)}; again, bit for bit:", *(f"  {each}" for each in found["commands"])]
    return Printed("\n".join(lines), code)


def _name_best(study: Study) -> str:
    best = study.best
    assert best is not None
    values = ", ".join(f"{id} = {value}" for id, value in best.parameters.items())
    numbers = f"{best.trials[0].number:03d}" + (f" to {best.trials[-1].number:03d}" if len(best.trials) > 1 else "")
    return f"trial {numbers}" + (f" ({values})" if values else "")


def _to_row(trial: Any, over: list[str]) -> dict[str, Any]:
    return {
        "trial": f"{trial.number:03d}",
        **({"set": trial.set} if over else {}),
        **{id: _shorten(value) for id, value in trial.parameters.items()},
        "state": trial.state,
        "value": _shorten(trial.value),
        "epoch": "" if trial.shown_epoch is None else trial.shown_epoch,
        "seconds": f"{trial.seconds:.0f}",
    }


def _to_set_row(one: Any) -> dict[str, Any]:
    parameters = {id: _shorten(value) for id, value in one.parameters.items()}
    return {"set": one.number, **parameters, "n": len(one.trials), "mean": _shorten(one.mean), "std": _shorten(one.std)}


def _shorten(value: Any) -> str:
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
