"""Time and memory of `SlidingWindowLabelInferer` against MONAI's `SlidingWindowInferer`, each in a process of its own.

    python scripts/benchmark_label_inferer.py --size 256 --classes 100 --roi_size 64

The network is a stub that gives windows of 100 classes nearly for nothing. Both must come to the same label map. Prints a table
for docs/performance.md. MONAI needs 4 bytes x classes x voxels of memory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from monai.inferers import SlidingWindowInferer
from peak_memory import read_peak_memory

from monai_lighter import Ensemble, SlidingWindowLabelInferer

SIDES = ("monai", "labels")
ROWS = {
    "monai": "`SlidingWindowInferer`",
    "argmax": "`SlidingWindowInferer`, then argmax",
    "labels": "`SlidingWindowLabelInferer`",
}


class Stub(torch.nn.Module):
    """A network that gives a window of all classes nearly for nothing."""

    def __init__(self, patterns: torch.Tensor) -> None:
        super().__init__()
        self.patterns = patterns

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        return self.patterns * window


def resident(device: str) -> int:
    """Bytes of this process that are in memory, or on the GPU."""
    if device == "cuda":
        return torch.cuda.memory_allocated()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def measure(side: str, given: argparse.Namespace) -> dict:
    """One side: row to seconds, CPU seconds and peak memory in MiB above that of before; the digest of the label map."""
    generator = torch.Generator().manual_seed(0)
    roi = [min(given.roi_size[0], given.size)] * 3
    patterns = torch.rand(1, given.classes, *roi, generator=generator).to(given.device)
    image = torch.rand(1, 1, *[given.size] * 3, generator=generator).to(given.device)
    network = Ensemble([Stub(patterns) for _ in range(given.members)]) if given.members > 1 else Stub(patterns)
    inferer = {"monai": SlidingWindowInferer, "labels": SlidingWindowLabelInferer}[side](
        roi_size=roi, sw_batch_size=1, overlap=given.overlap, mode=given.mode
    )
    before, start, cpu = resident(given.device), time.perf_counter(), time.process_time()

    def measured() -> list[float]:
        peak = read_peak_memory()
        if given.device == "cuda":
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated()
        peak -= before
        return [time.perf_counter() - start, time.process_time() - cpu, peak / 2**20]

    with torch.no_grad():
        result = inferer(image, network)
        rows = {side: measured()}
        if side == "monai":
            result = result.argmax(1, keepdim=True)
            rows["argmax"] = measured()
    return {"rows": rows, "digest": hashlib.sha256(result.to("cpu", torch.int16).numpy().tobytes()).hexdigest()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="voxels of the image along an axis")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--roi_size", type=int, nargs="+", default=[64, 96, 128])
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--mode", default="gaussian", choices=["constant", "gaussian"])
    parser.add_argument("--members", type=int, default=1, help="networks, of which the mean is taken")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps(measure(given.side, given)))
        return
    print("| window | | s | CPU s | peak memory, MiB | CPU time, of MONAI's with argmax | memory, of MONAI's |")
    print(f"|{' --- |' * 7}")
    for roi in given.roi_size:
        turns = [{side: run(side, roi, given) for side in SIDES} for _ in range(given.repetitions)]
        if any(turn["monai"]["digest"] != turn["labels"]["digest"] for turn in turns):
            sys.exit(f"roi_size {roi}: the label maps differ")
        of = [{**turn["monai"]["rows"], **turn["labels"]["rows"]} for turn in turns]
        rows = {
            row: [statistics.median(values) for values in zip(*(turn[row] for turn in of), strict=True)] for row in ROWS
        }
        for row, (seconds, cpu, peak) in rows.items():
            shares = f"{cpu / rows['argmax'][1]:.2f} | {peak / rows['monai'][2]:.2f}"
            print(f"| {roi} | {ROWS[row]} | {seconds:.1f} | {cpu:.1f} | {peak:.0f} | {shares} |", flush=True)
    shape = (
        f"{given.classes} classes, {given.size} x {given.size} x {given.size}, overlap {given.overlap}, {given.mode}"
    )
    print(f"\nThe label maps are equal. {shape}; {given.repetitions} turns, {torch.get_num_threads()} threads.")


def run(side: str, roi: int, given: argparse.Namespace) -> dict:
    """What `measure` gives in a process of its own."""
    words = [
        (f"--{key}", str(getattr(given, key))) for key in ("size", "classes", "overlap", "mode", "members", "device")
    ]
    command = [
        sys.executable,
        __file__,
        "--side",
        side,
        "--roi_size",
        str(roi),
        *(word for pair in words for word in pair),
    ]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
