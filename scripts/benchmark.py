"""Time and memory of a training step: a loop by hand, plain Lightning, a native bundle and a stock MONAI bundle side by side.

    python scripts/benchmark.py [--repetitions 5] [--output docs/performance.md]

Then the time that commands take to start (`benchmark_start.py`).

Each measurement is a process of its own, and the four take turns, so that a busy machine slows all of them. A step is the
time from one training call of the network to the next; of a process the median counts, without the first fifth of its steps.
Ratios are taken within a turn; given are their median and, in brackets, their quartiles.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from benchmark_start import measure_starts, report_starts
from benchmark_workload import DEVICE, OPTIONS, SIDES, command, make_environment, spread

MARK = "<!-- measured by scripts/benchmark.py -->"


def measure(side: str, kind: str) -> dict[str, float]:
    """One process: seconds from the command to the first step, milliseconds a step, peak memory in MiB.

    Raises:
        RuntimeError: the process failed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = folder / "result.json"
        environment = {**make_environment(), "BENCHMARK_RESULT": str(result)}
        start = time.time()
        done = subprocess.run(
            command(side, kind, folder), cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{side} {kind} failed:\n{done.stderr[-3000:]}")
        measured = json.loads(result.read_text())
    times, late = measured["times"], len(measured["times"]) // 5
    steps = [1000 * (b - a) for a, b in pairwise(times[:-1])][late:]
    # the CPU runs ahead of a GPU: there the mean counts, over steps that have ended
    step = statistics.median(steps) if DEVICE == "cpu" else 1000 * (times[-1] - times[late]) / (len(times) - 1 - late)
    return {"first": times[0] - start, "step": step, "peak": measured["peak"]}


def ratios(turns: list[dict], side: str, other: str, what: str) -> list[float]:
    """Ratio of two sides in each turn."""
    return [turn[side][what] / turn[other][what] for turn in turns]


def table(title: str, turns: list[dict], against: tuple[str, ...]) -> list[str]:
    """Markdown of one workload: a row for each side."""
    header = [
        "",
        "ms a step",
        *(f"against {SIDES[other]}" for other in against),
        "peak memory, MiB",
        "to the first step, s",
    ]
    lines = [f"## {title}", "", "| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for side in SIDES:
        cells = [
            SIDES[side],
            spread([turn[side]["step"] for turn in turns]),
            *(spread(ratios(turns, side, other, "step")) for other in against),
            f"{statistics.median(turn[side]['peak'] for turn in turns):.0f}",
            spread([turn[side]["first"] for turn in turns]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def report(turns: dict[str, list[dict]]) -> str:
    """Markdown of all that was measured, the goals first."""
    everything = turns["tiny"] + turns["unet"]
    goals = [
        (
            "native bundle / plain LightningModule, tiny network",
            0.65,
            ratios(turns["tiny"], "native", "lightning", "step"),
        ),
        ("native bundle / hand-written loop, 3D UNet", 1.02, ratios(turns["unet"], "native", "raw", "step")),
        (
            "native bundle / stock MONAI bundle, command to first step",
            1.02,
            ratios(everything, "native", "ignite", "first"),
        ),
        ("native bundle / stock MONAI bundle, tiny network", 1.0, ratios(turns["tiny"], "native", "ignite", "step")),
        (
            "native bundle / hand-written loop, peak memory on the 3D UNet",
            None,
            ratios(turns["unet"], "native", "raw", "peak"),
        ),
    ]
    lines = ["| ratio | goal | measured |", "| --- | --- | --- |"]
    lines += [
        f"| {name} | {'' if goal is None else f'at most {goal}'} | {spread(values)} |" for name, goal, values in goals
    ]
    lines += ["", *table("Tiny network: the cost of the engine", turns["tiny"], ("lightning", "ignite"))]
    lines += table("3D UNet, 64 x 64 x 64: real work", turns["unet"], ("raw", "ignite"))
    how = ", ".join(name for name, value in OPTIONS.items() if value is True)
    device = f"{torch.cuda.get_device_name()}{how and f' ({how})'}, " if DEVICE == "cuda" else ""
    where = device + (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    return "\n".join([*lines, f"{len(turns['tiny'])} turns on {where}.", ""])


def main() -> None:
    """Measures everything and prints it; with ``--output``, it replaces what stands below the mark of that file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5, help="turns on each of the two networks")
    parser.add_argument("--output", type=Path, help="markdown file, such as docs/performance.md")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    for name in ("amp", "channels_last", "pin_memory", "compile"):
        parser.add_argument(f"--{name}", action="store_true", help="on all sides")
    arguments = parser.parse_args()
    if "device" not in OPTIONS:  # modules are made of them when they are imported
        given = {name: getattr(arguments, name) for name in ("device", "amp", "channels_last", "pin_memory", "compile")}
        os.environ["BENCHMARK_OPTIONS"] = json.dumps(given)
        os.execv(sys.executable, [sys.executable, *sys.argv])
    turns: dict[str, list[dict]] = {"tiny": [], "unet": []}
    for kind, measured in turns.items():
        for turn in range(arguments.repetitions):
            sides = [*SIDES][turn % len(SIDES) :] + [*SIDES][: turn % len(SIDES)]
            measured.append({side: measure(side, kind) for side in sides})
            print(
                f"{kind} {turn + 1}/{arguments.repetitions}",
                {s: round(measured[-1][s]["step"], 3) for s in SIDES},
                file=sys.stderr,
            )
    starts = report_starts(measure_starts(arguments.repetitions)) if DEVICE == "cpu" else []
    text = "\n".join([report(turns), *starts])
    print(text)
    if arguments.output is not None:
        before = arguments.output.read_text().partition(MARK)[0] if arguments.output.is_file() else ""
        arguments.output.write_text(f"{before}{MARK}\n\n{text}")


if __name__ == "__main__":
    main()
