"""The folder of a study, and of each of its trials: which file is what. A leaf that imports nothing heavy.

A study is many runs of one config, each of which is a *trial*: a process of ``monai-lighter fit`` with a folder of its own.
Trials with the same parameters but for those that a mean is over (folds, seeds) are a *parameter set*::

    studies/NAME/
      study.json            what was asked: `StudyRequest`
      config.yaml           the config before parameters are set
      journal.log           Optuna's storage, unless --storage names another
      results.csv           a row for each trial; results.json: the same with a mean and standard deviation by parameter set
      out_of_fold.csv       per-case table of the best parameter set, each case once (the format of CaseMetrics)
      out_of_fold_SSS.csv   the same for each parameter set, where there are several
      NNN/                  a trial:
        trial.json          `Trial`: number, parameters, state, value, exit code, command, seconds
        config.yaml         the config as it ran
        log.txt             what its process printed, of all attempts
        key_metric.csv      epoch, value, metric: the metric of the study after each validation
        best.json           metric, value, epoch, weights: of the best weights so far, of native configs
        cases.csv           per-case table (of CaseMetrics) of the validation cases with the best weights
        models/model.pt     the best weights, a plain state dict
        lightning_logs/     curves, checkpoints, timing.json
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from monai_lighter.errors import ConfigError, Finding
from monai_lighter.safe_files import written_beside

__all__ = [
    "COMPLETE",
    "FAILED",
    "FOLDER",
    "PRUNED",
    "RUNNING",
    "ParameterSet",
    "Study",
    "StudyRequest",
    "Trial",
    "list_outside_studies",
    "read_study",
]

FOLDER = "studies"
"""Where studies lie, in the folder that the command is run in."""
STUDY, TRIAL = "study.json", "trial.json"
RUNNING, COMPLETE, PRUNED, FAILED = "running", "complete", "pruned", "failed"
"""States of a trial. One that has died is left as running; its exit code is None."""
MAXIMIZE, MINIMIZE = "maximize", "minimize"


def list_outside_studies(root: Path, pattern: str) -> list[Path]:
    """Files below a folder, but for those of studies: their trials are no runs of the bundle that the folder is."""
    studies = {path.parent for path in root.rglob(STUDY)}
    return [path for path in root.glob(f"**/{pattern}") if path.is_file() and studies.isdisjoint(path.parents)]


class StudyRequest(NamedTuple):
    """What a study was asked for.

    Attributes:
        configs: paths of the config files, as given.
        fixed: config id, or option of ``fit``, to the word that all trials are given for it.
        grid: config id to the values that a grid or a search takes it from, each a value of JSON.
        ranges: config id to ``[kind, low, high]``, of which a search draws; kind is ``log``, ``uniform`` or ``int``.
        over: those ids of the grid over whose values a parameter set has its mean (folds, seeds).
        n_trials: parameter sets of a search; None for a grid.
        metric: logged name of the study's metric; empty for the key metric of the config.
        direction: ``maximize`` or ``minimize``.
        native: whether the config is one, and not of MONAI's engines.
        digest: sha256 of the config before parameters are set.
        sampler_seed: of the sampler of a search.
        key: name of the study in Optuna's storage, which other studies may share; it stays where the folder is renamed.
        storage: URL of that storage without its password; empty for the journal in the folder.
        code: file of the user's code to its sha256, when the study was begun.
        splits: config id of a `Folds` to the sha256 of its file.
    """

    configs: list[str]
    fixed: dict[str, str]
    grid: dict[str, list[Any]]
    ranges: dict[str, list[Any]]
    over: list[str]
    n_trials: int | None
    metric: str
    direction: str
    native: bool
    digest: str
    sampler_seed: int = 0
    key: str = ""
    storage: str = ""
    code: dict[str, str] = {}
    splits: dict[str, str] = {}

    @property
    def is_search(self) -> bool:
        return self.n_trials is not None

    @property
    def trials_per_set(self) -> int:
        return math.prod(len(self.grid[id]) for id in self.over)

    def write(self, folder: Path) -> None:
        _write_json(folder / STUDY, self._asdict())

    @classmethod
    def read(cls, folder: Path) -> StudyRequest | None:
        """What the study in a folder was asked for; None where there is none."""
        path = folder / STUDY
        if not path.is_file():
            return None
        kept = _read_json(path)
        return cls(**{name: kept[name] for name in cls._fields if name in kept})


class Trial(NamedTuple):
    """A trial of a study, as ``trial.json`` in its folder has it.

    Attributes:
        folder: of the trial.
        number: from 0, the name of its folder.
        set: number of its parameter set.
        parameters: config id to value, of all that the study sets.
        over: those of them that the mean of the parameter set is over, such as ``{"fold": 2}``.
        state: `RUNNING`, `COMPLETE`, `PRUNED` or `FAILED`.
        value: of the metric, in the epoch of the best weights; None where there is none.
        exit_code: of the process; None while it runs.
        command: its words, to be run in ``cwd``.
        cwd: folder that it was run in.
        seconds: that it took, all attempts together but for those that were killed.
        attempts: how often it was begun.
        metric: logged name of the metric, as soon as there is a value.
        epoch: of the best weights, from 0.
        weights: file with the best weights, seen from the folder; empty where there is none.
        host: machine that it ran on; ``device`` what of it, as ``CUDA_VISIBLE_DEVICES`` has it.
        note: of one that failed, the last lines of its log; of one that was pruned, why.
    """

    folder: Path
    number: int
    set: int
    parameters: dict[str, Any]
    over: dict[str, Any]
    state: str = RUNNING
    value: float | None = None
    exit_code: int | None = None
    command: list[str] = []
    cwd: str = ""
    seconds: float = 0.0
    attempts: int = 0
    metric: str = ""
    epoch: int | None = None
    weights: str = ""
    host: str = ""
    device: str = ""
    note: str = ""

    @property
    def fold(self) -> str:
        """What tells it from the others of its parameter set: ``2``, or ``2, 1`` where the mean is over folds and seeds."""
        return ", ".join(str(value) for value in self.over.values())

    @property
    def shown_epoch(self) -> int | None:
        """``epoch`` from 1, as runs and tables tell it."""
        return None if self.epoch is None else self.epoch + 1

    @property
    def log_path(self) -> Path:
        return self.folder / "log.txt"

    @property
    def config_path(self) -> Path:
        """The config as it ran, of plain values, macros expanded."""
        return self.folder / "config.yaml"

    @property
    def cases_path(self) -> Path:
        """Per-case table of the validation cases; not there for MONAI's engines and LightningModules of one's own."""
        return self.folder / "cases.csv"

    @property
    def key_metric_path(self) -> Path:
        return self.folder / "key_metric.csv"

    @property
    def weights_path(self) -> Path | None:
        """The best weights, a plain state dict of a native config; None where there are none."""
        path = self.folder / self.weights if self.weights else None
        return path if path is not None and path.is_file() else None

    def write(self) -> None:
        _write_json(self.folder / TRIAL, {name: value for name, value in self._asdict().items() if name != "folder"})

    @classmethod
    def read(cls, folder: Path) -> Trial | None:
        """The trial in a folder; None where none has begun."""
        path = folder / TRIAL
        if not path.is_file():
            return None
        kept = _read_json(path)
        return cls(folder, **{name: kept[name] for name in cls._fields if name in kept})


class ParameterSet(NamedTuple):
    """Trials with the same parameters, but for those that the mean is over.

    Attributes:
        number: from 0.
        parameters: config id to value, without those that the mean is over.
        trials: by number; those that have begun.
        mean: of the values of the trials; None as long as not all of them are complete, or where one has no value.
        std: their standard deviation (of a sample, n - 1); None for fewer than two.
    """

    number: int
    parameters: dict[str, Any]
    trials: list[Trial]
    mean: float | None
    std: float | None


class Study(NamedTuple):
    """A study, as it stands in its folder.

    Attributes:
        folder: of the study.
        request: what was asked.
        trials: those that have begun, by number.
    """

    folder: Path
    request: StudyRequest
    trials: list[Trial]

    @property
    def sets(self) -> list[ParameterSet]:
        """Parameter sets of the trials that have begun, by number."""
        by_set: dict[int, list[Trial]] = {}
        for trial in self.trials:
            by_set.setdefault(trial.set, []).append(trial)
        return [self._make_set(number, by_set[number]) for number in sorted(by_set)]

    def _make_set(self, number: int, trials: list[Trial]) -> ParameterSet:
        common = {id: value for id, value in trials[0].parameters.items() if id not in trials[0].over}
        values = [each.value for each in trials if each.state == COMPLETE and each.value is not None]
        whole = len(values) == len(trials) == self.request.trials_per_set
        mean = fmean(values) if whole else None
        return ParameterSet(number, common, trials, mean, stdev(values) if whole and len(values) > 1 else None)

    @property
    def best(self) -> ParameterSet | None:
        """The whole parameter set with the best mean, of equal ones the first; None where none is whole."""
        choose = max if self.request.direction == MAXIMIZE else min
        return choose((one for one in self.sets if one.mean is not None), key=lambda one: one.mean or 0.0, default=None)

    @property
    def out_of_fold_path(self) -> Path:
        """Per-case table of the best parameter set; it is there where there are folds."""
        return self.folder / "out_of_fold.csv"

    @property
    def results_path(self) -> Path:
        """``results.json``; beside it is ``results.csv``."""
        return self.folder / "results.json"


def read_study(folder: str | Path) -> Study:
    """The study in a folder.

    Raises:
        ConfigError: there is none.
    """
    path = Path(folder)
    request = StudyRequest.read(path)
    if request is None:
        hint = "monai-lighter study CONFIG --NAME VALUES makes one."
        raise ConfigError([Finding(str(folder), f"is no study, it has no {STUDY}", hint)])
    found = (Trial.read(each) for each in path.iterdir() if each.is_dir() and each.name.isdecimal())
    return Study(path, request, sorted((one for one in found if one is not None), key=lambda one: one.number))


def trial_folder(study: Path, number: int) -> Path:
    """Folder of a trial: ``007``."""
    return study / f"{number:03d}"


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with written_beside(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ConfigError(
            [Finding(str(path), f"cannot be read: {error}", "Remove it, and give the study's command again.")]
        ) from error
