"""The best and the last weights of a fit as plain state dicts."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

from monai_lighter.errors import ComponentError, in_short
from monai_lighter.internals import COMPILED, get_compiled
from monai_lighter.system.metrics import Metrics, lower_is_better
from monai_lighter.system.tensors import plain

__all__ = ["ModelWeights"]

logger = logging.getLogger(__name__)

CALLBACKS = "trainer::callbacks"


class ModelWeights(Callback):
    """Writes the network's weights where a MONAI bundle has them: ``models/model.pt``.

    The file is a plain state dict of ``system.model``, of tensors alone: ``torch.load(path, weights_only=True)`` reads it in
    any process. It is written beside its place and moved into it, so that a killed run leaves the file that was there.
    `System` adds this callback to every fit; name it in ``trainer::callbacks`` to change its arguments.

    Args:
        path: file for the best weights. Default: ``models/model.pt`` in the Trainer's ``default_root_dir``.
        monitor: key metric, a logged name, of validation or (``train/…``) of a training epoch. Default: the first of
            ``system::metrics::val``, else ``val/loss/epoch``. Without validation the weights of the last epoch are written.
        mode: ``min`` or ``max``. Default: ``min`` for losses, distances and errors and where torchmetrics says so, else
            ``max``.
        save_last: also write the weights of the last epoch, to ``NAME_last.pt`` beside the best.

    Raises:
        ValueError: another mode.
        ComponentError: when a fit begins, a folder that cannot be made; at the end of a validation, a ``monitor`` that was
            not logged.
    """

    def __init__(
        self,
        path: str | os.PathLike | None = None,
        monitor: str | None = None,
        mode: str | None = None,
        save_last: bool = True,
    ) -> None:
        if mode not in (None, "min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}.")
        self.path = None if path is None else Path(path)
        self.monitor = monitor
        self.mode = mode
        self.save_last = save_last
        self.best: float | None = None
        self.best_epoch: int | None = None
        self._epoch = 0

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "monitor": self.monitor, "mode": self.mode}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.monitor in (None, state_dict["monitor"]):
            self.monitor, self.mode = state_dict["monitor"], state_dict["mode"]
            self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.path is None:
            self.path = Path(trainer.default_root_dir) / "models" / "model.pt"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self.path is not None
        if self.best is not None and not self.path.is_file():
            logger.info(f"{self.path} is not there: the best weights are looked for again")
            self.best = self.best_epoch = None
        try:
            if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
                self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"ModelWeights: cannot write to {self.path.parent}: {in_short(error)}"
            raise ComponentError(CALLBACKS, f"{CALLBACKS}: {problem}") from error

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        self.monitor = self.monitor or _key_metric(trainer, pl_module)
        if self.monitor is not None and not self.monitor.startswith("train/"):
            self._judge(trainer, pl_module, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch = trainer.current_epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.monitor in trainer.callback_metrics and self.monitor.startswith("train/"):
            self._judge(trainer, pl_module, self._epoch)  # a value of training is logged after the hooks of its epoch

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (self.monitor or "").startswith("train/"):
            self._judge(trainer, pl_module, self._epoch)

    def _judge(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> None:
        """Writes the weights where the value of their epoch is the best so far."""
        value = self._monitored(trainer)
        self.mode = self.mode or ("min" if _is_cost(str(self.monitor), pl_module) else "max")
        if math.isnan(value) or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if self.best is None or (value < self.best if self.mode == "min" else value > self.best):
            self.best, self.best_epoch = value, epoch
            self._write(trainer, pl_module, self.path)
            better = "lower" if self.mode == "min" else "higher"
            logger.info(
                f"{self.monitor} = {value:.4f} ({better} is better) at epoch {epoch}: best weights to {self.path}"
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.fast_dev_run or not trainer.global_step:  # type: ignore[attr-defined]
            return
        if self.best is None:
            self._write(trainer, pl_module, self.path)
        if self.save_last and self.path is not None:
            self._write(trainer, pl_module, self.path.with_name(f"{self.path.stem}_last{self.path.suffix}"))

    def _monitored(self, trainer: Trainer) -> float:
        assert self.monitor is not None
        if self.monitor not in trainer.callback_metrics:
            logged = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            problem = (
                f"monitor of ModelWeights must be the name of a logged value, got {self.monitor!r}; logged: {logged}"
            )
            raise ComponentError(CALLBACKS, f"{CALLBACKS}: {problem}.")
        return float(trainer.callback_metrics[self.monitor])

    @rank_zero_only
    def _write(self, trainer: Trainer, pl_module: LightningModule, path: Path | None) -> None:
        assert path is not None
        tensors = {name: value for name, value in _state(trainer, pl_module).items() if isinstance(value, torch.Tensor)}
        state = {name: plain(value).detach().cpu() for name, value in tensors.items()}
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        torch.save(state, temporary)
        temporary.replace(path)


def _state(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """State dict of the network: of its average where Lightning's ``WeightAveraging`` validates and saves that."""
    network = getattr(module, "model", module)
    prefix = "" if network is module else "model."
    compiled = get_compiled(network)
    if compiled is not None:
        network, prefix = compiled, f"{prefix}{COMPILED}."
    state = network.state_dict()
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, WeightAveraging):
            checkpoint = {"state_dict": module.state_dict()}
            callback.on_save_checkpoint(trainer, module, checkpoint)
            state = {name: checkpoint["state_dict"][f"{prefix}{name}"] for name in state}
    return state


def _key_metric(trainer: Trainer, module: LightningModule) -> str | None:
    """Logged name of the first validation metric, else of the validation loss."""
    names = [f"val/metrics/{name}/" for name in _validation_metrics(module)[:1]]
    for start in (*names, "val/loss/epoch", "val/loss/total/epoch"):
        for name in trainer.callback_metrics:
            if name.startswith(start):
                return name
    return None


def _is_cost(monitor: str, module: LightningModule) -> bool:
    """Whether the lower value of a logged name is the better one."""
    for name in _validation_metrics(module):
        if monitor.startswith(f"val/metrics/{name}/"):
            return lower_is_better(module.metrics["val"][name])  # type: ignore[index]
    return "loss" in monitor


def _validation_metrics(module: LightningModule) -> list[str]:
    metrics = getattr(module, "metrics", None)
    validation = metrics.get("val") if isinstance(metrics, dict) else None
    return validation.names if isinstance(validation, Metrics) else []
