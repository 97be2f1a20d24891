"""Time that commands take to start, with and without large weights in the bundle.

    python scripts/benchmark_start.py [--repetitions 5] [--gigabytes 2]

Each measurement is a process of its own, and all take turns; one turn before them is not counted. A fit is measured to its first
call of the network, everything else to its end. ``scripts/benchmark.py`` puts the table below its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from benchmark_workload import command, make_environment, spread

FITS = {
    "ignite": "stock MONAI bundle on Ignite, to the first step",
    "native": "native bundle, `python -m monai.bundle run fit`, to the first step",
    "short": "native bundle, `monai-lighter fit`, to the first step",
}
MODULE = [sys.executable, "-m", "monai_lighter"]
OTHERS = {
    "`import torch`": [sys.executable, "-c", "import torch"],
    "`monai-lighter --help`": [*MODULE, "--help"],
    "`monai-lighter check`": [*MODULE, "check", "configs/train.yaml"],
    "`monai-lighter inspect`": [*MODULE, "inspect", "."],
}
RAN = (0, 1)
"""Exit codes: ``inspect`` has 1 for a bundle that holds code."""


def make_bundle(folder: Path, gigabytes: float) -> Path:
    """A folder for configs, with weights of this size in ``models``; none for 0."""
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True)
    command("native", "start", folder / "configs")
    if gigabytes:
        torch.save({"weight": torch.zeros(int(gigabytes * 2**28))}, folder / "models" / "model.pt")
    return folder


def measure_start(name: str, folder: Path) -> float:
    """Seconds from a command to its first step, or to its end.

    Raises:
        RuntimeError: the process failed.
    """
    result = folder / "result.json"
    words = command(name, "start", folder / "configs") if name in FITS else OTHERS[name]
    environment = {**make_environment(), "BENCHMARK_RESULT": str(result)}
    start = time.time()
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    ended = time.time()
    if done.returncode not in RAN:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-3000:]}")
    return (json.loads(result.read_text())["times"][0] if name in FITS else ended) - start


def measure_starts(repetitions: int, gigabytes: float = 2.0) -> dict[str, list[dict[float, float]]]:
    """For each command its seconds in each turn, by the size of the weights in GB."""
    measured: dict[str, list[dict[float, float]]] = {name: [] for name in (*OTHERS, *FITS)}
    with tempfile.TemporaryDirectory() as folder:
        bundles = {size: make_bundle(Path(folder, str(size)), size) for size in (0.0, gigabytes)}
        for turn in range(-1, repetitions):
            for name, turns in measured.items():
                seconds = {size: measure_start(name, bundle) for size, bundle in bundles.items()}
                turns += [seconds] if turn >= 0 else []
    return measured


def report_starts(measured: dict[str, list[dict[float, float]]]) -> list[str]:
    """Markdown: a row for each command."""
    stock, sizes = measured["ignite"], [*measured["ignite"][0]]
    header = ["", "s", f"s, with {sizes[1]:g} GB in models/", "against stock MONAI bundle on Ignite"]
    lines = ["## Start", "", "| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for name, turns in measured.items():
        cells = [FITS.get(name, name), *(spread([turn[size] for turn in turns]) for size in sizes)]
        ratios = [turn[sizes[0]] / other[sizes[0]] for turn, other in zip(turns, stock, strict=True)]
        lines.append("| " + " | ".join([*cells, spread(ratios) if name in FITS else ""]) + " |")
    return [*lines, ""]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the weights")
    arguments = parser.parse_args()
    print("\n".join(report_starts(measure_starts(arguments.repetitions, arguments.gigabytes))))


if __name__ == "__main__":
    main()
