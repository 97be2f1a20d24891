"""The trace of the engine that a config of MONAI's engines runs. Needs pytorch-ignite."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from monai.bundle import ConfigParser
from torch.nn import Module

from monai_lighter.config.items import locate
from monai_lighter.engines.module import find_held
from monai_lighter.internals import get_process_function
from monai_lighter.trace.memory import measured
from monai_lighter.trace.pipeline import one_batch, watch
from monai_lighter.trace.rows import Rows, TraceError, failure, wait

__all__ = ["trace_engine"]

LOADERS = ("train_data_loader", "val_data_loader", "data_loader")
METRICS = ("key_train_metric", "key_val_metric", "key_metric", "additional_metrics")


def trace_engine(rows: Rows, parser: ConfigParser, ids: list[str]) -> dict[str, Any]:
    """Sends one case through the iteration of an engine, and measures another.

    Args:
        rows: to which the trace is added.
        parser: of the config for the trace.
        ids: items that the run refers to, of which the first engine is taken.

    Returns:
        config id of the engine to ``seconds`` and ``memory``.

    Raises:
        TraceError: what failed, with the case; no engine among the items.
    """
    for id in ids:
        post = parser.get(f"{id}::postprocessing")
        if post is not None:
            watch(
                rows,
                locate(parser.get(), f"{id}::postprocessing") or id,
                parser.get_parsed_content(f"{id}::postprocessing"),
            )
        engine = parser.get_parsed_content(id)
        if isinstance(engine, Engine):
            return _trace(rows, parser, id, engine)
    raise TraceError("the run must refer to an engine to be traced, got none. Its code has its own way.")


def _trace(rows: Rows, parser: ConfigParser, id: str, engine: Any) -> dict[str, Any]:
    rows.part = id
    loaders = [locate(parser.get(), f"{id}::{name}") for name in LOADERS]
    batch, case = one_batch(rows, parser, next(filter(None, loaders), id), engine.data_loader)
    parts = _Parts(rows, engine, id)
    output = _iterate(engine, batch, parts, case)
    parts.remove()
    rows.add("output", output)
    for name, metric in _metrics(parser, id):
        value = rows.take(f"metric {name}", _computed, metric, engine, about=case)
        if not isinstance(value, torch.Tensor):
            rows[-1] = rows[-1]._replace(range=f"{value:.4g}" if isinstance(value, (int, float)) else "")
    device = getattr(engine.state, "device", None) or torch.device("cpu")
    return {id: measured(lambda: _iterate(engine, batch, parts, case), device)}


def _iterate(engine: Any, batch: Any, parts: _Parts, case: Any) -> Any:
    """The engine's own iteration, as ``Engine.run`` calls it."""
    engine.state.iteration = engine.state.epoch = 1
    engine.state.batch = dict(batch) if isinstance(batch, Mapping) else batch
    try:
        engine.state.output = get_process_function(engine)(engine, engine.state.batch)
    except Exception as error:
        raise failure(parts.current, error, case) from error
    return engine.state.output


class _Parts:
    """Adds a row for the first call of each network and loss of an engine, and remembers which one is being called."""

    def __init__(self, rows: Rows, engine: Any, id: str) -> None:
        self.rows, self.current, self.outer = rows, f"{id}: the iteration", f"{id}: the iteration"
        self.seen: set[int] = set()
        self.handles: list[Any] = []
        loss = getattr(engine, "loss_function", None)
        for module in find_held(engine, Module):
            name = f"{'loss' if module is loss else 'network'} {type(module).__name__}"
            self.handles.append(module.register_forward_pre_hook(self._before(name)))
            self.handles.append(module.register_forward_hook(self._after(name)))

    def _before(self, name: str) -> Any:
        def hook(module: Module, inputs: Any) -> None:
            self.current, self.start = name, time.perf_counter()

        return hook

    def _after(self, name: str) -> Any:
        def hook(module: Module, inputs: Any, output: Any) -> None:
            wait()
            if id(module) not in self.seen:
                self.rows.add(name, output, seconds=time.perf_counter() - self.start)
            self.seen.add(id(module))
            self.current = self.outer

        return hook

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def _metrics(parser: ConfigParser, id: str) -> Iterator[tuple[str, Metric]]:
    for argument in METRICS:
        if parser.get(f"{id}::{argument}") is not None:
            given = parser.get_parsed_content(f"{id}::{argument}")
            yield from ((name, metric) for name, metric in (given or {}).items() if isinstance(metric, Metric))


def _computed(metric: Metric, engine: Engine) -> Any:
    metric.reset()
    metric.iteration_completed(engine)
    return metric.compute()
