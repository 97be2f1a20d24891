"""The system and the Trainer of a run, as they come to be."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer, callbacks
from monai.bundle import ConfigParser
from monai.bundle.utils import ID_REF_KEY, ID_SEP_KEY

from monai_lighter.callbacks.progress_bar import ProgressBar
from monai_lighter.config.stages import MODEL, find_datasets, find_stages
from monai_lighter.errors import ConfigError, Finding
from monai_lighter.errors.cases import name_cases
from monai_lighter.system.datasets import count_items, describe_old_cache, find_without_batches
from monai_lighter.system.resuming import Resumable
from monai_lighter.system.system import System
from monai_lighter.workflow.skip_existing import set_skip_existing

__all__ = ["Parts"]

logger = logging.getLogger(__name__)


class Parts:
    """What the run owes its system and Trainer when they are built, whether a stage or an expression uses them.

    Args:
        stage: that runs; None for an expression.
        parser: with the native config, pruned to the stage.
        saved: the whole config, of plain values, as it is saved with the run.
        furnish: adds to the Trainer what every run has.
        before: the parts of a stage of the same workflow that came before; what it built is taken over.
        run_id: of the expressions that run, where no stage does.
        bundle: its folder.

    Attributes:
        built: ``system`` and ``trainer``, as far as they have been built; ``model`` as well where it is the system.
        sources: config id to dataset, as `name_cases` gives them.
    """

    def __init__(
        self,
        stage: str | None,
        parser: ConfigParser,
        saved: dict[str, Any],
        furnish: Callable[[Trainer], None],
        before: Parts | None = None,
        run_id: str = "run",
        bundle: Path | None = None,
    ) -> None:
        self.parser, self.saved, self._furnish, self._bundle = parser, saved, furnish, bundle or Path()
        self.stages = [stage] if stage else find_stages(parser.get(), run_id)
        self.built: dict[str, Any] = dict(before.built) if before else {}
        self.sources: dict[str, Any] = dict(before.sources) if before else {}
        self._datasets = {id: at for each in self.stages for id, at in find_datasets(parser.get(), each).items()}
        self._old_caches: set[str] = set()
        self._bars: list[Any] = []

    def take(self, id: str, value: Any) -> None:
        """Takes an item that has been resolved, before anything uses it.

        Raises:
            ConfigError: a dataset of the stage with no items, or a loader with no batches.
        """
        if id in self._datasets and count_items(value) == 0:
            where = f" They are those of {id}." if id != self._datasets[id] else ""
            hint = f"Mend its list of cases, or leave the loader out.{where}"
            needed = f"has no items, which stage {' or '.join(map(repr, self.stages))} needs"
            raise ConfigError([Finding(self._datasets[id], needed, hint)])
        old = describe_old_cache(value)
        if old is not None and old not in self._old_caches:  # which references hand on
            self._old_caches.add(old)
            logger.warning(f"{id}: {old}")
        if id == MODEL and self.parser.get("system") == f"{ID_REF_KEY}{MODEL}":
            self.built[id] = value
        listed = value if isinstance(value, list) else [value]
        self._bars += [each for each in listed if isinstance(each, callbacks.ProgressBar)]
        if id == "system":
            self._take_system(value)
        elif id == "trainer":
            self.built[id] = value
            if isinstance(value, Trainer):
                self._take_trainer(value)

    def _take_trainer(self, trainer: Trainer) -> None:
        self._furnish(trainer)
        if isinstance(self.parser.get("trainer"), dict):  # of an expression nobody knows what bars it has made
            ProgressBar.into(trainer, self._bars)

    def _take_system(self, system: Any) -> None:
        self.built["system"] = system
        config = self.parser.get()
        empty = [finding for stage in self.stages for finding in find_without_batches(system, config, stage)]
        if empty:
            raise ConfigError(empty)
        if isinstance(system, Resumable) and self.saved.get("seed") is not None:
            system.seed = int(self.parser.get_parsed_content("seed"))
        if "predict" in self.stages:
            set_skip_existing(system, self.parser, self._bundle)
        if isinstance(system, LightningModule) and not system.hparams:
            system.save_hyperparameters(self.saved)
        self.sources.update(name_cases(system))

    def find_shared(self, changed: str = "") -> dict[str, Any]:
        """What the stages of one workflow share, by all ids that it has: the Trainer, and the network, or a LightningModule of
        the user's own as a whole.

        Args:
            changed: id of an item; what it is a part of is left out.
        """
        system = self.built.get("system")
        shared: dict[str, Any] = {}
        for part in (self.built.get("trainer"), system.model if isinstance(system, System) else system):
            resolved = self.parser.ref_resolver.resolved_content.items()
            ids = [id for id, value in resolved if value is part and part is not None]
            if not any(changed == id or changed.startswith(f"{id}{ID_SEP_KEY}") for id in ids):
                shared.update(dict.fromkeys(ids, part))
        return shared
