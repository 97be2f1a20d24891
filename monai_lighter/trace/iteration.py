"""The trace of the engine that a config of MONAI's engines runs. Needs pytorch-ignite."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from monai.bundle import ConfigParser
from torch.nn import Module

from monai_lighter.config.items import locate
from monai_lighter.engines.module import find_held
from monai_lighter.internals import get_process_function
from monai_lighter.trace.memory import measure_step
from monai_lighter.trace.pipeline import make_batch, watch
from monai_lighter.trace.rows import Rows, TraceError, explain_failure, wait_for_gpu

__all__ = ["trace_engine"]

LOADERS = ("train_data_loader", "val_data_loader", "data_loader")
METRICS = ("key_train_metric", "key_val_metric", "key_metric", "additional_metrics")


def trace_engine(rows: Rows, parser: ConfigParser, ids: list[str]) -> dict[str, Any]:
    """Send one case through the iteration of an engine, and measures another.

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
        where = f"{id}::postprocessing"
        if parser.get(where) is not None:
            watch(rows, locate(parser.get(), where) or id, parser.get_parsed_content(where))
        engine = parser.get_parsed_content(id)
        if isinstance(engine, Engine):
            return _trace(rows, parser, id, engine)
    raise TraceError("the run must refer to an engine to be traced, got none. Its code has its own way.")


def _trace(rows: Rows, parser: ConfigParser, id: str, engine: Any) -> dict[str, Any]:
    rows.part = id
    loaders = [locate(parser.get(), f"{id}::{name}") for name in LOADERS]
    batch, case = make_batch(rows, parser, next(filter(None, loaders), id), engine.data_loader)
    parts = _Parts(rows, engine, id)
    output = _iterate(engine, batch, parts, case)
    parts.remove()
    rows.add("output", output)
    for name, metric in _find_metrics(parser, id):
        value = rows.run(f"metric {name}", _compute, metric, engine, about=case)
        if not isinstance(value, torch.Tensor):
            rows[-1] = rows[-1]._replace(range=f"{value:.4g}" if isinstance(value, (int, float)) else "")
    device = getattr(engine.state, "device", None) or torch.device("cpu")
    return {id: measure_step(lambda: _iterate(engine, batch, parts, case), device)}


def _iterate(engine: Any, batch: Any, parts: _Parts, case: Any) -> Any:
    """The engine's own iteration, as ``Engine.run`` calls it."""
    engine.state.iteration = engine.state.epoch = 1
    engine.state.batch = dict(batch) if isinstance(batch, Mapping) else batch
    try:
        engine.state.output = get_process_function(engine)(engine, engine.state.batch)
    except Exception as error:
        raise explain_failure(parts.current, error, case) from error
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
            self.handles.append(module.register_forward_pre_hook(partial(self._begin, name)))
            self.handles.append(module.register_forward_hook(partial(self._end, name)))

    def _begin(self, name: str, module: Module, inputs: Any) -> None:
        self.current, self.start = name, time.perf_counter()

    def _end(self, name: str, module: Module, inputs: Any, output: Any) -> None:
        wait_for_gpu()
        if id(module) not in self.seen:
            self.rows.add(name, output, seconds=time.perf_counter() - self.start)
        self.seen.add(id(module))
        self.current = self.outer

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def _find_metrics(parser: ConfigParser, id: str) -> Iterator[tuple[str, Metric]]:
    for argument in METRICS:
        if parser.get(f"{id}::{argument}") is not None:
            given = parser.get_parsed_content(f"{id}::{argument}")
            yield from ((name, metric) for name, metric in (given or {}).items() if isinstance(metric, Metric))


def _compute(metric: Metric, engine: Engine) -> Any:
    metric.reset()
    metric.iteration_completed(engine)
    return metric.compute()
