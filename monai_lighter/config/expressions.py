"""What is wrong with a ``$`` expression, seen without running it: its syntax, names, modules, attributes and calls."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import symtable
import sys
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from monai.bundle.config_item import ConfigExpression
from monai.bundle.reference_resolver import ReferenceResolver

from monai_lighter.config.modules import is_module, missing_package
from monai_lighter.config.overrides import items
from monai_lighter.errors import Finding, Note, did_you_mean

__all__ = ["Expressions", "copied_from", "is_import"]

REFERENCES = ReferenceResolver._vars
UNKNOWN = object()


def is_import(config: Any) -> bool:
    """Whether an item of a config is an import statement."""
    return any(_imported(config))


def _as_python(config: str) -> str:
    """The Python of an expression as MONAI evaluates it, which not every f-string takes."""
    source = ReferenceResolver.normalize_id(config[1:].strip())
    return ReferenceResolver.id_matcher.sub(lambda match: f"{REFERENCES}['{match.group()[1:]}']", source)


def copied_from(config: str) -> str | None:
    """The id of the item whose class an expression has: ``$@item``, ``$@item.to(…)``; None for any other."""
    try:
        node: Any = ast.parse(_as_python(config), mode="eval").body
    except SyntaxError:
        return None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("to", "cuda", "cpu"):
        node = node.func.value
    return _reference(node)


def _reference(node: Any) -> str | None:
    is_reference = isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == REFERENCES
    return node.slice.value if is_reference else None


class Expressions:
    """The expressions of a config, in which every import statement of it counts.

    Args:
        config: macros expanded.
        names: what MONAI defines beside (``ConfigParser.globals``).
        class_of: gives the class of what an item will be; None where that is not known.
    """

    def __init__(self, config: Any, names: dict[str, Any], class_of: Callable[[str], type | None]) -> None:
        self.class_of = class_of
        self.names = {**vars(builtins), **names, REFERENCES: UNKNOWN}
        for _, value in items(config):
            for _, name, module, attribute in _imported(value):
                found = sys.modules.get(module, UNKNOWN)
                self.names[name] = getattr(found, attribute, UNKNOWN) if attribute else found

    def findings(self, id: str, config: str) -> Iterator[Finding]:
        """All that is wrong with one expression."""
        if is_import(config):
            for text, _, module, attribute in _imported(config):
                yield from _import(id, text, module, attribute)
            return
        try:
            source = _as_python(config)
            tree = ast.parse(source, mode="eval")
            table = symtable.symtable(source, "expression", "eval")
        except SyntaxError as error:
            problem = f"is not a valid expression ({error.msg}), got {config[:200]!r}"
            yield Finding(id, problem, "Mend the Python in it.")
            return
        bound, free = _names(table)
        for name in sorted(free - self.names.keys()):
            yield self._undefined(id, config, name)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                yield from self._attribute(id, config, node, bound)
            elif isinstance(node, ast.Call):
                yield from self._call(id, config, node, bound)

    def _undefined(self, id: str, config: str, name: str) -> Finding:
        close = get_close_matches(name, [known for known in self.names if not known.startswith("_")], 1, 0.75)
        hint = f"Did you mean {close[0]!r}?" if close else f"Import it, in an item of its own: $import {name}."
        return Finding(id, f"uses the name {name!r}, which nothing defines, in {config[:120]!r}", hint)

    def _value(self, node: Any, bound: set[str]) -> Any:
        """What a dotted name stands for, as far as modules and their attributes go."""
        if isinstance(node, ast.Name):
            return UNKNOWN if node.id in bound else self.names.get(node.id, UNKNOWN)
        if isinstance(node, ast.Attribute):
            owner = self._value(node.value, bound)
            return getattr(owner, node.attr, UNKNOWN) if isinstance(owner, ModuleType) else UNKNOWN
        return UNKNOWN

    def _attribute(self, id: str, config: str, node: ast.Attribute, bound: set[str]) -> Iterator[Finding]:
        owner = self._value(node.value, bound)
        if isinstance(owner, ModuleType):
            yield from _absent(id, owner, node.attr, config)
            return
        reference = _reference(node.value)
        owner = None if reference is None else self.class_of(reference)
        if owner is not None and not hasattr(owner, node.attr) and not _mentions(owner, node.attr):
            hint = _close(node.attr, dir(owner))
            if hint:  # else it may be set in a way that cannot be seen
                problem = f"{owner.__name__} (@{reference}) has no attribute {node.attr!r}, in {config[:120]!r}"
                yield Finding(id, problem, hint)

    def _call(self, id: str, config: str, node: ast.Call, bound: set[str]) -> Iterator[Finding]:
        function = self._value(node.func, bound)
        stars = any(isinstance(argument, ast.Starred) for argument in node.args)
        if function is UNKNOWN or stars or any(keyword.arg is None for keyword in node.keywords):
            return
        try:
            signature = inspect.signature(function)
        except (ValueError, TypeError):
            return
        try:
            signature.bind(*node.args, **{str(keyword.arg): None for keyword in node.keywords})
        except TypeError as error:
            unknown = [str(keyword.arg) for keyword in node.keywords if keyword.arg not in signature.parameters]
            hint = _close(unknown[0], signature.parameters) if unknown else ""
            problem = f"{ast.unparse(node.func)} cannot be called so ({error}), in {config[:120]!r}"
            yield Finding(id, problem, hint or "Mend the arguments.")


def _absent(id: str, module: ModuleType, name: str, text: str) -> Iterator[Finding]:
    if not hasattr(module, name) and not is_module(f"{module.__name__}.{name}"):
        hint = _close(name, dir(module)) or "Mend the name."
        yield Finding(id, f"{module.__name__} has no attribute {name!r}, in {text[:120]!r}", hint)


def _close(word: str, options: Any) -> str:
    hint = did_you_mean(word, [str(option) for option in options if not str(option).startswith("__")])
    return hint if hint.startswith("Did") else ""


def _mentions(owner: type, name: str) -> bool:
    """Whether the source of a class or of its bases has a name in it, as it does where an instance is given one."""
    for base in owner.__mro__[:-1]:
        try:
            source = inspect.getsource(base)
        except (OSError, TypeError):
            return True
        if re.search(rf"\b{re.escape(name)}\b", source):
            return True
    return False


def _names(table: symtable.SymbolTable) -> tuple[set[str], set[str]]:
    """Names that an expression binds itself, and those that it takes from elsewhere."""
    bound, free, tables = set(), set(), [table]
    for each in tables:
        tables += each.get_children()
        for symbol in each.get_symbols():
            if symbol.is_assigned() or symbol.is_parameter():
                bound.add(symbol.get_name())
            elif symbol.is_referenced() and (each is table or symbol.is_global()):
                free.add(symbol.get_name())
    return bound, free - bound


def _imported(config: Any) -> Iterator[tuple[str, str, str, str]]:
    """The statement, the name it defines, the module and the attribute of it, as MONAI reads import statements."""
    try:
        if not ConfigExpression.is_import_statement(config):
            return
        (node, *_) = ast.parse(config[1:]).body
    except (SyntaxError, ValueError):
        return
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        first = node.names[0]  # the others are left out
        module = (node.module or "") if isinstance(node, ast.ImportFrom) else first.name
        attribute = first.name if isinstance(node, ast.ImportFrom) else ""
        yield config, first.asname or first.name, module, attribute


def _import(id: str, text: str, module: str, attribute: str) -> Iterator[Finding]:
    absent = missing_package(module, id)
    if absent is not None:
        yield absent._replace(problem=f"{absent.problem}, in {text!r}")
    elif not is_module(module):
        yield Finding(id, f"there is no module {module!r}, in {text!r}", "Mend the path.")
    elif attribute and module in sys.modules:
        yield from _absent(id, sys.modules[module], attribute, text)
    names = [alias.name for alias in _aliases(text)]
    if len(names) > 1:
        yield Note(id, f"MONAI imports the first of several names alone, in {text!r}", "Give each an item of its own.")


def _aliases(text: str) -> list[ast.alias]:
    (node, *_) = ast.parse(text[1:]).body
    return node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else []
