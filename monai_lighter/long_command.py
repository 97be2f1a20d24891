"""What MONAI would read another way than it is meant, in a line of ``python -m monai.bundle run``, told before MONAI reads it.

`monai_lighter.autoload` asks while ``torch`` is being imported: nothing here imports MONAI or torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from monai_lighter.config.native import STAGES, is_native
from monai_lighter.errors import Finding

__all__ = ["NAMES", "find_traps", "is_config_name"]

NAMES = ("monai_lighter.Workflow", "monai_lighter.workflow.Workflow", "monai_lighter.workflow.workflow.Workflow")
"""Paths of the workflow that a command may name."""
OWN = ("ConfigWorkflow", "monai.bundle.ConfigWorkflow", None)
"""MONAI's workflow, which it takes where none is named."""
SUFFIXES = (".yaml", ".yml", ".json")


def is_config_name(value: Any) -> bool:
    """Whether something is the name of a config file, rather than the id of an item."""
    return isinstance(value, str) and value.lower().endswith(SUFFIXES)


def find_traps(words: Sequence[str]) -> list[Finding]:
    """What a line does not mean to MONAI that it says to a reader; empty for a line that has nothing to do with this package.

    Args:
        words: after ``python -m monai.bundle``; ``--workflow`` of this package has become ``--workflow_name``.
    """
    if not words or words[0] not in ("run", "run_workflow"):
        return []
    ids, pairs = _read_line(words[1:])
    given = {**_read_file(dict(pairs).get("args_file")), **dict(pairs)}
    name = given.get("workflow_name") or None
    named = name or given.get("workflow")
    if isinstance(named, str) and _is_misspelt(named):
        return [Finding("workflow", f"there is no class {named!r}", f"Did you mean {NAMES[0]!r}?")]
    if name in NAMES:
        return list(_find_repeated(pairs))
    if name not in OWN:
        return []
    ids = [id for id in ids if not is_config_name(id)]
    return list(_find_native(str(ids[0] if ids else given.get("run_id", "run")), given, named))


def _read_line(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Words that stand alone, and pairs of names and values, as Fire takes them apart."""
    ids: list[str] = []
    pairs: list[tuple[str, str]] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            ids.append(word)
            continue
        name, given, value = word[2:].partition("=")
        if not given and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        pairs.append((name, value))
    return ids, pairs


def _read_file(file: Any) -> dict:
    """The names and values in a file; empty where that cannot be read, which is MONAI's to say."""
    try:
        text = Path(file).read_text(encoding="utf-8")
        content = json.loads(text) if str(file).endswith(".json") else yaml.safe_load(text)
    except (OSError, TypeError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_misspelt(name: str) -> bool:
    """Whether a name is none of this package's workflow, and no class of anybody's, and yet means it."""
    if name in NAMES:
        return False
    meant, top = name.replace("-", "_").lower(), name.partition(".")[0]
    if meant.startswith("monai_lighter") or meant == "workflow":
        return True
    return bool(get_close_matches(name, NAMES, 1, 0.8)) and not (top.isidentifier() and find_spec(top))


def _find_repeated(pairs: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    """Configs that are given one by one, of which Fire takes the last."""
    files = [value for name, value in pairs if name == "config_file"]
    if len(files) > 1:
        problem = f"is given {len(files)} times, and the last would count"
        yield Finding("config_file", problem, f"Write --config_file {','.join(files)}.")


def _find_native(run_id: str, given: Mapping[str, Any], named: Any) -> Iterator[Finding]:
    """A native config that MONAI's own workflow is to run, with what it needs and does not find."""
    files = given.get("config_file") or ()
    if isinstance(files, str):
        files = [file.strip(" '\"") for file in files.strip("[]()").split(",")]
    config: dict[str, Any] = {}
    for file in files:
        content = _read_file(file)
        config.update({str(id).lstrip("+"): value for id, value in content.items()})
    if not is_native(config):
        return
    short = run_id if run_id in STAGES else "fit"
    hint = f"Add --workflow {NAMES[0]}, or use: monai-lighter {short} {' '.join(files)}."
    if named:
        hint = f"{named!r} runs no native config. {hint}"
    found = {name: config.get(name, {}) for name in ("system", "trainer")}
    sections = [name for name, value in found.items() if isinstance(value, dict) and "_target_" not in value]
    if run_id not in config and run_id not in given:
        problem = f"run ID {run_id!r} doesn't exist in the config, which has stages of Lightning"
        yield Finding("workflow", problem, hint)
    elif sections and _uses(config.get(run_id), sections):
        yield Finding("workflow", f"{' and '.join(sections)} without `_target_` cannot be run by MONAI alone", hint)


def _uses(item: Any, names: Sequence[str]) -> bool:
    return any(f"@{name}" in str(item) for name in names)
