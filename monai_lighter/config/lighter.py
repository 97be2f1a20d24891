"""Lighter 0.0.4 configs as they are: its class paths stand for this package's."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["translated"]

PATHS = {
    "lighter.system.System": "monai_lighter.System",
    "lighter.System": "monai_lighter.System",
    "lighter.callbacks.writer.file.FileWriter": "monai_lighter.FileWriter",
    "lighter.callbacks.writer.table.TableWriter": "monai_lighter.TableWriter",
    "lighter.callbacks.writer.base.BaseWriter": "monai_lighter.callbacks.writers.BaseWriter",
    "lighter.callbacks.freezer.Freezer": "monai_lighter.Freezer",
    "lighter.callbacks": "monai_lighter",
    "lighter.adapters": "monai_lighter",
    "lighter.utils.model.adjust_prefix_and_load_state_dict": "monai_lighter.models.adjust_prefix_and_load_state_dict",
    "lighter.utils.model": "monai_lighter.models",
    "lighter.utils.data": "monai_lighter.collate",
}
LIGHTER = re.compile(r"(?<![\w.])(" + "|".join(sorted(map(re.escape, PATHS), key=len, reverse=True)) + r")(?![\w])")
OWN_SYSTEM = "monai_lighter."


def translated(config: Any) -> Any:
    """A copy of a config in which every path of Lighter 0.0.4 is this package's.

    Where the system then is ours and no ``lightning.pytorch`` stands beside it, ``pytorch_lightning`` (which Lighter is written
    for, and whose classes are not those of ``lightning.pytorch``) becomes ``lightning.pytorch``.
    """
    config = _replaced(config, lambda text: LIGHTER.sub(lambda match: PATHS[match.group(1)], text))
    system = config.get("system") if isinstance(config, dict) else None
    ours = isinstance(system, dict) and str(system.get("_target_", OWN_SYSTEM)).startswith(OWN_SYSTEM)
    if ours and "lightning.pytorch." not in repr(config):
        config = _replaced(config, lambda text: re.sub(r"(?<![\w.])pytorch_lightning(?!\w)", "lightning.pytorch", text))
    return config


def _replaced(config: Any, replace: Any, key: Any = None) -> Any:
    if isinstance(config, dict):
        return {name: _replaced(value, replace, name) for name, value in config.items()}
    if isinstance(config, list):
        return [_replaced(value, replace) for value in config]
    if isinstance(config, str) and (key == "_target_" or config.startswith("$")):
        return replace(config)
    return config
