"""Transforms that cannot do what they are for: in the wrong order, or of another number of dimensions than the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from monai.bundle.config_item import ConfigComponent
from monai.bundle.utils import ID_SEP_KEY
from monai.inferers import Inferer, SliceInferer
from monai.transforms import EnsureChannelFirst, EnsureChannelFirstd, LoadImage, LoadImaged
from monai.utils import ensure_tuple
from torch.nn import Module

from monai_lighter.check.walk import Walk
from monai_lighter.config.items import at, located
from monai_lighter.errors import Finding

__all__ = ["find_misplaced", "find_missized"]

LOADERS, CHANNELS = (LoadImage, LoadImaged), (EnsureChannelFirst, EnsureChannelFirstd)
GEOMETRIC = ("monai.transforms.spatial.", "monai.transforms.croppad.")
"""Modules of the transforms that take ``(C, H, W[, D])``."""
ON_IMAGES = (*GEOMETRIC, "monai.transforms.intensity.", "monai.transforms.post.")
"""Modules of the transforms that take an image."""
SIZES = ("pixdim", "roi_size", "spatial_size")
"""Arguments with a number for each axis."""


def find_misplaced(walk: Walk) -> Iterator[Finding]:
    """Transforms of a list that come before the one that makes of a file, or of an array, what they take."""
    for id in sorted(walk.visited):
        value = at(walk.needed, id) if _is_there(walk, id) else None
        if isinstance(value, list):
            yield from _order(walk, id, value)


def _is_there(walk: Walk, id: str) -> bool:
    try:
        at(walk.needed, id)
    except (KeyError, IndexError, ValueError):
        return False
    return True


def _order(walk: Walk, id: str, listed: list) -> Iterator[Finding]:
    found: list[tuple[int, type, set[str]]] = []
    for i, item in enumerate(listed):
        kind = walk.class_of(f"{id}{ID_SEP_KEY}{i}")
        if kind is not None and isinstance(item, dict) and not item.get("_disabled_"):
            keys = item.get("keys", "")
            found.append((i, kind, {*map(str, ensure_tuple(keys))}))
    for i, kind, keys in found:
        later = [(other, name) for j, name, more in found if j > i for other in [keys & more] if other]
        loader = next((name for _, name in later if issubclass(name, LOADERS)), None)
        channels = next((name for _, name in later if issubclass(name, CHANNELS)), None)
        where = f"{id}{ID_SEP_KEY}{i}"
        if loader is not None and kind.__module__.startswith(ON_IMAGES):
            yield Finding(
                where, f"{kind.__name__} takes an image, and comes before {loader.__name__}", "Move it behind."
            )
        elif channels is not None and kind.__module__.startswith(GEOMETRIC):
            problem = f"{kind.__name__} takes (C, H, W[, D]), and comes before {channels.__name__}"
            yield Finding(where, problem, "Move it behind, or write ensure_channel_first: true in LoadImaged.")


def find_missized(walk: Walk) -> Iterator[Finding]:
    """Spacings and sizes with fewer numbers than the network has axes, and of an inferer also with more.

    Of a spacing MONAI takes the last number for the axes that are left, so that a volume would get another one than is meant.
    """
    dims = {
        dims
        for id, kind in _built(walk, Module)
        for dims in [_value(walk, id, "spatial_dims")]
        if isinstance(dims, int)
    }
    if len(dims) != 1:
        return
    (count,) = dims
    for id, kind in _built(walk, object):
        infers = issubclass(kind, Inferer)
        if issubclass(kind, SliceInferer) or not (infers or kind.__module__.startswith("monai.transforms.")):
            continue
        for name in SIZES:
            where, size = located(walk.needed, f"{id}{ID_SEP_KEY}{name}")
            if isinstance(size, list) and (1 < len(size) < count or (infers and len(size) > count)):
                problem = f"must be {count} numbers, as many as the network has spatial_dims, got {size!r}"
                yield Finding(where, problem, "Give one for each axis.")


def _value(walk: Walk, id: str, name: str) -> Any:
    return located(walk.needed, f"{id}{ID_SEP_KEY}{name}")[1]


def _built(walk: Walk, wanted: type) -> Iterator[tuple[str, type]]:
    """Components of a kind of class that the walk has met."""
    for one in walk.built:
        config = at(walk.needed, one.id) if _is_there(walk, one.id) else None
        kind = walk.class_of(one.id) if ConfigComponent.is_instantiable(config) else None
        if kind is not None and issubclass(kind, wanted):
            yield one.id, kind
