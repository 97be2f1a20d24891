"""The static check of a native config: all that is wrong, found without building anything or running an expression.

As in torchtune's ``config/_validate.py``, everything is reported at once.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from lightning.pytorch import Trainer
from monai.bundle.config_item import ComponentLocator, ConfigComponent, ConfigExpression
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.config.sections import ADAPTERS, BY_MODE, MODES, MODES_OF_STAGE, STAGES, SYSTEM_TARGET
from monai_lighter.config.sections import locate as locate_id
from monai_lighter.config.targets import component
from monai_lighter.errors import Finding, did_you_mean

__all__ = ["check"]

REFERENCE = ReferenceResolver()


def check(
    full: dict, needed: dict, stage: str | None, roots: Iterable[str], locator: ComponentLocator
) -> list[Finding]:
    """All findings in a native config.

    Args:
        full: the config, macros expanded, defaults set.
        needed: `pruned` for the stage; the same as ``full`` where the run is an expression.
        stage: ``fit``, ``validate``, ``test``, ``predict``, or None.
        roots: ids that will be resolved. Items that none of them leads to are left alone, as MONAI does.
        locator: MONAI's map from short class names to modules.
    """
    findings = [*_sections(full), *_mixed_lightning(full)]
    if stage is not None:
        findings += _stage(full, needed, stage)
    visited: set[str] = set()
    for root in roots:
        where = locate_id(needed, root)
        if where is not None:
            findings += _Walk(full, needed, stage, locator, visited).item(where if ID_SEP_KEY in root else root)
    return list(dict.fromkeys(findings))


def _sections(full: dict) -> Iterator[Finding]:
    system = full["system"]
    if isinstance(system, dict) and system.get("_target_") == SYSTEM_TARGET:
        for key in BY_MODE:
            yield from _keys(f"system::{key}", system.get(key), MODES)
        for mode, adapters in (
            (system.get("adapters") or {}).items() if isinstance(system.get("adapters"), dict) else ()
        ):
            yield from _keys(f"system::adapters::{mode}", adapters, ADAPTERS)
    elif not isinstance(system, (dict, str)):
        yield Finding("system", f"must be a section, got {system!r}", "Give it model, optimizer, dataloaders, ….")
    if not isinstance(full["trainer"], (dict, str)):
        yield Finding("trainer", f"must be a section, got {full['trainer']!r}", "Give it max_epochs, devices, ….")
    yield from _keys("args", full.get("args"), STAGES)
    for stage in STAGES:
        arguments = (full.get("args") or {}).get(stage) if isinstance(full.get("args"), dict) else None
        accepted = [
            name for name in inspect.signature(getattr(Trainer, stage)).parameters if name not in ("self", "model")
        ]
        yield from _keys(f"args::{stage}", arguments, accepted)


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
    for id, value in _items("", full):
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


def _items(id: str, config: Any) -> Iterator[tuple[str, Any]]:
    yield id, config
    if isinstance(config, (dict, list)):
        for _, sub_id, value in REFERENCE.iter_subconfigs(id, config):
            yield from _items(sub_id, value)


def _stage(full: dict, needed: dict, stage: str) -> Iterator[Finding]:
    system = needed["system"]
    if not isinstance(system, dict) or system.get("_target_") != SYSTEM_TARGET:
        return
    id = locate_id(needed, f"args{ID_SEP_KEY}{stage}")
    arguments = {} if id is None else _at(needed, id)
    mode = MODES_OF_STAGE[stage][0]
    loaders = system.get("dataloaders")
    elsewhere = isinstance(arguments, str) or any(
        "datamodule" in name or "dataloaders" in name for name in arguments or ()
    )
    if not elsewhere and not isinstance(loaders, str) and not (loaders or {}).get(mode):
        others = [m for m in MODES if (full["system"].get("dataloaders") or {}).get(m)]
        has = f"; it has {', '.join(others)}" if others else ""
        yield Finding(f"system::dataloaders::{mode}", f"stage {stage!r} needs a dataloader, got none{has}", "Add it.")
    needs = {"fit": ("model", "criterion", "optimizer")}.get(stage, ("model",))
    for key in needs:
        if not system.get(key):
            yield Finding(f"system::{key}", f"stage {stage!r} needs it, got {system.get(key)!r}", "Add it.")


def _at(config: Any, id: str) -> Any:
    for key in id.split(ID_SEP_KEY):
        if not isinstance(config, (dict, list)):
            raise KeyError(id)
        config = config[key] if isinstance(config, dict) else config[int(key)]
    return config


class _Walk:
    """Checks an item and everything it leads to, each once."""

    def __init__(
        self, full: dict, needed: dict, stage: str | None, locator: ComponentLocator, visited: set[str]
    ) -> None:
        self.full, self.needed, self.stage, self.locator, self.visited = full, needed, stage, locator, visited

    def item(self, id: str, trail: tuple[str, ...] = ()) -> Iterator[Finding]:
        if id in trail:
            yield Finding(id, f"refers to itself ({' -> '.join([*trail[trail.index(id) :], id])})", "Break the circle.")
            return
        if id in self.visited:
            return
        self.visited.add(id)
        config = _at(self.needed, id)
        if isinstance(config, dict):
            if ConfigComponent.is_instantiable(config):
                if ConfigComponent(config).is_disabled():
                    return
                yield from component(id, config, self.locator)
        elif isinstance(config, str):
            if ConfigExpression.is_expression(config):
                yield from self._expression(id, config)
            for reference in REFERENCE.match_refs_pattern(config):
                yield from self._reference(id, config, reference, (*trail, id))
        if isinstance(config, (dict, list)):
            for _, sub_id, _ in REFERENCE.iter_subconfigs(id, config):
                yield from self.item(sub_id, (*trail, id))

    def _reference(self, id: str, config: str, reference: str, trail: tuple[str, ...]) -> Iterator[Finding]:
        if not reference:
            hint = "Write chr(64) for the character, torch.matmul for the product."
            yield Finding(id, f"has an `@` that is no reference, in {config[:120]!r}", hint)
            return
        try:
            _at(self.needed, reference)
        except (KeyError, IndexError, ValueError):
            ids = [known for known, _ in _items("", self.needed) if known]
            if locate_id(self.full, reference) is not None and self.stage:
                hint = f"Stage {self.stage!r} does not build it."
            else:
                hint = did_you_mean(reference, ids) if len(ids) < 2000 else ""
                hint = hint if hint.startswith("Did") else "Define it, or mend the name."
            yield Finding(id, f"refers to `@{reference}`, which is not in the config, in {config[:120]!r}", hint)
            return
        yield from self.item(reference, trail)

    def _expression(self, id: str, config: str) -> Iterator[Finding]:
        source = REFERENCE.normalize_id(config[1:].strip())
        try:  # references become what MONAI makes of them, whose quotes and brackets not every f-string takes
            ast.parse(REFERENCE.id_matcher.sub(lambda match: f"{REFERENCE._vars}['{match.group()[1:]}']", source))
        except SyntaxError as error:
            problem = f"is not a valid expression ({error.msg}), got {config[:200]!r}"
            yield Finding(id, problem, "Mend the Python in it.")
