"""Metrics case by case."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torchmetrics import Metric

from monai_lighter.callbacks.writers import Table
from monai_lighter.errors import did_you_mean
from monai_lighter.system.tensors import item_count

__all__ = ["CaseMetrics"]


class CaseMetrics(Callback):
    """Writes the values that MONAI's metrics have for each case to a csv: ``case, metric, class, value``.

    What ``monai.handlers.MetricsSaver`` calls raw metrics, in one long table. ``class`` counts the columns of the metric's
    ``(B, C)`` values from 0, or from 1 where the metric leaves the background out (``include_background=False``). Rows go to
    disk as they come; several processes make one table. In a fit, each validation replaces the table of the one before; the
    sanity check and ``fast_dev_run`` write none.

    Args:
        path: csv file. Default: ``case_metrics_MODE.csv`` in the Trainer's ``log_dir`` (or ``default_root_dir``).
        metrics: names of metrics. Default: every MONAI metric of the mode.

    Raises:
        ValueError: when an evaluation begins, a name that no metric of the mode has.
    """

    def __init__(self, path: str | Path | None = None, metrics: list[str] | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.metrics = metrics
        self._table: Table | None = None

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._table = None
        present = pl_module.metrics[pl_module.mode].names
        for name in self.metrics or ():
            if name not in present:
                raise ValueError(
                    f"metrics must be names of metrics of the mode, got {name!r}. {did_you_mean(name, present)}"
                )
        if trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        directory = trainer.log_dir or trainer.default_root_dir
        path = self.path or Path(directory) / f"case_metrics_{pl_module.mode}.csv"
        self._table = Table(path, ("case", "metric", "class", "value"), trainer)
        self._count = trainer.global_rank

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if outputs is None or self._table is None:
            return
        metrics = pl_module.metrics[pl_module.mode]
        for name, values in outputs["metrics"].items():
            if isinstance(metrics[name], Metric) or (self.metrics is not None and name not in self.metrics):
                continue
            if not isinstance(values, Tensor) or values.ndim != 2:
                continue
            first = 0 if getattr(metrics[name], "include_background", True) else 1
            self._table.add(self._rows(trainer, outputs["identifier"], name, values, first))
        self._count += trainer.world_size * item_count(outputs["input"])

    def _rows(self, trainer: Trainer, names: Any, metric: str, values: Tensor, first: int) -> Iterator[tuple]:
        for i, row in enumerate(torch.as_tensor(values).tolist()):
            case = self._count + i * trainer.world_size if names is None else names[i]
            for column, value in enumerate(row):
                yield case, metric, first + column, value

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self._table is not None:
            self._table.close()

    on_test_start = on_validation_start
    on_test_batch_end = on_validation_batch_end
    on_test_end = on_validation_end
