"""What is logged of an engine's run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine
from torch import Tensor

from monai_lighter.engines.callback import EndIteration
from monai_lighter.engines.parts import numbers
from monai_lighter.system import System

__all__ = ["LoggedSystem"]


class LoggedSystem(System):
    """A `System` that logs for an engine, where a logger or a callback wants to know.

    Logged are ``train/loss/step`` (or ``train/NAME/step`` for each number in the output of an own iteration) and, at the end of
    an epoch, ``MODE/metrics/NAME/epoch`` for each number in the metrics of the engine, with ``MODE`` train or val.
    """

    @property
    def _listened_to(self) -> bool:
        trainer: Any = self.trainer
        return bool(trainer.loggers or any(not isinstance(each, EndIteration) for each in trainer.callbacks))

    def _log_loss(self, loss: Tensor) -> None:
        if self._listened_to:
            self.log("train/loss/step", loss.detach(), prog_bar=True, batch_size=1)

    def _log_output(self, output: Any) -> None:
        if self._listened_to and isinstance(output, Mapping):
            for name, value in numbers(output):
                self.log(f"train/{name}/step", value, prog_bar=True, batch_size=1)

    def _log_metrics(self, mode: str, engine: Engine) -> None:
        if self._listened_to:
            for name, value in numbers(engine.state.metrics):
                self.log(f"{mode}/metrics/{name}/epoch", value, prog_bar=True, batch_size=1)
