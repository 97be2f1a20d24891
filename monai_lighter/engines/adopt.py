"""Brings the engines of a config, and those its code builds, to Lightning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ignite.engine import Engine
from monai.bundle import ConfigParser

from monai_lighter.engines.engine import LightningEngine, adopted
from monai_lighter.engines.settings import lightning_section

__all__ = ["adopt_engines", "on_lightning"]


def adopt_engines(id: str, value: Any) -> None:
    """Exchanges the class of an engine that a config item turned out to be, or of those in its list or dict.

    Args:
        id: of the item.
        value: what it was resolved to.
    """
    if isinstance(value, Engine):
        adopted(value).config_id = id  # type: ignore[attr-defined]
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            adopt_engines(f"{id}::{i}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            adopt_engines(f"{id}::{key}", item)


@contextmanager
def on_lightning(parser: ConfigParser) -> Iterator[None]:
    """Within it, the engines of a config and of its code run on Lightning, with the keywords of its ``lightning`` section."""

    def section() -> Mapping[str, Any]:
        return (parser.get_parsed_content("lightning") or {}) if "lightning" in parser else {}

    with engines_in_code(), lightning_section(section):
        yield


@contextmanager
def engines_in_code() -> Iterator[None]:
    """Within it, engines that no config item is, because a bundle's own code builds them, run on Lightning too.

    ``ignite.engine.Engine.run`` is exchanged for the time being, the one thing that every such run comes to, and put back after.
    """
    original = Engine.run

    def run(self: Engine, *args: Any, **kwargs: Any) -> Any:
        return LightningEngine.run(adopted(self), *args, **kwargs)  # type: ignore[arg-type]

    Engine.run = run  # type: ignore[method-assign]
    try:
        yield
    finally:
        Engine.run = original  # type: ignore[method-assign]
