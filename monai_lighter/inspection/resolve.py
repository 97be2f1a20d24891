"""What a dotted name leads to, as ``pydoc.locate`` finds it, importing nothing but the packages that are inspected.

MONAI resolves a ``_target_`` by its table of short names (``monai.bundle.ComponentLocator``), then by ``pydoc.locate``.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import os
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from monai_lighter.inspection.policy import HARMLESS_STDLIB, PACKAGES
from monai_lighter.inspection.report import Verdict

__all__ = ["MISSING", "Found", "Resolver", "Scope", "look_up", "parameters"]

MISSING = object()
COMMON = (
    "monai",
    "torch",
    "numpy",
    "lightning.pytorch",
    "torchmetrics",
    "ignite.metrics",
    "ignite.handlers",
    "monai_lighter",
)
STDLIB = frozenset(sys.stdlib_module_names)


class Found(NamedTuple):
    """Where a name leads.

    Attributes:
        kind: ``object``; ``bundle``: a module of the bundle itself; ``foreign``: a package that is not imported here; ``stdlib``:
            a module of the standard library that is not loaded; ``missing``: nothing of that name.
        name: dotted, as resolved.
        object: for ``object``.
    """

    kind: str
    name: str
    object: Any = None


@contextlib.contextmanager
def _own_path() -> Iterator[None]:
    """Takes the working directory off ``sys.path``, and everything printed away: a bundle may be the working directory."""
    before, here = list(sys.path), Path.cwd()
    sys.path[:] = [entry for entry in before if entry and Path(os.path.abspath(entry)) != here]
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.path[:] = before


@lru_cache(maxsize=1)
def _load_packages() -> dict[str, list[str]]:
    """Imports what is inspected, as far as it is installed; gives MONAI's table of short names."""
    with _own_path():
        for name in COMMON:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        locator = importlib.import_module("monai.bundle").ComponentLocator()
        locator.get_component_module_name("")
    return locator._components_table or {}


@lru_cache(maxsize=4096)
def _submodule(name: str) -> Any:
    """A module that may be imported and is not loaded yet; private ones and programs (``__main__``) stay unloaded."""
    parts = name.split(".")
    if (parts[0] not in PACKAGES and name not in HARMLESS_STDLIB) or any(
        not part.isidentifier() or part.startswith("_") for part in parts
    ):
        return MISSING
    if not {"tests", "testing", "f2py", "distutils", "conftest"}.isdisjoint(parts):
        return MISSING
    with _own_path(), contextlib.suppress(Exception, SystemExit):
        if importlib.util.find_spec(name) is not None:
            return importlib.import_module(name)
    return MISSING


def _is_there(name: str) -> bool:
    """Whether there is a module, not imported here, in a package of the standard library."""
    with _own_path(), contextlib.suppress(Exception):
        return importlib.util.find_spec(name) is not None
    return False


def look_up(name: str) -> Any:
    """The object at a dotted name, by way of loaded modules and their attributes alone; `MISSING` where there is none."""
    parts = name.split(".")
    value: Any = sys.modules.get(parts[0], MISSING)
    for part in parts[1:]:
        if value is MISSING:
            return MISSING
        value = _attribute(value, part)
    return value


def _attribute(value: Any, name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return getattr(value, name)
        except Exception:  # a module's __getattr__ may raise anything
            return MISSING


class Resolver:
    """Resolves the names of one bundle.

    Args:
        own_modules: names of the modules and packages at the root of the bundle, which is importable when it runs.
    """

    def __init__(self, own_modules: Collection[str] = ()) -> None:
        self.own_modules = frozenset(own_modules)

    def target(self, name: str) -> list[Found]:
        """All that a ``_target_`` may lead to; more than one where MONAI has a short name in several modules."""
        modules = _load_packages().get(name, [])
        if modules:
            return [self.dotted(f"{module}.{name}") for module in modules]
        parts = [part for part in name.split(".") if part]
        if len(parts) == 1 and parts[0] not in self.own_modules and hasattr(sys.modules["builtins"], parts[0]):
            return [self.dotted(f"builtins.{parts[0]}")]
        return [self.dotted(".".join(parts))]

    def dotted(self, name: str) -> Found:
        """Where a full dotted name leads."""
        root = name.split(".", maxsplit=1)[0]
        if root in self.own_modules:
            return Found("bundle", name)
        if root in PACKAGES:
            _load_packages()
        elif root not in STDLIB:
            return Found("foreign", name)
        elif root not in sys.modules and _submodule(root) is MISSING:
            return Found("stdlib", name)
        value = sys.modules.get(root, _submodule(root))
        if value is MISSING:
            return Found("foreign", name)
        return self._walk(value, name.split(".")[1:], root)

    def _walk(self, value: Any, rest: list[str], at: str) -> Found:
        for i, part in enumerate(rest):
            if isinstance(value, ModuleType):
                home = value.__name__.split(".")[0]
                if home not in PACKAGES and home not in STDLIB:
                    return Found("foreign", ".".join([value.__name__, *rest[i:]]))
                at = value.__name__
            following = _attribute(value, part)
            if following is MISSING and isinstance(value, ModuleType):
                following = _submodule(f"{at}.{part}")
                if following is MISSING and at.split(".")[0] not in PACKAGES and _is_there(f"{at}.{part}"):
                    return Found("stdlib", ".".join([at, *rest[i:]]))
            if following is MISSING:
                return Found("missing", ".".join([at, *rest[i:]]))
            value, at = following, f"{at}.{part}"
        if isinstance(value, ModuleType) and value.__name__.split(".")[0] not in {*PACKAGES, *STDLIB}:
            return Found("foreign", value.__name__)
        return Found("object", at, value)


def parameters(value: Any) -> list[str]:
    """Names of the arguments that a class takes by position; none where it is no class, or they are not known."""
    with contextlib.suppress(Exception):
        if inspect.isclass(value):
            kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            return [p.name for p in inspect.signature(value).parameters.values() if p.kind in kinds]
    return []


class Scope(Protocol):
    """What the names and references of a config stand for."""

    resolver: Resolver

    def names(self, name: str) -> Iterable[str]:
        """Dotted names that a name may stand for, from import statements anywhere in the bundle."""

    def referred(self, id: str) -> Iterable[str]:
        """Dotted names that the item of that id may evaluate to, where it is a plain name."""

    def held(self, id: str) -> Iterable[str]:
        """Dotted names of what the item of that id holds or refers to, where it is no plain name."""

    def located(self, id: str) -> Iterable[Verdict]:
        """What is not harmless, were the item of that id looked up by its name and called."""
