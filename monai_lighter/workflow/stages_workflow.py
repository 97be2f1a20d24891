"""The stages of a workflow, called in Python one after another."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from lightning.pytorch import LightningModule, Trainer
from monai.bundle.reference_resolver import ReferenceResolver
from monai.utils import BundlePropertyConfig

from monai_lighter.callbacks.predictions import Predictions
from monai_lighter.config.items import copied, locate
from monai_lighter.config.resolver import Resolver
from monai_lighter.errors import ConfigError, Finding
from monai_lighter.errors.context import missing_file_hints
from monai_lighter.workflow.parts import Parts
from monai_lighter.workflow.properties import PropertiesWorkflow, make_native_properties

__all__ = ["StagesWorkflow", "tell_what_is_left"]

logger = logging.getLogger(__name__)


class _Stage(NamedTuple):
    """What a workflow had of a stage when another one came."""

    config: dict[str, Any]
    resolver: ReferenceResolver
    parts: Parts
    is_initialized: bool


class StagesWorkflow(PropertiesWorkflow):
    """A workflow whose stages Python calls by their names, in any order, with one network and one Trainer.

    Args:
        arguments: of ``ConfigWorkflow``.
        keywords: of ``ConfigWorkflow``.

    Attributes:
        stage: the stage that the config is pruned to; None for an expression, and for a config of MONAI's engines.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.stage: str | None = None
        self._prepared = False
        self._parts: Parts | None = None
        self._visited: dict[str, _Stage] = {}

    @abstractmethod
    def _start(self) -> None:
        """What comes before anything is run."""

    @abstractmethod
    def _told(self) -> AbstractContextManager[None]:
        """Within it, no more is printed than was asked for, and errors name their part."""

    @abstractmethod
    def _run_stage(self, stage: str, given: Mapping[str, Any] | None = None) -> Any:
        """Runs a stage of the Trainer, with keywords of its method beside those of the config."""

    @abstractmethod
    def _build_with(self, kept: dict[str, Any]) -> None:
        """Everything but what is kept is built anew."""

    def fit(self, **arguments: Any) -> dict[str, float]:
        """Trains and validates.

        The stages of one workflow share the network and the Trainer: ``test`` after ``fit`` tests what has been trained, as the
        last step left it (``test(ckpt_path="best")`` for the best). A second ``fit`` goes on with the same optimizer, as far as
        ``trainer.fit_loop.max_epochs``.

        Args:
            arguments: keywords of ``lightning.pytorch.Trainer.fit``; they take the place of the config's ``args``.

        Returns:
            The last value of everything that was logged, by its name.

        Raises:
            ConfigError: what is wrong in the config; it is one of MONAI's engines, which have no stages.
        """
        self._run_by_hand("fit", arguments)
        return self.metrics

    def validate(self, **arguments: Any) -> dict[str, float]:
        """Evaluates the data of ``val``.

        Args:
            arguments: keywords of ``lightning.pytorch.Trainer.validate``; they take the place of the config's ``args``.

        Returns:
            The last value of everything that was logged, by its name.

        Raises:
            ConfigError: what is wrong in the config; it is one of MONAI's engines, which have no stages.
        """
        self._run_by_hand("validate", arguments)
        return self.metrics

    def test(self, **arguments: Any) -> dict[str, float]:
        """Evaluates the data of ``test``.

        Args:
            arguments: keywords of ``lightning.pytorch.Trainer.test``; they take the place of the config's ``args``.

        Returns:
            The last value of everything that was logged, by its name.

        Raises:
            ConfigError: what is wrong in the config; it is one of MONAI's engines, which have no stages.
        """
        self._run_by_hand("test", arguments)
        return self.metrics

    def predict(self, return_predictions: bool = True, **arguments: Any) -> list[dict[str, Any]]:
        """Predicts the data of ``predict``; the callbacks of the config write files as under the command.

        Args:
            return_predictions: whether predictions are kept in memory (on the CPU) and returned.
            arguments: other keywords of ``lightning.pytorch.Trainer.predict``; they take the place of the config's ``args``.

        Returns:
            A dict for each case, in the order of the data, as `Predictions` has it: ``identifier`` and ``pred``. Empty without
            ``return_predictions``. Of several processes, each gets its own cases.

        Raises:
            ConfigError: what is wrong in the config; it is one of MONAI's engines, which have no stages.
        """
        self._select("predict")
        predictions, trainer = Predictions(), self.trainer
        trainer.callbacks += [predictions] if return_predictions else []
        try:
            self._run_by_hand("predict", {**arguments, "return_predictions": False})
        finally:
            trainer.callbacks = [each for each in trainer.callbacks if each is not predictions]
        return predictions.items

    @property
    def system(self) -> LightningModule:
        """The LightningModule of a native config, built when it is first asked for."""
        return self._get_part("system")

    @property
    def trainer(self) -> Any:
        """Lightning's Trainer of a native config; of one that ``initialize`` was called on, as MONAI's clients do, an engine
        (``monai.engines.SupervisedTrainer``) with the Trainer's attributes beside its own; of a config of engines, its own."""
        if self.native and (self.by_hand or not self._is_initialized):
            return self._get_part("trainer")
        if "trainer" not in self.properties:
            raise AttributeError("a workflow of this type has no property 'trainer', see workflow_type")
        return self._get_property("trainer", self.properties["trainer"])

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of everything that the last stage logged, by its name."""
        return {name: float(value) for name, value in self._get_part("trainer").callback_metrics.items()}

    def _get_part(self, id: str) -> Any:
        if not self.native:
            raise AttributeError(f"{id!r} is an item of native configs; one of MONAI's engines has workflow properties")
        if not self._is_initialized:
            self.by_hand = True
            self.initialize()
        return self.parser.get_parsed_content(id)

    def _run_by_hand(self, stage: str, arguments: Mapping[str, Any]) -> None:
        self._select(stage)
        self._start()
        with self._told(), missing_file_hints(self.bundle_path):
            self._run_stage(stage, arguments)

    def _select(self, stage: str) -> None:
        if not self.native:
            hint = "Its expressions are run by run(): Workflow(config_file, run_id=…).run()."
            raise ConfigError([Finding("run_id", f"stage {stage!r} needs a `system` section", hint)])
        self.by_hand = True
        if stage != self.stage:
            self._change_stage(stage)

    def _change_stage(self, stage: str) -> None:
        """Another stage with the network and the Trainer there are; one that has run before with all that it had."""
        if self._parts:
            now = _Stage(self.parser.get(), self.parser.ref_resolver, self._parts, self._is_initialized)
            self._visited[self.stage or ""] = now
        self.run_id = stage
        if stage in self._visited:
            config, self.parser.ref_resolver, self._parts, self._is_initialized = self._visited[stage]
            self.parser.config = config  # type: ignore[assignment]
        else:
            self.parser.ref_resolver = Resolver(kept=self._parts.find_shared() if self._parts else {})
            self.parser.config = copied(self._given or self.parser.get())
            self._is_initialized = self._prepared = False
        self._set_stage(stage, stage)

    def _set_stage(self, stage: str | None, type_stage: str) -> None:
        """The stage that runs, if any, and MONAI's properties as they are in it, or in the one of the workflow's type."""
        self.stage = stage if self.native else None
        meant = self.stage or type_stage
        self._stage_of_type = "validate" if meant == "fit" else meant
        if self.native:
            self.properties = make_native_properties(self.properties, self.parser.get(), self.workflow_type, meant)

    def _set_property(self, name: str, property: dict, value: Any) -> None:
        id = property[BundlePropertyConfig.ID]
        kept = self._parts.find_shared(locate(self.parser.get(), id) or id) if self._parts and self.by_hand else {}
        super()._set_property(name, property, value)
        if self._parts:
            self._visited.clear()
            self._build_with(kept)


def tell_what_is_left(trainer: Trainer) -> None:
    """What a fit of a Trainer that has fitted before will do."""
    done = trainer.current_epoch
    if trainer.global_step == 0:
        return
    if trainer.fit_loop.max_epochs not in (None, -1) and done >= trainer.fit_loop.max_epochs:
        hint = "Raise workflow.trainer.fit_loop.max_epochs, or make a new Workflow to begin anew."
        logger.warning(f"fit has run before, all {done} epochs of trainer::max_epochs: nothing is left to do. {hint}")
    else:
        logger.info(f"fit has run before: it goes on with epoch {done + 1} and the same network and optimizer.")
