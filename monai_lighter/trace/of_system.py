"""The trace of a stage of a native config."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from monai.bundle import ConfigParser

from monai_lighter.config.stages import MODES_OF_STAGE
from monai_lighter.system.inference import infer
from monai_lighter.system.system import System
from monai_lighter.system.tensors import as_list, decollated, detached, plain, with_metadata
from monai_lighter.trace.memory import measured
from monai_lighter.trace.pipeline import first_loader, one_batch, watch
from monai_lighter.trace.rows import Row, Rows, TraceError, named

__all__ = ["trace_stage"]


def trace_stage(rows: Rows, parser: ConfigParser, stage: str) -> dict[str, Any]:
    """Sends one case through each mode of a stage, as `System` has them, and measures one step of each.

    Args:
        rows: to which the trace is added.
        parser: of the config for the trace, pruned for the stage.
        stage: ``fit``, ``validate``, ``test`` or ``predict``.

    Returns:
        mode to ``seconds`` and ``memory``.

    Raises:
        TraceError: what failed, with the case; a system that is not a `System`, which has its own steps.
    """
    system = parser.get_parsed_content("system")
    modes = [mode for mode in MODES_OF_STAGE[stage] if mode in getattr(system, "dataloaders", {})]
    if not isinstance(system, System) or not modes:
        wanted = f"must be a monai_lighter.System with dataloaders for stage {stage!r} to be traced"
        raise TraceError(f"system: {wanted}, got {type(system).__name__}.")
    trainer = parser.get_parsed_content("trainer")
    steps: dict[str, Any] = {}
    for rows.part in modes:
        id = f"system::dataloaders::{rows.part}"
        batch, case = one_batch(rows, parser, id, first_loader(system.dataloaders[rows.part]))
        steps[rows.part] = _Step(rows, system, trainer, rows.part).trace(batch, case)
    return steps


class _Step:
    """One step of a `System` in a mode, part by part, on the device and in the precision of its Trainer."""

    def __init__(self, rows: Rows, system: System, trainer: Any, mode: str) -> None:
        self.rows, self.system, self.mode = rows, system, mode
        self.adapters = system.adapters[mode]
        self.device = trainer.strategy.root_device
        self.precision = trainer.strategy.precision_plugin
        system.to(self.device).train(mode == "train")
        self.precision.convert_module(system)

    def trace(self, batch: Any, case: Any) -> dict[str, Any]:
        rows, mode, system = self.rows, self.mode, self.system
        batch = move_data_to_device(self.precision.convert_input(batch), self.device)
        source, target, _ = named(f"system::adapters::{mode}::batch", case, self.adapters["batch"], batch)
        given = plain(target)
        with self._grad():
            pred = rows.take(f"network {type(system.model).__name__}", self._forward, source, about=case)
            if system.criterion is not None and mode in ("train", "val"):
                rows.take("loss", system._losses, mode, plain(source), given, pred, about=case)
        pred, target = self._postprocessed(batch, source, given, detached(pred))
        self._metrics(plain(source), target, pred, case)
        return measured(lambda: self._whole(source, given), self.device)

    def _grad(self) -> Any:
        return nullcontext() if self.mode == "train" else torch.no_grad()

    def _forward(self, source: Any) -> Any:
        counters = dict.fromkeys(self.system._forward_accepts, 0)
        with self.precision.forward_context():
            return infer(self.system.inferer.get(self.mode), source, self.system.model, **counters)

    def _postprocessed(self, batch: Any, source: Any, target: Any, pred: Any) -> tuple[Any, Any]:
        mode, system = self.mode, self.system
        if mode != "train":
            pred = with_metadata(pred, source)
        if mode not in system.postprocessing:
            return pred, target
        system.postprocessing[mode] = watch(self.rows, f"system::postprocessing::{mode}", system.postprocessing[mode])
        first = decollated(batch, source, target, pred)[:1]
        items = [system.postprocessing[mode](item) for item in first]
        key = getattr(self.adapters["batch"], "target_key", "label")
        targets = [item[key] for item in items] if items and key in items[0] else target
        return [item.get("pred", item) for item in items], targets

    def _metrics(self, input: Any, target: Any, pred: Any, case: Any) -> None:
        if self.mode not in self.system.records:
            return
        metrics, _ = self.system.records[self.mode].of_loader(0)

        def update() -> dict[str, Any]:
            metrics.update(self.adapters["metrics"], input, target, pred)
            return metrics.compute()

        if metrics.names:
            start = len(self.rows)
            values = self.rows.take("metrics", update, about=case)
            seconds = self.rows[start].seconds
            self.rows[start:] = [
                Row(self.mode, "metric", name, range=f"{float(value):.4g}") for name, value in values.items()
            ]
            self.rows[start] = self.rows[start]._replace(seconds=seconds)

    def _whole(self, source: Any, target: Any) -> None:
        with self._grad():
            pred = self._forward(source)
            losses = self.system._losses(self.mode, plain(source), target, pred) if self.mode == "train" else {}
        if "total" in losses:
            optimizers = as_list(self.system.optimizer)
            for optimizer in optimizers:
                optimizer.zero_grad()
            losses["total"].backward()
            for optimizer in optimizers:
                optimizer.step()
