"""What a verb prints: its report, as text or JSON."""

from __future__ import annotations

import io
import json
import os
import select
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from monai_lighter.errors import in_short, in_terms_of_config

__all__ = ["Printed", "ended_by_closed_pipe", "format_error", "format_report", "silence_closed_pipes"]


class Printed(str):
    """What a verb prints, where the command is to end with an exit code other than 0."""

    exit_code: int

    def __new__(cls, text: str, exit_code: int) -> Printed:
        printed = super().__new__(cls, text)
        printed.exit_code = exit_code
        return printed


def format_report(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]] = (), as_json: bool = False) -> str:
    """Format names and values, and a table below them.

    Args:
        summary: name to value.
        rows: of the table, all with the same keys, which are its columns.
        as_json: one JSON object instead, with the rows under ``rows``.
    """
    if as_json:
        return json.dumps({**summary, **({"rows": list(rows)} if rows else {})}, indent=2, default=str)
    width = max((len(name) for name in summary), default=0)
    lines = [f"{name:<{width}}  {value}" for name, value in summary.items()]
    if rows:
        table = [[str(name) for name in rows[0]], *([str(value) for value in row.values()] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines += [
            "",
            *("  ".join(f"{cell:<{n}}" for cell, n in zip(row, widths, strict=True)).rstrip() for row in table),
        ]
    return "\n".join(lines)


def format_error(error: Exception) -> dict[str, Any]:
    """What an error says, in the form in which ``check --json`` has what is wrong: a count, and a row each."""
    findings = [finding._asdict() for finding in getattr(error, "findings", ())]
    rows = findings or [
        {"id": getattr(error, "id", ""), "problem": in_terms_of_config(error) or in_short(error), "hint": ""}
    ]
    return {"errors": len(rows), "rows": [{"level": "error", **row} for row in rows]}


CLOSED_PIPE = 128 + 13
"""Exit code of a program whose output nobody reads any more, as a shell has it: SIGPIPE is 13."""


class _Pipe(io.TextIOWrapper):
    """Standard output that ends the process when nobody reads it any more: loggers would print each such error, and go on."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            raise SystemExit(silence_closed_pipes()) from None

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            raise SystemExit(silence_closed_pipes()) from None


@contextmanager
def ended_by_closed_pipe() -> Iterator[None]:
    """Within it, writing to standard output where that is a closed pipe ends the process, whoever writes."""
    given = sys.stdout
    try:
        is_pipe = stat.S_ISFIFO(os.fstat(given.fileno()).st_mode)
    except (AttributeError, OSError, ValueError):  # it is no file
        is_pipe = False
    if not is_pipe:
        yield
        return
    given.flush()
    raw = open(given.fileno(), "wb", closefd=False)  # noqa: SIM115  # loggers keep it until the process ends
    sys.stdout = _Pipe(raw, encoding=given.encoding, errors=given.errors, line_buffering=True)
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout = given


def silence_closed_pipes() -> int:
    """What is written from now on, at the end of the process too, goes nowhere where nobody reads it.

    Returns:
        `CLOSED_PIPE`; 0 where none of the standard streams is a closed pipe.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    closed = [stream.fileno() for stream in (sys.__stdout__, sys.__stderr__) if stream and _is_closed(stream.fileno())]
    for number in closed:
        os.dup2(nowhere, number)
    return CLOSED_PIPE if closed else 0


def _is_closed(number: int) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return False
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))
