"""A command line taken apart for a verb, a function whose docstring is its help."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from monai_lighter.commands import PROGRAM
from monai_lighter.errors import BundleError, Finding, did_you_mean

__all__ = ["UsageError", "format_help", "is_asked_for_help", "read_words", "require_configs", "require_path"]

HELP = ("--help", "-h")
ITEM = re.compile(r"[A-Za-z_+~][\w:#.-]*=")
"""The beginning of a word that sets an item: ``id=value``."""
TRUTH = {"true": True, "false": False}
CONFIG_SUFFIXES = (".yaml", ".yml", ".json")
SHORT = {"o": "output"}
WIDTH = 100


class UsageError(BundleError, ValueError):
    """What is wrong with a command, told before anything is imported for it. Ends the command line with exit code 2."""

    exit_code = 2

    def __init__(self, *findings: Finding) -> None:
        self.findings = list(findings)
        super().__init__("\n".join(str(finding) for finding in findings))


def is_asked_for_help(words: Sequence[str]) -> bool:
    return any(word in HELP for word in words)


def read_words(verb: Callable, words: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments and keywords of a verb.

    A word that is no flag is an argument; ``--name value`` and ``--name=value`` are keywords, ``--name`` and ``--noname`` true
    and false for those that are ``bool``. Where the verb has overrides, any other ``--id value``, ``--id=value`` and ``id=value``
    is one, its value read as MONAI's command reads it: by Fire; or left a text, where the verb says so.

    Args:
        verb: function; the annotations say which of its parameters, and whether its overrides, are ``bool``, ``int``, texts
            (``str``), or read by Fire.
        words: after the verb.

    Raises:
        UsageError: all that is wrong: flags that it does not have, values that are missing or none of their kind, arguments that
            are missing or too many.
    """
    line = _CommandLine(verb, words)
    line.read()
    line.require_arguments()
    if line.findings:
        raise UsageError(*line.findings)
    return line.arguments, line.keywords


class _CommandLine:
    def __init__(self, verb: Callable, words: Sequence[str]) -> None:
        self.rest = [word for word in words if word != "--"]
        parameters = inspect.signature(verb).parameters.values()
        self.name = verb.__name__
        self.known = {one.name: one for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD}
        self.known.update({one.name: one for one in parameters if one.kind is one.KEYWORD_ONLY})
        self.many = next((one.name for one in parameters if one.kind is one.VAR_POSITIONAL), None)
        of_items = next((one for one in parameters if one.kind is one.VAR_KEYWORD), None)
        self.takes_items = of_items is not None
        self.read_item = str if of_items is not None and of_items.annotation == "str" else _read_value
        self.arguments: list[Any] = []
        self.keywords: dict[str, Any] = {}
        self.findings: list[Finding] = []

    def read(self) -> None:
        while self.rest:
            word = self.rest.pop(0)
            if _is_flag(word):
                self._read_flag(*word.lstrip("-").partition("="))
            elif self.takes_items and ITEM.match(word) and not Path(word).exists():
                id, _, value = word.partition("=")
                self._set(id, self.read_item(value))
            else:
                self.arguments.append(word)

    def _read_flag(self, flag: str, given: str, value: str) -> None:
        name = SHORT.get(flag, flag).replace("-", "_")
        negated = name.removeprefix("no").lstrip("_") if name.startswith("no") else ""
        if name in self.known:
            self._set(name, self._read_known(flag, self.known[name], value if given else None))
        elif name == self.many and (given or self._has_next()):
            self.arguments.append(value if given else self._next())
        elif negated in self.known and _is_truth(self.known[negated]):
            self._set(negated, False)
        elif self.takes_items:
            self._set(flag, self.read_item(value if given else self._next() if self._has_next() else "True"))
        else:
            self.findings.append(Finding(f"--{flag}", f"{self.name} has no such flag", did_you_mean(name, self.known)))
            if not given and self._has_next():
                self._next()

    def _read_known(self, flag: str, one: inspect.Parameter, value: str | None) -> Any:
        if _is_truth(one):
            return self._read_truth(flag, value)
        may_stand_alone = one.default is False
        if value is None and self._has_next() and not (may_stand_alone and Path(self.rest[0]).is_file()):
            value = self._next()
        if value is None:
            if not may_stand_alone:
                self.findings.append(Finding(f"--{flag}", "needs a value", f"Write --{flag} VALUE."))
            return may_stand_alone
        read = value if str(one.annotation).startswith("str") else _read_value(value)
        if str(one.annotation).startswith("int") and not isinstance(read, int):
            self.findings.append(Finding(f"--{flag}", f"must be a whole number, got {value!r}"))
        return read

    def _read_truth(self, flag: str, value: str | None) -> bool | None:
        follows = value is None and self._has_next() and self.rest[0].lower() in TRUTH
        value = self._next() if follows else "true" if value is None else value
        if value.lower() not in TRUTH:
            self.findings.append(Finding(f"--{flag}", f"must be True or False, got {value!r}"))
        return TRUTH.get(value.lower())

    def _has_next(self) -> bool:
        return bool(self.rest) and not _is_flag(self.rest[0])

    def _next(self) -> str:
        return self.rest.pop(0)

    def _set(self, name: str, value: Any) -> None:
        if name in self.known and self.keywords.get(name, value) != value:  # of overrides the last counts, as ever
            problem = f"is given twice, {self.keywords[name]!r} and {value!r}"
            self.findings.append(Finding(name, problem, "Remove one."))
        self.keywords[name] = value

    def require_arguments(self) -> None:
        """Findings where arguments are missing or too many."""
        positional = [one for one in self.known.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
        names = [one.name for one in positional if one.name not in self.keywords]
        if self.many is None and len(self.arguments) > len(names):
            hint = f"Quote a name that has spaces; see {PROGRAM} {self.name} --help."
            self.findings.append(Finding(self.name, f"cannot use {self.arguments[len(names)]!r}", hint))
        for one in positional:
            if one.default is one.empty and one.name in names[len(self.arguments) :]:
                hint = f"See {PROGRAM} {self.name} --help."
                self.findings.append(Finding(one.name, "is missing", hint))


def _is_truth(one: inspect.Parameter) -> bool:
    return str(one.annotation).startswith("bool")


def _is_flag(word: str) -> bool:
    """As Fire has it: a negative number is none."""
    return re.match(r"--\w|-[A-Za-z]", word) is not None


def _read_value(text: str) -> Any:
    from fire.parser import DefaultParseValue  # nothing else here needs Fire

    return DefaultParseValue(text)


def require_configs(files: Sequence[Any], verb: str) -> list[str]:
    """Refuses names of configs that are not there.

    Args:
        files: paths, or several joined by commas.
        verb: for the message.

    Returns:
        A path each.

    Raises:
        UsageError: with all of them, or with the configs that there are where none is named.
    """
    found = []
    names = [name.strip() for file in files for name in _split(str(file))]
    for name in names:
        if not Path(name).exists():
            near = [str(path) for path in _configs_in(Path(name).parent)]
            hint = did_you_mean(name, near) if near else "Mend the path."
            found.append(Finding("config_file", f"Cannot find the config file: {name}", hint))
    if not files:
        there = _configs_in(Path("configs")) or _configs_in(Path()) or [Path("configs/train.yaml")]
        hint = f"Name one: {PROGRAM} {verb} {shlex.quote(str(there[-1]))}."
        found.append(Finding("config_file", "must be a file or several, got none", hint))
    if found:
        raise UsageError(*found)
    return names


def _split(file: str) -> list[str]:
    return [file] if Path(file).exists() else file.split(",")


def _configs_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in CONFIG_SUFFIXES and path.stem != "metadata")


def require_path(id: str, path: Any, wanted: str) -> None:
    """Refuses a path at which there is nothing.

    Args:
        id: of the argument.
        path: as given.
        wanted: what must be there, for the message.

    Raises:
        UsageError: there is nothing.
    """
    place = Path(str(path))
    if not place.exists():
        beside = [*place.parent.iterdir()] if place.parent.is_dir() else []
        hint = did_you_mean(place.name, [one.name for one in beside])
        hint = hint if hint.startswith("Did") else "Mend the path."
        raise UsageError(Finding(id, f"must be {wanted}, there is no {str(path)!r}", hint))


def format_help(verb: Callable) -> str:
    """A usage line, and the docstring, in which the arguments stand as they are typed."""
    text, _, arguments = inspect.cleandoc(verb.__doc__ or "").partition("\nArgs:\n")
    usage, lines = [f"usage: {PROGRAM} {verb.__name__}"], []
    parameters = inspect.signature(verb).parameters
    described = dict(re.findall(r"^    (\w+): ((?:.|\n(?=     ))*)", arguments, re.MULTILINE))
    for name, one in parameters.items():
        required = one.kind is one.POSITIONAL_OR_KEYWORD and one.default is one.empty
        if one.kind is one.VAR_POSITIONAL:
            typed = f"{name.upper()} …"
        elif one.kind is one.VAR_KEYWORD:
            typed = "--ID VALUE, ID=VALUE"
        else:
            typed = name.upper() if required else f"--{name}" if _is_truth(one) else f"--{name} VALUE"
        usage += [typed] if required or one.kind is one.VAR_POSITIONAL else []
        words = " ".join(described.get(name, "").split())
        if one.default not in (one.empty, None, False) and "default" not in words.lower():
            words = f"{words} Default: {one.default}.".strip()
        lines += [f"  {typed}", fill(words, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)]
    return "\n".join([" ".join([*usage, "[options]"]), "", text.strip(), "", "Options:", *lines])
