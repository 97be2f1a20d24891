"""MONAI's ``SaveImaged`` in the postprocessing of a `System`: the same files, written without losing one or changing a value."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.folder_layout import FolderLayout, FolderLayoutBase, default_name_formatter
from monai.data.utils import to_affine_nd
from monai.transforms import SaveImage, SaveImaged
from monai.utils import ImageMetaKey, MetaKeys, get_equivalent_dtype

from monai_lighter.errors import CaseError
from monai_lighter.internals import count_saved, get_saved_count
from monai_lighter.system.images import cast_exactly, keep_header_geometry
from monai_lighter.system.ledger import Ledger, Output

__all__ = ["CheckedSaver", "find_savers", "plan_saved"]

SETTINGS = (
    "data_root_dir (a folder above all cases: folders that differ are kept), output_postfix (a SaveImaged for each key, "
    "with one of its own) or output_dir"
)
ROUNDING = 1e-4
"""What a probability may exceed [0, 1] by and still be scaled."""

logger = logging.getLogger("monai.data.image_writer")


class FixedPath(FolderLayoutBase):
    """A layout of one file.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def filename(self, **kwargs: Any) -> str:
        return str(self.path)


class CheckedSaver:
    """Stands in a ``SaveImaged`` for its ``SaveImage``, with the same names and formats.

    A file is written beside its place and takes it when it is complete, unless the place is taken (`Ledger`). A value that
    ``output_dtype`` cannot hold is an error. Where the affine of a case's own file cannot be used and the grid is that of the
    file, the output has the header's geometry.

    Args:
        saver: the ``SaveImage``.
        ledger: of the run.
        id: config id of the transform.
    """

    def __init__(self, saver: SaveImage, ledger: Ledger, id: str) -> None:
        self.saver, self._ledger, self._id = saver, ledger, id

    def set_options(self, *args: Any, **kwargs: Any) -> CheckedSaver:
        """``SaveImage.set_options``."""
        self.saver.set_options(*args, **kwargs)
        return self

    def __call__(self, img: Any, meta_data: Mapping | None = None, filename: Any = None) -> Any:
        """Writes an image ``(C, H, W[, D])``.

        Raises:
            CaseError: a value that the file's type cannot hold, or a place that is taken.
        """
        meta: Any = img.meta if isinstance(img, MetaTensor) else meta_data
        output = self._plan(meta, filename)
        self._check_values(img, output)
        with self._ledger.write(output) as path:
            saver = copy.copy(self.saver)
            saver.data_kwargs = dict(saver.data_kwargs)  # SaveImage changes it for good
            saver.folder_layout, saver.fname_formatter = FixedPath(path), lambda *_: {}
            saver.write_kwargs = {**saver.write_kwargs, "verbose": False}
            saver(self._make_writable(img), meta)
            if meta and output.case is not None and path.is_file():
                keep_header_geometry(path, output.case, meta.get(MetaKeys.AFFINE), meta.get(MetaKeys.ORIGINAL_AFFINE))
        count_saved(self.saver)
        if self.saver.savepath_in_metadict and meta is not None:
            meta[MetaKeys.SAVED_TO] = str(output.path)
        if self.saver.write_kwargs.get("verbose"):
            logger.info(f"writing: {output.path}")
        return img

    def _plan(self, meta: Any, filename: Any) -> Output:
        case = meta.get(ImageMetaKey.FILENAME_OR_OBJ) if meta else None
        if filename is None:
            path = Path(self.saver.folder_layout.filename(**self.saver.fname_formatter(meta, self.saver)))
        else:
            path = Path(f"{filename}{self.saver.output_ext}")
        label = f"case {get_saved_count(self.saver)}" if case is None else f"case {case}"
        return _make_output(self.saver, path, None if case is None else str(case), label, self._id)

    def _check_values(self, img: Any, output: Output) -> None:
        dtype, scale = (self.saver.init_kwargs.get(name) for name in ("output_dtype", "scale"))
        values = img.detach().cpu().numpy() if isinstance(img, torch.Tensor) else np.asarray(img)
        meta_kwargs = self.saver.meta_kwargs
        if scale:
            if values.size and not (values.min() >= -ROUNDING and values.max() <= 1 + ROUNDING):
                problem = f"values must be in [0, 1] to be scaled, got {values.min()} to {values.max()}"
                raise CaseError(f"{self._id}: {output.label}: {problem}. Leave scale out.")
        elif not meta_kwargs.get("resample") or meta_kwargs.get("mode") == "nearest":
            try:
                if dtype is not None:
                    cast_exactly(values, get_equivalent_dtype(dtype, np.ndarray))
            except ValueError as error:
                hint = "Set output_dtype: float32 for probabilities, uint16 or int32 for many classes."
                raise CaseError(f"{self._id}: {output.label}: {error}. {hint}") from error
            try:
                cast_exactly(values, np.float32)
            except ValueError as error:
                hint = "MONAI's writers compute in float32, whatever output_dtype is: take a FileWriter in trainer::callbacks."
                raise CaseError(f"{self._id}: {output.label}: {error}. {hint}") from error

    def _make_writable(self, img: Any) -> Any:
        """The image as MONAI's writers take any: with an affine for three axes, and one that has an inverse.

        They drop the channel axis, and then take the first spatial axis for it, unless the source had no channels.
        """
        if not isinstance(img, MetaTensor) or self.saver.meta_kwargs.get("resample"):
            return img
        affine = to_affine_nd(3, img.affine.cpu().numpy().astype(np.float64)) if img.affine.ndim == 2 else np.eye(4)
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
            affine = np.eye(4)
        meta = {key: value for key, value in img.meta.items() if key != MetaKeys.AFFINE}
        meta[MetaKeys.ORIGINAL_CHANNEL_DIM] = float("nan")
        return MetaTensor(img.as_tensor(), affine=torch.as_tensor(affine), meta=meta)


def find_savers(transform: Any) -> Iterator[SaveImaged]:
    """Every ``SaveImaged`` of a transform, which may be a ``Compose`` of others."""
    if isinstance(transform, SaveImaged):
        yield transform
    for inner in getattr(transform, "transforms", None) or ():
        yield from find_savers(inner)


def plan_saved(saved: SaveImaged, source_of: Callable[[str], str | None], label: str, id: str) -> Iterator[Output]:
    """The files that a ``SaveImaged`` will write for a case, as far as their names follow from the case's.

    Args:
        saved: the transform.
        source_of: gives the source file of an item's key, None where it is not known.
        label: the case in words.
        id: config id of the transform.
    """
    saver: Any = saved.saver
    plain = saver.fname_formatter is default_name_formatter and all(key is None for key in saved.meta_keys)
    if not plain or saved.allow_missing_keys or not isinstance(saver.folder_layout, FolderLayout):
        return
    layout = copy.copy(saver.folder_layout)
    layout.makedirs = False
    for key in saved.keys:
        source = source_of(str(key))
        if source is not None:
            named = f"{key} of {label}" if len(saved.keys) > 1 else label
            yield _make_output(saver, Path(layout.filename(subject=source)), source, named, id)


def _make_output(saver: SaveImage, path: Path, case: str | None, label: str, id: str) -> Output:
    layout = saver.folder_layout
    root = Path(layout.output_dir) if isinstance(layout, FolderLayout) else path.parent
    return Output(path, root, case, label, id, SETTINGS)
