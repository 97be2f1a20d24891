"""The checkpoint that a fit goes on from: which one, and whether it is of this config and this code."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.config.items import located, normalize, plain_config
from monai_lighter.config.stages import MAX_BAD_CASES, ON_BAD_CASE, find_resume
from monai_lighter.errors import ConfigError, Finding, Note
from monai_lighter.system.checkpoints import MADE_WITH, find_newest_checkpoint, list_checkpoints
from monai_lighter.system.resuming import Resumable
from monai_lighter.trust.digest import find_changed_code, hash_imported_code

__all__ = ["Fit", "choose_checkpoint", "choose_for_engines", "find_differences", "find_place"]

logger = logging.getLogger(__name__)

WORKERS = ("multiprocessing_context", "num_workers", "persistent_workers", "prefetch_factor", "timeout")
LOADING = frozenset((*WORKERS, "pin_memory", "pin_memory_device", ON_BAD_CASE, MAX_BAD_CASES, "workers"))
"""Arguments of a ``DataLoader`` and of `System` that change how cases are made and written, and nothing in those that are."""
STEP = ("accumulate_grad_batches", "gradient_clip_algorithm", "gradient_clip_val", "limit_train_batches", "precision")
NATIVE = ("seed", "system", *(f"trainer{ID_SEP_KEY}{name}" for name in STEP))
"""Items that the result of a native fit depends on: of the Trainer's keywords those that change a step, or what it is made of."""
LONGER = frozenset(("max_epochs",))
"""Argument of an engine that a fit which goes on may have another value of."""
MOVED = ("bundle_root",)
RESTARTS = "SLURM_RESTART_COUNT"
"""Set by SLURM in a job that it has requeued."""
WAYS = "Give a path, auto (the newest, or a new beginning where there is none), force or none."


class Fit(NamedTuple):
    """What a fit is made with, as far as its result depends on it.

    Attributes:
        config: of plain values, as it is saved with the run.
        folders: that code of the user's lies in, the bundle first.
        digest: of the bundle when the run began, as `begin_digest` gives it; checkpoints name it.
        roots: items that the result depends on, with all that they refer to.
        ignored: names of arguments that do not count.
    """

    config: dict[str, Any]
    folders: tuple[Path, ...]
    digest: Future[str] | None = None
    roots: tuple[str, ...] = NATIVE
    ignored: frozenset[str] = LOADING

    def describe(self, config: bool = False) -> dict[str, Any]:
        """What a checkpoint says of it: code that has been imported by now, the config if that is not elsewhere, and the digest
        as soon as that is known."""
        said: dict[str, Any] = {"digest": None, "code": hash_imported_code(self.folders)}
        said.update({"config": self.config} if config else {})

        def note(found: Future[str]) -> None:
            said["digest"] = None if found.exception() else found.result()

        if self.digest is not None:
            self.digest.add_done_callback(note)
        return said


def find_place(
    trainer: Trainer, system: LightningModule, parser: ConfigParser, fit: Fit, given: Mapping[str, Any]
) -> dict[str, str]:
    """Where a fit of a native config begins: ``ckpt_path`` of ``Trainer.fit`` in a dict, which is empty where nothing is to be
    gone on with.

    A job that SLURM has requeued goes on where the config does not say otherwise.

    Args:
        trainer: that will fit. One that has fitted before goes on from where it is.
        system: whose checkpoints say what the fit is made with.
        parser: with the config that runs, and its ``resume``, perhaps: as `choose_checkpoint` takes it.
        fit: that is about to begin.
        given: keywords of ``Trainer.fit``. A ``ckpt_path`` among them is the user's word: another config or code than the
            checkpoint's is then a warning.

    Raises:
        ConfigError: as `choose_checkpoint`; ``resume`` is none of what it may be.
    """
    if fit.digest is not None and trainer.strategy.launcher is not None:
        fit.digest.exception()  # processes that it begins are given what is known by now
    if isinstance(system, Resumable):
        system.made_with = fit.describe()
    path = given.get("ckpt_path")
    if path is not None:
        if isinstance(path, (str, Path)) and Path(path).is_file():
            for one in _compare(Path(path), fit):
                logger.warning(str(Note(*one, "The fit goes on with what is there now.")))
        return {}
    resume = parser.get_parsed_content("resume") if "resume" in parser else None
    if resume is None and os.environ.get(RESTARTS, "0") != "0":
        logger.info(f"resume: auto, as SLURM has requeued this job ({RESTARTS}={os.environ[RESTARTS]})")
        resume = "auto"
    if trainer.global_step or resume is None:
        return {}
    path = choose_checkpoint(resume, fit, list_checkpoints(trainer))
    return {"ckpt_path": path} if path is not None else {}


def choose_for_engines(
    config: dict[str, Any], folders: tuple[Path, ...], digest: Future[str] | None, run_ids: Collection[str]
) -> tuple[Any, Any] | None:
    """How fits of MONAI's engines choose a checkpoint, and what theirs say; None where the config has no ``resume``.

    Args:
        config: with overrides.
        folders, digest: as of `Fit`.
        run_ids: items that are run.
    """
    resume = find_resume(config)
    if resume is None:
        return None
    fit = Fit(plain_config(config), folders, digest, tuple(run_ids), LONGER)
    return partial(choose_checkpoint, resume, fit), partial(fit.describe, config=True)


def choose_checkpoint(resume: Any, fit: Fit, found: Iterable[Path]) -> str | None:
    """The checkpoint that a fit goes on from; None where it begins anew.

    Args:
        resume: ``auto`` or ``force`` (the newest, if there is one), ``none``, or a path.
        fit: that is about to begin.
        found: checkpoints of the fits before this one.

    Raises:
        ConfigError: a path that is not there; a checkpoint that was made with another config or other code, unless ``resume`` is
            ``force``.
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
    differing = [] if resume == "force" else _compare(path, fit)
    if differing:
        hint = "Set it back, or give --resume force to go on with what is there now, none to begin anew, or another's path."
        raise ConfigError([Finding(*each, hint) for each in differing])
    logger.info(f"resume: the fit goes on from {path}")
    return str(path)


def _compare(path: Path, fit: Fit) -> list[tuple[str, str]]:
    """What a fit is made with that a checkpoint was not, and what about it: by config id, or file of code."""
    config, code = _read_origin(path)
    differing = find_differences(config, fit.config, fit.roots, fit.ignored) if config else []
    return [
        *((id, f"is {now!r}, and was {before!r} when {path} was made") for id, before, now in differing),
        *((name, f"{now} since {path} was made") for name, now in find_changed_code(code, fit.folders)),
    ]


def find_differences(
    before: dict[str, Any], now: dict[str, Any], roots: Iterable[str], ignored: Collection[str] = ()
) -> list[tuple[str, Any, Any]]:
    """Items of two configs that differ, among those that training depends on: some roots, and what these refer to.

    Of a native config the Trainer's keywords are not among them, but for those of `STEP` and where the system refers to them
    (``T_max: "@trainer::max_epochs"``); nor, of any, where the bundle is.

    Args:
        before: a config of plain values.
        now: another one.
        roots: ids.
        ignored: names of arguments that do not count, wherever they stand; nor does what they refer to.
    """
    found, waiting = [], [*roots]
    seen = {*waiting}
    while waiting:
        id = waiting.pop(0)
        pair = [located(config, id)[1] for config in (before, now)]
        for each, one, other in _list_leaves(id, pair[0], pair[1], ignored):
            if one != other:
                found.append((each, one, other))
            texts = [normalize(text) for text in (one, other) if isinstance(text, str)]
            new = {id for text in texts for id in ReferenceResolver.match_refs_pattern(text)} - seen
            waiting += sorted(new)
            seen |= new
    return found


def _list_leaves(id: str, one: Any, other: Any, ignored: Collection[str]) -> Iterator[tuple[str, Any, Any]]:
    """Values of two items and of all in them, but for those that change nothing."""
    if id in MOVED or id.rpartition(ID_SEP_KEY)[2] in ignored:
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
        yield from _list_leaves(f"{id}{ID_SEP_KEY}{key}", *pair, ignored)


def _read_origin(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The config that a checkpoint was made with, and its code by file; empty where it holds none, as one of plain Lightning."""
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        hint = "Give another, or auto for the newest that is whole."
        raise ConfigError([Finding("resume", f"{path} cannot be read: {error}", hint)]) from error
    made_with, native = kept.get(MADE_WITH) or {}, kept.get("hyper_parameters") or {}
    return dict(made_with.get("config") or (native if "system" in native else {})), dict(made_with.get("code") or {})
