"""CPU seconds of a CT case on its way from file to label map, by part: MONAI's transforms, and with `InvertArgmaxd`.

    python scripts/benchmark_transforms.py [--repetitions 5] [--size 256 256 80] [--classes 2]

The transforms are those of the spleen bundle of MONAI's Model Zoo (``spleen_ct_segmentation``, ``configs/inference.json``). The
case is made up: a body of noisy tissue with organs in it, int16, 0.8 x 0.8 x 2.5 mm. The network is a stand-in, smoothing and
comparing intensities, and is not counted. Both sides take turns in one process, on one thread; the median of the turns counts.
Ends with an error if a label map differs in a voxel.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import monai
import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    Invertd,
    LoadImaged,
    Orientationd,
    SaveImaged,
    ScaleIntensityRanged,
    Spacingd,
)
from scipy.ndimage import gaussian_filter

from monai_lighter.transforms import InvertArgmaxd

STOCK, OURS = "MONAI", "with InvertArgmaxd"


def make_case(path: Path, size: list[int], classes: int) -> None:
    """A volume in HU: air, a body, and in it an ellipsoid for each class but the first, each of another intensity."""
    noise = np.random.default_rng(0).standard_normal(size, np.float32)
    grid = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in size], indexing="ij")
    volume = np.full(size, -1000, np.float32)
    volume[grid[0] ** 2 / 0.7 + grid[1] ** 2 / 0.5 < 1] = -50
    for number in range(1, classes):
        angle = 2 * np.pi * number / (classes - 1)
        centre = (0.4 * np.cos(angle), 0.35 * np.sin(angle), 0.1)
        organ = sum((axis - at) ** 2 for axis, at in zip(grid, centre, strict=True)) < 0.06
        volume[organ] = -50 + 214 * number / classes
    volume += 8 * noise + 60 * gaussian_filter(noise, 2) * (volume > -500)
    affine = np.diag([-0.8, -0.8, 2.5, 1.0])
    affine[:3, 3] = 100, 120, -300
    nib.save(nib.Nifti1Image(volume.astype(np.int16), affine), path)


def predict(image: MetaTensor, classes: int) -> MetaTensor:
    """Logits ``(B, C, H, W, D)`` for an image ``(B, 1, H, W, D)`` in [0, 1]: the nearer to a class's intensity, the higher."""
    smooth = torch.nn.functional.avg_pool3d(image.as_tensor(), 7, 1, 3)
    centres = torch.tensor([(-50 + 214 * number / classes + 57) / 221 for number in range(classes)])
    logits = -60 * (smooth - centres.view(1, -1, 1, 1, 1)).square() * classes
    return MetaTensor(logits).copy_meta_from(image)


def make_pipelines(folder: Path, side: str) -> tuple[Compose, Compose]:
    """Pre- and postprocessing of the bundle."""
    spacing = {"pixdim": (1.5, 1.5, 2.0), "mode": "bilinear"}
    window = {"a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1, "clip": True}
    before = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS"),
            Spacingd("image", **spacing),
            ScaleIntensityRanged("image", **window),
            EnsureTyped("image"),
        ]
    )
    inverse = {"keys": "pred", "transform": before, "orig_keys": "image", "nearest_interp": False, "to_tensor": True}
    labels = [Invertd(**inverse), AsDiscreted("pred", argmax=True)] if side == STOCK else [InvertArgmaxd(**inverse)]
    save = SaveImaged("pred", output_dir=folder / side, separate_folder=False, print_log=False)
    return before, Compose([Activationsd("pred", softmax=True), *labels, save])


def run(before: Compose, after: Compose, file: Path, classes: int) -> dict[str, float]:
    """One case on its way: part to CPU seconds."""
    seconds: dict[str, float] = defaultdict(float)

    def timed(part: str, function: Any, *arguments: Any) -> Any:
        start = time.process_time()
        result = function(*arguments)
        seconds[part] += time.process_time() - start
        return result

    item: Any = {"image": str(file)}
    for transform in before.transforms:
        item = timed(type(transform).__name__, transform, item)
    batch = timed("collate, decollate", list_data_collate, [item])
    batch["pred"] = predict(batch["image"], classes)
    (item,) = timed("collate, decollate", decollate_batch, batch)
    for transform in after.transforms:
        item = timed(type(transform).__name__, transform, item)
    return seconds


def measure(size: list[int], classes: int, repetitions: int) -> dict[str, dict[str, float]]:
    """Side to part to median CPU seconds.

    Raises:
        RuntimeError: a label map differs.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_case(folder / "case.nii.gz", size, classes)
        turns: dict[str, list[dict[str, float]]] = {STOCK: [], OURS: []}
        for turn in range(repetitions + 1):  # the first one warms up
            for side, all_seconds in turns.items():
                seconds = run(*make_pipelines(folder, side), folder / "case.nii.gz", classes)
                all_seconds += [seconds] if turn else []
        images: list[Any] = [nib.load(folder / side / "case_trans.nii.gz") for side in turns]
        maps = [np.asanyarray(image.dataobj) for image in images]
        different = int((maps[0] != maps[1]).sum())
        if different or not np.array_equal(images[0].affine, images[1].affine):
            raise RuntimeError(f"the label maps must be equal, got {different} voxels that are not.")
        if sorted(np.unique(maps[1])) != list(range(classes)):
            raise RuntimeError(f"the label map must hold {classes} classes, got {np.unique(maps[1])}.")
    return {
        side: {part: statistics.median(seconds[part] for seconds in all_seconds) for part in all_seconds[0]}
        for side, all_seconds in turns.items()
    }


def make_table(measured: dict[str, dict[str, float]]) -> list[str]:
    """Rows of Markdown: a part each, and all of them."""
    stock, ours = measured[STOCK], measured[OURS]
    rows = [f"| part | {STOCK}, CPU s | {OURS}, CPU s |", "| --- | --- | --- |"]
    for part in dict.fromkeys([*stock, *ours]):
        if part not in ("SaveImaged", "AsDiscreted", "InvertArgmaxd"):
            told = f"{ours[part]:.3f}" if part in ours else "in InvertArgmaxd"
            rows.append(f"| {part} | {stock[part]:.3f} | {told} |")
    rows.append(f"| AsDiscreted (argmax) | {stock['AsDiscreted']:.3f} | {ours['InvertArgmaxd']:.3f} (InvertArgmaxd) |")
    rows.append(f"| SaveImaged | {stock['SaveImaged']:.3f} | {ours['SaveImaged']:.3f} |")
    total = [sum(seconds.values()) for seconds in (stock, ours)]
    rows.append(f"| all | {total[0]:.3f} | {total[1]:.3f}: {total[1] / total[0]:.2f} of MONAI's |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=3, default=[256, 256, 80])
    parser.add_argument("--classes", type=int, nargs="+", default=[2])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for classes in arguments.classes:
        measured = measure(arguments.size, classes, arguments.repetitions)
        print(
            f"{' x '.join(map(str, arguments.size))} voxels, {classes} classes, {arguments.repetitions} turns, ", end=""
        )
        print(f"torch {torch.__version__}, monai {monai.__version__}; label maps equal in every voxel:\n")
        print("\n".join(make_table(measured)), end="\n\n")


if __name__ == "__main__":
    main()
