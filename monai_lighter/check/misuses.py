"""Parts that MONAI or Lightning take without a word and that do otherwise than they read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from monai.bundle.utils import ID_SEP_KEY
from monai.data import SmartCacheDataset, ThreadDataLoader
from monai.metrics import Cumulative
from torch.nn import CrossEntropyLoss
from torch.utils.data import Dataset
from torchmetrics import Metric, MetricCollection

from monai_lighter.check.targets import target_of
from monai_lighter.check.walk import Walk
from monai_lighter.config.items import is_text, located
from monai_lighter.config.stages import MODES
from monai_lighter.errors import Finding

__all__ = ["find_misuses"]


def find_misuses(walk: Walk) -> Iterator[Finding]:
    """Findings about the loaders, metrics, loss and checkpoints of what a native config's stage builds."""
    yield from _single_softmax(walk)
    for mode in MODES:
        for id, metric in _sections(walk, f"system{ID_SEP_KEY}metrics{ID_SEP_KEY}{mode}"):
            yield from _metric(walk, id, metric)
        for id, loader in _sections(walk, f"system{ID_SEP_KEY}dataloaders{ID_SEP_KEY}{mode}"):
            yield from _loader(walk, id, loader)
    for id, callback in _sections(walk, f"trainer{ID_SEP_KEY}callbacks"):
        if _is_a(walk, callback, ModelCheckpoint):
            yield from _filename(walk, id)


def _sections(walk: Walk, id: str) -> Iterator[tuple[str, dict]]:
    """The sections among the parts at an id."""
    return ((where, part) for where, part in walk.parts(id) if isinstance(part, dict))


def _is_a(walk: Walk, section: Any, wanted: type) -> bool:
    name = section.get("_target_") if isinstance(section, dict) else None
    target = target_of(name, walk.locator) if isinstance(name, str) and is_text(name) else None
    return isinstance(target, type) and issubclass(target, wanted)


def _metric(walk: Walk, id: str, metric: dict) -> Iterator[Finding]:
    """What is no metric, where its class, or its being a function, is known."""
    name = metric.get("_target_")
    kind = walk.class_of(id)
    given = name if kind is not None and not issubclass(kind, (Metric, Cumulative, MetricCollection)) else None
    if is_text(name) and metric.get("_mode_") == "callable":
        given = f"the function {name}" if not isinstance(target_of(name, walk.locator), type) else f"the class {name}"
    if given is not None:
        problem = f"must be a torchmetrics.Metric or a MONAI CumulativeIterationMetric, got {given}"
        yield Finding(id, problem, "Write one of monai.metrics, such as {_target_: DiceMetric}, or of torchmetrics.")


def _single_softmax(walk: Walk) -> Iterator[Finding]:
    """A softmax over the one output of a network, which is 1 whatever the network gives."""
    criterion = f"system{ID_SEP_KEY}criterion"
    kind = walk.class_of(criterion)
    _, softmax = located(walk.needed, f"{criterion}{ID_SEP_KEY}softmax")
    if softmax is not True and not (kind is not None and issubclass(kind, CrossEntropyLoss)):
        return
    model = f"system{ID_SEP_KEY}model"
    for key in (model, f"{model}{ID_SEP_KEY}model"):
        where, count = located(walk.needed, f"{key}{ID_SEP_KEY}out_channels")
        if count == 1:
            problem = f"must be 2 or more with the softmax of {criterion}, which is 1 over one channel, got 1"
            yield Finding(where, problem, "Give each class a channel, or take a loss with sigmoid: true.")


def _loader(walk: Walk, id: str, loader: dict) -> Iterator[Finding]:
    if _is_a(walk, loader, Dataset):
        problem = f"must be a DataLoader, got the dataset {loader['_target_']}, whose items are no batches"
        yield Finding(id, problem, "Write {_target_: DataLoader, batch_size: …, dataset: {…}}.")
    where, repeats = located(walk.needed, f"{id}{ID_SEP_KEY}repeats")
    if _is_a(walk, loader, ThreadDataLoader) and isinstance(repeats, int) and repeats > 1:
        problem = (
            f"must be 1, since an epoch has len(loader) batches and would leave out part of the cases, got {repeats}"
        )
        yield Finding(where, problem, "Leave it out; for more steps on each case raise max_epochs.")
    _, dataset = located(walk.needed, f"{id}{ID_SEP_KEY}dataset")
    where, data = located(walk.needed, f"{id}{ID_SEP_KEY}dataset{ID_SEP_KEY}data")
    kind = walk.class_of(f"{id}{ID_SEP_KEY}dataset")
    if is_text(data) and kind is not None and kind.__module__.startswith("monai.data."):  # another's may take a path
        problem = f"must be a list of cases, got the text {data!r:.80}, each letter of which would be one"
        yield Finding(
            where, problem, "Write [{image: scan.nii.gz}, …]; on the command line [{'image': 'scan.nii.gz'}]."
        )
    where, persistent = located(walk.needed, f"{id}{ID_SEP_KEY}persistent_workers")
    if _is_a(walk, dataset, SmartCacheDataset) and persistent is True:
        problem = "must be false, since such workers keep the first cache of the SmartCacheDataset, got True"
        yield Finding(where, problem, "Leave it out, or take a CacheDataset.")


def _filename(walk: Walk, id: str) -> Iterator[Finding]:
    """A ``/`` in the name of a logged value, of which Lightning makes folders where it puts the name into the file's."""
    where, name = located(walk.needed, f"{id}{ID_SEP_KEY}filename")
    _, inserted = located(walk.needed, f"{id}{ID_SEP_KEY}auto_insert_metric_name")
    if is_text(name) and inserted in (None, True) and re.search(r"\{[^}:]*/", name):
        problem = f"makes folders of the names of logged values, which have a /, got {name!r}"
        yield Finding(where, problem, f"Write {id}{ID_SEP_KEY}auto_insert_metric_name: false.")
