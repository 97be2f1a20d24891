"""All configs of a bundle by config id: what names, references and macros in them lead to.

Configs are merged on the command line in any combination, so that an id stands for what any file has under it.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from monai_lighter.inspection.documents import Pairs
from monai_lighter.inspection.expressions import Expression, read_expression, read_located
from monai_lighter.inspection.judge import judge_located
from monai_lighter.inspection.report import Level, Verdict
from monai_lighter.inspection.resolve import Resolver
from monai_lighter.inspection.syntax import bindings, parse_expression, reference_path

__all__ = ["BundleScope", "Item", "ItemScope", "is_metadata", "iter_items", "joined"]

GLOBALS = {"monai": "monai", "torch": "torch", "np": "numpy", "numpy": "numpy"}
"""Names that expressions have without an import (``ConfigParser.globals``)."""
SEPARATOR = "::"
MACRO_FILE = re.compile(r"(.*\.(?:json|yaml|yml))(?=::|$)", re.IGNORECASE)
MAX_HOPS = 12
METADATA = re.compile(r"(^|/)metadata\.json$")
NO_VALUES = {"_target_", "_disabled_", "_requires_", "_mode_", "_desc_"}
"""Keys of a component that are not passed on to what it builds."""

Item = tuple[str, str, Any]
"""Id, key, value."""


def _texts(value: Any, id: str) -> Iterator[tuple[str, str]]:
    """Id and text of every expression, reference and macro that a value holds, or hands to what it builds."""
    if isinstance(value, str) and value[:1] in ("$", "@", "%"):
        yield id, value
    elif isinstance(value, Pairs):
        left_out = NO_VALUES if "_target_" in value.names() else set()
        for key, item in value:
            if key not in left_out:
                yield from _texts(item, joined(id, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _texts(item, joined(id, str(i)))


def _outline(text: str) -> tuple[list[str], list[str]]:
    """What an expression imports, and ids that it refers to."""
    try:
        tree = parse_expression(text)
    except SyntaxError:
        return [], []
    paths = [path for node in ast.walk(tree) if (path := reference_path(node)) is not None]
    return [dotted for _, dotted in bindings(tree, relative=False)], paths


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


def is_metadata(file: str, content: Any) -> bool:
    """Whether a file is the metadata of a bundle, and describes: it builds and evaluates nothing."""
    acts = any(
        key == "_target_" or (isinstance(value, str) and value[:1] in ("$", "%"))
        for _, key, value in iter_items(content)
    )
    return bool(METADATA.search(file)) and not acts


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
        self.described = {file for file, content in documents.items() if is_metadata(file, content)}
        self.aliases: dict[str, set[str]] = defaultdict(set)
        for name, dotted in GLOBALS.items():
            self.aliases[name].add(dotted)
        self.read = lru_cache(maxsize=None)(self._read)
        self.held = lru_cache(maxsize=None)(self._held)
        self.located = lru_cache(maxsize=None)(self._located)
        for file, content in documents.items():
            own: dict[str, list[Any]] = defaultdict(list)
            described = METADATA.search(file)
            for id, _, value in iter_items(content):
                own[id].append(value)
                self.items[id].append(value)
                if described:
                    self.items[joined("_meta_", id) if id else "_meta_"].append(value)
                if isinstance(value, str) and value.startswith("$") and "import" in value:
                    self._note_import(value)
            self.by_file[file] = own

    def _note_import(self, text: str) -> None:
        try:
            names = list(bindings(parse_expression(text), relative=False))
        except SyntaxError:
            return
        for name, dotted in names:
            self.aliases[name].add(dotted)

    def _read(self, text: str, id: str, hops: int) -> Expression:
        return read_expression(text, ItemScope(self, id, hops))

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

    def _held(self, start: str) -> tuple[str, ...]:
        """Dotted names of the modules that an item holds or refers to, where it is no plain name itself."""
        while start not in self.items and SEPARATOR in start:
            start = start.rpartition(SEPARATOR)[0]
        found: dict[str, None] = {}
        seen = {start}
        waiting = [(value, start) for value in self.values(f"@{start}", "") if not self._is_name(value, start)]
        while waiting:
            value, at = waiting.pop()
            for id, text in _texts(value, at):
                imported, referred = _outline(text) if text[0] == "$" else ([], [text[1:].replace("#", SEPARATOR)])
                found.update(dict.fromkeys(imported))
                key = text if text[0] == "%" else ""
                for wanted in {absolute(reference, id) + key for reference in referred} - seen:
                    seen.add(wanted)
                    waiting += [(v, id) for v in self.values(key, id)] if key else self._at(wanted)
        return tuple(found)

    def _at(self, id: str) -> list[tuple[Any, str]]:
        return [(value, id) for value in self.items.get(id, ())]

    def _is_name(self, value: Any, id: str) -> bool:
        return isinstance(value, str) and value.startswith("$") and bool(self.read(value, id, 1).names)

    def _located(self, id: str, hops: int) -> tuple[Verdict, ...]:
        if hops > MAX_HOPS:
            return (Verdict(Level.DANGER, "refers too far: what is looked up by its name, and called, is not seen"),)
        return tuple(v for value in self.values(f"@{id}", "") for v in self.looked_up(value, id, hops + 1))

    def looked_up(self, value: Any, id: str, hops: int = 0) -> Iterator[Verdict]:
        """What is not harmless, were the texts of a value looked up by their names and called."""
        if isinstance(value, list) and not isinstance(value, Pairs):
            for i, item in enumerate(value):
                yield from self.looked_up(item, joined(id, str(i)), hops)
        elif isinstance(value, str) and value.startswith("$"):
            yield from read_located(value, ItemScope(self, id, hops))
        elif isinstance(value, str) and value.startswith("@"):
            yield from self.located(absolute(value[1:].replace("#", SEPARATOR), id), hops)
        elif isinstance(value, str) and value.startswith("%") and hops <= MAX_HOPS:
            for item in self.values(value, id):
                yield from self.looked_up(item, id, hops + 1)
        elif isinstance(value, str):
            yield from judge_located(value, self.resolver)


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
                yield from self.bundle.read(value, wanted, self.hops + 1).names
            elif isinstance(value, Pairs) and value.last("_mode_") == "callable":
                target = value.last("_target_")
                yield from (f.name for f in self.resolver.target(target)) if isinstance(target, str) else ()

    def held(self, id: str) -> Iterable[str]:
        return self.bundle.held(absolute(id, self.id))

    def located(self, id: str) -> Iterable[Verdict]:
        return self.bundle.located(absolute(id, self.id), self.hops)
