"""Absolute paths in texts: what names a place on one machine."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["absolute_paths", "is_absolute"]

BEGINS = re.compile(r"~?/\w|[A-Za-z]:[\\/]\w|\\\\\w")
"""A text that is an absolute path as a whole, of one component or more: POSIX, in a home directory, with a drive, UNC."""
ADDRESS = re.compile(r"\b(?:(?!file:)[A-Za-z][\w+.-]+://[^\s'\"<>)]*|data:[\w/+.-]+;base64,[\w+/=]+)")
POSIX = r"(?:(?<=file://)|(?<![\w.~}\])$%*?/<+]))/(?=\w*[^\W\d_])\w[\w.@+%-]*/[^\s'\"`,;)\]|<>/][^\s'\"`,;)\]|<>]*"
HOME = r"(?<![\w.~/])~/\w[\w.@+%-]*/[^\s'\"`,;)\]|<>/][^\s'\"`,;)\]|<>]*"
DRIVE = r"(?<!\w)[A-Za-z]:(?:\\{1,2}|/)(?!/)[^\s'\"\\/:]+(?:\\{1,2}|/)[^\s'\"\\/][^\s'\"`,;)\]]*"
SHARE = r"(?<![\w\\])(?:\\\\){1,2}\w[\w.-]+\\{1,2}\w[^\s'\"`,;)\]]+"
ROOTED = re.compile(f"{POSIX}|{HOME}|{DRIVE}|{SHARE}")
HARMLESS = re.compile(
    r"/(?:(?:dev|proc|sys|bin|sbin|lib|lib64|etc|tmp|your|path/to|absolute/path)/|usr/(?:bin|lib|include|share|local)/)"
)
"""Of any system, of nobody in particular, or an example."""
LITERALS = re.compile(r"(?:(['\"])[^'\"]*\1\s*\+\s*)*[rbfuRBFU]{0,2}['\"]$")
"""The end of a text that opens a literal, with the literals that it is joined to."""
PLACEHOLDER = re.compile(r"<(?!(?:code|pre|td|th|li|p|b|i|em|tt|kbd|samp|br|span|div)>)[^<>/]+>$")


def is_absolute(text: str) -> bool:
    """Whether a text is an absolute path as a whole."""
    return BEGINS.match(text) is not None


def absolute_paths(line: str) -> Iterator[str]:
    """The absolute paths of two components or more in a line.

    Left alone are addresses, what is joined to something else (``root + '/models/model.pt'``, ``<DIR>/a/b``) and paths that
    every system has, such as ``/usr/bin/env``.
    """
    line = ADDRESS.sub(lambda match: " " * len(match.group()), line).replace("\\/", "/")
    for match in ROOTED.finditer(line):
        before = line[: match.start()]
        opened = LITERALS.search(before)
        joined = opened is not None and before[: opened.start()].rstrip().endswith("+")
        if not (joined or HARMLESS.match(match.group()) or PLACEHOLDER.search(before)):
            yield match.group()
