"""What an inspection found, as text and as JSON."""

from __future__ import annotations

import enum
import json
import unicodedata
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

__all__ = ["NOTE", "Entry", "Level", "Report", "Verdict", "printable"]

NOTE = (
    "This is advice, not a sandbox. The files were read and nothing of them was run: what they do when run can still be "
    "something else. Run what you do not trust in a container without network and without your data."
)
MAX_TEXT = 300


class Level(enum.IntEnum):
    """How bad a thing is. The worst of a bundle is its exit code."""

    OK = 0
    LOOK = 1
    DANGER = 2


VERDICTS = {
    Level.OK: "nothing dangerous found",
    Level.LOOK: "nothing dangerous found, but look at what is marked `look` before you run it",
    Level.DANGER: "dangerous or broken, do not run it",
}


class Verdict(NamedTuple):
    """A level and the reason for it."""

    level: Level
    why: str = ""


@dataclass(frozen=True)
class Entry:
    """One thing that a bundle holds.

    Attributes:
        level: how bad it is.
        kind: ``target``, ``expression``, ``import``, ``macro``, ``path``, ``url``, ``script``, ``file``, ``pickle``,
            ``torchscript``, ``weights``, ``logging``, ``config``, ``archive``.
        file: path in the bundle, with ``/``; of a file in a file, both joined by ``!``.
        what: the thing as it is written.
        why: what it is, and what is wrong with it.
        id: config id, or what takes its place (pickle: offset; archive: none).
        group: of an expression ``plain``, ``call``, ``import`` or ``dangerous``.
    """

    level: Level
    kind: str
    file: str
    what: str
    why: str = ""
    id: str = ""
    group: str = ""

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.file, self.id) if part)
        kind = f"{self.kind} ({self.group})" if self.group else self.kind
        text = f"{self.level.name.lower():<6} {kind}  {place}  {self.what}"
        return printable(text + (f"  -- {self.why}" if self.why else ""))


@dataclass
class Report:
    """All entries of a bundle, the worst first.

    Attributes:
        path: the bundle, as given.
        digest: `monai_lighter.inspection.digest.bundle_digest` of it; None where it could not be computed.
        run_digest: as ``digest``, of what decides a run (`monai_lighter.inspection.digest.RUN_FOLDERS`): `Workflow` logs it.
        entries: what was found.
    """

    path: str
    digest: str | None = None
    run_digest: str | None = None
    entries: list[Entry] = field(default_factory=list)

    @property
    def level(self) -> Level:
        return max((entry.level for entry in self.entries), default=Level.OK)

    @property
    def exit_code(self) -> int:
        """0: nothing dangerous found, 1: things to look at, 2: dangerous or broken."""
        return int(self.level)

    @property
    def verdict(self) -> str:
        """One line."""
        counts = Counter(entry.level for entry in self.entries)
        numbers = ", ".join(f"{counts[level]} {level.name.lower()}" for level in sorted(Level, reverse=True))
        return f"verdict: {VERDICTS[self.level]} ({numbers})"

    def at(self, level: Level) -> list[Entry]:
        return [entry for entry in self.entries if entry.level == level]

    def __str__(self) -> str:
        ordered = sorted(self.entries, key=lambda entry: (-entry.level, entry.file, entry.kind))
        head = [
            printable(self.path),
            f"sha256 over all files: {self.digest or 'not computed'}",
            f"sha256 over configs, models, scripts: {self.run_digest or 'not computed'}",
            "",
        ]
        return "\n".join([*head, *map(str, ordered), "", NOTE, self.verdict])

    def to_dict(self) -> dict[str, Any]:
        entries = [{**asdict(entry), "level": entry.level.name.lower()} for entry in self.entries]
        return {
            "path": self.path,
            "sha256": self.digest,
            "run_sha256": self.run_digest,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "note": NOTE,
            "entries": entries,
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)


def printable(text: str) -> str:
    """One line that a terminal shows as it is: control, format and surrogate characters escaped, long text cut."""
    clean = "".join(
        char if unicodedata.category(char)[0] not in "C" and char not in "\u2028\u2029" else _escaped(char)
        for char in text[: 4 * MAX_TEXT]
    )
    return clean if len(text) <= 4 * MAX_TEXT else f"{clean}… ({len(text)} characters)"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
