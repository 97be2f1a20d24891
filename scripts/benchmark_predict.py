"""Time and memory of a prediction: a stock MONAI bundle on Ignite, and a native bundle in one thread and in several.

    python scripts/benchmark_predict.py [--repetitions 5] [--output docs/performance.md]
    python scripts/benchmark_predict.py --device cuda --amp --channels_last --pin_memory

The pipeline is that of MONAI's spleen bundle, on made CT volumes. Each measurement is a process of its own, and the sides
take turns. `sleep` is a network that does nothing for some time at each call, a stand-in for an accelerator; `unet` computes.
The files are compared: those of the two native sides byte for byte, those of MONAI voxel for voxel.
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
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
import yaml
from benchmark import spread
from benchmark_predict_workload import SIDES, command

BEGIN, END = (
    "<!-- measured by scripts/benchmark_predict.py -->",
    "<!-- end of what scripts/benchmark_predict.py measured -->",
)
KINDS = {"sleep": "A network that sleeps: a stand-in for an accelerator", "unet": "A network that computes"}
GOAL = 1.15


def make_cases(folder: Path, count: int, size: int) -> None:
    """CT volumes ``(size, size, size / 2)`` with soft blobs, of which half lie the other way round."""
    for i in range(count):
        random = np.random.default_rng(i)
        noise = torch.from_numpy(random.normal(0, 1, (1, 1, size // 8, size // 8, size // 16)).astype(np.float32))
        soft = torch.nn.functional.interpolate(noise, (size, size, size // 2), mode="trilinear")[0, 0].numpy()
        volume = (100 * soft + random.normal(0, 10, soft.shape)).astype(np.int16)
        nib.save(nib.Nifti1Image(volume, np.diag([0.9 if i % 2 else -0.9, 0.9, 1.5, 1.0])), folder / f"case_{i}.nii.gz")


def measure(side: str, kind: str, cases: Path, out: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """One process: ``wall`` and ``cpu`` seconds of the loop, those of the ``network`` alone, ``peak`` memory in MiB.

    Raises:
        RuntimeError: the process failed.
    """
    out.mkdir(parents=True)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        "BENCHMARK_RESULT": str(out / "result.json"),
        "PYTHONWARNINGS": "ignore",
    }
    line = command(side, kind, cases, out, arguments)
    done = subprocess.run(line, cwd=out, env=environment, capture_output=True, text=True, check=False)
    if done.returncode or not (out / "result.json").is_file():
        raise RuntimeError(f"{side} {kind} failed:\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}")
    return json.loads((out / "result.json").read_text())


def compare(folders: dict[str, Path]) -> None:
    """That the files of all sides are equal.

    Raises:
        RuntimeError: they are not.
    """
    names = {side: sorted(path.name for path in folder.glob("files/*.nii.gz")) for side, folder in folders.items()}
    if len({tuple(each) for each in names.values()}) > 1 or not names["native"]:
        raise RuntimeError(f"the sides have written other files: {names}")
    for name in names["native"]:
        files = {side: folder / "files" / name for side, folder in folders.items()}
        if files["serial"].read_bytes() != files["native"].read_bytes():
            raise RuntimeError(f"{name} is not, byte for byte, that of one thread")
        if not np.array_equal(nib.load(files["ignite"]).get_fdata(), nib.load(files["native"]).get_fdata()):
            raise RuntimeError(f"{name} is not, voxel for voxel, that of MONAI on Ignite")


def take_turn(kind: str, cases: Path, turn: int, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """All sides once, and the network alone."""
    order = [*SIDES][turn % len(SIDES) :] + [*SIDES][: turn % len(SIDES)]
    with tempfile.TemporaryDirectory() as name:
        folders = {side: Path(name) / side for side in order}
        measured = {side: measure(side, kind, cases, folders[side], arguments) for side in order}
        compare({side: folder for side, folder in folders.items() if side != "alone"})
    return measured


def describe(kind: str, turns: list[dict], cores: int) -> list[str]:
    """Markdown of one network: a row for each side."""
    header = ["", "loop, s", "CPU, s", "network alone, s", "loop / max(network alone, CPU / cores)", "peak memory, MiB"]
    lines = [f"### {KINDS[kind]}", "", "| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for side in (each for each in SIDES if each != "alone"):
        least = [max(turn["alone"]["wall"], turn[side]["cpu"] / cores) for turn in turns]
        cells = [
            SIDES[side],
            *(
                spread([turn[of][what] for turn in turns])
                for of, what in ((side, "wall"), (side, "cpu"), ("alone", "wall"))
            ),
            spread([turn[side]["wall"] / each for turn, each in zip(turns, least, strict=True)]),
            f"{statistics.median(turn[side]['peak'] for turn in turns):.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def report(turns: dict[str, list[dict]], arguments: argparse.Namespace) -> str:
    """Markdown of all that was measured."""
    cores = len(os.sched_getaffinity(0))
    lines = [line for kind, measured in turns.items() for line in describe(kind, measured, cores)]
    size = f"{arguments.size} x {arguments.size} x {arguments.size // 2}"
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{cores} cores"
    flags = [name for name in ("amp", "channels_last", "pin_memory") if getattr(arguments, name)]
    given = ", ".join([f"{arguments.num_workers} process that reads ahead", f"workers: {arguments.workers}", *flags])
    return "\n".join(
        [
            *lines,
            f"{arguments.repetitions} turns with {arguments.cases} volumes of {size} voxels; {given}. The goal is at most {GOAL} "
            "for the native bundle. The files of its two sides were equal byte for byte, the label maps of all sides voxel for "
            f"voxel. {platform.machine()}, {device}, torch {torch.__version__}.",
        ]
    )


def main() -> None:
    """Measures everything and prints it; with ``--output``, it replaces what stands between the marks of that file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5, help="turns with each network")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS], help="networks")
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument(
        "--size", type=int, default=160, help="of the first two axes of a volume; the third is half of it"
    )
    parser.add_argument("--seconds", type=float, default=0.05, help="that the network sleeps at each call")
    parser.add_argument("--num_workers", type=int, default=1, help="processes that read ahead, on all sides")
    parser.add_argument(
        "--workers", type=int, default=len(os.sched_getaffinity(0)), help="system::workers of the native side"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--amp", action="store_true", help="float16 on the device")
    parser.add_argument("--channels_last", action="store_true")
    parser.add_argument("--pin_memory", action="store_true")
    parser.add_argument("--output", type=Path, help="markdown file, such as docs/performance.md")
    arguments = parser.parse_args()
    turns: dict[str, list[dict]] = {kind: [] for kind in arguments.kinds}
    with tempfile.TemporaryDirectory() as name:
        make_cases(Path(name), arguments.cases, arguments.size)
        for kind, measured in turns.items():
            for turn in range(arguments.repetitions):
                measured.append(take_turn(kind, Path(name), turn, arguments))
                print(kind, turn + 1, yaml.safe_dump(measured[-1], default_flow_style=True, width=200), file=sys.stderr)
    text = report(turns, arguments)
    print(text)
    if arguments.output is not None:
        page = arguments.output.read_text() if arguments.output.is_file() else f"{BEGIN}\n{END}\n"
        before, _, rest = page.partition(BEGIN)
        arguments.output.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
