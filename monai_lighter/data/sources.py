"""The cases of a config, by mode: of all that it names only the data and the transforms of its datasets are built."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities.seed import isolate_rng
from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigComponent
from monai.bundle.utils import ID_SEP_KEY
from monai.data import (
    CacheDataset,
    CacheNTransDataset,
    Dataset,
    GDSDataset,
    LMDBDataset,
    PersistentDataset,
    SmartCacheDataset,
)
from monai.utils import set_determinism
from torch.utils.data import ConcatDataset, DataLoader, Subset
from torch.utils.data import Dataset as TorchDataset

from monai_lighter.check.targets import target_of
from monai_lighter.config.items import at, items, locate, located
from monai_lighter.config.resolver import LOCATOR, Resolver
from monai_lighter.config.stages import MODES
from monai_lighter.errors import BundleError, in_short

__all__ = ["CaseSource", "Sources", "find_sources"]

PLAIN = (Dataset, CacheDataset, SmartCacheDataset, PersistentDataset, CacheNTransDataset, LMDBDataset, GDSDataset)
"""Datasets that are their data and their transform; how they cache is left out."""
LOADERS_OF_ENGINES = {"train_data_loader": "train", "val_data_loader": "val", "data_loader": "data"}
"""Arguments of MONAI's engines that take a loader, and the mode of its cases."""


class CaseSource(NamedTuple):
    """The cases of one dataset.

    Attributes:
        mode: ``train``, ``val``, …; of a loader in a config of engines that no engine takes, the id of its dataset.
        id: config id of the dataset.
        cases: items of its data.
        transform: of the dataset; None where it has none.
    """

    mode: str
    id: str
    cases: Sequence
    transform: Any


class Sources(NamedTuple):
    """What a config has of cases.

    Attributes:
        found: by mode.
        failed: config id, mode, what is wrong and what to do, of data lists that cannot be built, or are empty.
        unknown: config id, mode and the reason, where cases cannot be told from what is made of them.
        tables: mode to the csv files that its data were built with.
    """

    found: list[CaseSource]
    failed: list[tuple[str, str, str, str]]
    unknown: list[tuple[str, str, str]]
    tables: dict[str, list[str]]


def find_sources(config: dict, native: bool, modes: Collection[str] = MODES, built: Collection[str] = ()) -> Sources:
    """Builds the data and the transforms of every dataset that a config's loaders have.

    Random states are as the config's ``seed`` sets them, so that a split of the data is that of the run, and are put back.

    Args:
        config: with its macros expanded; sections of a native config as ``add_defaults`` leaves them.
        native: whether the config has a ``system`` section.
        modes: of a native config, those to look at.
        built: of a config of engines, ids of the components that its run builds; empty for all.
    """
    parser = ConfigParser(_light(config))
    parser.locator = LOCATOR
    sources = Sources([], [], [], {})
    loaders = _native_loaders(config, modes) if native else _engine_loaders(config, built)
    with isolate_rng():
        for mode, id in dict.fromkeys(loaders):
            resolver = parser.ref_resolver = Resolver()
            parser.parse(reset=True)
            seed = parser.get("seed") if native else None
            if seed is not None:
                set_determinism(int(parser.get_parsed_content("seed")))
            _take(sources, parser, mode, id)
            files = [str(value) for value in resolver.resolved_content.values() if _is_table(value)]
            sources.tables[mode] = list(dict.fromkeys([*sources.tables.get(mode, []), *files]))
    return sources


def _take(sources: Sources, parser: ConfigParser, mode: str, id: str) -> None:
    try:
        value = parser.get_parsed_content(id)
    except Exception as error:
        where = error.id if isinstance(error, BundleError) and hasattr(error, "id") else id
        message = str(error).removeprefix(f"{where}: ") if isinstance(error, BundleError) else in_short(error)
        sources.failed.append((where, mode, message.rstrip("."), ""))
        return
    for dataset in _datasets(value.dataset if isinstance(value, DataLoader) else value):
        cases: Any = getattr(dataset, "data", None)
        if not isinstance(dataset, TorchDataset) or not _is_sequence(cases):
            reason = f"{type(dataset).__name__} has no `data` and `transform` as MONAI's Dataset has"
            sources.unknown.append((id, mode, reason))
        elif not len(cases):
            hint = "Put the data where the config finds them."
            sources.failed.append((id, mode, "the data must have cases, there is none", hint))
        else:
            sources.found.append(CaseSource(mode, id, cases, getattr(dataset, "transform", None)))


def _datasets(value: Any) -> Iterator[Any]:
    if isinstance(value, ConcatDataset):
        for each in value.datasets:
            yield from _datasets(each)
    elif isinstance(value, Subset):
        for each in _datasets(value.dataset):
            data = getattr(each, "data", None)
            whole = _is_sequence(data) and not isinstance(value.dataset, (ConcatDataset, Subset))
            yield Dataset([data[i] for i in value.indices], each.transform) if whole else value  # type: ignore[index]
    else:
        yield value


def _is_sequence(data: Any) -> bool:
    return hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, (str, Mapping))


def _is_table(value: Any) -> bool:
    named = isinstance(value, (str, Path)) and str(value).lower().endswith((".csv", ".tsv"))
    return named and Path(value).is_file()


def _native_loaders(config: dict, modes: Collection[str]) -> Iterator[tuple[str, str]]:
    for mode in modes:
        id = f"system{ID_SEP_KEY}dataloaders{ID_SEP_KEY}{mode}"
        if locate(config, id) is not None:
            yield from ((mode, each) for each in _of_loader(config, id))


def _of_loader(config: dict, id: str) -> Iterator[str]:
    """Ids of the datasets of a loader, or of several in a list or section; of a loader made otherwise, its own."""
    where, value = located(config, id)
    if isinstance(value, dict) and "_target_" not in value:
        for key in value:
            yield from _of_loader(config, f"{where}{ID_SEP_KEY}{key}")
    elif isinstance(value, list):
        for number in range(len(value)):
            yield from _of_loader(config, f"{where}{ID_SEP_KEY}{number}")
    elif isinstance(value, dict) and value.get("dataset") is not None:
        yield locate(config, f"{where}{ID_SEP_KEY}dataset") or f"{where}{ID_SEP_KEY}dataset"
    elif value is not None:
        yield where


def _engine_loaders(config: dict, built: Collection[str]) -> Iterator[tuple[str, str]]:
    """Datasets of the loaders that engines are given; where no engine is given one, all datasets that the run builds."""
    known = [id for id in built if locate(config, id) == id] or [id for id, _ in items(config) if id]
    taken = False
    for id in known:
        value = at(config, id)
        for name, mode in LOADERS_OF_ENGINES.items():
            if ConfigComponent.is_instantiable(value) and value.get(name) is not None:
                taken = True
                yield from ((mode, each) for each in _of_loader(config, f"{id}{ID_SEP_KEY}{name}"))
    for id in known if not taken else ():
        target = _target(at(config, id))
        if inspect.isclass(target) and issubclass(target, TorchDataset):
            yield id, id


def _target(value: Any) -> Any:
    name = value.get("_target_") if ConfigComponent.is_instantiable(value) else None
    return target_of(name, LOCATOR) if isinstance(name, str) and not name.startswith(("$", "@")) else None


def _light(config: Any) -> Any:
    """A copy of a config whose datasets are their data and transform alone: nothing is cached, in memory or on disk."""
    if isinstance(config, list):
        return [_light(value) for value in config]
    if not isinstance(config, dict):
        return config
    copy = {key: _light(value) for key, value in config.items()}
    target = _target(config)
    if target in PLAIN:
        kept = {key: copy[key] for key in ("data", "transform", *ConfigComponent.non_arg_keys) if key in copy}
        return {**kept, "_target_": _plain_dataset}
    if inspect.isclass(target) and issubclass(target, CacheDataset):
        copy["cache_rate"] = 0.0
    elif inspect.isclass(target) and issubclass(target, PersistentDataset):
        copy["cache_dir"] = None
    return copy


def _plain_dataset(data: Any = None, transform: Any = None) -> Dataset:
    return Dataset(data, transform)  # type: ignore[arg-type]
