"""What a verb prints: its report, as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Printed", "format_report"]


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
