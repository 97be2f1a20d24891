"""Values that a callback or a scheduler waits for and that no step logs, where the names of all that is logged are known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from lightning.pytorch.callbacks import ModelCheckpoint
from monai.bundle.utils import ID_SEP_KEY
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MetricCollection

from monai_lighter.check.label_maps import gives_labels
from monai_lighter.check.walk import Walk
from monai_lighter.config.items import is_text, located
from monai_lighter.config.stages import SYSTEM_TARGET
from monai_lighter.errors import Finding, did_you_mean

__all__ = ["find_unlogged"]

PACKAGES = ("lightning", "monai_lighter")
"""Packages whose callbacks log nothing that can be monitored."""
SCALAR = ("monai", "torch")
"""Packages whose losses are one number."""
COMMON = {"train", "val", "test", "metrics", "epoch", "step"}
"""Words of logged names that do not tell them apart."""
COUNTERS = ("epoch", "step")
"""What a ``ModelCheckpoint`` may also monitor."""
PLATEAU = "ReduceLROnPlateau needs the name of a logged value, got none"


class Logged(NamedTuple):
    """Names that the steps of a fit log.

    Attributes:
        names: those that are known.
        more: patterns of those that are not, such as the classes of a metric.
    """

    names: list[str]
    more: list[str]

    def has(self, name: str) -> bool:
        return name in self.names or any(re.fullmatch(pattern, name) for pattern in self.more)


def find_unlogged(walk: Walk) -> Iterator[Finding]:
    """Findings about the monitors of a fit of a `System`; none where other code may log too."""
    system, trainer = walk.needed["system"], walk.needed["trainer"]
    own = isinstance(system, dict) and system.get("_target_") == SYSTEM_TARGET and isinstance(trainer, dict)
    _, arguments = located(walk.needed, f"args{ID_SEP_KEY}fit")
    if walk.stage != "fit" or not own or arguments:
        return
    callbacks = list(walk.parts(f"trainer{ID_SEP_KEY}callbacks"))
    if any(_package(walk, callback) not in PACKAGES for _, callback in callbacks):
        return
    logged = _list_logged(walk)
    for id, _ in callbacks:
        where, monitor = located(walk.needed, f"{id}{ID_SEP_KEY}monitor")
        kind = walk.class_of(id)
        if not (monitor in COUNTERS and kind is not None and issubclass(kind, ModelCheckpoint)):
            yield from _judge(walk, where, monitor, logged)
    for id, config in _schedulers(walk):
        where, monitor = located(walk.needed, f"{id}{ID_SEP_KEY}monitor")
        if "_target_" not in config and monitor is not None:
            yield from _judge(walk, where, monitor, logged)
        kind = walk.class_of(id if "_target_" in config else f"{id}{ID_SEP_KEY}scheduler")
        if kind is not None and issubclass(kind, ReduceLROnPlateau) and ("_target_" in config or monitor is None):
            yield Finding(id, PLATEAU, "Write {scheduler: {…}, monitor: val/loss/epoch}.")


def _judge(walk: Walk, id: str, monitor: Any, logged: Logged) -> Iterator[Finding]:
    if not is_text(monitor) or logged.has(monitor):
        return
    hint = _suggest(monitor, [name for name in logged.names if "/step" not in name])
    if monitor.startswith("val") and not _loaders(walk, "val"):
        hint = f"There is no validation: give system{ID_SEP_KEY}dataloaders{ID_SEP_KEY}val, or monitor a value of training."
    yield Finding(id, f"must be the name of a logged value, got {monitor!r}", hint)


def _suggest(monitor: str, names: list[str]) -> str:
    """The name that shares a word with it (``val_dice``, ``val/metrics/dice/epoch``), else the one that is nearly the same."""
    words = {*re.split(r"[/_]", monitor)} - COMMON
    shared = [name for name in names if words & {*name.split("/")}]
    alike = [name for name in shared if name.partition("/")[0] == re.split(r"[/_]", monitor)[0]]
    hint = did_you_mean(monitor, alike or shared or names)
    return hint if hint.startswith("Did") or not shared else f"Did you mean {(alike or shared)[0]!r}?"


def _schedulers(walk: Walk) -> Iterator[tuple[str, dict]]:
    where, value = located(walk.needed, f"system{ID_SEP_KEY}scheduler")
    if isinstance(value, dict) and ("scheduler" in value or "_target_" in value):
        yield where, value
        return
    for id, item in walk.parts(where):
        if isinstance(item, dict) and ("scheduler" in item or "_target_" in item):
            yield id, item


def _package(walk: Walk, section: Any) -> str:
    """The first name of the module of a component's class; empty where that is not known."""
    name = section.get("_target_") if isinstance(section, dict) else None
    return str(name).partition(".")[0] if is_text(name) else ""


def _loaders(walk: Walk, mode: str) -> list[str]:
    """What stands after the names of a mode's loaders: nothing for one, its name or number for each of several."""
    _, value = located(walk.needed, f"system{ID_SEP_KEY}dataloaders{ID_SEP_KEY}{mode}")
    if isinstance(value, dict) and "_target_" not in value and mode != "train" and len(value) > 1:
        return [f"/{name}" for name in value]
    if isinstance(value, list) and mode != "train" and len(value) > 1:
        return [f"/dataloader_idx_{i}" for i in range(len(value))]
    return [""] if value else []


def _list_logged(walk: Walk) -> Logged:
    logged = Logged([], [r"train/optimizer/.+"])
    _, criterion = located(walk.needed, f"system{ID_SEP_KEY}criterion")
    loss = walk.class_of(f"system{ID_SEP_KEY}criterion")
    scalar = loss is not None and loss.__module__.partition(".")[0] in SCALAR
    for mode in ("train", "val"):
        _, adapter = located(walk.needed, ID_SEP_KEY.join(("system", "adapters", mode, "criterion")))
        for suffix in _loaders(walk, mode):
            if criterion is not None and not gives_labels(walk, mode):
                logged.names.extend(f"{mode}/loss/{kind}{suffix}" for kind in ("epoch", "step"))
                logged.more.extend([] if scalar and adapter is None else [rf"{mode}/loss/.+{suffix}"])
            _add_metrics(walk, mode, suffix, logged)
    return logged


def _add_metrics(walk: Walk, mode: str, suffix: str, logged: Logged) -> None:
    id = ID_SEP_KEY.join(("system", "metrics", mode))
    where, section = located(walk.needed, id)
    kind = walk.class_of(id)
    of_class = isinstance(section, dict) and "_target_" in section
    if isinstance(section, str) or (of_class and (kind is None or issubclass(kind, MetricCollection))):
        logged.more.append(rf"{mode}/metrics/.+")
    elif section:
        listed = list(walk.parts(where))
        named = isinstance(section, dict) and not of_class
        names = list(section) if named else [_name_class(walk.class_of(one)) for one, _ in listed]
        for name in names:
            logged.names.extend([f"{mode}/metrics/{name}/epoch{suffix}"] if name else [])
            logged.more.append(rf"{mode}/metrics/{re.escape(name) if name else '[^/]+'}/(step|(.+/)?epoch){suffix}")


def _name_class(kind: type | None) -> str:
    """Name of a metric in a list; empty where that is not known, as of ``torchmetrics.Accuracy``, which makes one of another."""
    return "" if kind is None or kind.__new__ is not object.__new__ else kind.__name__
