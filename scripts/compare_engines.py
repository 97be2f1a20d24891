"""Runs a command of a bundle under MONAI's Ignite engines and under Lightning, and compares every file that the two wrote.

    python scripts/compare_engines.py [--repeat 3] [--keep FOLDER] BUNDLE [RUN_ID] --config_file configs/train.json --epochs 2 ...

What follows BUNDLE is the command: the arguments of ``python -m monai.bundle run``, as the bundle's README has them. It is run
in a copy of the bundle, in a fresh process, once with stock MONAI and once with ``monai_lighter.Workflow``; the copies take
turns at one path, so that paths inside of files are equal. Files outside of the bundle are not looked at.

A row a file says whether its content is equal bit for bit, else the largest difference. Given last are the ratios of time,
Lightning to Ignite, of the whole command and of the loops alone (``STARTED`` to ``COMPLETED`` of every engine that is not run by
another one); with ``--repeat``, medians, the two taking turns. The exit code is 0 when all is equal.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import LoadImage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ENGINES = {"ignite": [], "lightning": ["--workflow_name", "monai_lighter.Workflow"]}
WEIGHTS = (".pt", ".pth", ".ckpt", ".ts")
IMAGES = (".nii", ".nii.gz", ".png", ".tif", ".tiff", ".jpg", ".mha", ".nrrd")
PROBE = Path(__file__).resolve().with_name("measured_run.py")
EVENTS = "events.out.tfevents"
CLOCK = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[,.]\d+)?|\d+:\d\d:\d\d(?:\.\d+)?")
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def run_command(engine: str, bundle: Path, place: Path, arguments: list[str]) -> dict[str, Any]:
    """Runs the command in a fresh copy of the bundle at ``place``.

    Returns:
        ``seconds`` of the process, ``runs`` of engines, and ``files`` that were written or changed, relative to ``place``.

    Raises:
        SystemExit: the command failed; the end of its output is shown.
    """
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(bundle, place)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    report = place.parent / f"{engine}.json"
    command = [sys.executable, str(PROBE), str(report), "run", *arguments, *ENGINES[engine]]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{done.stdout[-4000:]}\nThe command failed under {engine}, exit code {done.returncode}.")
    new = [path for path in place.rglob("*") if path.is_file() and before.get(path) != path.stat().st_mtime_ns]
    files = sorted(path.relative_to(place) for path in new if "__pycache__" not in path.parts)
    return {"seconds": seconds, "runs": json.loads(report.read_text()), "files": files}


def content(path: Path) -> dict[str, Any]:
    """Arrays, numbers and texts of a file, by name."""
    name = path.name
    if EVENTS in name:
        return _scalars(path)
    if name.endswith(WEIGHTS):
        try:
            return dict(_leaves("", torch.load(path, map_location="cpu", weights_only=False)))
        except RuntimeError:
            return dict(_leaves("", torch.jit.load(str(path), map_location="cpu").state_dict()))
    if name.endswith((".npy", ".npz")):
        loaded = np.load(path, allow_pickle=True)
        return dict(loaded) if hasattr(loaded, "files") else {"array": loaded}
    if name.endswith(IMAGES):
        image = LoadImage(image_only=True)(str(path))
        return {"voxels": image.numpy(), "affine": np.asarray(image.affine)}
    data = path.read_bytes()
    try:
        text = CLOCK.sub("TIME", data.decode())
    except UnicodeDecodeError:
        return {"bytes": data}
    return {"text": NUMBER.sub("#", text), "numbers": np.array([float(number) for number in NUMBER.findall(text)])}


def _leaves(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{name}.{key}" if name else str(key), item)
    elif isinstance(value, (list, tuple)):
        for key, item in enumerate(value):
            yield from _leaves(f"{name}[{key}]", item)
    elif isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        yield name, (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    else:
        yield name, value if isinstance(value, (int, float, str, bool, bytes, type(None))) else type(value).__name__


def _scalars(path: Path) -> dict[str, Any]:
    events = EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()
    return {tag: np.array([(e.step, e.value) for e in events.Scalars(tag)]) for tag in events.Tags()["scalars"]}


def difference(one: Path, two: Path) -> str | None:
    """How the contents of two files differ; None where they are equal bit for bit."""
    first, second = content(one), content(two)
    odd = sorted(first.keys() ^ second.keys())
    if odd:
        return f"{len(odd)} entries are in one of the two alone: {odd[0]}"
    largest, where = 0.0, None
    for name, value in first.items():
        if _equal(value, second[name]):
            continue
        size = _largest(value, second[name])
        if size is None:
            return f"{name} differs"
        if where is None or size > largest:
            largest, where = size, name
    return None if where is None else f"max difference {largest:.3g} ({where})"


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(two, np.ndarray):
        return one.dtype == two.dtype and np.array_equal(one, two, equal_nan=one.dtype.kind in "fc")
    return type(one) is type(two) and (one == two or (one != one and two != two))


def _largest(one: Any, two: Any) -> float | None:
    try:
        return float(np.max(np.abs(np.asarray(one, float) - np.asarray(two, float))))
    except (TypeError, ValueError):
        return None


def named(files: list[Path]) -> dict[str, Path]:
    """Files by what they are called in every run: names of TensorBoard's files hold the time and the process."""
    return {str(path.with_name("events") if EVENTS in path.name else path): path for path in files}


def compare(ignite: Path, lightning: Path, files: dict[str, list[Path]]) -> int:
    """Prints a row a file; gives the number of those that are not equal."""
    one, two = named(files["ignite"]), named(files["lightning"])
    unequal = 0
    for name in sorted({**one, **two}):
        if name not in one or name not in two:
            verdict: str | None = f"written under {'Ignite' if name in one else 'Lightning'} alone"
        else:
            verdict = difference(ignite / one[name], lightning / two[name])
        unequal += verdict is not None
        print(f"{'equal    ' if verdict is None else 'DIFFERENT'}  {name}  {verdict or 'bit for bit'}")
    return unequal


def report(turns: list[dict[str, Any]], unequal: int) -> None:
    """Prints the ratios of time."""
    print(
        "all files are equal" if not unequal else f"{unequal} files are not equal", end="; time, Lightning to Ignite: "
    )
    whole = [[turn[engine]["seconds"] for engine in ENGINES] for turn in turns]
    loops = [[sum(run["seconds"] for run in turn[engine]["runs"]) for engine in ENGINES] for turn in turns]
    times = (
        {"whole command": whole, "loops": loops} if all(min(turn) > 0 for turn in loops) else {"whole command": whole}
    )
    print(", ".join(f"{name} {_ratio(seconds)}" for name, seconds in times.items()))


def _ratio(seconds: list[list[float]]) -> str:
    ignite, lightning = (statistics.median(side) for side in zip(*seconds, strict=True))
    ratio = statistics.median(turn[1] / turn[0] for turn in seconds)
    return f"{ratio:.2f} ({lightning:.1f} s to {ignite:.1f} s)"


def main() -> int:
    """Runs both sides, prints what differs and how long they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=1, help="turns of the two; times are medians over them")
    parser.add_argument("--keep", type=Path, help="folder for the two copies of the bundle after their runs")
    parser.add_argument("bundle", type=Path, help="folder of the bundle, which is not changed")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="arguments of python -m monai.bundle run")
    options = parser.parse_args()
    if not options.command:
        parser.error("the command is missing, such as --config_file configs/train.json")
    if not options.bundle.is_dir():
        parser.error(f"BUNDLE must be a folder, got {options.bundle}")
    if options.keep is not None and options.keep.is_dir() and any(options.keep.iterdir()):
        parser.error(f"--keep must be a new or an empty folder, got {options.keep}")
    turns = []
    with tempfile.TemporaryDirectory() as name:
        folder = (options.keep or Path(name)).resolve()
        place = Path(name).resolve() / "run" / options.bundle.resolve().name
        for _ in range(options.repeat):
            turn = {}
            for engine in ENGINES:
                turn[engine] = run_command(engine, options.bundle, place, options.command)
                shutil.rmtree(folder / engine, ignore_errors=True)
                shutil.move(place, folder / engine)
            turns.append(turn)
        files = {engine: turns[-1][engine]["files"] for engine in ENGINES}
        unequal = compare(folder / "ignite", folder / "lightning", files)
    report(turns, unequal)
    stray = [(engine, run["engine"]) for turn in turns for engine in ENGINES for run in turn[engine]["runs"]
             if run["lightning"] != (engine == "lightning")]  # fmt: skip
    for engine, kind in sorted(set(stray)):
        print(f"Under {engine}, {kind} was driven by {'Ignite' if engine == 'lightning' else 'Lightning'}")
    return 1 if unequal or stray else 0


if __name__ == "__main__":
    sys.exit(main())
