"""How far a run is: one bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer, callbacks
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, RichProgressBar, TQDMProgressBar
from tqdm import tqdm

from monai_lighter.callbacks.score_table import WIDTH
from monai_lighter.callbacks.terminal_line import TerminalLine
from monai_lighter.system.profiler import PassThroughProfiler
from monai_lighter.system.tensors import as_list
from monai_lighter.system.weights import ModelWeights

__all__ = ["ProgressBar"]

BEST = ((ModelWeights, "best"), (Checkpoint, "best_model_score"), (EarlyStopping, "best_score"))
"""Callbacks that know the key metric of a fit, as their ``monitor``, and the attribute for its best value; the first counts."""
ENDLESS = 2**30
"""Epochs that are no number to divide by: an engine that goes on until it is stopped has 2**31."""
NAMES = {"fit": "training", "validate": "validation", "test": "test", "predict": "prediction"}
MODES = {"fit": "train", "validate": "val", "test": "test", "predict": "predict"}
"""A stage of the Trainer to the mode of its batches."""


class ProgressBar(callbacks.ProgressBar):
    """One bar for the whole run, with what one wants to know of it, as wide as the terminal::

        epoch 12/100  11%|██        | 03:12 left, loss 0.431, dice 0.831 (best 0.842), data 3%

    Of a fit: the epoch, of ``max_epochs``; the time left at the pace so far; the loss of the last step; the key metric (of
    `ModelWeights`, else the ``monitor`` of a ``ModelCheckpoint`` or ``EarlyStopping``, else the first of validation) and its best
    value; the share of the time of this epoch's steps that was spent waiting for data; and, as far as there is room, all else
    that was logged with ``prog_bar=True``. It is drawn when a batch has ended and ``interval`` has passed, not in every step.

    Where standard error is no terminal nothing is redrawn: a fit writes a line for each epoch (with the share of waiting where 80
    columns have room for it), another stage a line when it ends and one a minute before. Of several processes the first one
    writes.

    `Workflow` puts it in the place of Lightning's default. Another progress bar in ``trainer::callbacks`` takes its place, and
    ``enable_progress_bar: false`` leaves it out.

    Args:
        interval: seconds between two drawings on a terminal.
        report_every: seconds between two lines of a validation, test or prediction where there is no terminal.

    Raises:
        ValueError: seconds that are not positive.
    """

    def __init__(self, interval: float = 0.1, report_every: float = 60.0) -> None:
        if interval <= 0 or report_every <= 0:
            raise ValueError(f"interval, report_every must be positive, in seconds, got {interval}, {report_every}.")
        super().__init__()
        self.interval, self.report_every = interval, report_every
        self.is_enabled = True
        self._line: TerminalLine | None = None
        self._stage, self._within = "fit", ""
        self._epoch, self._done, self._total = 0, 0, 0.0
        self._began, self._first, self._due = 0.0, 0.0, 0.0
        self._epoch_began, self._waited, self._paused, self._validation_began = 0.0, 0.0, 0.0, 0.0

    @classmethod
    def into(cls, trainer: Trainer, given: Any = None) -> None:
        """Puts one in the place of the progress bar that Lightning has made for a Trainer; one that was ``given`` stays.

        Args:
            trainer: just made.
            given: the callbacks, one or several, that it was made with.
        """
        default = trainer.progress_bar_callback
        if type(default) in (TQDMProgressBar, RichProgressBar) and not any(one is default for one in as_list(given)):
            own: list[Callback] = [cls() if one is default else one for one in trainer.callbacks]  # type: ignore[attr-defined]
            trainer.callbacks = own  # type: ignore[attr-defined]

    def enable(self) -> None:
        self.is_enabled = True

    def disable(self) -> None:
        self.is_enabled = False
        self._close()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """``print``, above the bar."""
        if self._line is not None:
            self._line.clear()
        print(*args, **kwargs)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._stage, self._within = stage, ""
        on_terminal = self.is_enabled and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._line = TerminalLine() if on_terminal else None

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    # A fit

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(math.inf, trainer.current_epoch)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell_epoch()  # what is logged of an epoch of training is there after the hooks of its end
        self._epoch, self._done = trainer.current_epoch, 0
        self._epoch_began, self._waited, self._paused = time.perf_counter(), self._count_waited(), 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._done = batch_idx + 1
        self._draw_if_due()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell_epoch()
        if self._line is not None:
            self._draw(self._line)

    # The other stages, and the validations of a fit

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation_began = time.perf_counter()
        if self._stage != "fit":
            self._begin(sum(as_list(trainer.num_val_batches)))

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        batches = as_list(trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches)
        if self._stage != "fit":
            self._count(batches, *args[2:])
            return
        doing = "sanity check" if trainer.sanity_checking else "val"
        self._within = f", {doing} {_count_batches(batches, *args[2:])}{_of(sum(batches))}"
        self._draw_if_due()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._within = ""
        self._paused += time.perf_counter() - self._validation_began
        if self._stage != "fit":
            self._end()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(sum(as_list(trainer.num_test_batches)))

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self._count(as_list(trainer.num_test_batches), *args[2:])

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(sum(trainer.num_predict_batches))

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self._count(trainer.num_predict_batches, *args[2:])

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end()

    # How far, how long

    def _begin(self, total: float, epoch: int = 0) -> None:
        """A stage begins, of so many batches; a fit, in this epoch."""
        self._epoch = epoch
        self._began = self._epoch_began = time.perf_counter()
        self._done, self._total, self._waited, self._paused = 0, total, self._count_waited(), 0.0
        self._first = self._find_fraction() or 0.0
        self._due = self._began + (self.interval if self._line is not None else self.report_every)

    def _count(self, batches: list, batch_idx: int, dataloader_idx: int = 0) -> None:
        """A batch of a stage that is no fit has ended."""
        self._done = _count_batches(batches, batch_idx, dataloader_idx)
        if time.perf_counter() < self._due:
            return
        if self._line is not None:
            self._draw(self._line)
        else:
            self._due = time.perf_counter() + self.report_every
            left = self._tell_time_left()
            self._write(f"{self._done}{_of(self._total)} batches in {self._tell_elapsed()}{left and f', {left}'}")

    def _end(self) -> None:
        """A stage that is no fit has ended."""
        if self._line is not None:
            self._draw(self._line)
        else:
            done = f"{self._done} {'batch' if self._done == 1 else 'batches'}"
            self._write(", ".join([f"{done} in {self._tell_elapsed()}", *self._tell_waiting()]))

    def _find_fraction(self) -> float | None:
        """How much of the stage is done, from 0 to 1; None where nobody knows."""
        if self._stage != "fit":
            return self._done / self._total if 0 < self._total < math.inf else None
        trainer, batches = self.trainer, self.trainer.num_training_batches
        limits = []
        if 0 < (trainer.max_epochs or 0) < ENDLESS and 0 < batches < math.inf:
            limits.append((self._epoch + self._done / batches) / trainer.max_epochs)  # type: ignore[operator]
        if trainer.max_steps > 0:
            limits.append(trainer.global_step / trainer.max_steps)
        return min(max(limits), 1.0) if limits else None

    def _tell_time_left(self) -> str:
        fraction = self._find_fraction()
        if fraction is None or not self._first < fraction < 1:
            return ""
        seconds = (time.perf_counter() - self._began) * (1 - fraction) / (fraction - self._first)
        return f"{tqdm.format_interval(seconds)} left"

    def _tell_elapsed(self) -> str:
        return tqdm.format_interval(time.perf_counter() - self._began)

    def _count_waited(self) -> float:
        """Seconds that the stage has waited for its batches, as Lightning tells its profiler."""
        profiler = self.trainer.profiler  # type: ignore[attr-defined]
        return profiler.count_waited(MODES[self._stage]) if isinstance(profiler, PassThroughProfiler) else math.nan

    def _tell_waiting(self) -> list[str]:
        """Share of the time of the epoch's steps that was spent waiting for data; none where it is not known."""
        taken = time.perf_counter() - self._epoch_began - (self._paused if self._stage == "fit" else 0.0)
        share = (self._count_waited() - self._waited) / taken
        return [] if math.isnan(share) else [f"data {share:.0%}"]

    # What is said

    def _draw_if_due(self) -> None:
        if self._line is not None and time.perf_counter() >= self._due:
            self._draw(self._line)

    def _draw(self, line: TerminalLine) -> None:
        trainer, fraction = self.trainer, self._find_fraction()
        name = f"epoch {self._epoch + 1}{_of(trainer.max_epochs)}" if self._stage == "fit" else NAMES[self._stage]
        if fraction is None:
            name = f"{name}, batch {self._done}"
        line.draw(f"{name}{self._within}", fraction, list(self._list_texts()))
        self._due = time.perf_counter() + self.interval

    def _list_texts(self) -> Iterator[tuple[int, str]]:
        """What the bar would say, the most important first, each with its place: of one place only the first that fits."""
        numbers = _list_numbers(self.trainer, by_step=True)
        key, best = _find_key_metric(self.trainer)
        loss = next((name for name in numbers if "loss" in name and name != key), None)
        metrics = self.trainer.callback_metrics
        if key in metrics:
            text = f"{_shorten(key)} {float(metrics[key]):.3g}"
            yield from [(2, f"{text} (best {best:.3g})")] if best is not None else []
            yield 2, text
        left = self._tell_time_left()
        yield from [(0, left)] if left else []
        yield from [(1, f"{_shorten(loss)} {numbers[loss]:.3g}")] if loss else []
        yield from ((3, text) for text in self._tell_waiting())
        others = [name for name in numbers if name not in (key, loss)]
        yield from ((4 + i, f"{_shorten(name)} {numbers[name]:.3g}") for i, name in enumerate(others))

    def _tell_epoch(self) -> None:
        """A line for the epoch that has ended, where there is no terminal."""
        if self._line is not None or not self._done:
            return
        numbers = _list_numbers(self.trainer, by_step=False)
        key, best = _find_key_metric(self.trainer)
        if key in self.trainer.callback_metrics:
            numbers[key] = float(self.trainer.callback_metrics[key])
        texts = []
        for name, value in numbers.items():
            known = f" ({'best' if value == best else f'best {best:.4g}'})" if name == key and best is not None else ""
            texts.append(f"{_shorten(name)} {value:.4g}{known}")
        texts += [f"{time.perf_counter() - self._epoch_began:.1f} s"]
        texts += [left] if (left := self._tell_time_left()) else []
        name, waiting = f"epoch {self._epoch + 1}{_of(self.trainer.max_epochs)}", self._tell_waiting()
        length = len(", ".join([*texts, *waiting])) + len(name) + 2
        self._write(", ".join([*texts, *(waiting if length <= WIDTH else ())]), name)

    def _write(self, text: str, name: str = "") -> None:
        if self.is_enabled:
            print(f"{name or NAMES[self._stage]}: {text}", file=sys.stderr, flush=True)


def _count_batches(batches: list, batch_idx: int, dataloader_idx: int = 0) -> int:
    """Batches of all loaders that have been done, where each loader has so many ``batches``."""
    return int(sum(batches[:dataloader_idx])) + batch_idx + 1


def _of(total: float | None) -> str:
    """``/20``, where there is an end."""
    return f"/{total:.0f}" if total is not None and 0 < total < ENDLESS else ""


def _find_key_metric(trainer: Trainer) -> tuple[str, float | None]:
    """Logged name of the key metric, which may be empty, and its best value, where somebody knows it."""
    of_engine = getattr(trainer.lightning_module, "find_key_metric", None)
    if of_engine is not None and of_engine():
        return of_engine()
    for kind, attribute in BEST:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            monitor = getattr(callback, "monitor", None) if isinstance(callback, kind) else None
            if monitor:
                best = getattr(callback, attribute, None)
                return monitor, float(best) if best is not None and math.isfinite(best) else None
    names = [name for name in trainer.progress_bar_metrics if name.startswith("val/")]
    return next((name for name in names if name.startswith("val/metrics/")), names[0] if names else ""), None


def _list_numbers(trainer: Trainer, by_step: bool) -> dict[str, float]:
    """What was logged for progress bars, by name; of what is logged by step and by epoch, the one that is asked for."""
    shown, logged = dict(trainer.progress_bar_metrics), trainer.callback_metrics
    unwanted, wanted = ("/epoch", "/step") if by_step else ("/step", "/epoch")
    numbers: dict[str, float] = {}
    for name, value in sorted(shown.items(), key=lambda item: not item[0].startswith("train/")):
        twin = name.removesuffix(unwanted) + wanted
        if not name.endswith(unwanted) or twin not in logged:
            numbers[name] = value
        elif twin not in shown:
            numbers[twin] = float(logged[twin])
    return numbers


def _shorten(name: str) -> str:
    """A logged name as it is shown: ``loss`` for ``train/loss/step``, ``dice`` for ``val/metrics/dice/epoch``."""
    mode, _, rest = name.partition("/")
    if mode not in ("train", "val", "test") or not rest:
        return name
    words = [word for word in rest.split("/") if word not in ("metrics", "step", "epoch")]
    usual = mode == ("train" if "loss" in words else "val")
    return " ".join(words if usual else [mode, *words])
