"""Which items of a bundle's configs are modules, or hold some: what such an item is handed to can reach anything in them."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from types import ModuleType
from typing import Any

from monai_lighter.inspection.ids import SEPARATOR, absolute, macro_parts
from monai_lighter.inspection.resolve import Resolver
from monai_lighter.inspection.syntax import bindings, dotted_name, parse_expression, reference_path

__all__ = ["HeldModules"]

NO_VALUES = {"_target_", "_disabled_", "_requires_", "_mode_", "_desc_"}
"""Keys of a component that are not passed on to what it builds."""


class HeldModules:
    """The modules of all items, found in one pass over them and one over what refers to what.

    Args:
        items: values by id.
        aliases: dotted names by the names that import statements bind.
        resolver: of the bundle.

    Attributes:
        single: dotted name of the module that an item is, by id.
        held: of one that is in it, or in what it refers to.
    """

    def __init__(
        self, items: Mapping[str, list[Any]], aliases: Mapping[str, Collection[str]], resolver: Resolver
    ) -> None:
        self.aliases, self.resolver = aliases, resolver
        self.single: dict[str, str] = {}
        self.held: dict[str, str] = {}
        targets = (id.rpartition(SEPARATOR) for id in items)
        self.components = {parent for parent, _, key in targets if key == "_target_"}
        referring: dict[str, list[str]] = defaultdict(list)
        waiting: list[tuple[str, str, bool]] = []
        for id, values in items.items():
            texts = [value for value in values if isinstance(value, str) and value[:1] in ("$", "@", "%")]
            for text in texts:
                names, reference = self._outline(text, id)
                waiting += [(id, name, True) for name in names]
                referring[reference].append(id)
        while waiting:
            id, name, is_single = waiting.pop()
            found = self.single if is_single else self.held
            if id not in found:
                found[id] = name
                waiting += [(other, name, is_single) for other in referring.get(id, ())]
                parent, _, key = id.rpartition(SEPARATOR)
                waiting += [(parent, name, False)] if parent and key not in NO_VALUES else []

    def given_to_component(self, id: str) -> str:
        """The module that an item hands to what a component builds; empty where there is none."""
        name = self.single.get(id) or self.held.get(id, "")
        parts = id.split(SEPARATOR) if name else []
        inside = any(SEPARATOR.join(parts[:i]) in self.components for i in range(len(parts)))
        return name if inside and NO_VALUES.isdisjoint(parts) else ""

    def _outline(self, text: str, id: str) -> tuple[list[str], str]:
        """Modules that an item is, and the id of the item that it stands for."""
        if text[0] != "$":
            return [], absolute(text[1:], id) if text[0] == "@" else macro_parts(text, id)[1]
        try:
            tree = parse_expression(text)
        except SyntaxError:
            return [], ""
        first = tree.body[0] if tree.body else None
        if not isinstance(first, ast.Expr):
            return self._modules(dotted for _, dotted in bindings(tree, relative=False)), ""
        base, attributes = dotted_name(first.value)
        known = self.aliases.get(base.id, ()) if isinstance(base, ast.Name) else ()
        path = reference_path(first.value)
        return self._modules(".".join([name, *attributes]) for name in known), absolute(path, id) if path else ""

    def _modules(self, names: Iterator[str]) -> list[str]:
        return [name for name in names if isinstance(self.resolver.dotted(name).object, ModuleType)]
