"""What a report says of a run and no other file has: what it ran on, what it warned of, the worst and the median cases."""

from __future__ import annotations

import getpass
import json
import logging
import math
import os
import platform
import random
import re
import socket
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from monai.data import MetaTensor
from torch import Tensor

from monai_lighter import __version__
from monai_lighter.callbacks.case_metrics import CaseMetrics
from monai_lighter.callbacks.case_slices import CaseSlice, CaseVolume, Grid, cut_slice, cut_volume, write_slices
from monai_lighter.callbacks.case_values import CaseNames, list_case_values
from monai_lighter.callbacks.timing import Timing
from monai_lighter.errors import in_short
from monai_lighter.safe_files import copy_safely, written_beside
from monai_lighter.system.batches import split_cases
from monai_lighter.system.checkpoints import place_before_checkpoints
from monai_lighter.system.logging import Recorded, find_log_folder
from monai_lighter.system.metrics import lower_is_better
from monai_lighter.system.processes import gather
from monai_lighter.system.spacing import Compared
from monai_lighter.system.step_outputs import when_ready
from monai_lighter.system.weights import ModelWeights
from monai_lighter.trust.digest import hash_file

__all__ = ["RUN", "SLICES", "RunReport", "choose_cases", "hide_user"]

logger = logging.getLogger(__name__)

RUN, SLICES = "report_run.json", "report_slices.npz"
MODES = {"fit": "val", "test": "test"}
"""Stages that have a report, to the mode whose cases are shown in it."""
PACKAGES = ("torch", "monai", "lightning", "torchmetrics", "numpy")
WORST = 3
MOST_KEPT = 48
"""Slices that are kept while an evaluation lasts, each of up to 4 MB: of the worst cases, and of others drawn at random."""
MOST_WARNINGS = 50


class RunReport(Callback):
    """Writes ``report.html`` and ``report.json`` when a fit or a test ends, beside its logs, or, of a test, its `CaseMetrics`.

    What they are made of is kept there too, so that ``monai-lighter report`` can make them again: ``report_run.json`` (the
    config, what the run ran on, its warnings) and ``report_slices.npz`` (of the worst and the median cases by the first metric
    one slice, of the worst one a volume of few voxels), of a fit those of the validation that the best weights are of, else of
    the last one. A run with neither logs nor such a table has no report. It never ends a run: what goes wrong in it is one
    warning. In a fit it does nothing outside its validations.

    `Workflow` adds it to every fit and test of a native config, unless that says ``report: false``, where the extra ``report``
    is installed.

    Attributes:
        path: of the report, once it is written; ``seconds``: that it took.
        digest: of the bundle, as `begin_digest` gives it.

    Args:
        config: of the run, of plain values.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.path: Path | None = None
        self.seconds = 0.0
        self.digest: Future[str] | None = None
        self._folder: Path | None = None
        self._warnings = _Warnings()
        self._names: CaseNames | None = None
        self._kept = _KeptCases()
        self._problem = self._mode = ""
        self._best: float | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.path, self.seconds, self._problem, self._names = None, 0.0, "", None
        self._mode = MODES.get(stage, "")
        self._folder = _find_folder(trainer, stage) if self._mode else None  # here, where all processes take part
        self._warnings.listen()
        place_before_checkpoints(self, trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Of a fit that goes on the slices come along; `read_record` leaves out those of another epoch than the best."""
        weights = _find_weights(trainer)
        self._best = weights.best if weights is not None else None
        if self._folder is None or not trainer.is_global_zero:
            return
        try:
            kept, before = self._folder / SLICES, weights.earlier_folder if weights is not None else None
            if trainer.ckpt_path is None:
                kept.unlink(missing_ok=True)
            elif before is not None and before.resolve() != self._folder.resolve() and (before / SLICES).is_file():
                copy_safely(before / SLICES, kept)
        except OSError as error:
            self._problem = in_short(error)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self._folder is not None and isinstance(pl_module, Recorded) and not trainer.sanity_checking:
            self._names, self._kept = CaseNames(trainer, 1), _KeptCases()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self._names is not None and dataloader_idx == 0 and isinstance(outputs, Mapping) and "metrics" in outputs:
            when_ready(outputs, partial(self._keep, self._names, pl_module))

    def _keep(self, names: CaseNames, pl_module: Any, outputs: Any) -> None:
        try:
            metrics, _ = pl_module.records[self._mode].select_loader(0)
            cases = names.name_batch(outputs, 0)
            found = next(list_case_values(metrics, outputs["metrics"]), None)
            if found is None or len(found[2]) != len(cases) or outputs["target"] is None:
                return
            metric, _, values = found
            self._kept.lower = lower_is_better(metrics[metric])
            parts = [split_cases(outputs[name], outputs["input"]) for name in ("input", "target", "pred")]
            images = Compared(*(outputs[name] for name in ("input", "target", "pred"))).images
            rows = zip(cases, values.detach().double().cpu().nanmean(1).tolist(), images, *parts, strict=True)
            for case, value, *shown in rows:
                self._kept.add(str(case), metric, value, getattr(pl_module, "labels", None) or {}, *shown)
        except Exception as error:  # of whichever kind: a picture may not end a run
            self._problem = self._problem or in_short(error)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._names is None or self._folder is None:
            return
        epoch, self._names = trainer.current_epoch if self._mode == "val" else None, None
        is_best = epoch is None or self._is_best(trainer, epoch)
        try:
            self._kept.join()
            if is_best and trainer.is_global_zero:
                slices = [each._replace(epoch=epoch) for each in self._kept.slices]
                write_slices(self._folder / SLICES, slices, self._kept.volume)
        except (
            Exception
        ) as error:  # of whichever kind: the numbers are there, and what has been computed must not be lost
            self._problem = self._problem or in_short(error)
        self._problem, self._kept = self._problem or self._kept.problem, _KeptCases()

    def _is_best(self, trainer: Trainer, epoch: int) -> bool:
        """Whether the weights of a validation are kept as the best, or none are, as far as `ModelWeights` knows."""
        weights = _find_weights(trainer)
        if weights is None or weights.best is None:
            return True
        before, self._best = self._best, weights.best
        return weights.best != before and weights.best_epoch == epoch

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.on_validation_start(trainer, pl_module)
        if self._folder is not None and trainer.is_global_zero:
            with suppress(OSError):  # which the run is told of when it writes
                (self._folder / SLICES).unlink(missing_ok=True)  # those of another test

    on_test_batch_end = on_validation_batch_end
    on_test_end = on_validation_end

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._warnings.leave()
        if self._folder is None or not trainer.is_global_zero:
            return
        began = time.monotonic()
        try:
            self._write(trainer, pl_module, stage, self._folder)
        except Exception as error:  # the run is through, and its files are safe
            logger.warning(f"no report was written: {in_short(error)}")
        self.seconds = time.monotonic() - began

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._warnings.leave()

    def _write(self, trainer: Trainer, pl_module: LightningModule, stage: str, folder: Path) -> None:
        from monai_lighter.report.writing import write_report  # noqa: PLC0415  # a wing, which is there for this alone

        for each in trainer.loggers:
            each.save()
        said = _describe_run(trainer, pl_module, stage, self.digest)
        timing = next((each.report for each in trainer.callbacks if isinstance(each, Timing)), {})  # type: ignore[attr-defined]
        said |= {"warnings": self._warnings.texts, "slices": self._problem}
        own = [each.written for each in trainer.callbacks if isinstance(each, CaseMetrics)]  # type: ignore[attr-defined]
        here = [path for path in own if path is not None and path.resolve().parent == folder.resolve()]
        tables = {path.name: hash_file(path) for path in here}
        said |= {"timing": timing, "tables": tables, "config": self.config}
        with written_beside(folder / RUN) as temporary:
            temporary.write_text(json.dumps(said, indent=1, default=str) + "\n", encoding="utf-8")
        self.path = write_report(folder)


class _KeptCases:
    """Slices of the cases of an evaluation, of which the worst and the median are chosen when it ends.

    Its random numbers are its own, so that those of the run are as they are without it.
    """

    def __init__(self) -> None:
        self.lower, self.problem = False, ""
        self.slices: list[CaseSlice] = []
        self.volume: CaseVolume | None = None
        self._volume_value = math.nan
        self._values: dict[str, float] = {}
        self._chances: dict[str, float] = {}
        self._random = random.Random(0)

    def add(
        self,
        case: str,
        metric: str,
        value: float,
        labels: Mapping[int, str],
        image: MetaTensor | None,
        input: Any,
        target: Any,
        pred: Any,
    ) -> None:
        """Cuts a slice out of a case."""
        if math.isnan(value):
            return
        self._values[case] = value
        self._chances[case] = self._random.random()
        if not self._is_wanted(case, value):
            return
        grid = Grid.of_case(target, pred, image)
        if grid is None:
            self.problem = "label and prediction are no label maps of one size (postprocessing can make them so)"
            return
        input = _find_first(input)
        self.slices.append(cut_slice(grid, input, labels, case, metric, value))
        is_worse = value > self._volume_value if self.lower else value < self._volume_value
        if is_worse or math.isnan(self._volume_value):
            self.volume, self._volume_value = cut_volume(grid, input, case), value
        if len(self.slices) > MOST_KEPT:
            least = self._find_least()
            self.slices = [each for each in self.slices if each is not least]

    def _find_least(self) -> CaseSlice:
        """Of those that are none of the worst, the one with the least chance: so every such case is as likely to be there."""
        self.slices.sort(key=lambda each: each.value, reverse=self.lower)
        return min(self.slices[WORST:], key=lambda each: self._chances[each.case])

    def _is_wanted(self, case: str, value: float) -> bool:
        """Whether a case's slice would be kept, so that no other is cut."""
        if len(self.slices) < MOST_KEPT:
            return True
        least = self._find_least()  # which sorts them
        limit = self.slices[WORST - 1].value
        return self._chances[case] > self._chances[least.case] or (value > limit if self.lower else value < limit)

    def join(self) -> None:
        """Leaves, in the first process, those that `choose_cases` chooses of all; every process calls it.

        Between the two times that they exchange something, all processes do the same with the same: either all fail, or none,
        and nobody waits for one that has.
        """
        parts = gather((self._values, self.lower, {each.case for each in self.slices}, self.problem))
        values = {case: value for part in parts for case, value in part[0].items()}
        there = {case for part in parts for case in part[2]}
        lower = any(part[1] for part in parts)
        self.problem = next((part[3] for part in parts if part[3]), "")
        roles = choose_cases(values, lower, there)
        volume = self.volume if self.volume is not None and self.volume.case in roles else None
        chosen = gather(([each for each in self.slices if each.case in roles], volume))
        found = {each.case: each for slices, _ in chosen for each in slices}
        self.slices = [found[case]._replace(role=role) for case, role in roles.items() if case in found]
        volumes = {each.case: each for _, each in chosen if each is not None}
        self.volume = next((volumes[case] for case in roles if case in volumes), None)


def choose_cases(values: Mapping[str, float], lower: bool, there: set[str] | None = None) -> dict[str, str]:
    """The worst cases, the worst first, and the median one, which is none of them: name to role.

    Args:
        values: of the cases, none of them NaN.
        lower: whether the lower value is the better one.
        there: cases that can be chosen; default: all. In place of a median that is not among them the next better one is.
    """
    ordered = sorted(values, key=lambda case: values[case], reverse=lower)
    count = min(WORST, max(1, len(ordered) // 2))
    chosen = {case: "worst" for case in ordered[:count] if there is None or case in there}
    for case in ordered[max(count, len(ordered) // 2) :]:
        if there is None or case in there:
            return {**chosen, case: "median"}
    return chosen


def _find_first(value: Any) -> Any:
    """The first image of a case with several inputs."""
    if isinstance(value, Tensor):
        return value
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return next((found for part in parts if (found := _find_first(part)) is not None), None)


def _find_folder(trainer: Trainer, stage: str) -> Path | None:
    """Where the run writes what belongs to it alone: of a test the table of its cases, else the logs."""
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    tables = [each for each in trainer.callbacks if isinstance(each, CaseMetrics)]  # type: ignore[attr-defined]
    if stage == "test" and tables:
        path = tables[0].path
        return path.parent if path is not None else find_log_folder(trainer) or Path(trainer.default_root_dir)
    return find_log_folder(trainer)


def _find_weights(trainer: Trainer) -> ModelWeights | None:
    return next((each for each in trainer.callbacks if isinstance(each, ModelWeights)), None)  # type: ignore[attr-defined]


def _describe_run(
    trainer: Trainer, pl_module: LightningModule, stage: str, digest: Future[str] | None
) -> dict[str, Any]:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine() or device.type
    best = _find_weights(trainer)
    known = {"monitor": best.monitor, "value": best.best, "epoch": best.best_epoch, "mode": best.mode} if best else {}
    return {
        "stage": stage,
        "ended": time.strftime("%Y-%m-%d %H:%M"),
        "versions": {
            "monai_lighter": __version__,
            "python": platform.python_version(),
            **{each: version(each) for each in PACKAGES},
        },
        "hardware": {
            "accelerator": device.type,
            "device": name,
            "devices": trainer.num_devices,
            "nodes": trainer.num_nodes,
            "cores": os.cpu_count(),
            "precision": str(trainer.precision),
        },
        "parameters": sum(each.numel() for each in pl_module.parameters() if not torch.nn.parameter.is_lazy(each)),
        "digest": digest.result() if digest is not None and digest.exception() is None else None,
        "best": known if known.get("value") is not None else None,
        "epochs": trainer.current_epoch if stage == "fit" else None,
    }


def hide_user(text: str) -> str:
    """A text without the names of the user and of the machine of this process."""
    names = [socket.gethostname(), socket.gethostname().partition(".")[0]]
    with suppress(OSError, KeyError, ImportError):  # nobody has a name in some containers
        names.append(getpass.getuser())
    for name in names:
        if len(name) > 1:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", text)
    return text


class _Warnings(logging.Handler):
    """Keeps what is logged as a warning or worse, once."""

    sources = ("", "lightning.pytorch")
    """Loggers; Lightning's hands nothing on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def listen(self) -> None:
        self.texts = []
        for name in self.sources:
            logging.getLogger(name).addHandler(self)

    def leave(self) -> None:
        for name in self.sources:
            logging.getLogger(name).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        text = hide_user(record.getMessage())
        if text not in self.texts and len(self.texts) < MOST_WARNINGS:
            self.texts.append(text)
