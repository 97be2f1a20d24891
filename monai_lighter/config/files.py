"""Which config files a run reads, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from monai.utils import ensure_tuple

from monai_lighter.errors import ConfigError, ConfigFileError, Finding

__all__ = ["config_files", "config_root", "unreadable"]


def config_files(config_file: Any) -> Any:
    """One path or several; MONAI takes a comma-separated string in some places alone."""
    if isinstance(config_file, str) and "," in config_file and not Path(config_file).is_file():
        return [name.strip() for name in config_file.split(",")]
    return list(config_file) if isinstance(config_file, tuple) else config_file


def config_root(files: Any) -> Path:
    """Directory of the first config file, as ``ConfigWorkflow`` has it."""
    return Path(ensure_tuple(files)[0]).parent if files is not None else Path("configs")


def unreadable(files: Any, error: Exception) -> Exception:
    """A `ConfigError` for a file that is not there or no YAML or JSON; other errors as they are."""
    if isinstance(error, FileNotFoundError):
        if error.filename is not None:  # MONAI looks for config files itself; the logging file is opened
            problem = f"Cannot find the logging config file: {error.filename}"
            return ConfigFileError([Finding("logging_file", problem, "Mend the path.")])
        return ConfigFileError([Finding("config_file", str(error).rstrip("."), "Mend the path.")])
    if isinstance(error, (yaml.YAMLError, json.JSONDecodeError)):
        names = ", ".join(map(str, ensure_tuple(files)))
        return ConfigError([Finding("config_file", f"{names} cannot be read: {error}", "Mend the file.")])
    return error
