"""What was found in the cases of a config, in the house's form: where, which case, which file, what is wrong, what to do."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ERROR", "NOTE", "CaseFinding"]

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
