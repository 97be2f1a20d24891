"""What a class or function takes: the names of its parameters, also by way of ``**kwargs``, and what they may be.

YAML and command lines give texts where a number was meant (``lr: 1e-4``, ``shuffle: "no"``, ``milestones: (1, 2)``). Where the
annotation or the default of a parameter says that it is a number, a truth value, or several of these, `read_text` reads them.
"""

from __future__ import annotations

import ast
import collections.abc
import inspect
import textwrap
import types
import typing
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

__all__ = ["Accepted", "Parameter", "find_accepted", "read_text"]

WORDS = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
    **dict.fromkeys(("null", "none", "~"), None),
}
"""Texts that YAML 1.1 or Python have for a truth value or nothing."""
NUMBERS = (bool, int, float, type(None))
SEVERAL = (list, tuple, Sequence, Iterable, Collection)
NAMES = {bool: "true or false", int: "a whole number", float: "a number", type(None): "null"}


class Parameter(NamedTuple):
    """What a parameter may be, as far as that is numbers, truth values, nothing, or several of these.

    Attributes:
        single: types of a value; empty where the parameter may be a text, or something that a text stands for.
        several: types of the items of a list; empty where it may be no list of these.
        certain: whether an annotation says so; a default alone leaves other values possible (``max_features: sqrt``).
    """

    single: frozenset[type] = frozenset()
    several: frozenset[type] = frozenset()
    certain: bool = True

    @property
    def is_open(self) -> bool:
        """Whether nothing is known of what it may be."""
        return not self.single and not self.several

    @property
    def wanted(self) -> str:
        """What to write, in words."""
        single = [
            NAMES[kind] for kind in NUMBERS if kind in self.single and (kind, float in self.single) != (int, True)
        ]
        several = [NAMES[kind] for kind in (bool, int, float) if kind in self.several][-1:]
        return " or ".join([*single, *(f"a list, each {name}" for name in several)])


class Accepted(NamedTuple):
    """Keywords of a callable.

    Attributes:
        parameters: those that it names, or that it passes on to a constructor that names them, with what they may be.
        required: names of those without a default.
        is_open: whether it takes others too.
    """

    parameters: dict[str, Parameter]
    required: list[str]
    is_open: bool


def find_accepted(target: Any) -> Accepted | None:
    """None where the signature cannot be read. The result is not to be changed: that of a class or function is kept."""
    is_kept = (inspect.isclass(target) or inspect.isroutine(target)) and isinstance(target, collections.abc.Hashable)
    return _find_accepted_once(target) if is_kept else _find_accepted(target)


def _find_accepted(target: Any) -> Accepted | None:
    try:
        signature = inspect.signature(target)
    except (ValueError, TypeError):
        return None
    function = target.__init__ if inspect.isclass(target) else target
    found = _parameters(signature, function)
    required = [name for name in found if signature.parameters[name].default is inspect.Parameter.empty]
    is_open = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    if is_open and inspect.isclass(target):
        more = _of_bases(target)
        return Accepted(
            found | {name: p for name, p in more.parameters.items() if name not in found}, required, more.is_open
        )
    return Accepted(found, required, is_open)


_find_accepted_once = lru_cache(maxsize=1024)(_find_accepted)
"""A module of a bundle that is imported anew has classes and functions of its own."""


def _of_bases(cls: type) -> Accepted:
    """What reaches the constructors of the bases by ``super().__init__(…, **kwargs)``, as far as it is passed on."""
    found: dict[str, Parameter] = {}
    for base in [base for base in cls.__mro__ if "__init__" in vars(base)]:
        constructor = vars(base)["__init__"]
        if not inspect.isfunction(constructor) or hasattr(constructor, "__wrapped__"):
            return Accepted(found, [], True)
        signature = inspect.signature(constructor)
        parameters = list(signature.parameters.values())[1:]
        own = _parameters(signature.replace(parameters=parameters), constructor)
        found |= {name: parameter for name, parameter in own.items() if name not in found}
        others = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        if others is None:
            return Accepted(found, [], False)
        if not _passes_on(constructor, others):
            break
    return Accepted(found, [], True)


def _passes_on(constructor: Any, name: str) -> bool:
    """Whether ``**name`` goes to ``super().__init__`` with everything that was given: nothing is taken out before."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(constructor)))
    except (OSError, TypeError, SyntaxError):
        return False
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    given = [call for call in calls if any(k.arg is None and _is(k.value, name) for k in call.keywords)]
    taken = any(
        (isinstance(node, ast.Attribute) and _is(node.value, name) and node.attr in ("pop", "popitem", "clear"))
        or (isinstance(node, ast.Delete) and name in ast.unparse(node))
        or (_is(node, name) and isinstance(getattr(node, "ctx", None), ast.Store))
        for node in ast.walk(tree)
    )
    return len(given) == 1 and ast.unparse(given[0].func) == "super().__init__" and not taken


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _parameters(signature: inspect.Signature, function: Any) -> dict[str, Parameter]:
    named = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {p.name: _describe(_evaluate(p.annotation, function), p.default) for p in named}


def _evaluate(annotation: Any, function: Any) -> Any:
    """An annotation that is written as a text; names that are imported for type checkers alone are looked for where they are."""
    if not isinstance(annotation, str):
        return annotation
    names = {**vars(collections.abc), **vars(typing), **getattr(inspect.unwrap(function), "__globals__", {})}
    try:
        return eval(annotation, names)
    except Exception:  # what it needs is not there: the default has to do
        return annotation


def _describe(annotation: Any, default: Any) -> Parameter:
    """By the annotation, or, where there is none, by the default."""
    if isinstance(annotation, str):  # what it names is not there
        return Parameter()
    if annotation is inspect.Parameter.empty:
        kind = type(default)
        if isinstance(default, (tuple, list)):
            kinds = frozenset(map(type, default))
            return Parameter(several=kinds, certain=False) if kinds and kinds <= {*NUMBERS} else Parameter()
        return Parameter(frozenset({kind}), certain=False) if kind in NUMBERS[:3] else Parameter()
    single: set[type] = set()
    several: set[type] = set()
    for member in _members(annotation):
        items = [item for argument in get_args(member) if argument is not ... for item in _members(argument)]
        items = [item for item in items if not _is_array(item)]
        if member in NUMBERS:
            single.add(member)
        elif get_origin(member) in SEVERAL and items and {*items} <= {*NUMBERS}:
            several.update(items)
        elif not _is_numeric(member):
            return Parameter()  # a text, or what a text may stand for
    return Parameter(frozenset(single), frozenset(several)) if (single - {type(None)}) | several else Parameter()


def _is_numeric(kind: Any) -> bool:
    """Whether a type is a number, an array, or a list of these or of such lists: no text stands for any of them."""
    if kind in NUMBERS or kind is ... or _is_array(kind):
        return True
    members = [member for argument in get_args(kind) for member in _members(argument)]
    return get_origin(kind) in SEVERAL and bool(members) and all(map(_is_numeric, members))


def _is_array(kind: Any) -> bool:
    """Whether it is a type of torch or NumPy (``Tensor``, ``ndarray``, a generator), which no text stands for."""
    return inspect.isclass(kind) and kind.__module__.partition(".")[0] in ("torch", "numpy")


def _members(annotation: Any) -> Iterator[Any]:
    """Types that a union is of; any other type itself."""
    if get_origin(annotation) in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _members(argument)
    elif get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    else:
        yield annotation


def read_text(text: str, parameter: Parameter) -> Any:
    """The value that a text is for a parameter that is no text.

    Args:
        text: as a config has it.
        parameter: of which `Parameter.single` or `Parameter.several` is not empty.

    Raises:
        ValueError: it is no such value.
    """
    word = text.strip().lower()
    if word in WORDS and type(WORDS[word]) in parameter.single:
        return WORDS[word]
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = float(text)  # inf and nan, which are no literals
    if isinstance(value, (tuple, list)) and value:
        return type(value)(_fit(item, parameter.several) for item in value)
    return _fit(value, parameter.single)


def _fit(value: Any, kinds: frozenset[type]) -> Any:
    if type(value) in kinds:
        return value
    if type(value) is int and float in kinds:
        return float(value)
    if type(value) is float and value.is_integer() and int in kinds:
        return int(value)
    raise ValueError(value)
