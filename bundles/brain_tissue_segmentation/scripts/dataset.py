"""The two hemispheres of the MNI152 template as NIfTI files, written from the volumes that nilearn ships."""

import os
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template


def hemisphere(dataset_dir: str, side: str) -> list[dict[str, str]]:
    """Return the data list of one hemisphere, ``[{"image": file, "label": file}]``, and write the files if missing.

    Both files keep the template's 1 mm grid and affine (MNI space). The image is the skull-stripped T1, in [0, 1]. The
    label is 0 background, 1 grey matter, 2 white matter: the most probable of the three in each voxel.

    Args:
        dataset_dir: folder of the files, made if missing.
        side: ``"left"`` or ``"right"``. The slice at x = 0 belongs to neither.
    """
    if side not in ("left", "right"):
        raise ValueError(f"side: must be 'left' or 'right', got {side!r}.")
    case = {key: Path(dataset_dir) / f"{side}_{key}.nii.gz" for key in ("image", "label")}
    if not all(file.is_file() for file in case.values()):
        for key, volume in _volumes().items():
            _save(_half(volume, side), case[key])
    return [{key: str(file) for key, file in case.items()}]


def _volumes() -> dict[str, nib.Nifti1Image]:
    image, grey, white = load_mni152_template(), load_mni152_gm_template(), load_mni152_wm_template()
    tissues = np.stack([grey.get_fdata(dtype=np.float32), white.get_fdata(dtype=np.float32)])
    label = np.concatenate([1 - tissues.sum(axis=0, keepdims=True), tissues]).argmax(axis=0)
    return {
        "image": nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine),
        "label": nib.Nifti1Image(label.astype(np.uint8), image.affine),
    }


def _half(volume: nib.Nifti1Image, side: str) -> nib.Nifti1Image:
    midline = round(float((np.linalg.inv(volume.affine) @ (0, 0, 0, 1))[0]))
    return volume.slicer[:midline] if side == "left" else volume.slicer[midline + 1 :]


def _save(volume: nib.Nifti1Image, file: Path) -> None:
    """Write under another name first, so that a run broken off or a second one never leaves half a file."""
    volume.header.set_xyzt_units("mm")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        partial = os.path.join(folder, file.name)
        nib.save(volume, partial)
        os.replace(partial, file)
