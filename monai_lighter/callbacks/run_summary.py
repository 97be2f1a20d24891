"""What a run came to, printed when it ends."""

from __future__ import annotations

import shlex
import signal
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from monai_lighter.callbacks.case_values import CaseValues, Scores
from monai_lighter.callbacks.predictions import Predictions
from monai_lighter.callbacks.run_report import RunReport
from monai_lighter.callbacks.score_table import WIDTH, format_number, format_scores
from monai_lighter.callbacks.timing import Timing
from monai_lighter.system.batches import count_cases
from monai_lighter.system.checkpoints import LAST
from monai_lighter.system.logging import Recorded, find_log_folder
from monai_lighter.system.outputs import Outputs
from monai_lighter.system.processes import gather
from monai_lighter.system.signals import RunStopped
from monai_lighter.system.step_outputs import when_ready
from monai_lighter.system.weights import ModelWeights

__all__ = ["RunSummary", "align", "format_duration", "show_path"]

VERBS = {"fit": "fitted", "validate": "validated", "test": "tested", "predict": "predicted"}
MODES = {"validate": "val", "test": "test"}
CHECKPOINT = "--args::fit::ckpt_path"
RESUME = "--resume"
LABEL = 14
"""Width of the names before paths."""


class RunSummary(Callback):
    """Prints, when a run ends, what it came to: plain text of at most 80 columns, but for paths and commands that are longer.

    Of a fit: why it ended, the key metric at its best and its epoch (from 1), where weights, newest checkpoint and logs are, and
    the commands that come next; of one that was interrupted or failed, how it goes on. Of validation and test: a table by metric
    and class (mean, standard deviation, number of cases) and the worst cases. Of prediction: how many files, and where.

    It is for standard output, of the first process alone. `Workflow` adds it to every run of a native config; values by case are
    kept while an evaluation lasts, four bytes each, and not in the validations of a fit.

    Args:
        commands: stage (``fit``, ``test``, ``predict``) to the words of the command that runs it, for what comes next.
    """

    def __init__(self, commands: Mapping[str, Sequence[str]] | None = None) -> None:
        self.commands = dict(commands or {})
        self._started = self._began = 0.0
        self._cases: CaseValues | None = None
        self._scores: list[Scores] = []
        self._count = self._skipped = 0
        self._files: list[Path] = []
        self._logs: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        trainer.callbacks = [each for each in callbacks if each is not self] + [self]  # type: ignore[attr-defined]
        self._logs = find_log_folder(trainer)  # here: all processes take part, which may be gone at the end
        self._started, self._began = time.monotonic(), time.time()
        self._cases, self._scores, self._count, self._files = None, [], 0, []
        self._skipped = 0

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        mode = MODES.get(str(trainer.state.fn.value)) if trainer.state.fn is not None else None
        if mode is not None and isinstance(pl_module, Recorded):
            self._cases = CaseValues(trainer, pl_module.name_loaders(mode))

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self._cases is not None and isinstance(outputs, Mapping) and "metrics" in outputs:
            metrics, _ = pl_module.records[pl_module.mode].select_loader(dataloader_idx)
            add = partial(self._cases.add, metrics, dataloader_idx=dataloader_idx)
            when_ready(outputs, add)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._cases is not None:
            self._scores, self._count = self._cases.gather(), self._cases.count
            self._cases = None

    on_test_start = on_validation_start
    on_test_batch_end = on_validation_batch_end
    on_test_end = on_validation_end

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        if outputs is not None:  # else no case of the batch could be read
            when_ready(outputs, partial(self._count_cases, batch))

    def _count_cases(self, batch: Any, outputs: Any) -> None:
        source = outputs.get("input") if isinstance(outputs, Mapping) else None
        self._count += count_cases(batch if source is None else source)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._count = sum(gather(self._count))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._print(trainer, None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._started and trainer.state.fn == TrainerFn.FITTING:
            self._print(trainer, exception)

    def _print(self, trainer: Trainer, error: BaseException | None) -> None:
        stage = "" if trainer.state.fn is None else str(trainer.state.fn.value)
        if error is None and stage != "fit" and not trainer.sanity_checking:
            self._files = sorted({file for files in gather(_list_written(trainer)) for file in files})
            self._skipped = sum(each.skipped for each in _find_outputs(trainer))
        if stage not in VERBS or not trainer.is_global_zero:
            return
        lines = [*(self._describe_fit(trainer, error) if stage == "fit" else self._describe_pass(trainer, stage))]
        print("\n".join(["", *lines]), flush=True)

    def _describe_pass(self, trainer: Trainer, stage: str) -> Iterator[str]:
        """What an evaluation or a prediction came to."""
        cases = f" {self._count} {'case' if self._count == 1 else 'cases'}" if self._count else ""
        yield f"{VERBS[stage]}{cases} in {format_duration(self._measure(trainer))}"
        yield from _describe_timing(trainer)
        if stage in MODES:
            logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
            yield from format_scores(self._scores, logged, MODES[stage])
        if self._skipped:
            yield align(
                "skipped", f"{self._skipped} {'case' if self._skipped == 1 else 'cases'}, whole from an earlier run"
            )
        kept = self._skipped or any(isinstance(each, Predictions) for each in trainer.callbacks)  # type: ignore[attr-defined]
        yield from _describe_files(self._files, none=stage == "predict" and not kept)
        yield from _describe_report(trainer)

    def _measure(self, trainer: Trainer) -> float:
        """Seconds of the run, without those that its report took."""
        reports = [each.seconds for each in trainer.callbacks if isinstance(each, RunReport)]  # type: ignore[attr-defined]
        return time.monotonic() - self._started - sum(reports)

    def _describe_fit(self, trainer: Trainer, error: BaseException | None) -> Iterator[str]:
        done = trainer.current_epoch
        epochs = f"{done} {'epoch' if done == 1 else 'epochs'} ({trainer.global_step} steps)"
        yield f"{VERBS['fit']} {epochs} in {format_duration(self._measure(trainer))}"
        yield from _wrap("ended by", _describe_end(trainer, error))
        yield from _describe_timing(trainer)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            yield align("weights", "none: nothing is written with fast_dev_run")
            return
        yield from self._describe_weights(trainer)
        checkpoint = _find_newest_checkpoint(trainer)
        if checkpoint is not None:
            yield align("checkpoint", show_path(checkpoint))
        if self._logs:
            yield align("logs", show_path(self._logs))
        yield from _describe_report(trainer)
        yield from self._describe_next(checkpoint, error)

    def _describe_weights(self, trainer: Trainer) -> Iterator[str]:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ModelWeights):
                if callback.best is not None and callback.best_epoch is not None:
                    better = "lower" if callback.mode == "min" else "higher"
                    at = f"{format_number(callback.best)} in epoch {callback.best_epoch + 1} ({better} is better)"
                    yield align("best", f"{callback.monitor} = {at}")
                for label, path in (("best weights", callback.path), ("last weights", callback.last_path)):
                    if path is not None and path.is_file() and path.stat().st_mtime >= self._began - 2:
                        yield align(label if callback.best is not None else "weights", show_path(path))
            elif isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_score is not None:
                score = format_number(float(callback.best_model_score))
                yield align("best", f"{callback.monitor} = {score}")
                yield align("", show_path(Path(callback.best_model_path)))

    def _describe_next(self, checkpoint: Path | None, error: BaseException | None) -> Iterator[str]:
        if error is not None:
            command = self.commands.get("fit")
            if command and checkpoint is not None:
                yield "go on with:"
                yield from _fold([*_drop_option(_drop_option(command, CHECKPOINT), RESUME), RESUME, "auto"])
            elif command:
                yield "no checkpoint has been written yet; begin again with:"
                yield from _fold(command)
            return
        following = [self.commands[stage] for stage in ("test", "predict") if stage in self.commands]
        if following:
            yield "next:"
            for command in following:
                yield from _fold(command)


def _describe_end(trainer: Trainer, error: BaseException | None) -> str:
    """Why a fit has ended.

    Args:
        trainer: whose fit is over.
        error: that ended it; None where none did.
    """
    if isinstance(error, KeyboardInterrupt):
        return "Ctrl-C"
    if isinstance(error, RunStopped):
        return "Ctrl-C" if error.signal == signal.SIGINT else f"signal {error.signal.name}"
    if isinstance(error, SIGTERMException):
        return "signal SIGTERM"
    if error is not None:
        return f"{type(error).__name__}, told below"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping) and callback.stopping_reason_message:
            return f"early stopping: {callback.stopping_reason_message}"
        left = callback.time_remaining() if isinstance(callback, Timer) else None
        if left is not None and left <= 0:
            return "max_time"
    if 0 <= trainer.max_steps <= trainer.global_step:
        return f"max_steps = {trainer.max_steps}"
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch:
        return f"max_epochs = {trainer.max_epochs}"
    return "a callback (trainer.should_stop)" if trainer.should_stop else "the end of its data"


def _describe_timing(trainer: Trainer) -> Iterator[str]:
    """Where the time went, the peak of memory, and what to change where one part holds the others back."""
    for timing in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(timing, Timing):
            for label, text in zip(("time", "memory", "faster"), timing.list_texts(), strict=False):
                yield from _wrap(label, text)


def _describe_report(trainer: Trainer) -> Iterator[str]:
    for each in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(each, RunReport) and each.path is not None:
            yield align("report", show_path(each.path))


def _find_newest_checkpoint(trainer: Trainer) -> Path | None:
    """The checkpoint of this Trainer that was written last and is there."""
    paths = []
    for callback in trainer.checkpoint_callbacks:
        paths += [getattr(callback, name, "") for name in ("last_model_path", "best_model_path")]
        folder = getattr(callback, "dirpath", None)
        paths += [str(Path(folder) / LAST)] if folder else []
    found = [Path(path) for path in paths if path and Path(path).is_file()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def format_duration(seconds: float) -> str:
    """``4 s``, ``2 min 5 s``, ``1 h 12 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _find_outputs(trainer: Trainer) -> list[Outputs]:
    return [each for each in trainer.callbacks if isinstance(each, Outputs)]  # type: ignore[attr-defined]


def _list_written(trainer: Trainer) -> list[Path]:
    """Files of cases and tables that this process has written."""
    return [
        path.absolute() for each in _find_outputs(trainer) for path in (*each.written, *each.tables) if path.is_file()
    ]


def _describe_files(files: list[Path], none: bool) -> Iterator[str]:
    """How many files lie in which folder."""
    folders = Counter(path.parent for path in files)
    if not folders and none:
        yield "no files: the config names no writer (FileWriter, TableWriter, SaveImaged), or one of its own"
    for folder, count in list(folders.items())[: WIDTH // 16]:
        first = next(path for path in files if path.parent == folder)
        yield align("1 file" if count == 1 else f"{count} files", show_path(first if count == 1 else folder))
    if len(folders) > WIDTH // 16:
        yield f"and {len(files) - sum([*folders.values()][: WIDTH // 16])} files in {len(folders) - WIDTH // 16} other folders"


def show_path(path: Path) -> str:
    """A path as short as it can be used where the command was run."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


def align(label: str, text: str) -> str:
    """A line of a summary: what it is, and a path or a text."""
    return f"  {label:<{LABEL}}{text}"


def _drop_option(words: Sequence[str], option: str) -> list[str]:
    """A command without an option and its value."""
    place = list(words).index(option) if option in words else len(words)
    return [*words[:place], *words[place + 2 :]]


def _fold(words: Sequence[str]) -> Iterator[str]:
    """A command as a shell reads it, over as many lines as it needs."""
    line = " "
    for i, word in enumerate(map(shlex.quote, words)):
        if i and len(line) + len(word) > WIDTH - 3:
            yield f"{line} \\"
            line = "   "
        line = f"{line} {word}"
    yield line


def _wrap(label: str, text: str) -> list[str]:
    """A text over as many lines as it needs."""
    lines = textwrap.wrap(text, WIDTH - LABEL - 2)
    return [align(label if i == 0 else "", line) for i, line in enumerate(lines)]
