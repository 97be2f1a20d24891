"""Memory and time of an ensemble against one network, each in a process of its own.

    python scripts/benchmark_ensemble.py --output docs/performance.md

One UNet; the ensemble with all members in memory, and with one at a time (``cpu_offload``, from files of weights); both with
MONAI's sliding window and with `SlidingWindowLabelInferer`. The scores, and label maps, of both ways must agree. Memory is the
peak above that of before the networks are made, weights and scores together.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from peak_memory import read_peak_memory

from monai_lighter import Ensemble, SlidingWindowLabelInferer
from monai_lighter.system.inference import infer

BEGIN = "<!-- measured by scripts/benchmark_ensemble.py -->"
END = "<!-- end of what scripts/benchmark_ensemble.py measured -->"
SIDES = {
    "one": "one network",
    "memory": "ensemble",
    "offload": "ensemble, `cpu_offload`",
    "one labels": "one network, `SlidingWindowLabelInferer`",
    "memory labels": "ensemble, `SlidingWindowLabelInferer`",
    "offload labels": "ensemble, `cpu_offload`, `SlidingWindowLabelInferer`",
}


def make_network(given: argparse.Namespace) -> UNet:
    channels = [given.width * 2**i for i in range(4)]
    return UNet(3, 1, given.classes, channels, (2, 2, 2), num_res_units=2)


def write_weights(given: argparse.Namespace, folder: Path) -> list[str]:
    """Files of the members' weights."""
    files = [folder / f"{i}.pt" for i in range(given.members)]
    for seed, file in enumerate(files):
        torch.manual_seed(seed)
        torch.save(make_network(given).state_dict(), file)
    return [*map(str, files)]


def measure(side: str, given: argparse.Namespace) -> dict:
    """Seconds, CPU seconds, peak memory in MiB above that of before, MiB of the weights in memory, and the result."""
    way, _, labels = side.partition(" ")
    cuda = given.device == "cuda"
    image = torch.rand(1, 1, *[given.size] * 3, generator=torch.Generator().manual_seed(0)).to(given.device)
    kind = SlidingWindowLabelInferer if labels else SlidingWindowInferer
    inferer = kind(roi_size=[given.roi_size] * 3, sw_batch_size=given.batch, overlap=0.25, mode="gaussian")
    infer(
        inferer, image[..., :8, :8, :8], torch.nn.Conv3d(1, 2, 1).to(given.device).eval()
    )  # what the first call loads
    before = torch.cuda.memory_allocated() if cuda else _read_resident()
    files = given.files if way != "one" else given.files[:1]
    network = Ensemble(make_network(given), files, cpu_offload=way == "offload").to(given.device).eval()
    weights = sum(each.numel() * each.element_size() for each in network.parameters()) / 2**20
    start, cpu = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        result = infer(inferer, image, network)
    if cuda:
        torch.cuda.synchronize()
    times = [time.perf_counter() - start, time.process_time() - cpu]
    peak = torch.cuda.max_memory_allocated() if cuda else read_peak_memory()
    torch.save(result.cpu(), given.result)
    return {"values": [*times, (peak - before) / 2**20, weights]}


def _read_resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def run(side: str, given: argparse.Namespace, files: list[str], result: Path) -> list[float]:
    """What `measure` gives in a process of its own."""
    numbers = [
        (f"--{name}", str(getattr(given, name))) for name in ("size", "classes", "width", "roi_size", "batch", "device")
    ]
    words = [word for pair in numbers for word in pair]
    command = [sys.executable, __file__, "--side", side, *words, "--result", str(result), "--files", *files]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])[
        "values"
    ]


def agree(folder: Path) -> bool:
    """Whether the ways came to one result: scores to 1e-4 of their range, label maps but for one voxel in 10,000, where two
    classes are alike."""
    read = {side: torch.load(folder / f"{side}.pt") for side in SIDES}
    scores = (read["memory"] - read["offload"]).abs().max() <= 1e-4 * read["memory"].abs().max()
    labels = [read["memory"].argmax(1, keepdim=True), read["memory labels"], read["offload labels"]]
    return bool(scores) and all(bool((labels[0] != each).float().mean() < 1e-4) for each in labels[1:])


def make_table(given: argparse.Namespace) -> str:
    turns: list[dict[str, list[float]]] = []
    with tempfile.TemporaryDirectory() as name:
        files = write_weights(given, Path(name))
        for _ in range(given.repetitions):
            turns.append({side: run(side, given, files, Path(name) / f"{side}.pt") for side in SIDES})
            if not agree(Path(name)):
                sys.exit("the results of an ensemble in memory and of one network at a time differ")
    medians = {
        side: [statistics.median(column) for column in zip(*(turn[side] for turn in turns), strict=True)]
        for side in SIDES
    }
    lines = [
        "| | s | CPU s | peak memory, MiB | of it weights, MiB | CPU time, of one network's | memory, of one network's |",
        f"|{' --- |' * 7}",
    ]
    for side, title in SIDES.items():
        seconds, cpu, peak, weights = medians[side]
        base = medians["one labels" if "labels" in side else "one"]
        shares = f"{cpu / base[1]:.2f} | {peak / base[2]:.2f}"
        lines.append(f"| {title} | {seconds:.1f} | {cpu:.1f} | {peak:.0f} | {weights:.0f} | {shares} |")
    roi = given.roi_size
    shape = f"{given.members} members, {given.classes} classes, {given.size} x {given.size} x {given.size}, windows of {roi}"
    where = f"{given.device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    return "\n".join(
        [*lines, "", f"{shape}, overlap 0.25, `sw_batch_size` {given.batch}; {given.repetitions} turns; {where}."]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=96, help="voxels of the image along an axis")
    parser.add_argument("--classes", type=int, default=14)
    parser.add_argument("--width", type=int, default=32, help="channels of the UNet at its first level")
    parser.add_argument("--roi_size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1, help="windows that go through the network at once")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--output", type=Path, help="markdown file, such as docs/performance.md")
    for name in ("--side", "--result"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--files", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps(measure(given.side, given)))
        return
    table = make_table(given)
    print(table)
    if given.output:
        page = given.output.read_text() if given.output.is_file() else f"{BEGIN}\n{END}\n"
        before, _, rest = page.partition(BEGIN)
        given.output.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
