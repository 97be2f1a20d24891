"""How well `check --trace` tells the time of a step: against that of the fit it was asked for (`timing.json`).

    python scripts/benchmark_trace.py [--repetitions 5]

Of a synthetic bundle of `init`, in 2D and 3D; each measurement is a process of its own, and the two take turns. Prints a table of
the ratio of the step of the trace to that of the fit, its median and, in brackets, its quartiles.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmark_workload import make_environment, spread


def run(folder: Path, *words: str) -> str:
    """What a command prints.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, "-m", "monai_lighter", *words]
    return subprocess.run(
        command, cwd=folder, env=make_environment(), check=True, capture_output=True, text=True
    ).stdout


def measure(folder: Path) -> tuple[float, float]:
    """Seconds of a training step: of the trace, and of a fit."""
    traced = json.loads(run(folder, "check", "configs/train.yaml", "--trace", "--json"))
    run(folder, "fit", "configs/train.yaml", "--trainer::max_epochs", "10", "--trainer::check_val_every_n_epoch", "10")
    (report,) = (folder / "lightning_logs").glob("*/timing.json")
    seconds = json.loads(report.read_text())["seconds_per_step"]
    report.unlink()
    return traced["trace"]["steps"]["train"]["seconds"], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    given = parser.parse_args()
    print("| bundle | step of a fit, ms | step of the trace / step of the fit |\n| --- | --- | --- |")
    for dims in (2, 3):
        with tempfile.TemporaryDirectory() as name:
            run(Path(name), "init", "made", "--task", "segmentation", "--dims", str(dims), "--synthetic")
            turns = [measure(Path(name) / "made") for _ in range(given.repetitions)]
        ratios = spread([traced / fitted for traced, fitted in turns])
        print(f"| segmentation, {dims}D | {spread([1000 * fitted for _, fitted in turns])} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
