"""What is logged of a mode: losses and metrics, by step and over the epoch."""

from __future__ import annotations

import copy
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric

from monai_lighter.system.metrics import EpochMean, Metrics
from monai_lighter.system.tensors import as_list

__all__ = ["Record", "Recorded"]


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
        self.logged: set[int] = set()
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

    def log_loader(self, module: LightningModule, dataloader_idx: int) -> None:
        """Logs a loader's epoch while Lightning is still at that loader, which puts it into its column of what is printed."""
        self._log_means(module, dataloader_idx)
        self.logged.add(dataloader_idx)

    def log_epoch(self, module: LightningModule, loaders: int) -> None:
        """Logs the epoch of those of the mode's ``loaders`` that have not been, and forgets them all."""
        for i in range(loaders):
            if i not in self.logged:
                self._log_means(module, i, f"/dataloader_idx_{i}" if loaders > 1 else "", add_dataloader_idx=False)
        self.reset()

    def _log_means(self, module: LightningModule, dataloader_idx: int, suffix: str = "", **how: Any) -> None:
        """Means of the losses and the metrics' own aggregates."""
        metrics, means = self.of_loader(dataloader_idx)
        values = {f"{name}/epoch": value for name, value in means.compute().items()}
        shown = {f"{self.mode}/loss/epoch"}
        for name, value in metrics.compute().items():
            values[f"{self.mode}/metrics/{name}/epoch"] = value
            if "/" not in name:
                shown.add(f"{self.mode}/metrics/{name}/epoch")
        how = {"on_step": False, "on_epoch": True, "sync_dist": True, "batch_size": 1, **how}
        for name, value in values.items():
            module.log(f"{name}{suffix}", value.to(module.device), prog_bar=name in shown, **how)

    def reset(self) -> None:
        """Forgets the epoch, also one that was broken off."""
        self.logged.clear()
        for metrics, means in self.loaders:
            metrics.reset()
            means.reset()

    def log_once(self, module: LightningModule, values: dict[str, float]) -> None:
        """Logs what holds for the whole epoch."""
        for name, value in values.items():
            module.log(f"{self.mode}/{name}", torch.as_tensor(value, dtype=torch.float32), on_step=False, on_epoch=True)


class Recorded(LightningModule):
    """A LightningModule whose `Record` of each mode begins and is logged with the epochs of Lightning's loops."""

    records: dict[str, Record]

    def loaders(self, mode: str) -> list:
        """Dataloaders of ``val`` or ``test`` that the Trainer goes through."""
        return as_list({"val": self.trainer.val_dataloaders, "test": self.trainer.test_dataloaders}.get(mode))

    def _log_if_last(self, mode: str, batches: list, batch_idx: int, dataloader_idx: int) -> None:
        if len(batches) > 1 and batch_idx + 1 == batches[dataloader_idx]:
            self.records[mode].log_loader(self, dataloader_idx)

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        trainer = self.trainer
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        self._log_if_last("val", list(batches), batch_idx, dataloader_idx)

    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._log_if_last("test", list(self.trainer.num_test_batches), batch_idx, dataloader_idx)

    def on_train_epoch_start(self) -> None:
        self.records["train"].reset()

    def on_validation_epoch_start(self) -> None:
        self.records["val"].reset()

    def on_test_epoch_start(self) -> None:
        self.records["test"].reset()

    def on_train_epoch_end(self) -> None:
        self.records["train"].log_epoch(self, 1)

    def on_validation_epoch_end(self) -> None:
        self.records["val"].log_epoch(self, len(self.loaders("val")))

    def on_test_epoch_end(self) -> None:
        self.records["test"].log_epoch(self, len(self.loaders("test")))
