"""Draw a label map over its image, one slice in each direction.

python scripts/overlay.py data/right_image.nii.gz eval/right_image_pred.nii.gz eval/right_image_pred.png
"""

import sys

import matplotlib
import nibabel as nib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

TISSUES = {"grey matter": "tab:blue", "white matter": "tab:orange"}


def overlay(image_file: str, label_file: str, picture_file: str) -> None:
    """Write a picture of three slices through the middle of what is labelled, without the label map and with it.

    Args:
        image_file: NIfTI image.
        label_file: NIfTI label map on the image's grid: 0 background, 1 grey matter, 2 white matter.
        picture_file: png to write.
    """
    image, label = (nib.as_closest_canonical(nib.load(file)) for file in (image_file, label_file))
    if image.shape != label.shape or not np.allclose(image.affine, label.affine):
        raise ValueError(f"{label_file}: must have the grid of {image_file} {image.shape}, got {label.shape}.")
    spacing = image.header.get_zooms()
    image, label = image.get_fdata(), label.get_fdata()
    middle = np.median(np.argwhere(label), axis=0).astype(int)
    colors = ListedColormap(list(TISSUES.values()))
    figure, axes = plt.subplots(2, 3, figsize=(9, 7), facecolor="black", layout="constrained")
    for axis, (above, below) in enumerate(axes.T):
        height, width = [size for other, size in enumerate(spacing) if other != axis][::-1]
        slices = [np.take(volume, middle[axis], axis).T for volume in (image, label)]
        for ax in (above, below):
            ax.imshow(slices[0], cmap="gray", origin="lower", aspect=height / width)
            ax.set_axis_off()
        tissue = np.ma.masked_equal(slices[1], 0)
        below.imshow(
            tissue, cmap=colors, vmin=1, vmax=2, alpha=0.5, origin="lower", aspect=height / width, interpolation="none"
        )
    legend = [Patch(color=color, label=name) for name, color in TISSUES.items()]
    figure.legend(handles=legend, loc="outside lower center", ncols=2, frameon=False, labelcolor="white")
    figure.savefig(picture_file, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    matplotlib.use("Agg")
    overlay(*sys.argv[1:])
