"""What a prediction may be gone on with: the config as far as its outputs depend on it, as one number."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.config.items import at, copied, reached, referenced
from monai_lighter.config.stages import PROJECT, find_datasets
from monai_lighter.errors import ConfigError, Finding
from monai_lighter.system.system import System
from monai_lighter.trust.digest import hash_file
from monai_lighter.workflow.resume import LOADING, MOVED

__all__ = ["set_skip_existing"]

ROOTS = ("seed", "system", f"trainer{ID_SEP_KEY}callbacks", f"trainer{ID_SEP_KEY}precision")
"""What predictions depend on, and all that it refers to."""


def set_skip_existing(system: Any, parser: ConfigParser, bundle: Path) -> None:
    """Tells a system whether the config has ``skip_existing``, and by which number its outputs are known to be of this config.

    Args:
        system: of a run that predicts.
        parser: with the config that runs.
        bundle: its folder.

    Raises:
        ConfigError: the value is neither true nor false, or the system is none that can.
    """
    value = parser.get_parsed_content("skip_existing") if "skip_existing" in parser else False
    if not isinstance(value, (bool, type(None))):
        raise ConfigError([Finding("skip_existing", f"must be true or false, got {value!r}")])
    if isinstance(system, System):
        system.skip_existing, system.config_digest = bool(value), _digest_config(parser.get(), bundle)
    elif value:
        problem = f"true is for monai_lighter.System, the system is a {type(system).__name__}"
        raise ConfigError([Finding("skip_existing", problem, "Leave it out.")])


def _digest_config(config: dict[str, Any], bundle: Path) -> str:
    """Left out are the lists of cases, each of which is looked at by itself, ways of loading, and where the bundle is."""
    config, lists = copied(config), []
    for where in find_datasets(config, "predict"):
        section = at(config, where)
        lists.append(section.pop("data", None) if isinstance(section, dict) else None)
    config = _drop(config, [each for each in lists if isinstance(each, str) and referenced(each)])
    values = {id: value for root in ROOTS for id, value in reached(config, root) if not isinstance(value, (dict, list))}
    text = json.dumps([sorted(values.items()), [*_list_code(bundle)]], default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def _drop(value: Any, lists: Sequence[str]) -> Any:
    """Without what changes nothing, and without references to lists of cases: names that follow from them are looked at too."""
    if isinstance(value, dict):
        kept = {key: each for key, each in value.items() if key not in LOADING and key not in MOVED}
        return {key: _drop(each, lists) for key, each in kept.items() if each not in lists}
    return [_drop(each, lists) for each in value] if isinstance(value, list) else value


def _list_code(bundle: Path) -> Iterator[list[str]]:
    """Modules of the bundle and of its project, and their sha256."""
    for folder in (bundle / "scripts", *map(Path, getattr(sys.modules.get(PROJECT), "__path__", ()))):
        for file in sorted(folder.rglob("*.py")):
            yield [file.relative_to(folder).as_posix(), hash_file(file)]
