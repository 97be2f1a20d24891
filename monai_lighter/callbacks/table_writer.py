"""Predictions to a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from monai_lighter.callbacks.table import Table
from monai_lighter.callbacks.writer import BaseWriter

__all__ = ["TableWriter"]


def as_number(tensor: Any) -> Any:
    """A number for one element, nested lists for more."""
    return tensor.item() if tensor.numel() == 1 else tensor.tolist()


class TableWriter(BaseWriter):
    """Writes all predictions of a predict run to one csv file with the columns ``identifier`` and ``pred``.

    Follows ``lighter.callbacks.TableWriter``. Rows go to disk as they come; several processes make one table, sorted by
    identifier.

    Args:
        path: csv file.
        writer: ``tensor`` (a number, or nested lists), or a function of a prediction that gives what stands in the table.
    """

    writers = {"tensor": as_number}

    def __init__(self, path: str | Path, writer: str | Callable = "tensor") -> None:
        super().__init__(path, writer)

    @property
    def directory(self) -> Path:
        return self.path.parent

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._table = Table(self.path, ("identifier", "pred"), trainer)

    def write(self, tensor: Any, identifier: Any) -> None:
        self._table.add([(identifier, self.writer(tensor))])

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._table.close()
