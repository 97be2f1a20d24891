"""One run of an engine, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import Tensor

__all__ = ["STOPS", "Run"]

STOPS = frozenset(
    (
        Events.STARTED,
        Events.EPOCH_STARTED,
        Events.ITERATION_STARTED,
        Events.ITERATION_COMPLETED,
        Events.EPOCH_COMPLETED,
    )
)

NOT_TAKEN = object()
"""Output of a step that Lightning has not taken."""


class Run:
    """Ignite's own generator of an engine's run, halted where Lightning's loop has its turn.

    Ignite writes the run of an engine as a generator that yields when the engine is interrupted
    (``ignite.engine.Engine._internal_run_as_gen``). Its order of events, epochs, iterators, terminations and exceptions is thus
    kept without being written again: a `LightningEngine` interrupts itself after each of `STOPS`, Lightning does its part, and
    `advance` resumes the generator. At ``ITERATION_STARTED`` a batch waits in ``engine.state.batch``; when the generator then
    asks for the step it is handed what Lightning's step made (`output`), or raised what it raised (`error`). A step that
    Lightning did not take (in further epochs of an evaluator, after an interruption before it) is the engine's own.

    Attributes:
        position: the one of `STOPS` that was reached last; None before the first and when the run is over.
        over: the run has ended.
        epochs: how many epochs have begun.
        interrupted: the user interrupted the engine (``Engine.interrupt``): it may be run on later.
        bf16: Lightning's ``precision`` made the output of the step bfloat16.
        from_outside: the event that is being fired is not one of the generator's.
        grad_enabled: whether gradients are computed where the engine's code runs, as that code has left it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.process = engine._process_function
        self.output: Any = NOT_TAKEN
        self.error: BaseException | None = None
        self.position: Events | None = None
        self.over = False
        self.interrupted = False
        self.bf16 = False
        self.from_outside = False
        self.grad_enabled = torch.is_grad_enabled()
        self._requested: Events | None = None
        self.epochs = 0
        self._count = 0

    def advance(self) -> Events | None:
        """Runs the engine on to its next stop, and gives that stop."""
        engine = self.engine
        if engine._internal_run_generator is None:
            engine._internal_run_generator = engine._internal_run_as_gen()
        self.position = None
        engine._process_function = self._finished_step
        try:
            with self.as_under_ignite():
                next(engine._internal_run_generator)
            self.interrupted = self.position is None
        except StopIteration:
            engine._internal_run_generator = None
            self.over = True
        except BaseException:
            self.over = True
            raise
        finally:
            engine._process_function = self.process
        return self.position

    @contextmanager
    def as_under_ignite(self) -> Iterator[None]:
        """Within it, gradients are computed or not as the code that runs the engine had it: Lightning's loops set that too."""
        with torch.set_grad_enabled(self.grad_enabled):
            try:
                yield
            finally:
                self.grad_enabled = torch.is_grad_enabled()

    def step(self) -> Any:
        """The engine's own iteration on the batch that waits."""
        return self.process(self.engine, self.engine.state.batch)

    def fail(self, error: BaseException) -> None:
        """Lets the engine deal with an error of the step: its handlers of ``EXCEPTION_RAISED``, else it is raised here."""
        self.error = error
        self.advance()

    def abandon(self, error: BaseException) -> None:
        """Tells the engine of an error that ended Lightning's loop while the engine waited: Ctrl-C, a callback that failed."""
        generator = self.engine._internal_run_generator
        if generator is None or self.over:
            return
        self.over = True
        with suppress(StopIteration):
            generator.throw(error)

    def _finished_step(self, engine: Engine, batch: Any) -> Any:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        output, self.output = self.output, NOT_TAKEN
        return self.process(engine, batch) if output is NOT_TAKEN else output

    def fires(self, event: Any) -> None:
        """Makes bfloat16 in an output float32 before handlers see it: NumPy, which transforms use, has no such type."""
        output = self.engine.state.output
        if self.bf16 and event is IterationEvents.MODEL_COMPLETED and isinstance(output, dict):
            for key, value in output.items():
                if isinstance(value, Tensor) and value.dtype is torch.bfloat16:
                    output[key] = value.float()

    def fired(self, event: Any) -> None:
        """Asks for a halt after an event of the generator, once the engine's handlers have seen it."""
        if self.from_outside:
            return
        if event is Events.EPOCH_STARTED:
            self.epochs += 1
            self._count = self._iterations_before()
        elif event is Events.ITERATION_STARTED:
            self._count += 1
        engine = self.engine
        ends = engine.should_terminate or (engine.should_terminate_single_epoch and event is not Events.EPOCH_COMPLETED)
        if event in STOPS and not ends and not engine.should_interrupt:
            self._requested = event
            engine.should_interrupt = True

    def halts(self, event: Any) -> bool:
        """Whether an ``INTERRUPT`` is a halt of this run, which handlers do not see."""
        if event is not Events.INTERRUPT or self._requested is None:
            return False
        self.position, self._requested = self._requested, None
        return True

    def _iterations_before(self) -> int:
        """Iterations of the epoch that an earlier run has done, as ``Engine._setup_engine`` counts them."""
        engine, length = self.engine, self.engine.state.epoch_length
        if engine._init_iter is not None or engine._dataloader_iter is not None:
            return engine._init_iter or 0
        return engine.state.iteration % length if length else engine.state.iteration

    @property
    def epoch_complete(self) -> bool:
        """Whether the last batch of the epoch has been processed; True where that is not known beforehand."""
        length = self.engine.state.epoch_length
        return length is None or self._count >= length

    @property
    def batches_of_epoch(self) -> int:
        """Batches that have been processed of an epoch that is under way; 0 where it is complete."""
        under_way = self.position in (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED)
        return self._count if under_way and self._count != self.engine.state.epoch_length else 0
