"""An engine whose run is Lightning's, and MONAI's engines as such, for a config to name."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import monai.engines
import torch
from ignite.engine import Engine, State
from monai.bundle.utils import ID_SEP_KEY
from monai.engines import Evaluator

from monai_lighter.engines.automatic import AutomaticModule, is_automatic
from monai_lighter.engines.engine_summary import noted
from monai_lighter.engines.module import EngineModule
from monai_lighter.engines.replicas import refuse_processes
from monai_lighter.engines.resumption import add_resumption
from monai_lighter.engines.run import Batches, Run
from monai_lighter.engines.state import collect_random_state
from monai_lighter.engines.trainer import CHECKPOINT, check_keywords, collect_keywords, decide_epochs, make_trainer
from monai_lighter.internals import drop_run_generator, get_data_iterator, get_run_generator, is_done, set_first_batch

__all__ = ["UNDER_WAY", "EnsembleEvaluator", "LightningEngine", "SupervisedEvaluator", "SupervisedTrainer"]

UNDER_WAY: ContextVar[EngineModule | None] = ContextVar("under_way", default=None)
"""The fit or evaluation that began last in this thread and has not ended. A variable of the context: each thread has its own."""


class LightningEngine(Engine):
    """An Ignite engine whose ``run`` is driven by ``lightning.pytorch.Trainer``.

    It stands between MONAI's ``Workflow`` and Ignite's ``Engine`` in the order of bases, so that everything an engine's own
    classes do around ``super().run()`` is kept, and handlers, metrics and events attach to the same object as ever.
    """

    lightning_run: Run | None = None
    data_begun: dict[str, Any] | None = None

    def run(
        self,
        data: Iterable | None = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
    ) -> State:
        """Runs the engine on data, anew or from where it was interrupted, until its epochs or iterations are done.

        Args:
            data: batches, in any iterable; None where the engine needs none.
            max_epochs: epochs to run, counted from the first. Default: 1 for a new run, else as before. The ``max_epochs`` of a
                ``lightning`` section goes over it where the engine trains.
            max_iters: iterations to run, in place of ``max_epochs``.
            epoch_length: batches of an epoch. Default: the length of the data; of data with none, whatever it gives.

        Returns:
            ``state`` of the engine.

        Raises:
            TypeError, ValueError: arguments that Ignite's ``Engine.run`` refuses too.
            ConfigError: keywords of the ``lightning`` section that are none, or that the engine cannot have.
            ComponentError: no Trainer can be made of them.
        """
        keywords = collect_keywords(self)
        max_epochs = decide_epochs(self, keywords, max_epochs)
        self._begin(data, max_epochs, max_iters, epoch_length)
        if self.lightning_run is None:
            self.lightning_run = Run(self)
        self.lightning_run.interrupted = False
        try:
            with noted(self):
                _drive(self.lightning_run, keywords)
        finally:
            if not self.lightning_run.interrupted:
                self.lightning_run = None
        return self.state

    def _begin(self, data: Any, max_epochs: int | None, max_iters: int | None, epoch_length: int | None) -> None:
        """Sets the state for a new run or for going on, by the rules of ``ignite.engine.Engine.run`` (0.5.5), kept here again.

        That method itself would go on to run Ignite's loop; a test holds a hash of its source.
        """
        state = self.state
        self._check_arguments(data, max_epochs, max_iters)
        endless = state.max_epochs is None and state.max_iters is None
        anew = endless or (is_done(self) and get_run_generator(self) is None)
        length = self._decide_length(data, epoch_length, anew)
        if anew:
            state.iteration = state.epoch = 0
            state.max_iters = max_iters
            state.max_epochs = None if max_iters is not None else max_epochs or 1
            drop_run_generator(self)
        state.epoch_length = length
        by_epochs = state.max_iters is None
        if anew:
            limit = f"max_epochs={state.max_epochs}" if by_epochs else f"max_iters={state.max_iters}"
            self.logger.info(f"Engine run starting with {limit}.")
        else:
            limit = f"{state.max_epochs} epochs" if by_epochs else f"{state.max_iters} iterations"
            self.logger.info(f"Engine run resuming from iteration {state.iteration}, epoch {state.epoch} until {limit}")
            if self.should_terminate:
                set_first_batch(self, 0)
        if get_data_iterator(self) is None:
            state.dataloader = data

    def _check_arguments(self, data: Any, max_epochs: int | None, max_iters: int | None) -> None:
        state = self.state
        if data is not None and not isinstance(data, Iterable):
            raise TypeError("Argument data should be iterable")
        if max_epochs is not None and max_iters is not None:
            raise ValueError(
                "Arguments max_iters and max_epochs are mutually exclusive. Please provide only one of them."
            )
        for given, kept, name in (
            (max_iters, state.max_epochs, "max_epochs"),
            (max_epochs, state.max_iters, "max_iters"),
        ):
            if given is not None and kept is not None:
                raise ValueError(
                    f"A run with {name} cannot go on with another limit. First set 'engine.state.{name} = None'."
                )
        if state.max_epochs is not None:
            self._check_and_set_max_epochs(max_epochs)
        if state.max_iters is not None:
            self._check_and_set_max_iters(max_iters)

    def _decide_length(self, data: Any, given: int | None, anew: bool) -> int | None:
        """Batches of an epoch: as given, else of the data, else as before; a run that goes on cannot change them."""
        before = self.state.epoch_length
        if not anew and before is not None:
            if given not in (None, before):
                raise ValueError(f"Argument epoch_length should be same as in the state, but given {given} vs {before}")
            return before
        if given is None and data is not None:
            given = self._get_data_length(data)
        length = before if given is None else given
        if length is None and data is None:
            raise ValueError("epoch_length should be provided if data is None")
        if length is not None and length < 1:
            raise ValueError("Input data has zero size. Please provide non-empty data")
        return length

    def _internal_run(self) -> State:
        """Ignite's loop, which only an engine with a ``run`` of its own can come to."""
        raise TypeError(
            f"{type(self).__name__} cannot be run by Lightning's Trainer: its own run() begins Ignite's loop "
            "(Engine._internal_run) and not super().run()."
        )

    def _setup_dataloader_iter(self) -> None:
        self.data_begun = {"iteration": self.state.iteration, "random": collect_random_state(self)}
        super()._setup_dataloader_iter()

    def fire_event(self, event_name: Any) -> None:
        """Fires an event that is none of the loop's own, even where it has the name of one."""
        run = self.lightning_run
        if run is None:
            super().fire_event(event_name)
            return
        outside, run.from_outside = run.from_outside, True
        try:
            super().fire_event(event_name)
        finally:
            run.from_outside = outside

    def _fire_event(self, event_name: Any, *event_args: Any, **event_kwargs: Any) -> None:
        run = self.lightning_run
        if run is not None and run.take_halt(event_name):
            return
        if run is not None:
            run.convert_output(event_name)
        super()._fire_event(event_name, *event_args, **event_kwargs)
        if run is not None:
            run.request_halt(event_name)


def _drive(run: Run, keywords: Mapping[str, Any]) -> None:
    """Runs an engine: an evaluator by ``Trainer.validate``, any other by ``Trainer.fit``.

    An evaluator that is run from a handler of a trainer runs as the validation loop of that trainer's fit.

    Args:
        run: of the engine.
        keywords: of Lightning's Trainer.
    """
    outer = UNDER_WAY.get()
    evaluates = isinstance(run.engine, Evaluator)
    if evaluates and outer is not None and outer.trainer.training:
        outer.validate(run)
        return
    automatic = is_automatic(run)
    if isinstance(run.engine, monai.engines.Trainer):
        keywords = add_resumption(run.engine, keywords)
    module = AutomaticModule(run, keywords) if automatic else EngineModule(run)
    trainer = make_trainer(run.engine, automatic or evaluates, keywords)
    if not automatic and not evaluates:
        refuse_processes(run.engine, trainer.world_size)
    token = UNDER_WAY.set(module)
    try:
        with _interruptible():
            if evaluates:
                trainer.validate(module, dataloaders=Batches(run), verbose=False)
            else:
                fit: Any = trainer.fit
                fit(module, train_dataloaders=Batches(run), ckpt_path=keywords.get(CHECKPOINT))
    except BaseException as error:
        run.abandon(error)
        raise
    finally:
        UNDER_WAY.reset(token)
        torch.set_grad_enabled(run.grad_enabled)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C is the ``KeyboardInterrupt`` that code around a run can catch; a Trainer exits, and ignores further signals."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise error.__context__ from None


def _add_keywords_argument(cls: Any) -> Any:
    """Gives an engine's class the argument ``lightning`` beside its own: keywords of ``lightning.pytorch.Trainer``."""
    monai_init = cls.__init__

    def __init__(self: Any, *args: Any, lightning: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        self.lightning = lightning or {}
        check_keywords(self.lightning, f"{cls.__name__}{ID_SEP_KEY}lightning")
        monai_init(self, *args, **kwargs)

    own = inspect.signature(monai_init)
    keyword = inspect.Parameter("lightning", inspect.Parameter.KEYWORD_ONLY, default=None)
    __init__.__signature__ = own.replace(parameters=[*own.parameters.values(), keyword])  # type: ignore[attr-defined]
    cls.__init__ = __init__
    return cls


@_add_keywords_argument
class SupervisedTrainer(monai.engines.SupervisedTrainer, LightningEngine):  # type: ignore[misc]
    """``monai.engines.SupervisedTrainer`` on Lightning, for a config to name: ``_target_: monai_lighter.SupervisedTrainer``.

    Args:
        lightning: keywords of ``lightning.pytorch.Trainer``; those of the config's ``lightning`` section, which `Workflow`
            alone reads, go over them. All other arguments are those of MONAI's engine.

    Raises:
        ConfigError: a keyword that the Trainer does not have.
    """


@_add_keywords_argument
class SupervisedEvaluator(monai.engines.SupervisedEvaluator, LightningEngine):  # type: ignore[misc]
    """``monai.engines.SupervisedEvaluator`` on Lightning, for a config to name: ``_target_: monai_lighter.SupervisedEvaluator``.

    Args:
        lightning: keywords of ``lightning.pytorch.Trainer``; those of the config's ``lightning`` section, which `Workflow`
            alone reads, go over them. All other arguments are those of MONAI's engine.

    Raises:
        ConfigError: a keyword that the Trainer does not have.
    """


@_add_keywords_argument
class EnsembleEvaluator(monai.engines.EnsembleEvaluator, LightningEngine):  # type: ignore[misc]
    """``monai.engines.EnsembleEvaluator`` on Lightning, for a config to name: ``_target_: monai_lighter.EnsembleEvaluator``.

    Args:
        lightning: keywords of ``lightning.pytorch.Trainer``; those of the config's ``lightning`` section, which `Workflow`
            alone reads, go over them. All other arguments are those of MONAI's engine.

    Raises:
        ConfigError: a keyword that the Trainer does not have.
    """
