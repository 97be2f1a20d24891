"""Values and geometry of image files: types that hold the values, and headers whose affine cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data.utils import affine_to_spacing, correct_nifti_header_if_necessary

__all__ = ["cast_exactly", "describe_unusable_affine", "find_smallest_dtype", "keep_header_geometry"]

INTEGERS = tuple(np.dtype(name) for name in ("uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"))
GEOMETRY = (
    "sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "xyzt_units",
)  # fmt: skip
"""Fields of a NIfTI header that say where voxels lie, beside ``pixdim``."""
WHOLE = 2**53
"""Beyond it every float64 is whole, so that none says that it counts something."""


def find_smallest_dtype(values: np.ndarray) -> np.dtype:
    """The smallest type that image formats have and that holds all values exactly.

    Args:
        values: of any shape; booleans, integers or floats.

    Returns:
        The first of uint8, int16, uint16, int32, uint32, int64, uint64 where all values are integers; else float32, or
        float64 for float64 values that float32 cannot hold.
    """
    if values.dtype == bool:
        return np.dtype(np.uint8)
    floats = np.issubdtype(values.dtype, np.floating)
    if not values.size:
        return np.dtype(np.float32) if floats else np.dtype(np.uint8)
    low, high = values.min(), values.max()
    if not floats or (np.isfinite(low) and np.isfinite(high) and np.array_equal(values, np.rint(values))):
        for dtype in INTEGERS:
            if np.iinfo(dtype).min <= int(low) and int(high) <= np.iinfo(dtype).max:
                return dtype
    if values.dtype.itemsize > 4:
        with np.errstate(over="ignore"):
            exact = np.array_equal(values, values.astype(np.float32), equal_nan=True)
        return np.dtype(np.float32 if exact else np.float64)
    return np.dtype(np.float32)


def cast_exactly(values: np.ndarray, dtype: Any) -> np.ndarray:
    """The values as another type, which must be able to hold them. Fractions may be rounded to narrower floats.

    Args:
        values: of any shape.
        dtype: NumPy type.

    Raises:
        ValueError: a value that the cast would change: a fraction, NaN or a number out of range as an integer, an integer
            that the float type has no number for (2**24 + 1 as float32, whichever type it has), a finite value that would be
            infinite.
    """
    dtype = np.dtype(dtype)
    if values.dtype == dtype:
        return values
    with np.errstate(all="ignore"):
        cast = values.astype(dtype)
        if np.issubdtype(dtype, np.floating) and np.issubdtype(values.dtype, np.floating):
            whole = (values == np.rint(values)) & (abs(values) <= WHOLE)
            changed = (np.isfinite(values) & ~np.isfinite(cast)) | (whole & (cast != values))
        elif np.issubdtype(dtype, np.integer) and np.issubdtype(values.dtype, np.floating):
            limits = np.iinfo(dtype)
            inside = (values >= float(limits.min)) & (values < float(limits.max) + 1)  # NaN is not inside
            changed = ~inside | (values != np.rint(values))
        else:
            changed = cast.astype(values.dtype) != values
            if np.issubdtype(dtype, np.unsignedinteger) and np.issubdtype(values.dtype, np.signedinteger):
                changed |= values < 0
            if np.issubdtype(values.dtype, np.unsignedinteger) and np.issubdtype(dtype, np.signedinteger):
                changed |= cast < 0
    if changed.any():
        first = np.unravel_index(int(np.argmax(changed)), changed.shape)
        raise ValueError(f"the value {values[first]} would be {cast[first]} as {dtype.name}")
    return cast


def describe_unusable_affine(file: str | Path) -> str | None:
    """Why the affine in a NIfTI file's header cannot be used, and what MONAI's reader takes instead; None where it can be.

    Args:
        file: path; files of other formats have nothing to say.
    """
    image = _load_nifti(file)
    if image is None:
        return None
    own, sform = image.affine.copy(), int(image.header["sform_code"]) > 0
    spacing = [float(zoom) for zoom in image.header.get_zooms()[:3]]
    if not np.isfinite(own).all():
        problem = "it has values that are not finite"
    elif abs(np.linalg.det(own[:3, :3])) < 1e-12:
        problem = "it has no inverse"
    else:
        problem = ""
    taken = correct_nifti_header_if_necessary(image).affine
    if not problem and np.allclose(own, taken):
        return None
    if not problem:
        stated = [round(float(size), 4) for size in affine_to_spacing(own, r=min(3, len(spacing)))]
        kind = "sform" if sform else "qform"
        problem = f"the spacing of its {kind}, {stated}, contradicts its pixdim, {[round(s, 4) for s in spacing]}"
    return f"{problem}; MONAI takes {np.round(taken, 4).tolist()}"


def keep_header_geometry(written: Path, source: str | Path, affine: Any, original_affine: Any) -> None:
    """Gives a NIfTI file the geometry that its source's header has, where MONAI could not use that and the grid is the same.

    Args:
        written: the file just written; its header is replaced.
        source: of the case.
        affine, original_affine: ``(4, 4)`` of the prediction's metadata; where they differ, the grid is another one.
    """
    image = _load_nifti(source)
    if image is None or not str(written).endswith((".nii", ".nii.gz")) or describe_unusable_affine(source) is None:
        return
    output: Any = nib.load(written)
    if output.shape[:3] != image.shape[:3] or not _are_equal(affine, original_affine):
        return
    header = output.header.copy()
    for field in GEOMETRY:
        header[field] = image.header[field]
    header["pixdim"][:4] = image.header["pixdim"][:4]
    data = np.asanyarray(output.dataobj)
    fixed: Any = nib.Nifti1Image(data, None, header)
    for field in GEOMETRY:  # Nifti1Image fills in what it derives
        fixed.header[field] = image.header[field]
    fixed.header["pixdim"][:4] = image.header["pixdim"][:4]
    fixed.to_filename(written)


def _are_equal(affine: Any, original: Any) -> bool:
    if affine is None or original is None:
        return True
    one, other = np.asarray(affine, float), np.asarray(original, float)
    return one.shape == other.shape and np.allclose(one, other, atol=1e-4, equal_nan=True)


def _load_nifti(file: str | Path) -> Any:
    if not str(file).lower().endswith((".nii", ".nii.gz")) or not Path(file).is_file():
        return None
    try:
        image = nib.load(file)
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, OSError, EOFError):
        return None
    return image if isinstance(image, nib.Nifti1Pair) else None
