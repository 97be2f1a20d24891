"""Predictions to files, one each."""

from __future__ import annotations

import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from monai.data import MetaTensor
from monai.data.image_writer import resolve_writer
from monai.transforms import DivisiblePad
from monai.utils import optional_import
from torch import Tensor

from monai_lighter.callbacks.writer import BaseWriter
from monai_lighter.metrics import plain

__all__ = ["FileWriter"]

logger = logging.getLogger(__name__)

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
