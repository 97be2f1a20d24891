"""One run of an engine, and whose turn it is: Lightning's loop and Ignite's generator, step by step.

Ignite writes the run of an engine as a generator (``Engine._internal_run_as_gen``) that yields where the engine has been
interrupted. Its order of events, epochs, iterators, terminations and exceptions is kept by letting it do the whole run: a `Run`
interrupts the engine after each event of `STOPS`, where Lightning has its turn, and `Run.advance` has the generator go on to the
next one. All handlers run inside the generator::

    Trainer.fit                                Run                        Ignite's generator
    -----------------------------------------  -------------------------  -----------------------------------------
    on_train_start                             advance() ---------------> STARTED
                                               position = STARTED <------ yields (and so after each line below)
    for each epoch
        on_train_epoch_start                   advance() ---------------> EPOCH_STARTED
        for each batch
            next(iter(Batches))                advance() ---------------> GET_BATCH_STARTED, GET_BATCH_COMPLETED,
                                                                          ITERATION_STARTED
            on_train_batch_start               state.batch = the batch, as Lightning's precision has converted it
            training_step, optimizer_step      output = ...               waits
            EndIteration.on_train_batch_end    advance() ---------------> asks for the step, is given `output`;
                                                                          ITERATION_COMPLETED
        on_train_epoch_end                     advance() ---------------> EPOCH_COMPLETED
    on_train_end                               advance() ---------------> COMPLETED, and its end: over = True

``Trainer.validate`` takes the same turns in its ``on_validation_…`` hooks. An evaluator that a handler of a trainer runs has a
`Run` of its own, all of which passes within one ``advance`` of the trainer's: the validation loop of the same fit
(`EngineModule.validate`).

What may come otherwise:

- Lightning ends its loop early (``limit_train_batches``, ``max_time``, a callback): the next hook terminates the engine's epoch
  or run, and advances.
- The engine ends first (``terminate``, ``interrupt``, no more data): ``trainer.should_stop`` is set after the turn.
- The step fails: `Run.fail` advances, and the generator raises the error in its own place, for handlers of ``EXCEPTION_RAISED``.
- Lightning takes no step for a batch (in further epochs of an evaluator, after an interruption before it): the generator asks for
  the step, and takes the engine's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import Tensor

from monai_lighter.internals import (
    begin_run_generator,
    drop_run_generator,
    get_data_iterator,
    get_first_batch,
    get_process_function,
    get_run_generator,
    set_process_function,
)

__all__ = ["STOPS", "Batches", "Run"]

STOPS = frozenset(
    (
        Events.STARTED,
        Events.EPOCH_STARTED,
        Events.ITERATION_STARTED,
        Events.ITERATION_COMPLETED,
        Events.EPOCH_COMPLETED,
    )
)
"""Events after which the engine waits for Lightning."""

NOT_TAKEN = object()
"""Output of a step that Lightning has not taken."""

UNKNOWN_LENGTH = 2**31
"""Stands for a length that is not known: a loader with a length is never read ahead by Lightning."""


class Run:
    """Ignite's own generator of an engine's run, halted where Lightning's loop has its turn.

    Args:
        engine: whose ``run`` has been called, with its state set for a new run or for going on.

    Attributes:
        position: the one of `STOPS` that was reached last; None before the first and when the run is over.
        over: the run has ended.
        epochs: how many epochs have begun.
        output: what Lightning's step made of the batch, given to the engine when it asks for the step.
        error: what Lightning's step raised, raised where the engine asks for the step.
        interrupted: the user interrupted the engine (``Engine.interrupt``): it may be run on later.
        bf16: Lightning's ``precision`` made the output of the step bfloat16.
        from_outside: the event that is being fired is not one of the generator's.
        grad_enabled: whether gradients are computed where the engine's code runs, as that code has left it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.process = get_process_function(engine)
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
        generator = begin_run_generator(self.engine)
        self.position = None
        set_process_function(self.engine, self._give_output)
        try:
            with self.as_under_ignite():
                next(generator)
            self.interrupted = self.position is None
        except StopIteration:
            drop_run_generator(self.engine)
            self.over = True
        except BaseException:
            self.over = True
            raise
        finally:
            set_process_function(self.engine, self.process)
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
        """Takes the engine's own iteration on the batch that waits, and gives its output."""
        return self.process(self.engine, self.engine.state.batch)

    def fail(self, error: BaseException) -> None:
        """Lets the engine deal with an error of the step: its handlers of ``EXCEPTION_RAISED``, else it is raised here."""
        self.error = error
        self.advance()

    def abandon(self, error: BaseException) -> None:
        """Tells the engine of an error that ended Lightning's loop while the engine waited: Ctrl-C, a callback that failed."""
        generator = get_run_generator(self.engine)
        if generator is None or self.over:
            return
        self.over = True
        with suppress(StopIteration):
            generator.throw(error)

    def _give_output(self, engine: Engine, batch: Any) -> Any:
        """The engine's step while the generator runs: what Lightning's came to, else the engine's own."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        output, self.output = self.output, NOT_TAKEN
        return self.process(engine, batch) if output is NOT_TAKEN else output

    def convert_output(self, event: Any) -> None:
        """Makes bfloat16 in an output float32 before handlers see it: NumPy, which transforms use, has no such type.

        Args:
            event: that is about to be fired. ``MODEL_COMPLETED`` is the one that postprocessing and metrics come after.
        """
        output = self.engine.state.output
        if self.bf16 and event is IterationEvents.MODEL_COMPLETED and isinstance(output, dict):
            for key, value in output.items():
                if isinstance(value, Tensor) and value.dtype is torch.bfloat16:
                    output[key] = value.float()

    def request_halt(self, event: Any) -> None:
        """Interrupts the engine after an event of `STOPS`, unless it ends there anyway.

        Args:
            event: that the engine's handlers have just seen.
        """
        if self.from_outside:
            return
        if event is Events.EPOCH_STARTED:
            self.epochs += 1
            self._count = self._count_iterations_before()
        elif event is Events.ITERATION_STARTED:
            self._count += 1
        engine = self.engine
        ends = engine.should_terminate or (engine.should_terminate_single_epoch and event is not Events.EPOCH_COMPLETED)
        if event in STOPS and not ends and not engine.should_interrupt:
            self._requested = event
            engine.should_interrupt = True

    def take_halt(self, event: Any) -> bool:
        """Takes an ``INTERRUPT`` that `request_halt` caused for the halt it is: `position` is reached.

        Args:
            event: that is about to be fired.

        Returns:
            Whether it was one; handlers do not see it then.
        """
        if event is not Events.INTERRUPT or self._requested is None:
            return False
        self.position, self._requested = self._requested, None
        return True

    def _count_iterations_before(self) -> int:
        """Iterations of the epoch that an earlier run has done, by the rule of ``Engine._setup_engine``."""
        engine, length = self.engine, self.engine.state.epoch_length
        first = get_first_batch(engine)
        if first is not None or get_data_iterator(engine) is not None:
            return first or 0
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


class Batches:
    """The batches of one epoch of an engine's run, from the engine's own iterator: what Lightning has for a loader.

    Each is fetched by the engine itself, events included, when Lightning asks for it: no batch is drawn ahead, and no iterator
    is begun anew at an epoch that Ignite would not begin anew.

    Args:
        run: the run whose batches are asked for.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def __len__(self) -> int:
        return self.run.engine.state.epoch_length or UNKNOWN_LENGTH

    def __iter__(self) -> Iterator[Any]:
        run = self.run
        epoch = run.epochs
        while run.epochs == epoch:
            if run.position in (Events.EPOCH_STARTED, Events.ITERATION_COMPLETED):
                run.advance()
            if run.position is not Events.ITERATION_STARTED:
                return
            batch = run.engine.state.batch
            yield () if batch is None else batch
