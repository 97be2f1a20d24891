"""Tiny data, models and a Trainer that the tests of `System` and its parts share."""

import logging

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from monai.data import DataLoader
from torch import nn

from monai_lighter import System

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


def items(count, classes=2, seed=0):
    """Images ``(1, 8, 8)`` with label maps ``(1, 8, 8)`` of ``classes`` classes, as dictionaries."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "image": torch.rand(1, 8, 8, generator=generator),
            "label": torch.randint(0, classes, (1, 8, 8), generator=generator),
        }
        for _ in range(count)
    ]


def pairs(count, seed=0):
    """Vectors ``(4,)`` with one of three classes, as tuples."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.rand(4, generator=generator), int(torch.randint(0, 3, (), generator=generator))) for _ in range(count)
    ]


def loader(data, batch_size=2, **kwargs):
    return DataLoader(data, batch_size=batch_size, **kwargs)


def classifier(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(4, 3)


def classification(train=6, val=5, *, model=None, optimizer=None, **kwargs):
    """A `System` that classifies `pairs`."""
    model = classifier() if model is None else model
    return System(
        model=model,
        optimizer=optimizer or torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        criterion=kwargs.pop("criterion", nn.CrossEntropyLoss()),
        dataloaders=kwargs.pop("dataloaders", {"train": loader(pairs(train)), "val": loader(pairs(val, seed=1))}),
        **kwargs,
    )


def trainer(path, **kwargs):
    """A quiet Trainer of one epoch on the CPU."""
    defaults = {
        "default_root_dir": path,
        "max_epochs": 1,
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    return Trainer(**{**defaults, **kwargs})


class Memory(Logger):
    """Keeps what is logged."""

    name = "memory"
    version = "0"

    def __init__(self):
        super().__init__()
        self.logged = []

    def log_metrics(self, metrics, step=None):
        self.logged.append(metrics)

    def log_hyperparams(self, params, *args, **kwargs):
        pass

    @property
    def keys(self):
        return {key for metrics in self.logged for key in metrics} - {"epoch"}

    def values(self, key):
        return [metrics[key] for metrics in self.logged if key in metrics]


class Steps(Callback):
    """Keeps what callbacks, progress bars and loggers find after each step."""

    def __init__(self):
        self.found = []

    def note(self, trainer, *_):
        metrics = (trainer.callback_metrics, trainer.progress_bar_metrics, trainer.logged_metrics)
        self.found.append([{name: float(value) for name, value in each.items()} for each in metrics])

    on_train_batch_end = on_train_epoch_end = on_train_end = note
    on_validation_batch_end = on_validation_end = on_test_batch_end = on_test_end = note


class Logged(LightningModule):
    """What `classification` logs, by ``self.log``: with two batches of validation, and a metric of the step in all modes."""

    def __init__(self, loaders):
        super().__init__()
        self.model, self.loaders = classifier(), loaders
        for mode in ("train", "val"):
            setattr(self, f"{mode}_dataloader", lambda mode=mode: loaders[mode])

    def configure_optimizers(self):
        return torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)

    def log_step(self, mode, batch, batch_idx):
        input, target = batch
        pred = self.model(input)
        loss = nn.functional.cross_entropy(pred, target)
        how = {"on_step": True, "on_epoch": False}
        self.log(f"{mode}/loss/step", loss, prog_bar=mode == "train", **how)
        self.log(f"{mode}/metrics/right/step", (pred.argmax(1) == target).float().mean(), **how)
        count = {"batch_size": len(target), "on_step": False, "on_epoch": True, "sync_dist": True}
        self.log(f"{mode}/loss/epoch", loss, prog_bar=True, **count)
        self.log(f"{mode}/metrics/right/epoch", (pred.argmax(1) == target).float().mean(), prog_bar=True, **count)
        if mode == "train" and batch_idx == 0:
            self.log("train/optimizer/SGD/lr", 0.1, on_step=False, on_epoch=True)
            self.log("train/optimizer/SGD/momentum", 0.9, on_step=False, on_epoch=True)
        return loss

    def training_step(self, batch, batch_idx):
        return self.log_step("train", batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.log_step("val", batch, batch_idx)


class Outputs(Callback):
    """Keeps what steps return."""

    def __init__(self):
        self.of = {"train": [], "val": [], "test": [], "predict": []}

    def on_train_batch_end(self, trainer, module, outputs, *args):
        self.of["train"].append(outputs)

    def on_validation_batch_end(self, trainer, module, outputs, *args):
        self.of["val"].append(outputs)

    def on_test_batch_end(self, trainer, module, outputs, *args):
        self.of["test"].append(outputs)

    def on_predict_batch_end(self, trainer, module, outputs, *args):
        self.of["predict"].append(outputs)


class Shared(Logger):
    """As W&B's: ``save_dir`` is that of all runs, and there is no ``log_dir``."""

    name, version = "project", "7"
    save_dir = None

    def __init__(self, save_dir):
        super().__init__()
        self.save_dir = save_dir

    def log_hyperparams(self, params, *arguments, **keywords):
        pass

    def log_metrics(self, metrics, step=None):
        pass
