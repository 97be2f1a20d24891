"""The iteration of MONAI's SupervisedTrainer under Lightning's automatic optimization."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys
from torch import Tensor
from torch.optim import Optimizer

from monai_lighter.engines.module import EngineModule
from monai_lighter.engines.run import Run
from monai_lighter.internals import get_iteration
from monai_lighter.system.tensors import plain

__all__ = ["AutomaticModule", "is_automatic"]


def is_automatic(run: Run) -> bool:
    """Whether the step of an engine is that of ``SupervisedTrainer`` itself, with an optimizer that takes Lightning's closure.

    Args:
        run: of the engine. An ``iteration_update`` or ``_iteration`` of its own has an engine keep its step.
    """
    engine: Any = run.engine
    if not isinstance(engine, SupervisedTrainer):
        return False
    own = getattr(run.process, "__func__", None) is not get_iteration(SupervisedTrainer)
    if own or not isinstance(engine.optimizer, Optimizer):
        return False
    unknown_length = engine.accumulation_steps > 1 and engine.state.epoch_length is None
    return not unknown_length and "closure" in inspect.signature(engine.optimizer.step).parameters


class AutomaticModule(EngineModule):
    """An `EngineModule` whose optimizer is Lightning's to step.

    What ``SupervisedTrainer._iteration`` (MONAI 1.6.1) does between the batch and the loss is done here with the same parts and
    events; the backward pass, the optimizer step, scaling, accumulation and clipping are Lightning's. The loss is logged as
    ``train/loss/step`` and ``train/loss/epoch``. A test holds a hash of MONAI's source, so that the two cannot part unseen.

    Args:
        run: the run of the trainer.
        keywords: of Lightning's Trainer. Without ``precision`` the trainer's ``amp`` decides about mixed precision, without
            ``accumulate_grad_batches`` its ``accumulation_steps`` about the batches of a step.
    """

    def __init__(self, run: Run, keywords: Mapping[str, Any]) -> None:
        super().__init__(run)
        self.automatic_optimization = True
        self.autocast = "precision" not in keywords
        self.own_accumulation = "accumulate_grad_batches" not in keywords
        self.accumulation_steps = self.engine.accumulation_steps
        self.model = self.engine.network
        self.optimizer = self.engine.optimizer

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """A handler may have given the engine another optimizer, or other ``accumulation_steps``."""
        super().on_train_batch_start(batch, batch_idx)
        progress, state, steps = self._progress, self.engine.state, self.engine.accumulation_steps
        self._place = progress.current.ready, progress.is_last_batch
        if self.own_accumulation and steps != self.accumulation_steps:
            self.trainer.accumulate_grad_batches = self.accumulation_steps = steps
        if self.own_accumulation and steps > 1:
            progress.current.ready = (state.iteration - 1) % state.epoch_length + 1
            progress.is_last_batch = progress.current.ready == state.epoch_length
        self._exchange_optimizer()

    def _exchange_optimizer(self) -> None:
        if self.engine.optimizer is not self.optimizer:
            self.optimizer = self.engine.optimizer
            self.trainer.strategy.optimizers = [self.optimizer]

    @property
    def _progress(self) -> Any:
        """Lightning's count of batches, by which it accumulates; during a step it is at the engine's place in the epoch."""
        return self.trainer.fit_loop.epoch_loop.batch_progress

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        with self.runs[0].as_under_ignite():
            loss = self._guard(
                self._compute_loss, (self._progress.current.ready - 1) % self.trainer.accumulate_grad_batches == 0
            )
        self._log_loss(loss)
        return loss

    def _log_loss(self, loss: Tensor) -> None:
        if self._listened_to:
            self._steps.log(self, "train/loss/step", loss.detach(), prog_bar=True, batch_size=1)
            self.count_in_epoch("loss", loss.detach().float(), self._sources[0])

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        self._guard(super().backward, loss, *args, **kwargs)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """As under Ignite, the optimizer steps when the backward pass is done, not around it."""
        self._guard(self._step_optimizer, epoch, batch_idx, optimizer, optimizer_closure)

    def _step_optimizer(self, epoch: int, batch_idx: int, optimizer: Any, closure: Callable[[], Any]) -> None:
        loss = closure()
        self._exchange_optimizer()
        exchanged: Any = self.optimizers()
        with _without_closure(self.optimizer):
            super().optimizer_step(epoch, batch_idx, exchanged, lambda: loss)

    def _guard(self, function: Callable, *args: Any, **kwargs: Any) -> Any:
        """Calls a part of the iteration; an error goes to the engine's handlers, and the epoch ends if they keep it."""
        try:
            return function(*args, **kwargs)
        except _EndOfEpoch:
            raise
        except BaseException as error:
            self._fail(error)
            raise _EndOfEpoch from error

    def _compute_loss(self, zero_grad: bool) -> Tensor:
        engine = self.engine
        if engine.state.batch is None:
            raise ValueError("Must provide batch data for current iteration.")
        batch = engine.prepare_batch(engine.state.batch, engine.state.device, engine.non_blocking, **engine.to_kwargs)
        inputs, targets, args, kwargs = (*batch, (), {}) if len(batch) == 2 else batch
        self._sources = (inputs, targets)
        if engine.compile:
            inputs, targets = plain(inputs), plain(targets)
        engine.state.output = {CommonKeys.IMAGE: inputs, CommonKeys.LABEL: targets}
        engine.network.train()
        if zero_grad:
            engine.optimizer.zero_grad(set_to_none=engine.optim_set_to_none)
        with self._make_autocast():
            engine.state.output[CommonKeys.PRED] = engine.inferer(inputs, engine.network, *args, **kwargs)
            engine.fire_event(IterationEvents.FORWARD_COMPLETED)
            loss = engine.loss_function(engine.state.output[CommonKeys.PRED], targets).mean()
            engine.state.output[CommonKeys.LOSS] = loss
            engine.fire_event(IterationEvents.LOSS_COMPLETED)
        return plain(engine.state.output[CommonKeys.LOSS])

    def _make_autocast(self) -> AbstractContextManager:
        engine = self.engine
        amp = self.autocast and engine.amp and engine.scaler is not None
        return torch.autocast("cuda", **engine.amp_kwargs) if amp else nullcontext()

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Gradients have been cleared before the forward pass, where MONAI clears them."""

    def on_after_backward(self) -> None:
        self.engine.fire_event(IterationEvents.BACKWARD_COMPLETED)

    def end_iteration(self) -> None:
        self._progress.current.ready, self._progress.is_last_batch = self._place
        if self.runs[0].position is Events.ITERATION_STARTED:
            try:
                self._complete()
            except BaseException as error:
                self._fail(error)
        super().end_iteration()

    def _complete(self) -> None:
        engine = self.engine
        if engine.compile:
            self._restore_metadata(engine.state.output)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        self.runs[0].output = engine.state.output

    def _restore_metadata(self, output: dict) -> None:
        image, label = self._sources
        for key, source in ((CommonKeys.IMAGE, image), (CommonKeys.PRED, image), (CommonKeys.LABEL, label)):
            if isinstance(source, MetaTensor):
                output[key] = MetaTensor(output[key], meta=source.meta, applied_operations=source.applied_operations)


@cache
def _needs_closure(cls: type[Optimizer]) -> bool:
    return inspect.signature(cls.step).parameters["closure"].default is inspect.Parameter.empty


@contextmanager
def _without_closure(optimizer: Any) -> Iterator[None]:
    """Within it, an optimizer whose step may be called with no closure is, as by an engine: it may do something else with one.

    Lightning's precision always calls ``optimizer.step(closure)``. What it does in the closure, gradient clipping among it, is
    done before the step here. The method of the optimizer itself is replaced, for the one call, because a stand-in for the
    optimizer would be what ``on_before_optimizer_step``, the gradient scaler and the strategy see. It is put back each time,
    because a scheduler that a handler makes later wraps the method that it finds.
    """
    step, own = optimizer.step, "step" in vars(optimizer)
    if _needs_closure(type(optimizer)):  # type: ignore[arg-type]
        yield
        return

    def without_closure(closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        loss = None if closure is None else closure()
        step(**kwargs)
        return loss

    optimizer.step = without_closure
    try:
        yield
    finally:
        if own:
            optimizer.step = step
        else:
            del optimizer.step


class _EndOfEpoch(StopIteration):
    """Ends the epoch of Lightning's loop (``_TrainingEpochLoop.run``) from within a step."""
