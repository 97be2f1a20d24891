"""Zip files of bundles read without trust: one set of limits for whatever reads one."""

from __future__ import annotations

import shutil
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from monai.apps.utils import safe_extract_member

from monai_lighter.errors import BundleError, Finding

__all__ = ["ArchiveError", "Limits", "anomalies", "extract_zip"]

UNREADABLE = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError),
    *(ValueError, UnicodeDecodeError),
)
HINT = "Do not unpack it."


class ArchiveError(BundleError, RuntimeError):
    """An archive that is broken, or holds what a bundle's archive does not. Ends the command line with exit code 2."""

    exit_code = 2

    def __init__(self, *findings: Finding) -> None:
        self.findings = findings
        super().__init__("\n".join(str(finding) for finding in findings))


class Limits(NamedTuple):
    """What an archive may hold at most.

    Attributes:
        files: number of members.
        size: bytes of all files, unpacked.
        ratio: unpacked to packed size, of a file above ``exempt`` bytes.
        exempt: bytes up to which a file may be packed as tightly as it can.
    """

    files: int = 10_000
    size: int = 64 * 2**30
    ratio: int = 200
    exempt: int = 16 * 2**20


def extract_zip(file: Path, directory: Path, limits: Limits = Limits()) -> None:  # noqa: B008
    """Unpacks an archive into a directory that does not exist yet: all of it, or nothing.

    Args:
        file: the archive.
        directory: made; its parent must be there.
        limits: what the archive may hold.

    Raises:
        ArchiveError: no zip file, a broken one, or one with `anomalies`; nothing is left behind.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            findings = list(anomalies(archive.infolist(), file.stat().st_size, limits))
            if findings:
                raise ArchiveError(*findings)
            with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=directory.parent) as folder:
                content = Path(folder) / "content"
                content.mkdir()
                for member in archive.infolist():
                    _extract(archive, member, content)
                content.rename(directory)
    except UNREADABLE as error:
        if isinstance(error, ArchiveError):
            raise
        problem = f"{file.name} cannot be unpacked: {type(error).__name__}: {error}"
        raise ArchiveError(Finding("archive", problem, "Download it again; it may be broken or truncated.")) from error


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, directory: Path) -> None:
    path = Path(safe_extract_member(member, str(directory)))
    if member.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, path.open("xb") as target:
        shutil.copyfileobj(source, target, 2**20)


def anomalies(members: list[zipfile.ZipInfo], packed: int, limits: Limits) -> Iterator[Finding]:
    """What a bundle's archive does not have: links, paths that lead out of it, names twice, encryption, bombs.

    Args:
        members: of the archive.
        packed: bytes of the archive's file.
        limits: what it may hold.
    """
    if len(members) > limits.files:
        yield Finding("archive", f"must hold at most {limits.files} files, got {len(members)}", HINT)
    size = sum(member.file_size for member in members)
    if size > limits.size or (size > limits.exempt and size > limits.ratio * packed):
        problem = (
            f"unpacks to {size} bytes from {packed}, more than {limits.size} bytes or {limits.ratio} times as much"
        )
        yield Finding("archive", problem, HINT)
    seen: set[str] = set()
    folders: set[str] = set()
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        name = member.filename
        wrong = _problem(member, limits)
        key = str(PurePosixPath(name)).casefold()
        if wrong is None and not member.is_dir() and key in seen:
            wrong = "is there twice, or differs from another in case alone"
        if wrong is None and member.header_offset < end:
            wrong = "overlaps another"
        end = member.header_offset + member.compress_size
        if not member.is_dir():
            seen.add(key)
        folders.update(str(parent) for parent in PurePosixPath(key).parents)
        if wrong:
            yield Finding(f"archive: {name!r:.120}", wrong, HINT)
    for key in sorted(seen & folders):
        yield Finding(f"archive: {key!r:.120}", "is a file and a folder", HINT)


def _problem(member: zipfile.ZipInfo, limits: Limits) -> str | None:
    parts = member.filename.split("/")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device, not a file"
    if member.filename.startswith("/") or ".." in parts or "\\" in member.filename or ":" in member.filename:
        return "leads out of the archive"
    if not member.filename or any(unicodedata.category(letter)[0] == "C" for letter in member.filename):
        return "has a name with control characters, or none"
    if any(part.endswith((" ", ".")) for part in parts if part):
        return "has another name on Windows"
    if member.flag_bits & 0x1:
        return "is encrypted"
    if member.file_size > limits.exempt and member.file_size > limits.ratio * max(member.compress_size, 1):
        return f"unpacks to {member.file_size} bytes from {member.compress_size}"
    return None
