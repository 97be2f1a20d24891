"""What is wrong with one component of a config: its ``_target_`` and the keywords it is given.

As in torchtune's ``config/_validate.py``, keywords are bound to the signatures of their targets without building anything.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator
from difflib import get_close_matches
from importlib import import_module
from pydoc import locate as locate_object
from typing import Any

import monai
from monai.bundle.config_item import ComponentLocator, ConfigComponent
from monai.utils.enums import CompInitMode

import monai_lighter
from monai_lighter.check.former import suggest_former
from monai_lighter.check.modules import find_missing_package, is_module, list_modules
from monai_lighter.check.parameters import Accepted, Parameter, find_accepted
from monai_lighter.config.items import is_text
from monai_lighter.config.resolver import ARGS, CALLABLE
from monai_lighter.errors import Finding, Note, did_you_mean
from monai_lighter.internals import get_component_names

__all__ = [
    "Accepted",
    "component",
    "find_accepted",
    "find_misspelt_target",
    "instance_of",
    "names_component",
    "suggest_in_module",
    "suggest_short",
    "target_key",
    "target_of",
]

SPECIAL_KEYS = ConfigComponent.non_arg_keys | {ARGS}
MODES = tuple(mode.value for mode in CompInitMode)
OWN = ("scripts", "project")
"""Packages of a bundle's own modules."""


def target_of(name: str, locator: ComponentLocator) -> Any:
    """The class or function that a ``_target_`` names; None where there is none."""
    return _import(_path(name, locator))[0]


def component(
    id: str,
    config: dict,
    name: Any,
    locator: ComponentLocator,
    written_for: str | None = None,
    typed: Callable[[str, Parameter], None] | None = None,
    lenient: bool = False,
    scripted: bool = False,
) -> Iterator[Finding]:
    """Findings in a component: a target that is not there or no class, arguments that do not fit it.

    The module that a target is in is imported.

    Args:
        id: config id of the component.
        config: with ``_target_``.
        name: the target; one that is an expression or a reference is left alone.
        locator: MONAI's map from short class names to modules.
        written_for: the version of MONAI that the config is written for, where that is older than the one installed: what to
            install for an argument unlike any that there is.
        typed: called with the id of each argument whose parameter says what it may be, and with that parameter.
        lenient: whether what need not fail is a `Note`: an argument that a wrapper takes, and what is no class, which MONAI hands
            on as it is.
        scripted: whether there is code that may yet add a class to a module of MONAI's: a `Note` too.
    """
    accepted = None
    if not isinstance(name, str):
        yield Finding(f"{id}::_target_", f"must be a class or function, got {name!r}", "Name one.")
    elif is_text(name):
        target, error = _import(_path(name, locator))
        old = written_for if getattr(target, "__module__", "").partition(".")[0] == "monai" else None
        if target is None:
            found = _missing(f"{id}::_target_", name, error, locator)
            yield Note(*found) if scripted and error is None and name.startswith("monai.") else found
        elif not callable(target):
            kind = type(target).__name__
            found = Finding(f"{id}::_target_", f"must be a class or function, got the {kind} {name}", "Name one.")
            yield Note(*found) if lenient else found
        else:
            accepted = find_accepted(target)
    yield from _special(id, config, accepted or Accepted({}, [], True))
    if accepted is not None:
        may_take = lenient and _takes_more(target)
        for one in _arguments(id, config, name, target, accepted, old):
            yield Note(*one) if may_take else one
        for key, parameter in accepted.parameters.items():
            if typed is not None and key in config and not parameter.is_open:
                typed(f"{id}::{key}", parameter)


def _takes_more(target: Any) -> bool:
    """Whether a wrapper around a function or constructor takes keywords that the wrapped one does not name."""
    function = target.__init__ if inspect.isclass(target) else target
    if not hasattr(function, "__wrapped__"):
        return False
    outer = inspect.signature(function, follow_wrapped=False).parameters.values()
    return any(one.kind is one.VAR_KEYWORD for one in outer) and not function.__wrapped__.__module__.startswith(
        "monai."
    )


def target_key(section: dict, locator: ComponentLocator) -> str | None:
    """The key of a section without a ``_target_`` that was meant to be one."""
    for key, value in section.items():
        meant = _special_key(key) if isinstance(key, str) and isinstance(value, str) else None
        if meant == "_target_" and (key.startswith("_") or names_component(value, locator)):
            return key
    return None


def names_component(text: str, locator: ComponentLocator) -> bool:
    """Whether a text is a ``_target_`` that can be found: a path with a module, or a short name of MONAI's."""
    if not re.fullmatch(r"[A-Za-z_][\w.]*", text) or ("." not in text and _path(text, locator) == text):
        return False
    return callable(target_of(text, locator))


def _special_key(key: str) -> str | None:
    """The key of MONAI's configs that one with an underscore at an end was meant to be; None for those and for others."""
    if key in SPECIAL_KEYS or not (key.startswith("_") or key.endswith("_")):
        return None
    close = get_close_matches(f"_{key.strip('_').lower()}_", SPECIAL_KEYS, 1, 0.8)
    return close[0] if close else None


def find_misspelt_target(id: str, section: dict, locator: ComponentLocator) -> Iterator[Finding]:
    """A finding in a section that is no component for want of a ``_target_`` that is spelt right."""
    key = target_key(section, locator)
    if key is not None:
        problem = f"MONAI's configs have no key {key!r}, got {section[key]!r:.80}"
        yield Finding(f"{id}::{key}", problem, "Did you mean '_target_'?")


def _special(id: str, config: dict, accepted: Accepted) -> Iterator[Finding]:
    mode = config.get("_mode_", CompInitMode.DEFAULT.value)
    if not isinstance(mode, str) or (mode not in MODES and is_text(mode)):
        yield Finding(f"{id}::_mode_", f"must be one of {', '.join(MODES)}, got {mode!r}", did_you_mean(mode, MODES))
    if not isinstance(config.get(ARGS, []), list):
        yield Finding(f"{id}::{ARGS}", f"must be a list of arguments, got {config[ARGS]!r:.80}", "Write a list.")
    for key in config:
        meant = _meant(key, accepted)
        if meant is not None:
            yield Finding(f"{id}::{key}", f"MONAI's configs have no key {key!r}", f"Did you mean {meant!r}?")


def _meant(key: Any, accepted: Accepted) -> str | None:
    """The special key that one of a component was meant to be; what the target may take is left alone."""
    if not isinstance(key, str) or key in accepted.parameters or (accepted.is_open and not key.startswith("_")):
        return None
    return _special_key(key)


def _path(name: str, locator: ComponentLocator) -> str:
    module = locator.get_component_module_name(name)
    return f"{module[0] if isinstance(module, list) else module}.{name}" if module else name


def _missing(id: str, name: str, error: Exception | None, locator: ComponentLocator) -> Finding:
    if error is not None:
        cause = getattr(error, "value", error)
        absent = isinstance(cause, ModuleNotFoundError) and find_missing_package(cause.name or "", id)
        if absent:
            return Finding(id, f"{name!r} cannot be imported ({error})", absent.hint)
        return Finding(id, f"{name!r} cannot be imported ({error})", "Mend the module.")
    absent = find_missing_package(name, id) if "." in name else None
    own = next((f"{package}.{name}" for package in OWN if is_module(f"{package}.{name}".rpartition(".")[0])), None)
    if own is not None and "." in name:
        return Finding(id, f"{name!r} cannot be found", f"Did you mean {own!r}?")
    if absent is None:
        return Finding(id, f"{name!r} cannot be found", _suggest(name, locator))
    if isinstance(absent, Note):
        package = name.partition(".")[0]
        return Finding(id, f"{name!r} needs the package {package!r}, which is not installed", absent.hint)
    return absent._replace(problem=f"{name!r} cannot be found: {absent.problem}")


def _suggest(name: str, locator: ComponentLocator) -> str:
    module, _, last = name.rpartition(".")
    return suggest_in_module(module, _import(module)[0], last) if module else suggest_short(name, locator)


def _import(path: str) -> tuple[Any, Exception | None]:
    """The object at a dotted path, or None and what its module raised when it was imported."""
    try:
        return locate_object(path), None
    except Exception as error:  # pydoc.ErrorDuringImport: the module is there, and raises when imported
        return None, error


def _arguments(
    id: str, config: dict, name: str, target: Any, accepted: Accepted, written_for: str | None
) -> Iterator[Finding]:
    given = [key for key in config if key not in SPECIAL_KEYS and _meant(key, accepted) is None]
    for key in given:
        if key in accepted.parameters or key == "_debug_":
            continue
        if not accepted.is_open:
            former = suggest_former(target, str(key), config[key])
            yield _unknown(f"{id}::{key}", str(key), config[key], name, accepted.parameters, written_for, former)
        elif get_close_matches(str(key), accepted.parameters, 1, 0.8):
            problem = f"{name} may have no argument {key!r}, got {config[key]!r:.80}"
            yield Note(f"{id}::{key}", problem, did_you_mean(str(key), accepted.parameters))
    positional = [*accepted.parameters][: len(config.get(ARGS) or ())]
    missing = [key for key in accepted.required if key not in (*given, *positional)]
    if missing and config.get("_mode_", "default") == "default":
        hint = "Add it." if inspect.isclass(target) else f"Add it; where the function itself is meant, {CALLABLE}."
        yield Finding(id, f"{name} needs {', '.join(map(repr, missing))}, got {given or 'no argument'}", hint)


def _unknown(
    id: str,
    key: str,
    value: Any,
    name: str,
    accepted: Collection[str],
    written_for: str | None,
    former: str | None,
) -> Finding:
    if former or written_for is None or get_close_matches(key.lower(), [name.lower() for name in accepted], 1, 0.75):
        hint = former or did_you_mean(key, accepted)
        return Finding(id, f"{name} has no argument {key!r}, got {value!r:.80}", hint)
    problem = f"{name} of MONAI {monai.__version__} has no argument {key!r}, got {value!r:.80}"
    return Finding(id, problem, f"The config is written for MONAI {written_for}: install that, or remove the argument.")


def instance_of(id: str, name: str, wanted: type, locator: ComponentLocator) -> Finding | None:
    """What is wrong where the target of ``system`` or ``trainer`` is a class, and not one of the wanted kind."""
    target = target_of(name, locator)
    if not inspect.isclass(target) or issubclass(target, wanted):
        return None
    bases = [base for base in target.__mro__ if base.__module__.startswith("pytorch_lightning.")]
    if any(base.__name__ == wanted.__name__ for base in bases):
        return None
    return Finding(f"{id}::_target_", f"must be a lightning.pytorch.{wanted.__name__}, got {name}", "Name one.")


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
    paths = {last: f"{module}.{last}" for module in OTHERS for last in _classes(import_module(module))}
    paths |= {last: f"monai_lighter.{last}" for last in monai_lighter.__all__}
    return paths | {last: last for last in get_component_names(locator)}


def suggest_in_module(module: str, found: Any, last: str) -> str:
    """For a name in a module that is there, or, as None, is not."""
    hint = did_you_mean(last, dir(found or object))
    if hint.startswith("Did"):
        return hint.replace("'", f"'{module}.", 1)
    parent, _, name = module.rpartition(".")
    hint = did_you_mean(name, list_modules(parent)) if parent and found is None else ""
    return hint.replace("'", f"'{parent}.", 1) if hint else "Mend the path, or install the package it is in."


def _classes(module: Any) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, type) and not name.startswith("_")]
