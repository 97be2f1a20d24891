"""The records of a zip file: what is odd about them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

from monai_lighter.inspection.report import Level, Verdict

__all__ = ["ENCRYPTED", "MAX_RATIO", "RATIO_FROM", "zip_problems"]

MAX_RATIO = 100
"""How often larger than its compressed form a file may be; deflate reaches 1032 on zeros."""
RATIO_FROM = 4 << 20
"""Bytes below which the ratio does not matter."""
ENCRYPTED = 0x1
END, END_SIZE = b"PK\5\6", 22
"""How the last record begins, and its size without the comment."""


def zip_problems(archive: zipfile.ZipFile) -> Iterator[tuple[str, Verdict]]:
    """What is odd about the records of a zip file: bombs, encryption, records that overlap, data that no record names."""
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        name = info.filename
        if info.header_offset < end:
            yield name, Verdict(Level.DANGER, "bomb: its data overlaps that of another file")
        elif info.header_offset > end and not end:
            yield name, Verdict(Level.LOOK, f"{info.header_offset} bytes before the first file")
        end = info.header_offset + 30 + len(info.orig_filename) + info.compress_size
        if info.flag_bits & ENCRYPTED:
            yield name, Verdict(Level.DANGER, "encrypted: cannot be read")
        if info.file_size > RATIO_FROM and info.file_size > MAX_RATIO * max(info.compress_size, 1):
            ratio = info.file_size // max(info.compress_size, 1)
            yield name, Verdict(Level.DANGER, f"bomb: {info.file_size} bytes from {info.compress_size}, {ratio} to 1")
        if "\0" in info.orig_filename:
            yield name, Verdict(Level.DANGER, "name with a zero byte, cut there by some readers")
    behind = _behind(archive)
    if behind > 0:
        yield ".", Verdict(Level.LOOK, f"{behind} bytes behind the last record")


def _behind(archive: zipfile.ZipFile) -> int:
    """Bytes behind the record that ends a zip file."""
    stream = archive.fp
    assert stream is not None
    size = stream.seek(0, io.SEEK_END)
    stream.seek(archive.start_dir)
    tail = stream.read()
    at = tail.rfind(END)
    return size - archive.start_dir - at - END_SIZE - len(archive.comment) if at >= 0 else 0
