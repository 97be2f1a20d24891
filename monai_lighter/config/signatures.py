"""What a class or function takes, also by way of ``**kwargs``."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any, NamedTuple

__all__ = ["Accepted", "accepted_by"]


class Accepted(NamedTuple):
    """Keywords of a callable.

    Attributes:
        names: those that it names, or that it passes on to a constructor that names them.
        required: those without a default.
        is_open: whether it takes others too.
    """

    names: list[str]
    required: list[str]
    is_open: bool


def accepted_by(target: Any) -> Accepted | None:
    """None where the signature cannot be read."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (ValueError, TypeError):
        return None
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names, required = [p.name for p in named], [p.name for p in named if p.default is p.empty]
    is_open = any(p.kind is p.VAR_KEYWORD for p in parameters)
    if is_open and inspect.isclass(target):
        more = _of_bases(target)
        return Accepted([*names, *(name for name in more.names if name not in names)], required, more.is_open)
    return Accepted(names, required, is_open)


def _of_bases(cls: type) -> Accepted:
    """What reaches the constructors of the bases by ``super().__init__(…, **kwargs)``, as far as it is passed on."""
    names: list[str] = []
    for base in [base for base in cls.__mro__ if "__init__" in vars(base)]:
        constructor = vars(base)["__init__"]
        if not inspect.isfunction(constructor) or hasattr(constructor, "__wrapped__"):
            return Accepted(names, [], True)
        parameters = list(inspect.signature(constructor).parameters.values())[1:]
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        others = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        if others is None:
            return Accepted(names, [], False)
        if not _passes_on(constructor, others):
            break
    return Accepted(names, [], True)


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
