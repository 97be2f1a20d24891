"""The entry of the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module

import fire

from monai_lighter.errors import print_errors_briefly

__all__ = ["VERBS", "main"]

VERBS = ("init", "inspect", "package", "export", "load", "run")


def main() -> None:
    """Runs the verb that the command line names.

    Standard output is for the verb's report alone, so that it can be piped; what libraries print goes to standard error.
    Only the module of that verb is imported.
    """
    print_errors_briefly()
    words = sys.argv[1:]
    named = [word for word in words[:1] if word in VERBS]
    if named and words[1:] in (["--help"], ["-h"]):
        words = [*named, "--", "--help"]  # else Fire takes it for an item of the config, in verbs that have overrides
    report, sys.stdout = sys.stdout, sys.stderr
    try:
        result = fire.Fire(
            {verb: _verb(verb) for verb in named or VERBS}, words, name="monai_lighter", serialize=_nothing
        )
    finally:
        sys.stdout = report
    if result is not None:
        print(result)
    sys.exit(getattr(result, "exit_code", 0))


def _verb(name: str) -> Callable:
    return getattr(import_module(f"monai_lighter.commands.{name}"), name)


def _nothing(result: object) -> None:
    """What Fire prints of a result: `main` prints it."""
