"""Brings the engines of a config, and those its code builds, to Lightning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from threading import Lock
from typing import Any

from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY
from monai.handlers import IgniteMetricHandler

from monai_lighter.engines.engine import LightningEngine
from monai_lighter.engines.resumption import Resumption, resuming
from monai_lighter.engines.trainer import has_section, lightning_section
from monai_lighter.errors import ConfigError, Finding
from monai_lighter.system.metric_inputs import Watched
from monai_lighter.system.outputs import warn_of_lost_files
from monai_lighter.system.saving import find_savers

__all__ = ["adopt", "adopt_engines", "on_lightning"]


@cache
def _make_class(cls: Any) -> Any:
    """Makes the class of engines that are ``cls`` in everything but whose loop is Lightning's."""
    if issubclass(cls, LightningEngine):
        return cls
    if cls is Engine:
        return LightningEngine
    return type(cls.__name__, (cls, LightningEngine), {"__module__": cls.__module__, "__doc__": cls.__doc__})


def adopt(engine: Engine) -> Engine:
    """Exchanges the class of an engine for one whose loop is Lightning's, and gives the same engine.

    The object is kept, because handlers, metrics and other config items have been given it.

    Raises:
        TypeError: an engine whose class cannot be extended so.
    """
    try:
        engine.__class__ = _make_class(type(engine))  # type: ignore[arg-type]
    except TypeError as error:
        raise TypeError(f"{type(engine).__name__} cannot be run by Lightning's Trainer: {error}") from None
    return engine


def adopt_engines(parser: ConfigParser, id: str, value: Any) -> None:
    """Exchanges the class of an engine that a config item turned out to be, or of those in its list or dict; watches what its
    metrics are given.

    Args:
        parser: of the config, whose ``lightning`` section is for its engines, wherever they are run.
        id: of the item.
        value: what it was resolved to.
    """
    if isinstance(value, Engine):
        engine: Any = adopt(value)
        if not hasattr(engine, "config_id"):  # else this item is a reference to the one that it is
            engine.config_id, engine.lightning_section = id, partial(_read_section, parser)
            transform = parser.ref_resolver.resolved_content.get(f"{id}{ID_SEP_KEY}postprocessing")
            engine.savers = list(find_savers(transform))
            warn_of_lost_files(getattr(engine, "data_loader", None), transform, id)
    elif isinstance(value, IgniteMetricHandler) and not isinstance(vars(value)["metric_fn"], Watched):
        value.metric_fn = Watched(value.metric_fn, id)  # type: ignore[assignment]
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            adopt_engines(parser, f"{id}::{i}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            adopt_engines(parser, f"{id}::{key}", item)


def _read_section(parser: ConfigParser) -> Mapping[str, Any]:
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
def on_lightning(parser: ConfigParser, resumption: Resumption | None = None) -> Iterator[None]:
    """Within it, engines that no config item is, because a bundle's own code builds them, run on Lightning too.

    Args:
        parser: of the config, whose ``lightning`` section has their keywords.
        resumption: how their fits are kept and gone on with, where the config has a ``resume``.

    This holds in the thread that is within it: two workflows in two threads have a section each. In any other thread, also one
    that code of the bundle starts, an engine that no config item is runs by Ignite.
    """
    with EXCHANGED_RUN.exchange(), lightning_section(partial(_read_section, parser)), resuming(resumption):
        yield


class _ExchangedRun:
    """``ignite.engine.Engine.run`` while it is exchanged, by however many threads.

    A class of the library is changed here because nothing less reaches an engine that a function of the bundle builds and runs
    by itself: this method is what every such run comes to, whatever its class does around it. It is put back when the last
    thread is done, and hands the engine to Ignite's own method in every thread that is not within `on_lightning`.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.users = 0
        self.original = Engine.run

    @contextmanager
    def exchange(self) -> Iterator[None]:
        with self.lock:
            if not self.users:
                self.original, Engine.run = Engine.run, _run  # type: ignore[method-assign]
            self.users += 1
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if not self.users:
                    Engine.run = self.original  # type: ignore[method-assign]


EXCHANGED_RUN = _ExchangedRun()


def _run(self: Engine, *args: Any, **kwargs: Any) -> Any:
    if not has_section():
        return EXCHANGED_RUN.original(self, *args, **kwargs)
    return LightningEngine.run(adopt(self), *args, **kwargs)  # type: ignore[arg-type]
