"""A LightningModule whose steps are written and whose parts are configured, and a LightningDataModule of loaders.

`System` is the one whose step is written here. These two follow Lighter 0.1.0, whose configs have them as ``model`` and ``data``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.trainer.states import RunningStage
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.nn import Module
from torchmetrics import Metric, MetricCollection

from monai_lighter.system.optimizers import read_optimizer_stats

__all__ = ["LighterDataModule", "LighterModule"]

STAGE_NAMES = {
    RunningStage.TRAINING: "train",
    RunningStage.VALIDATING: "val",
    RunningStage.SANITY_CHECKING: "val",
    RunningStage.TESTING: "test",
    RunningStage.PREDICTING: "predict",
}


class LighterModule(LightningModule):
    """Derive from it, write the steps that a run needs, and leave the parts to the config.

    Follows ``lighter.LighterModule`` 0.1.0. A step gives its loss, or a dict with the key ``loss``: a scalar, or, in validation
    and test, a dict of scalars with the one that counts as ``total``. It calls the metrics itself. Logged are, with ``MODE``
    one of train, val, test: ``MODE/loss/step``, ``MODE/loss/epoch`` (the mean over all cases; ``MODE/loss/NAME/…`` for a dict),
    ``MODE/metrics/NAME/step``, ``MODE/metrics/NAME/epoch`` and ``train/optimizer/CLASS/{lr,momentum}[/groupN]/epoch``, with or
    without a logger.

    Args:
        network: what ``forward`` calls.
        criterion: for the steps.
        optimizer: of the parameters of ``network``.
        scheduler: a learning-rate scheduler, or a Lightning ``lr_scheduler_config`` dict.
        train_metrics, val_metrics, test_metrics: of torchmetrics, one or a collection, for the steps.

    Raises:
        TypeError: metrics that are neither.
        NotImplementedError: in a run, a step that the class does not have.
    """

    def __init__(
        self,
        network: Module,
        criterion: Callable | None = None,
        optimizer: Any = None,
        scheduler: Any = None,
        train_metrics: Metric | MetricCollection | None = None,
        val_metrics: Metric | MetricCollection | None = None,
        test_metrics: Metric | MetricCollection | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.criterion = criterion
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.train_metrics = _check_metrics("train_metrics", train_metrics)
        self.val_metrics = _check_metrics("val_metrics", val_metrics)
        self.test_metrics = _check_metrics("test_metrics", test_metrics)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network gives."""
        return self.network(*args, **kwargs)

    @property
    def mode(self) -> str:
        """``train``, ``val``, ``test`` or ``predict``.

        Raises:
            RuntimeError: outside of a run.
        """
        stage = None if self._trainer is None else self._trainer.state.stage
        if stage is None:
            raise RuntimeError(f"{type(self).__name__} has a mode in a run alone.")
        return STAGE_NAMES[stage]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self._lacks("training_step", "fit")

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self._lacks("validation_step", "validate, or to fit with data of validation")

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        self._lacks("test_step", "test")

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        self._lacks("predict_step", "predict")

    def _lacks(self, step: str, use: str) -> NoReturn:
        raise NotImplementedError(f"model: {type(self).__name__} must have a {step}(batch, batch_idx) to {use}.")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._log_step(outputs, batch, scale=self.trainer.accumulate_grad_batches if self.automatic_optimization else 1)
        if batch_idx == 0 and isinstance(self.optimizer, torch.optim.Optimizer):
            for name, value in read_optimizer_stats([self.optimizer]).items():
                self.log(f"train/{name}/epoch", float(value), on_step=False, on_epoch=True, batch_size=1)

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._log_step(outputs, batch)

    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._log_step(outputs, batch)

    def _log_step(self, outputs: Any, batch: Any, scale: int = 1) -> None:
        """Logs the loss and the metrics of a step.

        Args:
            scale: what Lightning has divided the loss by, to accumulate gradients.
        """
        for name, loss in _read_losses(outputs):
            value = loss.detach() * scale
            self._log_both(f"{self.mode}/loss{name}", value, batch, prog_bar=not name)
        metrics = getattr(self, f"{self.mode}_metrics")
        if isinstance(metrics, MetricCollection):
            named = list(metrics.items())
        else:
            named = [] if metrics is None else [(type(metrics).__name__, metrics)]
        for name, metric in named:
            self._log_both(f"{self.mode}/metrics/{name}", metric, batch)

    def _log_both(self, name: str, value: Any, batch: Any, prog_bar: bool = False) -> None:
        cases = _count_cases(batch)
        self.log(f"{name}/step", value, on_step=True, on_epoch=False, batch_size=cases, prog_bar=prog_bar)
        self.log(f"{name}/epoch", value, on_step=False, on_epoch=True, batch_size=cases, sync_dist=True)

    def configure_optimizers(self) -> Any:
        if self.optimizer is None:
            raise ValueError("model::optimizer: must be given to fit, got None.")
        if self.scheduler is None:
            return self.optimizer
        return {"optimizer": self.optimizer, "lr_scheduler": self.scheduler}


def _check_metrics(name: str, metrics: Any) -> Any:
    if metrics is not None and not isinstance(metrics, (Metric, MetricCollection)):
        raise TypeError(
            f"{name} must be a torchmetrics Metric or MetricCollection, got {type(metrics).__name__}. Of several, make one: "
            "{_target_: torchmetrics.MetricCollection, metrics: […]}."
        )
    return metrics


def _count_cases(batch: Any) -> int:
    """Number of cases in a batch: rows of its first tensor, as Lightning counts them; of a list of dicts, its length."""
    if isinstance(batch, list) and batch and all(isinstance(case, Mapping) for case in batch):
        return len(batch)
    rows: list[int] = []
    apply_to_collection(batch, Tensor, lambda tensor: rows.extend(tensor.shape[:1]))
    return rows[0] if rows else 1


def _read_losses(outputs: Any) -> Iterator[tuple[str, Tensor]]:
    """What stands after ``loss`` in the name, and the value, of each loss that a step gave."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    if isinstance(loss, Mapping):
        if "total" not in loss:
            raise ValueError(f"model: a dictionary of losses must have the key 'total', got {list(loss)}.")
        yield from ((f"/{name}", torch.as_tensor(value)) for name, value in loss.items())
    elif isinstance(loss, (Tensor, float)):
        yield "", torch.as_tensor(loss)


class LighterDataModule(LightningDataModule):
    """DataLoaders, as a config gives them. Follows ``lighter.LighterDataModule`` 0.1.0.

    Args:
        train_dataloader, val_dataloader, test_dataloader, predict_dataloader: a DataLoader, or what else Lightning takes
            (several in a list or dict).
    """

    def __init__(
        self,
        train_dataloader: Any = None,
        val_dataloader: Any = None,
        test_dataloader: Any = None,
        predict_dataloader: Any = None,
    ) -> None:
        super().__init__()
        self._loaders = {
            "train": train_dataloader,
            "val": val_dataloader,
            "test": test_dataloader,
            "predict": predict_dataloader,
        }

    def train_dataloader(self) -> Any:
        return self._loaders["train"]

    def val_dataloader(self) -> Any:
        return self._loaders["val"] if self._loaders["val"] is not None else []

    def test_dataloader(self) -> Any:
        return self._loaders["test"]

    def predict_dataloader(self) -> Any:
        return self._loaders["predict"]
