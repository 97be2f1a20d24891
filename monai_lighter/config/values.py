"""Values of a native config that Lightning would complain of late, in other words, or not at all."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Optional

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.types import LRSchedulerConfig
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.config.modules import close_name
from monai_lighter.config.sections import STAGES, SYSTEM_TARGET, TRAINER_TARGET
from monai_lighter.config.walk import located
from monai_lighter.errors import Finding

__all__ = ["arguments", "checkpoint", "counts", "schedulers", "seed"]


def _computed(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("$", "@"))


def seed(value: Any) -> Iterator[Finding]:
    """Lightning's ``seed_everything`` takes what fits into 32 bits."""
    if value is not None and not _computed(value) and (not str(value).isdigit() or int(value) >= 2**32):
        problem = f"must be a whole number from 0 to {2**32 - 1}, got {value!r}"
        yield Finding("seed", problem, "Give one, or leave it out.")


def counts(config: dict) -> Iterator[Finding]:
    """Arguments of Lightning's Trainer that count something; it looks at them late."""
    trainer = config["trainer"]
    if not isinstance(trainer, dict) or trainer.get("_target_") != TRAINER_TARGET:
        return
    parameters = inspect.signature(Trainer).parameters.values()
    for name in [p.name for p in parameters if p.annotation in (int, Optional[int])]:  # noqa: UP045
        where, value = located(config, f"trainer{ID_SEP_KEY}{name}")
        is_text = isinstance(value, str) and not _computed(value)
        if is_text or (isinstance(value, float) and not value.is_integer()):
            yield Finding(where, f"must be a whole number, got {value!r}", "Give one.")


def checkpoint(id: str, path: Any) -> Iterator[Finding]:
    """A checkpoint that is given as a path; those that have a name instead Lightning finds itself."""
    local = isinstance(path, str) and "://" not in path and not _computed(path)
    if local and path.endswith((".ckpt", ".pt", ".pth")) and not Path(path).exists():
        hint = "Mend the path; it is relative to where the command runs."
        yield Finding(id, f"there is no checkpoint {path!r}", hint)


def arguments(config: dict) -> Iterator[Finding]:
    """A stage that would unpickle its checkpoint, which runs what is in it."""
    for stage in STAGES:
        where, value = located(config, ID_SEP_KEY.join(("args", stage, "weights_only")))
        if value not in (None, True):
            problem = f"must be true, since a checkpoint of strangers would be run, got {value!r}"
            yield Finding(where, problem, "Leave it out, and convert the checkpoint to tensors and plain values.")


def schedulers(config: dict) -> Iterator[Finding]:
    """Misspelt keys of Lightning's ``lr_scheduler_config``, which it leaves out with a warning."""
    system = config["system"]
    if not isinstance(system, dict) or system.get("_target_") != SYSTEM_TARGET:
        return
    where, value = located(config, f"system{ID_SEP_KEY}scheduler")
    known = [field.name for field in fields(LRSchedulerConfig)]
    for id, section in _sections(where, value):
        for key in section if "scheduler" in section and "_target_" not in section else ():
            hint = "" if key in known else close_name(str(key), known)
            if hint:
                yield Finding(f"{id}{ID_SEP_KEY}{key}", f"unknown key {key!r}, got {section[key]!r:.80}", hint)


def _sections(id: str, value: Any) -> Iterable[tuple[str, dict]]:
    """A section, or those in a list or section of several."""
    if isinstance(value, dict) and "scheduler" not in value:
        value = [*value.items()]
    elif isinstance(value, list):
        value = [*enumerate(value)]
    else:
        return [(id, value)] if isinstance(value, dict) else []
    return [(f"{id}{ID_SEP_KEY}{key}", item) for key, item in value if isinstance(item, dict)]
