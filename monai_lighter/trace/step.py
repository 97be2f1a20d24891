"""The trace of a stage of a native config."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from monai.bundle import ConfigParser

from monai_lighter.config.stages import MODES_OF_STAGE
from monai_lighter.system.batches import copy_metadata, make_items, take_results
from monai_lighter.system.inference import infer
from monai_lighter.system.spacing import Compared
from monai_lighter.system.system import System
from monai_lighter.system.tensors import as_list, detach, plain
from monai_lighter.trace.memory import measure_step
from monai_lighter.trace.pipeline import make_batch, take_loader, watch
from monai_lighter.trace.rows import Row, Rows, TraceError, run_step

__all__ = ["trace_stage"]


def trace_stage(rows: Rows, parser: ConfigParser, stage: str) -> dict[str, Any]:
    """Send one case through each mode of a stage, as `System` has them, and measures one step of each.

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
        batch, case = make_batch(rows, parser, id, take_loader(system.dataloaders[rows.part]))
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
        source, given, names = run_step(f"system::adapters::{mode}::batch", case, self.adapters["batch"], batch)
        target = plain(given)
        with self._grad():
            pred = rows.run(f"network {type(system.model).__name__}", self._forward, source, about=case)
            if system.criterion is not None and mode in ("train", "val"):
                compared = Compared(source, given, None)
                rows.run("loss", system._losses, mode, plain(source), target, pred, compared, about=case)
        self._update_metrics(source, *self._postprocess(batch, source, given, names, detach(pred)), case)
        return measure_step(lambda: self._run_whole(source, given), self.device)

    def _grad(self) -> Any:
        return nullcontext() if self.mode == "train" else torch.no_grad()

    def _forward(self, source: Any) -> Any:
        counters = dict.fromkeys(self.system._forward_accepts, 0)
        with self.precision.forward_context():
            return infer(self.system.inferer.get(self.mode), source, self.system.model, **counters)

    def _postprocess(self, batch: Any, source: Any, given: Any, names: Any, pred: Any) -> tuple[Any, Any]:
        """Prediction and target of the first case, as `System._postprocess` has them, with a row for each transform."""
        mode, system, adapter = self.mode, self.system, self.adapters["batch"]
        if mode != "train":
            pred = copy_metadata(pred, source, batch)
        if mode not in system.postprocessing:
            return pred, given
        system.postprocessing[mode] = watch(self.rows, f"system::postprocessing::{mode}", system.postprocessing[mode])
        first = make_items(batch, adapter, source, given, names, pred)[:1]
        return take_results([system.postprocessing[mode](item) for item in first], adapter, given)

    def _update_metrics(self, source: Any, pred: Any, target: Any, case: Any) -> None:
        if self.mode not in self.system.records:
            return
        metrics, _ = self.system.records[self.mode].select_loader(0)
        compared = Compared(source, target, pred)
        adapter = self.system._adapter(self.mode, "metrics", compared)

        def update() -> dict[str, Any]:
            metrics.update(adapter, plain(source), target, pred, compared)
            return metrics.compute()

        if metrics.names:
            start = len(self.rows)
            values = self.rows.run("metrics", update, about=case)
            seconds = [self.rows[start].seconds, *[None] * len(values)]
            self.rows[start:] = [
                Row(self.mode, "metric", name, range=f"{float(value):.4g}", seconds=taken)
                for (name, value), taken in zip(values.items(), seconds, strict=False)
            ]

    def _run_whole(self, source: Any, given: Any) -> None:
        losses: dict[str, Any] = {}
        with self._grad():
            pred = self._forward(source)
            if self.mode == "train":
                compared = Compared(source, given, None)
                losses = self.system._losses(self.mode, plain(source), plain(given), pred, compared)
        if "total" in losses:
            optimizers = as_list(self.system.optimizer)
            for optimizer in optimizers:
                optimizer.zero_grad()
            losses["total"].backward()
            for optimizer in optimizers:
                optimizer.step()
