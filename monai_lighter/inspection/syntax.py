"""Python source as a syntax tree, as MONAI would evaluate it, and the names in it."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

from monai_lighter.inspection.judge import judge, module_danger
from monai_lighter.inspection.resolve import Resolver

__all__ = [
    "REFERENCES",
    "alternatives",
    "bindings",
    "constant",
    "dotted_name",
    "imported_names",
    "parse_expression",
    "reference_path",
]

REFERENCES = "__local_refs"
"""Name under which MONAI gives an expression what it refers to (``ReferenceResolver._vars``)."""
REFERENCE = re.compile(r"@(?:\w*)(?:::\w*)*")


def parse_expression(text: str) -> ast.Module:
    """The syntax tree of what MONAI would evaluate: ``#`` is ``::``, references are items of a dictionary.

    Follows ``ReferenceResolver.update_refs_pattern``, so that what a reference does to quotes and comments around it is seen.

    Raises:
        SyntaxError: it is no Python.
    """
    value = text[1:].replace("#", "::")
    value = REFERENCE.sub(lambda found: f"{REFERENCES}['{found.group()[1:]}']", value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(value.lstrip(" \t"))
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or type(error).__name__) from error


def bindings(tree: ast.AST, relative: bool = True) -> Iterator[tuple[str, str]]:
    """Name and dotted name of every alias of every import statement in a tree.

    Args:
        tree: any.
        relative: whether a relative import begins with a dot; MONAI takes it for an absolute one.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name, alias.name
                if alias.asname is None and "." in alias.name:
                    yield alias.name.split(".")[0], alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            module = "." * (node.level if relative else 0) + (node.module or "")
            for alias in node.names:
                yield alias.asname or alias.name, f"{module}.{alias.name}"


def imported_names(tree: ast.AST) -> dict[str, str]:
    """Name to dotted name, of all import statements in a tree; of a name that is bound twice, the worst."""
    names: dict[str, str] = {}
    for name, dotted in bindings(tree):
        names[name] = dotted if name not in names else max(names[name], dotted, key=_badness)
    return names


def _badness(dotted: str) -> tuple[int, bool]:
    return judge(Resolver().dotted(dotted)).level, bool(module_danger(dotted))


def dotted_name(node: ast.AST) -> tuple[ast.AST, list[str]]:
    """The innermost base of a chain of attributes, and the attributes."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return node, attributes[::-1]


def reference_path(node: ast.AST) -> str | None:
    """Id that a reference with constant indexes leads to (``@a['b'][0]``: ``a::b::0``); None where it is no such thing."""
    keys: list[str] = []
    while isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        keys.append(str(node.slice.value))
        node = node.value
    return "::".join(reversed(keys)) if keys and isinstance(node, ast.Name) and node.id == REFERENCES else None


def alternatives(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of an expression that its value, or an item of it, may be as they stand."""
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        inner = node.elts
    elif isinstance(node, ast.IfExp):
        inner = [node.body, node.orelse]
    elif isinstance(node, ast.BoolOp):
        inner = node.values
    else:
        yield node
        return
    for part in inner:
        yield from alternatives(part)


def constant(node: ast.AST) -> object:
    """The value of a constant, and the node itself where it is none."""
    return node.value if isinstance(node, ast.Constant) else node
