"""The LightningModule of a config: model, criterion, optimizer, data, metrics, and the step that joins them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.trainer.states import RunningStage, TrainerFn
from monai.data import SmartCacheDataset
from monai.transforms import apply_transform
from torch import Tensor
from torch.nn import Module

from monai_lighter.errors.marks import mark, mark_batch, passed_through
from monai_lighter.flip_inferer import gives_label_maps
from monai_lighter.system.adapters import BatchAdapter, complete_adapters, takes_meta
from monai_lighter.system.aggregates import check_labels
from monai_lighter.system.averaging import BeforeAveraging
from monai_lighter.system.bad_cases import Skipping, check_bad_cases
from monai_lighter.system.batches import (
    Cases,
    copy_metadata,
    count_cases,
    list_identifiers,
    make_items,
    read_case_names,
    take_added,
    take_results,
)
from monai_lighter.system.case_pool import CasePool, check_workers
from monai_lighter.system.datasets import SmartCache
from monai_lighter.system.finite import FiniteLoss, note_cases
from monai_lighter.system.inference import infer, keep, list_arguments
from monai_lighter.system.logging import Record, Recorded
from monai_lighter.system.metric_inputs import find_blurred_label
from monai_lighter.system.metrics import build_metrics
from monai_lighter.system.optimizers import Optimized, read_optimizer_stats
from monai_lighter.system.outputs import Outputs
from monai_lighter.system.processes import count_own_items, share_few, take
from monai_lighter.system.profiler import FINISHING, NOTHING
from monai_lighter.system.resuming import Resumable
from monai_lighter.system.signals import StopOnSignal
from monai_lighter.system.skipping import leave_out_whole
from monai_lighter.system.spacing import Compared
from monai_lighter.system.tensors import as_list, detach, plain
from monai_lighter.system.weights import ModelWeights

__all__ = ["MODES", "System"]

MODES = ("train", "val", "test", "predict")
STAGE_MODES = {
    RunningStage.TRAINING.value: "train",
    RunningStage.VALIDATING.value: "val",
    RunningStage.SANITY_CHECKING.value: "val",
    RunningStage.TESTING.value: "test",
    RunningStage.PREDICTING.value: "predict",
}
OUTPUTS = ("identifier", "input", "target", "pred", "loss", "losses", "metrics", "step", "epoch", "notes")
"""Entries of what a step gives callbacks, which nothing that postprocessing adds takes the place of."""
COUNTERS = {"epoch": "current_epoch", "step": "global_step"}
"""Arguments of a model's ``forward`` that are filled, and the attribute of the LightningModule that fills them."""


class System(Recorded, Optimized, FiniteLoss, Resumable, Skipping):
    """Everything a run needs beside the Trainer. One step, the same in every mode (``train val test predict``)::

        input, target, identifier = adapters.batch(batch)
        pred   = inferer(input, model)  or  model(input)
        loss   = adapters.criterion(criterion, input, target, pred)      # train, val
        items  = postprocessing(decollate(batch, target, pred))          # where given
        values = adapters.metrics(metrics, input, target, pred)          # train, val, test

    Loss, postprocessing and metrics see the one target that the batch adapter gave. Follows ``lighter.System`` of Lighter
    0.0.4. Logged are, with ``MODE`` one of train, val, test:
    ``MODE/loss/step``, ``MODE/loss/epoch`` (``MODE/loss/NAME/…`` for each entry of a dictionary of losses),
    ``MODE/metrics/NAME/step`` (torchmetrics), ``MODE/metrics/NAME/epoch`` and
    ``train/optimizer/CLASS/{lr,momentum}[/groupN]``.

    Args:
        model: the network.
        dataloaders: mode to DataLoader; a list or dict of them where Lightning takes several.
        optimizer: an Optimizer, or a list or dict of several, each of which steps on the one loss.
        scheduler: a learning-rate scheduler, a Lightning ``lr_scheduler_config`` dict, or a list of either.
        criterion: loss function; gives a scalar, or a dict of scalars with the one to minimise as ``total``.
        metrics: ``train``, ``val``, ``test`` to what `Metrics` takes.
        adapters: mode to ``batch``, ``criterion``, ``metrics``, ``logging``, each a function with the signature of
            `BatchAdapter`, `CriterionAdapter`, `MetricsAdapter`, `LoggingAdapter`, which are the defaults.
        inferer: a MONAI ``Inferer`` for val, test and predict, or a dict, mode to Inferer (train included). With a
            `SlidingWindowLabelInferer` val has no loss: there is none of label maps.
        postprocessing: mode to a MONAI dictionary transform, called for each case with the keys of the batch, ``image`` and
            ``label`` (input and target of the batch adapter, which keep the keys of the batch by which they were taken) and
            ``pred``, each ``(C, H, W[, D])``; of a dict of heads, each head is a key. Metrics then see the items after it.
        labels: class, from 0, to its name (``{1: grey, 2: white}``): metrics with a value for each class are logged by it,
            as far as the last class that a metric has is the last with a name.
        on_bad_case: ``raise``, or ``skip`` for cases that cannot be read or transformed to be left out (`Skipping`).
        max_bad_cases: with ``skip``, how many of them may be left out of a run, in all its loaders. Default: 10.
        workers: threads that finish the cases of val, test and predict while the network computes the next ones (`CasePool`);
            0 for none; by default one for each core and for each 4 GiB of free memory, at most 4.

    Attributes:
        skip_existing: whether prediction leaves out cases whose outputs are whole (`leave_out_whole`); of the config.
        config_digest: of the config, as far as predictions depend on it; empty where there is none.

    Raises:
        ValueError: an unknown mode or adapter; loaders of which no bad case can be left out; labels of which two have one name;
            workers that are no number; in a step, a dictionary of losses with no ``total``.
        NonFiniteError: in a fit, the first loss that is NaN or infinite.
    """

    def __init__(
        self,
        model: Module,
        dataloaders: Mapping[str, Any] | None = None,
        optimizer: Any = None,
        scheduler: Any = None,
        criterion: Callable | None = None,
        metrics: Mapping[str, Any] | None = None,
        adapters: Mapping[str, Mapping[str, Callable]] | None = None,
        inferer: Callable | Mapping[str, Callable] | None = None,
        postprocessing: Mapping[str, Callable] | None = None,
        labels: Mapping[int, str] | None = None,
        on_bad_case: str = "raise",
        max_bad_cases: int | None = None,
        workers: int | None = None,
    ) -> None:
        super().__init__(optimizer, scheduler)
        self.skip_existing, self.config_digest = False, ""
        self.workers = check_workers(workers)
        self._pool = CasePool(0)  # until a Trainer has the one of the run
        self.model = model
        self.criterion = criterion
        self.dataloaders = _check_modes("dataloaders", dataloaders)
        self.bad_cases = check_bad_cases(on_bad_case, max_bad_cases, self.dataloaders)
        for mode in self.dataloaders:
            setattr(self, f"{mode}_dataloader", partial(self._get_dataloader, mode))
        given = _check_modes("adapters", adapters)
        self.adapters = {mode: complete_adapters(f"system::adapters::{mode}", given.get(mode)) for mode in MODES}
        inferers = inferer if isinstance(inferer, Mapping) else dict.fromkeys(MODES[1:], inferer)
        self.inferer = _check_modes("inferer", inferers)
        self._validates_labels = gives_label_maps(self.inferer.get("val"))
        self.postprocessing = _check_modes("postprocessing", postprocessing)
        self.labels = check_labels(labels)
        self.metrics = build_metrics(MODES[:-1], _check_modes("metrics", metrics), self.labels)
        self.records = {mode: Record(mode, metrics) for mode, metrics in self.metrics.items()}
        for mode, record in self.records.items():
            self.add_module(f"{mode}_record", record)
        self._takes_meta = {
            (mode, name)
            for mode, own in self.adapters.items()
            for name in ("criterion", "metrics")
            if takes_meta(own[name])
        }
        self._forward_accepts = COUNTERS.keys() & list_arguments(model)

    def _get_dataloader(self, mode: str) -> Any:
        loaders = self.dataloaders[mode]
        if mode == "predict" and self.skip_existing:
            loaders = leave_out_whole(self, loaders)
        loaders = self.skip_bad_cases(mode, loaders)
        if mode == "predict":
            return share_few(loaders, self.trainer)
        return self.begin_training_data(loaders) if mode == "train" else loaders

    @property
    def mode(self) -> str:
        """``train``, ``val``, ``test`` or ``predict``, from the Trainer's state; empty outside of a run."""
        stage = None if self._trainer is None else self._trainer.state.stage
        return STAGE_MODES[stage.value] if stage else ""

    @mode.setter
    def mode(self, mode: str) -> None:
        """As steps of classes derived from Lighter 0.0.4's System set it; it can be no other than it is.

        Raises:
            ValueError: another mode than that of the run.
        """
        if mode != self.mode:
            raise ValueError(f"mode is {self.mode!r}, from the Trainer's state, and cannot be set to {mode!r}.")

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.optimize(self._run_step(batch, batch_idx))

    training_step.__signature__ = inspect.signature(training_step)  # type: ignore[attr-defined]  # Lightning asks in every step

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any] | None:
        batch = self._take_own_items(batch, batch_idx, dataloader_idx)
        return None if batch is None else self._run_step(batch, batch_idx, dataloader_idx)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any] | None:
        batch = self._take_own_items(batch, batch_idx, dataloader_idx)
        return None if batch is None else self._run_step(batch, batch_idx, dataloader_idx)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any] | None:
        return None if self.has_none_left else self._run_step(batch, batch_idx, dataloader_idx)

    def _run_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """`_step`, whose errors know their batch; that of a case before it comes first."""
        try:
            return self._step(batch, batch_idx, dataloader_idx)
        except Exception as error:
            mark_batch(error, batch, self._place(batch_idx))
            self._pool.drain()
            raise

    def _place(self, batch_idx: int) -> str:
        return f"{self.mode} batch {batch_idx + 1}"

    def _step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """One step of any mode. Gives callbacks a dict: ``identifier input target pred loss losses metrics step epoch notes``,
        and the keys that postprocessing adds to the items, each with a value for each case.

        ``notes`` is None, or has a text for each item, which says where its input or prediction is not finite.
        """
        mode = self.mode
        source, given, identifier = self._read_batch(mode, batch)
        input, target = plain(source), plain(given)
        if mode != "train" or self.current_epoch == 0:
            self._check_labels(mode, given)
        pooled = mode != "train" and self._pool.begin(self, mode, read_case_names(source, batch))
        pred = self.forward(source)
        losses = self._losses(mode, input, target, pred, Compared(source, given, None))
        total, losses = losses.get("total"), {name: loss.detach() for name, loss in losses.items()}
        if identifier is None and not isinstance(self.adapters[mode]["batch"], BatchAdapter):
            identifier = read_case_names(source, batch)
        if identifier is None and mode != "train":
            identifier = self.number_cases(mode, count_cases(input), batch_idx, dataloader_idx)
        if mode == "train" and total is not None:
            self.watch_loss(total, batch, {"input": input, "target": target}, batch_idx)
        notes = None if mode == "train" else note_cases(mode, batch, identifier, source, pred)
        outputs = {
            "identifier": identifier,
            **dict.fromkeys(("input", "target", "pred")),
            "loss": total,
            "losses": losses,
            "metrics": {},
            "step": self.global_step,
            "epoch": self.current_epoch,
            "notes": notes,
        }
        if pooled:
            pred = keep(self.inferer.get(mode), pred)
            self._log(mode, losses, {}, count_cases(input), batch_idx, dataloader_idx)
            return self._pool.submit(
                outputs,
                partial(self._postprocess, mode, batch, source, given, identifier, pred),
                partial(self._complete, mode, input, source, dataloader_idx),
                batch,
                self._place(batch_idx),
            )
        transform = self.postprocessing.get(mode)
        with NOTHING if mode == "train" else self.trainer.profiler.profile(FINISHING):  # type: ignore[attr-defined]
            finished = self._postprocess(mode, batch, source, given, identifier, pred, transform)
            outputs |= self._complete(mode, input, source, dataloader_idx, *finished)
        self._log(mode, losses, outputs["metrics"], count_cases(input), batch_idx, dataloader_idx)
        return outputs

    def _read_batch(self, mode: str, batch: Any) -> tuple[Any, Any, Any]:
        """Input, target and identifiers of a batch, as the batch adapter gives them."""
        try:
            source, given, identifier = self.adapters[mode]["batch"](batch)
            return source, given, identifier if mode == "train" else list_identifiers(identifier, source)
        except Exception as error:
            mark(error, f"system::adapters::{mode}::batch")
            raise

    def _complete(
        self,
        mode: str,
        input: Any,
        source: Any,
        dataloader_idx: int,
        pred: Any,
        target: Any,
        compared: Compared,
        added: dict[str, Cases],
    ) -> dict[str, Any]:
        """What callbacks see of a batch that has been postprocessed, once the metrics know it."""
        values = self._update_metrics(mode, input, target, pred, compared, dataloader_idx)
        try:
            input, target, pred = self.adapters[mode]["logging"](source, target, pred)
        except Exception as error:
            mark(error, f"system::adapters::{mode}::logging", input=source, target=target, pred=pred)
            raise
        return {**added, "input": input, "target": target, "pred": pred, "metrics": values}

    def _check_labels(self, mode: str, target: Any) -> None:
        wrong = find_blurred_label(target)
        if wrong:
            error = ValueError(wrong)
            mark(error, f"system::dataloaders::{mode}", target=target)
            raise error

    def _take_own_items(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Any:
        """The batch without items that another process evaluates too; None where nothing is left of it."""
        if self.has_none_left:
            return None
        if self.trainer.world_size == 1:
            return batch
        counts = count_own_items(self.list_loaders(self.mode)[dataloader_idx], batch_idx)
        if counts is None:
            return batch
        if self.positions is not None:
            counts = sum(each < counts[0] for each in self.positions), len(self.positions)
        if not counts[0] and isinstance(self.trainer.strategy, (FSDPStrategy, ModelParallelStrategy)):
            # the processes exchange weights in it: all wait for all
            self.forward(self.adapters[self.mode]["batch"](batch)[0])
        return take(batch, *counts) if counts[0] else None

    def forward(self, input: Any) -> Any:
        """Prediction for an input ``(B, C, H, W[, D])``, through the mode's inferer; outside of a run, of the model alone.

        A model whose ``forward`` takes ``epoch`` or ``step`` is given the current ones.
        """
        kwargs = {name: getattr(self, COUNTERS[name]) for name in self._forward_accepts}
        inferer = self.inferer.get(self.mode)
        try:
            return infer(inferer, input, self.model, **kwargs)
        except Exception as error:
            in_model = inferer is None or passed_through(error, self.model)
            mark(error, "system::model" if in_model else "system::inferer", input=input)
            raise

    def _adapter(self, mode: str, name: str, compared: Compared) -> Callable:
        """An adapter of a mode; one that has an argument ``meta`` is given the metadata of the cases."""
        adapter = self.adapters[mode][name]
        return partial(adapter, meta=compared.meta) if (mode, name) in self._takes_meta else adapter

    def _losses(self, mode: str, input: Any, target: Any, pred: Any, compared: Compared) -> dict[str, Tensor]:
        if mode not in ("train", "val") or (mode == "val" and (self.criterion is None or self._validates_labels)):
            return {}
        if self.criterion is None:
            raise ValueError("system::criterion: must be given to fit, got None.")
        adapter = self._adapter(mode, "criterion", compared)
        try:
            loss = plain(adapter(self.criterion, input, target, pred))
        except Exception as error:
            mark(error, "system::criterion", input=input, target=target, pred=pred)
            raise
        if isinstance(loss, Tensor):
            return {"total": loss}
        if "total" not in loss:
            raise ValueError(f"system::criterion: a dictionary of losses must have the key 'total', got {list(loss)}.")
        return {name: torch.as_tensor(value) for name, value in loss.items()}

    def _postprocess(
        self, mode: str, batch: Any, source: Any, given: Any, identifier: Any, pred: Any, transform: Callable | None
    ) -> tuple[Any, Any, Compared, dict[str, Cases]]:
        """Prediction and target as metrics and callbacks see them: detached, and as `Cases` where a transform is given, and what
        it has added."""
        pred = detach(pred)
        if mode != "train":
            pred = copy_metadata(pred, source, batch)
        if transform is None:
            return pred, plain(given), Compared(source, given, pred), {}
        adapter = self.adapters[mode]["batch"]
        try:
            items: list[Any] = make_items(batch, adapter, source, given, identifier, pred)
            known = {*items[0]} if items else set()
            items = [apply_transform(transform, item) for item in items]
        except Exception as error:
            mark(error, f"system::postprocessing::{mode}", input=source, target=given, pred=pred)
            raise
        heads = tuple(pred) if isinstance(pred, Mapping) else ()
        pred, target = take_results(items, adapter, given)
        return pred, target, Compared(source, target, pred, heads), take_added(items, {*known, *OUTPUTS})

    def _update_metrics(
        self, mode: str, input: Any, target: Any, pred: Any, compared: Compared, dataloader_idx: int
    ) -> dict[str, Any]:
        if mode not in self.records:
            return {}
        metrics, _ = self.records[mode].select_loader(dataloader_idx)
        adapter = self._adapter(mode, "metrics", compared)
        try:
            return metrics.update(adapter, input, target, pred, compared)
        except Exception as error:
            mark(error, f"system::metrics::{mode}", input=input, target=target, pred=pred)
            raise

    def _log(
        self,
        mode: str,
        losses: dict[str, Tensor],
        values: dict[str, Any],
        count: int,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        if mode in self.records:
            loader = self.name_loaders(mode)[dataloader_idx] if mode != "train" else ""
            self.records[mode].log_step(self, losses, values, count, dataloader_idx, loader)
        if mode == "train" and batch_idx == 0:
            self.records[mode].log_once(self, read_optimizer_stats(as_list(self.optimizer)))

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._pool.end_step(self.trainer, batch_idx, dataloader_idx)
        super().on_validation_batch_end(outputs, batch, batch_idx, dataloader_idx)

    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._pool.end_step(self.trainer, batch_idx, dataloader_idx)
        super().on_test_batch_end(outputs, batch, batch_idx, dataloader_idx)

    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._pool.end_step(self.trainer, batch_idx, dataloader_idx)

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        self.step_schedulers("epoch")
        self.step_plateaus()

    def configure_callbacks(self) -> list[Callback]:
        """Finishes cases in threads (`CasePool`); keeps files apart (`Outputs`); of a fit the best weights (`ModelWeights`),
        unless the Trainer already does or keeps no checkpoints; replaces the items of a ``SmartCacheDataset`` (`SmartCache`);
        watches over averages (`BeforeAveraging`)."""
        trainer = self.trainer
        self._pool = CasePool(self.workers)
        # in this order: files are kept apart until the last one is written
        callbacks: list[Callback] = [self._pool, Outputs()]
        if trainer.state.fn != TrainerFn.FITTING:
            return callbacks
        datasets = [getattr(loader, "dataset", None) for loader in as_list(self.dataloaders.get("train"))]
        callbacks += [SmartCache(each) for each in datasets if isinstance(each, SmartCacheDataset)]
        averages = any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks)  # type: ignore[attr-defined]
        callbacks += [BeforeAveraging()] if averages else []
        kept = any(isinstance(callback, ModelWeights) for callback in trainer.callbacks)  # type: ignore[attr-defined]
        keeps = any(not isinstance(callback, StopOnSignal) for callback in trainer.checkpoint_callbacks)
        return [*callbacks, ModelWeights()] if keeps and not kept else callbacks


def _check_modes(name: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    for mode in given or ():
        if mode not in MODES:
            raise ValueError(f"system::{name}: must have the keys {', '.join(MODES)}, got {mode!r}.")
    return {mode: value for mode, value in (given or {}).items() if value is not None}
