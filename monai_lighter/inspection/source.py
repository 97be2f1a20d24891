"""The files of a bundle, wherever they are: listed and read, never extracted, no link followed."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from monai_lighter.errors import BundleError
from monai_lighter.inspection.report import Level, Verdict

__all__ = ["DirectorySource", "Member", "Source", "SourceError", "link_problem", "name_problems"]

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}
MAX_COUNT = 100_000
"""Files of a directory that are looked at."""


class SourceError(BundleError):
    """A bundle that cannot be read at all."""

    exit_code = 2


@dataclass(frozen=True)
class Member:
    """One file of a bundle.

    Attributes:
        name: path in the bundle with ``/`` between its parts, without the bundle's own directory.
        size: bytes, as stated.
        kind: ``file``, ``link``, ``directory`` or ``special``.
        link: what a link points to.
        path: where it is on disk; None in an archive.
        raw: the archive's own record.
    """

    name: str
    size: int = 0
    kind: str = "file"
    link: str = ""
    path: Path | None = None
    raw: Any = None


class Source(Protocol):
    """A directory, an archive or a single file, as the members it has.

    Attributes:
        problems: what is odd about names and records, by member name.
    """

    problems: list[tuple[str, Verdict]]

    def members(self) -> list[Member]: ...

    def open(self, member: Member) -> BinaryIO: ...

    def __enter__(self) -> Source: ...

    def __exit__(self, *error: object) -> None: ...


class DirectorySource:
    """A directory on disk, or one file.

    Args:
        root: its path.
        folders: the directories in it that are listed; None for all that is in it.
    """

    def __init__(self, root: Path, folders: Collection[str] | None = None) -> None:
        self.root, self.folders, self.problems = root, folders, list[tuple[str, Verdict]]()
        self._members = list(self._listed())
        self.problems += name_problems(member.name for member in self._members)

    def __enter__(self) -> DirectorySource:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def members(self) -> list[Member]:
        return self._members

    def open(self, member: Member) -> BinaryIO:
        assert member.path is not None
        descriptor = os.open(member.path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        return os.fdopen(descriptor, "rb")

    def _listed(self) -> Iterator[Member]:
        if self.root.is_file():
            yield Member(self.root.name, self.root.stat().st_size, path=self.root.resolve())
            return
        count = 0
        for directory, directories, files in os.walk(self.root, onerror=self._unreadable):
            if self.folders is not None and Path(directory) == self.root:
                directories[:], files = [name for name in directories if name in self.folders], []
            directories.sort()
            for name in sorted([*files, *directories]):
                count += 1
                if count > MAX_COUNT:
                    self.problems.append((".", Verdict(Level.DANGER, f"more than {MAX_COUNT} files: not all are read")))
                    return
                yield self._member(Path(directory, name))

    def _unreadable(self, error: OSError) -> None:
        self.problems.append((str(error.filename), Verdict(Level.LOOK, f"cannot be read: {error.strerror}")))

    def _member(self, path: Path) -> Member:
        name = path.relative_to(self.root).as_posix()
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(path)
            self.problems.append((name, link_problem(name, target)))
            return Member(name, kind="link", link=target)
        if stat.S_ISDIR(status.st_mode):
            return Member(name, kind="directory", path=path)
        if not stat.S_ISREG(status.st_mode):
            self.problems.append((name, Verdict(Level.DANGER, "no regular file (pipe, socket or device): not read")))
            return Member(name, kind="special")
        return Member(name, status.st_size, path=path)


def link_problem(name: str, target: str) -> Verdict:
    """A link that leads out of the bundle is dangerous: what is written through it lands elsewhere."""
    joined = os.path.normpath(os.path.join(os.path.dirname(name), target))
    if os.path.isabs(target) or joined.split("/")[0] == "..":
        return Verdict(Level.DANGER, f"link out of the bundle, to {target!r}: not followed")
    return Verdict(Level.LOOK, f"link to {target!r}: what the bundle has there is read under this name too")


def name_problems(names: Iterable[str]) -> Iterator[tuple[str, Verdict]]:
    """What is odd about file names, and which of them are one file on some systems."""
    seen: dict[str, str] = {}
    exact: set[str] = set()
    for name in names:
        for verdict in _odd(name):
            yield name, verdict
        folded = unicodedata.normalize("NFKC", name).casefold().rstrip("/")
        if name in exact:
            yield name, Verdict(Level.DANGER, "duplicate: two records of one name, readers differ in which they take")
        elif folded in seen:
            yield name, Verdict(Level.DANGER, f"the same file as {seen[folded]!r} where case is not told apart")
        exact.add(name)
        seen.setdefault(folded, name)


def _odd(name: str) -> Iterator[Verdict]:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\", "~")) or (len(name) > 1 and name[1] == ":"):
        yield Verdict(Level.DANGER, "absolute path")
    if ".." in parts:
        yield Verdict(Level.DANGER, "traversal: the path leads out of the bundle")
    if "\\" in name:
        yield Verdict(Level.DANGER, "backslash in the name: another path on Windows")
    if any(unicodedata.category(char) in ("Cc", "Cf", "Cs") for char in name):
        yield Verdict(Level.DANGER, "control or invisible characters in the name")
    if any(
        part.split(".")[0].casefold() in RESERVED or (part not in (".", "..") and part.endswith((".", " ")))
        for part in parts
    ):
        yield Verdict(Level.LOOK, "name with another meaning on Windows")
    if len(name) > 1000 or len(parts) > 64:
        yield Verdict(Level.DANGER, "path too long or too deep")
