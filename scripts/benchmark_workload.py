"""What `benchmark.py` measures: one network and one set of data, trained in four ways."""

from __future__ import annotations

import atexit
import json
import os
import statistics
import sys
import time
from pathlib import Path

import torch
import yaml
from monai.data import DataLoader, Dataset
from monai.networks.nets import UNet
from peak_memory import read_peak_memory
from torch import nn

OPTIONS = json.loads(os.environ.get("BENCHMARK_OPTIONS", "{}"))
"""``device``, ``amp``, ``channels_last``, ``pin_memory``, ``compile`` of `benchmark.py`."""
DEVICE = OPTIONS.get("device", "cpu")
AMP = bool(OPTIONS.get("amp"))
STEPS = {"tiny": 2000, "unet": 60, "start": 2}
SIDES = {
    "raw": "hand-written PyTorch loop",
    "lightning": "plain LightningModule",
    "native": "native bundle",
    "ignite": "stock MONAI bundle on Ignite",
}


class Timed(nn.Module):
    """A network that notes when it is called in training, and writes that and the peak memory down when the process ends.

    Args:
        kind: ``tiny`` (a few hundred weights on 8 x 8 pixels), ``start`` (the same) or ``unet`` (3D, on 64 x 64 x 64 voxels).
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = UNet(3, 1, 1, (16, 32, 64), (2, 2)) if kind == "unet" else _tiny()
        if OPTIONS.get("channels_last"):
            self.to(memory_format=torch.channels_last_3d if kind == "unet" else torch.channels_last)
        if OPTIONS.get("compile"):
            self.network = torch.compile(self.network)
        self.times: list[float] = []
        atexit.register(self.write)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.times.append(time.time())
        return self.network(x)

    def write(self) -> None:
        peak = read_peak_memory() / 2**20
        if DEVICE == "cuda":
            torch.cuda.synchronize()  # the steps that the CPU has run ahead of
            peak = torch.cuda.max_memory_allocated() / 2**20
        self.times.append(time.time())
        Path(os.environ["BENCHMARK_RESULT"]).write_text(json.dumps({"times": self.times, "peak": peak}))


def _tiny() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))


def loader(kind: str) -> DataLoader:
    """Batches of ``{"image": (1, ...), "label": (1, ...)}``, from memory, as many as there are steps."""
    size = (1, 64, 64, 64) if kind == "unet" else (1, 8, 8)
    item = {"image": torch.rand(size), "label": (torch.rand(size) > 0.5).float()}
    return DataLoader(Dataset([item] * STEPS[kind]), batch_size=1, pin_memory=bool(OPTIONS.get("pin_memory")))


RAW = """
import torch, benchmark_workload
from benchmark_workload import AMP, DEVICE
network = benchmark_workload.Timed({kind!r}).train().to(DEVICE)
scaler = torch.amp.GradScaler(DEVICE, enabled=AMP)
loss_function = torch.nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(network.parameters(), 1e-3)
for batch in benchmark_workload.loader({kind!r}):
    image, label = (batch[key].to(DEVICE, non_blocking=True) for key in ("image", "label"))
    optimizer.zero_grad()
    with torch.autocast(DEVICE, torch.float16, enabled=AMP):
        loss = loss_function(network(image), label)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
"""

LIGHTNING = """
import lightning.pytorch as pl, torch, benchmark_workload

class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = benchmark_workload.Timed({kind!r})
        self.loss = torch.nn.BCEWithLogitsLoss()

    def training_step(self, batch, batch_idx):
        loss = self.loss(self.network(batch["image"]), batch["label"])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)

how = benchmark_workload.make_trainer_options()
pl.Trainer(max_epochs=1, **how).fit(Module(), benchmark_workload.loader({kind!r}))
"""


def make_trainer_options() -> dict:
    """Keywords of Lightning's Trainer."""
    accelerator = "gpu" if DEVICE == "cuda" else "cpu"
    return {"accelerator": accelerator, "devices": 1, **({"precision": "16-mixed"} if AMP else {})}


def native(kind: str) -> dict:
    """A native config."""
    return {
        "network_def": {"_target_": "benchmark_workload.Timed", "kind": kind},
        "system": {
            "model": "@network_def",
            "criterion": {"_target_": "torch.nn.BCEWithLogitsLoss"},
            "optimizer": {"_target_": "torch.optim.Adam", "params": "$@network_def.parameters()", "lr": 0.001},
            "dataloaders": {"train": {"_target_": "benchmark_workload.loader", "kind": kind}},
        },
        "trainer": {"max_epochs": 1, **make_trainer_options()},
    }


def ignite(kind: str) -> dict:
    """The same with MONAI's engine and the handlers that bundles of the model zoo have."""
    loss = "$monai.handlers.from_engine(['loss'], first=True)"
    return {
        "imports": ["$import monai"],
        "network_def": {"_target_": "benchmark_workload.Timed", "kind": kind},
        "handlers": [
            {"_target_": "StatsHandler", "tag_name": "train_loss", "output_transform": loss},
            {
                "_target_": "TensorBoardStatsHandler",
                "log_dir": "eval",
                "tag_name": "train_loss",
                "output_transform": loss,
            },
        ],
        "trainer": {
            "_target_": "SupervisedTrainer",
            "max_epochs": 1,
            "device": f"$torch.device('{DEVICE}')",
            "amp": AMP,
            "non_blocking": bool(OPTIONS.get("pin_memory")),
            "train_data_loader": {"_target_": "benchmark_workload.loader", "kind": kind},
            "network": f"$@network_def.to('{DEVICE}')",
            "loss_function": {"_target_": "torch.nn.BCEWithLogitsLoss"},
            "optimizer": {"_target_": "torch.optim.Adam", "params": "$@network_def.parameters()", "lr": 0.001},
            "train_handlers": "@handlers",
        },
        "run": ["$@trainer.run()"],
    }


def command(side: str, kind: str, folder: Path) -> list[str]:
    """Command line of one side; the configs it needs are written to ``folder``."""
    if side in ("raw", "lightning"):
        return [sys.executable, "-c", (RAW if side == "raw" else LIGHTNING).format(kind=kind)]
    config = ignite(kind) if side == "ignite" else native(kind)
    if side == "ignite":
        config["imports"].append("$import torch")
    file = folder / "train.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    if side == "short":
        return [sys.executable, "-m", "monai_lighter", "fit", str(file)]
    run = [sys.executable, "-m", "monai.bundle", "run"]
    if side == "native":
        run += ["fit", "--workflow", "monai_lighter.Workflow"]
    return [*run, "--config_file", str(file)]


def make_environment() -> dict[str, str]:
    """Variables for a process that is measured: what is imported has its byte code, as it has where a package is installed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return {**kept, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}


def spread(values: list[float]) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return f"{middle:.2f} [{low:.2f} to {high:.2f}]"
