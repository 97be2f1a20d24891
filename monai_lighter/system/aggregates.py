"""What a metric comes to over an epoch: NaN for what is nowhere, and a name for each class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from monai.metrics import AveragePrecisionMetric, Cumulative, GeneralizedDiceScore, PanopticQualityMetric, ROCAUCMetric
from monai.metrics.utils import create_ignore_mask, do_metric_reduction
from monai.utils import Average, MetricReduction
from torch import Tensor
from torchmetrics import Metric, detection, segmentation
from torchmetrics.classification import (
    MulticlassAUROC,
    MulticlassAveragePrecision,
    MulticlassConfusionMatrix,
    MulticlassLogAUC,
    MulticlassPrecisionRecallCurve,
    MulticlassStatScores,
    MultilabelAUROC,
    MultilabelAveragePrecision,
    MultilabelFBetaScore,
    MultilabelJaccardIndex,
    MultilabelLogAUC,
    MultilabelPrecision,
    MultilabelPrecisionRecallCurve,
    MultilabelRecall,
)
from torchmetrics.functional.segmentation import dice_score, hausdorff_distance
from torchmetrics.wrappers import ClasswiseWrapper

from monai_lighter.system.tensors import plain

__all__ = ["aggregate", "check_labels", "compute", "leave_out_absent", "list_scalars", "name_classes"]

BY_CASE = (MetricReduction.NONE, MetricReduction.MEAN_CHANNEL, MetricReduction.SUM_CHANNEL)
NO_VALUE = -1
"""Stands for the value of a class that is nowhere in torchmetrics' ``MeanIoU`` and ``MeanAveragePrecision``."""
CURVES = (MulticlassPrecisionRecallCurve, MultilabelPrecisionRecallCurve)
"""Of torchmetrics, with all that is made of a curve: a class that no target has does not have one."""
OF_LABELS = (
    (MultilabelFBetaScore, MultilabelPrecision, MultilabelRecall, MultilabelJaccardIndex),
    (
        MultilabelAUROC,
        MultilabelAveragePrecision,
        MultilabelLogAUC,
        MulticlassAUROC,
        MulticlassAveragePrecision,
        MulticlassLogAUC,
    ),
)
"""Of torchmetrics, whose macro average counts the 0 of a label that is nowhere, and of one that no target has."""


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


class _GeneralizedDiceOfMonai(GeneralizedDiceScore):
    """MONAI's, which gives 1 to a class (or, summed over classes, to a case) that is neither true nor predicted."""

    def _compute_tensor(self, y_pred: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        scores = super()._compute_tensor(y_pred, y)
        mask, count = create_ignore_mask(y, self.ignore_index), y.shape[1]
        both = (y_pred + y if mask is None else (y_pred + y) * mask).flatten(2).sum(-1)
        used = [i for i in range(0 if self.include_background else 1, count) if i != self.ignore_index]
        sizes = both[:, used].sum(1, keepdim=True) if self.sum_over_classes else both[:, used]
        return scores.masked_fill(sizes == 0, math.nan) if used else scores


class _GeneralizedDiceOfTorchmetrics(segmentation.GeneralizedDiceScore):
    """torchmetrics', which gives 0 to a class (or to a case) that is neither true nor predicted, and counts it in the mean."""

    present: Tensor

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update(preds, target)
        dice = dice_score(preds, target, self.num_classes, self.include_background, "none", self.input_format)
        present = dice.isfinite() if self.per_class else dice.isfinite().any(1, keepdim=True)
        self.present += present.sum(0)

    def compute(self) -> Tensor:
        return self.score / self.present


class _HausdorffOfTorchmetrics(segmentation.HausdorffDistance):
    """torchmetrics', which fails where a class is empty: in both, target and prediction, it has no value; in one, it is infinite,
    as MONAI's has it."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        masks = [_split_classes(each, self, preds.ndim + target.ndim) for each in (preds, target)]
        how: dict[str, Any] = {
            "distance_metric": self.distance_metric,
            "spacing": self.spacing,
            "directed": self.directed,
        }
        for case in zip(*masks, strict=True):
            for pred, true in list(zip(*case, strict=True))[0 if self.include_background else 1 :]:
                if pred.any() and true.any():
                    first, second = (torch.stack([~mask, mask])[None].int() for mask in (pred, true))
                    self.score += hausdorff_distance(first, second, 2, False, input_format="one-hot", **how).sum()
                elif pred.any() or true.any():
                    self.score += math.inf
                else:
                    continue
                self.total += 1


def _split_classes(value: Tensor, metric: Any, axes: int) -> Tensor:
    """Masks ``(B, C, H, W[, D])`` of what a metric of torchmetrics takes: indices, a channel a class, or logits.

    Args:
        value: prediction or target.
        metric: whose ``input_format`` and ``num_classes`` count.
        axes: of prediction and target together; with ``mixed`` indices have one fewer than the other.
    """
    indices = metric.input_format == "index" or (metric.input_format == "mixed" and 2 * value.ndim < axes)
    if not indices and not value.is_floating_point():
        return value > 0
    labels = value if indices else value.argmax(1)
    return torch.nn.functional.one_hot(labels.long(), metric.num_classes).movedim(-1, 1) > 0


for _own in (_GeneralizedDiceOfMonai, _GeneralizedDiceOfTorchmetrics):
    _own.__name__ = GeneralizedDiceScore.__name__  # by which values and errors are named
_HausdorffOfTorchmetrics.__name__ = segmentation.HausdorffDistance.__name__


def leave_out_absent(metric: Any) -> None:
    """Has a metric that keeps no counts (generalized Dice, torchmetrics' Hausdorff distance) take note of the classes that a case
    has as it is updated."""
    inner: Any = metric.metric if isinstance(metric, ClasswiseWrapper) else metric
    if type(inner) is GeneralizedDiceScore:
        inner.__class__ = _GeneralizedDiceOfMonai
    elif type(inner) is segmentation.GeneralizedDiceScore:
        for name in ("update", "compute"):  # bound to the class it had
            del inner.__dict__[name]
        inner.__class__ = _GeneralizedDiceOfTorchmetrics
        inner.__setstate__({})
        inner.add_state("present", default=torch.zeros_like(inner.score), dist_reduce_fx="sum")
    elif type(inner) is segmentation.HausdorffDistance:
        for name in ("update", "compute"):
            del inner.__dict__[name]
        inner.__class__ = _HausdorffOfTorchmetrics
        inner.__setstate__({})


def compute(metric: Metric) -> Any:
    """What a torchmetrics metric computes, with NaN for classes that are nowhere, in target and prediction."""
    if isinstance(metric, segmentation.MeanIoU) or type(metric).__name__ == "MeanAveragePrecision":
        return _known(metric.compute())
    if isinstance(metric, ClasswiseWrapper):
        result: Any
        result, absent = metric.compute(), _find_absent(metric.metric)
        if absent is not None and len(absent) == len(result):
            pairs = zip(result.items(), absent.tolist(), strict=True)
            result = {key: math.nan if nowhere else value for (key, value), nowhere in pairs}
        return _with_mean(result)
    if isinstance(metric, (*OF_LABELS[0], *OF_LABELS[1])) and _get_average(metric) == "macro":
        return _compute_mean(metric)
    result, absent = metric.compute(), _find_absent(metric)
    return result if absent is None else _without_absent(result, absent)


def _get_average(metric: Any) -> str | None:
    return getattr(metric, "average2", getattr(metric, "average", None))  # LogAUC has another name for it


def _compute_mean(metric: Any) -> Tensor:
    """The mean over the classes that have a value; not by way of ``Metric.compute``, which may know its own mean already."""
    name = "average2" if hasattr(metric, "average2") else "average"
    setattr(metric, name, "none")
    try:
        with metric.sync_context(dist_sync_fn=metric.dist_sync_fn):
            values, absent = type(metric).compute(metric), _find_absent(metric, shared=True)
    finally:
        setattr(metric, name, "macro")
    known = values if absent is None or values.shape != absent.shape else values.masked_fill(absent, math.nan)
    return known.nanmean()


def _without_absent(result: Any, absent: Tensor) -> Any:
    """NaN in the place of absent classes: in values ``(C,)`` or ``(1, C)``, parts ``(C, 3)``, or ``(values, thresholds)``."""
    if isinstance(result, tuple) and len(result) == 2:
        return tuple(_without_absent(part, absent) for part in result)
    if not isinstance(result, Tensor) or not result.is_floating_point():
        return result
    if result.shape == absent.shape or result.shape == (1, *absent.shape):
        return result.masked_fill(absent, math.nan)
    return result.masked_fill(absent[:, None], math.nan) if result.shape == (*absent.shape, 3) else result


def _known(result: Any) -> Any:
    if isinstance(result, Mapping):
        return {key: _known(value) for key, value in result.items()}
    floats = isinstance(result, Tensor) and result.is_floating_point()
    return result.masked_fill(result == NO_VALUE, math.nan) if floats else result


def _find_absent(metric: Any, shared: bool = False) -> Tensor | None:
    """Which classes ``(C,)`` have no value: those that no case has, neither in target nor in prediction; of curves, those that
    no target has.

    Args:
        metric: of torchmetrics.
        shared: whether its counts are those of all processes already.

    Returns:
        None where the metric has no value for each class.
    """
    if _get_average(metric) not in (None, "none"):
        return None
    with nullcontext() if shared else metric.sync_context(dist_sync_fn=metric.dist_sync_fn):
        if isinstance(metric, CURVES):
            return _count_targets(metric) == 0
        if isinstance(metric, MulticlassConfusionMatrix):
            return metric.confmat.sum(0) + metric.confmat.sum(1) == 0
        if isinstance(metric, MultilabelJaccardIndex):
            return metric.confmat.flatten(1)[:, 1:].sum(1) == 0  # all but true negatives
        counts: list[Any] = []
        if isinstance(metric, detection.PanopticQuality):
            counts = [metric.true_positives, metric.false_positives, metric.false_negatives]
        elif isinstance(metric, (MulticlassStatScores, *OF_LABELS[0])):
            counts = [metric.tp, metric.fp, metric.fn]
        of_classes = bool(counts) and isinstance(counts[0], Tensor)  # and not lists, with a value for each sample
        return torch.stack(counts).sum(0) == 0 if of_classes else None


def _count_targets(metric: Any) -> Tensor:
    if metric.thresholds is not None:
        return metric.confmat[0, :, 1, :].sum(-1)
    target = torch.cat(metric.target) if isinstance(metric.target, list) else metric.target
    return (target == 1).sum(0) if target.ndim > 1 else torch.bincount(target, minlength=metric.num_classes)


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
