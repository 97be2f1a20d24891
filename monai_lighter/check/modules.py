"""Which modules there are, without importing them."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from monai.bundle.config_item import ConfigExpression

from monai_lighter.errors import Finding, Note, did_you_mean
from monai_lighter.errors.packages import find_install_command

__all__ = [
    "breaks_imports",
    "close_name",
    "find_missing_attribute",
    "find_missing_package",
    "import_findings",
    "imported",
    "is_import",
    "is_module",
    "list_modules",
]


def is_module(path: str) -> bool:
    """Whether a dotted path names a module that could be imported. Nothing is."""
    names = path.split(".")
    try:
        spec = importlib.util.find_spec(names[0])
    except (ValueError, ImportError):
        return names[0] in sys.modules
    for i in range(1, len(names)):
        folders = None if spec is None else spec.submodule_search_locations
        if folders is None:
            return ".".join(names) in sys.modules
        spec = importlib.machinery.PathFinder.find_spec(".".join(names[: i + 1]), list(folders))
    return spec is not None or path in sys.modules


def list_modules(package: str) -> list[str]:
    """Names of the modules of a package, without importing any; none where there is no such package."""
    try:
        spec = importlib.util.find_spec(package)
    except (ValueError, ImportError):
        return []
    return [] if spec is None else [module.name for module in pkgutil.iter_modules(spec.submodule_search_locations)]


def find_missing_package(path: str, id: str) -> Finding | None:
    """What is wrong with a dotted path whose first name is no package: a finding where that is nearly the name of one.

    Returns:
        None where there is such a package; a `Note` where it may just not be installed here.
    """
    package = path.partition(".")[0]
    if not package or is_module(package):
        return None
    near = _near(package)
    if near is not None:
        return Finding(id, f"there is no package {package!r}", f"Did you mean {near!r}?")
    hint = f"If the run needs it: {find_install_command(package)}. Else mend the name."
    return Note(id, f"the package {package!r} is not installed", hint)


def find_missing_attribute(id: str, module: ModuleType, name: str, text: str) -> Iterator[Finding]:
    """A finding where an imported module has no such attribute or submodule."""
    if not hasattr(module, name) and not is_module(f"{module.__name__}.{name}"):
        hint = close_name(name, dir(module)) or "Mend the name."
        yield Finding(id, f"{module.__name__} has no attribute {name!r}, in {text[:120]!r}", hint)


def close_name(word: str, options: Iterable[Any]) -> str:
    """``Did you mean 'x'?`` where one of the names is close, else nothing."""
    hint = did_you_mean(word, [str(option) for option in options if not str(option).startswith("__")])
    return hint if hint.startswith("Did") else ""


def _near(package: str) -> str | None:
    known = {*sys.stdlib_module_names, *(module.name for module in pkgutil.iter_modules())}
    swapped = [name for name in known if sorted(name) == sorted(package)]
    return next(iter([*swapped, *(get_close_matches(package, known, 1, 0.8) if len(package) > 4 else ())]), None)


def is_import(config: Any) -> bool:
    """Whether an item of a config is an import statement."""
    return any(imported(config))


def breaks_imports(config: Any) -> bool:
    """Whether MONAI fails at an item as it looks for import statements, which it does before it resolves anything.

    It parses whatever has the letters ``import``, with the ``@`` of references still in it.
    """
    try:
        ConfigExpression.is_import_statement(config)
    except (SyntaxError, ValueError):
        return True
    return False


def imported(config: Any) -> Iterator[tuple[str, str, str, str]]:
    """The statement, the name it defines, the module and the attribute of it, as MONAI reads import statements."""
    if breaks_imports(config) or not ConfigExpression.is_import_statement(config):
        return
    (node, *_) = ast.parse(config[1:]).body
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        first = node.names[0]  # the others are left out
        module = (node.module or "") if isinstance(node, ast.ImportFrom) else first.name
        attribute = first.name if isinstance(node, ast.ImportFrom) else ""
        yield config, first.asname or first.name, module, attribute


def import_findings(id: str, config: str) -> Iterator[Finding]:
    """All that is wrong with one import statement."""
    for text, _, module, attribute in imported(config):
        absent = find_missing_package(module, id)
        if absent is not None:
            yield absent._replace(problem=f"{absent.problem}, in {text!r}")
        elif not is_module(module):
            yield Finding(id, f"there is no module {module!r}, in {text!r}", "Mend the path.")
        elif attribute and module in sys.modules:
            yield from find_missing_attribute(id, sys.modules[module], attribute, text)
        if len(_aliases(text)) > 1:
            hint = "Give each an item of its own."
            yield Note(id, f"MONAI imports the first of several names alone, in {text!r}", hint)


def _aliases(text: str) -> list[ast.alias]:
    (node, *_) = ast.parse(text[1:]).body
    return node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else []
