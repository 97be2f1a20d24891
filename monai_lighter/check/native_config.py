"""The static check of a native config: all that is wrong, found without building anything or running an expression.

As in torchtune's ``config/_validate.py``, everything is reported at once.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Optional

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.types import LRSchedulerConfig
from monai.bundle.config_item import ConfigComponent
from monai.bundle.utils import ID_SEP_KEY
from monai.data import SmartCacheDataset
from torch.utils.data import IterableDataset

from monai_lighter.check.label_maps import find_label_misuses
from monai_lighter.check.misuses import find_misuses
from monai_lighter.check.modules import breaks_imports, close_name
from monai_lighter.check.monitors import find_unlogged
from monai_lighter.check.targets import instance_of, known_path, names_component, target_key
from monai_lighter.check.transforms import find_misplaced, find_missized
from monai_lighter.check.walk import Walk
from monai_lighter.config.items import is_computed, is_text, items, locate, located
from monai_lighter.config.stages import (
    ADAPTERS,
    BY_MODE,
    DATA,
    DATA_TARGET,
    LOADERS,
    MAX_BAD_CASES,
    MODEL,
    MODES,
    MODES_OF_STAGE,
    ON_BAD_CASE,
    RAISE,
    SKIP,
    STAGES,
    SYSTEM_TARGET,
    TRAINER_TARGET,
)
from monai_lighter.errors import Finding, did_you_mean

__all__ = ["check_walk"]

KINDS = {"system": LightningModule, "trainer": Trainer}
LIGHTNING = ("lightning.pytorch", "pytorch_lightning")
"""The package of today and its twin."""


def check_walk(walk: Walk, roots: Iterable[str]) -> list[Finding]:
    """All findings and notes about a native config, by a walk that then holds what would be built."""
    full = walk.full
    findings = [
        *_check_sections(full),
        *_check_seed(full.get("seed")),
        *_check_resume(full.get("resume")),
        *_check_skip_existing(full.get("skip_existing")),
        *_check_bad_cases(full),
        *_check_workers(full),
        *_check_counts(full),
        *_check_schedulers(full),
        *_check_arguments(full),
    ]
    findings += [
        *_check_model(walk),
        *_check_stage(walk),
        *_check_optimizers(walk.needed),
        *find_misuses(walk),
        *find_unlogged(walk),
    ]
    for root in roots:
        where = locate(walk.needed, root)
        if where is not None:
            findings += walk.item(where if ID_SEP_KEY in root else root)
    for id, value in items(walk.needed):  # which MONAI looks at wherever they stand
        if id not in walk.visited and breaks_imports(value):
            findings += walk.expressions.findings(id, value)
    findings += [*_check_kinds(walk), *_find_mixed_lightning(walk), *_find_objects(walk), *walk.misread]
    findings += [*find_misplaced(walk), *find_missized(walk), *find_label_misuses(walk), *_find_unskippable(walk)]
    return list(dict.fromkeys(findings))


def _check_kinds(walk: Walk) -> Iterator[Finding]:
    """``system`` must be a LightningModule and ``trainer`` a Trainer, where a class says so."""
    for id, wanted in KINDS.items():
        section = walk.needed.get(id)
        name = section.get("_target_") if id in walk.visited and isinstance(section, dict) else None
        if isinstance(name, str) and is_text(name):
            finding = instance_of(id, name, wanted, walk.locator)
            if finding is not None:
                yield finding


def _check_sections(full: dict) -> Iterator[Finding]:
    system = full["system"]
    if isinstance(system, dict) and system.get("_target_") == SYSTEM_TARGET:
        for key in (*BY_MODE, "inferer"):
            yield from _check_keys(f"system::{key}", system.get(key), MODES)
        for mode, adapters in _section(system.get("adapters")).items():
            yield from _check_keys(f"system::adapters::{mode}", adapters, ADAPTERS)
    elif not isinstance(system, (dict, str)):
        yield Finding("system", f"must be a section, got {system!r}", "Give it model, optimizer, dataloaders, ….")
    if not isinstance(full["trainer"], (dict, str)):
        yield Finding("trainer", f"must be a section, got {full['trainer']!r}", "Give it max_epochs, devices, ….")
    yield from _check_keys("args", full.get("args"), STAGES)
    for stage in STAGES:
        accepted = [
            name for name in inspect.signature(getattr(Trainer, stage)).parameters if name not in ("self", "model")
        ]
        yield from _check_keys(f"args::{stage}", _section(full.get("args")).get(stage), accepted)


def _section(value: Any) -> dict:
    return value if isinstance(value, dict) else {}


def _check_keys(id: str, section: Any, allowed: Iterable[str]) -> Iterator[Finding]:
    if section is None or isinstance(section, str) or (isinstance(section, dict) and "_target_" in section):
        return
    if not isinstance(section, dict):
        yield Finding(id, f"must be a section, got {section!r}", f"Give it some of: {', '.join(allowed)}.")
        return
    for key in section:
        if key not in allowed:
            yield Finding(f"{id}::{key}", f"unknown key {key!r}", did_you_mean(str(key), allowed))


def _find_mixed_lightning(walk: Walk) -> Iterator[Finding]:
    """Parts of ``pytorch_lightning`` beside those of ``lightning.pytorch``, which take no object of the other's classes."""
    found: dict[str, list[tuple[str, str]]] = {package: [] for package in LIGHTNING}
    for built in walk.built:
        kind = walk.class_of(built.id)
        package = next((name for base in kind.__mro__ if (name := _lightning_of(base))), None) if kind else None
        if package is not None and built.id.startswith(tuple(KINDS)):
            found[package].append((built.id, built.target))
    own, other = LIGHTNING
    for id, target in found[other] if found[own] else ():
        beside = next((id for id, _ in found[own] if id in KINDS), found[own][0][0])
        problem = f"{target} is of {other}, and {beside} of {own}, whose classes differ"
        hint = f"Write {own}{target.removeprefix(other)}."
        if not target.startswith(f"{other}."):
            hint = f"Write import {own} in place of import {other} in {target.rpartition('.')[0]}."
        yield Finding(f"{id}::_target_", problem, hint)


def _lightning_of(base: type) -> str | None:
    return next((name for name in LIGHTNING if f"{base.__module__}.".startswith(f"{name}.")), None)


def _check_model(walk: Walk) -> Iterator[Finding]:
    """Of a config with a ``model`` section: its class, and the loader that the stage needs."""
    model, data = walk.needed.get(MODEL), walk.needed.get(DATA)
    if walk.stage is None or walk.needed["system"] != f"@{MODEL}" or not isinstance(model, dict):
        return
    name = model.get("_target_")
    finding = instance_of(MODEL, name, LightningModule, walk.locator) if is_text(name) else None
    yield from [finding] if finding else []
    loader = LOADERS[MODES_OF_STAGE[walk.stage][0]]
    given = _section(located(walk.needed, f"args{ID_SEP_KEY}{walk.stage}")[1])
    if _section(data).get("_target_") == DATA_TARGET and not any("data" in str(key) for key in given):
        has = [key for key in LOADERS.values() if _section(data).get(key) is not None]
        problem = f"stage {walk.stage!r} needs a dataloader, got none; it has {', '.join(has) or 'none'}"
        yield Finding(f"{DATA}{ID_SEP_KEY}{loader}", problem, "Add it.")


def _check_stage(walk: Walk) -> Iterator[Finding]:
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
    yield from _check_checkpoint(f"args{ID_SEP_KEY}{stage}{ID_SEP_KEY}ckpt_path", _section(given).get("ckpt_path"))
    needs = {"fit": ("model", "criterion", "optimizer")}.get(stage, ("model",))
    for key in needs:
        if not system.get(key):
            yield Finding(f"system::{key}", f"stage {stage!r} needs it, got {system.get(key)!r}", "Add it.")
    for key in (*needs, *(() if elsewhere else (f"dataloaders{ID_SEP_KEY}{mode}",))):
        yield from _find_unbuilt(walk, key)


PLACES = {
    "system": {
        "model": 0,
        "criterion": 0,
        "optimizer": 1,
        "scheduler": 1,
        "inferer": 1,
        "dataloaders": 2,
        "metrics": 2,
        "adapters": 2,
        "postprocessing": 1,
    },
    "trainer": {"callbacks": 1, "logger": 1},
}
"""Section and argument to the number of sections that may stand around its objects."""
TARGETS = {
    "system": (SYSTEM_TARGET,),
    "trainer": ("lightning.pytorch.Trainer", "lightning.Trainer", "pytorch_lightning.Trainer"),
}
LITERALS = {"null": "null", "none": "null", "~": "null", "true": "true", "false": "false"}
"""Texts that quotes make of what YAML has for these, or that Python has for them, and what to write."""
BUILT = ("model", "optimizer", "dataloaders")
"""Arguments of the system for which a function that would build them does not do."""
SCHEDULER = "scheduler"
"""Key of Lightning's ``lr_scheduler_config`` that holds the object."""


def _find_objects(walk: Walk) -> Iterator[Finding]:
    """A finding for each of the items of `PLACES` that a run uses and that is no object and no expression."""
    for name, places in PLACES.items():
        section = walk.needed.get(name)
        if name in walk.visited and isinstance(section, dict) and section.get("_target_") in TARGETS[name]:
            for key, depth in places.items():
                yield from _item(walk, f"{name}{ID_SEP_KEY}{key}", depth)


def _item(walk: Walk, id: str, depth: int) -> Iterator[Finding]:
    where, value = located(walk.needed, id)
    if value is None or isinstance(value, bool) or where in walk.read or ConfigComponent.is_instantiable(value):
        return
    if isinstance(value, dict) and target_key(value, walk.locator) is not None:
        return  # said already
    if isinstance(value, dict) and _lacks_target(value, depth):
        yield Finding(where, f"must be an object, got a section without `_target_`, {value!r:.80}", "Add _target_.")
    elif isinstance(value, (dict, list)):
        names = range(len(value)) if isinstance(value, list) else [SCHEDULER] if SCHEDULER in value else value
        for name in names:
            yield from _item(walk, f"{where}{ID_SEP_KEY}{name}", max(depth - 1, 0))
    elif isinstance(value, (str, int, float)) and not is_computed(value):
        kind = "text" if isinstance(value, str) else type(value).__name__
        yield Finding(where, f"must be an object, got the {kind} {value!r:.120}", _hint(str(value), walk))


def _lacks_target(section: dict, depth: int) -> bool:
    numbers = any(isinstance(item, (int, float)) and item is not False for item in section.values())
    return bool(section) and SCHEDULER not in section and (depth == 0 or numbers)


def _hint(text: str, walk: Walk) -> str:
    literal = LITERALS.get(text.lower())
    if literal is not None:
        return f"Write {literal}, without quotes."
    if re.fullmatch(r"[\w:#]+", text) and locate(walk.full, text) is not None:
        return f"Write '@{text}'."
    path = known_path(text, walk.locator) or (text if names_component(text, walk.locator) else None)
    if path is not None:
        return f"Write {{_target_: {path}}}."
    close = did_you_mean(text, [f"@{key}" for key in walk.full])
    return close if close.startswith("Did") else "Write '@ID' for an item, {_target_: CLASS}, or an expression with $."


def _find_unbuilt(walk: Walk, key: str) -> Iterator[Finding]:
    """What keeps a component that the stage needs as an argument of the system from being built."""
    where, value = located(walk.needed, f"system{ID_SEP_KEY}{key}")
    if value is None or not ConfigComponent.is_instantiable(value):
        return
    needs = f"keeps system{ID_SEP_KEY}{key} from being built"
    if ConfigComponent(value, locator=walk.locator).is_disabled():
        yield Finding(f"{where}{ID_SEP_KEY}_disabled_", f"{needs}, got {value['_disabled_']!r}", "Remove it.")
    elif value.get("_mode_") == "callable" and key.startswith(BUILT):
        yield Finding(f"{where}{ID_SEP_KEY}_mode_", f"{needs}, got 'callable'", "Remove it.")


def _check_resume(value: Any) -> Iterator[Finding]:
    """What `Workflow` takes to go on with a fit; a path is looked for when the fit is about to begin."""
    if value is not None and not (isinstance(value, str) and value):
        yield Finding("resume", f"must be a checkpoint, auto, force or none, got {value!r}", "Give --resume auto.")


def _check_skip_existing(value: Any) -> Iterator[Finding]:
    if not isinstance(value, (bool, type(None))) and not is_computed(value):
        yield Finding("skip_existing", f"must be true or false, got {value!r}", "Give --skip_existing true.")


def _check_bad_cases(config: dict) -> Iterator[Finding]:
    """What `System` makes of cases that cannot be read."""
    where, action = located(config, f"system{ID_SEP_KEY}{ON_BAD_CASE}")
    place, most = located(config, f"system{ID_SEP_KEY}{MAX_BAD_CASES}")
    if action is not None and not is_computed(action) and action not in (RAISE, SKIP):
        yield Finding(where, f"must be {RAISE} or {SKIP}, got {action!r}", did_you_mean(str(action), (RAISE, SKIP)))
    if most is None or is_computed(most):
        return
    if not str(most).isdigit() or int(most) < 1:
        yield Finding(place, f"must be a whole number from 1, got {most!r}", "Give one, or leave it out.")
    elif action in (None, RAISE):
        hint = f"Add {ON_BAD_CASE}: {SKIP}, or leave it out."
        yield Finding(place, f"is for {ON_BAD_CASE}: {SKIP}, got {most!r}", hint)


def _check_workers(config: dict) -> Iterator[Finding]:
    """Threads of `System` that finish cases."""
    where, workers = located(config, f"system{ID_SEP_KEY}workers")
    whole = isinstance(workers, int) and not isinstance(workers, bool) and workers >= 0
    if not (whole or workers is None or is_computed(workers)):
        yield Finding(where, f"must be a whole number from 0, got {workers!r}", "Give one, or leave it out.")


def _find_unskippable(walk: Walk) -> Iterator[Finding]:
    """Datasets that come to their end with a bad case, where one is to be left out."""
    if located(walk.full, f"system{ID_SEP_KEY}{ON_BAD_CASE}")[1] != SKIP:
        return
    for built in walk.built:
        kind = walk.class_of(built.id)
        if kind is not None and issubclass(kind, (SmartCacheDataset, IterableDataset)):
            hint = f"Take a CacheDataset or PersistentDataset, or set {ON_BAD_CASE}: {RAISE}."
            yield Finding(built.id, f"a {kind.__name__} ends at its first bad case, got {ON_BAD_CASE}: {SKIP}", hint)


def _check_seed(value: Any) -> Iterator[Finding]:
    """Lightning's ``seed_everything`` takes what fits into 32 bits."""
    if value is not None and not is_computed(value) and (not str(value).isdigit() or int(value) >= 2**32):
        problem = f"must be a whole number from 0 to {2**32 - 1}, got {value!r}"
        yield Finding("seed", problem, "Give one, or leave it out.")


def _check_counts(config: dict) -> Iterator[Finding]:
    """Arguments of Lightning's Trainer that count something and are given as parts of one; it looks at them late."""
    trainer = config["trainer"]
    if not isinstance(trainer, dict) or trainer.get("_target_") != TRAINER_TARGET:
        return
    parameters = inspect.signature(Trainer).parameters.values()
    for name in [p.name for p in parameters if p.annotation in (int, Optional[int])]:  # noqa: UP045
        where, value = located(config, f"trainer{ID_SEP_KEY}{name}")
        if isinstance(value, float) and not value.is_integer():
            yield Finding(where, f"must be a whole number, got {value!r}", "Give one.")


AUTOMATIC = {"gradient_clip_val": (None, 0, 0.0), "accumulate_grad_batches": (None, 1)}
"""Arguments of the Trainer for automatic optimization alone, and the values that ask for nothing."""


def _check_optimizers(config: dict) -> Iterator[Finding]:
    """What Lightning does for one optimizer alone: it clips and accumulates no gradients where several step on one loss."""
    system, trainer = config["system"], config["trainer"]
    if not isinstance(system, dict) or system.get("_target_") != SYSTEM_TARGET or not isinstance(trainer, dict):
        return
    _, optimizer = located(config, f"system{ID_SEP_KEY}optimizer")
    if not isinstance(optimizer, (dict, list)) or "_target_" in optimizer or len(optimizer) < 2:
        return
    for key, neutral in AUTOMATIC.items():
        where, value = located(config, f"trainer{ID_SEP_KEY}{key}")
        if value not in neutral:
            problem = f"is for one optimizer, and system{ID_SEP_KEY}optimizer has {len(optimizer)}, got {value!r}"
            hint = "Leave it out, or give one optimizer several parameter groups: params: [{params: …, lr: …}, …]."
            yield Finding(where, problem, hint)


def _check_checkpoint(id: str, path: Any) -> Iterator[Finding]:
    """A checkpoint that is given as a path; those that have a name instead Lightning finds itself."""
    local = isinstance(path, str) and "://" not in path and not is_computed(path)
    if local and path.endswith((".ckpt", ".pt", ".pth")) and not Path(path).exists():
        hint = "Mend the path; it is relative to where the command runs."
        yield Finding(id, f"there is no checkpoint {path!r}", hint)


def _check_arguments(config: dict) -> Iterator[Finding]:
    """A stage that would unpickle its checkpoint, which runs what is in it."""
    for stage in STAGES:
        where, value = located(config, ID_SEP_KEY.join(("args", stage, "weights_only")))
        if value not in (None, True):
            problem = f"must be true, since a checkpoint of strangers would be run, got {value!r}"
            yield Finding(where, problem, "Leave it out, and convert the checkpoint to tensors and plain values.")


def _check_schedulers(config: dict) -> Iterator[Finding]:
    """Misspelt keys of Lightning's ``lr_scheduler_config``, which it leaves out with a warning."""
    system = config["system"]
    if not isinstance(system, dict) or system.get("_target_") != SYSTEM_TARGET:
        return
    where, value = located(config, f"system{ID_SEP_KEY}scheduler")
    known = [field.name for field in fields(LRSchedulerConfig)]
    for id, section in _scheduler_sections(where, value):
        for key in section if "scheduler" in section and "_target_" not in section else ():
            hint = "" if key in known else close_name(str(key), known)
            if hint:
                yield Finding(f"{id}{ID_SEP_KEY}{key}", f"unknown key {key!r}, got {section[key]!r:.80}", hint)


def _scheduler_sections(id: str, value: Any) -> Iterable[tuple[str, dict]]:
    """A section, or those in a list or section of several."""
    if isinstance(value, dict) and "scheduler" not in value:
        value = [*value.items()]
    elif isinstance(value, list):
        value = [*enumerate(value)]
    else:
        return [(id, value)] if isinstance(value, dict) else []
    return [(f"{id}{ID_SEP_KEY}{key}", item) for key, item in value if isinstance(item, dict)]
