"""Values in a ``logging.conf`` that are taken as they are written: literals, levels, names of handlers and files."""

from __future__ import annotations

import ast
import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

__all__ = [
    "CONVERTED",
    "HANDLERS",
    "LEVELS",
    "MODES",
    "NO_LOG_FILE",
    "STREAMS",
    "LeftOut",
    "file_value",
    "handler_kind",
    "level_value",
    "literal_value",
    "text_value",
]

HANDLERS: dict[str, tuple[str, ...]] = {
    "StreamHandler": ("stream",),
    "NullHandler": (),
    "FileHandler": ("filename", "mode", "encoding", "delay"),
    "handlers.WatchedFileHandler": ("filename", "mode", "encoding", "delay"),
    "handlers.RotatingFileHandler": ("filename", "mode", "maxBytes", "backupCount", "encoding", "delay"),
    "handlers.TimedRotatingFileHandler": ("filename", "when", "interval", "backupCount", "encoding", "delay", "utc"),
}
"""Handlers that are applied, as named after ``logging.``, and their parameters in order."""

STREAMS = {"sys.stdout": "ext://sys.stdout", "sys.stderr": "ext://sys.stderr"}
LEVELS = ("NOTSET", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL")
CONVERTED = re.compile(r"[a-z]+://")
"""``dictConfig`` takes a text that begins so for something to import (``ext``) or to look up (``cfg``)."""


LOG_NAME = re.compile(r"[^.].*\.log(\.[\d._-]+)?|(?=.*log)[^.].*\.txt(\.[\d._-]+)?", re.IGNORECASE)
"""Names of log files, rotated ones too: what is logged is made of the bundle's words, and must not be a program or settings."""
NO_LOG_FILE = "is not named as a log file is"
MODES = ("a", "w")


class LeftOut(Exception):
    """Why a section is left out."""


def handler_kind(text: str) -> str:
    """The class of a handler as in `HANDLERS`, or what stands in its place."""
    return re.sub(r"^logging\.", "", text.strip())


def level_value(level: str) -> str:
    """The name of a level."""
    if level.strip() not in LEVELS:
        raise LeftOut(f"level = {level}: must be one of {', '.join(LEVELS)}")
    return level.strip()


def text_value(option: str, text: str) -> str:
    """A text that ``dictConfig`` takes as it is."""
    if CONVERTED.match(text):
        raise LeftOut(f"{option} = {text}: it would be imported")
    return text


def file_value(name: Any) -> str:
    """The name of a log file below the working directory."""
    if not isinstance(name, str) or not name:
        raise LeftOut(f"args: the file name must be a text, got {name!r}")
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.is_absolute() or path.drive or ".." in path.parts or name.startswith("~"):
            raise LeftOut(f"args: {name!r} is not below the working directory")
    *folders, file = PureWindowsPath(name).parts
    if not LOG_NAME.fullmatch(file) or not name.isprintable() or any(folder.startswith(".") for folder in folders):
        raise LeftOut(f"args: {name!r} {NO_LOG_FILE}")
    return text_value("args", name)


def literal_value(option: str, text: str) -> Any:
    """The value of a literal in which ``sys.stdout`` and ``sys.stderr`` may stand."""
    try:
        return _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        raise LeftOut(f"{option} = {text}: it is no literal") from None


def _value(node: ast.AST) -> Any:
    if isinstance(node, ast.Attribute):
        return STREAMS[ast.unparse(node)] if ast.unparse(node) in STREAMS else ast.literal_eval(node)
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    return ast.literal_eval(node)
