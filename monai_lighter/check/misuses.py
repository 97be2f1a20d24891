"""Parts that MONAI or Lightning take without a word and that do otherwise than they read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from monai.bundle.utils import ID_SEP_KEY
from monai.data import SmartCacheDataset, ThreadDataLoader

from monai_lighter.check.targets import target_of
from monai_lighter.check.walk import Walk
from monai_lighter.config.items import is_text, located
from monai_lighter.config.stages import MODES
from monai_lighter.errors import Finding

__all__ = ["find_misuses"]


def find_misuses(walk: Walk) -> Iterator[Finding]:
    """Findings about the loaders and the checkpoints of what a native config's stage builds."""
    for mode in MODES:
        for id, loader in _sections(walk, f"system{ID_SEP_KEY}dataloaders{ID_SEP_KEY}{mode}"):
            yield from _loader(walk, id, loader)
    for id, callback in _sections(walk, f"trainer{ID_SEP_KEY}callbacks"):
        if _is_a(walk, callback, ModelCheckpoint):
            yield from _filename(walk, id)


def _sections(walk: Walk, id: str) -> Iterator[tuple[str, dict]]:
    """A component, or those of a list or section of several, each where it stands."""
    where, value = located(walk.needed, id)
    if isinstance(value, dict) and "_target_" in value:
        yield where, value
    elif isinstance(value, (dict, list)):
        for key in range(len(value)) if isinstance(value, list) else value:
            where_, item = located(walk.needed, f"{where}{ID_SEP_KEY}{key}")
            if isinstance(item, dict):
                yield where_, item


def _is_a(walk: Walk, section: Any, wanted: type) -> bool:
    name = section.get("_target_") if isinstance(section, dict) else None
    target = target_of(name, walk.locator) if isinstance(name, str) and is_text(name) else None
    return isinstance(target, type) and issubclass(target, wanted)


def _loader(walk: Walk, id: str, loader: dict) -> Iterator[Finding]:
    where, repeats = located(walk.needed, f"{id}{ID_SEP_KEY}repeats")
    if _is_a(walk, loader, ThreadDataLoader) and isinstance(repeats, int) and repeats > 1:
        problem = (
            f"must be 1, since an epoch has len(loader) batches and would leave out part of the cases, got {repeats}"
        )
        yield Finding(where, problem, "Leave it out; for more steps on each case raise max_epochs.")
    _, dataset = located(walk.needed, f"{id}{ID_SEP_KEY}dataset")
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
