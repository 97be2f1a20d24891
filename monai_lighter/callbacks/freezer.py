"""Keeps parameters from training, for a while or for good."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from monai.utils import ensure_tuple
from torch.nn import Module, Parameter

from monai_lighter.errors import did_you_mean
from monai_lighter.system.lighter_module import LighterModule

__all__ = ["Freezer"]

logger = logging.getLogger(__name__)

Names = str | Iterable[str] | None


class Freezer(Callback):
    """Freezes parameters of the network (``model`` of `System`, ``network`` of `LighterModule`) by name or by its beginning.

    Follows ``lighter.callbacks.Freezer``. Names are those in the network; of another LightningModule with a ``model`` they may
    have ``model.`` before them, and of one without they are the module's own. A freezer thaws what it froze itself, unless
    another one still holds it: several of them do not undo each other, nor a ``requires_grad`` set elsewhere. A layer that
    keeps statistics of its inputs (``BatchNorm``, ``InstanceNorm`` with ``track_running_stats``) is in eval mode while all its
    parameters are frozen, or, where it has none, its name is chosen: it uses the statistics that it has and does not change
    them. Parameters that thaw later take part in DistributedDataParallel from the beginning, which needs
    ``strategy: ddp_find_unused_parameters_true``.

    Args:
        names: full names of parameters.
        name_starts_with: beginnings of names.
        except_names: full names that stay trainable.
        except_name_starts_with: beginnings of names that stay trainable.
        until_step: frozen while ``trainer.global_step`` (optimizer steps) is below it.
        until_epoch: frozen while ``trainer.current_epoch`` (epochs, from 0) is below it.

    Raises:
        ValueError: neither ``names`` nor ``name_starts_with``; both ``until_step`` and ``until_epoch``; when the fit begins, a
            name or beginning that no parameter has.
    """

    def __init__(
        self,
        names: Names = None,
        name_starts_with: Names = None,
        except_names: Names = None,
        except_name_starts_with: Names = None,
        until_step: int | None = None,
        until_epoch: int | None = None,
    ) -> None:
        if names is None and name_starts_with is None:
            raise ValueError("at least one of names and name_starts_with must be given, got neither.")
        if until_step is not None and until_epoch is not None:
            raise ValueError(
                f"only one of until_step and until_epoch may be given, got {until_step} and {until_epoch}."
            )
        self.names = _tuple(names)
        self.name_starts_with = _tuple(name_starts_with)
        self.except_names = _tuple(except_names)
        self.except_name_starts_with = _tuple(except_name_starts_with)
        self.until_step = until_step
        self.until_epoch = until_epoch
        self._frozen: list[Parameter] = []
        self._still: list[Module] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        parameters = _parameters(pl_module)
        known = {*parameters, *(_prefix(pl_module) + name for name in parameters)}
        for name in (*self.names, *self.except_names):
            if name not in known:
                raise ValueError(
                    f"names must be of parameters of the model, got {name!r}. {did_you_mean(name, parameters)}"
                )
        for start in (*self.name_starts_with, *self.except_name_starts_with):
            if not any(name.startswith(start) for name in known):
                raise ValueError(
                    f"a parameter of the model must start with {start!r}. {did_you_mean(start, _beginnings(parameters))}"
                )
        if self.until_step is None and self.until_epoch is None:
            self._freeze(trainer, pl_module)  # before DistributedDataParallel asks which parameters are trained

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (self.until_step is not None or self.until_epoch is not None) and not self._over(trainer):
            self._freeze(trainer, pl_module)
        if self._frozen:  # looked for here, since strategies exchange layers (SyncBatchNorm) after `setup`
            self._still = [layer for layer in self._find_frozen_layers(pl_module) if layer.training]

    def _find_frozen_layers(self, module: LightningModule) -> Iterator[Module]:
        """Layers with running statistics of which everything is frozen."""
        frozen = {id(parameter) for parameter in self._frozen}
        prefix = _prefix(module)
        for name, layer in _network(module).named_modules():
            if getattr(layer, "running_mean", None) is not None:
                own = [*layer.parameters(recurse=False)]
                whole = (
                    all(id(parameter) in frozen for parameter in own)
                    if own
                    else self._matches(f"{name}.running_mean", prefix)
                )
                if whole:
                    yield layer

    def _freeze(self, trainer: Trainer, module: LightningModule) -> None:
        held, prefix = self._held_by_others(trainer), _prefix(module)
        matching = {name: p for name, p in _parameters(module).items() if self._matches(name, prefix)}
        chosen = {name: p for name, p in matching.items() if p.requires_grad or id(p) in held}
        self._frozen = list(chosen.values())
        for parameter in self._frozen:
            parameter.requires_grad = False
        logger.info(f"frozen until step {self.until_step}, epoch {self.until_epoch}: {', '.join(chosen)}")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._frozen and self._over(trainer):
            self._thaw(trainer)
        for layer in self._still:
            layer.eval()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._thaw(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._thaw(trainer)

    def _over(self, trainer: Trainer) -> bool:
        step_over = self.until_step is not None and trainer.global_step >= self.until_step
        return step_over or (self.until_epoch is not None and trainer.current_epoch >= self.until_epoch)

    def _thaw(self, trainer: Trainer) -> None:
        held = self._held_by_others(trainer)
        for parameter in self._frozen:
            parameter.requires_grad = id(parameter) not in held
        self._frozen = []
        others = {id(layer) for other in self._others(trainer) for layer in other._still}
        for layer in self._still:
            layer.train(id(layer) not in others)
        self._still = []

    def _others(self, trainer: Trainer) -> list[Freezer]:
        return [c for c in trainer.callbacks if isinstance(c, Freezer) and c is not self]  # type: ignore[attr-defined]

    def _held_by_others(self, trainer: Trainer) -> set[int]:
        return {id(parameter) for other in self._others(trainer) for parameter in other._frozen}

    def _matches(self, name: str, prefix: str) -> bool:
        """Whether a name in the network is chosen, as it is or with what stands before it in the LightningModule."""
        written = {name, prefix + name}
        if any(each in self.except_names or each.startswith(self.except_name_starts_with) for each in written):
            return False
        return any(each in self.names or each.startswith(self.name_starts_with) for each in written)


def _tuple(names: Names) -> tuple[str, ...]:
    return () if names is None else ensure_tuple(names)


def _prefix(module: LightningModule) -> str:
    """What stands before the network's names in those of the LightningModule: ``model.``, ``network.``, or nothing."""
    if isinstance(module, LighterModule):
        return "network."
    return "model." if isinstance(getattr(module, "model", None), Module) else ""


def _network(module: LightningModule) -> Module:
    return module.get_submodule(_prefix(module).removesuffix("."))


def _parameters(module: LightningModule) -> dict[str, Parameter]:
    return dict(_network(module).named_parameters())


def _beginnings(names: Iterable[str]) -> set[str]:
    parts = [name.split(".") for name in names]
    return {".".join(part[: i + 1]) for part in parts for i in range(len(part))}
