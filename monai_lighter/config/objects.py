"""Items of a native config that must be objects and are texts, numbers, or sections without a ``_target_``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from monai.bundle.config_item import ConfigComponent
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.config.sections import SYSTEM_TARGET, locate
from monai_lighter.config.suggestions import known_path
from monai_lighter.config.targets import names_component, target_key
from monai_lighter.config.walk import Walk, located
from monai_lighter.errors import Finding, did_you_mean

__all__ = ["no_objects", "unbuilt"]

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
LITERALS = {"null": "None", "none": "None", "~": "None", "true": "True", "false": "False"}
"""Texts that a command line or quotes make of what YAML has for these, and what to write on the command line."""
BUILT = ("model", "optimizer", "dataloaders")
"""Arguments of the system for which a function that would build them does not do."""
SCHEDULER = "scheduler"
"""Key of Lightning's ``lr_scheduler_config`` that holds the object."""


def no_objects(walk: Walk) -> Iterator[Finding]:
    """A finding for each of the items of `PLACES` that a run uses and that is no object and no expression."""
    for name, places in PLACES.items():
        section = walk.needed.get(name)
        if name in walk.visited and isinstance(section, dict) and section.get("_target_") in TARGETS[name]:
            for key, depth in places.items():
                yield from _item(walk, f"{name}{ID_SEP_KEY}{key}", depth)


def _item(walk: Walk, id: str, depth: int) -> Iterator[Finding]:
    where, value = located(walk.needed, id)
    if value is None or isinstance(value, bool) or ConfigComponent.is_instantiable(value):
        return
    if isinstance(value, dict) and target_key(value, walk.locator) is not None:
        return  # said already
    if isinstance(value, dict) and _lacks_target(value, depth):
        yield Finding(where, f"must be an object, got a section without `_target_`, {value!r:.80}", "Add _target_.")
    elif isinstance(value, (dict, list)):
        names = range(len(value)) if isinstance(value, list) else [SCHEDULER] if SCHEDULER in value else value
        for name in names:
            yield from _item(walk, f"{where}{ID_SEP_KEY}{name}", max(depth - 1, 0))
    elif isinstance(value, (str, int, float)) and not str(value).startswith(("$", "@")):
        kind = "text" if isinstance(value, str) else type(value).__name__
        yield Finding(where, f"must be an object, got the {kind} {value!r:.120}", _hint(str(value), walk))


def _lacks_target(section: dict, depth: int) -> bool:
    numbers = any(isinstance(item, (int, float)) and item is not False for item in section.values())
    return bool(section) and SCHEDULER not in section and (depth == 0 or numbers)


def _hint(text: str, walk: Walk) -> str:
    literal = LITERALS.get(text.lower())
    if literal is not None:
        return f"Write {literal} on the command line, {text.lower()} without quotes in a file."
    if re.fullmatch(r"[\w:#]+", text) and locate(walk.full, text) is not None:
        return f"Write '@{text}'."
    path = known_path(text, walk.locator) or (text if names_component(text, walk.locator) else None)
    if path is not None:
        return f"Write {{_target_: {path}}}."
    close = did_you_mean(text, [f"@{key}" for key in walk.full])
    return close if close.startswith("Did") else "Write '@ID' for an item, {_target_: CLASS}, or an expression with $."


def unbuilt(walk: Walk, key: str) -> Iterator[Finding]:
    """What keeps a component that the stage needs as an argument of the system from being built."""
    where, value = located(walk.needed, f"system{ID_SEP_KEY}{key}")
    if value is None or not ConfigComponent.is_instantiable(value):
        return
    needs = f"keeps system{ID_SEP_KEY}{key} from being built"
    if ConfigComponent(value, locator=walk.locator).is_disabled():
        yield Finding(f"{where}{ID_SEP_KEY}_disabled_", f"{needs}, got {value['_disabled_']!r}", "Remove it.")
    elif value.get("_mode_") == "callable" and key.startswith(BUILT):
        yield Finding(f"{where}{ID_SEP_KEY}_mode_", f"{needs}, got 'callable'", "Remove it.")
