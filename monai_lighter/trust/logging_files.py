"""A ``logging.conf``: what of it is more than settings. ``logging.config.fileConfig`` evaluates ``args`` and imports classes."""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

__all__ = ["find_logging_code"]

CLASSES = {
    "handler": {
        *("StreamHandler", "NullHandler", "FileHandler"),
        *(f"handlers.{name}FileHandler" for name in ("Watched", "Rotating", "TimedRotating")),
    },
    "formatter": {"", "Formatter", "logging.Formatter"},
}
LEVELS = ("NOTSET", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL")
STREAMS = ("sys.stdout", "sys.stderr")
LOG_FILE = re.compile(r"[^.].*\.log(\.[\d._-]+)?|(?=.*log)[^.].*\.txt(\.[\d._-]+)?", re.IGNORECASE)
MAX_SIZE = 1 << 20


def find_logging_code(file: Path) -> list[str]:
    """``[section] option = value`` of all that is evaluated, imported, or written elsewhere than to a log file.

    Args:
        file: of logging settings, with sections ``handler_…``, ``formatter_…``, ``logger_…``, whether or not they are used.
    """
    parser = configparser.RawConfigParser()
    try:
        if file.stat().st_size > MAX_SIZE:
            raise ValueError(f"more than {MAX_SIZE} bytes")
        parser.read_string(file.read_text("utf-8"))
    except (configparser.Error, ValueError, OSError) as error:
        return [f"cannot be read: {' '.join(str(error).split())}"[:200]]
    return [
        f"[{name}] {option} = {' '.join(value.split())}"
        for name in parser.sections()
        for option, value in _code(name.split("_")[0], dict(parser[name]))
    ]


def _code(kind: str, options: dict[str, str]) -> Iterator[tuple[str, str]]:
    if kind not in ("handler", "formatter", "logger"):
        return
    for option, value in options.items():
        if option == "class" and kind in CLASSES:
            is_plain = value.removeprefix("logging." if kind == "handler" else "") in CLASSES[kind]
        elif option in ("args", "kwargs", "stream", "defaults"):
            is_plain = _is_literal(value)
        elif option == "level":
            is_plain = value in LEVELS
        else:
            is_plain = "://" not in value and not (options.get("style") == "{" and re.search(r"\{\w*[.\[]", value))
        if not is_plain:
            yield option, value


def _is_literal(text: str) -> bool:
    """Whether arguments are numbers, names of log files and the standard streams."""
    try:
        node = ast.parse(text.strip() or "()", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    values: list[Any] = [node]
    if isinstance(node, (ast.Tuple, ast.List)):
        values = node.elts
    elif isinstance(node, ast.Dict):
        values = [*node.values, *(key for key in node.keys if not isinstance(key, ast.Constant))]
    return all(_is_plain(value) for value in values)


def _is_plain(node: Any) -> bool:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
        is_log = LOG_FILE.fullmatch(PurePosixPath(text).name) and not any(
            p.startswith(".") for p in PurePosixPath(text).parts
        )
        return text.lower() in ("a", "w", "utf-8", "utf8", "midnight", "h", "d", "m", "s") or bool(is_log)
    return isinstance(node, ast.Constant) or (isinstance(node, ast.expr) and ast.unparse(node) in STREAMS)
