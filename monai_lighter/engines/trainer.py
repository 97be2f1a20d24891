"""Keywords of Lightning's Trainer for engines: what they say themselves, and the config's ``lightning`` section over it."""

from __future__ import annotations

import inspect
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import monai.engines
import torch
import torch.distributed as dist
from ignite.engine import Engine
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.plugins.environments import ClusterEnvironment, LightningEnvironment
from lightning.pytorch.strategies import SingleDeviceStrategy
from monai.bundle.config_item import ConfigComponent
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.callbacks.progress_bar import ProgressBar
from monai_lighter.errors import ComponentError, ConfigError, Finding, did_you_mean, in_short
from monai_lighter.system.checkpoints import SafeCheckpointIO
from monai_lighter.system.profiler import PassThroughProfiler
from monai_lighter.system.signals import StopOnSignal
from monai_lighter.system.tensors import as_list

__all__ = [
    "CHECKPOINT",
    "QUIET",
    "EnginePrecision",
    "InPlaceStrategy",
    "check_keywords",
    "collect_keywords",
    "decide_epochs",
    "has_section",
    "lightning_section",
    "make_trainer",
]

CHECKPOINT = "ckpt_path"
"""The one key of the section that is no keyword of the Trainer: a Lightning checkpoint that trainers go on from."""

KEYWORDS = frozenset(inspect.signature(Trainer).parameters)
ENDLESS = 2**31
"""Epochs of an engine whose ``max_epochs`` is -1."""

PLACEMENT = ("accelerator", "devices", "num_nodes", "strategy")
Section = Callable[[], Mapping[str, Any]]
SECTION: ContextVar[Section | None] = ContextVar("lightning_section", default=None)
"""The section for engines that no config item is. A variable of the context: each thread has its own."""


QUIET: ContextVar[bool] = ContextVar("quiet", default=False)
"""Whether a Trainer shows no progress of its own accord."""


@contextmanager
def lightning_section(section: Section) -> Iterator[None]:
    """Within it, in this thread, every Trainer is made with these keywords.

    Args:
        section: gives keywords of ``lightning.pytorch.Trainer``. A mapping under the config id of an engine, in one key or
            nested, holds keywords for that engine alone. Called when the first engine runs, not before.
    """
    token = SECTION.set(section)
    try:
        yield
    finally:
        SECTION.reset(token)


def has_section() -> bool:
    """Whether this thread is within a `lightning_section`."""
    return SECTION.get() is not None


def collect_keywords(engine: Engine) -> dict[str, Any]:
    """Keywords for an engine: its own ``lightning``, over them those of the section for all, and those under its config id.

    Raises:
        ConfigError: a key that is neither a keyword nor on the way to an engine.
    """
    section = getattr(engine, "lightning_section", SECTION.get() or dict)()
    entries = dict(_flatten_section(section))
    prefix = f"{getattr(engine, 'config_id', None)}{ID_SEP_KEY}"
    keywords = {id: value for id, value in entries.items() if ID_SEP_KEY not in id}
    keywords.update({id[len(prefix) :]: value for id, value in entries.items() if id.startswith(prefix)})
    check_keywords(keywords, "lightning")
    return {**getattr(engine, "lightning", {}), **keywords}


def check_keywords(keywords: Mapping[str, Any], id: str) -> None:
    """Refuses keywords that the Trainer does not have.

    Args:
        keywords: meant for ``lightning.pytorch.Trainer``, with `CHECKPOINT` among them perhaps.
        id: config id of the section they stand in.

    Raises:
        ConfigError: all those that are no arguments of the Trainer.
    """
    problem = "lightning.pytorch.Trainer has no such argument, got"
    unknown = [
        Finding(f"{id}{ID_SEP_KEY}{key}", f"{problem} {value!r:.80}", did_you_mean(key, KEYWORDS))
        for key, value in keywords.items()
        if key not in KEYWORDS and key != CHECKPOINT
    ]
    if unknown:
        raise ConfigError(unknown)


def _flatten_section(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keywords by id: those of all engines have their name for an id, those of one engine its config id before it."""
    for key, value in section.items():
        id = prefix + ReferenceResolver.normalize_id(str(key))
        if key in ConfigComponent.non_arg_keys:
            continue
        if isinstance(value, Mapping) and id.rpartition(ID_SEP_KEY)[2] not in KEYWORDS:
            yield from _flatten_section(value, f"{id}{ID_SEP_KEY}")
        else:
            yield id, value


def decide_epochs(engine: Engine, keywords: Mapping[str, Any], own: int | None) -> int | None:
    """Epochs that an engine runs: Lightning's ``max_epochs`` where it is given and the engine trains, else its own.

    Args:
        engine: that is to run.
        keywords: of its Trainer.
        own: the ``max_epochs`` that its ``run`` was called with.
    """
    given = keywords.get("max_epochs")
    if given is None or not isinstance(engine, monai.engines.Trainer):
        return own
    return ENDLESS if given == -1 else given


def make_trainer(engine: Engine, automatic: bool, keywords: Mapping[str, Any]) -> Trainer:
    """Makes a Trainer that runs an engine as Ignite would, but for the keywords given.

    One device, the engine's; precision from its ``amp``; no sanity validation, logger or checkpoint of its own; a `ProgressBar`
    where standard error is a terminal.

    Args:
        engine: with its state set for the run.
        automatic: whether the Trainer steps the optimizer, or the engine only evaluates: else it steps its optimizers itself.
        keywords: of ``lightning.pytorch.Trainer``, which go over all of that.

    Raises:
        ConfigError: keywords that a Trainer cannot apply to an engine with its own iteration.
        ComponentError: what Lightning says against the values of the keywords.
    """
    given = {key: value for key, value in keywords.items() if key != CHECKPOINT}
    if not automatic:
        _refuse_automatic_keywords(engine, given)
    device = getattr(engine.state, "device", None) or torch.device("cpu")
    defaults: dict[str, Any] = {
        "max_epochs": engine.state.max_epochs if engine.state.max_epochs is not None else -1,
        "accumulate_grad_batches": getattr(engine, "accumulation_steps", 1) if automatic else 1,
        "logger": False,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in as_list(given.get("callbacks"))),
        "enable_model_summary": False,
        "enable_progress_bar": sys.stderr.isatty()
        and not QUIET.get()
        and not (dist.is_initialized() and dist.get_rank()),
        "num_sanity_val_steps": 0,
        "detect_anomaly": torch.is_anomaly_enabled(),
        "inference_mode": False,
        "use_distributed_sampler": False,
        **_choose_placement(device, given),
    }
    plugins = as_list(given.pop("plugins", None))
    scaler = getattr(engine, "scaler", None)
    if automatic and scaler is not None and scaler.is_enabled() and "precision" not in given:
        plugins.append(EnginePrecision(scaler))
    if "strategy" in defaults and not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
        plugins.append(LightningEnvironment())  # alone in its process, whatever a cluster has started it in
    defaults["plugins"] = plugins
    try:
        trainer = Trainer(**{**defaults, **given})
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise ComponentError("lightning", f"lightning: no Trainer can be made of {given}: {in_short(error)}") from error
    PassThroughProfiler.into(trainer)
    SafeCheckpointIO.into(trainer)
    ProgressBar.into(trainer, given.get("callbacks"))
    return trainer


def _choose_placement(device: torch.device, given: Mapping[str, Any]) -> dict[str, Any]:
    accelerator = {"cuda": "gpu"}.get(device.type, device.type)
    devices = [device.index or 0] if device.type == "cuda" else 1
    if any(key in given for key in PLACEMENT if key != "devices") or given.get("devices", 1) not in (1, "1"):
        return {"accelerator": accelerator, "devices": devices}
    return {"accelerator": accelerator, "devices": devices, "strategy": InPlaceStrategy(device)}


def _refuse_automatic_keywords(engine: Engine, given: Mapping[str, Any]) -> None:
    neutral = {"accumulate_grad_batches": (1, None), "gradient_clip_val": (None, 0, 0.0)}
    findings = [
        Finding(
            f"lightning::{key}",
            f"{type(engine).__name__} steps its optimizers itself, got {given[key]!r}",
            "Leave it out, or give it under the config id of another engine.",
        )
        for key, values in neutral.items()
        if key in given and given[key] not in values
    ]
    if findings:
        raise ConfigError(findings)


class InPlaceStrategy(SingleDeviceStrategy):
    """One process, one device: that of the engine.

    Nothing is moved, neither at the start (a config moves its networks itself) nor at the end (it may go on to use them). Where
    the bundle has begun a process group and wrapped its networks itself (``multi_gpu_train`` under ``torchrun``), each process
    is a run of its own here, and only the first writes what Lightning writes. SIGTERM ends the process as it did before.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.global_rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        self._on_sigterm = signal.getsignal(signal.SIGTERM)

    @property
    def is_global_zero(self) -> bool:
        return self.global_rank == 0

    def on_train_start(self) -> None:
        self._restore_sigterm()

    def on_validation_start(self) -> None:
        self._restore_sigterm()

    def _restore_sigterm(self) -> None:
        """Undoes the handler of a Trainer that has begun, which would let the batch end first; one of a `StopOnSignal` stays."""
        if isinstance(getattr(signal.getsignal(signal.SIGTERM), "__self__", None), StopOnSignal):
            return
        if self._on_sigterm is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def model_to_device(self) -> None:
        """Networks are where the engine's config put them."""

    def teardown(self) -> None:
        self.precision_plugin.teardown()
        if self.accelerator is not None:
            self.accelerator.teardown()
        self.checkpoint_io.teardown()


class EnginePrecision(MixedPrecision):
    """The scaling of gradients of an engine with ``amp``, by its own ``GradScaler``; its step decides what is autocast."""

    def __init__(self, scaler: torch.amp.GradScaler) -> None:
        super().__init__("16-mixed", "cuda", scaler)

    def forward_context(self) -> Any:
        return nullcontext()
