"""One number for all files of a bundle, and one for those that decide what a run of it does."""

from __future__ import annotations

import hashlib
import logging
import unicodedata
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from lightning.pytorch.utilities import rank_zero_only

from monai_lighter.inspection.archive import open_source
from monai_lighter.inspection.source import DirectorySource, Member, Source

__all__ = ["CACHES", "RUN_FOLDERS", "bundle_digest", "log_digest", "run_digest", "source_digest", "stream_digest"]

logger = logging.getLogger(__name__)

CACHES = ("__pycache__", ".cache")
"""Directories, at any depth, whose files do not count: Python's byte code, and what download clients note down."""
RUN_FOLDERS = ("configs", "models", "scripts")
"""Directories of a bundle that decide what a run of it does; beside them it may hold data, logs and results of any size."""
BLOCK = 1 << 20


def bundle_digest(path: str | Path) -> str:
    """sha256 over all files of a bundle: a directory, or an archive of it, with the same result.

    Counted are the path of each file in the bundle (``/`` between its parts, NFC) and the sha256 of its content; for a link its
    text in place of the content. Not counted are the order in which the file system lists them, times, modes, empty
    directories, the name of the bundle's own directory, and the files in directories named ``__pycache__`` and ``.cache``.
    Nothing is followed out of the bundle. The digest of a file that did not change (size, time, inode) is remembered for the
    life of the process.

    Raises:
        FileNotFoundError: there is no such bundle.
        monai_lighter.BundleError: an archive that cannot be read.
    """
    with open_source(path) as source:
        return source_digest(source)


def run_digest(directory: Path) -> str:
    """As `bundle_digest`, over the files in `RUN_FOLDERS` alone; nothing else of the directory is read.

    Args:
        directory: of the bundle.
    """
    return source_digest(DirectorySource(directory, RUN_FOLDERS), RUN_FOLDERS)


@rank_zero_only
def log_digest(directory: Path) -> None:
    """Logs what is about to run: the `run_digest` of a bundle, which ``inspect`` prints too."""
    try:
        digest = run_digest(directory)
    except OSError as error:
        logger.warning(f"{directory}: sha256 not computed: {error}")
    else:
        logger.info(f"{directory}: sha256 over {', '.join(RUN_FOLDERS)}: {digest}")


def source_digest(source: Source, folders: Collection[str] | None = None) -> str:
    """As `bundle_digest`, of an open source.

    Args:
        source: whose files are counted.
        folders: the directories of the bundle that count; None for all that is in it.
    """
    total = hashlib.sha256()
    for line in sorted(_lines(source, folders)):
        total.update(line)
    return total.hexdigest()


def _lines(source: Source, folders: Collection[str] | None) -> Iterator[bytes]:
    for member in source.members():
        *parents, _ = member.name.split("/")
        if member.kind not in ("file", "link") or any(part in CACHES for part in parents):
            continue
        if folders is not None and (not parents or parents[0] not in folders):
            continue
        if member.kind == "link":
            digest = "link:" + hashlib.sha256(member.link.encode("utf-8", "surrogateescape")).hexdigest()
        else:
            digest = _member_digest(source, member)
        name = unicodedata.normalize("NFC", member.name)
        yield f"{digest} {name}\0".encode("utf-8", "surrogateescape")


def _member_digest(source: Source, member: Member) -> str:
    """sha256 of one file's content."""
    if member.path is not None:
        status = member.path.stat()
        return _file_digest(member.path, status.st_size, status.st_mtime_ns, status.st_ino)
    with source.open(member) as stream:
        return stream_digest(stream)


@lru_cache(maxsize=100_000)
def _file_digest(path: Path, size: int, time: int, inode: int) -> str:
    with path.open("rb") as stream:
        return stream_digest(stream)


def stream_digest(stream: BinaryIO) -> str:
    """sha256 of the rest of a stream."""
    digest = hashlib.sha256()
    while block := stream.read(BLOCK):
        digest.update(block)
    return digest.hexdigest()
