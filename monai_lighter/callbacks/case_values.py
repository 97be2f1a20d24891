"""The values that metrics have for each case of an evaluation, as the callbacks that tell of them take them from a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torchmetrics import Metric

from monai_lighter.system.aggregates import name_classes
from monai_lighter.system.batches import count_cases
from monai_lighter.system.metrics import Metrics, lower_is_better
from monai_lighter.system.processes import gather

__all__ = ["CaseNames", "CaseValues", "Scores", "list_case_values"]


def list_case_values(metrics: Metrics, values: Mapping[str, Any]) -> Iterator[tuple[str, list[str], Tensor]]:
    """Name, names of the classes and values ``(B, C)`` of each metric that has a value for each case: those of MONAI.

    Args:
        metrics: of the loader that the batch is from.
        values: of the batch, by metric, as `Metrics.update` gives them.
    """
    for name, each in values.items():
        if not isinstance(metrics[name], Metric) and isinstance(each, Tensor) and each.ndim == 2:
            yield name, name_classes(metrics[name], each.shape[1], metrics.labels), each


class CaseNames:
    """Identifiers of the cases of an evaluation; those without one are numbered from 0, over all processes.

    Args:
        trainer: of the evaluation.
        loaders: how many loaders it goes through; each is numbered by itself.
    """

    def __init__(self, trainer: Trainer, loaders: int) -> None:
        self._processes = trainer.world_size
        self._counts = [trainer.global_rank] * max(1, loaders)

    def name_batch(self, outputs: Mapping[str, Any], dataloader_idx: int) -> Sequence[Any]:
        """A name for each case of a batch, of what `System` gave callbacks for it."""
        names, step = outputs["identifier"], count_cases(outputs["input"]) * self._processes
        first = self._counts[dataloader_idx]
        self._counts[dataloader_idx] += step
        if names is None:
            return range(first, first + step, self._processes)
        return names.tolist() if isinstance(names, Tensor) else names


@dataclass
class Scores:
    """Values of one metric for all cases of one loader.

    Attributes:
        metric: its name.
        loader: name or number of the loader; empty where there is one alone.
        classes: names of the columns.
        lower_is_better: as `monai_lighter.system.metrics.lower_is_better` has it.
        unit: ``mm`` or ``voxels`` of distances, else empty.
        cases: names of the rows.
        parts: values ``(B, C)`` of the batches, float32, on the CPU; NaN where a case has none.
    """

    metric: str
    loader: str
    classes: list[str]
    lower_is_better: bool
    unit: str
    cases: list[Any] = field(default_factory=list)
    parts: list[Tensor] = field(default_factory=list)

    @property
    def values(self) -> Tensor:
        """``(N, C)``: all parts."""
        return torch.cat(self.parts) if self.parts else torch.empty(0, len(self.classes))


class CaseValues:
    """Keeps what metrics have for each case, four bytes a value.

    Args:
        trainer: of the evaluation.
        loaders: names of the loaders, empty for those without.
    """

    def __init__(self, trainer: Trainer, loaders: Sequence[str]) -> None:
        self._loaders = [name or str(i) for i, name in enumerate(loaders)] if len(loaders) > 1 else [""]
        self._names = CaseNames(trainer, len(loaders))
        self._scores: dict[tuple[int, str], Scores] = {}
        self.count = 0

    def add(self, metrics: Metrics, outputs: Mapping[str, Any], dataloader_idx: int) -> None:
        """Adds a batch: what `System` gave callbacks for it."""
        names = self._names.name_batch(outputs, dataloader_idx)
        self.count += len(names)
        for name, classes, values in list_case_values(metrics, outputs["metrics"]):
            if len(values) != len(names):  # an adapter has chosen some of them, and nobody knows which
                continue
            key, better = (dataloader_idx, name), lower_is_better(metrics[name])
            loader, unit = self._loaders[dataloader_idx], metrics.find_unit(name)
            scores = self._scores.setdefault(key, Scores(name, loader, classes, better, unit))
            scores.cases += names
            scores.parts.append(values.detach().float().cpu())

    def gather(self) -> list[Scores]:
        """Those of all processes, in each of them; every process calls it."""
        parts = gather((self._scores, self.count))
        merged: dict[tuple[int, str], Scores] = {}
        for scores, _ in parts:
            for key, each in scores.items():
                known = merged.setdefault(
                    key, Scores(each.metric, each.loader, each.classes, each.lower_is_better, each.unit)
                )
                known.cases += each.cases
                known.parts += each.parts
        self.count = sum(count for _, count in parts)
        return [merged[key] for key in sorted(merged, key=lambda key: key[0])]
