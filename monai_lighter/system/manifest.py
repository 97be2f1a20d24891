"""What came of each case: a csv file in a folder of outputs, by which later runs know whose a file is and what is done."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from monai_lighter.errors import ConfigError, Finding
from monai_lighter.safe_files import written_beside
from monai_lighter.trust.digest import hash_file

__all__ = ["FAILED", "MANIFEST", "SKIPPED", "WRITING", "WRITTEN", "Manifest", "ManifestRow"]

MANIFEST = "manifest.csv"
OLD = ".cases.jsonl"
"""What earlier runs wrote in its place, a line for each file."""
WRITING, WRITTEN, SKIPPED, FAILED = "writing", "written", "skipped", "failed"
TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}


class ManifestRow(NamedTuple):
    """A row of the manifest.

    Attributes:
        case: its file, relative to the folder of outputs, or its name; empty where it has none.
        outputs: files, relative to the folder; in the csv they are joined by semicolons, as are their sha256.
        sha256: of each output; empty where it is not known.
        seconds: from the beginning of the case's batch to its last output.
        state: ``writing`` (its files so far: the run has not come to the end of the case), ``written``, ``skipped`` (whole from
            an earlier run, whose row it is otherwise), ``failed: CAUSE``.
        case_sha256: of the case's file, by which it is known when data have been moved.
        made_of: sha256 over config, weights and all files of the case; empty where a later run cannot go by it.
    """

    case: str
    outputs: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()
    seconds: str = ""
    state: str = ""
    case_sha256: str = ""
    made_of: str = ""

    def is_whole(self, folder: Path) -> bool:
        """Whether all its outputs are there as they were written."""
        pairs = zip(self.outputs, self.sha256, strict=True)
        return all((folder / name).is_file() and hash_file(folder / name) == digest for name, digest in pairs)


class Manifest:
    """The ``manifest.csv`` of a folder.

    Rows are appended as cases come, each in one write and before the file that it tells of takes its place, so that it is true
    whenever the process is killed; processes may share it. The last row that names a file counts for that file. `rewrite` leaves
    one row for each case and run, in the order of the data.

    Args:
        folder: that outputs are relative to.

    Raises:
        ConfigError: a file of that name is there and is no manifest.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / MANIFEST
        self._appended: list[ManifestRow] = []
        self._read()

    def _read(self) -> None:
        self._rows: dict[int, ManifestRow] = {}
        self._owners: dict[str, int] = {}
        self._bare: dict[str, int] = {}
        self._count = 0
        for row in (*_read_old(self.folder / OLD), *_read_rows(self.path), *self._appended):
            self._take(row)

    def find_owner(self, output: str) -> ManifestRow | None:
        """The row that a file is of."""
        number = self._owners.get(output)
        return None if number is None else self._rows[number]

    def group_by_case(self) -> dict[str, list[ManifestRow]]:
        """Case to its rows, the last one last."""
        found: dict[str, list[ManifestRow]] = {}
        for row in self._rows.values():
            found.setdefault(row.case, []).append(row)
        return found

    def append(self, *rows: ManifestRow) -> None:
        """Adds rows, which take their outputs from rows before."""
        if not rows:
            return
        for row in rows:
            self._take(row)
        self._appended += rows
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab", buffering=0) as file:
            begun = file.tell() and _ends_line(self.path)
            lead = "" if begun else "\r\n" if file.tell() else _format(ManifestRow._fields)
            file.write((lead + "".join(map(_format, rows))).encode("utf-8", "surrogateescape"))

    def rewrite(self, order: Mapping[str, int]) -> None:
        """One row for each case and run: cases that are not in the data first, then by place.

        Args:
            order: case to its place in the data.
        """
        self._read()
        rows = sorted(self._rows.values(), key=lambda row: order.get(row.case, -1))
        with written_beside(self.path) as path, open(path, "w", **TEXT) as file:
            file.writelines(map(_format, (ManifestRow._fields, *rows)))
        (self.folder / OLD).unlink(missing_ok=True)

    def _take(self, row: ManifestRow) -> None:
        for output in row.outputs:
            self._give_up(output)
        self._rows.pop(self._bare.pop(row.case, -1), None)
        self._count += 1
        self._rows[self._count] = row
        self._owners.update(dict.fromkeys(row.outputs, self._count))
        if not row.outputs:
            self._bare[row.case] = self._count

    def _give_up(self, output: str) -> None:
        number = self._owners.pop(output, None)
        if number is None:
            return
        row = self._rows[number]
        kept = [pair for pair in zip(row.outputs, row.sha256, strict=True) if pair[0] != output]
        if kept:  # what is left of it is no longer all that its run made of the case
            outputs, digests = zip(*kept, strict=True)
            self._rows[number] = row._replace(outputs=outputs, sha256=digests, made_of="")
        else:
            del self._rows[number]


def _ends_line(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _format(cells: Iterable[Any]) -> str:
    """A line; what stands in a cell stays on it."""
    texts = [_join(cell, ";") if isinstance(cell, tuple) else str(cell) for cell in cells]
    return _join([text.replace("\r", " ").replace("\n", " ") for text in texts], ",") + "\r\n"


def _join(texts: Iterable[str], delimiter: str) -> str:
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter, lineterminator="").writerow(texts)
    return line.getvalue()


def _read_rows(path: Path) -> Iterator[ManifestRow]:
    if not path.is_file():
        return
    with open(path, **TEXT) as file:
        lines = file.read().split("\n")  # line by line: one that was cut off must not take the next with it
    if lines[0] and _split(lines[0], ",") != ManifestRow._fields:
        problem = f"{path} is there and is no manifest of cases, but begins with {lines[0].strip()[:60]!r}"
        raise ConfigError([Finding("manifest", problem, "Rename it, or write to another folder.")])
    for line in lines[1:]:
        cells = _split(line, ",")
        if len(cells) == len(ManifestRow._fields) and cells != ManifestRow._fields:
            case, outputs, digests, *rest = cells
            row = ManifestRow(case, _split(outputs, ";"), _split(digests, ";"), *rest)
            if len(row.outputs) == len(row.sha256):
                yield row


def _split(line: str, delimiter: str) -> tuple[str, ...]:
    try:
        return tuple(next(csv.reader([line], delimiter=delimiter), ()))
    except csv.Error:  # cut off by a run that was killed
        return ()


def _read_old(path: Path) -> Iterator[ManifestRow]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in lines:
        try:
            entry: Any = json.loads(line)
            yield ManifestRow(entry["case"] or "", (entry["file"],), ("",), "", WRITTEN, entry.get("sha256") or "")
        except (ValueError, KeyError, TypeError, AttributeError):  # cut off by a run that was killed
            continue
