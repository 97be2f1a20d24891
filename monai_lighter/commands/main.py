"""The entry of the command line."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import takewhile

import fire

from monai_lighter.errors import Finding, did_you_mean, print_errors_briefly
from monai_lighter.share.layout import SharingError

__all__ = ["VERBS", "main"]

VERBS = ("init", "check", "inspect", "package", "export", "load", "run")


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
        for verb in named:
            _require_known_flags(_verb(verb), words[1:])
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


def _require_known_flags(verb: Callable, words: Sequence[str]) -> None:
    """Fire calls a verb first and complains of what it could not use afterwards.

    Raises:
        SharingError: a flag that the verb does not have.
    """
    parameters = inspect.signature(verb).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    flags = [word.lstrip("-").partition("=")[0] for word in takewhile("--".__ne__, words) if word.startswith("--")]
    known = {"help", *parameters, *(f"no{name}" for name in parameters)}
    unknown = [flag for flag in flags if flag.replace("-", "_") not in known]
    if unknown:
        what = f"{verb.__name__} has no such flag"
        raise SharingError(*(Finding(f"--{flag}", what, did_you_mean(flag, parameters)) for flag in unknown))


def _nothing(result: object) -> None:
    """What Fire prints of a result: `main` prints it."""
