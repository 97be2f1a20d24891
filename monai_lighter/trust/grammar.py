"""The grammar of declarative expressions: references, constants, operators, comprehensions, lambdas, and what is listed."""

from __future__ import annotations

import ast
import enum
import inspect
import string
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from monai.bundle.reference_resolver import ReferenceResolver

from monai_lighter.internals import REFERENCES
from monai_lighter.trust.listed import ATTRIBUTES, DIRECT, FIXED, FLAG_HOLDERS, FLAGS, METHODS, STRICT_METHODS
from monai_lighter.trust.objects import (
    Found,
    builtin,
    find,
    is_class,
    is_direct,
    is_function,
    is_value,
    texts_of,
)

__all__ = ["GLOBALS", "Expression", "import_of", "parse", "permits"]

GLOBALS = {"monai": "monai", "torch": "torch", "np": "numpy", "numpy": "numpy"}
"""Names that every expression of MONAI knows (``ConfigParser.globals``)."""
UNKNOWN = object()
PASSED = (
    *(ast.BinOp, ast.BoolOp, ast.UnaryOp, ast.Compare, ast.IfExp, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.Slice),
    *(ast.JoinedStr, ast.FormattedValue, ast.Starred, ast.Constant),
)
"""Nodes that are declarative where what is in them is."""
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
MAX_LENGTH = 20_000


class _AllReferences(dict):
    """Stands for the resolved items where MONAI puts them into the text of an expression."""

    def __contains__(self, id: object) -> bool:
        return True


def parse(text: str) -> ast.Module:
    """The statements of an expression as MONAI evaluates it, references put into its text as MONAI puts them in.

    Raises:
        SyntaxError: it is none; it is longer or deeper than any expression of a bundle.
    """
    if len(text) > MAX_LENGTH:
        raise SyntaxError("too long")
    try:
        return ast.parse(ReferenceResolver.update_refs_pattern(text, _AllReferences())[1:].lstrip(" \t"))
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error)) from error


def import_of(text: str) -> tuple[str, str] | None:
    """The name that an import statement binds, and the dotted name of what to; None where it is no import of one thing.

    Raises:
        SyntaxError: an import that MONAI reads otherwise than Python, or with something behind it.
    """
    body = parse(text).body
    if not body or not isinstance(body[0], (ast.Import, ast.ImportFrom)):
        return None
    statement, alias = body[0], body[0].names[0]
    if len(body) > 1 or len(statement.names) > 1 or (isinstance(statement, ast.ImportFrom) and statement.level):
        raise SyntaxError("no plain import")
    path = f"{statement.module}.{alias.name}" if isinstance(statement, ast.ImportFrom) else alias.name
    return alias.asname or alias.name, path


def permits(name: str, given: Mapping[str | int, Any]) -> bool:
    """Whether a function of `DIRECT` may be called with arguments, by name or place; `UNKNOWN` is a value that is computed."""
    rules = DIRECT[name]
    places = [*rules]
    for key, value in given.items():
        argument = places[key] if isinstance(key, int) and key < len(places) else key
        if argument not in rules:
            return False
        allowed = rules[argument]
        if allowed is not None and not is_one_of(value, allowed):
            return False
    return True


def is_one_of(value: Any, allowed: set) -> bool:
    """Whether a value is in a set, a number not taken for a truth value."""
    plain = isinstance(value, (str, int, float, bool, type(None)))
    return plain and any(value == each and type(value) is type(each) for each in allowed)


@cache
def _global(name: str) -> Found | None:
    return find(GLOBALS[name]) if name in GLOBALS else builtin(name)


class Expression:
    """Judges one expression.

    Args:
        text: with its ``$``.
        names: dotted name by name that the config's import statements bind.
        own: modules of the bundle, by the first part of their names.
        reference: says whether an item may be referred to.

    Attributes:
        problems: of all that keeps it from being declarative, whether it is a name of the bundle's own modules.
    """

    def __init__(
        self, text: str, names: Mapping[str, str], own: frozenset[str], reference: Callable[[str], bool]
    ) -> None:
        self.names, self.own, self.reference = names, own, reference
        self.problems: list[bool] = []
        self.node: ast.expr | None = None
        try:
            body = parse(text).body
            if len(body) == 1 and isinstance(body[0], ast.Expr):
                self.node = body[0].value
                self._value(self.node, frozenset())
            else:
                self._code()
        except (SyntaxError, RecursionError):
            self._code()

    def _code(self, own: bool = False) -> None:
        self.problems.append(own)

    def static(self, node: ast.expr, local: frozenset[str] = frozenset()) -> Found | None:
        """What a dotted name leads to, where it is one and begins with no local name."""
        if isinstance(node, ast.Attribute):
            base = self.static(node.value, local)
            return None if base is None else find(node.attr, base)
        if not isinstance(node, ast.Name) or node.id in local or node.id == REFERENCES:
            return None
        return find(self.names[node.id]) if node.id in self.names else _global(node.id)

    def _is_own(self, node: ast.expr, local: frozenset[str]) -> bool:
        return self.names.get(_global_root(node, local), "").split(".")[0] in self.own

    def _value(self, node: ast.expr, local: frozenset[str]) -> None:
        """A value that may be handed on."""
        if isinstance(node, PASSED):
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self._value(child, local)
        elif isinstance(node, COMPREHENSIONS):
            self._comprehension(node, local)
        elif isinstance(node, ast.Lambda):
            self._lambda(node, local)
        elif isinstance(node, ast.Call):
            self._call(node, local)
        elif isinstance(node, ast.Subscript):
            self._subscript(node, local)
        elif isinstance(node, (ast.Name, ast.Attribute)):
            self._name(node, local)
        else:
            self._code()

    def _name(self, node: ast.Name | ast.Attribute, local: frozenset[str]) -> None:
        if isinstance(node, ast.Name) and node.id in local:
            return
        found = self.static(node, local)
        if self._is_own(node, local):
            self._code(own=True)
        elif found is not None:
            if not is_value(found):
                self._code()
        elif isinstance(node, ast.Attribute) and not _global_root(node, local):
            self._value(node.value, local)
            if node.attr not in ATTRIBUTES and not self._is_column(node, local):
                self._code()
        else:
            self._code()

    def _is_column(self, node: ast.Attribute, local: frozenset[str]) -> bool:
        """Whether an attribute is a column of a table that is read there (``pd.read_csv(file).column``)."""
        found = self.static(node.value.func, local) if isinstance(node.value, ast.Call) else None
        if found is None or is_direct(found) != "pandas.read_csv" or node.attr.startswith("_"):
            return False
        table = find("pandas.DataFrame")
        return table is not None and not hasattr(table.object, node.attr)

    def _subscript(self, node: ast.Subscript, local: frozenset[str]) -> None:
        if isinstance(node.value, ast.Name) and node.value.id == REFERENCES:
            id = node.slice.value if isinstance(node.slice, ast.Constant) else None
            if not isinstance(id, str) or not self.reference(id):
                self._code()
            return
        found = self.static(node.value, local)
        if found is None or found.name != "os.environ":
            self._value(node.value, local)
        self._value(node.slice, local)

    def _comprehension(self, node: Any, local: frozenset[str]) -> None:
        for generator in node.generators:
            self._value(generator.iter, local)
            bound = [*_bound(generator.target)]
            if None in bound or generator.is_async:
                self._code()
            local = local | {name for name in bound if name}
            for condition in generator.ifs:
                self._value(condition, local)
        for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self._value(part, local)

    def _lambda(self, node: ast.Lambda, local: frozenset[str]) -> None:
        arguments = node.args
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            if default is not None:
                self._value(default, local)
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        self._value(node.body, local | {each.arg for each in named if each is not None})

    def _call(self, node: ast.Call, local: frozenset[str]) -> None:
        function, found = node.func, self.static(node.func, local)
        if self._is_own(function, local):
            self._code(own=True)
        elif found is not None:
            if not self._is_called(found, node, local):
                self._code()
                return
            if found.name == "builtins.setattr":
                return
        elif isinstance(function, ast.Attribute) and not _global_root(function, local):
            self._value(function.value, local)
            if function.attr not in METHODS and not _is_strict(node) and function.attr not in ATTRIBUTES:
                self._code()
        else:
            self._value(function, local)
        self._arguments(node, local)

    def _arguments(self, node: ast.Call, local: frozenset[str]) -> None:
        for argument in node.args:
            self._value(argument, local)
        for keyword in node.keywords:
            self._value(keyword.value, local)
        given = _given(node)
        if given is None or any(key in FIXED and not is_one_of(value, FIXED[key]) for key, value in given.items()):
            self._code()

    def _is_called(self, found: Found, node: ast.Call, local: frozenset[str]) -> bool:
        """Whether a listed object may be called as it is there."""
        given, direct = _given(node), is_direct(found)
        if found.name == "builtins.setattr":
            return self._sets_flag(node, local)
        if direct is not None:
            return given is not None and not _has_star(node) and permits(direct, given)
        if is_function(found) or isinstance(found.object, enum.Enum):
            return True
        if not is_class(found.object) or given is None:
            return False
        names = [*_parameters(found.object)]
        for key, value in given.items():
            argument = names[key] if isinstance(key, int) and key < len(names) else key
            texts = texts_of(found.object, str(argument))
            if texts is not None and not is_one_of(value, texts) and not self._makes_instance(node, key, local):
                return False
            if argument in FIXED and not is_one_of(value, FIXED[argument]):
                return False
        return not _has_star(node) or is_value(found)

    def _makes_instance(self, node: ast.Call, key: str | int, local: frozenset[str]) -> bool:
        argument = node.args[key] if isinstance(key, int) else {word.arg: word.value for word in node.keywords}[key]
        return self.makes_object(argument, local)

    def makes_object(self, node: ast.expr | None, local: frozenset[str] = frozenset()) -> bool:
        """Whether an expression is a listed class, or a call of one, and so no text that would be imported by its name."""
        called = node.func if isinstance(node, ast.Call) else node
        found = None if called is None else self.static(called, local)
        return found is not None and is_class(found.object)

    def _sets_flag(self, node: ast.Call, local: frozenset[str]) -> bool:
        if len(node.args) != 3 or node.keywords:
            return False
        holder, name, value = node.args
        found = self.static(holder, local)
        flag = name.value if isinstance(name, ast.Constant) else None
        plain = isinstance(value, ast.Constant) and isinstance(value.value, (bool, int))
        return found is not None and found.name in FLAG_HOLDERS and flag in FLAGS and plain


def _global_root(node: ast.expr, local: frozenset[str]) -> str:
    """The name that a dotted name begins with; empty where it is none, or begins with a local name."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) and node.id not in local else ""


def _parameters(value: Any) -> Iterator[str]:
    try:
        yield from inspect.signature(value).parameters
    except (TypeError, ValueError):
        return


def _bound(target: ast.expr) -> Iterator[str | None]:
    """Names that a comprehension binds; None for what is no name."""
    if isinstance(target, (ast.Tuple, ast.List)):
        for item in target.elts:
            yield from _bound(item)
    elif isinstance(target, ast.Starred):
        yield from _bound(target.value)
    else:
        yield target.id if isinstance(target, ast.Name) else None


def _has_star(node: ast.Call) -> bool:
    return any(isinstance(argument, ast.Starred) for argument in node.args)


def _given(node: ast.Call) -> dict[str | int, Any] | None:
    """Arguments by place and by name; None where the names of some are computed."""
    given: dict[str | int, Any] = {i: _constant(argument) for i, argument in enumerate(node.args)}
    for keyword in node.keywords:
        if keyword.arg is not None:
            given[keyword.arg] = _constant(keyword.value)
        elif isinstance(keyword.value, ast.Dict) and all(isinstance(key, ast.Constant) for key in keyword.value.keys):
            for key, value in zip(keyword.value.keys, keyword.value.values, strict=True):
                given[key.value] = _constant(value)  # type: ignore[union-attr]
        else:
            return None
    return given


def _constant(node: ast.expr) -> Any:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        return -node.operand.value if isinstance(node.operand.value, (int, float)) else UNKNOWN
    return node.value if isinstance(node, ast.Constant) else UNKNOWN


def _is_strict(node: ast.Call) -> bool:
    """Whether a method of `STRICT_METHODS` is called as it may be."""
    function = node.func
    if not isinstance(function, ast.Attribute) or function.attr not in STRICT_METHODS:
        return False
    count = STRICT_METHODS[function.attr]
    if count >= 0:
        return len(node.args) == count and not node.keywords and not _has_star(node)
    text = function.value.value if isinstance(function.value, ast.Constant) else None
    return isinstance(text, str) and _has_plain_fields(text)


def _has_plain_fields(text: str) -> bool:
    try:
        fields = [*string.Formatter().parse(text)]
    except ValueError:
        return False
    return all(
        name is None or ((not name or name.isalnum()) and "{" not in (form or "")) for _, name, form, _ in fields
    )
