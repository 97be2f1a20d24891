"""Keywords of Lightning's Trainer for engines: what they say themselves, and the config's ``lightning`` section over it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint
from monai.bundle.reference_resolver import ReferenceResolver

from monai_lighter.engines.strategy import EnginePrecision, InPlaceStrategy
from monai_lighter.errors import ConfigError, Finding

__all__ = ["CHECKPOINT", "keywords_for", "lightning_section", "trainer_for"]

CHECKPOINT = "ckpt_path"
"""The one key of the section that is no keyword of the Trainer: a Lightning checkpoint that trainers go on from."""

KEYWORDS = frozenset(inspect.signature(Trainer).parameters)
PLACEMENT = ("accelerator", "devices", "num_nodes", "strategy")
Section = Callable[[], Mapping[str, Any]]
SECTION: list[Section] = [dict]


@contextmanager
def lightning_section(section: Section) -> Iterator[None]:
    """Within it, every Trainer is made with these keywords.

    Args:
        section: gives keywords of ``lightning.pytorch.Trainer``; a key with a mapping for a value may be the config id of an
            engine, and holds keywords for that engine alone. Called when the first engine runs, not before.
    """
    SECTION.append(section)
    try:
        yield
    finally:
        SECTION.pop()


def keywords_for(engine: Engine) -> dict[str, Any]:
    """What the section says for an engine: the keywords of all, and over them those under its config id."""
    section = SECTION[-1]()
    keywords = {key: value for key, value in section.items() if key in KEYWORDS or key == CHECKPOINT}
    id = getattr(engine, "config_id", None)
    for key, value in section.items():
        if id is not None and ReferenceResolver.normalize_id(str(key)) == id and isinstance(value, Mapping):
            keywords.update(value)
    return keywords


def trainer_for(engine: Engine, automatic: bool, keywords: Mapping[str, Any]) -> Trainer:
    """A Trainer that runs an engine as Ignite would, but for the keywords given.

    One device, the engine's; precision from its ``amp``; no sanity validation, logger or checkpoint of its own; a progress bar
    where standard error is a terminal.

    Raises:
        ConfigError: keywords that a Trainer cannot apply to an engine with its own iteration.
    """
    given = {key: value for key, value in keywords.items() if key != CHECKPOINT}
    if not automatic:
        _refuse_automatic_keywords(engine, given)
    device = getattr(engine.state, "device", None) or torch.device("cpu")
    defaults: dict[str, Any] = {
        "max_epochs": engine.state.max_epochs if engine.state.max_epochs is not None else -1,
        "accumulate_grad_batches": getattr(engine, "accumulation_steps", 1) if automatic else 1,
        "logger": False,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in _listed(given.get("callbacks"))),
        "enable_model_summary": False,
        "enable_progress_bar": sys.stderr.isatty() and not (dist.is_initialized() and dist.get_rank()),
        "num_sanity_val_steps": 0,
        "inference_mode": False,
        "use_distributed_sampler": False,
        **_placement(device, given),
    }
    scaler = getattr(engine, "scaler", None)
    if automatic and scaler is not None and scaler.is_enabled() and "precision" not in given:
        defaults["plugins"] = [EnginePrecision(scaler), *_listed(given.pop("plugins", None))]
    return Trainer(**{**defaults, **given})


def _placement(device: torch.device, given: Mapping[str, Any]) -> dict[str, Any]:
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


def _listed(value: Any) -> list:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
