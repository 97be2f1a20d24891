"""The static check of a native config: all that is wrong, found without building anything or running an expression.

As in torchtune's ``config/_validate.py``, everything is reported at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from monai.bundle.config_item import ComponentLocator
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.config.imports import breaks_imports
from monai_lighter.config.objects import no_objects, unbuilt
from monai_lighter.config.overrides import items
from monai_lighter.config.sections import (
    ADAPTERS,
    BY_MODE,
    MODES,
    MODES_OF_STAGE,
    STAGES,
    SYSTEM_TARGET,
    locate,
)
from monai_lighter.config.targets import instance_of
from monai_lighter.config.values import arguments, checkpoint, counts, schedulers, seed
from monai_lighter.config.walk import Walk, located
from monai_lighter.errors import Finding, Note, did_you_mean

__all__ = ["check", "check_walk"]

KINDS = {"system": LightningModule, "trainer": Trainer}


def check(
    full: dict, needed: dict, stage: str | None, roots: Iterable[str], locator: ComponentLocator
) -> list[Finding]:
    """What keeps a native config from running; a package that is not installed does where a target is in it.

    Args:
        full: the config, macros expanded, defaults set.
        needed: `pruned` for the stage; the same as ``full`` where the run is an expression.
        stage: ``fit``, ``validate``, ``test``, ``predict``, or None.
        roots: ids that will be resolved. Items that none of them leads to are left alone, as MONAI does.
        locator: MONAI's map from short class names to modules.
    """
    findings = check_walk(Walk(full, needed, stage, locator), roots)
    return [found for found in findings if not isinstance(found, Note) or found.id.endswith("::_target_")]


def check_walk(walk: Walk, roots: Iterable[str]) -> list[Finding]:
    """All findings and notes about a native config, by a walk that then holds what would be built."""
    full = walk.full
    findings = [*_sections(full), *seed(full.get("seed")), *counts(full), *schedulers(full), *arguments(full)]
    findings += [*_mixed_lightning(full), *_stage(walk)]
    for root in roots:
        where = locate(walk.needed, root)
        if where is not None:
            findings += walk.item(where if ID_SEP_KEY in root else root)
    for id, value in items(walk.needed):  # which MONAI looks at wherever they stand
        if id not in walk.visited and breaks_imports(value):
            findings += walk.expressions.findings(id, value)
    findings += [*_kinds(walk), *no_objects(walk)]
    return list(dict.fromkeys(findings))


def _kinds(walk: Walk) -> Iterator[Finding]:
    """``system`` must be a LightningModule and ``trainer`` a Trainer, where a class says so."""
    for id, wanted in KINDS.items():
        section = walk.needed.get(id)
        name = section.get("_target_") if id in walk.visited and isinstance(section, dict) else None
        if isinstance(name, str) and not name.startswith(("$", "@")):
            finding = instance_of(id, name, wanted, walk.locator)
            if finding is not None:
                yield finding


def _sections(full: dict) -> Iterator[Finding]:
    system = full["system"]
    if isinstance(system, dict) and system.get("_target_") == SYSTEM_TARGET:
        for key in (*BY_MODE, "inferer"):
            yield from _keys(f"system::{key}", system.get(key), MODES)
        for mode, adapters in _section(system.get("adapters")).items():
            yield from _keys(f"system::adapters::{mode}", adapters, ADAPTERS)
    elif not isinstance(system, (dict, str)):
        yield Finding("system", f"must be a section, got {system!r}", "Give it model, optimizer, dataloaders, ….")
    if not isinstance(full["trainer"], (dict, str)):
        yield Finding("trainer", f"must be a section, got {full['trainer']!r}", "Give it max_epochs, devices, ….")
    yield from _keys("args", full.get("args"), STAGES)
    for stage in STAGES:
        accepted = [
            name for name in inspect.signature(getattr(Trainer, stage)).parameters if name not in ("self", "model")
        ]
        yield from _keys(f"args::{stage}", _section(full.get("args")).get(stage), accepted)


def _section(value: Any) -> dict:
    return value if isinstance(value, dict) else {}


def _keys(id: str, section: Any, allowed: Iterable[str]) -> Iterator[Finding]:
    if section is None or isinstance(section, str) or (isinstance(section, dict) and "_target_" in section):
        return
    if not isinstance(section, dict):
        yield Finding(id, f"must be a section, got {section!r}", f"Give it some of: {', '.join(allowed)}.")
        return
    for key in section:
        if key not in allowed:
            yield Finding(f"{id}::{key}", f"unknown key {key!r}", did_you_mean(str(key), allowed))


def _mixed_lightning(full: dict) -> Iterator[Finding]:
    found: dict[str, str] = {}
    for id, value in items(full):
        target = value.get("_target_") if isinstance(value, dict) else None
        if isinstance(target, str):
            for package in ("lightning.pytorch", "pytorch_lightning"):
                if target.startswith(f"{package}."):
                    found.setdefault(package, id)
    if len(found) == 2:
        id = found["pytorch_lightning"]
        yield Finding(
            f"{id}::_target_",
            f"pytorch_lightning is mixed with lightning.pytorch (at {found['lightning.pytorch']}), whose classes differ",
            "Write lightning.pytorch in both places.",
        )


def _stage(walk: Walk) -> Iterator[Finding]:
    stage, system = walk.stage, walk.needed["system"]
    if stage is None or not isinstance(system, dict) or system.get("_target_") != SYSTEM_TARGET:
        return
    _, given = located(walk.needed, f"args{ID_SEP_KEY}{stage}")
    mode = MODES_OF_STAGE[stage][0]
    loaders = system.get("dataloaders")
    elsewhere = isinstance(given, str) or any("datamodule" in name or "dataloaders" in name for name in _section(given))
    if not elsewhere and isinstance(loaders or {}, dict) and not _section(loaders).get(mode):
        others = [m for m in MODES if _section(walk.full["system"].get("dataloaders")).get(m)]
        has = f"; it has {', '.join(others)}" if others else ""
        yield Finding(f"system::dataloaders::{mode}", f"stage {stage!r} needs a dataloader, got none{has}", "Add it.")
    yield from checkpoint(f"args{ID_SEP_KEY}{stage}{ID_SEP_KEY}ckpt_path", _section(given).get("ckpt_path"))
    needs = {"fit": ("model", "criterion", "optimizer")}.get(stage, ("model",))
    for key in needs:
        if not system.get(key):
            yield Finding(f"system::{key}", f"stage {stage!r} needs it, got {system.get(key)!r}", "Add it.")
    for key in (*needs, *(() if elsewhere else (f"dataloaders{ID_SEP_KEY}{mode}",))):
        yield from unbuilt(walk, key)
