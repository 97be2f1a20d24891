"""A bundle's ``logging.conf``, applied by `logging.config.fileConfig` without what a bundle has no business with.

MONAI 1.6.1 screens the file too (``monai.bundle.workflows._apply_logging_file``). That is not enough here: it looks at values
before ``%(name)s`` is filled in, and ``fileConfig`` evaluates what they are afterwards; it passes ``defaults`` of a formatter,
which ``fileConfig`` evaluates from Python 3.12 on, and handlers that write anywhere or connect to somewhere; and it refuses the
whole file for one handler, or for ``handlers.RotatingFileHandler`` as Python's documentation writes it.
"""

from __future__ import annotations

import ast
import configparser
import inspect
import logging
import logging.config
import logging.handlers
import operator
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["applied_for_monai", "apply_logging_conf"]

logger = logging.getLogger(__name__)

HANDLERS = (
    "StreamHandler",
    "NullHandler",
    "FileHandler",
    "handlers.WatchedFileHandler",
    "handlers.RotatingFileHandler",
    "handlers.TimedRotatingFileHandler",
)
"""Handlers that are applied, as named after ``logging.``"""
OPTIONS = {
    *("keys", "class", "level"),
    *("args", "kwargs", "formatter"),
    *("format", "datefmt", "style"),
    *("handlers", "qualname", "propagate"),
}
"""What is read of sections. Not ``defaults`` of formatters, which `fileConfig` of Python 3.12 evaluates and MONAI passes."""
LOG_NAME = re.compile(r"[^.].*\.log(\.[\d._-]+)?|(?=.*log)[^.].*\.txt(\.[\d._-]+)?", re.IGNORECASE)
"""Names of log files, rotated ones too: what is logged is made of the bundle's words, and must not be a program or settings."""
ATTRIBUTE = re.compile(r"\{\w*[.\[]")
"""What looks into attributes in a format of style ``{``."""
MAX_SIZE = 1 << 20


def apply_logging_conf(path: str | Path) -> list[str]:
    """Apply the harmless part of a ``logging.conf``, and warn of the rest. Existing loggers stay enabled.

    Args:
        path: the file, UTF-8, of at most 1 MiB.

    Returns:
        ``[section] why``, one for each thing that is left out; ``the whole file: why`` where nothing is applied.

    Raises:
        FileNotFoundError: there is no such file.
    """
    screened = configparser.RawConfigParser()  # fileConfig fills no ``%(name)s`` into one that is raw
    left_out: list[str] = []
    try:
        screened.read_dict(_read_sections(Path(path)))
        left_out += _screen(screened)
        for what in left_out:  # first, as the file may turn warnings off
            logger.warning(f"{path}: left out {what}")
        logging.config.fileConfig(screened, disable_existing_loggers=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # of a file that cannot be read, or lacks what fileConfig asks of every one
        left_out.append(f"the whole file: {type(error).__name__}: {error}")
        logger.warning(f"{path}: left out {left_out[-1]}")
    return left_out


def _read_sections(file: Path) -> dict[str, dict[str, str]]:
    """The sections of a file, each with the options that are used, its own or those of ``[DEFAULT]``."""
    if file.stat().st_size > MAX_SIZE:
        raise ValueError(f"more than {MAX_SIZE} bytes")
    parser = configparser.RawConfigParser()
    parser.read_string(file.read_text("utf-8"))
    return {name: {key: parser[name][key] for key in OPTIONS if key in parser[name]} for name in parser.sections()}


def _screen(parser: configparser.RawConfigParser) -> Iterator[str]:
    """Takes out what is not applied, and says what and why."""
    kept: dict[str, list[str]] = {"formatter": [], "handler": [], "logger": []}
    for kind, names in kept.items():
        for name in _split(parser[f"{kind}s"]["keys"]):
            try:
                if not parser.has_section(f"{kind}_{name}"):
                    raise ValueError("there is no such section")
                _check_section(kind, parser[f"{kind}_{name}"])
                names.append(name)
            except Exception as error:  # handlers raise anything for arguments that are wrong
                yield f"[{kind}_{name}] {error}"
        parser[f"{kind}s"]["keys"] = ",".join(names)
    for name in kept["handler"]:
        if parser.get(f"handler_{name}", "formatter", fallback="") not in kept["formatter"]:
            parser[f"handler_{name}"]["formatter"] = ""
    for name in kept["logger"]:
        section = parser[f"logger_{name}"]
        section["handlers"] = ",".join(one for one in _split(section.get("handlers", "")) if one in kept["handler"])


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _check_section(kind: str, section: configparser.SectionProxy) -> None:
    """Raises ValueError, and whatever a handler raises that cannot be made, for a section that is not applied."""
    if not isinstance(logging.getLevelName(section.get("level", "INFO")), int):
        raise ValueError(f"level = {section['level']}: there is no such level")
    if kind == "handler":
        _check_handler(section)
    elif kind == "formatter":
        if section.get("class", "logging.Formatter") not in ("logging.Formatter", ""):
            raise ValueError(f"class = {section['class']}: only logging.Formatter is used")
        if section.get("style") == "{" and ATTRIBUTE.search(section.get("format", "")):
            raise ValueError("format: it looks into attributes")


def _check_handler(section: configparser.SectionProxy) -> None:
    name = section.get("class", "").removeprefix("logging.")
    if name not in HANDLERS:
        raise ValueError(f"class = {name}: only {', '.join(HANDLERS)} are used")
    handler = operator.attrgetter(name)(logging)
    args, kwargs = (_literal(section.get(option) or default) for option, default in (("args", "()"), ("kwargs", "{}")))
    given = inspect.signature(handler).bind(*args, **kwargs).arguments
    if "filename" in given:
        _check_file(given["filename"], given.get("mode", "a"))
    elif given.get("stream") not in (None, sys.stdout, sys.stderr):
        raise ValueError(f"args: the stream must be sys.stdout or sys.stderr, got {given['stream']!r}")
    handler(*args, **kwargs).close()


def _check_file(name: Any, mode: str) -> None:
    """A log file below the working directory, in a directory that is there."""
    if not isinstance(name, str) or not name.isprintable():
        raise ValueError(f"args: the file name must be a printable text, got {name!r}")
    path, here = Path(name).resolve(), Path.cwd()
    if not path.is_relative_to(here) or not path.parent.is_dir():
        raise ValueError(f"args: {name!r} is in no directory below the working directory")
    if not LOG_NAME.fullmatch(path.name) or any(part.startswith(".") for part in path.relative_to(here).parts):
        raise ValueError(f"args: {name!r} is not named as a log file is")
    if mode not in ("a", "w"):
        raise ValueError(f"args: the mode must be a or w, got {mode!r}")


def _literal(text: str) -> Any:
    """The value of a literal in which ``sys.stdout`` and ``sys.stderr`` may stand."""
    try:
        return ast.literal_eval(_WithStreams().visit(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError):
        raise ValueError(f"{text}: it is no literal") from None


class _WithStreams(ast.NodeTransformer):
    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        streams: dict[str, Any] = {"sys.stdout": sys.stdout, "sys.stderr": sys.stderr}
        name = ast.unparse(node)
        return ast.Constant(streams[name]) if name in streams else node


@contextmanager
def applied_for_monai(root: Path, logging_file: str | Path | bool | None, meta_file: Any = None) -> Iterator[bool]:
    """Applies the logging file that a ``ConfigWorkflow`` would, and gives what to hand MONAI instead of it: False.

    Within it MONAI does not say that it skips the file, nor call it an error that there are no metadata where none were given:
    a config runs without.

    Args:
        root: directory of the bundle's configs.
        logging_file: its ``logging_file``: a path, False for none, None for ``logging.conf`` in ``root`` where there is one.
        meta_file: its ``meta_file``; None for ``metadata.json`` in ``root``.

    Raises:
        FileNotFoundError: a path at which there is no file.
    """
    path = root / "logging.conf" if logging_file is None else Path(str(logging_file))
    if logging_file is not False and (logging_file is not None or path.is_file()):
        apply_logging_conf(path)
    monai = logging.getLogger("monai.bundle.workflows")
    unsaid = ("skipping logging", *(("Cannot find the metadata",) if meta_file is None else ()))

    def is_said(record: logging.LogRecord) -> bool:
        return not any(text in record.getMessage() for text in unsaid)

    monai.addFilter(is_said)
    try:
        yield False
    finally:
        monai.removeFilter(is_said)
