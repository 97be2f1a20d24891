"""What metrics and means have gathered of an epoch, as a checkpoint keeps it that is written in the middle of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.metrics import Cumulative
from torch import Tensor, nn
from torchmetrics import Metric

from monai_lighter.internals import get_items, set_gathered, set_update_count

__all__ = ["collect_metric", "restore_metric"]


def collect_metric(metric: Metric | Cumulative) -> Any:
    """What a metric has gathered in this process, in tensors on the CPU, numbers, lists and dicts.

    Args:
        metric: of torchmetrics, with those that it wraps, or of MONAI. Of a class of one's own these are the states that
            ``add_state`` has made, or the rows in MONAI's buffers.
    """
    if isinstance(metric, Cumulative):
        return [[row.cpu() for row in rows] for rows in get_items(metric)]
    parts = _list_parts(metric)
    return {name: [part.update_count, _to_cpu(part.metric_state)] for name, part in parts.items()}


def restore_metric(metric: Metric | Cumulative, state: Any) -> None:
    """Has a metric go on from what `collect_metric` gave for one of its kind."""
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
