"""Which config files a run reads, and what is wrong with them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY, MACRO_KEY, MERGE_KEY, merge_kv
from monai.utils import ensure_tuple

from monai_lighter.config.items import items
from monai_lighter.errors import ConfigError, ConfigFileError, Finding, did_you_mean
from monai_lighter.long_command import is_config_name

__all__ = [
    "bundle_folder",
    "config_files",
    "config_root",
    "explain_unreadable",
    "files_of_run",
    "find_macro_file",
    "require_files",
]


def config_files(config_file: Any) -> Any:
    """One path or several; MONAI takes a comma-separated string in some places alone."""
    if isinstance(config_file, str) and "," in config_file and not Path(config_file).is_file():
        return [name.strip() for name in config_file.split(",")]
    return list(config_file) if isinstance(config_file, tuple) else config_file


def config_root(files: Any) -> Path:
    """Directory of the first config file, as ``ConfigWorkflow`` has it."""
    return Path(ensure_tuple(files)[0]).parent if files is not None else Path("configs")


def bundle_folder(files: Any) -> Path:
    """Absolute path of the bundle that config files are in: the folder above ``configs``, or the folder of the first file."""
    root = Path(
        os.path.abspath(config_root(files))
    )  # the command may be run in configs/; links are followed afterwards
    return (root.parent if root.name == "configs" else root).resolve()


def require_files(config_file: Any, run_id: Any, init_id: Any, final_id: Any, override: Mapping[str, Any]) -> None:
    """Refuses a call without a config, and one in which files have become ids, as MONAI's command makes of ``a.yaml b.yaml``.

    Raises:
        ConfigError: it is such a call.
    """
    ids = {"run_id": run_id, "init_id": init_id, "final_id": final_id}
    found = []
    for name in (name for name, id in ids.items() if is_config_name(id)):
        files = ",".join([*map(str, ensure_tuple(config_file or ())), ids[name]])
        hint = f"Several files are one argument, with commas: --config_file {files}."
        found.append(Finding(name, f"must be the id of an item, got the file {ids[name]!r}", hint))
    if not config_file and not found:
        slips = [name for name, value in override.items() if is_config_name(value) and ID_SEP_KEY not in name]
        hint = (
            f"Did you mean --config_file {override[slips[0]]}?"
            if slips
            else "Name one: --config_file configs/train.yaml."
        )
        found.append(Finding("config_file", "must be a file or several, got none", hint))
    if found:
        raise ConfigError(found)


def find_macro_file(path: str, bundle: Path | None) -> Path:
    """Where the file of a macro (``%configs/common.yaml::spacing``) is: a relative one in the bundle, wherever the command is
    run, and where there is none in the bundle, as for MONAI, in the working directory.

    Args:
        path: as the macro names it.
        bundle: absolute path of the bundle; None: for MONAI's own reading.
    """
    inside = Path(path) if bundle is None else bundle / path
    return inside if inside.is_file() else Path(path)


def files_of_run(files: Any, meta_file: Any = None, logging_file: Any = None) -> list[Path]:
    """Configs, metadata and logging settings that a ``ConfigWorkflow`` reads with these arguments."""
    root = config_root(files)
    given = [*ensure_tuple(files or ()), *ensure_tuple(meta_file or root / "metadata.json")]
    given += [] if logging_file is False else [logging_file or root / "logging.conf"]
    return [path for path in map(Path, given) if path.is_file()]


def explain_unreadable(files: Any, error: Exception, meta_file: Any = None) -> Exception:
    """A `ConfigError` for a file that is missing, no YAML or JSON, or does not fit those before it; other errors as they are.

    Args:
        files: paths of the configs.
        error: what reading them, or the metadata, raised.
        meta_file: path of the metadata, or several. Default: ``metadata.json`` beside the config.
    """
    if isinstance(error, FileNotFoundError):
        if error.filename is None:  # MONAI looked for it; else it was opened
            return ConfigFileError([Finding("config_file", str(error).rstrip("."), "Mend the path.")])
        is_config = str(error.filename) in map(str, ensure_tuple(files))
        id, kind = ("config_file", "config") if is_config else ("logging_file", "logging config")
        return ConfigFileError([Finding(id, f"Cannot find the {kind} file: {error.filename}", "Mend the path.")])
    if isinstance(error, (yaml.YAMLError, json.JSONDecodeError)):
        id, name = _find_broken(files, meta_file)
        hint = "Mend the file."
        if "tag:yaml.org,2002:merge" in str(error):
            hint = "MONAI reads no merge keys (<<). Write the items out, or take a section whole by a macro: x: '%section'."
        return ConfigError([Finding(id, f"{name} cannot be read: {error}", hint)])
    if isinstance(error, (AttributeError, IndexError, KeyError, TypeError, ValueError)):
        for finder in (_no_configs, _no_names, _unmergeable, partial(_no_metadata, meta_file)):
            findings = list(finder(ensure_tuple(files)))
            if findings:
                return ConfigError(findings)
    return error


def _metadata_files(files: Any, meta_file: Any) -> list[str]:
    beside = config_root(files) / "metadata.json"
    return [str(file) for file in (ensure_tuple(meta_file) if meta_file else [beside]) if Path(file).is_file()]


def _find_broken(files: Any, meta_file: Any) -> tuple[str, str]:
    """The argument and the path of the file that cannot be read; of no single one, of all configs."""
    metadata = _metadata_files(files, meta_file)
    for id, paths in (("config_file", [*map(str, ensure_tuple(files))]), ("meta_file", metadata)):
        for path in paths:
            try:
                ConfigParser.load_config_file(path)
            except (yaml.YAMLError, json.JSONDecodeError):
                return id, path
            except (OSError, ValueError):
                continue
    return "config_file", ", ".join(map(str, ensure_tuple(files)))


def _no_metadata(meta_file: Any, files: Any) -> Iterator[Finding]:
    """Metadata that are no section."""
    for file in _metadata_files(files, meta_file):
        content = ConfigParser.load_config_file(file)
        if not isinstance(content, dict):
            yield Finding(
                "meta_file", f"{file} must hold a section, it holds {content!r:.80}", "Write name: value in it."
            )


def _no_configs(files: Any) -> Iterator[Finding]:
    """What is, by its name or its content, none of the files that ``ConfigParser.load_config_file`` reads."""
    for file in map(str, files):
        content = ConfigParser.load_config_file(file) if _is_named_config(file) else {}
        if not isinstance(content, dict):
            kind = "nothing" if content is None else f"a {type(content).__name__}"
            yield Finding(
                "config_file", f"{file} must hold config items, name: value, it holds {kind}", "Mend the file."
            )
        if not _is_named_config(file):
            kind = "a directory" if Path(file).is_dir() else "none"
            inside = sorted(
                str(path) for path in filter(_is_named_config, Path(file).glob("*")) if path.stem != "metadata"
            )
            hint = f"Name a file in it: {', '.join(inside)}." if inside else "Mend the path."
            yield Finding("config_file", f"must be a .yaml, .yml or .json file, {file!r} is {kind}", hint)


def _is_named_config(file: str | Path) -> bool:
    return re.match(ConfigParser.path_match, str(file), re.IGNORECASE) is not None


def _no_names(files: Any) -> Iterator[Finding]:
    """Names of items that YAML reads as a number, a date, true or false, which MONAI cannot merge."""
    for file in map(str, files):
        for name in ConfigParser.load_config_file(file):
            if not isinstance(name, str):
                problem = f"{file} has an item whose name must be a text, got the {type(name).__name__} {name!r}"
                yield Finding(str(name), problem, "Quote the name, or take another.")


def _unmergeable(files: Any) -> Iterator[Finding]:
    """Items that have no place in what the files before theirs hold, merged as ``ConfigParser.load_config_files`` does."""
    parser = ConfigParser({})
    for file in files:
        for id, value in ConfigParser.load_config_file(file).items():
            try:
                merge_kv(parser, id, value)
            except (IndexError, KeyError, TypeError, ValueError):
                yield Finding(id, f"{file} has no place for it in the files before", _hint(parser, id))


def _hint(parser: ConfigParser, id: str) -> str:
    parts = id.lstrip(MERGE_KEY).split(ID_SEP_KEY)
    for outer in (ID_SEP_KEY.join(parts[:n]) for n in range(1, len(parts) + 1)):
        macro = parser.get(outer)
        if isinstance(macro, str) and macro.startswith(MACRO_KEY):
            return f"{outer!r} is the macro {macro!r}: change it where it stands, or replace {outer!r} as a whole."
    if id.startswith(MERGE_KEY) and id[len(MERGE_KEY) :] in parser:
        return "Add a list to a list, a section to a section."
    parent = id.lstrip(MERGE_KEY).rpartition(ID_SEP_KEY)[0]
    known = [section for section, value in items(parser.get()) if section and isinstance(value, (dict, list))]
    return did_you_mean(parent, known)[:200]
