"""Fits of engines that keep a checkpoint and go on from it, where a config says ``resume``."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import torch.distributed as dist
from ignite.engine import Engine
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from monai.bundle.utils import ID_SEP_KEY
from torch.utils.data import DataLoader

from monai_lighter.callbacks.trial_record import make_trial_record
from monai_lighter.engines.trainer import CHECKPOINT
from monai_lighter.errors import ConfigError, Finding
from monai_lighter.system.checkpoints import LAST, LastCheckpoint
from monai_lighter.system.signals import StopOnSignal
from monai_lighter.system.tensors import as_list

__all__ = ["Resumption", "StopEngineOnSignal", "add_resumption", "get_made_with", "resuming"]


logger = logging.getLogger(__name__)


class Resumption(NamedTuple):
    """How the fits of a config's engines are kept and gone on with.

    Attributes:
        folder: of the bundle.
        choose: gives, of checkpoints that are there, the one to go on from; None to begin anew.
        made_with: what a checkpoint says of its config, in plain values.
    """

    folder: Path
    choose: Callable[[Iterable[Path]], str | None]
    made_with: Callable[[], dict[str, Any]]


RESUMPTION: ContextVar[Resumption | None] = ContextVar("resumption", default=None)
"""That of the config which runs in this thread; None where it has no ``resume``."""


@contextmanager
def resuming(resumption: Resumption | None) -> Iterator[None]:
    """Within it, in this thread, fits of engines are kept and gone on with."""
    token = RESUMPTION.set(resumption)
    try:
        yield
    finally:
        RESUMPTION.reset(token)


def get_made_with() -> dict[str, Any]:
    """What a checkpoint of a fit that is under way says of its config; empty without ``resume``."""
    resumption = RESUMPTION.get()
    return resumption.made_with() if resumption is not None else {}


def _find_reason_against_exactness(loader: Any) -> str | None:
    """Why a loader may draw other numbers after the end of an epoch where it is begun anew; None where it does not."""
    if getattr(loader, "persistent_workers", False):
        return "its loader has persistent_workers, which hold where their random numbers stand"
    if isinstance(loader, DataLoader) and type(loader).__iter__ is not DataLoader.__iter__:
        return f"a {type(loader).__name__} makes its batches in a way of its own"
    return None


class StopEngineOnSignal(StopOnSignal):
    """Ends a fit of an engine after the step in which SIGTERM or SIGINT came, or after the validation that a handler runs.

    It is gone on with from the end of its last epoch. A checkpoint within an epoch would not be exact: metrics of Ignite and
    what handlers have gathered begin anew, and batches would have to be drawn again.
    """

    def _save(self, trainer: Trainer) -> None:
        return None

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """The epoch that it is the end of is saved first."""


def add_resumption(engine: Engine, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of a trainer that is about to run: as given, and where it keeps a checkpoint, stops at a signal and goes on from.

    With ``resume`` in the config a checkpoint is written at the end of each epoch, to
    ``lightning_logs/ID/version_N/checkpoints/last.ckpt`` in the bundle; ``ID`` is the engine's config id, or its class. The fit
    begins at the newest one of the engine. An engine that has run before in this process goes on from where it is. Where the
    user has set a checkpoint callback of Lightning, signals end the fit after a step, too.

    Raises:
        ConfigError: as of `Resumption.choose`; the bundle has begun processes of its own.
    """
    callbacks = [*as_list(keywords.get("callbacks")), *make_trial_record()]
    resumption = RESUMPTION.get()
    if resumption is None:
        saves = any(isinstance(each, ModelCheckpoint) for each in callbacks)
        return {**keywords, **({"callbacks": [*callbacks, StopEngineOnSignal()]} if saves else {})}
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        problem = (
            f"the bundle has begun {dist.get_world_size()} processes itself, of which each would be a fit of its own"
        )
        raise ConfigError(
            [Finding("resume", problem, "Leave it out, or have Lightning begin them (lightning::devices).")]
        )
    name = str(getattr(engine, "config_id", type(engine).__name__)).replace(ID_SEP_KEY, ".")
    reason = _find_reason_against_exactness(getattr(engine, "data_loader", None))
    if reason is not None:
        logger.info(f"{name}: a fit that is resumed may draw other random numbers: {reason}.")
    logs = resumption.folder / "lightning_logs" / name
    found = [*logs.glob(f"version_*/checkpoints/{LAST}")]
    place = None if vars(engine).get("has_resumed") or keywords.get(CHECKPOINT) else resumption.choose(found)
    vars(engine)["has_resumed"] = True
    versions = [int(each.name.partition("_")[2]) for each in logs.glob("version_*") if each.name[8:].isdigit()]
    folder = logs / f"version_{max(versions, default=-1) + 1}" / "checkpoints"
    added = [LastCheckpoint(math.inf, folder), StopEngineOnSignal()]
    return {**keywords, "callbacks": [*added, *callbacks], **({CHECKPOINT: place} if place else {})}
