"""The dry config that a trace builds: one case, no workers, nothing that writes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from monai.bundle.config_item import ComponentLocator, ConfigComponent
from monai.data import CacheDataset, LMDBDataset, PersistentDataset, SmartCacheDataset
from monai.transforms import SaveClassificationd, SaveImage, SaveImaged
from torch.utils.data import DataLoader, Dataset

from monai_lighter.check.targets import target_of
from monai_lighter.models import load_weights
from monai_lighter.trace.rows import TraceError

__all__ = ["Skipped", "make_dry_config", "silence_trainer"]

WRITERS = (SaveImage, SaveImaged, SaveClassificationd)
WORKERS = (
    "persistent_workers",
    "prefetch_factor",
    "timeout",
    "multiprocessing_context",
    "worker_init_fn",
    "pin_memory",
)
QUIET = {"callbacks": [], "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}


class Skipped:
    """Stands where something that writes, or that handles events, would be: gives back what it is given.

    Args:
        name: of what it stands for.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, data: Any, *arguments: Any, **keywords: Any) -> Any:
        return data

    def attach(self, engine: Any) -> None:
        """Handles no event."""


class Constructor:
    """A ``_target_`` that calls another with other arguments, and is called by the other's name in messages."""

    def __init__(self, name: str, call: Callable) -> None:
        self.name, self.call = name, call

    def __call__(self, **keywords: Any) -> Any:
        return self.call(**keywords)

    def __repr__(self) -> str:
        return self.name


def make_dry_config(config: Any, locator: ComponentLocator, case: int, id: str = "") -> Any:
    """Copy a config so that datasets have one case, loaders no workers, and handlers and writers do nothing.

    Args:
        config: macros expanded.
        locator: MONAI's map from short class names to modules.
        case: index of the case.
        id: config id of the item.
    """
    if isinstance(config, list):
        return [make_dry_config(item, locator, case, f"{id}::{i}") for i, item in enumerate(config)]
    if not isinstance(config, dict):
        return config
    name = config.get("_target_")
    plain = ConfigComponent.is_instantiable(config) and isinstance(name, str) and not name.startswith(("$", "@"))
    target = target_of(str(name), locator) if plain else None
    if inspect.isclass(target) and (issubclass(target, WRITERS) or _handles_events(target)):
        kept = {key: config[key] for key in ("_disabled_",) if key in config}
        return {"_target_": Constructor(str(name), lambda: Skipped(str(name))), **kept}
    copy = {key: make_dry_config(value, locator, case, f"{id}::{key}".lstrip(":")) for key, value in config.items()}
    if inspect.isclass(target) and issubclass(target, Dataset) and "data" in copy:
        build: Any = target
        if issubclass(target, CacheDataset) and not issubclass(target, SmartCacheDataset):
            copy["cache_rate"] = 0.0  # else it would send the case through its transforms at once
        elif issubclass(target, PersistentDataset) and not issubclass(target, LMDBDataset):
            copy["cache_dir"] = None
        copy["_target_"] = Constructor(
            str(name), lambda data, **others: build(data=_keep_case(data, case, id), **others)
        )
    elif target is load_weights:
        copy["_target_"] = Constructor(str(name), _load_weights_if_there)
    elif inspect.isclass(target) and issubclass(target, DataLoader):
        copy = {key: value for key, value in copy.items() if key not in WORKERS}
        copy["num_workers"] = 0
    return copy


def silence_trainer(config: dict) -> None:
    """Take callbacks, loggers and checkpoints out of the ``trainer`` section of a config, in place."""
    if isinstance(config.get("trainer"), dict):
        config["trainer"].update(QUIET)


def _handles_events(target: type) -> bool:
    """Whether a class is an event handler, and neither an engine nor a metric."""
    names = {base.__name__ for base in target.__mro__ if base.__module__.partition(".")[0] == "ignite"}
    return hasattr(target, "attach") and not names & {"Engine", "Metric"}


def _load_weights_if_there(model: Any, **others: Any) -> Any:
    try:
        return load_weights(model=model, **others)
    except FileNotFoundError:
        return model


def _keep_case(data: Any, case: int, id: str) -> Any:
    if not isinstance(data, (list, tuple)):
        return data
    if not -len(data) <= case < len(data):
        if not data:
            raise TraceError(f"{id}::data: must have cases, there is none. Put the data where the config finds them.")
        raise TraceError(f"{id}::data: has no case {case}, there are {len(data)}. Give --case 0 to {len(data) - 1}.")
    return [data[case]]
