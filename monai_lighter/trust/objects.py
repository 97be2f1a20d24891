"""What a dotted name leads to, and whether that is on the list: by the identity of the object and where it is defined."""

from __future__ import annotations

import builtins
import enum
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch

from monai_lighter.trust.listed import BY_NAME, DIRECT, FIXED, FUNCTIONS, IMPORTED, KINDS, NAMED_TRANSFORMS

__all__ = [
    "Found",
    "builtin",
    "find",
    "is_class",
    "is_direct",
    "is_function",
    "is_listed_module",
    "is_value",
    "texts_of",
]

DOTTED = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)*", re.ASCII)
PLAIN = (str, int, float, bool, enum.Enum, torch.dtype, torch.layout, torch.memory_format, np.dtype)
VERSION = "__version__"


class Found(NamedTuple):
    """An object, and its name by the modules that are listed."""

    name: str
    object: Any


def _expanded(homes: str) -> Iterator[str]:
    """``x.{a b}`` is ``x.a x.b``."""
    for prefix, names, plain in re.findall(r"([\w.]+)\.\{([^}]*)\}|([\w.*]+)", homes):
        yield from (f"{prefix}.{name}" for name in names.split()) if prefix else (plain,)


@cache
def _homes(base: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """Modules in which classes derived from a base are listed, and beginnings of the names of such modules."""
    names = [*_expanded(KINDS[base])]
    wide = [name.removesuffix(".*") for name in names if name.endswith(".*")]
    return frozenset([*names, *wide]), tuple(f"{name}." for name in wide)


@cache
def _modules() -> tuple[frozenset[str], tuple[str, ...]]:
    """All modules that are listed, those around them, and beginnings of such names."""
    exact, wide = {*IMPORTED, *FUNCTIONS, *(name.rpartition(".")[0] for name in DIRECT)}, set()
    for base in KINDS:
        modules, beginnings = _homes(base)
        exact |= {name.removesuffix(".*") for name in modules}
        wide |= {*beginnings}
    around = {name[: match.start()] for name in exact for match in re.finditer(r"\.", name)}
    return frozenset(exact | around), tuple(wide)


def is_listed_module(name: str) -> bool:
    """Whether a module is listed, so that it may be imported to look for something in it."""
    exact, wide = _modules()
    return (name in exact or name.startswith(wide)) and not any(part.startswith("_") for part in name.split("."))


def find(name: str, start: Found | None = None) -> Found | None:
    """What a dotted name leads to, as MONAI finds it (``pydoc.locate``). Imports modules that are listed and no others.

    Args:
        name: from a module on, or from ``start``.
        start: where to begin.

    Returns:
        None where it leads to nothing, or there by another way than through listed modules.
    """
    if not DOTTED.fullmatch(name.replace(VERSION, "version")):
        return None
    parts = name.split(".")
    found = start or _imported(parts.pop(0))
    for part in parts:
        found = None if found is None else _inside(found, part)
    return found


def _imported(name: str) -> Found | None:
    if not is_listed_module(name):
        return None
    try:
        return Found(name, import_module(name))
    except Exception:  # not installed, or broken here
        return Found(name, None) if name in FUNCTIONS or name in IMPORTED else None


def _inside(found: Found, part: str) -> Found | None:
    name, value = f"{found.name}.{part}", found.object
    if part.startswith("_") and part != VERSION:
        return None
    if value is None:  # of a package that is not installed: the name alone
        return Found(name, None)
    if isinstance(value, ModuleType):
        if value is not sys.modules.get(value.__name__) or not is_listed_module(_listed_name(value)):
            return None
        name = f"{_listed_name(value)}.{part}"
        inner_module = f"{value.__name__}.{part}"
        if hasattr(value, "__path__") and _is_there(inner_module) and _imported(inner_module) is None:
            return None
    inner = getattr(value, part, found)
    if inner is found or (isinstance(inner, ModuleType) and not is_listed_module(_listed_name(inner))):
        return None
    return Found(_listed_name(inner) if isinstance(inner, ModuleType) else name, inner)


def _is_there(name: str) -> bool:
    return name in sys.modules or find_spec(name) is not None


def _listed_name(module: ModuleType) -> str:
    return "os.path" if module.__name__ in ("posixpath", "ntpath") else module.__name__


def is_class(value: Any) -> bool:
    """Whether an object is a class of a listed kind, defined in a module that is listed for it."""
    if not inspect.isclass(value):
        return False
    module = value.__module__
    defined: bool = getattr(sys.modules.get(module), value.__qualname__, None) is value
    if not defined:
        return False
    for base in KINDS:
        modules, beginnings = _homes(base)
        if (module in modules or module.startswith(beginnings)) and issubclass(value, _base(base)):
            return True
    return False


@cache
def _base(name: str) -> tuple[type, ...]:
    """A base class by its name; none where its package is not installed."""
    module, _, attribute = name.rpartition(".")
    try:
        return (getattr(import_module(module), attribute),)
    except (ImportError, AttributeError):
        return ()


def is_function(found: Found) -> bool:
    """Whether something is listed by its name, or is an object that is."""
    return found.name in _names() or (found.object is not None and id(found.object) in _identities(len(sys.modules)))


@cache
def _names() -> frozenset[str]:
    return frozenset(f"{module}.{name}" for module, names in FUNCTIONS.items() for name in names.split())


@cache
def _identities(_loaded: int) -> dict[int, Any]:
    """Listed functions and classes of the modules that are loaded, by their identity."""
    found: dict[int, Any] = {}
    for name in _names():
        module, _, attribute = name.rpartition(".")
        value = getattr(sys.modules.get(module), attribute, None)
        if inspect.isroutine(value) or inspect.isclass(value):
            found[id(value)] = value
    return found


def is_direct(found: Found) -> str | None:
    """The name in `DIRECT` of a function that may be called and not handed on."""
    if found.name in DIRECT:
        return found.name
    for name in DIRECT:
        module, _, attribute = name.rpartition(".")
        if found.object is not None and getattr(sys.modules.get(module), attribute, None) is found.object:
            return name
    return None


def is_value(found: Found) -> bool:
    """Whether an object may be handed on: as it stands, it can be called with anything."""
    value = found.object
    if is_function(found):
        return True
    if inspect.isclass(value) and (issubclass(value, np.generic) or issubclass(value, BaseException)):
        return value.__module__ in ("numpy", "builtins")
    if is_class(value):
        return not _is_open(value)
    return isinstance(value, PLAIN)


def _is_open(value: type) -> bool:
    """Whether a class has an argument that reaches something by its name, or arguments that are passed on unseen."""
    try:
        parameters = inspect.signature(value).parameters
    except (TypeError, ValueError):
        return True
    open_kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return any(
        name in BY_NAME or name in FIXED or parameter.kind in open_kinds for name, parameter in parameters.items()
    )


def texts_of(value: Any, argument: str) -> set | None:
    """The texts that an argument of a class may be; None where it may be anything."""
    if not inspect.isclass(value) or not value.__module__.startswith("monai."):
        return None
    if argument == "name":
        return next((texts for names, texts in NAMED_TRANSFORMS.items() if value.__name__ in names.split()), None)
    return BY_NAME.get(argument)


def builtin(name: str) -> Found | None:
    """A builtin of Python by its name."""
    return Found(f"builtins.{name}", getattr(builtins, name)) if hasattr(builtins, name) else None
