"""What the writers of predictions share."""

from __future__ import annotations

import csv
import logging
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from monai.data import MetaTensor
from monai.data.image_writer import resolve_writer
from monai.transforms import DivisiblePad
from monai.utils import optional_import
from torch import Tensor

from monai_lighter.errors import did_you_mean
from monai_lighter.system.batches import split_outputs
from monai_lighter.system.tensors import plain

__all__ = ["BaseWriter", "FileWriter", "Table", "TableWriter"]

logger = logging.getLogger(__name__)


class BaseWriter(Callback, ABC):
    """Writes each prediction of a predict run as it comes and keeps none of them.

    Follows ``lighter.callbacks.writer.base.BaseWriter``. Items are named by the step's ``identifier``; without one they are
    numbered from 0 in the order of the data, over all processes. A LightningModule other than `System` may give the
    predictions alone.

    Args:
        path: where to write.
        writer: name of one of ``writers``, or a function.

    Attributes:
        note: on the case that is being written, such as that its input is not finite; empty where there is nothing to say.

    Raises:
        ValueError: a name that is not in ``writers``; in a run, another number of identifiers than of predictions.
    """

    writers: dict[str, Callable]

    def __init__(self, path: str | Path, writer: str | Callable) -> None:
        if isinstance(writer, str) and writer not in self.writers:
            raise ValueError(
                f"writer must be a function or a known name, got {writer!r}. {did_you_mean(writer, self.writers)}"
            )
        self.path = Path(path)
        self.writer = self.writers[writer] if isinstance(writer, str) else writer
        self._count = 0
        self.note = ""

    @property
    def directory(self) -> Path:
        """Made before the run."""
        return self.path

    @abstractmethod
    def write(self, tensor: Any, identifier: Any) -> None:
        """Writes one prediction ``(C, H, W[, D])`` or of any other shape, without batch dimension.

        Args:
            tensor: of one case; where the network has several heads, a tuple, list or dict with the case's part of each.
            identifier: what names the case.
        """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "predict":
            return
        self._count = trainer.global_rank
        self.path = Path(trainer.strategy.broadcast(str(self.path)))
        directory = self.directory
        if trainer.is_global_zero:
            directory.mkdir(parents=True, exist_ok=True)
        trainer.strategy.barrier()
        if not directory.is_dir():
            raise RuntimeError(
                f"{directory} must be reachable from every process, process {trainer.global_rank} cannot."
            )

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        predictions = split_outputs(outputs, batch)
        identifiers = outputs.get("identifier") if isinstance(outputs, Mapping) else None
        if isinstance(identifiers, Tensor):
            identifiers = identifiers.tolist()
        if identifiers is None:
            identifiers = range(self._count, self._count + len(predictions) * trainer.world_size, trainer.world_size)
            self._count += len(predictions) * trainer.world_size
        if len(identifiers) != len(predictions):
            raise ValueError(f"{len(predictions)} predictions must have as many identifiers, got {len(identifiers)}.")
        notes = (outputs.get("notes") if isinstance(outputs, Mapping) else None) or [""] * len(predictions)
        for prediction, identifier, self.note in zip(predictions, identifiers, notes, strict=True):
            self.write(prediction, identifier)


# fmt: off
IMAGE_SUFFIXES = (
    ".nii.gz", ".seg.nrrd", ".nii", ".nrrd", ".mha", ".mhd", ".dcm", ".npy", ".npz", ".pt",
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp",
)
# fmt: on


def write_tensor(path: Path, tensor: Tensor) -> None:
    """``.pt``: the tensor as ``torch.save`` writes it, without metadata."""
    torch.save(plain(tensor).clone(), _with(path, ".pt"))


def write_image(path: Path, tensor: Tensor) -> None:
    """``.png``: ``(C, H, W)`` with one or three channels, uint8 or floats in [0, 1]; ``(C, D, H, W)``: slices in a column."""
    image = plain(tensor)
    image = image.reshape(image.shape[0], -1, image.shape[-1])
    if image.is_floating_point():
        image = (image.clamp(0, 1) * 255).round()
    array = image.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    pil, _ = optional_import("PIL.Image")
    pil.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(_with(path, ".png"))


def write_video(path: Path, tensor: Tensor) -> None:
    """``.mp4`` at 24 frames a second: ``(C, T, H, W)`` with one or three channels, floats in [0, 1]. Needs torchvision."""
    frames = plain(DivisiblePad(k=(0, 2, 2), mode="minimum")(tensor)).permute(1, 2, 3, 0)
    if frames.shape[-1] == 1:
        frames = frames.repeat(1, 1, 1, 3)
    io, _ = optional_import("torchvision.io")
    io.write_video(str(_with(path, ".mp4")), (frames * 255).to(torch.uint8), fps=24)


def write_volume(path: Path, tensor: Tensor, suffix: str) -> None:
    """A medical image ``(C, H, W[, D])`` with the affine of its metadata, by the MONAI ``ImageWriter`` for the suffix.

    Raises:
        TypeError: no MetaTensor.
    """
    if not isinstance(tensor, MetaTensor):
        raise TypeError(f"a prediction must be a MetaTensor to be written as {suffix}, got {type(tensor).__name__}.")
    writer = resolve_writer(suffix)[0](output_dtype=None)
    writer.set_data_array(tensor.as_tensor(), channel_dim=0)
    writer.set_metadata(tensor.meta, resample=False)
    writer.write(str(_with(path, suffix)))


def _with(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


class FileWriter(BaseWriter):
    """Writes each prediction to a file of its own, named by its identifier.

    Follows ``lighter.callbacks.FileWriter``. Of an identifier that is a file name, only the name without folder and image
    suffix counts: ``/data/x.nii.gz`` gives ``x``. Where two cases would share a file, the later one's gets a number.

    Args:
        path: directory.
        writer: ``tensor``, ``image``, ``video``, ``itk_nrrd``, ``itk_seg_nrrd``, ``itk_nifti``, or a function of
            ``(path, tensor)`` that adds its suffix to ``path`` and writes one item ``(C, H, W[, D])``.
    """

    writers = {
        "tensor": write_tensor,
        "image": write_image,
        "video": write_video,
        "itk_nrrd": partial(write_volume, suffix=".nrrd"),
        "itk_seg_nrrd": partial(write_volume, suffix=".seg.nrrd"),
        "itk_nifti": partial(write_volume, suffix=".nii.gz"),
    }

    @property
    def _claims(self) -> Path:
        """Folder of the names that are taken, by whichever process; there during a run alone."""
        return self.path / ".names"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "predict":
            if trainer.is_global_zero:
                shutil.rmtree(self._claims, ignore_errors=True)
                self._claims.mkdir()
            trainer.strategy.barrier()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            shutil.rmtree(self._claims)

    def write(self, tensor: Any, identifier: Any) -> None:
        self.writer(self.path / self._name(str(identifier)), tensor)

    def _name(self, identifier: str) -> str:
        name = Path(identifier).name
        for suffix in IMAGE_SUFFIXES:
            if name.lower().endswith(suffix):
                name = name[: -len(suffix)]
                break
        unique, number = name, 1
        while (owner := self._claim(unique, identifier)) != identifier:
            logger.warning(f"{identifier} and {owner} share the name {unique}")
            unique, number = f"{name}_{number}", number + 1
        return unique

    def _claim(self, name: str, identifier: str) -> str:
        """Identifier of the case that has a name: this one, unless another was first."""
        try:
            with open(self._claims / name, "x") as file:
                file.write(identifier)
        except FileExistsError:
            return (self._claims / name).read_text()
        return identifier


class Table:
    """Rows go to disk as they come, each process to a part of its own; `close` makes one table of the parts.

    A row may have one more cell than the header: a note, such as that the case is not finite. The table of a run in which there
    was one has a last column ``note``.

    Args:
        path: the csv file.
        header: names of the columns.
        trainer: whose processes write.
    """

    def __init__(self, path: Path, header: Sequence[str], trainer: Trainer) -> None:
        self.path, self.header, self.trainer = path, header, trainer
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._part(trainer.global_rank), "w", newline="")  # noqa: SIM115
        self._writer = csv.writer(self._file)

    def _part(self, rank: int) -> Path:
        return self.path.with_name(f".{self.path.name}.part{rank}")

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Writes rows."""
        self._writer.writerows(rows)
        self._file.flush()

    def close(self) -> None:
        """One table in place of the parts: sorted by the first column, numbers as numbers."""
        self._file.close()
        self.trainer.strategy.barrier()
        if self.trainer.is_global_zero:
            parts = [self._part(rank) for rank in range(self.trainer.world_size)]
            rows: list[list[str]] = []
            for part in parts:
                with open(part, newline="") as file:
                    rows += csv.reader(file)
            rows.sort(key=lambda row: (0, float(row[0]), "") if _is_number(row[0]) else (1, 0.0, row[0]))
            columns = len(self.header)
            header = [*self.header, "note"] if any(len(row) > columns for row in rows) else self.header
            merged = self.path.with_name(f".{self.path.name}.merged")
            with open(merged, "w", newline="") as file:
                csv.writer(file).writerows([header, *(row + [""] * (len(header) - len(row)) for row in rows)])
            merged.replace(self.path)
            for part in parts:
                part.unlink()
        self.trainer.strategy.barrier()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def as_number(pred: Any) -> Any:
    """A number for one element, nested lists for more; of several heads, a list or a dict of these."""
    if isinstance(pred, Mapping):
        return {key: as_number(head) for key, head in pred.items()}
    if isinstance(pred, (list, tuple)):
        return [as_number(head) for head in pred]
    return pred if not isinstance(pred, Tensor) else pred.item() if pred.numel() == 1 else pred.tolist()


class TableWriter(BaseWriter):
    """Writes all predictions of a predict run to one csv file with the columns ``identifier`` and ``pred``.

    Where the input or the prediction of a case is not finite, a column ``note`` says so.
    Follows ``lighter.callbacks.TableWriter``. Rows go to disk as they come; several processes make one table, sorted by
    identifier.

    Args:
        path: csv file.
        writer: ``tensor`` (a number, or nested lists; of several heads a list or dict of these), or a function of a prediction
            that gives what stands in the table.
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
        note = [self.note] if self.note else []
        self._table.add([(identifier, self.writer(tensor), *note)])

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._table.close()
