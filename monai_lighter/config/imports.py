"""Import statements of a config, as MONAI reads them, and what is wrong with them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from typing import Any

from monai.bundle.config_item import ConfigExpression

from monai_lighter.config.modules import is_module, missing_attribute, missing_package
from monai_lighter.errors import Finding, Note

__all__ = ["breaks_imports", "import_findings", "imported", "is_import"]


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
        absent = missing_package(module, id)
        if absent is not None:
            yield absent._replace(problem=f"{absent.problem}, in {text!r}")
        elif not is_module(module):
            yield Finding(id, f"there is no module {module!r}, in {text!r}", "Mend the path.")
        elif attribute and module in sys.modules:
            yield from missing_attribute(id, sys.modules[module], attribute, text)
        if len(_aliases(text)) > 1:
            hint = "Give each an item of its own."
            yield Note(id, f"MONAI imports the first of several names alone, in {text!r}", hint)


def _aliases(text: str) -> list[ast.alias]:
    (node, *_) = ast.parse(text[1:]).body
    return node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else []
