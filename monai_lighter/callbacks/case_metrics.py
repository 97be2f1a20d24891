"""Metrics case by case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from monai.utils import ensure_tuple
from torch import Tensor

from monai_lighter.callbacks.case_values import CaseNames, list_case_values
from monai_lighter.callbacks.tables import Table
from monai_lighter.errors import did_you_mean
from monai_lighter.system.logging import find_log_folder
from monai_lighter.system.metrics import lower_is_better
from monai_lighter.system.spacing import is_distance
from monai_lighter.system.step_outputs import when_ready
from monai_lighter.system.tensors import plain

__all__ = ["CaseMetrics"]


class CaseMetrics(Callback):
    """Writes the values that MONAI's metrics have for each case to a csv: ``case, metric, class, value``.

    What ``monai.handlers.MetricsSaver`` calls raw metrics, in one long table. ``class`` is a name of ``system::labels``, else
    it counts the columns of the metric's ``(B, C)`` values from 0, or from 1 where the metric leaves the background out
    (``include_background=False``). A value that a case does not have is ``nan``. Where there are distances, a column ``unit``
    says ``mm``, or ``voxels`` for cases of unknown spacing; where the mode has several loaders, a column ``loader`` has the
    name, or the number from 0, of the one that the case is from; where a lower value of a metric that is no distance is the
    better one, or there are ``outputs``, a column ``better`` says ``lower``, ``higher``, or ``neither`` of outputs; where the
    input or the prediction of a case is not finite, a column ``note`` says so. Rows go to disk as they come; several processes
    make one table. In a fit, each validation replaces the table of the one before; the sanity check and ``fast_dev_run`` write
    none, and a prediction does where there are ``outputs``.

    Args:
        path: csv file. Default: ``case_metrics_MODE.csv`` in the log folder of the run, else ``default_root_dir``.
        metrics: names of metrics. Default: every MONAI metric of the mode.
        outputs: keys that postprocessing adds to a case, such as the ``pred_entropy`` of `PredictiveEntropyd`: the mean over all
            voxels is a value like that of a metric of this name, for each channel of ``(C, H, W[, D])`` a class.

    Raises:
        ValueError: when an evaluation begins, a name that no metric of the mode has; in it, outputs that are not there.
        ConfigError: then, a path that another callback has, or at which a file is that is no such table.
    """

    def __init__(
        self, path: str | Path | None = None, metrics: list[str] | None = None, outputs: Sequence[str] = ()
    ) -> None:
        self.path = None if path is None else Path(path)
        self.metrics = metrics
        self.outputs = ensure_tuple(outputs)
        self._table: Table | None = None

    @property
    def written(self) -> Path | None:
        """The table of the newest evaluation; None where none has been written."""
        return None if self._table is None else self._table.path

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._table = None
        metrics = pl_module.metrics.get(pl_module.mode)
        present = metrics.names if metrics is not None else []
        for name in (self.metrics or ()) if metrics is not None else ():
            if name not in present:
                raise ValueError(
                    f"metrics must be names of metrics of the mode, got {name!r}. {did_you_mean(name, present)}"
                )
        if trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        directory = find_log_folder(trainer) or trainer.default_root_dir
        path = self.path or Path(directory) / f"case_metrics_{pl_module.mode}.csv"
        names = pl_module.name_loaders(pl_module.mode)
        self._loaders = [name or str(i) for i, name in enumerate(names)] if len(names) > 1 else []
        shown = [metrics[name] for name in self.metrics or present] if metrics is not None else []
        self._has_unit = any(is_distance(metric) for metric in shown)
        is_told = any(lower_is_better(metric) and not is_distance(metric) for metric in shown)
        self._has_better = is_told or bool(self.outputs)
        loader, unit = ["loader"] if self._loaders else [], ["unit"] if self._has_unit else []
        better = ["better"] if self._has_better else []
        self._table = Table(path, ("case", *loader, "metric", "class", "value", *unit, *better), trainer, self)
        self._counts = CaseNames(trainer, len(names))

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if outputs is not None and self._table is not None:
            when_ready(outputs, partial(self.add_rows, self._table, pl_module, dataloader_idx))

    def add_rows(self, table: Table, pl_module: Any, dataloader_idx: int, outputs: Any) -> None:
        """Adds the cases of a batch: what `System` gave callbacks for it."""
        names = self._counts.name_batch(outputs, dataloader_idx)
        loader = self._loaders[dataloader_idx : dataloader_idx + 1]
        for name, unit, better, classes, values in self._list_values(pl_module, dataloader_idx, outputs):
            said = [*([unit] if self._has_unit else []), *([better] if self._has_better else [])]
            notes = [[note] if note else [] for note in outputs.get("notes") or [""] * len(values)]
            for (case, row), note in zip(_rows(name, names, values), notes, strict=True):
                table.add((case, *loader, name, *each, *said, *note) for each in zip(classes, row, strict=True))

    def _list_values(
        self, pl_module: Any, dataloader_idx: int, outputs: Any
    ) -> Iterator[tuple[str, str, str, list[str], Tensor]]:
        """Name, unit, better direction, names of the classes and values ``(B, C)`` of metrics and outputs."""
        if pl_module.mode in pl_module.records:
            metrics, _ = pl_module.records[pl_module.mode].select_loader(dataloader_idx)
            for name, classes, values in list_case_values(metrics, outputs["metrics"]):
                if self.metrics is None or name in self.metrics:
                    better = "lower" if lower_is_better(metrics[name]) else "higher"
                    yield name, metrics.find_unit(name), better, classes, values
        for name in self.outputs:
            if name not in outputs:
                hint = "a transform of system::postprocessing must add it, such as PredictiveEntropyd"
                raise ValueError(f"CaseMetrics: outputs must be keys of the cases, got {name!r}: {hint}.")
            values = torch.stack([_average_voxels(name, case) for case in outputs[name]])
            yield name, "", "neither", [str(i) for i in range(values.shape[1])], values

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self._table is not None:
            self._table.close()

    def on_predict_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._table = None
        if self.outputs:
            self.on_validation_start(trainer, pl_module)

    on_test_start = on_validation_start
    on_test_batch_end = on_predict_batch_end = on_validation_batch_end
    on_test_end = on_predict_end = on_validation_end


def _average_voxels(name: str, values: Any) -> Tensor:
    """Means ``(C,)`` of an output ``(C, …)``, or of a number."""
    if not isinstance(values, (Tensor, int, float)):
        raise ValueError(f"CaseMetrics: outputs must be tensors or numbers, got {type(values).__name__} for {name!r}.")
    values = torch.as_tensor(values, dtype=torch.float64)
    return plain(values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)).mean(1).cpu()


def _rows(metric: str, names: Any, values: Tensor) -> Iterator[tuple[Any, list[float]]]:
    """Each case with its values ``(C,)``."""
    if len(names) != len(values):
        raise ValueError(
            f"CaseMetrics: metric {metric!r} has values of {len(values)} cases for a batch of {len(names)}, which its adapter "
            f"chose: give `metrics` the names of those that have a value for each case."
        )
    yield from zip(names, values.tolist(), strict=True)
