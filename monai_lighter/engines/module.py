"""The LightningModule of an engine: the turns that Lightning's loop takes, and what of the engine it is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from ignite.engine import Engine, Events
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from monai_lighter.engines.replicas import join
from monai_lighter.engines.resumption import get_made_with
from monai_lighter.engines.run import Batches, Run
from monai_lighter.engines.state import collect_state, restore_engine, restore_loop
from monai_lighter.errors.marks import mark_batch
from monai_lighter.internals import (
    is_done,
    lengthen_train_epoch,
    logged_at_last_step,
    reload_train_batches,
    validation_on,
)
from monai_lighter.system.batches import count_cases
from monai_lighter.system.checkpoints import MADE_WITH, LastCheckpoint
from monai_lighter.system.hooks import QuickHooks
from monai_lighter.system.logging import StepValues
from monai_lighter.system.metrics import EpochMean
from monai_lighter.system.processes import gather
from monai_lighter.system.signals import StopOnSignal

__all__ = ["EndIteration", "EngineModule", "find_held", "pick_numbers"]


def find_held(engine: Engine, kind: type) -> Iterator[Any]:
    """Things of a kind among the attributes of an engine and of its state, and in their lists and dicts, each once."""
    seen: set[int] = set()
    for value in chain(vars(engine).values(), vars(engine.state).values()):
        values = (
            value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else (value,)
        )
        for item in values:
            if isinstance(item, kind) and id(item) not in seen:
                seen.add(id(item))
                yield item


def pick_numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Name and value of the entries that are a single number."""
    for name, value in values.items():
        if isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.numel() == 1):
            yield str(name), float(value)


class EndIteration(Callback):
    """Ends the engine's iteration at the end of a batch, before checkpoints are written: the module's own hook comes after them.

    The steps of an own iteration are counted here, as Lightning cannot see them.
    """

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        module.end_iteration()  # type: ignore[operator]
        if not module.automatic_optimization:
            progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
            progress.increment_ready()
            progress.increment_completed()


ENGINE, OTHERS = "engine", "engine_of_other_processes"
"""Keys of Lightning's checkpoints for the state of an engine, in the first process and in the others."""
DEAF = (EndIteration, LastCheckpoint, StopOnSignal)
"""Callbacks that want to know nothing of what is logged."""


class EngineModule(QuickHooks):
    """A LightningModule whose step is an engine's own iteration, under manual optimization.

    Its hooks take turns with the engine's `Run`: an epoch, a batch or a step of Lightning's loop begins and ends where the
    engine's does. Networks stay where the engine's config put them, in the mode that the engine sets.

    Where a logger or a callback wants to know, ``train/NAME/step`` and ``train/NAME/epoch`` are logged for each number in the
    output of an iteration (``train/loss/…`` under `AutomaticModule`) and, at the end of an epoch, ``MODE/metrics/NAME/epoch``
    for each number in the metrics of the engine, with ``MODE`` train or val.

    Args:
        run: the run of the engine that the Trainer is called for.

    Attributes:
        model: the networks that the engine holds as attributes or in its state.
        optimizer: the optimizers that it holds there.
        runs: that of the engine the Trainer was called for; after it, during its fit, that of the evaluator it is running.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        engine = run.engine
        self.model: nn.Module = nn.ModuleList(find_held(engine, nn.Module))
        self.optimizer: Any = list(find_held(engine, Optimizer))
        self.automatic_optimization = False
        self._checkpoint: dict[str, Any] | None = None
        self._made_with = get_made_with()
        self.runs = [run]
        self._epoch_length = engine.state.epoch_length
        self._steps = StepValues()
        self._validated: Any = None
        self._means = EpochMean()

    @property
    def engine(self) -> Any:
        """The engine that the Trainer was called for."""
        return self.runs[0].engine

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self._join(self.runs[0])

    def _join(self, run: Run) -> None:
        run.bf16 = "bf16" in str(self.trainer.precision)
        join(run.engine, self.trainer.strategy)

    def validate(self, run: Run) -> None:
        """Runs another engine as the validation loop of the fit that is under way."""
        trainer = self.trainer
        self._join(run)
        with validation_on(trainer, Batches(run)) as loop:
            loop.restarting = False
            self.runs.append(run)
            trainer.validating = True
            try:
                loop.run()
            finally:
                trainer.training = True
                self.runs.pop()
        torch.set_grad_enabled(run.grad_enabled)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self._engine_step()
        self._log_output(self.runs[0].output)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self._engine_step()

    def _engine_step(self) -> None:
        run = self.runs[-1]
        try:
            with run.as_under_ignite():
                run.output = run.step()
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """An error of the step goes to the engine's handlers of ``EXCEPTION_RAISED``; it is raised unless they keep it."""
        run = self.runs[-1]
        name, state = getattr(run.engine, "config_id", type(run.engine).__name__), run.engine.state
        mark_batch(error, state.batch, f"{name}, iteration {state.iteration}")
        if run.position is not Events.ITERATION_STARTED:
            raise error
        run.fail(error)
        self._stop_with_engine()

    def on_train_start(self) -> None:
        self.runs[0].advance()
        if self._checkpoint is not None:
            self._restore(self._checkpoint)
            self._checkpoint = None
        self._stop_with_engine()

    def on_train_epoch_start(self) -> None:
        run = self.runs[0]
        if run.position in (Events.STARTED, Events.EPOCH_COMPLETED):
            run.advance()
        self._follow_engine()
        self._stop_with_engine()
        self._steps.forget()

    def _follow_engine(self) -> None:
        """Lightning counts the engine's epochs, which go on where a checkpoint or an earlier run left them."""
        state: Any = self.engine.state
        if state.epoch_length != self._epoch_length:
            self._epoch_length = state.epoch_length
            reload_train_batches(self.trainer)
        current: Any = self.trainer.fit_loop.epoch_progress.current
        current.ready, current.started = state.epoch, state.epoch - 1
        current.processed = current.completed = state.epoch - 1

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._take(batch)

    def _take(self, batch: Any) -> None:
        """The batch as Lightning gives it: its precision may have converted it."""
        state = self.runs[-1].engine.state
        if state.batch is not None:
            state.batch = batch

    def end_iteration(self) -> None:
        """After the step: the engine's handlers of ``ITERATION_COMPLETED``."""
        self._end_batch()
        self._stop_with_engine()

    def _end_batch(self) -> None:
        if self.runs[-1].position is Events.ITERATION_STARTED:
            self.runs[-1].advance()

    def on_train_epoch_end(self) -> None:
        with logged_at_last_step(self.trainer):  # what is validated here was trained by that step
            self._end_epoch()
        self._log_means()
        self._log_metrics("train", self.engine)
        self._stop_with_engine()

    def _end_epoch(self) -> None:
        """The engine ends its epoch, also where Lightning ended it early (``limit_train_batches``, ``max_time``, …)."""
        run = self.runs[-1]
        if run.position is not Events.ITERATION_COMPLETED:
            return
        if not run.epoch_complete and self.trainer.training and self.trainer.should_stop:
            run.engine.terminate()
        elif not run.epoch_complete:
            run.engine.terminate_epoch()
        run.advance()

    def on_train_end(self) -> None:
        run = self.runs[0]
        while not run.over and not run.interrupted:
            if not is_done(run.engine):
                run.engine.terminate()
            if run.position is Events.ITERATION_STARTED:
                run.output = None  # a callback of Lightning's has skipped the step
            run.advance()
        self.trainer.strategy.optimizers = []  # else their state is moved to the CPU

    def _stop_with_engine(self) -> None:
        """Lightning's loop ends where the engine's does, also where a handler has moved that end."""
        run = self.runs[0]
        state: Any = self.engine.state
        self.trainer.fit_loop.max_epochs = -1 if state.max_epochs is None else state.max_epochs
        limit = self.trainer.limit_train_batches
        if isinstance(limit, float) and limit == 1.0:
            lengthen_train_epoch(self.trainer, state.epoch_length or 0)
        done = run.position is Events.EPOCH_COMPLETED and is_done(run.engine)
        if run.over or run.interrupted or done:
            self.trainer.should_stop = True

    def on_validation_start(self) -> None:
        self.runs[-1].advance()

    def on_validation_epoch_start(self) -> None:
        if self.runs[-1].position is Events.STARTED:
            self.runs[-1].advance()

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._take(batch)

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._end_batch()

    def on_validation_epoch_end(self) -> None:
        self._end_epoch()
        run = self.runs[-1]
        while not run.over and not run.interrupted:
            run.advance()
        self._log_metrics("val", run.engine)
        self._validated = run.engine

    def on_validation_model_eval(self) -> None:
        """Engines set the mode of their networks themselves."""

    def on_validation_model_train(self) -> None:
        """Engines set the mode of their networks themselves."""

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Engines move their batches themselves (``prepare_batch``)."""
        return batch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = collect_state(self.engine)
        checkpoint[ENGINE], *others = gather(state) if self.trainer.world_size > 1 else [state]
        checkpoint[OTHERS] = others
        if self._made_with:
            checkpoint[MADE_WITH] = self._made_with

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lightning counts no epochs as done: it would leave out a fit whose epochs are, and with it handlers of its end."""
        self._checkpoint = checkpoint
        current = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        current.update(dict.fromkeys(current, 0))

    def _restore(self, checkpoint: dict[str, Any]) -> None:
        """Once more what the Trainer has restored: a handler of ``STARTED`` may have loaded other weights since."""
        self.load_state_dict(checkpoint["state_dict"])
        self.trainer.strategy.load_optimizer_state_dict(checkpoint)
        saved = checkpoint.get(ENGINE) or {}
        others, rank = checkpoint.get(OTHERS) or [], self.trainer.global_rank
        if len(others) + 1 == self.trainer.world_size and rank:
            saved = others[rank - 1]
        if saved:
            restore_engine(self.engine, saved)
        restore_loop(self.trainer.fit_loop, saved.get("batches", 0))
        if self.engine.should_terminate or (is_done(self.engine) and not saved.get("batches")):
            self.trainer.should_stop = True

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Gradients stay when a Trainer begins, as they do when an engine goes on."""

    def configure_optimizers(self) -> Any:
        return self.optimizer

    def configure_callbacks(self) -> list[Callback]:
        return [EndIteration()]

    def cpu(self) -> EngineModule:
        """Networks stay where they are when the Trainer is done with them: the config goes on to use them."""
        return self

    @property
    def _listened_to(self) -> bool:
        trainer: Any = self.trainer
        return bool(trainer.loggers or any(not isinstance(each, DEAF) for each in trainer.callbacks))

    def find_key_metric(self) -> tuple[str, float | None] | tuple[()]:
        """Logged name of the key metric of the engine that has been run as validation, and its best value; empty without."""
        state: Any = getattr(self._validated, "state", None)
        name = getattr(state, "key_metric_name", None)
        if name is None:
            return ()
        return f"val/metrics/{name}/epoch", state.best_metric if state.best_metric_epoch != -1 else None

    def _log_output(self, output: Any) -> None:
        if self._listened_to and isinstance(output, Mapping):
            for name, value in pick_numbers(output):
                self._steps.log(self, f"train/{name}/step", value, prog_bar=True, batch_size=1)
                self.count_in_epoch(name, torch.tensor(value), self.engine.state.batch)

    def count_in_epoch(self, name: str, value: Tensor, batch: Any) -> None:
        """Adds a value of an iteration to the mean of its epoch, in which it counts as often as the batch has cases."""
        self._means.update(f"train/{name}/epoch", value, count_cases(batch) if batch is not None else 1)

    def _log_means(self) -> None:
        for name, (total, count) in self._means.sums.items():
            self.log(name, total / count, batch_size=count, sync_dist=self.trainer.world_size > 1)
        self._means.reset()

    def _log_metrics(self, mode: str, engine: Engine) -> None:
        if self._listened_to:
            for name, value in pick_numbers(engine.state.metrics):
                self.log(f"{mode}/metrics/{name}/epoch", value, prog_bar=True, batch_size=1)
