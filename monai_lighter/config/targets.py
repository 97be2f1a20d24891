"""What is wrong with one component of a config: its ``_target_`` and the keywords it is given.

As in torchtune's ``config/_validate.py``, keywords are bound to the signatures of their targets without building anything.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pydoc import locate as locate_object
from typing import Any

import monai
from monai.bundle.config_item import ComponentLocator, ConfigComponent
from monai.utils.enums import CompInitMode

from monai_lighter.config.modules import missing_package
from monai_lighter.errors import Finding, Note, did_you_mean

__all__ = ["component", "instance_of", "target_of"]

SPECIAL_KEYS = ConfigComponent.non_arg_keys
MODES = tuple(mode.value for mode in CompInitMode)


def target_of(name: str, locator: ComponentLocator) -> Any:
    """The class or function that a ``_target_`` names; None where there is none."""
    return _import(_path(name, locator))[0]


def component(
    id: str, config: dict, name: Any, locator: ComponentLocator, written_for: str | None = None
) -> Iterator[Finding]:
    """Findings in a component: a target that is not there or no class, arguments that do not fit it.

    The module that a target is in is imported.

    Args:
        id: config id of the component.
        config: with ``_target_``.
        name: the target; one that is an expression or a reference is left alone.
        locator: MONAI's map from short class names to modules.
        written_for: the version of MONAI that the config is written for, where that is older than the one installed. An
            argument unlike any that there is may then be one of that version: a `Note`.
    """
    yield from _special(id, config)
    if isinstance(name, str) and name.startswith(("$", "@")):
        return
    if not isinstance(name, str):
        yield Finding(f"{id}::_target_", f"must be a class or function, got {name!r}", "Name one.")
        return
    target, error = _import(_path(name, locator))
    if target is None:
        yield _missing(f"{id}::_target_", name, error, locator)
        return
    if not callable(target):
        kind = type(target).__name__
        yield Finding(f"{id}::_target_", f"must be a class or function, got the {kind} {name}", "Name one.")
        return
    old = written_for if getattr(target, "__module__", "").partition(".")[0] == "monai" else None
    yield from _arguments(id, config, name, target, old)


def _special(id: str, config: dict) -> Iterator[Finding]:
    mode = config.get("_mode_", CompInitMode.DEFAULT.value)
    if not isinstance(mode, str) or (mode not in MODES and not mode.startswith(("$", "@"))):
        yield Finding(f"{id}::_mode_", f"must be one of {', '.join(MODES)}, got {mode!r}", did_you_mean(mode, MODES))
    for key in config:
        if isinstance(key, str) and key not in SPECIAL_KEYS and key.startswith("_") and key.endswith("_"):
            hint = did_you_mean(key, SPECIAL_KEYS)
            if hint.startswith("Did"):
                yield Finding(f"{id}::{key}", f"MONAI's configs have no key {key!r}", hint)


def _path(name: str, locator: ComponentLocator) -> str:
    module = locator.get_component_module_name(name)
    return f"{module[0] if isinstance(module, list) else module}.{name}" if module else name


def _missing(id: str, name: str, error: Exception | None, locator: ComponentLocator) -> Finding:
    if error is not None:
        cause = getattr(error, "value", error)
        absent = isinstance(cause, ModuleNotFoundError) and missing_package(cause.name or "", id)
        if absent:
            return type(absent)(id, f"{name!r} cannot be imported ({error})", absent.hint)
        return Finding(id, f"{name!r} cannot be imported ({error})", "Mend the module.")
    absent = missing_package(name, id) if "." in name else None
    if absent is None:
        return Finding(id, f"{name!r} cannot be found", _suggest(name, locator))
    if isinstance(absent, Note):
        package = name.partition(".")[0]
        return absent._replace(problem=f"{name!r} needs the package {package!r}, which is not installed")
    return absent._replace(problem=f"{name!r} cannot be found: {absent.problem}")


def _suggest(name: str, locator: ComponentLocator) -> str:
    module, _, last = name.rpartition(".")
    names: Iterable[str] = (locator._components_table or {}) if not module else dir(_import(module)[0] or object)
    hint = did_you_mean(last, names)
    if not hint.startswith("Did"):
        return "Mend the path, or install the package it is in." if module else "Give its full path, or mend the name."
    return hint.replace("'", f"'{module}.", 1) if module else hint


def _import(path: str) -> tuple[Any, Exception | None]:
    """The object at a dotted path, or None and what its module raised when it was imported."""
    try:
        return locate_object(path), None
    except Exception as error:  # pydoc.ErrorDuringImport: the module is there, and raises when imported
        return None, error


def _arguments(id: str, config: dict, name: str, target: Any, written_for: str | None) -> Iterator[Finding]:
    try:
        signature = inspect.signature(target)
    except (ValueError, TypeError):
        return
    parameters = signature.parameters.values()
    accepted = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    given = [key for key in config if key not in SPECIAL_KEYS]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for key in given:
            if key not in accepted and key != "_debug_":
                yield _unknown(f"{id}::{key}", str(key), config[key], name, accepted, written_for)
    if config.get("_mode_", "default") == "default":
        missing = [p.name for p in parameters if p.name in accepted and p.default is p.empty and p.name not in given]
        if missing:
            yield Finding(id, f"{name} needs {', '.join(map(repr, missing))}, got {given or 'no argument'}", "Add it.")


def _unknown(id: str, key: str, value: Any, name: str, accepted: Sequence[str], written_for: str | None) -> Finding:
    if written_for is None or get_close_matches(key, accepted, 1, 0.75):
        return Finding(id, f"{name} has no argument {key!r}, got {value!r:.80}", did_you_mean(key, accepted))
    problem = f"{name} of MONAI {monai.__version__} has no argument {key!r}, got {value!r:.80}"
    return Note(id, problem, f"The config is written for MONAI {written_for}: install that, or remove the argument.")


def instance_of(id: str, name: str, wanted: type, locator: ComponentLocator) -> Finding | None:
    """What is wrong where the target of ``system`` or ``trainer`` is a class, and not one of the wanted kind."""
    target = target_of(name, locator)
    if not inspect.isclass(target) or issubclass(target, wanted):
        return None
    bases = [base for base in target.__mro__ if base.__module__.startswith("pytorch_lightning.")]
    if any(base.__name__ == wanted.__name__ for base in bases):
        return None
    return Finding(f"{id}::_target_", f"must be a lightning.pytorch.{wanted.__name__}, got {name}", "Name one.")
