"""What is wrong with a ``$`` expression, seen without running it: its syntax, names, modules, attributes and calls."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import symtable
import sys
from collections.abc import Callable, Collection, Iterator
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from monai_lighter.check.modules import (
    breaks_imports,
    close_name,
    find_missing_attribute,
    import_findings,
    imported,
    is_import,
)
from monai_lighter.config.items import REFERENCE, items, normalize
from monai_lighter.errors import Finding, Note
from monai_lighter.internals import REFERENCES

__all__ = ["UNKNOWN", "Expressions", "copied_from"]

UNKNOWN: Any = object()
SINGLE_QUOTED = re.compile(r"\b(f|rf|fr)'", re.IGNORECASE)
GUARD = re.compile(r"hasattr|getattr|version|find_spec|\bdir\(")
"""In a test of whether something is there."""
INDENTED = re.compile(r"\$\s*?(^|(?<=\$))[ \t]+\S", re.MULTILINE)
"""An expression whose first line that is not blank begins with a space."""


def _as_python(config: str) -> str:
    """The Python of an expression as MONAI evaluates it, which not every f-string takes."""
    source = normalize(config[1:].strip())
    return REFERENCE.sub(lambda match: f"{REFERENCES}['{match.group()[1:]}']", source)


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
        lenient: whether only what is bound to fail is a finding, and all else that is found a `Note`.
    """

    def __init__(
        self, config: Any, names: dict[str, Any], class_of: Callable[[str], type | None], lenient: bool = False
    ) -> None:
        self.class_of, self.lenient = class_of, lenient
        self.names = {**vars(builtins), **names, REFERENCES: UNKNOWN}
        for _, value in items(config):
            for _, name, module, attribute in imported(value):
                found = sys.modules.get(module, UNKNOWN)
                self.names[name] = getattr(found, attribute, UNKNOWN) if attribute else found

    def findings(self, id: str, config: str) -> Iterator[Finding]:
        """All that is wrong with one expression."""
        if is_import(config):
            found = import_findings(id, config)
            yield from (Note(*one) for one in found) if self.lenient else found  # it fails where it is used
            return
        if INDENTED.match(config):
            problem = f"begins with a space, at which MONAI ends (IndentationError), in {config[:120]!r}"
            yield Finding(id, problem, f"Write {'$' + config[1:].strip()!r:.120}.")
            return
        try:
            source = _as_python(config)
            tree = ast.parse(source, mode="eval")
            table = symtable.symtable(source, "expression", "eval")
        except SyntaxError as error:
            yield _invalid(id, config, error)
            return
        if breaks_imports(config):
            problem = f"has the letters 'import', so that MONAI reads it as a statement and fails, in {config[:120]!r}"
            yield Finding(id, problem, "Split the word, as in 'im' + 'port', or rename the item that has it.")
        perhaps = set(_conditional(tree)) if self.lenient else set()
        certain = [node for node in ast.walk(tree) if node not in perhaps]
        yield from self._nodes(id, config, certain, tree, table)
        for finding in self._nodes(id, config, perhaps, tree, table):
            yield Note(*finding)

    def _nodes(
        self, id: str, config: str, nodes: Collection[ast.AST], tree: ast.AST, table: symtable.SymbolTable
    ) -> Iterator[Finding]:
        """What is wrong with some nodes of an expression."""
        bound, free = _names(table)
        guarded = set(_guarded(tree))
        used = {node.id for node in nodes if isinstance(node, ast.Name) and node not in guarded}
        for name in sorted((free & used) - self.names.keys()):
            yield self._undefined(id, config, name)
        for node in nodes:
            if isinstance(node, ast.Attribute) and node not in guarded:
                yield from self._attribute(id, config, node, bound)
            elif isinstance(node, ast.Call) and node not in guarded:
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
            yield from find_missing_attribute(id, owner, node.attr, config)
            return
        reference = _reference(node.value)
        owner = None if reference is None else self.class_of(reference)
        if owner is not None and not hasattr(owner, node.attr) and not _mentions(owner, node.attr):
            hint = close_name(node.attr, dir(owner))
            if hint:  # else it may be set in a way that cannot be seen
                problem = f"{owner.__name__} (@{reference}) has no attribute {node.attr!r}, in {config[:120]!r}"
                yield Finding(id, problem, hint)

    def _method(self, node: Any) -> Any:
        """The function behind a method of an item, where the class of that is known."""
        reference = _reference(node.value) if isinstance(node, ast.Attribute) else None
        owner = None if reference is None else self.class_of(reference)
        function = None if owner is None else inspect.getattr_static(owner, node.attr, None)
        return function if inspect.isfunction(function) else UNKNOWN

    def _call(self, id: str, config: str, node: ast.Call, bound: set[str]) -> Iterator[Finding]:
        function, itself = self._value(node.func, bound), []
        if function is UNKNOWN:
            function, itself = self._method(node.func), [UNKNOWN]
        stars = any(isinstance(argument, ast.Starred) for argument in node.args)
        if function is UNKNOWN or stars or any(keyword.arg is None for keyword in node.keywords):
            return
        try:
            signature = inspect.signature(function)
        except (ValueError, TypeError):
            return
        try:
            signature.bind(*itself, *node.args, **{str(keyword.arg): None for keyword in node.keywords})
        except TypeError as error:
            unknown = [str(keyword.arg) for keyword in node.keywords if keyword.arg not in signature.parameters]
            hint = close_name(unknown[0], signature.parameters) if unknown else ""
            name = re.sub(rf"{REFERENCES}\['(.*?)'\]", r"@\1", ast.unparse(node.func))
            problem = f"{name} cannot be called so ({error}), in {config[:120]!r}"
            yield Finding(id, problem, hint or "Mend the arguments.")


def _invalid(id: str, config: str, error: SyntaxError) -> Finding:
    if SINGLE_QUOTED.search(config) and REFERENCE.search(config):
        problem = f"has a reference in an f-string, where MONAI writes single quotes, in {config[:200]!r}"
        return Finding(id, problem, "Write the f-string in double quotes, or join texts with +.")
    return Finding(id, f"is not a valid expression ({error.msg}), got {config[:200]!r}", "Mend the Python in it.")


def _guarded(tree: ast.AST) -> Iterator[ast.AST]:
    """What is reached only where a test has found something to be there."""
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        if isinstance(node, ast.IfExp) and GUARD.search(ast.unparse(node.test)):
            parts = [node.body, node.orelse]
        elif isinstance(node, ast.BoolOp) and GUARD.search(ast.unparse(node.values[0])):
            parts = node.values[1:]
        for part in parts:
            yield from ast.walk(part)


def _conditional(tree: ast.AST) -> Iterator[ast.AST]:
    """What need not be reached: branches, what comes after ``and`` and ``or``, bodies of functions, and what a loop does."""
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        if isinstance(node, ast.IfExp):
            parts = [node.body, node.orelse]
        elif isinstance(node, ast.BoolOp):
            parts = node.values[1:]
        elif isinstance(node, ast.Lambda):
            parts = [node.body]
        elif isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp)):
            parts = [node.elt, *(test for loop in node.generators for test in loop.ifs)]
        elif isinstance(node, ast.DictComp):
            parts = [node.key, node.value, *(test for loop in node.generators for test in loop.ifs)]
        for part in parts:
            yield from ast.walk(part)


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
