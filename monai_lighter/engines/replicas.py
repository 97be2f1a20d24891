"""An engine as one of several processes that Lightning started (``lightning::devices``).

A bundle's own ``multi_gpu_train`` config does the same by hand: each process sees its share of the data, and the handlers that
only write are those of the first.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from lightning.pytorch.strategies import Strategy
from monai.data import DistributedSampler
from monai.engines import Evaluator
from monai.handlers import LogfileHandler, MLFlowHandler, StatsHandler, TensorBoardHandler
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler as TorchDistributedSampler

from monai_lighter.errors import ConfigError, Finding
from monai_lighter.internals import get_event_handlers, get_registered_handler

__all__ = ["find_handler_owners", "join", "refuse_processes"]

WRITERS = (StatsHandler, TensorBoardHandler, MLFlowHandler, LogfileHandler)
"""Handlers that write from every process they are attached in; the others (``CheckpointSaver``, …) know their rank."""


def join(engine: Engine, strategy: Strategy) -> None:
    """Makes an engine one of the processes of a strategy; does nothing where it is the only one.

    Its ``data_loader`` becomes this process's share, its ``epoch_length`` the number of batches in it, ``state.device`` and
    ``state.rank`` those of the process.

    Args:
        engine: before its first event.
        strategy: whose processes have been connected.
    """
    world_size: int = getattr(strategy, "world_size", 1)
    if world_size == 1:
        return
    idist.sync()
    rank: int = getattr(strategy, "global_rank", 0)
    state: Any = engine.state
    state.rank, state.device = rank, strategy.root_device
    if rank > 0:
        _remove_writers(engine)
    full = state.dataloader
    loader = _share_loader(full, rank, world_size, train=not isinstance(engine, Evaluator))
    if loader is full:
        return
    if state.epoch_length == len(full):
        state.epoch_length = len(loader)
    state.dataloader = loader
    if hasattr(engine, "data_loader"):
        engine.data_loader = loader
    sampler = loader.sampler
    if hasattr(sampler, "set_epoch"):
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: sampler.set_epoch(state.epoch))


def refuse_processes(engine: Engine, world_size: int) -> None:
    """Refuses several processes for an engine with its own iteration, whose gradients cannot be averaged from outside.

    Args:
        engine: that steps its optimizers itself.
        world_size: how many processes its Trainer has.

    Raises:
        ConfigError: more than one process.
    """
    if world_size > 1:
        raise ConfigError(
            [
                Finding(
                    "lightning::devices",
                    f"must be 1 for {type(engine).__name__}, which has its own iteration, got {world_size} processes",
                    "Wrap its networks in DistributedDataParallel in the config, and run that with torchrun.",
                )
            ]
        )


def _share_loader(loader: Any, rank: int, world_size: int, train: bool) -> Any:
    """A copy of a loader whose sampler deals out one process's items; the loader itself where it is shared already, or endless.

    The loader is not built again: MONAI's draws a random number when it is.
    """
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return loader
    sampler = loader.sampler
    if isinstance(sampler, TorchDistributedSampler) or type(loader.batch_sampler) not in (BatchSampler, type(None)):
        return loader
    own: Any
    if isinstance(sampler, (RandomSampler, SequentialSampler)):
        shuffle = isinstance(sampler, RandomSampler)
        own = DistributedSampler(
            loader.dataset, even_divisible=train, num_replicas=world_size, rank=rank, shuffle=shuffle
        )
    else:
        own = DistributedSamplerWrapper(sampler, num_replicas=world_size, rank=rank, shuffle=False)
    share = copy.copy(loader)
    vars(share)["sampler"] = own
    if loader.batch_sampler is not None:
        vars(share)["batch_sampler"] = BatchSampler(own, loader.batch_size or 1, loader.drop_last)
    return share


def _remove_writers(engine: Engine) -> None:
    by_event = get_event_handlers(engine)
    for event, handlers in by_event.items():
        by_event[event] = [entry for entry in handlers if not isinstance(_find_owner(entry[0]), WRITERS)]


def find_handler_owners(engine: Engine) -> list[Any]:
    """The objects whose methods, or which themselves, are an engine's event handlers, in their order, each once."""
    owners = [
        _find_owner(handler) for handlers in list(get_event_handlers(engine).values()) for handler, *_ in handlers
    ]
    return list({id(owner): owner for owner in owners if owner is not None}.values())


def _find_owner(handler: Any) -> Any:
    """The object whose method, or which itself, an event handler is."""
    handler = get_registered_handler(handler)
    while isinstance(handler, functools.partial):
        handler = handler.func
    return getattr(handler, "__self__", handler)
