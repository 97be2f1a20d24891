"""Run by test_sharded: a fit with sharded weights on some processes. ``python -m sharded_run FOLDER SIZE``."""

import sys
from pathlib import Path

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from parts import items, loader, trainer
from torch import nn
from torch.distributed.fsdp import fully_shard
from torchmetrics import MeanSquaredError

from monai_lighter import System


class Sharded(System):
    """As docs/reliability.md has it."""

    def configure_model(self):
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            fully_shard(self.model, mesh=self.device_mesh["data_parallel"])
            self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.1)


def fit(folder, size, epochs, checkpoint=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))
    system = Sharded(
        model,
        {"train": loader(items(4), batch_size=4 // size, shuffle=True), "val": loader(items(3), batch_size=1)},
        torch.optim.Adam(model.parameters(), lr=0.1),
        criterion=lambda pred, target: nn.functional.binary_cross_entropy_with_logits(pred, target.float()),
        metrics={"val": {"error": MeanSquaredError()}},
    )
    system.seed = 3
    strategy = ModelParallelStrategy(size, 1, save_distributed_checkpoint=False) if size > 1 else "auto"
    run = trainer(folder, devices=size, strategy=strategy, max_epochs=epochs, enable_checkpointing=True)
    run.fit(system, ckpt_path=checkpoint, weights_only=True)
    return run


def main(folder, size):
    torch.set_num_threads(1)
    first = fit(folder, size, 2)
    fit(folder, size, 4, first.checkpoint_callback.best_model_path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
