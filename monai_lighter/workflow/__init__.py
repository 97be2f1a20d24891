"""A config becomes a run."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """``monai_lighter.workflow.Workflow``, a path that commands name, with no import until it is asked for."""
    if name != "Workflow":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.workflow").Workflow
