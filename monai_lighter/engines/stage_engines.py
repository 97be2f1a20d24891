"""The stages of a native config as MONAI's engines, for those who ask a workflow for its ``trainer`` and ``evaluator``."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from lightning.pytorch import Callback, LightningModule, Trainer
from monai.engines import SupervisedEvaluator, SupervisedTrainer

from monai_lighter.config.stages import MODES_OF_STAGE
from monai_lighter.engines.module import pick_numbers
from monai_lighter.system.system import System
from monai_lighter.system.tensors import as_list

__all__ = ["StageEvaluator", "StageTrainer", "make_stage_engine"]


def make_stage_engine(stage: str, trainer: Any, system: Any, arguments: dict[str, Any]) -> Any:
    """Makes the engine that a stage of a native config is.

    Args:
        stage: ``fit``, ``validate``, ``test`` or ``predict``.
        trainer: the Trainer of the config.
        system: its system.
        arguments: keywords of the Trainer's method.

    Returns:
        The Trainer itself where it or the system is a class that engines know nothing of.
    """
    if not isinstance(trainer, Trainer) or not isinstance(system, System):
        return trainer
    return (
        StageTrainer(trainer, system, arguments)
        if stage == "fit"
        else StageEvaluator(trainer, system, arguments, stage)
    )


class _OfTrainer:
    """What is no attribute of the engine is one of Lightning's Trainer."""

    trainer: Trainer

    def __getattr__(self, name: str) -> Any:
        if name == "trainer":
            raise AttributeError(name)
        return getattr(self.trainer, name)

    def interrupt(self) -> None:
        """Ends the stage after the batch that is under way."""
        self.trainer.should_stop = True

    def terminate(self, skip_completed: bool = False) -> None:
        """Ends the stage after the batch that is under way.

        Args:
            skip_completed: of ``ignite.engine.Engine.terminate``; has no meaning for a Trainer.
        """
        self.interrupt()


class StageTrainer(_OfTrainer, SupervisedTrainer):  # type: ignore[misc]
    """A ``monai.engines.SupervisedTrainer`` whose ``run`` is ``Trainer.fit`` of a native config.

    ``state`` follows the fit (epoch, iteration, output, and in ``metrics`` the numbers that are logged, by their names), and
    handlers see ``STARTED``, ``EPOCH_STARTED``, ``ITERATION_COMPLETED``, ``EPOCH_COMPLETED`` and ``COMPLETED``. Run again after
    ``state.max_epochs`` has been raised, it goes on. This is what ``monai.fl.client.MonaiAlgo`` needs.

    Args:
        trainer: the Trainer of the config.
        system: its system.
        arguments: keywords of ``Trainer.fit``.
    """

    def __init__(self, trainer: Trainer, system: System, arguments: dict[str, Any]) -> None:
        self.trainer, self.system, self.arguments = trainer, system, arguments
        super().__init__(
            device=trainer.strategy.root_device,
            max_epochs=trainer.max_epochs or 1,
            train_data_loader=system.dataloaders.get("train", []),
            network=system.model,
            optimizer=next(iter(as_list(system.optimizer)), None),  # type: ignore[arg-type]
            loss_function=system.criterion,  # type: ignore[arg-type]
            decollate=False,
        )

    def run(self) -> None:  # type: ignore[override]
        """Fits until ``state.max_epochs``."""
        follow = _Follow(self)
        self.trainer.fit_loop.max_epochs = self.state.max_epochs
        self.trainer.callbacks.append(follow)  # type: ignore[attr-defined]
        try:
            self.trainer.fit(self.system, **self.arguments)
        finally:
            self.trainer.callbacks.remove(follow)  # type: ignore[attr-defined]
        self.state.metrics = _read_logged(self.trainer)


class StageEvaluator(_OfTrainer, SupervisedEvaluator):  # type: ignore[misc]
    """A ``monai.engines.SupervisedEvaluator`` whose ``run`` is a stage of a native config.

    Handlers see ``STARTED``, ``EPOCH_COMPLETED`` and ``COMPLETED``; ``state.metrics`` then holds the numbers that were logged, by
    their names.

    Args:
        trainer: the Trainer of the config.
        system: its system.
        arguments: keywords of the Trainer's method.
        stage: ``validate``, ``test`` or ``predict``.
    """

    def __init__(self, trainer: Trainer, system: System, arguments: dict[str, Any], stage: str) -> None:
        self.trainer, self.system, self.arguments, self.stage = trainer, system, arguments, stage
        super().__init__(
            device=trainer.strategy.root_device,
            val_data_loader=system.dataloaders.get(MODES_OF_STAGE[stage][-1], []),
            network=system.model,
            decollate=False,
        )

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Runs the stage.

        Args:
            global_epoch: for ``state.epoch``.
        """
        self.state.max_epochs = self.state.epoch = global_epoch
        self.fire_event(Events.STARTED)
        getattr(self.trainer, self.stage)(self.system, **self.arguments)
        self.state.metrics = _read_logged(self.trainer)
        for event in (Events.EPOCH_COMPLETED, Events.COMPLETED):
            self.fire_event(event)


class _Follow(Callback):
    """Keeps the state of an engine at the fit's, and fires its events."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.engine.fire_event(Events.STARTED)

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.engine.state.epoch = trainer.current_epoch + 1
        self.engine.fire_event(Events.EPOCH_STARTED)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.engine.state.iteration = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self.engine.state.output = outputs
        self.engine.fire_event(Events.ITERATION_COMPLETED)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.engine.state.metrics = _read_logged(trainer)
        self.engine.fire_event(Events.EPOCH_COMPLETED)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.engine.fire_event(Events.COMPLETED)


def _read_logged(trainer: Trainer) -> dict[str, float]:
    return dict(pick_numbers(trainer.callback_metrics))
