"""Configs of Lighter 0.0.4, 0.0.5 and 0.1.0 as they are: its class paths stand for this package's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.machinery import PathFinder
from typing import Any

from monai_lighter.config.items import copied, items
from monai_lighter.config.stages import PROJECT, SYSTEM_TARGET, has_model_section

__all__ = [
    "LIGHTER",
    "LIGHTNING",
    "MODULES",
    "is_installed",
    "is_lighter",
    "names_lighter",
    "translated",
    "translated_path",
]

LIGHTER, LIGHTNING = "lighter", ("pytorch_lightning", "lightning.pytorch")
"""Lighter's package; the package that it is written for, and the one that this package is written for."""

PATHS = {
    "lighter.system.System": SYSTEM_TARGET,
    "lighter.System": SYSTEM_TARGET,
    "lighter.model.LighterModule": "monai_lighter.LighterModule",
    "lighter.LighterModule": "monai_lighter.LighterModule",
    "lighter.data.LighterDataModule": "monai_lighter.LighterDataModule",
    "lighter.LighterDataModule": "monai_lighter.LighterDataModule",
    "lighter.callbacks.writer.file.FileWriter": "monai_lighter.FileWriter",
    "lighter.callbacks.writer.table.TableWriter": "monai_lighter.TableWriter",
    "lighter.callbacks.writer.base.BaseWriter": "monai_lighter.callbacks.writers.BaseWriter",
    "lighter.callbacks.freezer.Freezer": "monai_lighter.Freezer",
    "lighter.callbacks.file_writer.FileWriter": "monai_lighter.OutputWriter",
    "lighter.callbacks.csv_writer.CsvWriter": "monai_lighter.CsvWriter",
    "lighter.callbacks.base_writer.BaseWriter": "monai_lighter.callbacks.output_writers.BatchWriter",
    "lighter.callbacks": "monai_lighter",
    "lighter.adapters": "monai_lighter",
    "lighter.utils.model.adjust_prefix_and_load_state_dict": "monai_lighter.models.adjust_prefix_and_load_state_dict",
    "lighter.utils.model": "monai_lighter.models",
    "lighter.utils.data": "monai_lighter.collate",
}
"""Path of Lighter's to the path of what stands for it; of a module, to the module that has its names."""
OF_MODEL = {"lighter.callbacks.FileWriter": "monai_lighter.OutputWriter"}
"""Paths that lead elsewhere in a config with a ``model`` section, which is one of Lighter 0.1.0."""
MODULES = frozenset(
    [
        "lighter",
        *(f"lighter.{name}" for name in ("system", "model", "data", "adapters", "callbacks", "utils")),
        *(f"lighter.callbacks.{name}" for name in ("base_writer", "csv_writer", "file_writer", "freezer", "writer")),
        *(f"lighter.callbacks.writer.{name}" for name in ("base", "file", "table")),
        *(f"lighter.utils.{name}" for name in ("data", "model")),
    ]
)
"""Modules of Lighter's that hold something for which something stands here."""
NAMED = re.compile(
    r"(?<![\w.])(" + "|".join(sorted(map(re.escape, PATHS | OF_MODEL), key=len, reverse=True)) + r")(?![\w])"
)
OWN = "monai_lighter."


def is_installed() -> bool:
    """Whether Lighter itself is installed, so that what imports it gets its own classes."""
    spec = PathFinder.find_spec(LIGHTER)
    return spec is not None and spec.origin is not None


def is_lighter(config: dict) -> bool:
    """Whether a config is written for Lighter: it names something of ``lighter``, has a ``project``, or has a ``model`` section.

    Args:
        config: before it is translated.
    """
    return names_lighter(config) or config.get(PROJECT) is not None or has_model_section(config)


def names_lighter(config: Any) -> bool:
    """Whether a target or an expression of a config names something of ``lighter``."""
    return any(NAMED.search(text) for text in _names(config))


def translated_path(path: str, of_model: bool = False) -> str:
    """The path of what stands for something of Lighter's; the path itself where nothing does.

    Args:
        path: of a class, a function, or with a module before it; it may be a part of an expression.
        of_model: whether it is of a config with a ``model`` section.
    """
    special = OF_MODEL if of_model else {}
    return NAMED.sub(lambda match: _exchanged(match, special), path)


def _exchanged(match: re.Match, special: dict[str, str]) -> str:
    path = match[1]
    if path in special:
        return special[path]
    return PATHS[path] if path in PATHS else path.replace("lighter.callbacks", PATHS["lighter.callbacks"], 1)


def translated(config: Any) -> Any:
    """A copy of a config in which every path of Lighter is this package's.

    Where the config then is one for this package's classes and no ``lightning.pytorch`` stands beside them,
    ``pytorch_lightning`` (which Lighter is written for, and whose classes are not those of ``lightning.pytorch``) becomes
    ``lightning.pytorch``. One with a ``model`` section is left to Lighter's own classes where Lighter is installed, since the
    class of its model may be derived from them.
    """
    if not isinstance(config, dict):
        return config
    of_model, installed = has_model_section(config), is_installed()
    if of_model and installed:
        return copied(config)
    written = is_lighter(config) and not installed
    config = _replaced(config, lambda text: translated_path(text, of_model))
    system = config.get("system")
    ours = isinstance(system, dict) and str(system.get("_target_", OWN)).startswith(OWN)
    old, new = LIGHTNING
    if (ours or written) and f"{new}." not in repr(config):
        config = _replaced(config, lambda text: re.sub(rf"(?<![\w.]){old}(?!\w)", new, text))
    return config


def _is_name(key: Any, value: Any) -> bool:
    return isinstance(value, str) and (key == "_target_" or value.startswith("$"))


def _names(config: Any) -> Iterator[str]:
    """Targets and expressions."""
    for id, value in items(config):
        if _is_name(id.rpartition("::")[2], value):
            yield value


def _replaced(config: Any, replace: Any, key: Any = None) -> Any:
    if isinstance(config, dict):
        return {name: _replaced(value, replace, name) for name, value in config.items()}
    if isinstance(config, list):
        return [_replaced(value, replace) for value in config]
    return replace(config) if _is_name(key, config) else config
