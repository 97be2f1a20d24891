"""Metrics of one mode over one epoch: torchmetrics and MONAI's cumulative metrics behind one interface."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.metrics import ConfusionMatrixMetric, Cumulative
from monai.metrics.confusion_matrix import check_confusion_matrix_metric_name
from monai.utils import ensure_tuple
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.wrappers.abstract import WrapperMetric

from monai_lighter.errors.marks import mark
from monai_lighter.internals import get_items, set_gathered, set_update_count, states_shared_by
from monai_lighter.system.adapters import CriterionAdapter
from monai_lighter.system.aggregates import aggregate, compute, leave_out_absent, list_scalars
from monai_lighter.system.batches import Cases
from monai_lighter.system.metric_inputs import Checked
from monai_lighter.system.processes import gather, share_items
from monai_lighter.system.spacing import Compared, Spaced, is_distance, takes_spacing
from monai_lighter.system.tensors import plain

__all__ = ["EpochMean", "Metrics", "build_metrics", "lower_is_better"]

logger = logging.getLogger(__name__)

MILLIMETRES, VOXELS = "mm", "voxels"
LOWER_IS_BETTER = ("distance", "error", "loss", "difference", "mae", "mse", "mape", "variance")
ERROR_RATES = ("fnr", "fpr", "fdr", "for")
"""Of ``ConfusionMatrixMetric``: miss rate, fall-out, false discovery and false omission rate."""


class Metrics(nn.Module):
    """Metrics by name, updated batch by batch and aggregated by the metric itself over the epoch.

    Args:
        metrics: one metric, a list or a dict of them, or a ``torchmetrics.MetricCollection``. A metric is a
            ``torchmetrics.Metric`` or a ``monai.metrics.Cumulative`` (``CumulativeIterationMetric``). A list is named by
            its classes.
        labels: class, from 0, to its name, for metrics with a value for each class.
        id: config id of the metrics, for messages.

    Raises:
        TypeError: something that is neither.
        ValueError: two metrics of one class in a list.
    """

    def __init__(self, metrics: Any, labels: Mapping[int, str] | None = None, id: str = "system::metrics") -> None:
        super().__init__()
        self.id = id
        self.named = _named(metrics)
        self.torch = nn.ModuleList(metric for metric in self.named.values() if isinstance(metric, nn.Module))
        self.names = list(self.named)
        self.labels = dict(labels or {})
        self._spaced = {name for name, metric in self.named.items() if takes_spacing(metric)}
        self._units: dict[str, str] = {}
        self._updated: set[str] = set()
        self._checked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        return self.named[name]

    def update(
        self, adapter: Callable, input: Any, target: Any, pred: Any, compared: Compared | None = None
    ) -> dict[str, Any]:
        """Adds a batch and gives its values by name, each as the metric's call returned it.

        Args:
            adapter: `MetricsAdapter`, which calls a metric with what it expects.
            input, target, pred: of the batch: ``(B, C, H, W[, D])``, heads as the network gave them, or, where postprocessed,
                `Cases` of ``(C, H, W[, D])``. For a torchmetrics metric, cases of one shape are a batch again.
            compared: the cases, whose spacing a metric is given that takes it; with None they count as voxels.

        Raises:
            ValueError: at the first batch, values of which a metric would make a wrong number (`find_wrong_input`); cases that
                make no batch, for a torchmetrics metric.
        """
        values: dict[str, Any] = {}
        if not self.names:
            return values
        target, pred = _tensors(target), _tensors(pred)
        for name in self.names:
            metric = self[name]
            call = self._with_spacing(name, compared) if name in self._spaced and compared is not None else metric
            call = (
                call if name in self._checked else Checked(call, f"{self.id}::{name}")
            )  # at its first batch alone, since it looks at every value
            try:
                if isinstance(metric, nn.Module):
                    batch = _collate(pred)
                    _check_batch(name, adapter, batch)
                    values[name] = adapter(call, input, _collate(target), batch)
                else:
                    values[name] = plain(adapter(call, input, target, pred))
            except Exception as error:
                mark(error, f"::{name}")
                raise
            self._checked.add(name)
            if values[name] is not None or _keeps_own(metric):
                self._updated.add(name)
        return values

    def _with_spacing(self, name: str, compared: Compared) -> Any:
        """The metric, which is given the spacing of the cases."""
        known = all(spacing is not None for spacing in compared.spacings)
        if not known and self._units.get(name) != VOXELS:
            logger.warning(
                f"metric {name!r}: the spacing of its cases is not known (no image with an affine): it counts voxels, not mm"
            )
        self._units[name] = MILLIMETRES if known else VOXELS
        return Spaced(self[name], compared.spacings)

    def find_unit(self, name: str) -> str:
        """``mm`` or ``voxels`` for distances, of the last batch; empty for what is no distance."""
        return self._units.get(name, VOXELS) if is_distance(self[name]) else ""

    def compute(self) -> dict[str, Tensor]:
        """Scalars over the epoch and over all processes, by name; NaN for what has no value.

        A vector (one value per class) gives ``name``, its mean without NaN, and ``name/i`` for each class, or ``name/label``
        where it has one; ``i`` is from 1 where a metric of MONAI leaves the background out (``include_background=False``). Of
        values for each case as well (``reduction`` ``none`` or ``mean_channel``) these are the means over the cases. A dict
        gives ``name/key``, and ``name`` for the mean where the keys are classes (``return_with_label``,
        ``ClasswiseWrapper``); a list gives ``name/i``; the several results of a ``ConfusionMatrixMetric`` are named by its
        ``metric_name``, and the counts that ``get_not_nans`` adds are ``name/not_nans``. Of a metric that no batch updated, in
        no process, ``name`` alone is there.
        """
        values: dict[str, Tensor] = {}
        updated = set().union(*gather([name for name in self.names if self._is_updated(name)]))
        for name in self.names:
            metric = self[name]
            if name not in updated:
                values[name] = torch.tensor(math.nan)
                continue
            if isinstance(metric, Metric):
                with states_shared_by(metric, gather):
                    result = compute(metric)
            else:
                share_items(metric)
                result = aggregate(metric)
            values.update(list_scalars(name, result, metric, self.labels))
        return values

    def _is_updated(self, name: str) -> bool:
        metric = self[name]
        if isinstance(metric, Metric):
            within = [part for part in metric.modules() if isinstance(part, Metric)]
            return name in self._updated or any(part.update_called for part in within)
        return name in self._updated or bool(get_items(metric))

    def collect(self) -> dict[str, Any]:
        """What the epoch has come to so far in this process, for a checkpoint."""
        return {name: _collect_metric(self[name]) for name in self.names if self._is_updated(name)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `collect` gave; metrics that had another name, or were not there, begin with the batches to come."""
        for name in self.names:
            if name in state:
                _restore_metric(self[name], state[name])
                self._updated.add(name)

    def reset(self) -> None:
        """Forgets the epoch."""
        self._updated.clear()
        for name in self.names:
            self[name].reset()


def build_metrics(
    modes: Sequence[str], given: Mapping[str, Any], labels: Mapping[int, str] | None = None
) -> dict[str, Metrics]:
    """`Metrics` of each mode; one that several modes were given is copied, so that each mode aggregates by itself.

    Args:
        modes: names of the modes.
        given: mode to what `Metrics` takes.
        labels: class, from 0, to its name.
    """
    result: dict[str, Metrics] = {}
    used: set[int] = set()
    for mode in modes:
        metrics = Metrics(given.get(mode, {}), labels, f"system::metrics::{mode}")
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
        leave_out_absent(metric)
    return named


def _keeps_own(metric: Any) -> bool:
    """Whether a metric is a user's, of MONAI's kind, whose ``aggregate`` need not look at MONAI's buffers."""
    return isinstance(metric, Cumulative) and not type(metric).aggregate.__module__.startswith("monai.")


def _tensors(value: Any) -> Any:
    """Plain tensors; the numbers of cases too, which is what ``decollate_batch`` makes of a batch of labels ``(B,)``."""
    if isinstance(value, Cases):
        return Cases(torch.as_tensor(item) if isinstance(item, (int, float)) else plain(item) for item in value)
    return plain(value)


def _collate(value: Any) -> Any:
    """Cases as the batch ``(B, …)`` that they were, where they are tensors of one shape."""
    if not isinstance(value, Cases) or not all(isinstance(case, Tensor) for case in value):
        return value
    return torch.stack(value) if len({case.shape for case in value}) == 1 else value


def _check_batch(name: str, adapter: Any, pred: Any) -> None:
    """A torchmetrics metric takes a batch: cases that make none are for an adapter that brings them together."""
    if isinstance(pred, Cases) and isinstance(adapter, CriterionAdapter) and not adapter.pred_transforms:
        shapes = sorted({str(tuple(case.shape)) if isinstance(case, Tensor) else type(case).__name__ for case in pred})
        raise ValueError(
            f"metric {name!r}: a torchmetrics metric needs cases of one shape after postprocessing, got {', '.join(shapes)}. "
            f"Give batches of one case, or a metrics adapter that picks and collates them."
        )


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
        self.sums: dict[str, tuple[Tensor, int]] = {}

    def update(self, name: str, value: Tensor, count: int) -> None:
        """Adds a batch: its mean ``value`` (scalar, detached) over ``count`` items."""
        total, items = self.sums.get(name) or (torch.zeros((), device=value.device), 0)
        self.sums[name] = (total.add_(value, alpha=count), items + count)

    def compute(self) -> dict[str, Tensor]:
        """Means by name, the same in every process."""
        sums: dict[str, tuple[Tensor, int]] = {}
        for part in gather({name: (total.cpu(), items) for name, (total, items) in self.sums.items()}):
            for name, (total, items) in part.items():
                previous, count = sums.get(name, (torch.zeros(()), 0))
                sums[name] = (previous + total, count + items)
        return {name: total / items for name, (total, items) in sums.items()}

    def collect(self) -> dict[str, list]:
        """Sums and numbers of items so far in this process, for a checkpoint."""
        return {name: [total.cpu(), items] for name, (total, items) in self.sums.items()}

    def restore(self, state: Mapping[str, Sequence], device: Any) -> None:
        """Goes on from what `collect` gave."""
        self.sums = {name: (total.clone().to(device), items) for name, (total, items) in state.items()}

    def reset(self) -> None:
        """Forgets the epoch."""
        self.sums = {}


def _collect_metric(metric: Metric | Cumulative) -> Any:
    """What a metric has gathered in this process, in tensors on the CPU, numbers, lists and dicts.

    Args:
        metric: of torchmetrics, with those that it wraps, or of MONAI. Of a class of one's own these are the states that
            ``add_state`` has made, or the rows in MONAI's buffers.
    """
    if isinstance(metric, Cumulative):
        return [[row.cpu() for row in rows] for rows in get_items(metric)]
    parts = _list_parts(metric)
    return {name: [part.update_count, _to_cpu(part.metric_state)] for name, part in parts.items()}


def _restore_metric(metric: Metric | Cumulative, state: Any) -> None:
    """Has a metric go on from what `_collect_metric` gave for one of its kind."""
    if isinstance(metric, Cumulative):
        set_gathered(metric, state)
        return
    for name, part in _list_parts(metric).items():
        count, values = state.get(name, (0, {}))
        for key, value in values.items():
            if key in part.metric_state:
                setattr(part, key, _to_device(value, part.device))
        set_update_count(part, count)


def _list_parts(metric: nn.Module) -> dict[str, Metric]:
    return {name: part for name, part in metric.named_modules() if isinstance(part, Metric)}


def _to_cpu(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: [each.cpu() for each in value] if isinstance(value, list) else value.cpu() for key, value in values.items()
    }


def _to_device(value: Tensor | list[Tensor], device: Any) -> Any:
    return [each.to(device) for each in value] if isinstance(value, list) else value.clone().to(device)
