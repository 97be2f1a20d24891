"""A ``logging.conf``: what of it is applied, and what ``logging.config.fileConfig`` would evaluate or import."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator

from monai_lighter.inspection.report import Entry, Level
from monai_lighter.workflow.logging_conf import (
    CONVERTED,
    HANDLERS,
    NO_LOG_FILE,
    LeftOut,
    handler_kind,
    literal_value,
    parse_logging_conf,
    read_sections,
)

__all__ = ["logging_entries"]

SECTIONS = re.compile(rb"\[(loggers|handlers|formatters)\]|\[(logger|handler|formatter)_")
REFERENCE = re.compile(r"%\((.*?)\)")
ATTRIBUTES = re.compile(r"\{\w*[.\[]")
"""What a format in the style of ``{`` looks into attributes with."""
MAX_SIZE = 4 << 20
MAX_HOPS = 20
EVALUATED = "logging.config.fileConfig would evaluate or import it"


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
