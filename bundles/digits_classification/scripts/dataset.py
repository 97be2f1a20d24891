"""Small labelled images in one file laid out as MedMNIST's, and scikit-learn's digits as such a file."""

import os
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def digits(dataset_dir: str) -> str:
    """Return the path of ``digits.npz``, written if missing from the 1797 images that scikit-learn ships.

    70 % of each class are for training, 10 % for validation, 20 % for testing, as in MedMNIST. The file has
    ``{train,val,test}_images``, uint8 ``(N, 8, 8)`` in [0, 255], and ``{train,val,test}_labels``, uint8 ``(N, 1)``.
    """
    file = Path(dataset_dir) / "digits.npz"
    if not file.is_file():
        images, labels = load_digits(return_X_y=True)
        images = np.round(images.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
        arrays = {}
        rest = np.arange(len(labels))
        for split, share in (("train", 0.7), ("val", 1 / 3)):
            taken, rest = train_test_split(rest, train_size=share, stratify=labels[rest], random_state=0)
            arrays |= _split(split, images[taken], labels[taken])
        _save(file, arrays | _split("test", images[rest], labels[rest]))
    return str(file)


def medmnist(file: str, split: str) -> list[dict]:
    """Return the items ``{"image": (C, H, W) uint8, "label": int}`` of one split of a file in MedMNIST's layout.

    Args:
        file: npz with ``SPLIT_images``, ``(N, H, W)`` or ``(N, H, W, 3)``, and ``SPLIT_labels``, ``(N, 1)``.
        split: ``"train"``, ``"val"`` or ``"test"``.
    """
    with np.load(file) as arrays:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    images = images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)
    return [{"image": image, "label": int(label)} for image, (label,) in zip(images, labels, strict=True)]


def _split(name: str, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{name}_images": images, f"{name}_labels": labels[:, None].astype(np.uint8)}


def _save(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write under another name first, so that a run broken off or a second one never leaves half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        partial = os.path.join(folder, file.name)
        np.savez_compressed(partial, **arrays)
        os.replace(partial, file)
