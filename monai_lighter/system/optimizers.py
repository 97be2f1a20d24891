"""Optimizers and learning-rate schedulers as configs give them, in the shapes Lightning takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from monai_lighter.errors.marks import mark
from monai_lighter.system.tensors import as_list

__all__ = ["Optimized", "read_optimizer_stats"]


def read_optimizer_stats(optimizers: list[Optimizer]) -> dict[str, float]:
    """``optimizer/CLASS/lr`` and ``optimizer/CLASS/momentum`` (or first beta), with ``/groupN`` (from 1) for several groups.

    Follows ``lighter.utils.misc.get_optimizer_stats``. Several optimizers of one class are numbered from 1: ``Adam2``.
    """
    stats: dict[str, float] = {}
    names: list[str] = []
    for optimizer in optimizers:
        name = type(optimizer).__name__
        names.append(name)
        name = f"{name}{names.count(name)}" if names.count(name) > 1 else name
        for i, group in enumerate(optimizer.param_groups, 1):
            suffix = f"/group{i}" if len(optimizer.param_groups) > 1 else ""
            stats[f"optimizer/{name}/lr{suffix}"] = group["lr"]
            if "momentum" in group or "betas" in group:
                momentum = group["betas"][0] if "betas" in group else group["momentum"]
                stats[f"optimizer/{name}/momentum{suffix}"] = momentum
    return stats


SCHEDULE = {"interval": "epoch", "frequency": 1, "monitor": None, "strict": True}
"""Lightning's defaults of an ``lr_scheduler_config``; it ignores such settings under manual optimization."""


class Optimized(LightningModule):
    """A LightningModule given its optimizers and schedulers, in the shapes that configs have them.

    One optimizer is Lightning's automatic optimization. Several step together on the one loss: manual optimization, in which
    Lightning neither clips nor accumulates gradients, so that a config that asks for it is refused, and ``global_step`` counts
    the steps of each.

    Args:
        optimizer: an Optimizer, or a list or dict of several.
        scheduler: a scheduler, a Lightning ``lr_scheduler_config`` dict (``scheduler``, ``interval``, ``monitor``, …), or a
            list or dict of either. A ``ReduceLROnPlateau`` of a value of validation has as ``frequency`` the epochs from one
            validation to the next, where it has none.
    """

    def __init__(self, optimizer: Any = None, scheduler: Any = None) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.automatic_optimization = len(as_list(optimizer)) < 2

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        optimizers, schedulers = as_list(self.optimizer), as_list(self.scheduler, ("scheduler",))
        if not optimizers:
            raise ValueError("system::optimizer: must be given to fit, got None.")
        given = [item if isinstance(item, Mapping) else {"scheduler": item} for item in schedulers]
        configs = [{**SCHEDULE, **self._wait_for_validation(item)} for item in given]
        for config in configs:
            if isinstance(config["scheduler"], ReduceLROnPlateau) and config["monitor"] is None:
                raise ValueError(
                    "system::scheduler: ReduceLROnPlateau needs the name of a logged value, got none. "
                    "Use {scheduler: ..., monitor: val/loss/epoch}."
                )
        if self.automatic_optimization:
            return optimizers, configs
        self._schedules = configs
        return optimizers, [config["scheduler"] for config in configs]

    def _wait_for_validation(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """A plateau of a value of validation steps where that is new: in epochs with a validation (``check_val_every_n_epoch``),
        or, with ``interval: step``, after batches with one (``val_check_interval``)."""
        of_validation = str(config.get("monitor")).startswith("val/")
        if not isinstance(config["scheduler"], ReduceLROnPlateau) or not of_validation:
            return config
        by_step = config.get("interval", "epoch") == "step"
        setting = "val_check_interval" if by_step else "check_val_every_n_epoch"
        every = getattr(self._trainer, setting, None) or 1
        if by_step and (not isinstance(every, int) or not self.automatic_optimization):
            alone = "Leave it out, or write trainer::val_check_interval and frequency in batches."
            raise ValueError(
                f"system::scheduler: interval must be epoch, got step: {config['monitor']} has no new value after each batch. "
                f"{alone if self.automatic_optimization else 'Leave it out: there are several optimizers.'}"
            )
        frequency = config.get("frequency", every)
        if frequency % every:
            raise ValueError(
                f"system::scheduler: frequency must be a multiple of trainer::{setting}, {every}, got {frequency}: "
                f"{config['monitor']} has no new value in between. Leave it out, or write frequency: {every}."
            )
        return {**config, "frequency": frequency}

    @property
    def learning_rate(self) -> float:
        """Learning rate of the one parameter group of the one optimizer, where Lightning's ``Tuner`` looks for it."""
        return self._only_group()["lr"]

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        group = self._only_group()
        group["lr"] = value
        for scheduler in as_list(self.scheduler, ("scheduler",)):
            scheduler = scheduler["scheduler"] if isinstance(scheduler, Mapping) else scheduler
            if hasattr(scheduler, "base_lrs"):
                scheduler.base_lrs = [value]
                group["initial_lr"] = value

    def _only_group(self) -> dict[str, Any]:
        groups = [group for optimizer in as_list(self.optimizer) for group in optimizer.param_groups]
        if len(groups) != 1:
            raise ValueError(f"system::optimizer: learning_rate needs exactly one parameter group, got {len(groups)}.")
        return groups[0]

    def optimize(self, output: dict[str, Any]) -> dict[str, Any]:
        """Manual optimization: every optimizer steps on ``output["loss"]``, and the schedulers by step with them."""
        if self.automatic_optimization:
            return output
        optimizers = as_list(self.optimizers())
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(output["loss"])
        for optimizer in optimizers:
            optimizer.step()
        self.step_schedulers("step")
        return {**output, "loss": output["loss"].detach()}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Lightning's, which takes a while in every step to find out that it clips nothing."""
        if gradient_clip_val is not None or gradient_clip_algorithm is not None:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        try:
            super().backward(loss, *args, **kwargs)
        except Exception as error:
            mark(error, "system::model (backward pass)", loss=loss)
            raise

    def step_schedulers(self, interval: str) -> None:
        """Manual optimization: steps the schedulers of that ``interval`` (``step`` or ``epoch``) when ``frequency`` is due.

        Raises:
            ValueError: a ``monitor`` that was not logged, unless its config says ``strict: false``.
        """
        if self.automatic_optimization:
            return
        trainer = self.trainer
        done = trainer.fit_loop.total_batch_idx + 1 if interval == "step" else trainer.current_epoch + 1
        for config in self._schedules:
            if config["interval"] != interval or done % config["frequency"]:
                continue
            if not isinstance(config["scheduler"], ReduceLROnPlateau):
                self.lr_scheduler_step(config["scheduler"], None)
            elif config["monitor"] in trainer.callback_metrics:
                self.lr_scheduler_step(config["scheduler"], trainer.callback_metrics[config["monitor"]])
            elif config["strict"]:
                logged = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
                raise ValueError(
                    f"system::scheduler: monitor must be a logged value, got {config['monitor']!r}; logged: {logged}."
                )
