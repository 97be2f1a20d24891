"""Zip files of bundles: written the same from the same files, and read without trust."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from monai_lighter.errors import Finding
from monai_lighter.share.layout import SharingError

__all__ = ["Limits", "anomalies", "extract_zip", "write_zip"]

UNREADABLE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
)
EPOCH = (1980, 1, 1, 0, 0, 0)


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


def write_zip(directory: Path, file: Path) -> None:
    """Packs a directory under its own name. The same content gives the same bytes: names sorted, no times, one mode."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path in sorted(directory.rglob("*"), key=lambda path: path.relative_to(directory).as_posix()):
            if path.is_dir():
                continue
            name = PurePosixPath(directory.name, path.relative_to(directory).as_posix())
            member = zipfile.ZipInfo(str(name), EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            member.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(member, "w") as target:
                shutil.copyfileobj(source, target, 2**20)


def extract_zip(file: Path, directory: Path, limits: Limits = Limits()) -> None:  # noqa: B008
    """Unpacks an archive into a directory that does not exist yet: all of it, or nothing.

    Args:
        file: the archive.
        directory: made; its parent must be there.
        limits: what the archive may hold.

    Raises:
        SharingError: no zip file, a broken one, or one with `anomalies`; nothing is left behind.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            findings = list(anomalies(archive.infolist(), file.stat().st_size, limits))
            if findings:
                raise SharingError(*findings)
            with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=directory.parent) as folder:
                content = Path(folder) / "content"
                content.mkdir()
                for member in archive.infolist():
                    _extract(archive, member, content)
                content.rename(directory)
    except UNREADABLE as error:
        if isinstance(error, SharingError):
            raise
        problem = f"{file.name} cannot be unpacked: {type(error).__name__}: {error}"
        raise SharingError(Finding("archive", problem, "Download it again; it may be broken or truncated.")) from error


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, directory: Path) -> None:
    path = directory / PurePosixPath(member.filename)
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
        yield Finding("archive", f"must hold at most {limits.files} files, got {len(members)}", "Do not unpack it.")
    size = sum(member.file_size for member in members)
    if size > limits.size or (size > limits.exempt and size > limits.ratio * packed):
        problem = (
            f"unpacks to {size} bytes from {packed}, more than {limits.size} bytes or {limits.ratio} times as much"
        )
        yield Finding("archive", problem, "Do not unpack it.")
    seen: set[str] = set()
    folders: set[str] = set()
    for member in members:
        name = member.filename
        wrong = _problem(member, limits)
        key = str(PurePosixPath(name)).casefold()
        if wrong is None and not member.is_dir() and key in seen:
            wrong = "is there twice, or differs from another in case alone"
        if not member.is_dir():
            seen.add(key)
        folders.update(str(parent) for parent in PurePosixPath(key).parents)
        if wrong:
            yield Finding(f"archive: {name!r:.120}", wrong, "Do not unpack it.")
    for key in sorted(seen & folders):
        yield Finding(f"archive: {key!r:.120}", "is a file and a folder", "Do not unpack it.")


def _problem(member: zipfile.ZipInfo, limits: Limits) -> str | None:
    parts = member.filename.split("/")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device, not a file"
    if member.filename.startswith("/") or ".." in parts or "\\" in member.filename or ":" in member.filename:
        return "leads out of the archive"
    if any(ord(letter) < 32 for letter in member.filename) or not member.filename:
        return "has a name with control characters, or none"
    if member.flag_bits & 0x1:
        return "is encrypted"
    if member.file_size > limits.exempt and member.file_size > limits.ratio * max(member.compress_size, 1):
        return f"unpacks to {member.file_size} bytes from {member.compress_size}"
    return None
