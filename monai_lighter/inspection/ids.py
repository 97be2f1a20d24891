"""Config ids: of the items of a file, and of what references and macros lead to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from monai_lighter.inspection.documents import Pairs

__all__ = ["SEPARATOR", "Item", "absolute", "iter_items", "joined", "macro_parts"]

SEPARATOR = "::"
MACRO_FILE = re.compile(r"(.*\.(?:json|yaml|yml))(?=::|$)", re.IGNORECASE)

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
            yield from iter_items(value, joined(id, name), joined("", name).split(SEPARATOR)[-1])
    elif isinstance(content, list):
        for i, value in enumerate(content):
            yield from iter_items(value, joined(id, str(i)), key)


def absolute(reference: str, id: str) -> str:
    """A relative id (``::name`` beside this item, ``::::name`` one level up) from the root."""
    reference, levels = reference.replace("#", SEPARATOR), 0
    while reference.startswith(SEPARATOR):
        reference, levels = reference[len(SEPARATOR) :], levels + 1
    if not levels:
        return reference
    parts = id.split(SEPARATOR)[: -levels or None]
    return SEPARATOR.join([*parts, reference])


def macro_parts(text: str, id: str) -> tuple[str, str]:
    """File and id of a macro, ``%`` included; no file where it is of the config itself."""
    text = text[1:].replace("#", SEPARATOR)
    match = MACRO_FILE.match(text)
    if match is None:
        return "", absolute(text, id)
    return match.group(1), text[match.end() :].removeprefix(SEPARATOR)
