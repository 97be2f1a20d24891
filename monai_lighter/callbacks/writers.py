"""Predictions written as files, one a case, and what all writers share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from monai.data import MetaTensor
from monai.data.image_writer import resolve_writer
from monai.data.utils import create_file_basename, to_affine_nd
from monai.transforms import DivisiblePad
from monai.utils import ImageMetaKey, MetaKeys, get_equivalent_dtype, optional_import
from torch import Tensor

from monai_lighter.callbacks.predictions import CasewiseCallback
from monai_lighter.errors import CaseError, did_you_mean
from monai_lighter.system.images import cast_exactly, find_smallest_dtype, keep_header_geometry
from monai_lighter.system.ledger import Output
from monai_lighter.system.outputs import Outputs
from monai_lighter.system.tensors import plain

__all__ = ["BaseWriter", "FileWriter"]


class BaseWriter(CasewiseCallback):
    """Writes each prediction of a predict run as it comes and keeps none of them.

    Follows ``lighter.callbacks.writer.base.BaseWriter``. Items are named by the step's ``identifier``; without one they are
    numbered from 0 in the order of the data, over all processes. A LightningModule other than `System` may give the
    predictions alone.

    Args:
        path: where to write.
        writer: name of one of ``writers``, or a function.

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

    @property
    def directory(self) -> Path:
        """Made before the run."""
        return self.path

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "predict":
            return
        super().setup(trainer, pl_module, stage)
        self.path = Path(trainer.strategy.broadcast(str(self.path)))
        directory = self.directory
        if trainer.is_global_zero:
            directory.mkdir(parents=True, exist_ok=True)
        trainer.strategy.barrier()
        if not directory.is_dir():
            raise RuntimeError(
                f"{directory} must be reachable from every process, process {trainer.global_rank} cannot."
            )


# fmt: off
IMAGE_SUFFIXES = (
    ".nii.gz", ".seg.nrrd", ".nii", ".nrrd", ".mha", ".mhd", ".dcm", ".npy", ".npz", ".pt",
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp",
)
# fmt: on
PHOTOS = (".png", ".jpg", ".jpeg", ".bmp")
"""Suffixes of the files that MONAI reads by ``PILReader``, which swaps their two axes."""


def write_tensor(path: Path, tensor: Tensor) -> None:
    """``.pt``: the tensor as ``torch.save`` writes it, without metadata."""
    torch.save(plain(tensor).clone(), _add_suffix(path, ".pt"))


def write_image(path: Path, tensor: Tensor) -> None:
    """``.png``: ``(C, H, W)`` with one or three channels; ``(C, D, H, W)``: slices in a column.

    Integers are kept as they are, with 8 bits or, one channel, 16; floats must be in [0, 1] and are scaled to 255. What was
    read from a PNG or JPEG lies as it did there (MONAI reads it with its axes swapped).

    Raises:
        ValueError: values that the file cannot hold.
    """
    image = plain(tensor)
    if isinstance(tensor, MetaTensor) and image.ndim == 3:
        source = str(tensor.meta.get(ImageMetaKey.FILENAME_OR_OBJ, "")).lower()
        image = image.mT if source.endswith(PHOTOS) else image
    array = image.reshape(image.shape[0], -1, image.shape[-1]).permute(1, 2, 0).cpu().numpy()
    if np.issubdtype(array.dtype, np.floating):
        if array.size and not (array.min() >= -1e-4 and array.max() <= 1 + 1e-4):
            raise ValueError(
                f"floats must be in [0, 1] to become an image, got {array.min()} to {array.max()}; for label maps set "
                "dtype: uint8"
            )
        array = (array.clip(0, 1) * 255).round()
    wide = array.size and array.max() > 255 and array.shape[-1] == 1
    array = cast_exactly(array, np.uint16 if wide else np.uint8)
    pil, _ = optional_import("PIL.Image")
    pil.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(_add_suffix(path, ".png"))


def write_video(path: Path, tensor: Tensor) -> None:
    """``.mp4`` at 24 frames a second: ``(C, T, H, W)`` with one or three channels, floats in [0, 1]. Needs torchvision.

    Raises:
        ValueError: values outside of [0, 1].
    """
    frames = plain(DivisiblePad(k=(0, 2, 2), mode="minimum")(tensor)).permute(1, 2, 3, 0)
    if frames.numel() and not (frames.min() >= -1e-4 and frames.max() <= 1 + 1e-4):
        raise ValueError(f"values must be in [0, 1] to become a video, got {frames.min()} to {frames.max()}")
    if frames.shape[-1] == 1:
        frames = frames.repeat(1, 1, 1, 3)
    io, _ = optional_import("torchvision.io")
    io.write_video(str(_add_suffix(path, ".mp4")), (frames.clamp(0, 1) * 255).round().to(torch.uint8), fps=24)


def write_volume(path: Path, tensor: Tensor, suffix: str, dtype: np.dtype | None = None) -> None:
    """A medical image ``(C, H, W[, D])`` with the affine of its metadata, by the MONAI ``ImageWriter`` for the suffix.

    Where the affine of a NIfTI source cannot be used, a NIfTI file on the grid of that source has its header's geometry.

    Args:
        path: without suffix.
        tensor: with metadata.
        suffix: of the format.
        dtype: of the file; by default the smallest that holds the values exactly.

    Raises:
        TypeError: no MetaTensor.
    """
    if not isinstance(tensor, MetaTensor):
        raise TypeError(f"a prediction must be a MetaTensor to be written as {suffix}, got {type(tensor).__name__}.")
    values = tensor.as_tensor().cpu().numpy()
    values = values.astype(dtype or find_smallest_dtype(values), copy=False)
    affine = to_affine_nd(3, tensor.affine.cpu().numpy().astype(np.float64))
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
        affine = np.eye(4)
    writer = resolve_writer(suffix)[0](output_dtype=values.dtype)
    writer.set_data_array(values, channel_dim=0)
    writer.affine = affine  # not by set_metadata, which resamples, in float32 and in two dimensions for some
    writer.write(str(_add_suffix(path, suffix)))
    source = tensor.meta.get(ImageMetaKey.FILENAME_OR_OBJ)
    if source is not None:
        keep_header_geometry(
            _add_suffix(path, suffix), str(source), tensor.affine, tensor.meta.get(MetaKeys.ORIGINAL_AFFINE)
        )


def _add_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


class FileWriter(BaseWriter):
    """Writes each prediction to a file of its own, named by its identifier.

    Follows ``lighter.callbacks.FileWriter``. Of an identifier that is a file name, only the name without folder and image
    suffix counts: ``/data/x.nii.gz`` gives ``x``. Files are complete when they appear under their names. Two cases with one
    file are an error, before the first case where the names follow from the data (`Outputs`), and so is a file that a case is
    read from. A file of an earlier run is replaced by the same case alone, as ``manifest.csv`` in ``path`` has it.

    Args:
        path: directory.
        writer: ``tensor``, ``image``, ``video``, ``itk_nrrd``, ``itk_seg_nrrd``, ``itk_nifti``, or a function of
            ``(path, tensor)`` that adds its suffix to ``path`` and writes one item ``(C, H, W[, D])``.
        postfix: added to names: ``seg`` gives ``x_seg.nii.gz`` (``output_postfix`` of MONAI's ``SaveImage``).
        dtype: NumPy type of the values, which must be able to hold them. Default: for NRRD and NIfTI the smallest that holds
            the values exactly (label maps uint8 or more, probabilities float32), for others as `writer` says.
        data_root_dir: a folder above all cases; the folders between it and a case are kept below ``path``, as MONAI's
            ``SaveImage`` does. Default: no folders.
        separate_folder: whether each file gets a folder of its own, named as the case, as in MONAI's ``SaveImage``.
        overwrite: whether files of earlier runs are replaced, of whichever case they are.

    Raises:
        ConfigError: when prediction begins, clashes that are known then.
        CaseError: in a run, a clash, or a value that ``dtype`` or the format cannot hold.
    """

    writers = {
        "tensor": write_tensor,
        "image": write_image,
        "video": write_video,
        "itk_nrrd": partial(write_volume, suffix=".nrrd"),
        "itk_seg_nrrd": partial(write_volume, suffix=".seg.nrrd"),
        "itk_nifti": partial(write_volume, suffix=".nii.gz"),
    }
    suffixes = {"tensor": ".pt", "image": ".png", "video": ".mp4"}

    def __init__(
        self,
        path: str | Path,
        writer: str | Callable,
        postfix: str = "",
        dtype: Any = None,
        data_root_dir: str | Path = "",
        separate_folder: bool = False,
        overwrite: bool = False,
    ) -> None:
        super().__init__(path, writer)
        self.postfix, self.data_root_dir, self.separate_folder = postfix, data_root_dir, separate_folder
        self.dtype = None if dtype is None else np.dtype(get_equivalent_dtype(dtype, np.ndarray))
        self.overwrite = overwrite
        self._is_named = isinstance(writer, str)
        self._suffix = self.suffixes.get(writer, "") if isinstance(writer, str) else ""
        if isinstance(self.writer, partial) and self.writer.func is write_volume:
            self._suffix = self.writer.keywords["suffix"]
            self.writer = partial(self.writer, dtype=self.dtype)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "predict":
            self._outputs = Outputs.of(trainer)
            self._outputs.add(self)

    def plan(self, identifier: str, label: str, named: bool = True, source: str | None = None) -> Output:
        """The file of a case, without its suffix where a function adds that.

        Args:
            identifier: names the case.
            label: the case in words.
            named: whether the identifier is the case's, rather than a number.
            source: file that the case is read from, where that is known: cases of two files may have one identifier.
        """
        given = Path(identifier)
        name = given.name
        for suffix in IMAGE_SUFFIXES:
            if name.lower().endswith(suffix):
                name = name[: -len(suffix)]
                break
        path = create_file_basename(
            self.postfix,
            given.parent / f"{name}.nii",  # create_file_basename cuts one suffix off, which may be part of the name
            self.path,
            self.data_root_dir if given.name != identifier else "",
            self.separate_folder,
            makedirs=False,
        )
        settings = (
            "data_root_dir (a folder above all cases: folders that differ are kept), postfix or path of FileWriter"
        )
        writer = "trainer::callbacks (FileWriter)"
        case = (source or identifier) if named else None
        return Output(Path(path + self._suffix), self.path, case, label, writer, settings, self.overwrite)

    def write(self, tensor: Any, identifier: Any) -> None:
        """Writes one prediction ``(C, H, W[, D])`` to its file.

        Args:
            tensor: the prediction.
            identifier: what names the case.
        """
        label = f"case {identifier}"
        if self._is_named and not isinstance(tensor, Tensor):
            raise CaseError(
                f"trainer::callbacks (FileWriter): {label}: a prediction must be a tensor to be written, got "
                f"{type(tensor).__name__}. Of several heads, pick one: pred_transforms of system::adapters::predict::logging."
            )
        output = self.plan(str(identifier), label, self._named, self._source)
        with self._outputs.ledger.write(output) as path:
            bare = path.with_name(path.name.removesuffix(self._suffix))
            try:
                self.writer(bare, tensor if self.dtype is None else self._cast(tensor))
            except ValueError as error:
                hint = "" if self.dtype is None else " Leave dtype out, or set one that holds the values."
                raise CaseError(f"trainer::callbacks (FileWriter): {label}: {error}.{hint}") from error

    def _cast(self, tensor: Tensor) -> Tensor:
        cast_exactly(plain(tensor).cpu().numpy(), self.dtype)
        return tensor.to(get_equivalent_dtype(self.dtype, torch.Tensor))
