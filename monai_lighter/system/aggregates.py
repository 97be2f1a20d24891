"""What a metric comes to over an epoch: NaN for what is nowhere, and a name for each class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from monai.metrics import AveragePrecisionMetric, Cumulative, PanopticQualityMetric, ROCAUCMetric
from monai.metrics.utils import do_metric_reduction
from monai.utils import Average, MetricReduction
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassConfusionMatrix,
    MulticlassPrecisionRecallCurve,
    MulticlassStatScores,
    MultilabelPrecisionRecallCurve,
)
from torchmetrics.segmentation import MeanIoU
from torchmetrics.wrappers import ClasswiseWrapper

from monai_lighter.system.tensors import plain

__all__ = ["aggregate", "check_labels", "compute", "list_scalars", "name_classes"]

BY_CASE = (MetricReduction.NONE, MetricReduction.MEAN_CHANNEL, MetricReduction.SUM_CHANNEL)
NO_VALUE = -1
"""Stands for the value of a class that is nowhere in torchmetrics' ``MeanIoU`` and ``MeanAveragePrecision``."""


def aggregate(metric: Cumulative) -> Any:
    """What a MONAI metric aggregates to, its parts by name where they have names, with NaN for what has no value.

    ``do_metric_reduction`` gives 0 to a class (or case, or everything) of which no value is known: the counts of values
    (``not_nans``) tell it from a value of 0.
    """
    if isinstance(metric, PanopticQualityMetric):
        result = _panoptic(metric)
    elif isinstance(metric, (ROCAUCMetric, AveragePrecisionMetric)):
        result = _area(metric)
    else:
        result = _without_zeros(metric)
    names = getattr(metric, "metric_name", None)
    if isinstance(names, (list, tuple)) and isinstance(result, list):
        parts = dict(zip(names, (_with_counts(metric, part) for part in result), strict=True))
        return parts if len(parts) > 1 else next(iter(parts.values()))
    single = isinstance(result, list) and len(result) == 1  # FBetaScore
    return _with_counts(metric, result[0] if single else result)


def _without_zeros(metric: Cumulative) -> Any:
    """The aggregate, with its counts where ``get_not_nans`` asks for them, and NaN where these are 0."""
    if not hasattr(metric, "get_not_nans"):
        return _as_reduced(metric, metric.aggregate())
    asked, metric.get_not_nans = metric.get_not_nans, True
    try:
        result = metric.aggregate()
    finally:
        metric.get_not_nans = asked
    parts = result if isinstance(result, list) else [result]
    if not all(isinstance(part, tuple) and len(part) == 2 for part in parts):  # a user's own, which takes no notice
        return _as_reduced(metric, metric.aggregate())
    masked = [(_mask(value, counts), counts) if asked else _mask(value, counts) for value, counts in parts]
    return masked if isinstance(result, list) else masked[0]


def _as_reduced(metric: Cumulative, result: Any) -> Any:
    """NaN where the buffer has no value, if the result is what MONAI's reduction makes of the buffer."""
    reduction = _reduction(metric)
    data = metric.get_buffer()
    known = any(reduction == each for each in MetricReduction)
    if not (known and isinstance(data, Tensor) and data.ndim > 1 and data.is_floating_point()):
        return result
    reduced, counts = do_metric_reduction(data, reduction)
    same = isinstance(result, Tensor) and result.shape == reduced.shape and torch.equal(result, reduced)
    return _mask(result, counts) if same else result


def _reduction(metric: Cumulative) -> Any:
    """How a metric is reduced over classes and cases; `CalibrationErrorMetric` has another name for it."""
    return getattr(metric, "reduction", getattr(metric, "metric_reduction", None))


def _mask(value: Any, counts: Tensor) -> Any:
    if isinstance(value, Mapping):
        pairs = zip(value.items(), counts.flatten().tolist(), strict=False)
        return {key: each if count else math.nan for (key, each), count in pairs}
    if not isinstance(value, Tensor) or value.numel() != counts.numel():
        return value  # made of sums of counts (ConfusionMatrixMetric), NaN by itself where these are 0
    return torch.where(
        counts.reshape(value.shape) > 0, value, math.nan
    )  # MONAI's mean has the shape (1,), its count ()


def _panoptic(metric: PanopticQualityMetric) -> Any:
    """Of a class with no instance, neither true nor predicted, the quality is 0 by its smoothing alone."""
    result = metric.aggregate()
    if metric.return_confusion_matrix:
        return result
    sums, _ = do_metric_reduction(metric.get_buffer(), metric.reduction)
    counts = sums[..., :3].sum(-1)
    return [_mask(part, counts) for part in result] if isinstance(result, list) else _mask(result, counts)


def _area(metric: ROCAUCMetric | AveragePrecisionMetric) -> Any:
    """A class of which all cases are, or none is, has no curve: the mean is that of the others."""
    result = metric.aggregate()
    if metric.average not in (Average.MACRO, Average.WEIGHTED) or not np.isnan(result).any():
        return result
    values = np.atleast_1d(np.asarray(metric.aggregate(average=Average.NONE), dtype=float))
    known = ~np.isnan(values)
    if not known.any() or values.size == 1:
        return result
    cases = metric.get_buffer()[1].sum(0).cpu().numpy()[known] if metric.average == Average.WEIGHTED else None
    return np.average(values[known], weights=cases)


def _with_counts(metric: Cumulative, result: Any) -> Any:
    if getattr(metric, "get_not_nans", False) and isinstance(result, (list, tuple)):
        return {"": _over_cases(metric, result[0]), "not_nans": result[1]}
    return _over_cases(metric, result)


def _over_cases(metric: Cumulative, result: Any) -> Any:
    if isinstance(result, Mapping):
        return _with_mean(result)
    if isinstance(result, Tensor) and _reduction(metric) in BY_CASE and result.ndim:
        return result.nanmean(dim=0)
    return result


def _with_mean(result: Mapping[str, Any]) -> dict[str, Any]:
    values = [torch.as_tensor(value, dtype=torch.float32) for value in result.values()]
    return {"": torch.stack(values).nanmean(), **result}


def compute(metric: Metric) -> Any:
    """What a torchmetrics metric computes, with NaN for classes that are nowhere, in target and prediction."""
    if isinstance(metric, (MulticlassPrecisionRecallCurve, MultilabelPrecisionRecallCurve)) and _is_averaged(metric):
        return _compute_areas(metric)
    result = metric.compute()
    if isinstance(metric, MeanIoU) or type(metric).__name__ == "MeanAveragePrecision":
        return _known(result)
    absent = _absent(metric.metric if isinstance(metric, ClasswiseWrapper) else metric)
    if isinstance(metric, ClasswiseWrapper):
        if absent is not None and len(absent) == len(result):
            pairs = zip(result.items(), absent.tolist(), strict=True)
            result = {key: math.nan if nowhere else value for (key, value), nowhere in pairs}
        return _with_mean(result)
    if absent is not None and isinstance(result, Tensor) and result.shape == absent.shape:
        return result.masked_fill(absent, math.nan)
    return result


def _is_averaged(metric: Any) -> bool:
    return getattr(metric, "average", "") in (None, "none", "macro")


def _compute_areas(metric: Any) -> Any:
    """AUROC or average precision, to which torchmetrics gives 0 for a class that no target has: such a class has no curve."""
    average, metric.average = metric.average, "none"
    try:
        values = metric.compute()
    finally:
        metric.average = average
    with metric.sync_context(dist_sync_fn=metric.dist_sync_fn):
        if metric.thresholds is not None:
            counts = metric.confmat[0, :, 1, :].sum(-1)
        else:
            target = torch.cat(metric.target) if isinstance(metric.target, list) else metric.target
            several = target.ndim > 1
            counts = (target == 1).sum(0) if several else torch.bincount(target, minlength=metric.num_classes)
    if not isinstance(values, Tensor) or values.shape != counts.shape:
        return values
    values = values.masked_fill(counts == 0, math.nan)
    return values.nanmean() if average == "macro" else values


def _known(result: Any) -> Any:
    if isinstance(result, Mapping):
        return {key: _known(value) for key, value in result.items()}
    floats = isinstance(result, Tensor) and result.is_floating_point()
    return result.masked_fill(result == NO_VALUE, math.nan) if floats else result


def _absent(metric: Metric) -> Tensor | None:
    """Which classes no case has, neither in target nor in prediction; torchmetrics' own mean leaves them out."""
    if not isinstance(metric, (MulticlassStatScores, MulticlassConfusionMatrix)):
        return None
    if getattr(metric, "average", None) not in (None, "none"):
        return None
    with metric.sync_context(dist_sync_fn=metric.dist_sync_fn):
        if isinstance(metric, MulticlassConfusionMatrix):
            return metric.confmat.sum(0) + metric.confmat.sum(1) == 0
        counts: list[Any] = [metric.tp, metric.fp, metric.fn]
        return sum(counts) == 0 if isinstance(counts[0], Tensor) else None  # type: ignore[return-value]


def check_labels(labels: Mapping[Any, str] | None) -> dict[int, str]:
    """Names of classes by index.

    Args:
        labels: index of a class, from 0 (also as text, which JSON has), to its name.

    Raises:
        ValueError: an index that is no whole number from 0; a name that is no text, or that two classes have.
    """
    result: dict[int, str] = {}
    for index, name in (labels or {}).items():
        if not str(index).isdecimal():
            raise ValueError(f"system::labels: a class must be a whole number from 0, got {index!r}.")
        if not isinstance(name, (str, int)) or not str(name).strip() or str(name) in result.values():
            raise ValueError(f"system::labels: the name of class {index} must be a text of its own, got {name!r}.")
        result[int(index)] = str(name)
    return result


def name_classes(metric: Any, count: int, labels: Mapping[int, str]) -> list[str]:
    """Names of the values that a metric has, one for each class: numbers, or those of ``labels`` where they fit.

    Args:
        metric: of MONAI or torchmetrics; with ``include_background=False`` its values begin with class 1.
        count: of its values. Labels fit where the last value is of the last class that has a name.
        labels: class to name (`check_labels`).
    """
    background = getattr(metric, "include_background", True)
    first = 0 if background and not isinstance(metric, PanopticQualityMetric) else 1
    if labels and max(labels) == first + count - 1:
        return [labels.get(i, str(i)) for i in range(first, first + count)]
    start = 1 if isinstance(metric, Cumulative) and not background else 0
    return [str(i) for i in range(start, start + count)]


def list_scalars(name: str, value: Any, metric: Any, labels: Mapping[int, str]) -> Iterator[tuple[str, Tensor]]:
    """The numbers of a metric's result, each with its name.

    Args:
        name: of the metric; stands before the names of parts and classes, and is itself that of the mean.
        value: number, tensor, list or dict of them; NaN where there is none.
        metric: which gave it.
        labels: class to name.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from list_scalars(f"{name}/{key}" if key else name, item, metric, labels)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from list_scalars(name if len(value) == 1 else f"{name}/{i}", item, metric, labels)
    else:
        tensor = torch.as_tensor(plain(value))
        tensor = tensor if tensor.is_floating_point() else tensor.float()
        if tensor.numel() == 1:
            yield name, tensor.reshape(())
        else:
            yield name, tensor.nanmean()
            names = name_classes(metric, tensor.numel(), labels if tensor.ndim == 1 else {})
            yield from ((f"{name}/{each}", item) for each, item in zip(names, tensor.flatten(), strict=True))
