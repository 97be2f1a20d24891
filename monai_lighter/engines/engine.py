"""MONAI's engines, run by Lightning's Trainer."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import monai.engines
from ignite.engine import Engine, State
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.engines.drive import drive
from monai_lighter.engines.run import Run
from monai_lighter.engines.state import random_numbers
from monai_lighter.engines.trainer import epochs_for, keywords_for, known

__all__ = [
    "EnsembleEvaluator",
    "LightningEngine",
    "SupervisedEvaluator",
    "SupervisedTrainer",
    "adopted",
    "lightning_class",
]


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
        """Runs the engine, as ``ignite.engine.Engine.run``."""
        keywords = keywords_for(self)
        max_epochs = epochs_for(self, keywords, max_epochs)
        self._begin(data, max_epochs, max_iters, epoch_length)
        if self.lightning_run is None:
            self.lightning_run = Run(self)
        self.lightning_run.interrupted = False
        try:
            drive(self.lightning_run, keywords)
        finally:
            if not self.lightning_run.interrupted:
                self.lightning_run = None
        return self.state

    def _begin(self, data: Any, max_epochs: int | None, max_iters: int | None, epoch_length: int | None) -> None:
        """Sets the state for a new run or for going on, by the rules of ``ignite.engine.Engine.run``."""
        state = self.state
        self._check_arguments(data, max_epochs, max_iters)
        endless = state.max_epochs is None and state.max_iters is None
        anew = endless or (self._is_done(state) and self._internal_run_generator is None)
        length = self._length(data, epoch_length, anew)
        if anew:
            state.iteration = state.epoch = 0
            state.max_iters = max_iters
            state.max_epochs = None if max_iters is not None else max_epochs or 1
            self._internal_run_generator = None
        state.epoch_length = length
        by_epochs = state.max_iters is None
        if anew:
            limit = f"max_epochs={state.max_epochs}" if by_epochs else f"max_iters={state.max_iters}"
            self.logger.info(f"Engine run starting with {limit}.")
        else:
            limit = f"{state.max_epochs} epochs" if by_epochs else f"{state.max_iters} iterations"
            self.logger.info(f"Engine run resuming from iteration {state.iteration}, epoch {state.epoch} until {limit}")
            if self.should_terminate:
                self._init_iter = 0
        if self._dataloader_iter is None:
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

    def _length(self, data: Any, given: int | None, anew: bool) -> int | None:
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
        self.data_begun = {"iteration": self.state.iteration, "random": random_numbers(self)}
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
        if run is not None and run.halts(event_name):
            return
        if run is not None:
            run.fires(event_name)
        super()._fire_event(event_name, *event_args, **event_kwargs)
        if run is not None:
            run.fired(event_name)


@cache
def lightning_class(cls: Any) -> Any:
    """The class of engines that are ``cls`` in everything but whose loop is Lightning's."""
    if issubclass(cls, LightningEngine):
        return cls
    if cls is Engine:
        return LightningEngine
    return type(cls.__name__, (cls, LightningEngine), {"__module__": cls.__module__, "__doc__": cls.__doc__})


def adopted(engine: Engine) -> Engine:
    """The same engine, with its class exchanged for its `lightning_class`.

    Raises:
        TypeError: an engine whose class cannot be extended so.
    """
    try:
        engine.__class__ = lightning_class(type(engine))  # type: ignore[arg-type]
    except TypeError as error:
        raise TypeError(f"{type(engine).__name__} cannot be run by Lightning's Trainer: {error}") from None
    return engine


def takes_keywords(cls: Any) -> Any:
    """Gives an engine's class the argument ``lightning`` beside its own: keywords of ``lightning.pytorch.Trainer``."""
    monai_init = cls.__init__

    def __init__(self: Any, *args: Any, lightning: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        self.lightning = known(lightning or {}, f"{cls.__name__}{ID_SEP_KEY}lightning")
        monai_init(self, *args, **kwargs)

    own = inspect.signature(monai_init)
    keyword = inspect.Parameter("lightning", inspect.Parameter.KEYWORD_ONLY, default=None)
    __init__.__signature__ = own.replace(parameters=[*own.parameters.values(), keyword])  # type: ignore[attr-defined]
    cls.__init__ = __init__
    return cls


@takes_keywords
class SupervisedTrainer(monai.engines.SupervisedTrainer, LightningEngine):  # type: ignore[misc]
    """``monai.engines.SupervisedTrainer`` on Lightning, for a config to name: ``_target_: monai_lighter.SupervisedTrainer``.

    Args:
        lightning: keywords of ``lightning.pytorch.Trainer``; those of the config's ``lightning`` section, which `Workflow`
            alone reads, go over them. All other arguments are those of MONAI's engine.

    Raises:
        ConfigError: a keyword that the Trainer does not have.
    """


@takes_keywords
class SupervisedEvaluator(monai.engines.SupervisedEvaluator, LightningEngine):  # type: ignore[misc]
    """``monai.engines.SupervisedEvaluator`` on Lightning; ``lightning`` as in `SupervisedTrainer`."""


@takes_keywords
class EnsembleEvaluator(monai.engines.EnsembleEvaluator, LightningEngine):  # type: ignore[misc]
    """``monai.engines.EnsembleEvaluator`` on Lightning; ``lightning`` as in `SupervisedTrainer`."""
