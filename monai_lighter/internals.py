"""Every private name of Ignite, Lightning, MONAI and torch that this package uses: a function each, which says what for.

A leaf of the house: it imports nothing of the package, and for their types alone Ignite, which need not be installed, and
Lightning and torchmetrics, which `inspect` does without. Names that a class of the package inherits, to override or to use as its
own, are no calls that could stand here: `INHERITED` lists them.
``tests/test_internals.py`` holds both to the installed versions, and the rest of the package to this module.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from monai.bundle.config_item import ComponentLocator
from monai.bundle.reference_resolver import ReferenceResolver
from monai.data import SmartCacheDataset
from monai.inferers.utils import _get_scan_interval
from monai.metrics import Cumulative
from monai.transforms import LoadImage, LoadImaged, SaveImage, TraceableTransform
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from ignite.engine import Engine
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import WeightAveraging
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
    from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
    from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultMetric
    from torchmetrics import Metric

INHERITED = {
    "ignite.engine.Engine": {
        "_internal_run": "overridden: Ignite's loop, which must never begin where Lightning's is to run",
        "_setup_dataloader_iter": "overridden: notes the random numbers that an iterator over the data began with",
        "_fire_event": "overridden: the order of events is Ignite's, and Lightning has its turn after some of them",
        "_check_and_set_max_epochs": "the checks of Engine.run, with its own errors",
        "_check_and_set_max_iters": "the checks of Engine.run, with its own errors",
        "_get_data_length": "batches of an epoch, as Engine.run counts them",
    },
    "lightning.pytorch.LightningModule": {
        "_trainer": "whether there is a Trainer: the public property raises where there is none",
    },
    "monai.bundle.ConfigWorkflow": {
        "_run_expr": "overridden: the engines of the expressions run on Lightning",
        "_get_prop_id": "overridden: where a property of a native config stands",
        "_get_property": "overridden: what a property of a native config is",
        "_set_property": "overridden: where a property of a native config is set",
        "_is_initialized": "whether initialize() has run; a property that is set makes it run again",
    },
    "monai.data.CacheDataset": {
        "_load_cache_item": "overridden: a case that cannot be cached is left for when it is asked for",
    },
    "monai.metrics.GeneralizedDiceScore": {
        "_compute_tensor": "overridden: the values of each case, without those of classes that it does not have",
    },
    "torch.nn.Module": {
        "_apply": "overridden: what `to` does to a module; members of an ensemble that wait do not go to the device",
    },
    "monai.bundle.reference_resolver.ReferenceResolver": {
        "_resolve_one_item": "overridden: the one place that every item comes through when it is resolved",
    },
}
"""Class to the private names that classes of this package override in it, or use as their own, and what for."""


# Ignite's Engine. It has no public way to halt a run at an event and to go on from there.


def get_process_function(engine: Engine) -> Callable[[Engine, Any], Any]:
    """The function that an engine calls for each batch."""
    return engine._process_function


def set_process_function(engine: Engine, function: Callable[[Engine, Any], Any]) -> None:
    """Has an engine call another function for each batch: one that gives what Lightning's step has made."""
    engine._process_function = function


def begin_run_generator(engine: Engine) -> Generator[Any, None, Any]:
    """Ignite's generator of the run of an engine: the one that is under way, else a new one."""
    if engine._internal_run_generator is None:
        engine._internal_run_generator = engine._internal_run_as_gen()
    return engine._internal_run_generator


def get_run_generator(engine: Engine) -> Generator[Any, None, Any] | None:
    """Ignite's generator of the run that is under way, or that was interrupted; None where there is none."""
    return engine._internal_run_generator


def drop_run_generator(engine: Engine) -> None:
    """The next run of an engine begins anew: its generator has come to its end."""
    engine._internal_run_generator = None


def is_done(engine: Engine) -> bool:
    """Whether an engine has come to the epochs or iterations that its state asks for."""
    return engine._is_done(engine.state)


def get_data_iterator(engine: Engine) -> Iterator[Any] | None:
    """The iterator over the data that goes on from epoch to epoch; None before the first epoch of a run."""
    return engine._dataloader_iter


def begin_data_iterator(engine: Engine) -> None:
    """Begins a new iterator over the data of an engine: a run that goes on from a checkpoint draws its batches again."""
    engine._setup_dataloader_iter()


def get_first_batch(engine: Engine) -> int | None:
    """The batch, from 0, at which the next epoch begins; None where the engine counts it from its iteration."""
    return engine._init_iter


def set_first_batch(engine: Engine, batch: int) -> None:
    """Has the next epoch begin within itself: after a checkpoint, or at 0 after a run that was terminated."""
    engine._init_iter = batch


def get_event_handlers(engine: Engine) -> dict[Any, list[tuple[Callable, tuple, dict]]]:
    """Handlers by event, with their arguments: those of other processes are removed, the state of all is saved."""
    return engine._event_handlers


def get_registered_handler(handler: Any) -> Any:
    """The handler itself, for one that Ignite wrapped because its event has a filter (``every=…``, ``once=…``)."""
    parent = getattr(handler, "_parent", None)
    return handler if parent is None else parent()


# Lightning's loggers. Each takes the number after the last folder that is there, when it is first asked for it.


def has_version(logger: CSVLogger | TensorBoardLogger) -> bool:
    """Whether a logger's folder has its number or name: the public property would choose one."""
    return logger._version is not None


def choose_version(logger: CSVLogger | TensorBoardLogger) -> None:
    """Numbers a logger's folder, also one that has a number: others may have made folders since."""
    logger._version = logger._get_next_version()


# Lightning's signals.


def get_cluster_environment(trainer: Trainer) -> Any:
    """What a Trainer takes the cluster for that it is started by; strategies of one device have none of their own.

    Lightning decides by it whether SIGUSR1 is a word of SLURM's.
    """
    return trainer._accelerator_connector.cluster_environment


# Lightning's loops. Their hooks cannot exchange the data of a loop, nor move its end.


@contextmanager
def validation_on(trainer: Trainer, batches: Any) -> Iterator[_EvaluationLoop]:
    """Within it, the validation loop of the fit that is under way goes through ``batches``, and yields that loop.

    Lightning's own ``val_check_interval`` decides otherwise when a fit validates and on what; an engine's handler decides here.
    What the training step has logged so far is kept, as Lightning itself keeps it around a validation.
    """
    loop, connector = trainer.fit_loop.epoch_loop.val_loop, trainer._logger_connector
    source, first_loop_iter = loop._data_source.instance, connector._first_loop_iter
    loop._data_source.instance, loop._combined_loader = batches, None
    try:
        yield loop
    finally:
        loop._data_source.instance = source
        connector._first_loop_iter = first_loop_iter


def reload_train_batches(trainer: Trainer) -> None:
    """Has the fit loop ask again how many batches an epoch has: an engine's ``epoch_length`` may change between two."""
    trainer.fit_loop._combined_loader = None
    trainer.fit_loop.setup_data()


def lengthen_train_epoch(trainer: Trainer, batches: int) -> None:
    """Has the epoch that is under way go on for more batches than its loader had when it began, if that had a length.

    The fetcher asks for a batch while it is not done, and is done when it has fetched as many as it knew of.
    """
    fetcher = trainer.fit_loop._data_fetcher
    if fetcher is not None and fetcher.length is not None and fetcher.length < batches:
        trainer.fit_loop.max_batches = fetcher.length = batches
        fetcher.done = False


def find_training_batch(frame: FrameType) -> tuple[Any, int] | None:
    """The batch of a fit and its index, of the frame of Lightning's training loop on the way to an error; None for another."""
    from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop  # noqa: PLC0415  # `inspect` does without

    found = frame.f_locals if frame.f_code is _TrainingEpochLoop.advance.__code__ else {}
    return (found["batch"], found["batch_idx"]) if "batch_idx" in found else None


@contextmanager
def logged_at_last_step(trainer: Trainer) -> Iterator[None]:
    """Within it, what is logged belongs to the step just taken, not to the next: Lightning does so at the end of an epoch.

    A validator that a handler runs at the end of an epoch is before that, in ``on_train_epoch_end``.
    """
    loop = trainer.fit_loop.epoch_loop
    loop._batches_that_stepped -= 1
    try:
        yield
    finally:
        loop._batches_that_stepped += 1


# What Lightning keeps of a value that is logged. ``LightningModule.log`` copies, checks and registers each value anew, in every
# step; its own place for a value that is there already can be written to in a hundredth of that.


CURRENT_HOOK = "_current_fx_name"
"""The attribute of a LightningModule that Lightning sets before and after each hook: about 45 times a step."""


def find_result(module: LightningModule, name: str) -> _ResultMetric | None:
    """Where ``module.log`` has just put a value by step; None where it has not, or has put it elsewhere."""
    results, hook = module.trainer._results, module._current_fx_name
    if results is None:
        return None
    return results.get(f"{hook}.{name}.{results.dataloader_idx}", results.get(f"{hook}.{name}"))


def set_result(result: _ResultMetric, value: Tensor) -> None:
    """The value of this step: what ``module.log`` comes to for one that is logged by step alone and not shared by processes.

    Callbacks, progress bars and loggers read it as they read what was logged.

    Args:
        result: as `find_result` gave it, logged in this epoch.
        value: scalar, of a type of floating-point numbers that Lightning keeps (float32, float64).
    """
    result.value = result._forward_cache = value


# MONAI


def get_iteration(trainer_class: Any) -> Callable:
    """The iteration of MONAI's ``SupervisedTrainer``: only a trainer with this one is Lightning's to optimize."""
    return trainer_class._iteration


def get_items(metric: Cumulative) -> list[list[Tensor]]:
    """What a cumulative metric has gathered in this process: of each of its values a list of rows, one an item."""
    return metric._buffers or []


def set_items(metric: Cumulative, values: list[Tensor]) -> None:
    """Gives a cumulative metric the rows of all processes, ``(N, …)`` for each of its values: it aggregates these.

    It gathers no more itself, which would wait for ever for a process that has no item.
    """
    metric._synced_tensors = values  # type: ignore[assignment]
    metric._synced = True


def set_gathered(metric: Cumulative, items: list[list[Tensor]]) -> None:
    """Has a cumulative metric go on from what `get_items` gave: rows of its values, of this process."""
    metric.reset()
    metric._buffers = [[*rows] for rows in items] or None


def end_replacement(dataset: SmartCacheDataset) -> None:
    """Has ``update_cache`` wait no more for the thread that computes new items: it has failed."""
    dataset._replace_done = True


# torchmetrics


def set_update_count(metric: Metric, count: int) -> None:
    """Of how many batches a metric's states are, by which it weights means; what it computed of others is forgotten."""
    metric._update_count, metric._computed = count, None


@contextmanager
def states_shared_by(metric: Metric, gather: Callable[[Any], list[Any]]) -> Iterator[None]:
    """Within it, a metric computes from the states of the processes that have had cases.

    torchmetrics gathers state by state, each of its lists tensor by tensor: it waits for ever, or crashes, where processes have
    not equally many cases, or one has none, and it counts the states that such a process begins with.

    Args:
        metric: with all that it wraps.
        gather: gives the values of all processes for one.
    """
    parts: list[Any] = [part for part in metric.modules() if hasattr(part, "_sync_dist")]
    for part in parts:
        part._sync_dist = partial(_share_states, part, gather)
    try:
        yield
    finally:
        for part in parts:
            del part._sync_dist


def _share_states(metric: Metric, gather: Callable[[Any], list[Any]], *_: Any, **__: Any) -> None:
    """In the place of ``Metric._sync_dist``: one exchange, of all states of a metric."""
    own = {name: getattr(metric, name) for name in metric._reductions}
    sent = apply_to_collection(own, Tensor, lambda state: state.detach().cpu())
    parts = gather((metric._update_count, sent))
    held = [states for count, states in parts if count] or [states for _, states in parts]
    for name, reduce in metric._reductions.items():
        values = [states[name] for states in held]
        if isinstance(own[name], list):
            value: Any = [each for states in values for each in states]
        else:
            value = torch.stack(values)
        value = apply_to_collection(value, Tensor, lambda state: state.to(metric.device))
        is_empty = isinstance(value, list) and not value
        setattr(metric, name, value if reduce is None or is_empty else reduce(value))  # type: ignore[operator]


# MONAI's transforms


def get_image_loader(transform: LoadImaged) -> LoadImage:
    """The transform that reads the images of a dictionary transform: with its readers, whose headers are looked at."""
    return transform._loader


def get_saved_count(saver: SaveImage) -> int:
    """How many images a ``SaveImage`` has saved: the number that it gives a file of a case with no name."""
    return saver._data_index


def count_saved(saver: SaveImage) -> None:
    """Counts an image that was saved in the place of a ``SaveImage``."""
    saver._data_index += 1


def get_scan_interval(image_size: Sequence[int], roi_size: Sequence[int], overlap: Sequence[float]) -> tuple[int, ...]:
    """Steps from window to window of MONAI's sliding window, one for each axis, so that ours are where its are."""
    return _get_scan_interval(image_size, roi_size, len(roi_size), overlap)


def match_as(copied: TraceableTransform, original: TraceableTransform) -> None:
    """Has a copy of a transform invert what the original has done: MONAI knows what to invert by the object that did it."""
    copied._transforms_match = original._transforms_match  # type: ignore[method-assign]


REFERENCES: str = ReferenceResolver._vars
"""The name of the dictionary that references are looked up in where an expression is evaluated."""


def get_component_names(locator: ComponentLocator) -> dict[str, list]:
    """MONAI's short names of classes and functions, with their modules."""
    locator.get_component_module_name("")  # which makes the table
    return locator._components_table or {}


def get_average(callback: WeightAveraging) -> Any:
    """The ``AveragedModel`` of a callback of Lightning, whose ``n_averaged`` counts its updates; None before a fit."""
    return callback._average_model


# torch


def copy_loader(loader: DataLoader, dataset: Any) -> DataLoader:
    """A loader with another dataset, and everything else its own: an attribute that a ``DataLoader`` refuses to set."""
    copied = copy.copy(loader)
    copied.__dict__["dataset"] = dataset
    copied._iterator = None  # that of persistent workers, over the other dataset
    return copied


COMPILED = "_orig_mod"
"""The attribute, and so the prefix in state dicts, that a network has for what ``torch.compile`` wraps."""


def get_version(tensor: Tensor) -> int:
    """A number that grows whenever a tensor is changed in place.

    Raises:
        AttributeError, RuntimeError: it is no tensor, or one of inference mode.
    """
    return tensor._version


def get_compiled(network: nn.Module) -> Any:
    """The network that ``torch.compile`` wrapped; None for one that is not compiled."""
    return getattr(network, COMPILED, None)


# torch. Its hooks on saved tensors are public, and see nothing of what a loss or a backward pass holds for a while.


@contextmanager
def observe_results(observe: Callable[[Tensor], None]) -> Iterator[None]:
    """Calls a function with each tensor that an operation gives, those of backward too: to count the memory of a step."""

    class Observer(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            for each in result if isinstance(result, (tuple, list)) else (result,):
                if isinstance(each, Tensor):
                    observe(each)
            return result

    with Observer():
        yield
