"""What `benchmark_predict.py` measures: one network and one pipeline, of MONAI's spleen bundle, run in several ways."""

from __future__ import annotations

import argparse
import atexit
import json
import os
import resource
import sys
import time
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import torch
import yaml
from ignite.engine import Engine, Events
from lightning.pytorch import Callback
from monai.bundle import ConfigParser
from monai.networks.nets import UNet
from peak_memory import read_peak_memory
from torch import nn

SIDES = {
    "ignite": "stock MONAI bundle on Ignite",
    "serial": "native bundle, `workers: 0`",
    "native": "native bundle",
    "alone": "the network alone",
}


class Network(nn.Module):
    """Two classes, of fixed weights.

    Args:
        kind: ``unet``, or ``sleep``: a threshold, after a while in which the CPU is free.
        seconds: that while, at each call.
        channels_last: whether it computes in that memory format.
    """

    def __init__(self, kind: str, seconds: float, channels_last: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.seconds = seconds
        self.format = torch.channels_last_3d if channels_last else torch.contiguous_format
        self.network = UNet(3, 1, 2, (16, 32, 64, 128), (2, 2, 2), norm="batch") if kind == "unet" else None
        self.unused = nn.Parameter(torch.zeros(1))
        self.to(memory_format=self.format)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.network is not None:
            return self.network(x.contiguous(memory_format=self.format))
        time.sleep(self.seconds)
        return torch.cat([0.5 - x, x - 0.5], 1)


class Clock(Callback):
    """Seconds of a loop by the clock and of the CPU, and the peak of memory: a callback of Lightning, a handler of Ignite."""

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.COMPLETED, self.end)

    def on_predict_start(self, *arguments: Any) -> None:
        self.begin()

    def on_predict_end(self, *arguments: Any) -> None:
        self.end()

    def begin(self, *arguments: Any) -> None:
        self.began, self.cpu = time.perf_counter(), time.process_time()

    def end(self, *arguments: Any) -> None:
        measured = {"wall": time.perf_counter() - self.began, "cpu": time.process_time() - self.cpu}
        atexit.register(write, measured)  # processes that read are counted when they have ended


def write(measured: dict[str, float]) -> None:
    """Adds what the processes of loaders have taken, and the peak of memory of this one."""
    for child in active_children():
        child.join()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    measured["cpu"] += children.ru_utime + children.ru_stime
    measured["peak"] = read_peak_memory() / 2**20
    Path(os.environ["BENCHMARK_RESULT"]).write_text(json.dumps(measured))


def shared(kind: str, cases: Path, out: Path, given: argparse.Namespace) -> dict[str, Any]:
    """What the configs of all sides have in common."""
    return {
        "data": [{"image": str(file)} for file in sorted(cases.glob("*.nii.gz"))],
        "network_def": {
            "_target_": "benchmark_predict_workload.Network",
            "kind": kind,
            "seconds": given.seconds,
            "channels_last": given.channels_last,
        },
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
                {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 2.0], "mode": "bilinear"},
                {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -200, "a_max": 200, "b_min": 0, "b_max": 1,
                 "clip": True},
                {"_target_": "EnsureTyped", "keys": "image"},
            ],
        },
        "loader": {
            "_target_": "DataLoader",
            "batch_size": 1,
            "num_workers": given.num_workers,
            "pin_memory": given.pin_memory,
            "dataset": {"_target_": "Dataset", "data": "@data", "transform": "@preprocessing"},
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [64, 64, 32], "sw_batch_size": 4, "overlap": 0.5},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image",
                 "nearest_interp": False, "to_tensor": True},
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {"_target_": "SaveImaged", "keys": "pred", "output_dir": str(out / "files"), "output_postfix": "trans",
                 "separate_folder": False, "print_log": False},
            ],
        },
        "clock": {"_target_": "benchmark_predict_workload.Clock"},
    }  # fmt: skip


def native(config: dict[str, Any], workers: int, given: argparse.Namespace) -> dict[str, Any]:
    """A native config."""
    return {
        **config,
        "system": {
            "model": "@network_def",
            "inferer": "@inferer",
            "postprocessing": {"predict": "@postprocessing"},
            "dataloaders": {"predict": "@loader"},
            "workers": workers,
        },
        "trainer": {
            "accelerator": "gpu" if given.device == "cuda" else "cpu",
            "devices": 1,
            "precision": "16-mixed" if given.amp else "32-true",
            "logger": False,
            "callbacks": ["@clock"],
        },
    }


def ignite(config: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """The same with MONAI's engine, as the bundles of the model zoo have it."""
    return {
        **config,
        "imports": ["$import torch"],
        "device": f"$torch.device('{given.device}')",
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@loader",
            "network": "$@network_def.to(@device)",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": ["@clock"],
            "amp": given.amp,
            "non_blocking": given.pin_memory,
        },
        "run": ["$@evaluator.run()"],
    }


def run_alone(file: str, device: str, amp: bool) -> None:
    """The network on all cases, which have been read before: nothing else is measured."""
    parser = ConfigParser(yaml.safe_load(Path(file).read_text()))
    network, inferer = parser.get_parsed_content("network_def").to(device).eval(), parser.get_parsed_content("inferer")
    images = [batch["image"].as_tensor().to(device) for batch in parser.get_parsed_content("loader")]
    with torch.inference_mode(), torch.autocast(device, torch.float16, enabled=amp):
        clock = parser.get_parsed_content("clock")
        clock.begin()
        for image in images:
            inferer(image, network)
        if device == "cuda":
            torch.cuda.synchronize()
        clock.end()


def command(side: str, kind: str, cases: Path, out: Path, given: argparse.Namespace) -> list[str]:
    """Command line of one side; its config is written to ``out``."""
    config = shared(kind, cases, out, given)
    if side == "ignite":
        config = ignite(config, given)
    elif side != "alone":
        config = native(config, 0 if side == "serial" else given.workers, given)
    file = out / "inference.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    if side == "alone":
        call = f"import benchmark_predict_workload as b; b.run_alone({str(file)!r}, {given.device!r}, {given.amp})"
        return [sys.executable, "-c", call]
    run = [sys.executable, "-m", "monai.bundle", "run"]
    if side != "ignite":
        run += ["predict", "--workflow", "monai_lighter.Workflow"]
    return [*run, "--config_file", str(file)]
