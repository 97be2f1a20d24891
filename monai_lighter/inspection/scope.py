"""All configs of a bundle by config id: what names, references and macros in them lead to.

Configs are merged on the command line in any combination, so that an id stands for what any file has under it.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from typing import Any

from monai_lighter.inspection.documents import Pairs
from monai_lighter.inspection.expressions import Expression, read_expression, read_located
from monai_lighter.inspection.held import HeldModules
from monai_lighter.inspection.ids import SEPARATOR, absolute, iter_items, joined, macro_parts
from monai_lighter.inspection.judge import judge_located
from monai_lighter.inspection.report import Level, Verdict
from monai_lighter.inspection.resolve import Resolver
from monai_lighter.inspection.syntax import bindings, parse_expression

__all__ = ["BundleScope", "ItemScope", "TooMuchError"]

GLOBALS = {"monai": "monai", "torch": "torch", "np": "numpy", "numpy": "numpy"}
"""Names that expressions have without an import (``ConfigParser.globals``)."""
MAX_HOPS = 12
MAX_STEPS = 2_000_000
"""Values that references and macros may lead to, and half the characters of all expressions."""
STEPS_OF_EXPRESSION = 20
METADATA = re.compile(r"(^|/)metadata\.json$")


def is_metadata(file: str, content: Any) -> bool:
    """Whether a file is the metadata of a bundle, and describes: it builds and evaluates nothing."""
    acts = any(
        key == "_target_" or (isinstance(value, str) and value[:1] in ("$", "%"))
        for _, key, value in iter_items(content)
    )
    return bool(METADATA.search(file)) and not acts


class TooMuchError(Exception):
    """There is more to read, or to follow, than in any usual bundle."""


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
        self.steps = 0
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

    @cached_property
    def modules(self) -> HeldModules:
        return HeldModules(self.items, self.aliases, self.resolver)

    @cached_property
    def read_by_macro(self) -> set[str]:
        """Files of the bundle that macros name."""
        texts = [value for values in self.items.values() for value in values if isinstance(value, str)]
        return {self.own_file(macro_parts(text, "")[0]) for text in texts if text.startswith("%")}

    def _read(self, text: str, id: str, hops: int) -> Expression:
        self._step(STEPS_OF_EXPRESSION + len(text) // 2)
        return read_expression(text, ItemScope(self, id, hops))

    def own_file(self, path: str) -> str:
        """The file of the bundle that a path in a macro is, relative to the bundle; empty where there is none."""
        name = posixpath.normpath(path)
        return name if name in self.documents else ""

    def values(self, text: str, id: str) -> Iterator[Any]:
        """What a whole-item reference (``@id``) or macro (``%id``) leads to in the end; other texts as they are."""
        waiting, seen = [(text, id)], set[tuple[str, str]]()
        while waiting:
            text, id = waiting.pop()
            if text[:1] not in ("@", "%"):
                yield text
                continue
            file, wanted = macro_parts(text, id) if text[0] == "%" else ("", absolute(text[1:], id))
            found = self.by_file.get(self.own_file(file), {}) if file else self.items
            if (file, wanted) in seen:
                continue
            seen.add((file, wanted))
            for value in self._counted(found.get(wanted, [])):
                if isinstance(value, str):
                    waiting.append((value, wanted))
                else:
                    yield value

    def _counted(self, values: list[Any]) -> list[Any]:
        self._step(1 + len(values))
        return values

    def _step(self, count: int) -> None:
        """Counts work that references and macros make.

        Raises:
            TooMuchError: it is so much that the configs are no usual ones.
        """
        self.steps += count
        if self.steps > MAX_STEPS:
            raise TooMuchError

    def parents(self, id: str) -> list[Pairs]:
        """The mappings that the item of that id may be in."""
        return [
            value
            for value in self._counted(self.items.get(id.rpartition(SEPARATOR)[0], []))
            if isinstance(value, Pairs)
        ]

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
            self._step(STEPS_OF_EXPRESSION + len(value) // 2)
            yield from read_located(value, ItemScope(self, id, hops))
        elif isinstance(value, str) and value.startswith("@"):
            yield from self.located(absolute(value[1:], id), hops)
        elif isinstance(value, str) and value.startswith("%") and hops <= MAX_HOPS:
            for item in self.values(value, id):
                yield from self.looked_up(item, id, hops + 1)
        elif isinstance(value, str):
            yield from judge_located(value, self.resolver)


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
        wanted = absolute(id, self.id)
        while wanted not in self.bundle.items and SEPARATOR in wanted:
            wanted = wanted.rpartition(SEPARATOR)[0]
        name = self.bundle.modules.held.get(wanted)
        return [name] if name else []

    def located(self, id: str) -> Iterable[Verdict]:
        return self.bundle.located(absolute(id, self.id), self.hops)
