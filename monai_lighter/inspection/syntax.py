"""Python source as a syntax tree, as MONAI would evaluate it, and the names in it."""

from __future__ import annotations

import ast
import re
import warnings

__all__ = ["REFERENCES", "argument_state", "dotted_name", "imported_names", "parse_expression"]

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
    for item in sorted(REFERENCE.findall(value), key=len, reverse=True):
        value = value.replace(item, f"{REFERENCES}['{item[1:]}']")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(value.lstrip(" \t"))
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or type(error).__name__) from error


def imported_names(tree: ast.AST) -> dict[str, str]:
    """Name to dotted name, of all import statements in a tree. Relative imports begin with a dot."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name] = alias.name
                if alias.asname is None:
                    names.setdefault(alias.name.split(".")[0], alias.name.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                names[alias.asname or alias.name] = f"{module}.{alias.name}"
    return names


def dotted_name(node: ast.AST) -> tuple[ast.AST, list[str]]:
    """The innermost base of a chain of attributes, and the attributes."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return node, attributes[::-1]


def argument_state(call: ast.Call, name: str, wanted: bool) -> bool | None:
    """Whether an argument of a call is the wanted constant; None where it is left out."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if None in given or any(isinstance(argument, ast.Starred) for argument in call.args):
        return False
    value = given.get(name)
    return None if value is None else isinstance(value, ast.Constant) and value.value is wanted
