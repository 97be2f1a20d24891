"""What is logged of a mode: losses and metrics, by step and over the epoch."""

from __future__ import annotations

import copy
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric

from monai_lighter.metrics import EpochMean, Metrics

__all__ = ["Record"]


class Record(nn.Module):
    """Losses and metrics of one mode, logged after each step and, over the epoch and all processes, when it ends.

    Where the mode has several loaders, each has its own means and its own copy of the metrics, and ``/dataloader_idx_N``
    stands after the names, as Lightning has it.

    Args:
        mode: ``train``, ``val`` or ``test``, the first part of every name.
        metrics: of the mode.
    """

    def __init__(self, mode: str, metrics: Metrics) -> None:
        super().__init__()
        self.mode = mode
        self.loaders: list[tuple[Metrics, EpochMean]] = []
        self._add(metrics)

    def _add(self, metrics: Metrics) -> None:
        self.add_module(f"metrics_{len(self.loaders)}", metrics)
        self.loaders.append((metrics, EpochMean()))

    def of_loader(self, dataloader_idx: int) -> tuple[Metrics, EpochMean]:
        """Metrics and means of one of the mode's loaders."""
        while len(self.loaders) <= dataloader_idx:
            metrics = copy.deepcopy(self.loaders[0][0])
            metrics.reset()
            self._add(metrics)
        return self.loaders[dataloader_idx]

    def log_step(
        self,
        module: LightningModule,
        losses: dict[str, Tensor],
        values: dict[str, Any],
        count: int,
        dataloader_idx: int,
    ) -> None:
        """Logs the losses, and those metric values that are scalars, of a step over ``count`` items."""
        metrics, means = self.of_loader(dataloader_idx)
        for name, loss in losses.items():
            key = f"{self.mode}/loss" if len(losses) == 1 else f"{self.mode}/loss/{name}"
            means.update(key, loss, count)
            module.log(f"{key}/step", loss, prog_bar=self.mode == "train", on_step=True, on_epoch=False)
        for name, value in values.items():
            if isinstance(metrics[name], Metric) and isinstance(value, Tensor) and value.numel() == 1:
                module.log(f"{self.mode}/metrics/{name}/step", value, on_step=True, on_epoch=False)

    def log_epoch(self, module: LightningModule, loaders: int) -> None:
        """Logs the means of the losses and the metrics' own aggregates, for each of the mode's ``loaders``, and forgets them."""
        for i in range(loaders):
            suffix = f"/dataloader_idx_{i}" if loaders > 1 else ""
            metrics, means = self.of_loader(i)
            for name, value in means.compute().items():
                self._log_epoch(module, f"{name}/epoch{suffix}", value, name == f"{self.mode}/loss")
            for name, value in metrics.compute().items():
                self._log_epoch(module, f"{self.mode}/metrics/{name}/epoch{suffix}", value, "/" not in name)
        self.reset()

    def _log_epoch(self, module: LightningModule, name: str, value: Tensor, prog_bar: bool) -> None:
        value = value.to(module.device)
        module.log(
            name, value, prog_bar=prog_bar, on_step=False, on_epoch=True, sync_dist=True, add_dataloader_idx=False
        )

    def reset(self) -> None:
        """Forgets the epoch, also one that was broken off."""
        for metrics, means in self.loaders:
            metrics.reset()
            means.reset()

    def log_once(self, module: LightningModule, values: dict[str, float]) -> None:
        """Logs what holds for the whole epoch."""
        for name, value in values.items():
            module.log(f"{self.mode}/{name}", torch.as_tensor(value, dtype=torch.float32), on_step=False, on_epoch=True)
