"""Archives of a bundle, listed and read without extracting anything."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import posixpath
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from monai_lighter.inspection.report import Level, Verdict
from monai_lighter.inspection.source import DirectorySource, Member, Source, SourceError, link_problem, name_problems
from monai_lighter.inspection.zip_records import ENCRYPTED, MAX_RATIO, RATIO_FROM, zip_problems

__all__ = ["TarSource", "ZipSource", "open_source"]

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

MAX_COUNT = 20_000
MAX_TOTAL = 64 << 30
"""Bytes that all files may take together."""
SYSTEM_UNIX = 3
MACOS = "__MACOSX"
"""Directory that macOS adds to a zip file, beside that of the bundle."""


def open_source(path: str | Path) -> Source:
    """Opens a bundle: a directory, an archive (zip, tar), or a single file.

    Raises:
        FileNotFoundError: there is nothing at that path.
        SourceError: an archive that cannot be read.
    """
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"bundle: no such directory or file, got {str(path)!r}. Mend the path.")
    name = place.name.lower()
    if place.is_file() and (name.endswith(".zip") or _holds_bundle(place)):
        return ZipSource(place)
    return TarSource(place) if place.is_file() and name.endswith(ARCHIVES) else DirectorySource(place)


def _holds_bundle(path: Path) -> bool:
    """Whether a file is a zip file with configs in it, which runs as a bundle whatever its name is; weights have none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/configs/" in f"/{name}" for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError, EOFError):
        return False


class _ArchiveSource:
    """What zip and tar have in common: names relative to the one directory that everything is in."""

    def __init__(self, members: list[Member]) -> None:
        self.problems: list[tuple[str, Verdict]] = list(name_problems(member.name for member in members))
        root = _root([member.name for member in members])
        self.is_bomb = False
        self._members = [
            Member(m.name.removeprefix(root).rstrip("/"), m.size, m.kind, m.link, None, m.raw)
            for m in members
            if m.name.rstrip("/") != root.rstrip("/")
        ]
        total = sum(member.size for member in members)
        if total > MAX_TOTAL:
            self.bomb(".", f"{total} bytes in all")
        if len(members) > MAX_COUNT:
            self.bomb(".", f"{len(members)} files")
        for member in self._members:
            if member.kind == "special":
                self.problems.append((member.name, Verdict(Level.DANGER, "no regular file (pipe or device)")))
            if member.kind == "link":
                self.problems.append((member.name, link_problem(member.name, member.link)))

    def bomb(self, name: str, why: str) -> None:
        """Notes that unpacking would fill the disk or the memory. Nothing of such an archive is read."""
        self.problems.append((name, Verdict(Level.DANGER, f"bomb: {why}")))
        self.is_bomb = True

    def members(self) -> list[Member]:
        return [] if self.is_bomb else self._members


def _root(names: list[str]) -> str:
    """The directory that every file is in, with its ``/``; empty where there is none, or where it is ``configs``."""
    tops = {name.split("/")[0] for name in names} - {MACOS}
    if len(tops) != 1 or not any("/" in name.rstrip("/") for name in names):
        return ""
    top = tops.pop()
    return "" if top in ("configs", "models", "docs", "scripts", "..", "", "~") or "\\" in top else f"{top}/"


class ZipSource(_ArchiveSource):
    """A zip file.

    Raises:
        SourceError: it is none, or broken.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.archive = zipfile.ZipFile(path)
            super().__init__([self._member(info) for info in self.archive.infolist()])
        except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError, EOFError) as error:
            raise SourceError(f"{path}: cannot be read as a zip file ({error})") from error
        for name, verdict in zip_problems(self.archive):
            if verdict.why.startswith("bomb"):
                self.is_bomb = True
            self.problems.append((name, verdict))

    def __enter__(self) -> ZipSource:
        return self

    def __exit__(self, *error: object) -> None:
        self.archive.close()

    def open(self, member: Member) -> Any:
        return self.archive.open(member.raw)

    def _member(self, info: zipfile.ZipInfo) -> Member:
        mode = info.external_attr >> 16
        if stat.S_ISLNK(mode):
            text = self.archive.read(info)[:4096] if info.file_size <= 4096 and not info.flag_bits & ENCRYPTED else b"?"
            return Member(info.filename, kind="link", link=text.decode("utf-8", "surrogateescape"), raw=info)
        if info.is_dir():
            return Member(info.filename, kind="directory", raw=info)
        special = info.create_system == SYSTEM_UNIX and stat.S_IFMT(mode) not in (0, stat.S_IFREG)
        return Member(info.filename, info.file_size, "special" if special else "file", raw=info)


class _Limited(io.RawIOBase):
    """A stream that refuses to give more than it should hold."""

    def __init__(self, stream: Any, limit: int) -> None:
        self.stream, self.limit = stream, limit

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.stream.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset > self.limit:
            raise SourceError(f"bomb: more than {self.limit} bytes when unpacked")
        return self.stream.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        if self.stream.tell() > self.limit:
            raise SourceError(f"bomb: more than {self.limit} bytes when unpacked")
        return data


class TarSource(_ArchiveSource):
    """A tar file, plain or compressed.

    Raises:
        SourceError: it is none, broken, or a bomb.
    """

    def __init__(self, path: Path) -> None:
        self.stream = _uncompressed(path)
        limit = max(MAX_RATIO * path.stat().st_size, RATIO_FROM)
        try:
            self.archive = tarfile.open(fileobj=_Limited(self.stream, limit), mode="r:")  # type: ignore[call-overload]  # noqa: SIM115
            super().__init__([_tar_member(info) for info in self.archive])
        except (tarfile.TarError, OSError, EOFError, ValueError, lzma.LZMAError) as error:
            raise SourceError(f"{path}: cannot be read as a tar file ({error})") from error

    def __enter__(self) -> TarSource:
        return self

    def __exit__(self, *error: object) -> None:
        self.archive.close()
        self.stream.close()

    def open(self, member: Member) -> Any:
        return self.archive.extractfile(member.raw)


def _uncompressed(path: Path) -> Any:
    start = path.open("rb").read(6)
    kinds: tuple[tuple[bytes, Any], ...] = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))
    for magic, opener in kinds:
        if start.startswith(magic):
            return opener(path, "rb")
    return path.open("rb")


def _tar_member(info: tarfile.TarInfo) -> Member:
    kind = (
        "file"
        if info.isfile()
        else "directory"
        if info.isdir()
        else "link"
        if info.issym() or info.islnk()
        else "special"
    )
    link = info.linkname
    if info.islnk() and not link.startswith("/") and ".." not in link.split("/"):
        link = posixpath.relpath(
            link, posixpath.dirname(info.name) or "."
        )  # a hard link is named from the archive's root
    return Member(info.name, info.size if kind == "file" else 0, kind, link, raw=info)
