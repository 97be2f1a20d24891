"""The checkpoint that a fit goes on from: which one, and whether it is of this config."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.config.items import locate, located, normalize
from monai_lighter.config.stages import MAX_BAD_CASES, ON_BAD_CASE
from monai_lighter.errors import ConfigError, Finding, Note
from monai_lighter.system.checkpoints import find_newest_checkpoint, list_checkpoints

__all__ = ["choose_checkpoint", "find_differences", "find_place"]

logger = logging.getLogger(__name__)

WORKERS = ("multiprocessing_context", "num_workers", "persistent_workers", "prefetch_factor", "timeout")
LOADING = frozenset((*WORKERS, "pin_memory", "pin_memory_device"))
"""Arguments of a ``DataLoader`` that change how its batches are made, and nothing in them."""
OF_BAD_CASES = tuple(f"system{ID_SEP_KEY}{key}" for key in (ON_BAD_CASE, MAX_BAD_CASES))
"""Arguments of the system that a fit may be given to go on with after a bad case has ended it."""
MOVED = ("bundle_root",)
WAYS = "Give a path, auto (the newest, or a new beginning where there is none), force or none."


def find_place(
    trainer: Trainer, parser: ConfigParser, config: dict[str, Any], given: Mapping[str, Any]
) -> dict[str, str]:
    """Where a fit begins: ``ckpt_path`` of ``Trainer.fit`` in a dict, which is empty where nothing is to be gone on with.

    Args:
        trainer: that will fit. One that has fitted before goes on from where it is.
        parser: with the config that runs, and its ``resume``, perhaps: as `choose_checkpoint` takes it.
        config: native config, as it is saved with the run.
        given: keywords of ``Trainer.fit``. A ``ckpt_path`` among them is the user's word: another config than the checkpoint's is
            then a warning.

    Raises:
        ConfigError: as `choose_checkpoint`; ``resume`` is none of what it may be.
    """
    path = given.get("ckpt_path")
    if path is not None:
        if isinstance(path, (str, Path)) and Path(path).is_file():
            for one in _describe(Path(path), find_differences(_read_config(Path(path)) or config, config)):
                logger.warning(str(Note(*one, "The fit goes on with what the config says now.")))
        return {}
    resume = parser.get_parsed_content("resume") if "resume" in parser else None
    if trainer.global_step or resume is None:
        return {}
    path = choose_checkpoint(resume, config, list_checkpoints(trainer))
    return {"ckpt_path": path} if path is not None else {}


def choose_checkpoint(resume: Any, config: dict[str, Any], found: Iterable[Path]) -> str | None:
    """The checkpoint that a fit goes on from; None where it begins anew.

    Args:
        resume: ``auto`` or ``force`` (the newest, if there is one), ``none``, or a path.
        config: native config, as it is saved with the run.
        found: checkpoints of the fits before this one.

    Raises:
        ConfigError: a path that is not there; a checkpoint that was made with another config, unless ``resume`` is ``force``.
    """
    if resume == "none":
        return None
    if not isinstance(resume, (str, Path)):
        raise ConfigError([Finding("resume", f"must be a checkpoint, auto, force or none, got {resume!r}", WAYS)])
    path = find_newest_checkpoint(found) if resume in ("auto", "force") else Path(resume)
    if path is None:
        logger.info("resume: no fit before this one has left a checkpoint, it begins anew")
        return None
    if not path.exists():
        raise ConfigError([Finding("resume", f"must be a checkpoint, {str(path)!r} is not there", WAYS)])
    if resume != "force":
        made = _read_config(path)
        differing = find_differences(made, config) if made else []
        if differing:
            hint = "Set it back, or give --resume force to go on with what the config says now."
            raise ConfigError([Finding(*each, hint) for each in _describe(path, differing)])
    logger.info(f"resume: the fit goes on from {path}")
    return str(path)


def find_differences(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Items of two native configs that differ and that training depends on: ``seed``, ``system``, and what these refer to.

    The Trainer's keywords are not among them, but where the system refers to them (``T_max: "@trainer::max_epochs"``), nor the
    ways of loading (`LOADING`), nor where the bundle is.
    """
    found, waiting, seen = [], ["seed", "system"], {"seed", "system"}
    while waiting:
        id = waiting.pop(0)
        pair = (located(config, id)[1] if locate(config, id) else None for config in (before, now))
        for each, one, other in _list_leaves(id, *pair):
            if one != other:
                found.append((each, one, other))
            texts = [normalize(text) for text in (one, other) if isinstance(text, str)]
            new = {id for text in texts for id in ReferenceResolver.match_refs_pattern(text)} - seen
            waiting += sorted(new)
            seen |= new
    return found


def _list_leaves(id: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """Values of two items and of all in them, but for those that change nothing."""
    if id in (*MOVED, *OF_BAD_CASES) or id.rpartition(ID_SEP_KEY)[2] in LOADING:
        return
    if isinstance(one, dict) and isinstance(other, dict):
        inner: Iterable[Any] = dict.fromkeys([*one, *other])
        pairs = [(one.get(key), other.get(key)) for key in inner]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        inner, pairs = range(len(one)), [*zip(one, other, strict=True)]
    else:
        yield id, one, other
        return
    for key, pair in zip(inner, pairs, strict=True):
        yield from _list_leaves(f"{id}{ID_SEP_KEY}{key}", *pair)


def _describe(path: Path, differing: list[tuple[str, Any, Any]]) -> list[tuple[str, str]]:
    return [(id, f"is {now!r}, and was {before!r} when {path} was made") for id, before, now in differing]


def _read_config(path: Path) -> dict[str, Any]:
    """The native config that a checkpoint was made with; empty where it holds none, as that of somebody's own LightningModule."""
    try:
        made = torch.load(path, map_location="cpu", weights_only=True, mmap=True).get("hyper_parameters", {})
    except Exception as error:
        hint = "Give another, or auto for the newest that is whole."
        raise ConfigError([Finding("resume", f"{path} cannot be read: {error}", hint)]) from error
    return dict(made) if "system" in made else {}
