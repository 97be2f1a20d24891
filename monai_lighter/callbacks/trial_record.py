"""What a study reads of the runs that are its trials: the key metric as it comes, and the cases behind the best weights."""

from __future__ import annotations

import csv
import json
import logging
import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from monai_lighter.callbacks.case_metrics import CaseMetrics
from monai_lighter.callbacks.tables import Table
from monai_lighter.errors import ConfigError, Finding, did_you_mean
from monai_lighter.safe_files import written_beside
from monai_lighter.system.batches import CaseNumber
from monai_lighter.system.checkpoints import place_before_checkpoints
from monai_lighter.system.logging import Recorded
from monai_lighter.system.weights import ModelWeights

__all__ = [
    "DIRECTION_VARIABLE",
    "METRIC_VARIABLE",
    "TRIAL_VARIABLE",
    "TrialRecord",
    "find_trial_folder",
    "make_trial_record",
]

logger = logging.getLogger(__name__)

TRIAL_VARIABLE, METRIC_VARIABLE = "MONAI_LIGHTER_TRIAL", "MONAI_LIGHTER_TRIAL_METRIC"
DIRECTION_VARIABLE = "MONAI_LIGHTER_TRIAL_DIRECTION"
"""Environment that a study gives its trials: folder of the trial; logged name of the metric, empty for the key metric; and
``maximize`` or ``minimize``."""


def find_trial_folder() -> Path | None:
    """Folder of the trial that this process is; None where it is none."""
    folder = os.environ.get(TRIAL_VARIABLE)
    return Path(folder) if folder else None


def make_trial_record() -> list[Callback]:
    """What the Trainer of a fit needs where this process is a trial."""
    folder = find_trial_folder()
    asked = (os.environ.get(name, "") for name in (METRIC_VARIABLE, DIRECTION_VARIABLE))
    return [] if folder is None else [TrialRecord(folder, *asked)]


class TrialRecord(CaseMetrics):
    """Writes, in a fit, what a study reads of it: it changes nothing in the fit, and does nothing in a step.

    - ``key_metric.csv``: ``epoch, value, metric``, of the metric after each validation;
    - ``cases.csv``: table of `CaseMetrics` of the validation that the best weights are of; of a `System` whose cases have names;
    - ``best.json``: metric, value, epoch and file of the best weights (`ModelWeights`).

    Args:
        folder: of the trial.
        metric: logged name; empty for the monitor of `ModelWeights`, or the key metric of MONAI's engines.
        direction: ``maximize`` or ``minimize``, in which the study has the better trial; empty for any.

    Raises:
        ConfigError: a metric of training, by which the study or `ModelWeights` chooses; after a validation, one that has not been
            logged, or by which `ModelWeights` chooses in the other direction.
    """

    def __init__(self, folder: Path, metric: str = "", direction: str = "") -> None:
        super().__init__(folder / "cases_now.csv")
        self.folder, self.metric, self.direction = folder, metric, direction
        self._weights: ModelWeights | None = None
        self._best: float | None = None
        self._nameless = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        place_before_checkpoints(self, trainer)
        self._weights = next((each for each in trainer.callbacks if isinstance(each, ModelWeights)), None)  # type: ignore[attr-defined]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name in (self.metric, self._find_metric(pl_module)):
            if name.startswith("train/"):
                hint = "Name a value of validation: its cases are what trials are measured on."
                raise ConfigError([Finding("metric", f"of a study must be one of validation, got {name!r}", hint)])
        self._best = self._weights.best if self._weights is not None else None
        if trainer.ckpt_path is None and trainer.is_global_zero:  # what an attempt has left that came to no checkpoint
            for name in ("key_metric.csv", "best.json", "cases.csv"):
                (self.folder / name).unlink(missing_ok=True)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        if isinstance(pl_module, Recorded):
            super().on_validation_start(trainer, pl_module)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(pl_module, Recorded):
            super().on_validation_batch_end(trainer, pl_module, *args, **kwargs)

    def add_rows(self, table: Table, pl_module: Any, dataloader_idx: int, outputs: Any) -> None:
        names = outputs["identifier"]
        self._nameless = self._nameless or names is None or any(isinstance(name, CaseNumber) for name in names)
        super().add_rows(table, pl_module, dataloader_idx, outputs)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        super().on_validation_end(trainer, pl_module)
        if not trainer.sanity_checking:
            self._note(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Where no epoch had the best weights, they are those of the last."""
        if trainer.is_global_zero and self.path is not None and self.path.is_file():
            if self._weights is not None and self._weights.best is None:
                self._keep(None, "", None)
            self.path.unlink(missing_ok=True)

    def _find_metric(self, pl_module: Any) -> str:
        of_engine: tuple[Any, ...] = getattr(pl_module, "find_key_metric", tuple)()
        return self.metric or str((self._weights and self._weights.monitor) or next(iter(of_engine), ""))

    def _note(self, trainer: Trainer, pl_module: Any) -> None:
        name = self._find_metric(pl_module)
        if not trainer.is_global_zero or not name:
            return
        if name not in trainer.callback_metrics:
            logged = [*trainer.callback_metrics]
            hint = did_you_mean(name, logged)
            raise ConfigError([Finding("metric", f"must be the name of a logged value, got {name!r}", hint)])
        self._require_direction(name)
        value, epoch = float(trainer.callback_metrics[name]), trainer.current_epoch
        path = self.folder / "key_metric.csv"
        before = path.read_text(encoding="utf-8") if path.is_file() else "epoch,value,metric\n"
        with written_beside(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            file.write(before)
            csv.writer(file, lineterminator="\n").writerow((epoch, repr(value), name))
        best = self._weights.best if self._weights is not None else None
        if best != self._best:
            self._best = best
            self._keep(value, name, epoch)

    def _require_direction(self, name: str) -> None:
        """The value of a trial would be that of its worst epoch where the weights are chosen the other way round."""
        mode = self._weights.mode if self._weights is not None and self._weights.monitor == name else None
        if mode and self.direction and not self.direction.startswith(mode):
            hint = f"Give ModelWeights mode: {self.direction[:3]}, or the study the other --direction."
            problem = f"of the study is {self.direction}, and ModelWeights keeps the weights with the {mode} of {name}"
            raise ConfigError([Finding("direction", problem, hint)])

    def _keep(self, value: float | None, name: str, epoch: int | None) -> None:
        """Keeps the table of the validation before, and says which weights it is of."""
        weights = self._weights.path if self._weights is not None else None
        said = {"metric": name, "value": value, "epoch": epoch}
        with written_beside(self.folder / "best.json") as temporary:
            temporary.write_text(
                json.dumps({**said, "weights": os.path.relpath(weights, self.folder) if weights else ""}) + "\n"
            )
        table = self.path if self.path is not None and self.path.is_file() else None
        if self._nameless or (table is not None and _has_case_twice(table)):
            logger.info(
                "cases have no names of their own (no file, no identifier, or one for several): the study has no table of them"
            )
        elif table is not None:
            table.replace(self.folder / "cases.csv")

    on_test_start = on_validation_start
    on_test_batch_end = on_validation_batch_end
    on_test_end = CaseMetrics.on_validation_end


def _has_case_twice(path: Path) -> bool:
    """Whether a table of cases has two values of one name, as of several patches of an image."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = [(row["case"], row.get("loader"), row["metric"], row["class"]) for row in csv.DictReader(file)]
    return len({*rows}) < len(rows)
