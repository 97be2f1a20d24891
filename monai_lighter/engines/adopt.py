"""Brings the engines of a config, and those its code builds, to Lightning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import Any

from ignite.engine import Engine
from monai.bundle import ConfigParser

from monai_lighter.engines.engine import LightningEngine, adopted
from monai_lighter.engines.trainer import lightning_section
from monai_lighter.errors import ConfigError, Finding

__all__ = ["adopt_engines", "on_lightning"]


def adopt_engines(parser: ConfigParser, id: str, value: Any) -> None:
    """Exchanges the class of an engine that a config item turned out to be, or of those in its list or dict.

    Args:
        parser: of the config, whose ``lightning`` section is for its engines, wherever they are run.
        id: of the item.
        value: what it was resolved to.
    """
    if isinstance(value, Engine):
        engine: Any = adopted(value)
        if not hasattr(engine, "config_id"):  # else this item is a reference to the one that it is
            engine.config_id, engine.lightning_section = id, partial(section_of, parser)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            adopt_engines(parser, f"{id}::{i}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            adopt_engines(parser, f"{id}::{key}", item)


def section_of(parser: ConfigParser) -> Mapping[str, Any]:
    """The ``lightning`` section of a config; empty where it has none.

    Raises:
        ConfigError: what it was resolved to is no section.
    """
    section = parser.get_parsed_content("lightning") if "lightning" in parser else None
    if section is not None and not isinstance(section, Mapping):
        hint = "Give it keywords of lightning.pytorch.Trainer."
        raise ConfigError([Finding("lightning", f"must be a section, got {section!r:.80}", hint)])
    return section or {}


@contextmanager
def on_lightning(parser: ConfigParser) -> Iterator[None]:
    """Within it, the engines of a config and of its code run on Lightning, with the keywords of its ``lightning`` section."""
    with engines_in_code(), lightning_section(partial(section_of, parser)):
        yield


class _Exchange:
    """``Engine.run`` while it is exchanged, by however many threads."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.users = 0
        self.original = Engine.run

    def begin(self) -> None:
        with self.lock:
            if not self.users:
                self.original, Engine.run = Engine.run, _run  # type: ignore[method-assign]
            self.users += 1

    def end(self) -> None:
        with self.lock:
            self.users -= 1
            if not self.users:
                Engine.run = self.original  # type: ignore[method-assign]


def _run(self: Engine, *args: Any, **kwargs: Any) -> Any:
    return LightningEngine.run(adopted(self), *args, **kwargs)  # type: ignore[arg-type]


EXCHANGE = _Exchange()


@contextmanager
def engines_in_code() -> Iterator[None]:
    """Within it, engines that no config item is, because a bundle's own code builds them, run on Lightning too.

    ``ignite.engine.Engine.run`` is exchanged for the time being, the one thing that every such run comes to, and put back after.
    """
    EXCHANGE.begin()
    try:
        yield
    finally:
        EXCHANGE.end()
