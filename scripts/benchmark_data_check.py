"""`check --data` on a folder of small synthetic cases, beside plain reading of the same files with the same transforms.

    python scripts/benchmark_data_check.py [--cases 300] [--size 64] [--repetitions 5] [--compressed true]

Plain reading is a loop of the dataset's loading transforms over the same cases, in as many threads as the check has, each with
transforms of its own. The two take turns, so that a busy machine slows both; the first turn, which fills the file cache, does
not count. Given are the median seconds of each and the median ratio of a turn, with its quartiles, and the most
memory that each had in a process of its own.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.transforms import Compose, LoadImaged

from monai_lighter.data.integrity import DataCheck
from monai_lighter.trace.memory import measure_step

SPLIT = {"train": 0.8, "val": 0.2}


def write(folder: Path, count: int, size: int, suffix: str) -> None:
    """Writes ``image`` (float32, noise with a ball) and ``label`` (uint8, two classes) of each case."""
    random = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"))
    for i in range(count):
        centre = random.uniform(size / 4, 3 * size / 4, 3)[:, None, None, None]
        label = (((grid - centre) ** 2).sum(0) < (size / 6) ** 2).astype(np.uint8)
        image = (random.normal(0, 10, label.shape) + 100 * label).astype(np.int16)
        for name, values in (("image", image), ("label", label)):
            nib.save(nib.Nifti1Image(values, np.diag([-1.0, -1, 1, 1])), folder / f"{name}_{i:03d}{suffix}")


def config(folder: Path, count: int, suffix: str) -> dict:
    """A native config of these cases."""
    cases = [{key: str(folder / f"{key}_{i:03d}{suffix}") for key in ("image", "label")} for i in range(count)]
    first = round(SPLIT["train"] * count)
    load = {"_target_": "LoadImaged", "keys": ["image", "label"], "ensure_channel_first": True}
    loaders = {
        mode: {
            "_target_": "DataLoader",
            "dataset": {
                "_target_": "CacheDataset",
                "data": part,
                "transform": {"_target_": "Compose", "transforms": [load]},
            },
        }
        for mode, part in (("train", cases[:first]), ("val", cases[first:]))
    }
    network = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2}
    criterion = {"_target_": "DiceLoss", "softmax": True, "to_onehot_y": True}
    return {"network_def": network, "system": {"model": "@network_def", "criterion": criterion, "dataloaders": loaders}}


def read(content: dict, workers: int) -> None:
    """Plain reading: every case through the loading transforms, and dropped."""
    own = threading.local()
    transform = Compose([LoadImaged(keys=["image", "label"], ensure_channel_first=True)])

    def load(case: dict) -> None:
        if not hasattr(own, "transform"):
            own.transform = copy.deepcopy(transform)
        own.transform(case)

    cases = [case for each in content["system"]["dataloaders"].values() for case in each["dataset"]["data"]]
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(load, cases):
            pass


def check(content: dict, workers: int) -> None:
    """The check of the same cases.

    Raises:
        RuntimeError: it found something, or did not read all.
    """
    done = DataCheck(content, True, workers=workers)
    cases = sum(len(each["dataset"]["data"]) for each in content["system"]["dataloaders"].values())
    if done.findings or done.cases != cases:
        raise RuntimeError(f"{done.cases} of {cases} cases, {done.findings}")


SIDES = {"reading": read, "check": check}


def timed(side: str, content: dict, workers: int) -> float:
    start = time.perf_counter()
    SIDES[side](content, workers)
    return time.perf_counter() - start


def peak(side: str, file: Path, workers: int) -> str:
    """The most memory of a process of its own while a side reads."""
    command = [sys.executable, __file__, "--peak", side, "--content", str(file), "--workers", str(workers)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--size", type=int, default=64, help="voxels along each axis")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--compressed", choices=("true", "false"), default="true", help=".nii.gz, or .nii")
    parser.add_argument("--workers", type=int, default=min(len(os.sched_getaffinity(0)), 8))
    parser.add_argument("--peak", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--content", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        content = json.loads(Path(arguments.content).read_text())
        print(measure_step(lambda: SIDES[arguments.peak](content, arguments.workers), torch.device("cpu"))["memory"])
        return
    suffix = ".nii.gz" if arguments.compressed == "true" else ".nii"
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), arguments.cases, arguments.size, suffix)
        content = config(Path(name), arguments.cases, suffix)
        times: dict[str, list[float]] = {side: [] for side in SIDES}
        for turn in range(arguments.repetitions + 1):
            for side in SIDES if turn % 2 else reversed(SIDES):
                seconds = timed(side, content, arguments.workers)
                times[side] += [seconds] if turn else []
        file = Path(name) / "content.json"
        file.write_text(json.dumps(content))
        memory = {side: peak(side, file, arguments.workers) for side in SIDES}
    ratios = [b / a for a, b in zip(times["reading"], times["check"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    size = " x ".join([str(arguments.size)] * 3)
    print(f"{arguments.cases} cases of {size}, image and label, {suffix}, {arguments.workers} threads")
    for side in SIDES:
        print(f"{side:<8} {statistics.median(times[side]):.2f} s, {memory[side]}")
    print(f"ratio    {middle:.2f} [{low:.2f} to {high:.2f}]")


if __name__ == "__main__":
    main()
