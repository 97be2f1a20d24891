"""The way of one case through the transforms of a dataset to a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

from monai.bundle import ConfigParser
from monai.transforms import Compose
from monai.transforms.transform import apply_transform
from torch.utils.data import DataLoader

from monai_lighter.config.items import locate
from monai_lighter.trace.dry_config import Skipped
from monai_lighter.trace.rows import Rows, run_step

__all__ = ["make_batch", "take_loader", "watch"]


def take_loader(loaders: Any) -> Any:
    """Take the first loader of a list or dict of them, at any depth; a single one is given back."""
    while isinstance(loaders, (list, tuple, Mapping)) and loaders:
        loaders = next(iter(loaders.values())) if isinstance(loaders, Mapping) else loaders[0]
    return loaders


def make_batch(rows: Rows, parser: ConfigParser, id: str, loader: Any) -> tuple[Any, Any]:
    """Make a batch of as many copies of one case as the loader makes batches of, transform by transform, and the case.

    Args:
        rows: to which the way is added.
        parser: of the config, for errors.
        id: config id of the loader.
        loader: a torch DataLoader on one case; of any other the first batch is taken as it comes.

    Raises:
        TraceError: what a transform, the reader or the collation raised, with the transform and the case.
    """
    if not isinstance(loader, DataLoader):
        return rows.run(id, lambda: next(iter(loader))), None
    dataset: Any = loader.dataset
    data, transform = getattr(dataset, "data", None), getattr(dataset, "transform", None)
    case = data[0] if isinstance(data, (list, tuple)) and data and callable(transform) else None
    if case is not None:
        where = f"{id}::dataset::transform"
        item = _transform(rows, locate(parser.get(), where) or where, transform, case)
    else:
        item = rows.run(f"{id}::dataset, {type(dataset).__name__}", lambda: next(iter(dataset)))
    if loader.batch_size is None:
        return item, case
    collate: Any = loader.collate_fn
    return rows.run(f"batch of {loader.batch_size}", collate, [item] * loader.batch_size, about=case), case


def _transform(rows: Rows, id: str, transform: Any, case: Any) -> Any:
    item = deepcopy(case)
    for number, (single, compose) in enumerate(_flatten(transform)):
        keywords: dict[str, Any] = (
            {} if compose is None else {"map_items": compose.map_items, "unpack_items": compose.unpack_items}
        )
        call = partial(apply_transform, single, lazy=False, **keywords)
        where = f"{id}: transform {number}, {type(single).__name__},"
        item = rows.run(type(single).__name__, partial(run_step, where, case, call), item, before=_copy(item))
    return item


def _copy(item: Any) -> Any:
    """Containers are copied, images are not: transforms may change an item in place."""
    if isinstance(item, Mapping):
        return {key: _copy(value) for key, value in item.items()}
    return [_copy(value) for value in item] if isinstance(item, (list, tuple)) else item


def _flatten(transform: Any, outer: Compose | None = None) -> Iterator[tuple[Any, Compose | None]]:
    """Transforms in order, with the ``Compose`` that each is in; those that choose among theirs are one."""
    if type(transform) is Compose:
        for inner in transform.transforms:
            yield from _flatten(inner, transform)
    else:
        yield transform, outer


class _Watched:
    """A transform of a postprocessing, whose first call adds its rows."""

    def __init__(self, rows: Rows, where: str, transform: Any) -> None:
        self.rows, self.where, self.transform, self.called = rows, where, transform, False

    def __call__(self, data: Any, *arguments: Any, **keywords: Any) -> Any:
        if self.called:
            return self.transform(data, *arguments, **keywords)
        self.called = True
        name, before = type(self.transform).__name__, _copy(data)
        call = partial(run_step, f"{self.where}, {name},", data, partial(self.transform, **keywords))
        return self.rows.run(name, call, data, *arguments, before=before)


def watch(rows: Rows, id: str, transform: Any) -> Any:
    """Give a postprocessing that adds rows for the first item that it is called with; a ``Compose`` is changed in place.

    Args:
        rows: to which they are added.
        id: config id of the postprocessing, for errors.
        transform: the postprocessing.
    """
    if type(transform) is not Compose:
        return _Watched(rows, id, transform)
    transform.transforms = tuple(
        watch(rows, id, each) if type(each) is Compose else _Watched(rows, f"{id}: transform {number}", each)
        for number, each in enumerate(transform.transforms)
        if not isinstance(each, Skipped)
    )
    return transform
