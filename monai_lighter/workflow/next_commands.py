"""The commands that come after a run: what measures or applies a trained network, and what goes on with a fit."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY
from monai.utils import ensure_tuple

from monai_lighter.config.items import locate
from monai_lighter.config.stages import MODES_OF_STAGE, is_native

__all__ = ["list_next_commands"]

PROGRAM = "monai-lighter"
FILE_OF_STAGE = {"test": "evaluate", "predict": "inference"}
"""Names that MONAI's bundles give to the configs of the stages that follow a fit."""
OF_FIT = ("resume",)
ARGUMENTS_OF_FIT = ID_SEP_KEY.join(("args", "fit", ""))
SUFFIXES = (".yaml", ".yml", ".json")


def list_next_commands(files: Any, override: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Stage to the words of the command that runs it: ``fit`` with this config again, ``test`` and ``predict`` with one for them.

    That is the config itself, or the one beside it that MONAI's bundles have for it (``evaluate``, ``inference``). Overrides are
    repeated where that config has the item.

    Args:
        files: paths of the config files that the user gave.
        override: id to value, as the user gave them.
        config: native config, of plain values.
    """
    names = [str(name) for name in ensure_tuple(files)]
    commands = {"fit": _write_command("fit", names, override)}
    override = {id: value for id, value in override.items() if id not in OF_FIT and not id.startswith(ARGUMENTS_OF_FIT)}
    for stage, stem in FILE_OF_STAGE.items():
        if locate(dict(config), _loader_of(stage)) is not None:
            commands[stage] = _write_command(stage, names, override)
            continue
        beside = [Path(names[-1]).with_name(f"{stem}{suffix}") for suffix in SUFFIXES]
        found = next((path for path in beside if path.is_file() and str(path) not in names), None)
        others = [*names[:-1], str(found)]
        read = _read(others) if found is not None else {}
        if is_native(read):
            kept = {id: value for id, value in override.items() if locate(read, id) is not None}
            commands[stage] = _write_command(stage, others, kept)
    return commands


def _loader_of(stage: str) -> str:
    return ID_SEP_KEY.join(("system", "dataloaders", MODES_OF_STAGE[stage][0]))


def _read(files: Sequence[str]) -> dict[str, Any]:
    """The config in files; empty where they make none, which the command itself would say."""
    try:
        return dict(ConfigParser.load_config_files(list(files)))
    except Exception:  # of whichever kind: nothing here may end a run that is through
        return {}


def _write_command(stage: str, files: Sequence[str], override: Mapping[str, Any]) -> list[str]:
    words = [PROGRAM, stage, *files]
    for id, value in override.items():
        words += [f"--{id}", _write_value(value)]
    return words


def _write_value(value: Any) -> str:
    """A value as Fire reads it again: what would be read as a number or a list, and is a text, has quotes of its own."""
    if not isinstance(value, str):
        return repr(value)
    try:
        ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return value
    return repr(value)
