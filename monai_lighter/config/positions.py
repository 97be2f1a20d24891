"""Where in its files each item of a config stands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY, MACRO_KEY, MERGE_KEY

from monai_lighter.config.composed import REMOVE, split_operator
from monai_lighter.config.items import normalize
from monai_lighter.errors import Finding

__all__ = ["Place", "Positions"]

COMMAND_LINE = "command line"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Place(NamedTuple):
    """A file and a line of it, counted from 1; an override has no line."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class Node(NamedTuple):
    """An item and the items in it (by name, or by index); ``doubles`` are keys written more than once, and their places;
    ``macro`` is the text of a macro."""

    place: Place
    items: dict[str, Node]
    is_list: bool
    doubles: list[tuple[str, Place, Place]]
    macro: str = ""


class Positions:
    """Places of the items of config files that are merged in order, by the rules of ``ConfigParser.load_config_files``.

    Files that cannot be read are left out.

    Args:
        files: paths of YAML and JSON files.
        overrides: ids that are set on the command line.
        composed: whether the files are merged by Lighter's rules instead (`read_composed`).
    """

    def __init__(self, files: Iterable[Any], overrides: Iterable[str] = (), composed: bool = False) -> None:
        self.files = [str(file) for file in files]
        self.composed = composed
        self.root = Node(Place(self.files[0] if self.files else ""), {}, False, [])
        self._doubles: list[Finding] = []
        for file in self.files:
            self._add(file)
        for id in overrides:
            self._set(normalize(id), Node(Place(COMMAND_LINE), {}, False, []))

    def _add(self, file: str) -> None:
        try:
            tree = _read(file)
        except (OSError, ValueError, yaml.YAMLError, RecursionError):
            return
        if tree is not None:
            self._doubles += _doubles(tree, "")
            for key, node in tree.items.items():
                if self.composed:
                    _compose(self.root, key, node)
                else:
                    self._merge(key, node)

    def _merge(self, key: str, node: Node) -> None:
        id = normalize(key.removeprefix(MERGE_KEY))
        present = self._find(id) if key.startswith(MERGE_KEY) else None
        if present is None:
            self._set(id, node)
        elif node.is_list:
            start = len(present.items)
            present.items.update({str(start + int(index)): item for index, item in node.items.items()})
        else:
            present.items.update(node.items)

    def _find(self, id: str) -> Node | None:
        node: Node | None = self.root
        for key in id.split(ID_SEP_KEY):
            node = None if node is None else node.items.get(key)
        return node

    def _set(self, id: str, node: Node) -> None:
        parent, keys = self.root, id.split(ID_SEP_KEY)
        for key in keys[:-1]:
            parent = parent.items.setdefault(key, Node(node.place, {}, False, []))
        parent.items[keys[-1]] = node

    def place(self, id: str) -> Place:
        """Where an item stands, also in the file of a macro; where it does not, the innermost item around it."""
        node = self.root
        for key in id.split(ID_SEP_KEY):
            inside = {**self._bring_in(node), **node.items} if node.macro else node.items
            if key not in inside:
                break
            node = inside[key]
        return node.place

    def _bring_in(self, node: Node) -> dict[str, Node]:
        """The items of what a macro with a file stands for, named beside the config as the config itself is."""
        path, target = ConfigParser.split_path_id(node.macro[len(MACRO_KEY) :])
        root = Path(self.files[0]).parent
        inside = (root.parent if root.name == "configs" else root) / path
        try:
            found = _read(str(inside if inside.is_file() else Path(path))) if path else None
        except (OSError, ValueError, yaml.YAMLError, RecursionError):
            return {}
        for key in target.split(ID_SEP_KEY) if target else ():
            found = None if found is None else found.items.get(key)
        return {} if found is None else found.items

    def doubles(self) -> list[Finding]:
        """Keys that stand twice in one mapping: the last one counts, the others are lost."""
        return self._doubles


def _compose(section: Node, key: str, node: Node) -> None:
    """One item of a file into the section that it is of, by Lighter's rules."""
    operator, id = split_operator(key)
    *parents, name = id.split(ID_SEP_KEY)
    for parent in parents:
        section = section.items.setdefault(parent, Node(node.place, {}, False, []))
    present = None if operator else section.items.get(name)
    if operator == REMOVE:
        if not node.items:
            section.items.pop(name, None)
    elif present is not None and present.is_list and node.is_list:
        start = len(present.items)
        present.items.update({str(start + int(index)): item for index, item in node.items.items()})
    elif node.items and not node.is_list:
        present = present if present is not None and not present.is_list else Node(node.place, {}, False, [])
        section.items[name] = present
        for inner, item in node.items.items():
            _compose(present, inner, item)
    else:
        section.items[name] = node


def _doubles(node: Node, id: str) -> Iterator[Finding]:
    for key, first, last in node.doubles:
        problem = f"stands twice, at {first} and line {last.line}, of which the last counts"
        yield Finding(f"{id}{ID_SEP_KEY if id else ''}{key}", problem, "Remove one.")
    for key, item in node.items.items():
        yield from _doubles(item, f"{id}{ID_SEP_KEY if id else ''}{key}")


def _read(file: str) -> Node | None:
    text = Path(file).read_text(encoding="utf-8-sig")
    if file.lower().endswith(".json"):
        json.loads(text)
        text = text.replace("\t", " ")  # which JSON has between its items alone, and YAML refuses there
    node = yaml.compose(text, Loader=LOADER)
    return None if node is None else _yaml(file, node)


def _yaml(file: str, node: yaml.Node) -> Node:
    place = Place(file, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return Node(place, {str(i): _yaml(file, item) for i, item in enumerate(node.value)}, True, [])
    is_macro = isinstance(node, yaml.ScalarNode) and node.value.startswith(MACRO_KEY)
    result = Node(place, {}, False, [], node.value if is_macro else "")
    if isinstance(node, yaml.MappingNode):
        own: dict[str, Node] = {}
        for key, value in node.value:
            child = _yaml(file, value)._replace(place=Place(file, key.start_mark.line + 1))
            if key.tag == "tag:yaml.org,2002:merge":
                for merged in [child] if isinstance(value, yaml.MappingNode) else child.items.values():
                    result.items.update({name: item for name, item in merged.items.items() if name not in result.items})
                continue
            name = str(key.value)
            if name in own:
                result.doubles.append((name, own[name].place, child.place))
            own[name] = child
        result.items.update(own)
    return result
