"""YAML and JSON files read as MONAI reads them (``ConfigParser.load_config_file``), within limits, and nothing built."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import yaml

from monai_lighter.inspection.report import Level, Verdict

__all__ = ["Document", "DocumentError", "Pairs", "read_document"]

MAX_YAML = 1 << 20
"""Bytes; the loader is written in Python, as MONAI's is."""
MAX_JSON = 32 << 20
MAX_DEPTH = 60
MAX_ITEMS = 200_000
"""Items of a config, where each use of an alias counts anew: what a walk over the config would meet."""
MAX_JSON_ITEMS = 1_000_000
MAX_IDS = 1 << 27
"""Characters of the ids of all items together, each of which has the keys of those around it in it."""
STANDARD = "tag:yaml.org,2002:"
PLAIN_TAGS = {f"{STANDARD}{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge", "value")}
READABLE_TAGS = PLAIN_TAGS | {f"{STANDARD}{name}" for name in ("binary", "timestamp", "omap", "pairs", "set")}


class DocumentError(Exception):
    """A file that cannot be read, or not safely: why."""


class Pairs(list):
    """A mapping as its key-value pairs in order, duplicate keys included."""

    def last(self, key: str) -> Any:
        """The value that a parser takes: the last one of that key; None where there is none."""
        return next((value for name, value in reversed(self) if name == key), None)

    def names(self) -> list[str]:
        return [key for key, _ in self]


class Document:
    """The content of a file: texts, numbers, ``True``, ``False``, ``None``, lists, and `Pairs` for mappings.

    Attributes:
        content: the outermost item.
        problems: what is odd about the file.
    """

    def __init__(self, content: Any, problems: list[Verdict]) -> None:
        self.content, self.problems = content, problems


def read_document(name: str, data: bytes) -> Document:
    """Reads a YAML or JSON file.

    Raises:
        DocumentError: it cannot be read; it is larger or deeper than the limits, also by its aliases.
    """
    is_json = name.lower().endswith(".json")
    if len(data) > (MAX_JSON if is_json else MAX_YAML):
        raise DocumentError(f"too large to be read ({len(data)} bytes)")
    try:
        text = data.decode("utf-8")
        return _read_json(text) if is_json else _read_yaml(text)
    except (ValueError, yaml.YAMLError, RecursionError, OverflowError) as error:
        raise DocumentError(f"cannot be read: {str(error) or type(error).__name__}") from error


def _read_json(text: str) -> Document:
    problems: list[Verdict] = []

    def pairs(items: list[tuple[str, Any]]) -> Pairs:
        problems.extend(_duplicates([key for key, _ in items]))
        return Pairs(items)

    content = json.loads(text, object_pairs_hook=pairs, parse_int=str, parse_float=str)
    _measure(content)
    return Document(content, problems)


def _measure(content: Any) -> None:
    stack, count, ids = [(content, 1, 0)], 0, 0
    while stack:
        item, depth, id = stack.pop()
        count, ids = count + 1, ids + id
        if depth > MAX_DEPTH or count > MAX_JSON_ITEMS or ids > MAX_IDS:
            raise DocumentError(f"bomb: nested deeper than {MAX_DEPTH}, or too many items or too long keys")
        if isinstance(item, Pairs):
            stack += [(value, depth + 1, id + len(key)) for key, value in item]
        elif isinstance(item, list):
            stack += [(value, depth + 1, id + 1) for value in item]


def _duplicates(keys: list[str]) -> Iterator[Verdict]:
    for key in sorted(key for key, count in Counter(keys).items() if count > 1):
        yield Verdict(Level.DANGER, f"duplicate key {key!r}: only the last value counts, a reader may see another")


class _Loader(yaml.SafeLoader):
    """Composes nodes, and no more; stops at the limits."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        self.nodes += 1
        if self.depth > MAX_DEPTH or self.nodes > MAX_ITEMS:
            raise DocumentError(f"bomb: nested deeper than {MAX_DEPTH}, or more than {MAX_ITEMS} items")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _read_yaml(text: str) -> Document:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    sizes: dict[int, int] = {}
    if node is not None and _size(node, sizes, ()) > MAX_ITEMS:
        raise DocumentError(f"bomb: more than {MAX_ITEMS} items once its aliases are expanded ({sizes[id(node)]})")
    problems: list[Verdict] = []
    content = None if node is None else _plain(node, problems)
    _measure(content)
    return Document(content, list(dict.fromkeys(problems)))


def _size(node: Any, sizes: dict[int, int], above: tuple[int, ...]) -> int:
    """Number of items under a node, aliases expanded."""
    if id(node) in above:
        raise DocumentError("bomb: an alias that holds itself")
    if id(node) not in sizes:
        below = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            sizes[id(node)] = 1 + sum(_size(k, sizes, below) + _size(v, sizes, below) for k, v in node.value)
        elif isinstance(node, yaml.SequenceNode):
            sizes[id(node)] = 1 + sum(_size(item, sizes, below) for item in node.value)
        else:
            sizes[id(node)] = 1
    return sizes[id(node)]


def _plain(node: Any, problems: list[Verdict]) -> Any:
    if node.tag not in READABLE_TAGS:
        python = node.tag.startswith(f"{STANDARD}python/")
        why = "an unsafe YAML loader would build it" if python else "MONAI's loader refuses it"
        problems.append(Verdict(Level.DANGER, f"tag {node.tag}: {why}"))
    if isinstance(node, yaml.ScalarNode):
        if node.tag == f"{STANDARD}bool":
            return yaml.SafeLoader.bool_values.get(node.value.lower())
        return None if node.tag == f"{STANDARD}null" else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, problems) for item in node.value]
    pairs, merged = Pairs(), Pairs()
    for key, value in node.value:
        if key.tag == f"{STANDARD}merge":
            merged += _merged(value, problems)
        else:
            pairs.append(
                (str(_plain(key, problems)) if isinstance(key, yaml.ScalarNode) else "?", _plain(value, problems))
            )
    problems.extend(_duplicates(pairs.names()))
    return Pairs([*merged, *pairs])


def _merged(node: Any, problems: list[Verdict]) -> Pairs:
    """What ``<<:`` brings in; an own key of the mapping comes after it and wins."""
    values = _plain(node, problems)
    groups = values if isinstance(values, list) and not isinstance(values, Pairs) else [values]
    return Pairs(pair for group in reversed(groups) if isinstance(group, Pairs) for pair in group)
