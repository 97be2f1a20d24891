"""Which trials are left to run, in Optuna's storage: each is taken by one process, and taken again where that has died."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from monai_lighter.study.locks import TrialLock, locked
from monai_lighter.study.study_folder import FAILED, PRUNED, StudyRequest, Trial, trial_folder
from monai_lighter.study.values import format_value

__all__ = ["Job", "Queue"]

UNIT = "unit"
"""User attribute of Optuna's trials: which trials of the study they are."""
ALIVE = (TrialState.RUNNING, TrialState.WAITING)


class Job(NamedTuple):
    """What one process has taken: a trial of a grid, or all trials of a parameter set of a search.

    Attributes:
        asked: Optuna's trial, whose value is that of the trial, or the mean of the parameter set.
        trials: that are to be run, in order.
        lock: held until they are over.
    """

    asked: optuna.trial.Trial
    trials: list[Trial]
    lock: TrialLock


class Queue:
    """The trials of a study, those that nobody has taken first come first served.

    All of them are enqueued when the study begins, so that as many processes as one likes take what is left. Optuna's
    ``GridSampler`` says of itself that it repeats points where several processes ask. A trial whose process has died is told as
    failed, and enqueued again with its parameters, as ``RetryHeartbeatStaleTrialCallback`` does.

    Args:
        folder: of the study.
        request: what it is asked for.
        storage: URL of a database; default: a journal in the folder.
        prune: whether trials of a search end that are worse than the median of those before.

    Raises:
        optuna.exceptions.OptunaError, ImportError: a storage that cannot be used.
    """

    def __init__(self, folder: Path, request: StudyRequest, storage: str | None = None, prune: bool = True) -> None:
        self.folder, self.request = folder, request
        folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        journal = storage or JournalStorage(JournalFileBackend(str(folder / "journal.log")))
        pruner = optuna.pruners.MedianPruner() if prune and request.is_search else optuna.pruners.NopPruner()
        with self._alone():
            self.study = optuna.create_study(
                storage=journal,
                study_name=request.key or folder.name,
                direction=request.direction,  # type: ignore[arg-type]
                pruner=pruner,
                load_if_exists=True,
            )
            known = {each.user_attrs.get(UNIT) for each in self.study.get_trials(deepcopy=False)}
            for unit in range(self._count_units()):
                if unit not in known:
                    self._enqueue(unit)

    def _alone(self) -> Any:
        return locked(self.folder / "lock")

    def _count_units(self) -> int:
        grid = math.prod(len(choices) for choices in self.request.grid.values())
        return grid if self.request.n_trials is None else self.request.n_trials

    def _enqueue(self, unit: int, params: Mapping[str, Any] = {}) -> None:
        self.study.enqueue_trial({**_for_optuna(self._find_values(unit)), **params}, user_attrs={UNIT: unit})

    def _find_values(self, unit: int) -> dict[str, Any]:
        """Values of a job, as far as they are fixed: of a grid all, folds last; of a search those that its folder has, where a
        storage is not the one that they were drawn in."""
        grid, over = self.request.grid, self.request.over
        if not self.request.is_search:
            ids = sorted(grid, key=lambda id: id in over)  # stable
            chosen = next(itertools.islice(itertools.product(*(grid[id] for id in ids)), unit, None))
            return dict(zip(ids, chosen, strict=True))
        trial = Trial.read(trial_folder(self.folder, self._list_numbers(unit)[0]))
        known = {} if trial is None else {id: value for id, value in trial.parameters.items() if id not in over}
        return {
            id: next((one for one in grid.get(id, ()) if _as_json(one) == value), value) for id, value in known.items()
        }

    def take(self) -> Job | None:
        """The next job; None where there is none that nobody has."""
        with self._alone():
            self._requeue_dead()
            if not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                return None
            trial = self.study.ask()
            unit = trial.user_attrs.get(UNIT)
            lock = TrialLock(self._lock_path(int(unit))) if unit is not None else None
            if unit is None or lock is None or not lock.take():  # another machine was quicker
                self.study.tell(trial, state=TrialState.FAIL)
                return None
            return Job(trial, self._list_trials(int(unit), self._suggest(trial, int(unit))), lock)

    def _lock_path(self, unit: int) -> Path:
        return trial_folder(self.folder, self._list_numbers(unit)[0]) / "lock"

    def _requeue_dead(self) -> None:
        for each in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            unit = each.user_attrs.get(UNIT)
            lock = TrialLock(self._lock_path(unit)) if unit is not None else None
            if lock is None or lock.take():
                with suppress(ValueError, RuntimeError):  # another machine was quicker
                    self.study.tell(each.number, state=TrialState.FAIL)
                    if unit is not None:
                        self._enqueue(int(unit), each.params)
                if lock is not None:
                    lock.release()

    def retry(self, failed: bool = False) -> None:
        """Enqueues again the trials whose process was killed (by the system where memory is out, by kill -9).

        Args:
            failed: also those that have failed.
        """
        with self._alone():
            trials = self.study.get_trials(deepcopy=False)
            alive = {each.user_attrs.get(UNIT) for each in trials if each.state != TrialState.FAIL}
            latest = {each.user_attrs[UNIT]: each.params for each in trials if UNIT in each.user_attrs}
            for unit, params in latest.items():
                if unit not in alive and (failed or self._was_killed(unit)):
                    self._enqueue(unit, params)

    def _was_killed(self, unit: int) -> bool:
        trials = [Trial.read(trial_folder(self.folder, number)) for number in self._list_numbers(unit)]
        return any(one is not None and one.state == FAILED and (one.exit_code or 0) < 0 for one in trials)

    def _list_numbers(self, unit: int) -> range:
        """Numbers of the trials of a job."""
        count = self.request.trials_per_set if self.request.is_search else 1
        return range(unit * count, (unit + 1) * count)

    @property
    def is_over(self) -> bool:
        """Whether nothing waits and nothing runs, in whichever process."""
        return not self.study.get_trials(deepcopy=False, states=ALIVE)

    def tell(self, job: Job, value: float | None, state: str) -> None:
        """What has become of a job.

        Args:
            job: that was taken.
            value: None where there is none.
            state: of `Trial`.
        """
        if state == PRUNED:
            self.study.tell(job.asked, state=TrialState.PRUNED)
        elif state == FAILED or value is None or not math.isfinite(value):
            self.study.tell(job.asked, state=TrialState.FAIL)
        else:
            self.study.tell(job.asked, value)

    def _suggest(self, trial: optuna.trial.Trial, unit: int) -> dict[str, Any]:
        """Values of a job. Those of a search depend on the seed, the job and the trials that are over: not on the process."""
        request = self.request
        if request.is_search:
            seed = (request.sampler_seed * 1_000_003 + unit) % 2**32
            self.study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        values: dict[str, Any] = {}
        for id, choices in request.grid.items():
            if not (request.is_search and id in request.over):
                chosen = trial.suggest_categorical(id, [*map(_as_choice, choices)])
                values[id] = next(choice for choice in choices if _as_choice(choice) == chosen)
        for id, (kind, low, high) in request.ranges.items():
            if kind == "int":
                values[id] = trial.suggest_int(id, low, high)
            else:
                values[id] = trial.suggest_float(id, low, high, log=kind == "log")
        return values

    def _list_trials(self, unit: int, values: Mapping[str, Any]) -> list[Trial]:
        request, numbers = self.request, self._list_numbers(unit)
        if not request.is_search:
            over = {id: values[id] for id in request.over}
            return [Trial(trial_folder(self.folder, unit), unit, unit // request.trials_per_set, dict(values), over)]
        listed = []
        for number, each in zip(numbers, itertools.product(*(request.grid[id] for id in request.over)), strict=True):
            over = dict(zip(request.over, each, strict=True))
            listed.append(Trial(trial_folder(self.folder, number), number, unit, {**values, **over}, over))
        return listed


def _as_choice(value: Any) -> Any:
    """A value as Optuna takes it for one of several: lists and dicts as they are typed."""
    return value if isinstance(value, (str, int, float, bool, type(None))) else format_value(value)


def _as_json(value: Any) -> Any:
    """A value as it is read again: a tuple as a list."""
    return json.loads(json.dumps(value))


def _for_optuna(values: Mapping[str, Any]) -> dict[str, Any]:
    return {id: _as_choice(value) for id, value in values.items()}
