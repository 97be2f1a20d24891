"""Tables of cases (csv) that are not what their reader takes them for: a BOM, another separator, blank cells."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Collection, Iterator
from pathlib import Path

__all__ = ["find_table_flaws"]

BOM = "\ufeff"
SEPARATORS = (";", "\t", "|")


def find_table_flaws(file: str, used: Collection[str], failed: bool) -> Iterator[tuple[str, str, str]]:
    """What keeps the columns of a table from being found, or leaves a case without a value: value, sentence, what to do.

    Many readers cope with a BOM or with semicolons. What is in the cases, or whether they could be made of it at all, shows
    whether this one did.

    Args:
        file: path of the table.
        used: keys of the cases that were made of it.
        failed: whether no cases could be made of it.
    """
    raw = Path(file).read_bytes()
    try:
        text = raw.decode("utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start}"
        yield byte, f"the table must be UTF-8, {byte} is not", "Save it as UTF-8."
        text = raw.decode("latin-1")
    has_bom = text.startswith(BOM) or raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = text.lstrip(BOM)
    header = text.splitlines()[0] if text.strip() else ""
    if has_bom and (failed or any(key.startswith((BOM, "ï»¿")) for key in used)):
        hint = "Save it without BOM (UTF-8), or read it with encoding='utf-8-sig'."
        yield (
            "BOM",
            f"the table begins with a byte order mark, which becomes part of its first column {header!r:.60}",
            hint,
        )
    separator = next((mark for mark in SEPARATORS if mark in header), ",")
    if separator != "," and (failed or any(separator in key for key in used)):
        hint = f"Save it with commas, or read it with delimiter={separator!r}."
        yield header[:60], f"the columns are separated by {separator!r}, which makes one of {header!r:.60}", hint
    yield from _rows(text, separator, used, failed)


def _rows(text: str, separator: str, used: Collection[str], failed: bool) -> Iterator[tuple[str, str, str]]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    names = next(rows, [])
    plain = [name.strip() for name in names]
    for name in names:
        if name != name.strip() and (failed or name in used):
            yield name, f"the column {name!r} has blanks around its name", "Remove them."
    for name in dict.fromkeys(name for name in plain if plain.count(name) > 1):
        yield name, f"the column {name!r} stands {plain.count(name)} times", "Give each column a name of its own."
    if failed and not any(rows):
        yield "0 rows", "the table has no rows", "Write a row for each case."
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    next(rows, None)
    known = {key.lstrip(BOM).strip() for key in used}
    for row in rows:
        if not row:
            continue
        if len(row) > len(names):
            problem = f"line {rows.line_num} has {len(row)} cells, the table {len(names)} columns"
            yield f"{len(row)} cells", problem, "Quote cells that have a comma in them."
        cells = dict(zip(plain, [*row, *[""] * len(names)], strict=False))
        blank = [name for name, cell in cells.items() if not cell.strip() and (name in known or failed)]
        if blank:
            problem = f"line {rows.line_num} has a blank cell in column {', '.join(map(repr, blank))}"
            yield "blank", problem, "Fill it in, or leave the case out."
