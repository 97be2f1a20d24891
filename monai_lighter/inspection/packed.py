"""Tar files and compressed files: PyTorch's oldest format is a tar file of pickles."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from monai_lighter.inspection.pickled import hidden_entries, pickle_entries
from monai_lighter.inspection.report import Entry, Level
from monai_lighter.inspection.resolve import Resolver

__all__ = ["COMPRESSED", "compressed_entries", "is_tar", "tar_entries"]

PYTORCH = ("pickle", "storages", "tensors")
"""Members of PyTorch's oldest format. Pickles in them stand between raw numbers."""
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"]\0\0", b"x\x01", b"x\x9c", b"x\xda", b"x^")
"""How gzip, bz2, xz, lzma and zlib begin."""
MAX_LAYERS = 4
MAX_PACKED = 64 << 20
BLOCK = 1 << 20


def is_tar(head: bytes) -> bool:
    """Whether a file begins with a record of a tar file, of any kind: the checksum of one tells."""
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return False
    return True


def tar_entries(name: str, stream: BinaryIO, resolver: Resolver, is_cut: bool = False) -> Iterator[Entry]:
    """Of a tar file, which may go on behind the end of the stream."""
    yield Entry(Level.LOOK, "archive", name, "a tar file in the bundle", "not unpacked")
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for info in archive:
                inner = f"{name}!{info.name}"
                if info.issym() or info.islnk():
                    yield Entry(Level.DANGER, "archive", inner, "link", f"to {info.linkname!r}: not followed")
                member = archive.extractfile(info) if info.isfile() else None
                if member is None:
                    continue
                yield from pickle_entries(inner, member, resolver, info.name == "pickle")  # type: ignore[arg-type]
                if info.name in PYTORCH:
                    member.seek(0)
                    yield from hidden_entries(inner, member, resolver)  # type: ignore[arg-type]
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        yield Entry(Level.LOOK if is_cut else Level.DANGER, "archive", name, "broken tar", str(error))


def compressed_entries(name: str, stream: BinaryIO, resolver: Resolver, layers: int = 0) -> Iterator[Entry]:
    """Of compressed data, looked into as far as a pickle would be recognised by.

    Args:
        name: of the file.
        stream: seekable.
        resolver: of the bundle.
        layers: how often it was compressed around this.
    """
    content, is_cut = _unpacked(stream)
    inner, start = io.BytesIO(content), content[:512]
    if is_tar(start):
        yield from tar_entries(f"{name}!", inner, resolver, is_cut)
    elif start.startswith(COMPRESSED) and layers < MAX_LAYERS:
        yield from compressed_entries(f"{name}!", inner, resolver, layers + 1)
    elif start.startswith(COMPRESSED):
        yield Entry(Level.LOOK, "archive", name, f"compressed more than {MAX_LAYERS} times", "not read")
    inner.seek(0)
    yield from pickle_entries(f"{name}!", inner, resolver, False, is_cut)


def _unpacked(stream: BinaryIO) -> tuple[bytes, bool]:
    """The content as far as it can be read, and whether there is more; members one behind the other are one file."""
    openers: tuple[Any, ...] = (gzip.open, bz2.open, lzma.open)
    for opener in openers:
        stream.seek(0)
        content = bytearray()
        try:
            with opener(stream, "rb") as reader:
                while len(content) < MAX_PACKED and (block := reader.read(BLOCK)):
                    content += block
                return bytes(content), bool(reader.read(1))
        except (OSError, lzma.LZMAError, EOFError, ValueError, zlib.error):
            if content:
                return bytes(content), False
    stream.seek(0)
    unpacker = zlib.decompressobj()
    try:
        return unpacker.decompress(stream.read(MAX_PACKED), MAX_PACKED), not unpacker.eof
    except zlib.error:
        return b"", False
