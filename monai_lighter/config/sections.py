"""The sections of a native config, and which of them a stage needs."""

from __future__ import annotations

from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigComponent
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_REF_KEY, ID_SEP_KEY

__all__ = [
    "ADAPTERS",
    "BY_MODE",
    "MODES",
    "MODES_OF_STAGE",
    "STAGES",
    "SYSTEM_TARGET",
    "TOP_LEVEL",
    "TRAINER_TARGET",
    "is_native",
    "locate",
    "plain_config",
    "pruned",
    "with_defaults",
]

STAGES = ("fit", "validate", "test", "predict")
MODES_OF_STAGE = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}
MODES = ("train", "val", "test", "predict")
BY_MODE = ("dataloaders", "metrics", "adapters", "postprocessing")
TOP_LEVEL = ("args", "bundle_root", "lightning", "project", "seed", "system", "trainer", "vars")
SYSTEM_KEYS = frozenset((*BY_MODE, "model", "criterion", "optimizer", "scheduler", "inferer"))
ADAPTERS = ("batch", "criterion", "metrics", "logging")
SYSTEM_TARGET = "monai_lighter.System"
TRAINER_TARGET = "lightning.pytorch.Trainer"


def is_native(config: Any) -> bool:
    """Whether a config has a ``system`` section, and not something of its own under that name, as a bundle of engines may."""
    if not isinstance(config, dict) or "system" not in config:
        return False
    system = config["system"]
    return not isinstance(system, dict) or not system or "_target_" in system or not SYSTEM_KEYS.isdisjoint(system)


def with_defaults(config: dict, bundle_root: str) -> None:
    """In place: ``_target_`` of ``system`` and ``trainer``, and the bundle as the Trainer's ``default_root_dir``.

    Where one of the sections that stages are pruned in is a reference to another, it becomes a section of references, one to
    each item of the other, so that a stage can leave some of them alone.

    Args:
        config: native config, macros expanded.
        bundle_root: absolute path of the bundle.
    """
    if config.get("trainer") is None:
        config["trainer"] = {}
    for name in ("system", "trainer", "args"):
        _open(config, config, name)
    if isinstance(config["system"], dict):
        config["system"].setdefault("_target_", SYSTEM_TARGET)
        for key in (*BY_MODE, "inferer"):
            _open(config, config["system"], key, "system")
    if isinstance(config["trainer"], dict):
        config["trainer"].setdefault("_target_", TRAINER_TARGET)
        config["trainer"].setdefault("default_root_dir", bundle_root)


def _open(config: dict, parent: dict, key: str, above: str = "") -> None:
    id = f"{above}{ID_SEP_KEY}{key}" if above else key
    where = locate(config, id) if isinstance(parent.get(key), str) else None
    section = ConfigParser(config).get(where) if where is not None else None
    if isinstance(section, dict) and (not above or "_target_" not in section):
        parent[key] = {
            name: value if name in ConfigComponent.non_arg_keys else f"{ID_REF_KEY}{where}{ID_SEP_KEY}{name}"
            for name, value in section.items()
        }


def pruned(config: dict, stage: str) -> dict:
    """A copy of a native config with only what a stage builds.

    Kept are the modes of the stage (fit: train and val; validate: val; …), the arguments of that stage, the criterion for fit
    and validate, the optimizer and scheduler for fit. Follows ``lighter.engine.resolver.Resolver.get_stage_config``.
    """
    config = _copied(config)
    modes = MODES_OF_STAGE[stage]
    system = config["system"]
    if isinstance(system, dict):
        for key in (*BY_MODE, "inferer"):
            section = system.get(key)
            if isinstance(section, dict) and "_target_" not in section:
                for mode in MODES:
                    if mode not in modes:
                        section.pop(mode, None)
        unused = {"fit": (), "validate": ("optimizer", "scheduler")}.get(stage, ("optimizer", "scheduler", "criterion"))
        for key in unused:
            system.pop(key, None)
    if isinstance(config.get("args"), dict):
        config["args"] = {stage: config["args"].get(stage) or {}}
    return config


def _copied(config: Any) -> Any:
    """Dicts and lists are copied; what they hold (objects that properties were set to) is not."""
    if isinstance(config, dict):
        return {key: _copied(value) for key, value in config.items()}
    return [_copied(value) for value in config] if isinstance(config, list) else config


def plain_config(config: Any) -> Any:
    """A config for files and checkpoints: plain values; any other object, set from Python, as its ``repr``; no metadata."""
    if isinstance(config, dict):
        return {str(key): plain_config(value) for key, value in config.items() if key != ConfigParser.meta_key}
    if isinstance(config, (list, tuple)):
        return [plain_config(value) for value in config]
    return config if isinstance(config, (str, int, float, bool, type(None))) else repr(config)


def locate(config: Any, id: str) -> str | None:
    """The id at which an item really stands: whole-item references (``@other``) on the way are followed.

    Returns:
        None where there is no such item.
    """
    parts = id.split(ID_SEP_KEY)
    path: list[str] = []
    node, steps = config, 0
    while True:
        if isinstance(node, str) and ReferenceResolver.id_matcher.fullmatch(node.replace("#", ID_SEP_KEY)):
            steps += 1
            if steps > 100:
                return None
            path, parts, node = [], node[len(ID_REF_KEY) :].replace("#", ID_SEP_KEY).split(ID_SEP_KEY) + parts, config
        elif not parts:
            return ID_SEP_KEY.join(path)
        else:
            key, *parts = parts
            if isinstance(node, dict) and key in node:
                node = node[key]
            elif isinstance(node, list) and key.lstrip("-").isdigit() and -len(node) <= int(key) < len(node):
                node = node[int(key)]
            else:
                return None
            path.append(key)
