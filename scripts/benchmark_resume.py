"""What going on costs: how much later than afresh a fit that goes on begins, and how much longer a step takes for it.

    python scripts/benchmark_resume.py [--times 5] [--seed 0]

The first: fits of 600 batches an epoch, drawing each of which takes 20 ms, are stopped at random moments; from the start of the
process (which has imported everything) to its first new step. The second: CPU seconds of a step of a 3D UNet on ``(2, 1, 32, 32,
32)`` with a seed, `LastCheckpoint` and `StopOnSignal`, and without the three, taking turns; the least of each.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from pathlib import Path

import torch
import yaml
from faults import CONFIG, loader, run, wait
from lightning.pytorch import Callback, Trainer
from monai.data import DataLoader, Dataset
from monai.losses import DiceLoss
from monai.networks.nets import UNet
from monai.transforms import Compose, RandFlipd, RandGaussianNoised, RandRotate90d

from monai_lighter import LastCheckpoint, System
from monai_lighter.system.signals import StopOnSignal

STAMP = {
    "_target_": "lightning.pytorch.callbacks.LambdaCallback",
    "on_train_batch_start": "$lambda *_: open(@stamps, 'a').write(str(time.monotonic()) + ' ')",
}


def write_bundle(folder: Path) -> Path:
    """A bundle whose batches take a while to draw, and which notes when each step begins; gives its config."""
    train = loader("1200", CONFIG["system"]["dataloaders"]["train"]["dataset"]["transform"]["transforms"], shuffle=True)  # type: ignore[index]
    config = yaml.safe_load(yaml.safe_dump(CONFIG)) | {"stamps": str(folder / "stamps.txt"), "delay": 0.01}
    config["system"]["dataloaders"]["train"] = train
    config["trainer"]["callbacks"] = [STAMP]
    file = folder / "configs" / "train.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump(config))
    return file


def measure_beginning(file: Path, words: tuple[str, ...], lasting: float) -> tuple[float, int]:
    """Seconds to the first step of a fit, and how many steps it had when it was stopped."""
    stamps = file.parent.parent / "stamps.txt"
    stamps.unlink(missing_ok=True)
    began = time.monotonic()
    pid = run(file, "fit", *words)
    while not stamps.is_file() or not stamps.read_text():
        time.sleep(0.005)
    time.sleep(lasting)
    os.kill(pid, signal.SIGTERM)
    if wait(pid) not in (0, 143):
        raise SystemExit((file.parent.parent / "log.txt").read_text())
    times = stamps.read_text().split()
    return float(times[0]) - began, len(times)


def measure_beginnings(root: Path, times: int, chance: random.Random) -> None:
    """Prints a row for each fit that goes on."""
    print(
        "| steps before | first step afresh (s) | going on (s) | later by (s) |\n| --- | --- | --- | --- |", flush=True
    )
    for i in range(times):
        file = write_bundle(root / str(i))
        afresh, steps = measure_beginning(file, ("--resume", "none"), chance.uniform(0.5, 14.0))
        going_on, _ = measure_beginning(file, ("--resume", "auto"), 0.0)
        print(f"| {steps} | {afresh:.2f} | {going_on:.2f} | {going_on - afresh:.2f} |", flush=True)


class Clock(Callback):
    """CPU seconds of this process between two batches."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = 0.0

    def on_train_batch_end(self, *args: object) -> None:
        now = time.process_time()
        self.seconds.append(now - self._last)
        self._last = now


def measure_step(root: Path, resumable: bool) -> float:
    """Median CPU seconds of a step."""
    torch.manual_seed(0)
    keys = ["image", "label"]
    data = [{key: torch.rand(1, 32, 32, 32).round() for key in keys} for _ in range(40)]
    transform = Compose(
        [RandFlipd(keys, prob=0.5), RandRotate90d(keys, prob=0.5), RandGaussianNoised("image", prob=1.0)]
    )
    network = UNet(3, 1, 1, [16, 32, 64, 128], [2, 2, 2], num_res_units=2)
    system = System(
        network,
        {"train": DataLoader(Dataset(data, transform), batch_size=2, shuffle=True)},
        torch.optim.Adam(network.parameters()),
        criterion=DiceLoss(sigmoid=True),
    )
    system.seed = 3 if resumable else None
    clock = Clock()
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=resumable,
        default_root_dir=root,
        callbacks=[clock, *([LastCheckpoint(), StopOnSignal()] if resumable else [])],
    )
    trainer.fit(system)
    return statistics.median(clock.seconds[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=5, help="fits, and turns of steps")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="resume_"))
    measure_beginnings(root, given.times, random.Random(given.seed))
    turns = [(measure_step(root, True), measure_step(root, False)) for _ in range(given.times)]
    resumable, plain = (min(each) for each in zip(*turns, strict=True))
    print(f"\na step: {1000 * resumable:.2f} ms, without {1000 * plain:.2f} ms: {100 * (resumable / plain - 1):+.2f} %")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
