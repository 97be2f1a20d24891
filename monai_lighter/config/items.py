"""The items of a config: every one with its id, what refers to what, where an item really stands, and plain copies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeGuard

from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import EXPR_KEY, ID_REF_KEY, ID_SEP_KEY, MACRO_KEY

__all__ = [
    "REFERENCE",
    "at",
    "copied",
    "is_computed",
    "is_text",
    "items",
    "locate",
    "located",
    "mentions",
    "normalize",
    "plain_config",
    "reached",
    "referenced",
]

REFERENCE = ReferenceResolver.id_matcher
"""MONAI's pattern of a reference (``@section::item``) in a text with `normalize` ids."""

normalize = ReferenceResolver.normalize_id
"""An id, or a text with ids, in which ``#`` has become ``::``."""


def is_computed(value: Any) -> bool:
    """Whether an item is an expression (``$…``) or a reference (``@…``), so that what it will be is not known yet."""
    return isinstance(value, str) and value.startswith((EXPR_KEY, ID_REF_KEY))


def is_text(value: Any) -> TypeGuard[str]:
    """Whether an item is a text and will be that text."""
    return isinstance(value, str) and not is_computed(value)


def referenced(value: Any) -> str | None:
    """The id that a whole-item reference (``@section::item``) leads to; None for anything else."""
    if isinstance(value, str) and REFERENCE.fullmatch(normalize(value)):
        return normalize(value)[len(ID_REF_KEY) :]
    return None


def mentions(text: str, id: str) -> bool:
    """Whether a text refers to an item, or to one in it, by ``@`` or ``%``."""
    return re.search(rf"[{ID_REF_KEY}{MACRO_KEY}]{re.escape(id)}(?!\w)", normalize(text)) is not None


def at(config: Any, id: str) -> Any:
    """The item of a config with an id.

    Raises:
        KeyError, IndexError, ValueError: no such item.
    """
    for key in id.split(ID_SEP_KEY):
        if not isinstance(config, (dict, list)):
            raise KeyError(id)
        if isinstance(config, dict):  # its keys may be numbers, which are text in an id
            config = {str(name): value for name, value in config.items()}[key]
        else:
            config = config[int(key)]
    return config


def located(config: Any, id: str) -> tuple[str, Any]:
    """Where an item really stands (`locate`), and its value; None where there is none."""
    where = locate(config, id)
    return (id, None) if where is None else (where, at(config, where))


def copied(config: Any) -> Any:
    """Dicts and lists are copied; what they hold (objects that properties were set to) is not."""
    if isinstance(config, dict):
        return {key: copied(value) for key, value in config.items()}
    return [copied(value) for value in config] if isinstance(config, list) else config


def plain_config(config: Any) -> Any:
    """A config for files and checkpoints: plain values; any other object, set from Python, as its ``repr``; no metadata."""
    if isinstance(config, dict):
        return {str(key): plain_config(value) for key, value in config.items() if key != ConfigParser.meta_key}
    if isinstance(config, (list, tuple)):
        return [plain_config(value) for value in config]
    return config if isinstance(config, (str, int, float, bool, type(None))) else repr(config)


def locate(config: Any, id: str) -> str | None:
    """The id at which an item really stands: whole-item references (``@other``) on the way are followed.

    Returns:
        None where there is no such item.
    """
    parts = id.split(ID_SEP_KEY)
    path: list[str] = []
    node, steps = config, 0
    while True:
        other = referenced(node)
        if other is not None:
            steps += 1
            if steps > 100:
                return None
            path, parts, node = [], other.split(ID_SEP_KEY) + parts, config
        elif not parts:
            return ID_SEP_KEY.join(path)
        else:
            key, *parts = parts
            if isinstance(node, dict) and key in node:
                node = node[key]
            elif isinstance(node, list) and key.lstrip("-").isdigit() and -len(node) <= int(key) < len(node):
                node = node[int(key)]
            else:
                return None
            path.append(key)


def items(config: Any, id: str = "") -> Iterator[tuple[str, Any]]:
    """Every item of a config with its id, outer ones first."""
    yield id, config
    if isinstance(config, (dict, list)):
        for _, sub_id, value in ReferenceResolver.iter_subconfigs(id, config):
            yield from items(value, sub_id)


def reached(config: dict, root: str) -> Iterator[tuple[str, Any]]:
    """An item and all that it is made of, those that it refers to included, each with its id; none where there is none."""
    waiting, seen = [root], set()
    while waiting:
        where = locate(config, waiting.pop())
        if where is None or where in seen:
            continue
        seen.add(where)
        for id, value in items(at(config, where), where):
            yield id, value
            if isinstance(value, str):
                waiting += ReferenceResolver.match_refs_pattern(normalize(value))
