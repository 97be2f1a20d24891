"""All configs of a bundle by config id: what names, references and macros in them lead to.

Configs are merged on the command line in any combination, so that an id stands for what any file has under it.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from monai_lighter.inspection.documents import Pairs
from monai_lighter.inspection.expressions import read_expression
from monai_lighter.inspection.resolve import Resolver
from monai_lighter.inspection.syntax import imported_names, parse_expression

__all__ = ["BundleScope", "Item", "ItemScope", "iter_items", "joined"]

GLOBALS = {"monai": "monai", "torch": "torch", "np": "numpy", "numpy": "numpy"}
"""Names that expressions have without an import (``ConfigParser.globals``)."""
SEPARATOR = "::"
MACRO_FILE = re.compile(r"(.*\.(?:json|yaml|yml))(?=::|$)", re.IGNORECASE)
MAX_HOPS = 12

Item = tuple[str, str, Any]
"""Id, key, value."""


def joined(id: str, key: str) -> str:
    """Id of an item in another; a leading ``+`` (merge) is no part of it, ``#`` is ``::``."""
    key = key.removeprefix("+").replace("#", SEPARATOR)
    return f"{id}{SEPARATOR}{key}" if id else key


def iter_items(content: Any, id: str = "", key: str = "") -> Iterator[Item]:
    """Every item of a config, outer ones first, duplicate keys included."""
    yield id, key, content
    if isinstance(content, Pairs):
        for name, value in content:
            yield from iter_items(value, joined(id, name), name.replace("#", SEPARATOR).split(SEPARATOR)[-1])
    elif isinstance(content, list):
        for i, value in enumerate(content):
            yield from iter_items(value, joined(id, str(i)), key)


class BundleScope:
    """The configs of a bundle.

    Args:
        resolver: of the bundle.
        documents: content by file.
    """

    def __init__(self, resolver: Resolver, documents: dict[str, Any]) -> None:
        self.resolver, self.documents = resolver, documents
        self.items: dict[str, list[Any]] = defaultdict(list)
        self.by_file: dict[str, dict[str, list[Any]]] = {}
        self.aliases: dict[str, set[str]] = defaultdict(set)
        for name, dotted in GLOBALS.items():
            self.aliases[name].add(dotted)
        for file, content in documents.items():
            own: dict[str, list[Any]] = defaultdict(list)
            for id, _, value in iter_items(content):
                own[id].append(value)
                self.items[id].append(value)
                if isinstance(value, str) and value.startswith("$") and "import" in value:
                    self._note_import(value)
            self.by_file[file] = own

    def _note_import(self, text: str) -> None:
        try:
            names = imported_names(parse_expression(text))
        except SyntaxError:
            return
        for name, dotted in names.items():
            self.aliases[name].add(dotted)

    def macro(self, text: str, id: str) -> tuple[str, str]:
        """File and id of a macro, ``%`` included; no file where it is of the config itself."""
        text = text[1:].replace("#", SEPARATOR)
        match = MACRO_FILE.match(text)
        if match is None:
            return "", absolute(text, id)
        return match.group(1), text[match.end() :].removeprefix(SEPARATOR)

    def own_file(self, path: str) -> str:
        """The file of the bundle that a path in a macro is, relative to the bundle; empty where there is none."""
        name = posixpath.normpath(path)
        return name if name in self.documents else ""

    def values(self, text: str, id: str, hops: int = 0) -> Iterator[Any]:
        """What a whole-item reference (``@id``) or macro (``%id``) leads to, hop by hop; other texts as they are."""
        if hops > MAX_HOPS or text[:1] not in ("@", "%"):
            yield text
            return
        if text[0] == "@":
            wanted, found = absolute(text[1:].replace("#", SEPARATOR), id), self.items
        else:
            file, wanted = self.macro(text, id)
            found = self.by_file.get(self.own_file(file), {}) if file else self.items
        for value in found.get(wanted, ()):
            if isinstance(value, str):
                yield from self.values(value, wanted, hops + 1)
            else:
                yield value


def absolute(reference: str, id: str) -> str:
    """A relative id (``::name`` beside this item, ``::::name`` one level up) from the root."""
    levels = 0
    while reference.startswith(SEPARATOR):
        reference, levels = reference[len(SEPARATOR) :], levels + 1
    if not levels:
        return reference
    parts = id.split(SEPARATOR)[: -levels or None]
    return SEPARATOR.join([*parts, reference])


class ItemScope:
    """The scope of one item: implements `monai_lighter.inspection.resolve.Scope`."""

    def __init__(self, bundle: BundleScope, id: str, hops: int = 0) -> None:
        self.bundle, self.id, self.hops, self.resolver = bundle, id, hops, bundle.resolver

    def names(self, name: str) -> Iterable[str]:
        return self.bundle.aliases.get(name, ())

    def referred(self, id: str) -> Iterator[str]:
        wanted = absolute(id, self.id)
        if self.hops > MAX_HOPS:
            return
        for value in self.bundle.values(f"@{wanted}", ""):
            if isinstance(value, str) and value.startswith("$"):
                yield from read_expression(value, ItemScope(self.bundle, wanted, self.hops + 1)).names
