"""What the writers of predictions share."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from monai_lighter.errors import did_you_mean

__all__ = ["BaseWriter"]

logger = logging.getLogger(__name__)


class BaseWriter(Callback, ABC):
    """Writes each prediction of a predict run as it comes and keeps none of them.

    Follows ``lighter.callbacks.writer.base.BaseWriter``. Items are named by the step's ``identifier``; without one they are
    numbered from 0 in the order of the data, over all processes. A LightningModule other than `System` may give the
    predictions alone.

    Args:
        path: where to write.
        writer: name of one of ``writers``, or a function.

    Raises:
        ValueError: a name that is not in ``writers``; in a run, another number of identifiers than of predictions.
    """

    writers: dict[str, Callable]

    def __init__(self, path: str | Path, writer: str | Callable) -> None:
        if isinstance(writer, str) and writer not in self.writers:
            raise ValueError(
                f"writer must be a function or a known name, got {writer!r}. {did_you_mean(writer, self.writers)}"
            )
        self.path = Path(path)
        self.writer = self.writers[writer] if isinstance(writer, str) else writer
        self._count = 0

    @property
    def directory(self) -> Path:
        """Made before the run."""
        return self.path

    @abstractmethod
    def write(self, tensor: Any, identifier: Any) -> None:
        """Writes one prediction ``(C, H, W[, D])`` or of any other shape, without batch dimension."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "predict":
            return
        self._count = trainer.global_rank
        self.path = Path(trainer.strategy.broadcast(str(self.path)))
        directory = self.directory
        if trainer.is_global_zero:
            directory.mkdir(parents=True, exist_ok=True)
        trainer.strategy.barrier()
        if not directory.is_dir():
            raise RuntimeError(
                f"{directory} must be reachable from every process, process {trainer.global_rank} cannot."
            )

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        predictions, identifiers = outputs, None
        if isinstance(outputs, Mapping):
            predictions, identifiers = outputs["pred"], outputs.get("identifier")
        if isinstance(identifiers, Tensor):
            identifiers = identifiers.tolist()
        if identifiers is None:
            identifiers = range(self._count, self._count + len(predictions) * trainer.world_size, trainer.world_size)
            self._count += len(predictions) * trainer.world_size
        if len(identifiers) != len(predictions):
            raise ValueError(f"{len(predictions)} predictions must have as many identifiers, got {len(identifiers)}.")
        for prediction, identifier in zip(predictions, identifiers, strict=True):
            self.write(prediction, identifier)
