"""Writers of what a LightningModule's ``predict_step`` gives, by its keys: those of Lighter 0.1.0.

`FileWriter` and `TableWriter` write the ``pred`` of `System`'s step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from monai_lighter.callbacks.tables import Table, convert_to_number
from monai_lighter.callbacks.writers import FileWriter, write_image
from monai_lighter.errors import did_you_mean
from monai_lighter.system.batches import Cases
from monai_lighter.system.profiler import FINISHING
from monai_lighter.system.step_outputs import when_ready
from monai_lighter.system.tensors import detach

__all__ = ["BatchWriter", "CsvWriter", "OutputWriter"]


class BatchWriter(Callback, ABC):
    """Writes the outputs of each batch of a predict run. Follows ``lighter.callbacks.base_writer.BaseWriter`` 0.1.0.

    Args:
        path: where to write; a directory, or a file, whose name has a suffix.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @abstractmethod
    def write(self, outputs: dict[str, Any], batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        """Writes what one step gave.

        Args:
            outputs: of ``predict_step``.
            batch: as the loader gave it.
            batch_idx: of the batch among those of its loader, from 0.
            dataloader_idx: of the loader, from 0.
        """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "predict":
            return
        self.path = Path(trainer.strategy.broadcast(str(self.path)))
        if trainer.is_global_zero:
            (self.path.parent if self.path.suffix else self.path).mkdir(parents=True, exist_ok=True)
        trainer.strategy.barrier()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if outputs is not None and not (isinstance(outputs, Mapping) and not outputs):
            with trainer.profiler.profile(FINISHING):  # type: ignore[attr-defined]
                when_ready(outputs, lambda ready: self.write(ready, batch, batch_idx, dataloader_idx))


class CsvWriter(BatchWriter):
    """Writes entries of the outputs to one csv file, a row for each case, in the order of the data.

    Follows ``lighter.callbacks.CsvWriter`` 0.1.0. Rows go to disk as they come; several processes make one table. A
    tensor, list or tuple has an entry for each case; anything else holds for all of the
    batch.

    Args:
        path: csv file. A table of an earlier run is replaced when the run is through, any other file is not.
        keys: of the outputs, which are the columns.

    Raises:
        KeyError: in a run, a key that the outputs do not have.
        ValueError: in a run, entries of several lengths.
        ConfigError: when prediction begins, a path that another callback has, or at which another kind of file is.
    """

    def __init__(self, path: str | Path, keys: Sequence[str]) -> None:
        super().__init__(path)
        self.keys = list(keys)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._table = Table(self.path, self.keys, trainer, self, is_sorted=False)

    def write(self, outputs: dict[str, Any], batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        values = [_take(outputs, key, type(self).__name__) for key in self.keys]
        counts = {key: len(value) for key, value in zip(self.keys, values, strict=True) if _has_cases(value)}
        if len({*counts.values()}) > 1:
            raise ValueError(f"CsvWriter: entries of the outputs must have one length, got {counts}.")
        rows = ((_case(value, i) for value in values) for i in range(next(iter(counts.values()), 1)))
        self._table.add(([convert_to_number(value) for value in row] for row in rows), dataloader_idx)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._table.close()


def _take(outputs: Any, key: str, writer: str) -> Any:
    if not isinstance(outputs, Mapping) or key not in outputs:
        known = list(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
        raise KeyError(f"trainer::callbacks ({writer}): predict_step must give a dict with {key!r}, got {known}")
    return outputs[key]


def _has_cases(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, Tensor) and value.ndim > 0)


def _case(value: Any, index: int) -> Any:
    return value[index] if _has_cases(value) else value


def write_text(path: Path, value: Any) -> None:
    """``.txt``: the value as a text."""
    path.with_name(f"{path.name}.txt").write_text(str(value), encoding="utf-8")


class OutputWriter(FileWriter):
    """Writes one entry of the outputs to a file for each case. Follows ``lighter.callbacks.FileWriter`` 0.1.0.

    As every `FileWriter` it keeps the files of two cases apart, and takes no value that a format cannot hold.

    Args:
        directory: where to write.
        value_key: of the outputs, the entry with a value for each case.
        writer_fn: ``tensor`` (``.pt``), ``image_2d`` (``(C, H, W)``) and ``image_3d`` (``(C, D, H, W)``, slices in a column;
            ``.png``, floats in [0, 1]), ``text`` (``.txt``), another writer of `FileWriter` (``itk_nifti``), or a function of
            ``(path, value)`` that adds its suffix to ``path``.
        name_key: of the outputs, the entry with a name for each case; without one they are numbered from 0.

    Raises:
        ValueError: a name that is none of these; in a run, another number of names than of values.
        KeyError: in a run, a key that the outputs do not have.
    """

    writers = {**FileWriter.writers, "image_2d": write_image, "image_3d": write_image, "text": write_text}
    suffixes = {**FileWriter.suffixes, "image_2d": ".png", "image_3d": ".png", "text": ".txt"}

    def __init__(
        self, directory: str | Path, value_key: str, writer_fn: str | Callable, name_key: str | None = None
    ) -> None:
        if isinstance(writer_fn, str) and writer_fn not in self.writers:
            hint = did_you_mean(writer_fn, self.writers)
            raise ValueError(f"writer_fn must be a function or a known name, got {writer_fn!r}. {hint}")
        super().__init__(directory, writer_fn)
        self.value_key, self.name_key = value_key, name_key
        self._is_named = self._is_named and writer_fn != "text"

    def write_cases(self, processes: int, batch: Any, outputs: Any) -> None:
        kind = type(self).__name__
        values = _list_cases(_take(outputs, self.value_key, kind))
        names = None if self.name_key is None else _list_cases(_take(outputs, self.name_key, kind))
        if names is not None:
            names = [convert_to_number(name) for name in names]
        super().write_cases(processes, batch, {"pred": Cases(values), "identifier": names})


def _list_cases(value: Any) -> list[Any]:
    value = detach(value)
    return list(value) if _has_cases(value) else [value]
