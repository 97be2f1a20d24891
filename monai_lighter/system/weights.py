"""The best and the last weights of a fit as plain state dicts."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Module

from monai_lighter.errors import ComponentError, NonFiniteError, in_short
from monai_lighter.internals import COMPILED, get_compiled
from monai_lighter.safe_files import copy_safely, written_beside
from monai_lighter.system.averaging import has_started
from monai_lighter.system.logging import find_log_folder
from monai_lighter.system.metrics import Metrics, lower_is_better
from monai_lighter.system.tensors import plain

__all__ = ["ModelWeights"]

logger = logging.getLogger(__name__)

CALLBACKS = "trainer::callbacks"


class ModelWeights(Callback):
    """Writes the network's weights where a MONAI bundle has them: ``models/model.pt``.

    The file is a plain state dict of ``system.model``, of tensors alone: ``torch.load(path, weights_only=True)`` reads it in
    any process. It is written beside its place and moved into it, so that a killed run leaves the file that was there.
    Each fit keeps its weights in its log folder, too (``lightning_logs/version_0/models/model.pt``): ``models`` has copies of
    those of the fit that wrote last. A fit that goes on from a checkpoint begins with the best weights that it had.
    Weights that are not finite are never written. A fit that ends on a loss that is not finite leaves the last weights that
    it had, in ``NAME_last.pt``; statistics that the network keeps of its inputs (``BatchNorm``), which the pass before that loss
    has spoilt, are then those of the beginning of the epoch.
    `System` adds this callback to every fit; name it in ``trainer::callbacks`` to change its arguments.

    Args:
        path: file for the best weights. Default: ``models/model.pt`` in the Trainer's ``default_root_dir``.
        monitor: key metric, a logged name, of validation or (``train/…``) of a training epoch. Default: the first of
            ``system::metrics::val``, else ``val/loss/epoch``. An epoch in which it has no value (NaN) is not the best; where it
            has none in any, and without validation, the weights of the last epoch are written.
        mode: ``min`` or ``max``. Default: ``min`` for losses, distances and errors and where torchmetrics says so, else
            ``max``.
        save_last: also write the weights of the last epoch, to ``NAME_last.pt`` beside the best.

    Raises:
        ValueError: another mode.
        ComponentError: when a fit begins, a folder that cannot be made or written to, and later a disk that is full; at the end
            of a validation, a ``monitor`` that was not logged.
        NonFiniteError: when a fit ends, weights that are not finite.
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
        self._root = Path()
        self.monitor = monitor
        self.mode = mode
        self.save_last = save_last
        self.best: float | None = None
        self.best_epoch: int | None = None
        self._folder: Path | None = None
        self._before: str | None = None
        self._epoch = 0
        self._never_finite: set[str] = set()
        self._buffers: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        own = self.path and self._find_own(self.path)
        state = {"best": self.best, "best_epoch": self.best_epoch, "monitor": self.monitor, "mode": self.mode}
        return {**state, "file": None if own is None else os.path.relpath(own, self._root)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.monitor in (None, state_dict["monitor"]):
            self.monitor, self.mode = state_dict["monitor"], state_dict["mode"]
            self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
            self._before = state_dict.get("file")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.path is None:
            self.path = Path(trainer.default_root_dir) / "models" / "model.pt"
        self._root = Path(trainer.default_root_dir)
        self._folder = find_log_folder(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self.path is not None
        self._never_finite = _find_non_finite(dict(_find_network(pl_module)[0].named_buffers()))
        try:
            if self.best is not None and not self._bring_best(trainer):
                logger.info(f"{self.path} is not there: the best weights are looked for again")
                self.best = self.best_epoch = None
            if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with TemporaryFile(dir=self.path.parent):  # told now, not after the first epoch
                    pass
        except OSError as error:
            raise _unwritable(self.path.parent, error) from error

    def _find_own(self, path: Path) -> Path | None:
        """Where this fit keeps what it writes to ``path``; None without a log folder."""
        if self._folder is None or self._folder.absolute() == self._root.absolute():
            return None
        return self._folder / self._place(path)

    def _place(self, path: Path) -> Path:
        """What the path of a file becomes in a log folder."""
        inside = path.absolute().is_relative_to(self._root.absolute())
        return path.absolute().relative_to(self._root.absolute()) if inside else Path(path.name)

    @property
    def earlier_folder(self) -> Path | None:
        """Log folder of the fit that goes on here; None where one begins, or where that had none."""
        if self._before is None or self.path is None:
            return None
        return (self._root / self._before).parents[len(self._place(self.path).parts) - 1]

    def _bring_best(self, trainer: Trainer) -> bool:
        """Whether the best weights of the fit that goes on are there: another fit may have written to ``path`` since."""
        assert self.path is not None
        before, own = self._before and self._root / self._before, self._find_own(self.path)
        there = trainer.strategy.broadcast((before or self.path).is_file())
        if there and before and trainer.is_global_zero:
            for target in dict.fromkeys([self.path, own or self.path]):
                if target.absolute() != before.absolute():
                    copy_safely(before, target)
        return there

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        self.monitor = self.monitor or _key_metric(trainer, pl_module)
        if self.monitor is not None and not self.monitor.startswith("train/"):
            self._judge(trainer, pl_module, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch = trainer.current_epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        buffers = _find_network(pl_module)[0].named_buffers()
        self._buffers = {name: buffer.clone() for name, buffer in buffers if buffer.is_floating_point()}
        if self.monitor in trainer.callback_metrics and self.monitor.startswith("train/"):
            self._judge(trainer, pl_module, self._epoch)  # a value of training is logged after the hooks of its epoch

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (self.monitor or "").startswith("train/"):
            self._judge(trainer, pl_module, self._epoch)

    def _judge(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> None:
        """Writes the weights where the value of their epoch is the best so far."""
        value = self._monitored(trainer)
        self.mode = self.mode or ("min" if _is_cost(str(self.monitor), pl_module) else "max")
        if not math.isfinite(value) or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if self.best is None or (value < self.best if self.mode == "min" else value > self.best):
            state, bad = self._take_weights(trainer, pl_module)
            if bad:
                logger.warning(
                    f"{self.monitor} = {value:.4f} in epoch {epoch + 1}, but {bad} not finite: not saved to {self.path}"
                )
                return
            self.best, self.best_epoch = value, epoch
            with trainer.profiler.profile("save_weights"):  # type: ignore[attr-defined]
                self._write(state, self.path)
            better = "lower" if self.mode == "min" else "higher"
            logger.info(
                f"best weights: {self.monitor} = {value:.4f} in epoch {epoch + 1} ({better} is better), to {self.path}"
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.fast_dev_run or not trainer.global_step:  # type: ignore[attr-defined]
            return
        state, bad = self._take_weights(trainer, pl_module)
        if bad:
            raise NonFiniteError(
                f"system::model: when the fit ended, {bad} not finite: not saved. A gradient can be infinite where the loss is "
                "not: lower the learning rate, or clip (trainer::gradient_clip_val)."
            )
        if self.best is None:
            if self.monitor is not None:
                logger.warning(
                    f"{self.monitor} had no value in any epoch: none has the best weights, {self.path} are those of the last"
                )
            self._write(state, self.path)
        if self.save_last:
            self._write(state, self.last_path)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keeps the last weights of a fit that ends on a loss that is not finite."""
        fitting = trainer.state.fn == TrainerFn.FITTING and trainer.global_step and not trainer.fast_dev_run  # type: ignore[attr-defined]
        if not isinstance(exception, NonFiniteError) or not fitting or not self.save_last:
            return
        state, _ = self._take_weights(trainer, pl_module)
        spoilt = _find_non_finite({name: value for name, value in state.items() if name in self._buffers})
        state.update({name: self._buffers[name] for name in spoilt})
        bad = _find_non_finite(state) - self._never_finite
        if bad:
            logger.warning(f"weights not finite, not saved: {', '.join(sorted(bad)[:3])}")
            return
        self._write(state, self.last_path)
        logger.info(f"the last finite weights, of step {trainer.global_step}, to {self.last_path}")
        if spoilt:
            logger.info(f"as at the beginning of epoch {trainer.current_epoch + 1}: {', '.join(sorted(spoilt))}")

    @property
    def last_path(self) -> Path | None:
        """File for the weights of the last epoch; None before the first run, which the default depends on."""
        return self.path and self.path.with_name(f"{self.path.stem}_last{self.path.suffix}")

    def _take_weights(self, trainer: Trainer, pl_module: LightningModule) -> tuple[dict[str, Tensor], str]:
        """State dict of the network, and the names of what in it is not finite, as a subject; empty where all is.

        A buffer that was never finite, such as an attention mask of minus infinity, counts as meant so.
        """
        tensors = {name: value for name, value in _state(trainer, pl_module).items() if isinstance(value, Tensor)}
        bad = sorted(_find_non_finite(tensors) - self._never_finite)
        return (
            tensors,
            f"{', '.join(bad[:3])}{', …' if len(bad) > 3 else ''} {'are' if len(bad) > 1 else 'is'}" if bad else "",
        )

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
    def _write(self, tensors: dict[str, Tensor], path: Path | None) -> None:
        assert path is not None
        state = {name: plain(value).detach().cpu() for name, value in tensors.items()}
        own = self._find_own(path)
        try:
            with written_beside(own or path) as temporary:
                torch.save(state, temporary)
            if own is not None:
                copy_safely(own, path)
        except (OSError, RuntimeError) as error:  # the latter of torch, where the disk is full
            raise _unwritable(path, error) from error


def _unwritable(path: Path, error: Exception) -> ComponentError:
    """What is said of a file or folder that cannot be written: it is one line, and what was there is as it was."""
    problem = f"ModelWeights: cannot write to {path}: {' '.join(in_short(error).split())}"
    hint = (
        "Free some space, or give another place (trainer::default_root_dir, or path of a monai_lighter.ModelWeights)."
    )
    return ComponentError(CALLBACKS, f"{CALLBACKS}: {problem}. {hint}")


def _find_non_finite(tensors: dict[str, Tensor]) -> set[str]:
    """Names of the tensors of floating-point numbers that hold NaN or infinity."""
    return {
        name for name, value in tensors.items() if value.is_floating_point() and not bool(plain(value).isfinite().all())
    }


def _find_network(module: LightningModule) -> tuple[Module, str]:
    """The network that is saved, and what its names begin with in the state dict of the LightningModule."""
    network = getattr(module, "model", module)
    prefix = "" if network is module else "model."
    compiled = get_compiled(network)
    if compiled is not None:
        network, prefix = compiled, f"{prefix}{COMPILED}."
    return network, prefix


def _state(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """State dict of the network: of its average where Lightning's ``WeightAveraging`` has one, which it validates and saves."""
    network, prefix = _find_network(module)
    state = _make_whole(trainer, network.state_dict(), prefix)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, WeightAveraging) and has_started(callback):
            checkpoint = {"state_dict": module.state_dict()}
            callback.on_save_checkpoint(trainer, module, checkpoint)
            state = {name: checkpoint["state_dict"][f"{prefix}{name}"] for name in state}
    return state


def _make_whole(trainer: Trainer, state: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The state dict of which a process has a part, where a strategy shards it; all processes take part.

    Under ``FSDPStrategy`` rank 0 alone gets it, and the others nothing.
    """
    if isinstance(trainer.strategy, FSDPStrategy):
        whole = trainer.strategy.lightning_module_state_dict()
        return {name: whole[f"{prefix}{name}"] for name in state if f"{prefix}{name}" in whole}
    return {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in state.items()}


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
