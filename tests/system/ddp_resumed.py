"""Run by test_resuming: fits over two processes, one whole, and one from each step of it. ``python -m ddp_resumed FOLDER``."""

import json
import sys
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from monai.metrics import MAEMetric
from test_resuming import Epochs, make_system
from torchmetrics import MeanSquaredError


class Told(Epochs):
    """What the first process came to is told by a file: those that were forked are gone."""

    def on_train_end(self, trainer, module):
        if trainer.is_global_zero:
            sums = [float(each.detach().double().sum()) for each in module.parameters()]
            steps = {epoch: len(each) for epoch, each in self.steps.items()}
            Path(self.dirpath, "told.json").write_text(json.dumps([self.found, steps, sums]))


def fit(folder, resume=None):
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", devices=2, strategy="ddp_fork", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Told(folder)], default_root_dir=folder,
    )  # fmt: skip
    metrics = {"train": {"mse": MeanSquaredError(), "mae": MAEMetric()}}
    trainer.fit(make_system(metrics=metrics), ckpt_path=resume)


def main(folder):
    torch.set_num_threads(1)
    fit(folder / "whole")
    for file in sorted((folder / "whole").glob("*.ckpt")):
        fit(folder / file.stem.rpartition("=")[2], str(file))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
