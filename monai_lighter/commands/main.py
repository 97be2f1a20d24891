"""The entry of the command line."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

from monai_lighter import __version__
from monai_lighter.commands import INTERRUPTED, PROGRAM, interruptible
from monai_lighter.commands.arguments import UsageError, format_help, is_asked_for_help, read_words
from monai_lighter.commands.output import ended_by_closed_pipe, format_error, silence_closed_pipes
from monai_lighter.config.native import find_similar_stage
from monai_lighter.errors import Finding, did_you_mean, print_errors_briefly

__all__ = ["VERBS", "main"]

STAGE, JSON = "stage", "--json"
MODULES = {
    **dict.fromkeys(("fit", "validate", "test", "predict"), STAGE),
    **{verb: verb for verb in ("init", "check", "inspect", "package", "export", "load")},
    **{verb: verb for verb in ("study", "compare", "report", "run")},
}
"""The module in ``commands`` of each verb."""
VERBS = tuple(MODULES)


def main() -> None:
    """Runs the verb that the command line names, and ends this process with its exit code.

    Standard output is for the verb's report alone, so that it can be piped; what libraries print goes to standard error. A stage
    has no report, and prints as the long command does. With ``--json`` what is wrong is JSON too. Ctrl-C and a pipe that was
    closed end it with no more words.
    """
    words = sys.argv[1:]
    try:
        interruptible()
        print_errors_briefly()
        code = _run(words)
        sys.stdout.flush()
    except UsageError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        code = silence_closed_pipes()
        if not code:  # it was another pipe, as those to workers are
            raise
    except SystemExit as stop:
        if not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        code = INTERRUPTED  # Lightning catches Ctrl-C, and exits when it has put away what it holds
    sys.exit(code)


def _run(words: Sequence[str]) -> int:
    name, *rest = [*words, "--help"]
    if name in ("--version", "-V"):
        print(f"{PROGRAM} {__version__}")
        return 0
    if name in ("--help", "-h", "help"):
        print(_list_verbs())
        return 0
    if name not in VERBS:
        raise UsageError(Finding(name, f"{PROGRAM} has no such verb", _meant(name)))
    verb = _find_verb(name)
    if is_asked_for_help(words):
        print(format_help(verb))
        return 0
    with _told_as_json(JSON in words):
        arguments, keywords = read_words(verb, rest[:-1])
        if MODULES[name] == STAGE:
            with ended_by_closed_pipe():
                verb(*arguments, **keywords)
            return 0
        with _kept_for_report():
            result = verb(*arguments, **keywords)
    if result is not None:
        print(result)
    return getattr(result, "exit_code", 0)


def _find_verb(name: str) -> Callable:
    return getattr(import_module(f"monai_lighter.commands.{MODULES[name]}"), name)


def _meant(name: str) -> str:
    if name.endswith((".yaml", ".yml", ".json")):
        return f"The verb comes first: {PROGRAM} fit {name}."
    stage = find_similar_stage(name)
    return f"Did you mean {stage!r}?" if stage else did_you_mean(name, VERBS)


def _list_verbs() -> str:
    width = max(map(len, VERBS))
    lines = [
        f"usage: {PROGRAM} VERB [options]",
        "",
        "Medical imaging by config: MONAI bundles on PyTorch Lightning.",
        "",
    ]
    for name in VERBS:
        summary = inspect.cleandoc(_find_verb(name).__doc__ or "").partition("\n")[0]
        lines.append(f"  {name:<{width}}  {summary}")
    return "\n".join([*lines, "", f"{PROGRAM} VERB --help shows what a verb takes, {PROGRAM} --version the version."])


@contextmanager
def _kept_for_report() -> Iterator[None]:
    """What is printed within it goes to standard error."""
    report, sys.stdout = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout = report


@contextmanager
def _told_as_json(as_json: bool) -> Iterator[None]:
    """An error within it is printed as JSON too, where a program reads standard output."""
    try:
        yield
    except Exception as error:
        if as_json and not isinstance(error, BrokenPipeError):
            print(json.dumps(format_error(error), indent=2), flush=True)
        raise
