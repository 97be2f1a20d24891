"""The system and the Trainer of a run, as they come to be."""

from __future__ import annotations

import logging
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.config.stages import find_datasets
from monai_lighter.errors import ConfigError, Finding
from monai_lighter.errors.cases import name_cases
from monai_lighter.system.datasets import count_items, describe_old_cache, find_without_batches
from monai_lighter.system.profiler import PassThroughProfiler
from monai_lighter.system.resuming import Resumable
from monai_lighter.system.system import System
from monai_lighter.workflow.tracking import SaveConfig

__all__ = ["Parts"]

logger = logging.getLogger(__name__)


class Parts:
    """What the run owes its system and Trainer when they are built, whether a stage or an expression uses them.

    Args:
        stage: that runs; None for an expression.
        parser: with the native config, pruned to the stage.
        saved: the whole config, of plain values, as it is saved with the run.
        before: the parts of a stage of the same workflow that came before; what it built is taken over.

    Attributes:
        built: ``system`` and ``trainer``, as far as they have been built.
        sources: config id to dataset, as `name_cases` gives them.
    """

    def __init__(
        self, stage: str | None, parser: ConfigParser, saved: dict[str, Any], before: Parts | None = None
    ) -> None:
        self.stage, self.parser, self.saved = stage, parser, saved
        self.built: dict[str, Any] = dict(before.built) if before else {}
        self.sources: dict[str, Any] = dict(before.sources) if before else {}
        self._datasets = find_datasets(parser.get(), stage)
        self._old_caches: set[str] = set()

    def take(self, id: str, value: Any) -> None:
        """Takes an item that has been resolved, before anything uses it.

        Raises:
            ConfigError: a dataset of the stage with no items, or a loader with no batches.
        """
        if id in self._datasets and count_items(value) == 0:
            where = f" They are those of {id}." if id != self._datasets[id] else ""
            hint = f"Mend its list of cases, or leave the loader out.{where}"
            raise ConfigError([Finding(self._datasets[id], f"has no items, which stage {self.stage!r} needs", hint)])
        old = describe_old_cache(value)
        if old is not None and old not in self._old_caches:  # which references hand on
            self._old_caches.add(old)
            logger.warning(f"{id}: {old}")
        if id == "system":
            self._take_system(value)
        elif id == "trainer":
            self.built[id] = value
            if isinstance(value, Trainer):
                value.callbacks.append(SaveConfig(self.saved))  # type: ignore[attr-defined]
                PassThroughProfiler.into(value)

    def _take_system(self, system: Any) -> None:
        self.built["system"] = system
        empty = [*find_without_batches(system, self.parser.get(), self.stage)] if self.stage is not None else []
        if empty:
            raise ConfigError(empty)
        if isinstance(system, Resumable) and self.saved.get("seed") is not None:
            system.seed = int(self.parser.get_parsed_content("seed"))
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
