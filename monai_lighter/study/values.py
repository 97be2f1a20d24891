"""The values of a parameter of a study, as the command line has them: one, a list of them, or a range to draw from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from fire.parser import DefaultParseValue

from monai_lighter.config.overrides import LITERALS
from monai_lighter.errors import ConfigError, Finding

__all__ = ["Range", "format_value", "read_values", "split_list"]

KINDS = ("log", "uniform", "int")
CALL = re.compile(rf"\s*({'|'.join(KINDS)})\((.*)\)\s*", re.DOTALL)
OPEN, CLOSED, QUOTES = "([{", ")]}", "\"'"


class Range(NamedTuple):
    """A range that a search draws from: ``uniform``, ``log`` (uniform in the logarithm) or ``int`` (whole numbers), both ends
    included."""

    kind: str
    low: float
    high: float


def read_values(id: str, text: str) -> list[Any] | Range:
    """What the command line gives for an id: a `Range` for ``log(1e-4, 1e-1)``, else a list, with one value for what is no list.

    A comma that stands in no brackets, braces, parentheses and quotes separates values: ``0,1,2`` are three, ``[16,32]`` and
    ``(1,2)`` one each, ``[16,32],[32,64]`` two. An expression (``$…``) is always one. Values are read as ``fit`` reads those of
    a native config: ``true`` is no text, of which ``false`` would be as true as any.

    Args:
        id: config id, for messages.
        text: as given.

    Raises:
        ConfigError: a range that has not two numbers in order, or a list with nothing between commas, or with a value twice.
    """
    call = CALL.fullmatch(text)
    if call is not None:
        return _read_range(id, call[1], call[2], text)
    parts = split_list(text)
    values = [
        LITERALS.get(value, value) if isinstance(value, str) else value for value in map(DefaultParseValue, parts)
    ]
    twice = [part for i, part in enumerate(parts) if values[i] in values[:i]]
    if "" in parts and len(parts) > 1:
        raise ConfigError([Finding(id, f"has an empty value, in {text!r}", "Remove a comma.")])
    if twice:
        raise ConfigError([Finding(id, f"has the value {twice[0]} twice, in {text!r}", "Remove one.")])
    return values


def split_list(text: str) -> list[str]:
    """Parts of a text between commas at the outermost level, without the spaces around them."""
    return [part.strip() for part in _split(text)] if not text.lstrip().startswith("$") else [text]


def _split(text: str) -> Iterator[str]:
    depth, quote, start = 0, "", 0
    for i, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in QUOTES:
            quote = sign
        elif sign in OPEN:
            depth += 1
        elif sign in CLOSED:
            depth -= 1
        elif sign == "," and depth == 0:
            yield text[start:i]
            start = i + 1
    yield text[start:]


def _read_range(id: str, kind: str, inner: str, text: str) -> Range:
    ends = [DefaultParseValue(part) for part in split_list(inner)]
    number: Any = int if kind == "int" else (int, float)
    problem = ""
    if len(ends) != 2 or not all(isinstance(end, number) and not isinstance(end, bool) for end in ends):
        problem = "must have two whole numbers" if kind == "int" else "must have two numbers"
    elif not ends[0] < ends[1]:
        problem = "must have the smaller number first"
    elif kind == "log" and ends[0] <= 0:
        problem = "must have numbers above 0"
    if problem:
        raise ConfigError(
            [Finding(id, f"{problem}, got {text!r}", f"Write {kind}({'1, 10' if kind == 'int' else '1e-4, 1e-1'}).")]
        )
    return Range(kind, *ends)


def format_value(value: Any) -> str:
    """A value as a word of a command line from which `fit` reads the same value again."""
    return value if isinstance(value, str) and DefaultParseValue(value) == value else repr(value)
