"""Metrics of one mode over one epoch: torchmetrics and MONAI's cumulative metrics behind one interface."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from monai.metrics import ConfusionMatrixMetric, Cumulative
from monai.metrics.confusion_matrix import check_confusion_matrix_metric_name
from monai.utils import MetricReduction, ensure_tuple
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.wrappers import ClasswiseWrapper
from torchmetrics.wrappers.abstract import WrapperMetric

from monai_lighter.system.processes import gathered, share_items
from monai_lighter.system.tensors import plain

__all__ = ["EpochMean", "Metrics", "lower_is_better", "metrics_by_mode"]

LOWER_IS_BETTER = ("distance", "error", "loss", "difference", "mae", "mse", "mape", "variance")
BY_CASE = (MetricReduction.NONE, MetricReduction.MEAN_CHANNEL, MetricReduction.SUM_CHANNEL)
ERROR_RATES = ("fnr", "fpr", "fdr", "for")
"""Of ``ConfusionMatrixMetric``: miss rate, fall-out, false discovery and false omission rate."""


class Metrics(nn.Module):
    """Metrics by name, updated batch by batch and aggregated by the metric itself over the epoch.

    Args:
        metrics: one metric, a list or a dict of them, or a ``torchmetrics.MetricCollection``. A metric is a
            ``torchmetrics.Metric`` or a ``monai.metrics.Cumulative`` (``CumulativeIterationMetric``). A list is named by
            its classes.

    Raises:
        TypeError: something that is neither.
        ValueError: two metrics of one class in a list.
    """

    def __init__(self, metrics: Any) -> None:
        super().__init__()
        self.named = _named(metrics)
        self.torch = nn.ModuleList(metric for metric in self.named.values() if isinstance(metric, nn.Module))
        self.names = list(self.named)

    def __getitem__(self, name: str) -> Any:
        return self.named[name]

    def update(self, adapter: Callable, input: Any, target: Any, pred: Any) -> dict[str, Any]:
        """Adds a batch and gives its values by name, each as the metric's call returned it.

        Args:
            adapter: `MetricsAdapter`, which calls a metric with what it expects.
            input, target, pred: of the batch; ``(B, C, H, W[, D])`` or, where postprocessed, lists of ``(C, H, W[, D])``.
        """
        values: dict[str, Any] = {}
        if not self.names:
            return values
        target, pred = _tensors(target), _tensors(pred)
        for name in self.names:
            metric = self[name]
            if isinstance(metric, nn.Module) and isinstance(pred, list):
                values[name] = adapter(metric, input, _stacked(target), torch.stack(pred))
            else:
                values[name] = plain(adapter(metric, input, target, pred))
        return values

    def compute(self) -> dict[str, Tensor]:
        """Scalars over the epoch and over all processes, by name.

        A vector (one value per class) gives ``name``, its mean without NaN, and ``name/i`` for each class, from 1 where a
        metric of MONAI leaves the background out (``include_background=False``). Of values for each case as well
        (``reduction`` ``none`` or ``mean_channel``) these are the means over the cases. A dict gives ``name/key``, and
        ``name`` for the mean where the keys are classes (``return_with_label``, ``ClasswiseWrapper``); a list gives
        ``name/i``; the several results of a ``ConfusionMatrixMetric`` are named by its ``metric_name``, and the counts that
        ``get_not_nans`` adds are ``name/not_nans``.
        """
        values: dict[str, Tensor] = {}
        for name in self.names:
            metric = self[name]
            if isinstance(metric, Metric):
                result = metric.compute()
                values.update(_scalars(name, _with_mean(result) if isinstance(metric, ClasswiseWrapper) else result))
            else:
                share_items(metric)
                first = 0 if getattr(metric, "include_background", True) else 1
                values.update(_scalars(name, _results(metric), first))
        return values

    def reset(self) -> None:
        """Forgets the epoch."""
        for name in self.names:
            self[name].reset()


def metrics_by_mode(modes: Sequence[str], given: Mapping[str, Any]) -> dict[str, Metrics]:
    """`Metrics` of each mode; one that several modes were given is copied, so that each mode aggregates by itself."""
    result: dict[str, Metrics] = {}
    used: set[int] = set()
    for mode in modes:
        metrics = Metrics(given.get(mode, {}))
        own = {id(metrics[name]) for name in metrics.names}
        result[mode] = copy.deepcopy(metrics) if own & used else metrics
        used |= own
    return result


def _named(metrics: Any) -> dict[str, Any]:
    if isinstance(metrics, MetricCollection):
        return dict(metrics.items(keep_base=False, copy_state=False))
    if isinstance(metrics, Mapping):
        named = dict(metrics)
    else:
        listed = list(metrics) if isinstance(metrics, Sequence) else [metrics]
        named = {type(metric).__name__: metric for metric in listed}
        if len(named) < len(listed):
            raise ValueError("metrics of one class need names: give them as a dict, name to metric.")
    for name, metric in named.items():
        if not isinstance(metric, (Metric, Cumulative)):
            raise TypeError(
                f"metric {name!r} must be a torchmetrics.Metric or a MONAI CumulativeIterationMetric, "
                f"got {type(metric).__name__}."
            )
    return named


def _tensors(value: Any) -> Any:
    """Plain tensors; the numbers of a list too, which is what ``decollate_batch`` makes of a batch of labels ``(B,)``."""
    if isinstance(value, list):
        return [torch.as_tensor(item) if isinstance(item, (int, float)) else plain(item) for item in value]
    return plain(value)


def _stacked(value: Any) -> Any:
    return torch.stack(value) if isinstance(value, list) else value


def _results(metric: Cumulative) -> Any:
    """What a MONAI metric aggregates to, its parts by name where they have names."""
    result = metric.aggregate()
    names = getattr(metric, "metric_name", None)
    if isinstance(names, (list, tuple)) and isinstance(result, list):
        parts = dict(zip(names, (_counted(metric, part) for part in result), strict=True))
        return parts if len(parts) > 1 else next(iter(parts.values()))
    return _counted(metric, result)


def _counted(metric: Cumulative, result: Any) -> Any:
    if getattr(metric, "get_not_nans", False) and isinstance(result, (list, tuple)):
        return {"": _over_cases(metric, result[0]), "not_nans": result[1]}
    return _over_cases(metric, result)


def _over_cases(metric: Cumulative, result: Any) -> Any:
    if isinstance(result, Mapping):
        return _with_mean(result)
    reduction = getattr(metric, "reduction", None)
    if isinstance(result, Tensor) and reduction in BY_CASE and result.ndim:
        return result.nanmean(dim=0)
    return result


def _with_mean(result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "": torch.stack([torch.as_tensor(value, dtype=torch.float32) for value in result.values()]).nanmean(),
        **result,
    }


def _scalars(name: str, value: Any, first: int = 0) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _scalars(f"{name}/{key}" if key else name, item, first)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _scalars(name if len(value) == 1 else f"{name}/{i}", item, first)
    else:
        tensor = torch.as_tensor(plain(value))
        tensor = tensor if tensor.is_floating_point() else tensor.float()
        if tensor.numel() == 1:
            yield name, tensor.reshape(())
        else:
            yield name, tensor.nanmean()
            for i, item in enumerate(tensor.flatten(), first):
                yield f"{name}/{i}", item


def lower_is_better(metric: Any) -> bool:
    """Whether the smaller value is the better one: what torchmetrics says of itself; distances and errors of MONAI.

    Of several results of a ``ConfusionMatrixMetric`` the first counts; a wrapper of torchmetrics is as what it wraps.
    """
    if isinstance(metric, WrapperMetric):
        inner = [part for part in metric.modules() if isinstance(part, Metric) and not isinstance(part, WrapperMetric)]
        return lower_is_better(inner[0]) if inner else False
    declared = getattr(metric, "higher_is_better", None)
    if declared is not None:
        return not declared
    if isinstance(metric, ConfusionMatrixMetric):
        return check_confusion_matrix_metric_name(ensure_tuple(metric.metric_name)[0]) in ERROR_RATES
    return any(word in type(metric).__name__.lower() for word in LOWER_IS_BETTER)


class EpochMean:
    """Mean of scalars over an epoch and all processes, each weighted by the number of items in its batch."""

    def __init__(self) -> None:
        self.reset()

    def update(self, name: str, value: Tensor, count: int) -> None:
        """Adds a batch: its mean ``value`` (scalar, detached) over ``count`` items."""
        total, items = self.sums.get(name) or (torch.zeros((), device=value.device), 0)
        self.sums[name] = (total.add_(value, alpha=count), items + count)

    def compute(self) -> dict[str, Tensor]:
        """Means by name, the same in every process."""
        sums: dict[str, tuple[Tensor, int]] = {}
        for part in gathered({name: (total.cpu(), items) for name, (total, items) in self.sums.items()}):
            for name, (total, items) in part.items():
                previous, count = sums.get(name, (torch.zeros(()), 0))
                sums[name] = (previous + total, count + items)
        return {name: total / items for name, (total, items) in sums.items()}

    def reset(self) -> None:
        """Forgets the epoch."""
        self.sums: dict[str, tuple[Tensor, int]] = {}
