"""What is wrong with one component of a config: its ``_target_`` and the keywords it is given.

As in torchtune's ``config/_validate.py``, keywords are bound to the signatures of their targets without building anything.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from pydoc import locate as locate_object
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from monai.bundle.config_item import ComponentLocator, ConfigComponent

from monai_lighter.errors import Finding, did_you_mean

__all__ = ["component"]

SPECIAL_KEYS = ConfigComponent.non_arg_keys


def component(id: str, config: dict, locator: ComponentLocator) -> Iterator[Finding]:
    """Findings in a component: a target that is not there or no class, arguments that do not fit it.

    Args:
        id: config id of the component.
        config: with ``_target_``. One that is an expression or a reference is left alone.
        locator: MONAI's map from short class names to modules.
    """
    name = config["_target_"]
    if isinstance(name, str) and name.startswith(("$", "@")):
        return
    if not isinstance(name, str):
        yield Finding(f"{id}::_target_", f"must be a class or function, got {name!r}", "Name one.")
        return
    module = locator.get_component_module_name(name)
    path = f"{module[0] if isinstance(module, list) else module}.{name}" if module else name
    target, error = _import(path)
    if target is None:
        yield Finding(f"{id}::_target_", f"{name!r} cannot be {error or 'found'}", _suggest(name, locator))
        return
    if not callable(target):
        kind = type(target).__name__
        yield Finding(f"{id}::_target_", f"must be a class or function, got the {kind} {name}", "Name one.")
        return
    yield from _arguments(id, config, name, target)
    yield from _kind(id, name, target)


def _suggest(name: str, locator: ComponentLocator) -> str:
    module, _, last = name.rpartition(".")
    names: Iterable[str] = (locator._components_table or {}) if not module else dir(_import(module)[0] or object)
    hint = did_you_mean(last, names)
    if not hint.startswith("Did"):
        return "Mend the path, or install the package it is in."
    return hint.replace("'", f"'{module}.", 1) if module else hint


def _import(path: str) -> tuple[Any, str]:
    """The object at a dotted path, or None and why it cannot be had."""
    try:
        return locate_object(path), ""
    except Exception as error:  # pydoc.ErrorDuringImport: the module is there, and raises when imported
        return None, f"imported ({error})"


def _arguments(id: str, config: dict, name: str, target: Any) -> Iterator[Finding]:
    try:
        signature = inspect.signature(target)
    except (ValueError, TypeError):
        return
    parameters = signature.parameters.values()
    accepted = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    given = [key for key in config if key not in SPECIAL_KEYS]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for key in given:
            if key not in accepted:
                problem = f"{name} has no argument {key!r}, got {config[key]!r:.80}"
                yield Finding(f"{id}::{key}", problem, did_you_mean(key, accepted))
    if config.get("_mode_", "default") == "default":
        missing = [p.name for p in parameters if p.name in accepted and p.default is p.empty and p.name not in given]
        if missing:
            yield Finding(id, f"{name} needs {', '.join(map(repr, missing))}, got {given or 'no argument'}", "Add it.")


def _kind(id: str, name: str, target: Any) -> Iterator[Finding]:
    """``system`` must be a LightningModule and ``trainer`` a Trainer, where a class says so."""
    wanted = {"system": LightningModule, "trainer": Trainer}.get(id)
    if wanted is None or not inspect.isclass(target) or issubclass(target, wanted):
        return
    if any(
        base.__module__.startswith("pytorch_lightning.") and base.__name__ == wanted.__name__ for base in target.__mro__
    ):
        return
    yield Finding(f"{id}::_target_", f"must be a lightning.pytorch.{wanted.__name__}, got {name}", "Name one.")
