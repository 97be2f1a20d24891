"""Whether a config that judges or uses a network loads weights into it."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Collection, Iterator
from typing import Any

from monai.bundle.config_item import ConfigExpression
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.check.targets import target_of
from monai_lighter.check.walk import Walk
from monai_lighter.config.items import REFERENCE, is_computed, is_text, items, located, mentions, normalize, reached
from monai_lighter.config.stages import SYSTEM_TARGET
from monai_lighter.errors import Note

__all__ = ["find_idle_loads", "find_untrained"]

LOADS = re.compile(r"load_state_dict|load_weights|load_checkpoint|load_from_checkpoint|CheckpointLoader|adjust_prefix")
"""What loads weights, wherever it stands in a config."""
TRAINED = re.compile(
    r"pretrain|weights|ckpt|checkpoint|load|state_dict|hub|\.(pt|pth|ts|ckpt|safetensors)\b", re.IGNORECASE
)
"""What a network that has been trained has in its arguments."""
KNOWN = ("monai", "torch", "torchvision")
"""Packages whose networks begin with random weights unless an argument says otherwise."""


def find_untrained(walk: Walk) -> Note | None:
    """A note where a stage that does not train has a network into which nothing in the config loads weights.

    None wherever that cannot be told: a network, or a function that builds it, of any other package than `KNOWN`.
    """
    stage, system = walk.stage, walk.needed["system"]
    if stage in (None, "fit") or not isinstance(system, dict) or system.get("_target_") != SYSTEM_TARGET:
        return None
    _, given = located(walk.needed, f"args{ID_SEP_KEY}{stage}")
    if isinstance(given, str) or (isinstance(given, dict) and given.get("ckpt_path")):
        return None
    for id, value in items(walk.needed):
        fits = isinstance(value, dict) and str(value.get("_target_")).endswith("load_weights")
        if fits and value.get("strict") == "fit":
            problem = f"strict: fit may leave parts of the network untrained, with which stage {stage!r} goes on"
            return Note(id, problem, "Name the weights of the training (models/model.pt), without strict.")
    if any(id in walk.visited and isinstance(value, str) and LOADS.search(value) for id, value in items(walk.needed)):
        return None
    parts = [*reached(walk.needed, f"system{ID_SEP_KEY}model")]
    if not any(isinstance(value, (dict, str)) for _, value in parts) or not all(
        _is_random(walk, *part) for part in parts
    ):
        return None
    for note in find_idle_loads(walk.full, walk.visited):
        return Note("system::model", f"the network is untrained in stage {stage!r}: {note.problem}", note.hint)
    write = "{_target_: monai_lighter.load_weights, model: …, ckpt_path: …}"
    hint = f"Write model: {write}, or give --args::{stage}::ckpt_path PATH."
    return Note("system::model", f"the network is untrained in stage {stage!r}: the config loads no weights", hint)


def find_idle_loads(config: dict, visited: Collection[str]) -> Iterator[Note]:
    """Notes on top-level items of a native config that would load weights, and that no stage evaluates.

    Lists are left alone: one may be what an option of the command line names (``--init_id``).

    Args:
        config: the whole of it.
        visited: ids of all that is resolved.
    """
    texts = [(id, value) for id, value in items(config) if isinstance(value, str)]
    for key, value in config.items():
        own = [text for id, text in texts if id == key or id.startswith(f"{key}{ID_SEP_KEY}")]
        loads = (
            not isinstance(value, list) and (_is_target(value) or is_computed(value)) and any(map(LOADS.search, own))
        )
        if loads and key not in visited and not any(mentions(text, key) for _, text in texts):
            problem = f"{key!r} would load weights, but nothing refers to it, so that it is not evaluated"
            yield Note(str(key), problem, f"Write initialize: ['$@{key}'].")


def _is_target(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value


def _is_random(walk: Walk, id: str, value: Any) -> bool:
    """Whether a part of a network says nothing of weights that it has, and is of a package that is known."""
    key = id.rpartition(ID_SEP_KEY)[2]
    if value and not isinstance(value, dict) and TRAINED.search(key):
        return False
    if isinstance(value, dict) and "_target_" in value:
        name = value["_target_"]
        target = target_of(name, walk.locator) if is_text(name) else None
        return str(getattr(target, "__module__", "")).partition(".")[0] in KNOWN
    if not isinstance(value, str):
        return isinstance(value, (dict, list, tuple, int, float, type(None)))
    if TRAINED.search(value):
        return False
    return not ConfigExpression.is_expression(value) or _uses_known(value)


def _uses_known(expression: str) -> bool:
    try:
        tree = ast.parse(REFERENCE.sub("_", normalize(expression)[1:]).strip(), mode="eval")
    except SyntaxError:
        return False
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return all(name in (*KNOWN, "_") or hasattr(builtins, name) for name in names)
