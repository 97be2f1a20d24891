"""What is logged of a mode: losses and metrics, by step and over the epoch."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torchmetrics import Metric

from monai_lighter.internals import find_result, set_result
from monai_lighter.system.hooks import QuickHooks
from monai_lighter.system.metrics import EpochMean, Metrics
from monai_lighter.system.processes import gather
from monai_lighter.system.tensors import as_list

__all__ = ["Record", "Recorded", "StepValues", "find_log_folder"]

logger = logging.getLogger(__name__)

SO_FAR = "epoch_so_far"
"""Key of Lightning's checkpoints: what losses and metrics of training have come to in the epoch that is not over."""

KEPT = (torch.float32, torch.float64)
"""Types that Lightning keeps logged numbers in."""


class StepValues:
    """Scalars that are logged in every step, each at a small part of the cost of ``self.log``.

    The first of an epoch is logged by ``LightningModule.log``, which checks and registers it; those of the steps after it are put
    where that has put the first. Callbacks (``trainer.callback_metrics``), progress bars and loggers find them as ever. A copy
    of a module begins with none of them.
    """

    def __init__(self) -> None:
        self._results: dict[tuple[str, int], Any] = {}

    def __reduce__(self) -> tuple:
        return type(self), ()

    def log(self, module: LightningModule, name: str, value: Tensor | float, loader: int = 0, **how: Any) -> None:
        """Logs a value by step alone, of this process alone.

        Args:
            module: whose hook is at work.
            name: under which it is logged.
            value: one number.
            loader: index of the batch's dataloader: each has values of its own, which Lightning numbers.
            how: of ``LightningModule.log``, the same in every step.
        """
        result = self._results.get((name, loader))
        if result is not None and not result.has_reset:
            set_result(result, _copy_number(value, module.device))
        else:
            module.log(name, value, on_step=True, on_epoch=False, **how)
            self._results[name, loader] = find_result(module, name)

    def forget(self) -> None:
        """The next value of each name is logged by Lightning again: an epoch begins."""
        self._results.clear()


def _copy_number(value: Tensor | float, device: torch.device) -> Tensor:
    """A scalar of its own, in at least 32 bits, as Lightning keeps it: the next step may write to the place of this one."""
    if isinstance(value, Tensor) and value.dtype in KEPT:
        value = value.detach().clone()
        return value.squeeze() if value.ndim else value
    default = torch.get_default_dtype()
    dtype = default if default in KEPT else torch.float32
    if isinstance(value, Tensor):
        return value.detach().to(dtype).squeeze()
    return torch.tensor(value, device=device, dtype=dtype)


class Record(nn.Module):
    """Losses and metrics of one mode, logged after each step and, over the epoch and all processes, when it ends.

    Where the mode has several loaders, each has its own means and its own copy of the metrics, and after the names stands
    ``/NAME`` of a loader that has a name, else ``/dataloader_idx_N``, as Lightning has it.

    Args:
        mode: ``train``, ``val`` or ``test``, the first part of every name.
        metrics: of the mode.
    """

    def __init__(self, mode: str, metrics: Metrics) -> None:
        super().__init__()
        self.mode = mode
        self.loaders: list[tuple[Metrics, EpochMean]] = []
        self.logged: set[int] = set()
        self.steps = StepValues()
        self._add(metrics)

    def _add(self, metrics: Metrics) -> None:
        self.add_module(f"metrics_{len(self.loaders)}", metrics)
        self.loaders.append((metrics, EpochMean()))

    def select_loader(self, dataloader_idx: int) -> tuple[Metrics, EpochMean]:
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
        loader: str = "",
    ) -> None:
        """Logs the losses, and those metric values that are scalars, of a step.

        Args:
            module: that logs.
            losses, values: of the step, by name.
            count: number of cases in the batch.
            dataloader_idx: of the loader among those of the mode.
            loader: its name, where it has one.
        """
        metrics, means = self.select_loader(dataloader_idx)
        suffix, how = _suffix(loader)
        for name, loss in losses.items():
            key = f"{self.mode}/loss" if len(losses) == 1 else f"{self.mode}/loss/{name}"
            means.update(key, loss, count)
            bar = self.mode == "train"
            self.steps.log(module, f"{key}/step{suffix}", loss, dataloader_idx, prog_bar=bar, **how)
        for name, value in values.items():
            if isinstance(metrics[name], Metric) and isinstance(value, Tensor) and value.numel() == 1:
                self.steps.log(module, f"{self.mode}/metrics/{name}/step{suffix}", value, dataloader_idx, **how)

    def log_loader(self, module: LightningModule, dataloader_idx: int, loader: str = "") -> None:
        """Logs a loader's epoch while Lightning is still at that loader, which puts it into its column of what is printed."""
        suffix, how = _suffix(loader)
        self._log_means(module, dataloader_idx, suffix, **how)
        self.logged.add(dataloader_idx)

    def log_epoch(self, module: LightningModule, loaders: Sequence[str]) -> None:
        """Logs the epoch of those of the mode's ``loaders`` (names, or empty) that have not been, and forgets them all."""
        for i, loader in enumerate(loaders):
            if i not in self.logged:
                suffix = f"/{loader or f'dataloader_idx_{i}'}" if len(loaders) > 1 else ""
                self._log_means(module, i, suffix, add_dataloader_idx=False)
        self.reset()

    def _log_means(self, module: LightningModule, dataloader_idx: int, suffix: str = "", **how: Any) -> None:
        """Means of the losses and the metrics' own aggregates."""
        metrics, means = self.select_loader(dataloader_idx)
        values = {f"{name}/epoch": value for name, value in means.compute().items()}
        shown = {f"{self.mode}/loss/epoch"}
        for name, value in metrics.compute().items():
            values[f"{self.mode}/metrics/{name}/epoch"] = value
            if "/" not in name:
                shown.add(f"{self.mode}/metrics/{name}/epoch")
        how = {"on_step": False, "on_epoch": True, "sync_dist": True, "batch_size": 1, **how}
        for name, value in values.items():
            if value.isnan():
                _warn_who_monitors(module, f"{name}{suffix}")
            module.log(f"{name}{suffix}", value.to(module.device), prog_bar=name in shown, **how)

    def collect(self) -> list:
        """What the epoch has come to so far in this process; empty between two epochs."""
        started = any(means.sums for _, means in self.loaders)
        return [[metrics.collect(), means.collect()] for metrics, means in self.loaders] if started else []

    def restore(self, state: Sequence, device: torch.device) -> None:
        """Goes on from what `collect` gave."""
        for i, (metrics, means) in enumerate(state):
            own, sums = self.select_loader(i)
            own.restore(metrics)
            sums.restore(means, device)

    def reset(self) -> None:
        """Forgets the epoch, also one that was broken off."""
        self.logged.clear()
        self.steps.forget()
        for metrics, means in self.loaders:
            metrics.reset()
            means.reset()

    def log_once(self, module: LightningModule, values: dict[str, float]) -> None:
        """Logs what holds for the whole epoch."""
        for name, value in values.items():
            number = torch.as_tensor(value, dtype=torch.float32)
            module.log(f"{self.mode}/{name}", number, on_step=False, on_epoch=True, batch_size=1)


def _suffix(loader: str) -> tuple[str, dict[str, Any]]:
    """What stands after a logged name for a loader with a name, which Lightning then need not number."""
    return (f"/{loader}", {"add_dataloader_idx": False}) if loader else ("", {})


def _warn_who_monitors(module: LightningModule, name: str) -> None:
    """Says what a callback does that monitors a value which is not there: Lightning's own take it for the worst, or stop."""
    for callback in module.trainer.callbacks:  # type: ignore[attr-defined]
        if getattr(callback, "monitor", None) == name and not module.trainer.sanity_checking:
            does = ""
            if isinstance(callback, EarlyStopping):
                does = ", which stops the run unless it has check_finite: false"
            elif isinstance(callback, ModelCheckpoint):
                does = ", which takes it for the worst value"
            logger.warning(
                f"{name} has no value in epoch {module.current_epoch + 1} (NaN: no case of it has one); it is monitored by "
                f"{type(callback).__name__}{does}"
            )


class Recorded(QuickHooks):
    """A LightningModule whose `Record` of each mode begins and is logged with the epochs of Lightning's loops."""

    records: dict[str, Record]
    _so_far: dict[str, Any] | None = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        parts = gather(self.records["train"].collect())
        if any(parts):
            checkpoint[SO_FAR] = {"epoch": self.current_epoch, "train": parts}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._so_far = checkpoint.get(SO_FAR)

    def on_train_start(self) -> None:
        """Means and metrics of training go on in the middle of an epoch; as an epoch begins they are forgotten anyway."""
        super().on_train_start()
        so_far, self._so_far = self._so_far or {}, None
        parts = so_far.get("train", ())
        if so_far.get("epoch") != self.current_epoch:
            return
        if len(parts) == self.trainer.world_size:
            self.records["train"].restore(parts[self.trainer.global_rank], self.device)
        elif self.trainer.is_global_zero:
            logger.warning(
                f"losses and metrics of training in epoch {self.current_epoch + 1} are those of the batches after the "
                f"checkpoint alone, which {len(parts)} processes have written and not {self.trainer.world_size}"
            )

    def _given_loaders(self, mode: str) -> Any:
        name = {"val": "val_dataloaders", "test": "test_dataloaders", "predict": "predict_dataloaders"}.get(mode)
        return None if name is None else getattr(self.trainer, name)

    def list_loaders(self, mode: str) -> list:
        """Dataloaders of ``val``, ``test`` or ``predict`` that the Trainer goes through."""
        return as_list(self._given_loaders(mode))

    def name_loaders(self, mode: str) -> list[str]:
        """A name for each of the mode's loaders: its key where several are given as a dict, else empty."""
        given = self._given_loaders(mode)
        if isinstance(given, Mapping) and len(given) > 1:
            return [str(name) for name in given]
        return [""] * len(as_list(given))

    def _log_if_last(self, mode: str, batches: list, batch_idx: int, dataloader_idx: int) -> None:
        if len(batches) > 1 and batch_idx + 1 == batches[dataloader_idx]:
            self.records[mode].log_loader(self, dataloader_idx, self.name_loaders(mode)[dataloader_idx])

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
        self.records["train"].log_epoch(self, [""])

    def on_validation_epoch_end(self) -> None:
        self.records["val"].log_epoch(self, self.name_loaders("val"))

    def on_test_epoch_end(self) -> None:
        self.records["test"].log_epoch(self, self.name_loaders("test"))


def find_log_folder(trainer: Trainer) -> Path | None:
    """The folder of this run alone, of the Trainer's first logger; None without one, and where that is not on disk.

    ``trainer.log_dir`` of loggers that are neither TensorBoard's nor csv is a folder that all their runs share: of W&B the
    working directory. All processes take part.
    """
    if not trainer.loggers or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    first: Any = trainer.loggers[0]
    folder = getattr(first, "log_dir", None)
    if folder is None and None not in (first.save_dir, first.version):  # as ModelCheckpoint has it
        folder = os.path.join(first.save_dir, str(first.name), str(first.version))
    folder = trainer.strategy.broadcast(None if folder is None else str(folder))
    return None if folder is None or "://" in folder else Path(folder)
