"""What went wrong, in one form: ``config::id: what is wrong, with the value. What to do.``"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from types import TracebackType
from typing import Any, NamedTuple

from monai_lighter.errors.packages import install_hint_of

__all__ = [
    "BundleError",
    "CaseError",
    "ComponentError",
    "ConfigError",
    "ConfigFileError",
    "Finding",
    "NonFiniteError",
    "Note",
    "did_you_mean",
    "explain",
    "in_short",
    "in_terms_of_config",
    "is_command",
    "join_sentences",
    "print_errors_briefly",
]

TRACEBACK_VARIABLE = "MONAI_DEBUG"
"""MONAI's own switch (``monai.utils.MONAIEnvVars.debug``): ``MONAI_DEBUG=true`` shows tracebacks."""


class BundleError(Exception):
    """Base of the errors that need no traceback to be understood."""

    exit_code = 1


class Finding(NamedTuple):
    """One thing that is wrong in a config.

    Attributes:
        id: config id it was found at, such as ``system::optimizer::lr``.
        problem: what is wrong, with the value.
        hint: what to do.
    """

    id: str
    problem: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.id}: {self.problem}." + (f" {self.hint}" if self.hint else "")


class Note(Finding):
    """What is worth knowing about a config and need not be wrong: it is no reason to end with an exit code other than 0."""


class ConfigError(BundleError, ValueError):
    """All that is wrong in a config, found before anything of it is built. Ends the command line with exit code 2."""

    exit_code = 2

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = list(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))


class ConfigFileError(ConfigError, FileNotFoundError):
    """A config file that is not there."""

    __str__ = Exception.__str__


class ComponentError(BundleError, RuntimeError):
    """A config item could not be built: names the innermost config id, the cause is ``__cause__``."""

    def __init__(self, id: str, message: str) -> None:
        self.id = id
        super().__init__(message)


class CaseError(BundleError, RuntimeError):
    """A case (data item) could not be read or transformed: names the config id of the data and the case.

    DataLoader workers pass an exception on as text wrapped in their traceback (``torch._utils.ExceptionWrapper``); the
    message proper is what stands after the last mention of this class.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


class NonFiniteError(BundleError, ArithmeticError):
    """A loss, or weights, that are NaN or infinite: the run ends before such weights are saved."""


def did_you_mean(word: str, options: Iterable[Any]) -> str:
    """``Did you mean 'x'?`` for the closest of the options, or a list of them where none is close."""
    names = [str(option) for option in options]
    close = [name for name in names if name.lower() == word.lower()] or get_close_matches(word, names, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Use one of: {', '.join(sorted(names))}." if names else ""


def in_short(error: BaseException) -> str:
    """Class and message of an error, and how to install the package that it lacks.

    Of the message the first paragraph: some (MONAI's for a missing package) go on with a traceback. Of one from a DataLoader's
    worker, which is all traceback, the last line.
    """
    message, worker, trace = str(error).strip().partition("\nOriginal Traceback (most recent call last):")
    message = f"{message} {trace.strip().splitlines()[-1]}" if worker else message.split("\n\n")[0]
    return join_sentences(f"{type(error).__name__}: {_shorten_state(message)}", install_hint_of(error))


STATE = "Error(s) in loading state_dict for "
KEYS = re.compile(r'^(.*in state_dict): ("[^"]+"(?:, "[^"]+")*)', re.MULTILINE)
SIZES = re.compile(r"size mismatch for .+")


def _shorten_state(message: str) -> str:
    """What torch says of weights that do not fit a network: of hundreds of names how many, and three of each kind."""
    if STATE not in message:
        return message
    head, _, rest = message.partition("\n")
    kinds = [(match[1].strip(), match[2].split(", ")) for match in KEYS.finditer(rest)]
    kinds.append(("Other sizes", [line.removeprefix("size mismatch for ") for line in SIZES.findall(rest)]))
    parts = [
        f"{kind} ({len(some)}): {', '.join(some[:3])}{', …' if len(some) > 3 else ''}" for kind, some in kinds if some
    ]
    return f"{head} {'; '.join(parts)}" if parts else message


def join_sentences(*sentences: str) -> str:
    """Sentences as one text, each but the last with a full stop where it ends without one; empty ones are left out."""
    *first, last = [sentence for sentence in sentences if sentence]
    return " ".join([*(one if one.endswith((".", "!", "?")) else f"{one}." for one in first), last])


def explain(error: BaseException, message: str) -> None:
    """Gives an error that keeps its class, for those who catch it, a message in terms of the config: for the command line, and as
    a note, which tracebacks of Python and of notebooks show from Python 3.11 on."""
    if getattr(error, "in_terms_of_config", None) is None:
        error.__notes__ = [*getattr(error, "__notes__", ()), message]  # type: ignore[attr-defined]
    error.in_terms_of_config = message  # type: ignore[attr-defined]


def in_terms_of_config(error: BaseException) -> str | None:
    """The message of a `BundleError`, or of an error that has been explained; None for others."""
    return str(error) if isinstance(error, BundleError) else getattr(error, "in_terms_of_config", None)


def is_command() -> bool:
    """Whether this process is ``python -m monai.bundle``."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == "monai.bundle.__main__"


def print_errors_briefly() -> None:
    """Make this process end on a `BundleError`, and on an explained error, with its message and exit code and no traceback.

    Meant for a command line alone. Every other exception goes to the hook that was there before.
    """
    previous = sys.excepthook
    if getattr(previous, "for_bundle_errors", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        message = in_terms_of_config(error)
        if message is None or os.environ.get(TRACEBACK_VARIABLE, "").lower() in ("1", "true"):
            previous(kind, error, trace)
        else:
            _print_error(f"\n{message}\n({TRACEBACK_VARIABLE}=true shows the traceback)")
        if isinstance(error, BundleError):
            raise SystemExit(error.exit_code)

    hook.for_bundle_errors = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def _print_error(text: str) -> None:
    """Prints an error, of one process of several with its rank before each line, as torch does.

    In such a process torch's hook calls this one with another ``sys.stderr``, and loses what has gone there when this one ends
    the process with an exit code.
    """
    torch: Any = sys.modules.get("torch.distributed")
    stream = sys.stderr
    if torch is not None and torch.is_available() and torch.is_initialized():
        text = "\n".join(line and f"[rank{torch.get_rank()}]: {line}" for line in text.split("\n"))
        stream = sys.__stderr__ or stream
    print(text, file=stream, flush=True)
