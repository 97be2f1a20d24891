"""What was found in the cases of a config, in the house's form: where, which case, which file, what is wrong, what to do."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from monai_lighter.safe_files import written_beside

__all__ = ["ERROR", "NOTE", "CaseFinding", "shortened", "write_table"]

SHOWN = 10
"""Findings of one kind in a mode that are printed."""
ERROR, NOTE = "error", "note"


class CaseFinding(NamedTuple):
    """One thing about a case, or about the cases of a mode together.

    Attributes:
        level: ``error``, or ``note`` for what need not be wrong.
        kind: in a word or two, for tables: ``shape``, ``label value``, ``leakage``, …
        mode: of the cases: ``train``, ``val``, …
        id: config id of their dataset.
        case: name of the case; empty where it is about several.
        file: path of the file; empty where it is about none.
        value: what was found.
        problem: the sentence, with the value.
        hint: what to do.
    """

    level: str
    kind: str
    mode: str
    id: str
    case: str
    file: str
    value: str
    problem: str
    hint: str

    @property
    def sentence(self) -> str:
        """Case, file and what is wrong."""
        where = ", ".join(part for part in (f"case {self.case}" if self.case else "", self.file) if part)
        return f"{where}: {self.problem}" if where else self.problem

    def __str__(self) -> str:
        return f"{self.level}: {self.id}: {self.sentence}. {self.hint}"


def shortened(findings: Sequence[CaseFinding]) -> Iterator[str]:
    """Findings one a line; of more than ten of one kind in a mode the first, and how many there are."""
    totals = Counter((finding.level, finding.kind, finding.mode) for finding in findings)
    shown: Counter[tuple[str, str, str]] = Counter()
    for finding in findings:
        group = (finding.level, finding.kind, finding.mode)
        shown[group] += 1
        if shown[group] <= SHOWN:
            yield str(finding)
        elif shown[group] == SHOWN + 1:
            more = f"{totals[group] - SHOWN} more of this kind ({finding.kind})"
            yield f"{finding.level}: {finding.id}: {more}. --json and --csv FILE give them all."


def write_table(findings: Sequence[CaseFinding], file: str) -> None:
    """Writes findings as csv, a row each, with the columns of `CaseFinding`. The file is complete, or what it was before."""
    with written_beside(Path(file)) as partial, open(partial, "w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(CaseFinding._fields)
        writer.writerows(findings)
