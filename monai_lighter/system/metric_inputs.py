"""What a metric takes: values that it would make a number of, and a wrong one, are told at its first batch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from monai.metrics import (
    AbsoluteVolumeDifferenceMetric,
    ConfusionMatrixMetric,
    DiceMetric,
    FBetaScore,
    GeneralizedDiceScore,
    HausdorffDistanceMetric,
    MeanIoU,
    SurfaceDiceMetric,
    SurfaceDistanceMetric,
)
from torch import Tensor
from torchmetrics import segmentation

from monai_lighter.errors.cases import describe

__all__ = ["Checked", "StandIn", "Watched", "find_blurred_label", "find_wrong_input"]

logger = logging.getLogger(__name__)

BINARIZED = (
    AbsoluteVolumeDifferenceMetric,
    ConfusionMatrixMetric,
    FBetaScore,
    GeneralizedDiceScore,
    HausdorffDistanceMetric,
    MeanIoU,
    SurfaceDiceMetric,
    SurfaceDistanceMetric,
)
"""Metrics of MONAI whose docstrings want both arguments binarized, one channel a class."""
ONE_HOT = (
    segmentation.DiceScore,
    segmentation.GeneralizedDiceScore,
    segmentation.HausdorffDistance,
    segmentation.MeanIoU,
)
"""Metrics of torchmetrics that take the largest channel of what is of floating-point numbers, with ``input_format`` one-hot."""
ARGUMENTS = ({"y_pred", "preds"}, {"y", "target"})
"""Names of the prediction and of the target."""
POSTPROCESS = "argmax: true, to_onehot: CLASSES; threshold: 0.5 for one output after a sigmoid"


class StandIn:
    """A metric for one batch, as its adapter sees it: in all but the call it is the metric.

    Args:
        metric: that is called.
    """

    def __init__(self, metric: Any) -> None:
        self._metric = metric

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # type: ignore[override]
        """An adapter may ask for the kind of metric."""
        return self._metric.__class__

    def __getattr__(self, name: str) -> Any:
        if name == "_metric":  # of a copy that is not complete
            raise AttributeError(name)
        return getattr(self._metric, name)


class Checked(StandIn):
    """A metric that refuses what `find_wrong_input` finds in the arguments of its call; of a soft Dice it is said that it is one.

    Args:
        metric: that is called.
        id: config id of the metric.
    """

    def __init__(self, metric: Any, id: str) -> None:
        super().__init__(metric)
        self._id = id

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        pred, target = _pick_both(arguments, keywords)
        wrong = find_wrong_input(self._metric, pred, target)
        if wrong:
            rounded = [case.round() for case in _cases(pred)]
            soft = isinstance(self._metric, DiceMetric) and _is_soft(pred)
            if not soft or find_wrong_input(self._metric, rounded, target):
                raise ValueError(wrong)
            logger.warning(f"{self._id}: it is a soft Dice, not that of label maps: {wrong}")
        return self._metric(*arguments, **keywords)


class Watched(StandIn):
    """A metric that logs what `find_wrong_input` finds in the arguments of its first call, and goes on.

    Args:
        metric: that is called.
        id: config id that the message begins with.
    """

    def __init__(self, metric: Any, id: str) -> None:
        super().__init__(metric)
        self._id, self._is_fresh = id, True

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if self._is_fresh:
            self._is_fresh = False
            wrong = find_wrong_input(self._metric, *_pick_both(arguments, keywords))
            if wrong:
                logger.warning(f"{self._id}: {wrong}")
        return self._metric(*arguments, **keywords)


def _pick_both(arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Any]:
    """The prediction and the target of a call."""
    return [_pick(i, names, arguments, keywords) for i, names in enumerate(ARGUMENTS)]


def _pick(i: int, names: set[str], arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    return arguments[i] if i < len(arguments) else next((v for name, v in keywords.items() if name in names), None)


def find_wrong_input(metric: Any, pred: Any, target: Any) -> str | None:
    """What is wrong with what a metric is called with, by what its class documents; None for others, and where nothing is.

    Args:
        metric: of MONAI or torchmetrics.
        pred: ``(B, C, H, W[, D])``, or a list of ``(C, H, W[, D])``.
        target: the same.
    """
    kind = metric.__class__.__name__
    if isinstance(metric, ONE_HOT):
        one = [name for name, value in (("prediction", pred), ("target", target)) if _is_one_float_channel(value)]
        if metric.input_format == "one-hot" and one:
            hint = "Give it one channel a class (AsDiscreted with to_onehot in the postprocessing)"
            return f"{kind} takes the largest channel of each voxel, the {' and the '.join(one)} has one. {hint}."
    elif isinstance(metric, DiceMetric):
        count = metric.num_classes or max([2, *(case.shape[0] for case in _cases(pred))])
        limits = [2 if metric.num_classes is None else count, count]
        for name, value, limit in zip(("prediction", "target"), (pred, target), limits, strict=True):
            wrong = _find_no_class(value, limit) or (_find_not_binary(value) if name == "prediction" else None)
            if wrong:
                takes = f"{kind} takes one channel a class, of 0 and 1, or one channel of classes below {limit}"
                return f"{takes}, the {name} {wrong}. {_hint(name)}"
    elif isinstance(metric, BINARIZED):
        for name, value in (("prediction", pred), ("target", target)):
            wrong = _find_not_binary(value, single=True)
            if wrong:
                return f"{kind} takes 0 and 1, one channel a class, the {name} {wrong}. {_hint(name)}"
    return None


BLUR = 0.01
"""From a whole number, for a value that was one before it was scaled or resampled."""


def find_blurred_label(target: Any) -> str | None:
    """What is wrong with label maps some of whose values are just below whole numbers (0.9999): one-hot transforms and losses
    cut them off to the class below. None where nothing is, and for targets that are no classes.

    Args:
        target: ``(B, 1, H, W[, D])``; anything else is none.
    """
    if not isinstance(target, Tensor) or not target.is_floating_point() or target.ndim < 4 or target.shape[1] != 1:
        return None
    whole = target.round()
    if torch.equal(whole, target):
        return None
    away = whole - target
    if not 0 < away.max().item() < BLUR or away.min().item() <= -BLUR:
        return None
    value = torch.masked_select(target, away > 0)[0].item()
    name = next((describe(case) for case in _cases(target) if bool((case < case.round()).any())), "")
    hint = "Round it where it is loaded: {_target_: AsDiscreted, keys: label, rounding: torchrounding}."
    return (
        f"the label{f' of {name}' if name else ''} has {value:.7g}, of which a class is made by cutting it off. {hint}"
    )


def _hint(name: str) -> str:
    whole = "; one channel of classes needs to_onehot, or num_classes of a DiceMetric"
    key = "pred" if name == "prediction" else "label"
    return f"Write AsDiscreted for the key {key!r} in the postprocessing ({POSTPROCESS}){whole}."


def _cases(value: Any) -> Iterator[Tensor]:
    """Tensors ``(C, …)`` of a batch or of a list of cases."""
    parts = value if isinstance(value, (list, tuple)) else [*value] if isinstance(value, Tensor) and value.ndim else []
    for part in parts:
        if isinstance(part, Tensor) and part.ndim > 1:
            yield part


def _is_one_float_channel(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 2 and value.shape[1] == 1


def _is_soft(value: Any) -> bool:
    """Whether all cases hold numbers from 0 to 1, as probabilities are."""
    return all(bool(((case >= 0) & (case <= 1)).all()) for case in _cases(value))


def _find_not_binary(value: Any, single: bool = False) -> str | None:
    """What a tensor has beside 0 and 1; ``single``: of one channel too."""
    for case in _cases(value):
        if (single or case.shape[0] > 1) and bool(((case != 0) & (case != 1)).any()):
            return _describe(case, (case != 0) & (case != 1))
    return None


def _find_no_class(value: Any, count: int) -> str | None:
    """What a tensor of one channel has beside whole numbers from 0 to ``count - 1``."""
    for case in _cases(value):
        wrong = (case < 0) | (case >= count) | (case.is_floating_point() and case != case.floor())
        if case.shape[0] == 1 and bool(wrong.any()):
            return _describe(case, wrong)
    return None


def _describe(case: Tensor, wrong: Tensor) -> str:
    first = torch.masked_select(case, wrong)[0].item()
    name = describe(case)
    span = f"values from {case.min().item():.4g} to {case.max().item():.4g}, {case.shape[0]} channels"
    return f"{f'of {name} ' if name else ''}has {first:.4g} ({span})"
