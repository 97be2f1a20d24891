"""What a ``_target_`` that cannot be found was meant to be."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from monai.bundle.config_item import ComponentLocator

import monai_lighter
from monai_lighter.errors import did_you_mean

__all__ = ["suggest_in_module", "suggest_short"]

OTHERS = (
    "torch.nn",
    "torch.optim",
    "torch.optim.lr_scheduler",
    "lightning.pytorch.loggers",
    "lightning.pytorch.callbacks",
)
"""Modules whose classes are often meant by a name without a module; of two that have one, the last counts."""


def known_path(name: str, locator: ComponentLocator) -> str | None:
    """What to write for a name without a module that is exactly one of those `suggest_short` knows."""
    return _paths(locator).get(name)


def suggest_short(name: str, locator: ComponentLocator) -> str:
    """For a name without a module: the closest of MONAI's short names, of this package's and of those often beside them."""
    paths = _paths(locator)
    hint = did_you_mean(name, paths)
    if not hint.startswith("Did"):
        return "Give its full path, or mend the name."
    return re.sub(r"'(.+)'", lambda match: repr(paths[match[1]]), hint)


def _paths(locator: ComponentLocator) -> dict[str, str]:
    locator.get_component_module_name("")  # which makes the table
    paths = {last: f"{module}.{last}" for module in OTHERS for last in _classes(import_module(module))}
    paths |= {last: f"monai_lighter.{last}" for last in monai_lighter.__all__}
    return paths | {last: last for last in locator._components_table or {}}


def suggest_in_module(module: str, found: Any, last: str) -> str:
    """For a name in a module that is there, or, as None, is not."""
    hint = did_you_mean(last, dir(found or object))
    if not hint.startswith("Did"):
        return "Mend the path, or install the package it is in."
    return hint.replace("'", f"'{module}.", 1)


def _classes(module: Any) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, type) and not name.startswith("_")]
