"""What the engines of a run came to, printed when it ends: as far as MONAI's engines and handlers know it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from lightning.pytorch.utilities import rank_zero_only
from monai.engines import Evaluator
from monai.handlers import CheckpointSaver
from torch import Tensor

from monai_lighter.callbacks.case_values import Scores
from monai_lighter.callbacks.run_summary import align, format_duration, show_path
from monai_lighter.callbacks.score_table import format_number, format_scores
from monai_lighter.engines.trainer import QUIET
from monai_lighter.internals import get_event_handlers, get_saved_count
from monai_lighter.system.signals import RunStopped

__all__ = ["noted", "print_summary"]


@dataclass
class _Ran:
    """A run of an engine.

    Attributes:
        within: the run of the trainer in a handler of which it was; None for one that the config began.
        start: iterations at its beginning.
        saved: files that each saver had saved then.
        began: when that was, in seconds since 1970.
    """

    engine: Any
    within: _Ran | None
    start: int
    saved: list[int]
    began: float
    seconds: float = 0.0
    error: BaseException | None = None


RUNS: ContextVar[list[_Ran] | None] = ContextVar("runs", default=None)
"""Runs of the workflow that is under way, in order; None where nobody is to be told."""


@contextmanager
def noted(engine: Engine) -> Iterator[None]:
    """Within it, an engine runs: what it does is told at the end of `print_summary`."""
    runs = RUNS.get()
    if runs is None:
        yield
        return
    outer = [run for run in runs if not run.seconds]
    saved = [get_saved_count(each.saver) for each in getattr(engine, "savers", ())]
    iteration = 0 if isinstance(engine, Evaluator) else engine.state.iteration
    run = _Ran(engine, outer[-1] if outer else None, iteration, saved, time.time())
    runs.append(run)
    start = time.monotonic()
    try:
        yield
    except BaseException as error:
        run.error = error
        raise
    finally:
        run.seconds = max(time.monotonic() - start, 1e-9)


@contextmanager
def print_summary(shown: bool = True, quiet: bool = False) -> Iterator[None]:
    """Within it, engines run; at its end, also by an error, what they came to is printed: at most 80 columns, but for paths.

    Args:
        shown: whether it is.
        quiet: whether Trainers have no progress bar.
    """
    token, before = RUNS.set([] if shown else None), QUIET.set(quiet)
    try:
        yield
    finally:
        runs = RUNS.get() or []
        RUNS.reset(token)
        QUIET.reset(before)
        _print(runs)


@rank_zero_only
def _print(runs: list[_Ran]) -> None:
    for run in runs:
        if run.within is None:
            inner = [each.engine for each in runs if each.within is run]
            print("\n".join(["", *_describe(run, [*dict.fromkeys(inner)])]), flush=True)


def _describe(run: _Ran, evaluators: list[Any]) -> Iterator[str]:
    engine, state = run.engine, run.engine.state
    name = getattr(engine, "config_id", None) or type(engine).__name__
    steps = state.iteration - run.start if not isinstance(engine, Evaluator) else (state.epoch_length or 0)
    epochs = "" if isinstance(engine, Evaluator) else f"{state.epoch} {'epoch' if state.epoch == 1 else 'epochs'}, "
    yield f"{name}: {epochs}{steps} iterations in {format_duration(run.seconds)}"
    if not isinstance(engine, Evaluator):
        yield align("ended by", _describe_end(run))
    if isinstance(engine, Evaluator) and run.error is None:
        yield from _describe_metrics(state)
    for each in dict.fromkeys((*evaluators, *(() if isinstance(engine, Evaluator) else (engine,)))):
        best, key = getattr(each.state, "best_metric", None), getattr(each.state, "key_metric_name", None)
        epoch = getattr(each.state, "best_metric_epoch", -1)
        if key is not None and epoch > 0 and isinstance(best, (int, float, Tensor)):
            yield align("best", f"{key} = {format_number(float(best))} in epoch {epoch}")
    yield from _describe_files(run, evaluators)


def _describe_end(run: _Ran) -> str:
    state = run.engine.state
    if isinstance(run.error, KeyboardInterrupt):
        return "Ctrl-C"
    if isinstance(run.error, RunStopped):
        return f"{run.error.signal.name}; --resume auto goes on from its last whole epoch"
    if run.error is not None:
        return f"{type(run.error).__name__}, told below"
    if state.max_epochs is not None and state.epoch >= state.max_epochs:
        return f"max_epochs = {state.max_epochs}"
    if state.max_iters is not None and state.iteration >= state.max_iters:
        return f"max_iters = {state.max_iters}"
    return "a handler (terminate)"


def _describe_metrics(state: Any) -> Iterator[str]:
    """The table of an evaluator: means as its metrics have them; by class where their handlers keep details."""
    logged = {
        f"val/metrics/{name}/epoch": float(value)
        for name, value in state.metrics.items()
        if isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.numel() == 1)
    }
    details = getattr(state, "metric_details", None) or {}
    scores = [
        Scores(str(name), "", [str(i) for i in range(value.shape[1])], False, "", [], [value.detach().float().cpu()])
        for name, value in details.items()
        if isinstance(value, Tensor) and value.ndim == 2
    ]
    yield from format_scores(scores, {name: value for name, value in logged.items() if not math.isnan(value)}, "val")


def _describe_files(run: _Ran, evaluators: list[Any]) -> Iterator[str]:
    """Checkpoints that its handlers have written since it began, and the folders of its savers."""
    folders = {Path(each.save_dir) for engine in (run.engine, *evaluators) for each in _find_checkpoint_savers(engine)}
    for folder in sorted(folders):
        files = sorted(folder.glob("*.pt")) if folder.is_dir() else []
        new = [file for file in files if file.stat().st_mtime >= run.began - 2]
        for file in new[:3]:
            yield align("weights", show_path(file))
        if len(new) > 3:
            yield align("", f"and {len(new) - 3} more there")
    for saver, before in zip(getattr(run.engine, "savers", ()), run.saved, strict=False):
        count = get_saved_count(saver.saver) - before
        place = getattr(saver.saver.folder_layout, "output_dir", None)
        if count and place is not None:
            yield align("1 file" if count == 1 else f"{count} files", show_path(Path(place)))


def _find_checkpoint_savers(engine: Engine) -> Iterator[CheckpointSaver]:
    for handlers in get_event_handlers(engine).values():
        for handler, *_ in handlers:
            owner = getattr(handler, "__self__", None)
            if isinstance(owner, CheckpointSaver):
                yield owner
