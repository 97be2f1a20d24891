"""What becomes of fits of an unmodified bundle of the Model Zoo that are killed or stopped: a table, as of `faults`.

    MONAI_LIGHTER_ZOO=FOLDER python scripts/faults_zoo.py [--times 10] [--only SIGKILL SIGTERM SIGINT] [--seed 0]

The bundle is the ``spleen_ct_segmentation`` in that folder, on small random volumes. Each fit gets one signal at a random moment
and goes on by the same command, with ``--resume auto``. Its weights, the best and those of the last checkpoint, and the state of
its optimizer must be those of the fit that nobody disturbed, bit for bit. The exit code is 0 where every row is full.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from faults import start, wait

from monai_lighter.commands.main import main as command

NAME = "spleen_ct_segmentation"
EPOCHS = 4
SIGNALS = {"SIGKILL": 137, "SIGTERM": 143, "SIGINT": 130}


def write_volumes(folder: Path) -> None:
    """Four images and labels ``(48, 48, 32)``, laid out as the Medical Segmentation Decathlon has them."""
    for i in range(4):
        chance = np.random.default_rng(i)
        label = np.zeros((48, 48, 32), np.uint8)
        label[10 + i : 30, 12:34, 8 : 20 + i] = 1
        image = (chance.normal(0, 30, label.shape) + 60 * label).astype(np.float32)
        for kind, array in (("images", image), ("labels", label)):
            (folder / f"{kind}Tr").mkdir(parents=True, exist_ok=True)
            nibabel.save(
                nibabel.Nifti1Image(array, np.diag([1.5, 1.5, 2.0, 1.0])), folder / f"{kind}Tr" / f"{i}.nii.gz"
            )


def fit(bundle: Path, data: Path) -> int:
    """Starts the fit of a bundle; gives the id of its process."""
    small: dict[str, Any] = {
        "bundle_root": str(bundle),
        "dataset_dir": str(data),
        "epochs": EPOCHS,
        "train::random_transforms::0::spatial_size": [32, 32, 16],
        "validate::inferer::roi_size": [32, 32, 16],
        "train::dataset::data": "$[{'image': i, 'label': l} for i, l in zip(@images[:2], @labels[:2])]",
        "validate::dataset::data": "$[{'image': i, 'label': l} for i, l in zip(@images[2:], @labels[2:])]",
        "train::dataloader::num_workers": 1,
        "validate::dataloader::num_workers": 0,
        "train::dataset::num_workers": 0,
        "resume": "auto",
    }
    words = [word for id, value in small.items() for word in (f"--{id}", str(value))]

    def act() -> None:
        os.chdir(bundle)
        sys.argv = ["monai-lighter", "fit", str(bundle / "configs" / "train.json"), *words]
        command()

    return start(bundle / "log.txt", act)


def outcome(bundle: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the weights that the bundle itself saved, and of networks and optimizers in the newest checkpoint."""
    logs = bundle / "lightning_logs" / "train.trainer"
    newest = max(logs.glob("version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    kept = torch.load(newest, weights_only=True)
    found: dict[str, torch.Tensor] = {}
    collect("last", {name: kept[name] for name in ("state_dict", "optimizer_states")}, found)
    for path in (bundle / "models").glob("*.pt"):
        collect(path.name, torch.load(path, weights_only=True), found)
    return found


def collect(name: str, value: Any, found: dict[str, torch.Tensor]) -> None:
    """Adds every tensor in nested dicts and lists."""
    if isinstance(value, torch.Tensor):
        found[name] = value
    elif isinstance(value, (dict, list, tuple)):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            collect(f"{name} {key}", each, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=10, help="fits of each signal")
    parser.add_argument("--only", nargs="+", choices=SIGNALS, default=[*SIGNALS])
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    zoo = Path(os.environ.get("MONAI_LIGHTER_ZOO", "."))
    source = next((path for path in (zoo / NAME, zoo / "models" / NAME) if path.is_dir()), None)
    if source is None:
        sys.exit(f"MONAI_LIGHTER_ZOO must name a folder with the bundle {NAME}, got {zoo}")
    torch.set_num_threads(1)
    root, chance, full = Path(tempfile.mkdtemp(prefix="faults_")), random.Random(given.seed), True
    write_volumes(root / "data")
    shutil.copytree(source, root / "whole")
    began = time.monotonic()
    if wait(fit(root / "whole", root / "data")):
        sys.exit((root / "whole" / "log.txt").read_text())
    seconds, expected = time.monotonic() - began, outcome(root / "whole")
    print("| fault | tried | held |\n| --- | --- | --- |", flush=True)
    for name in given.only:
        held, reached, why = 0, 0, ""
        for i in range(given.times):
            bundle = root / f"{name}{i}"
            shutil.copytree(source, bundle)
            pid = fit(bundle, root / "data")
            time.sleep(chance.uniform(0.02, 1.0) * seconds)
            os.kill(pid, signal.Signals[name])
            code = wait(pid)
            again = wait(fit(bundle, root / "data"))
            found = outcome(bundle)
            equal = found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)
            good = code in (0, SIGNALS[name]) and again == 0 and equal
            held, reached = held + good, reached + (code != 0)
            why = why if good else f"  <- {bundle}: codes {code}, {again}, equal: {equal}"
        fault = f"{name} to a fit of {NAME}, unmodified, then --resume auto: {len(expected)} tensors equal bit for bit"
        print(f"| {fault} | {given.times} | {held} |{why}", flush=True)
        full = full and held == given.times
    if full:
        shutil.rmtree(root)
    sys.exit(not full)


if __name__ == "__main__":
    main()
