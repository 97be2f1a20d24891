"""A ``logging.conf``: what of it is applied, and what ``logging.config.fileConfig`` would evaluate or import."""

from __future__ import annotations

import ast
import configparser
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from monai_lighter.inspection.report import Entry, Level

__all__ = ["logging_entries"]

SECTIONS = re.compile(rb"\[(loggers|handlers|formatters)\]|\[(logger|handler|formatter)_")
REFERENCE = re.compile(r"%\((.*?)\)")
ATTRIBUTES = re.compile(r"\{\w*[.\[]")
"""What a format in the style of ``{`` looks into attributes with."""
MAX_SIZE = 4 << 20
MAX_HOPS = 20
EVALUATED = "logging.config.fileConfig would evaluate or import it"


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


NAME = re.compile(r"[\w.-]+")
MAX_CONF_SIZE = 1 << 20


class LoggingConfig(NamedTuple):
    """What of a ``logging.conf`` is applied, and what is not.

    Attributes:
        settings: for `logging.config.dictConfig`; empty where nothing can be applied.
        left_out: ``[section] option = value: why``, one for each thing that is left out.
    """

    settings: dict[str, Any]
    left_out: list[str]


def parse_logging_conf(content: bytes | str) -> LoggingConfig:
    """The literal-only subset of a ``logging.conf``. Evaluates and imports nothing."""
    try:
        parser = read_sections(content, MAX_CONF_SIZE)
    except (configparser.Error, ValueError) as error:
        return LoggingConfig({}, [f"the whole file: it cannot be read ({error})"])
    left_out = [f"[{name}]: it cannot be read" for name in parser.sections() if name not in _known(parser)]
    formatters = dict(_sections(parser, "formatter", _formatter, left_out))
    handlers = dict(_sections(parser, "handler", _handler, left_out))
    for name, handler in handlers.items():
        if handler.get("formatter", "") not in formatters and handler.pop("formatter", None):
            left_out.append(f"[handler_{name}] formatter: there is none of that name")
    loggers = dict(_sections(parser, "logger", _logger, left_out))
    for name, section in loggers.items():
        missing = [handler for handler in section["handlers"] if handler not in handlers]
        section["handlers"] = [handler for handler in section["handlers"] if handler in handlers]
        left_out += [f"[logger_{name}] handler {handler!r}: it is left out or not there" for handler in missing]
    settings: dict[str, Any] = {"version": 1, "disable_existing_loggers": False}
    settings |= {"formatters": formatters, "handlers": handlers}
    if "root" in loggers:
        settings["root"] = {key: value for key, value in loggers.pop("root").items() if key in ("level", "handlers")}
    settings["loggers"] = {section.pop("qualname"): section for section in loggers.values()}
    return LoggingConfig(settings, left_out)


def read_sections(content: bytes | str, limit: int) -> configparser.RawConfigParser:
    """The sections of a file, lines ended as in a text file: also by a lone carriage return.

    Raises:
        configparser.Error, ValueError: it cannot be read, or has more bytes than the limit.
    """
    if len(content) > limit:
        raise ValueError(f"more than {limit} bytes")
    parser = configparser.RawConfigParser()
    data = content if isinstance(content, bytes) else content.encode()
    parser.read_file(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
    return parser


def _names(parser: configparser.RawConfigParser, kind: str) -> list[str]:
    names = parser.get(f"{kind}s", "keys", fallback="")
    return [name.strip() for name in names.split(",") if name.strip()]


def _known(parser: configparser.RawConfigParser) -> set[str]:
    kinds = ("formatter", "handler", "logger")
    return {f"{kind}s" for kind in kinds} | {f"{kind}_{name}" for kind in kinds for name in _names(parser, kind)}


def _sections(
    parser: configparser.RawConfigParser, kind: str, read: Any, left_out: list[str]
) -> Iterator[tuple[str, dict]]:
    for name in _names(parser, kind):
        section = f"{kind}_{name}"
        try:
            if not NAME.fullmatch(name):
                raise LeftOut(f"{name!r} is no plain name")
            if not parser.has_section(section):
                raise LeftOut("there is no such section")
            yield name, read(name, parser[section])
        except LeftOut as error:
            left_out.append(f"[{section}] {error}")


def _formatter(name: str, section: Mapping[str, str]) -> dict[str, Any]:
    if section.get("class", "logging.Formatter") not in ("logging.Formatter", "Formatter", ""):
        raise LeftOut(f"class = {section['class']}: only logging.Formatter is used")
    style = section.get("style", "%")
    if style not in ("%", "{", "$"):
        raise LeftOut(f"style = {style}: must be one of % {{ $")
    settings: dict[str, Any] = {"style": style, "validate": False}
    for option in ("format", "datefmt"):
        if option in section:
            settings[option] = text_value(option, section[option])
    if style == "{" and re.search(r"\{\w*[.\[]", settings.get("format", "")):
        raise LeftOut("format: it looks into attributes")
    return settings


def _handler(name: str, section: Mapping[str, str]) -> dict[str, Any]:
    kind = handler_kind(section.get("class", ""))
    if kind not in HANDLERS:
        raise LeftOut(f"class = {section.get('class', '')}: only {', '.join(HANDLERS)} are used")
    settings: dict[str, Any] = {"class": f"logging.{kind}", **_arguments(kind, section)}
    if "filename" in settings:
        settings["filename"] = file_value(settings["filename"])
        if settings.get("mode", "a") not in MODES:
            raise LeftOut(f"args: the mode must be one of {', '.join(MODES)}, got {settings['mode']!r}")
    elif "FileHandler" in kind:
        raise LeftOut("args: there is no file name")
    if "level" in section:
        settings["level"] = level_value(section["level"])
    if section.get("formatter"):
        settings["formatter"] = section["formatter"].strip()
    return settings


def _logger(name: str, section: Mapping[str, str]) -> dict[str, Any]:
    qualname = name if name == "root" else section.get("qualname", "").strip()
    if not NAME.fullmatch(qualname):
        raise LeftOut(f"qualname = {qualname}: it is no plain name")
    handlers = [handler.strip() for handler in section.get("handlers", "").split(",") if handler.strip()]
    settings: dict[str, Any] = {"qualname": qualname, "handlers": handlers}
    if "level" in section:
        settings["level"] = level_value(section["level"])
    settings["propagate"] = section.get("propagate", "1").strip() != "0"
    return settings


def _arguments(kind: str, section: Mapping[str, str]) -> dict[str, Any]:
    parameters = HANDLERS[kind]
    positional = literal_value("args", section.get("args", "").strip() or "()")
    keywords = literal_value("kwargs", section.get("kwargs", "").strip() or "{}")
    values = list(positional) if isinstance(positional, (tuple, list)) else [positional]
    if not isinstance(keywords, dict) or len(values) > len(parameters) or not set(keywords) <= set(parameters):
        raise LeftOut(f"args = {section.get('args', '')}: {kind} takes ({', '.join(parameters)})")
    arguments = {**dict(zip(parameters, values, strict=False)), **keywords}
    if not kind.endswith("FileHandler") and arguments.get("stream", STREAMS["sys.stderr"]) not in STREAMS.values():
        raise LeftOut(f"args = {section.get('args', '')}: the stream must be sys.stdout or sys.stderr")
    for option, value in arguments.items():
        if isinstance(value, str) and option != "stream":
            text_value(option, value)
    return arguments


def logging_entries(name: str, data: bytes) -> Iterator[Entry]:
    """Of a file of settings, where it has sections about logging or the name of such a file.

    Args:
        name: of the file.
        data: its content.
    """
    if not SECTIONS.search(data) and not name.lower().endswith("logging.conf"):
        return
    try:
        parser = read_sections(data, MAX_SIZE)
    except (configparser.Error, ValueError) as error:
        why = "so nothing is known of what logging.config.fileConfig would evaluate"
        yield Entry(Level.DANGER, "logging", name, f"cannot be read whole: {error}", why)
        return
    evaluated = list(_evaluated(parser))
    for section, text in evaluated:
        yield Entry(Level.DANGER, "logging", name, f"[{section}] {text}", EVALUATED)
    config = parse_logging_conf(data)
    for handler, settings in config.settings.get("handlers", {}).items():
        yield Entry(Level.OK, "logging", name, f"{handler}: {settings['class']}", settings.get("filename", ""))
    named = tuple(f"[{section}]" for section, _ in evaluated)
    for text in config.left_out:
        if not text.startswith(named):
            level = Level.DANGER if NO_LOG_FILE in text else Level.LOOK
            yield Entry(level, "logging", name, text, "is not applied here; logging.config.fileConfig applies it")


def _evaluated(parser: configparser.RawConfigParser) -> Iterator[tuple[str, str]]:
    """Section and option of everything that is no plain value, whether or not the section is used."""
    for section in parser.sections():
        kind = section.split("_")[0]
        if not section.startswith(("handler_", "formatter_", "logger_")):
            continue
        for option in ("class", "args", "kwargs", "level", "format", "datefmt"):
            text = parser.get(section, option, fallback="").strip()
            style = parser.get(section, "style", fallback="%").strip()
            if text and not _is_plain(kind, option, text, style):
                yield section, f"{option} = {text}{_referred(parser, section, text)}"


def _is_plain(kind: str, option: str, text: str, style: str) -> bool:
    if option in ("format", "datefmt"):
        return kind != "formatter" or not (CONVERTED.match(text) or (style == "{" and ATTRIBUTES.search(text)))
    if REFERENCE.search(text):
        return False
    if option == "level":
        return re.fullmatch(r"[\w-]+", text) is not None
    if kind == "logger":
        return True
    if option == "class":
        return handler_kind(text) in HANDLERS if kind == "handler" else text == "logging.Formatter"
    return kind == "formatter" or _is_literal(option, text)


def _is_literal(option: str, text: str) -> bool:
    try:
        value = literal_value(option, text)
    except LeftOut:
        return False
    values = [*value.values()] if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
    return not any(isinstance(item, str) and item[:6] not in ("ext://",) and CONVERTED.match(item) for item in values)


def _referred(parser: configparser.RawConfigParser, section: str, text: str) -> str:
    """The options that a text is put together from, and theirs."""
    found: dict[str, str] = {}
    waiting = REFERENCE.findall(text)
    while waiting and len(found) < MAX_HOPS:
        option = waiting.pop().lower()
        if option not in found:
            found[option] = parser.get(section, option, fallback="")
            waiting += REFERENCE.findall(found[option])
    return "".join(f", where {option} = {value}" for option, value in found.items())
