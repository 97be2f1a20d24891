"""Opcodes of a pickle, read as leniently as the unpickler written in C reads them.

`pickletools.genops` stops at arguments that the unpickler takes, such as ``0x1`` for a number; what stands behind one would stay
unseen. Here an argument that is not understood is unknown, and reading goes on behind it.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Iterator
from typing import Any, BinaryIO

__all__ = ["Ended", "opcodes"]

CODES = {opcode.code: opcode for opcode in pickletools.opcodes}
SIZES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
"""Bytes that the size of an argument takes, by how `pickletools` says that it has one."""
TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING")
MAX_TEXT = 1 << 16
"""Bytes of a text that may be a name; longer ones are passed over."""


class Ended(Exception):
    """No reader of pickles gets further than here.

    Args:
        why: in words.
        at_end: whether the bytes are used up.
    """

    def __init__(self, why: str, at_end: bool = False) -> None:
        super().__init__(why)
        self.at_end = at_end


def opcodes(stream: BinaryIO) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int]]:
    """Opcode, argument and position up to ``STOP``; None for an argument that is no text or number, or not understood.

    Raises:
        Ended: there is no whole pickle.
    """
    while True:
        position = stream.tell()
        code = stream.read(1)
        if not code:
            raise Ended("it ends before STOP", at_end=True)
        opcode = CODES.get(code.decode("latin-1"))
        if opcode is None:
            raise Ended(f"at byte {position}, opcode {code!r} is none")
        yield opcode, _argument(opcode, stream), position
        if opcode.name == "STOP":
            return


def _argument(opcode: pickletools.OpcodeInfo, stream: BinaryIO) -> Any:
    if opcode.arg is None:
        return None
    if opcode.arg.n in SIZES:
        data = _bytes(stream, _size(opcode.arg, stream))
        return _text(data) if opcode.name in TEXTS and data is not None else None
    if opcode.arg.n >= 0:
        return int.from_bytes(_bytes(stream, opcode.arg.n) or b"", "little")
    if opcode.name in ("GLOBAL", "INST"):
        names = [_line(stream)[:-1].decode("utf-8", "surrogateescape") for _ in range(2)]
        return " ".join(names)
    return _from_line(opcode.name, _line(stream))


def _size(argument: Any, stream: BinaryIO) -> int:
    is_signed = argument.n == pickletools.TAKEN_FROM_ARGUMENT4
    size = int.from_bytes(_bytes(stream, SIZES[argument.n]) or b"", "little", signed=is_signed)
    if size < 0:
        raise Ended(f"an argument of {size} bytes")
    return size


def _bytes(stream: BinaryIO, size: int) -> bytes | None:
    """So many bytes; None for more than a name can have, which are passed over."""
    if size <= MAX_TEXT:
        data = stream.read(size)
        if len(data) < size:
            raise Ended("it ends in an argument", at_end=True)
        return data
    start = stream.tell()
    end = stream.seek(0, io.SEEK_END)
    if start + size > end:
        raise Ended("it ends in an argument", at_end=True)
    stream.seek(start + size)
    return None


def _line(stream: BinaryIO) -> bytes:
    """A line with its end; of one longer than a name can be, the start and the end."""
    first = line = stream.readline(MAX_TEXT)
    while not line.endswith(b"\n"):
        line = stream.readline(MAX_TEXT)
        if not line:
            raise Ended("it ends in an argument", at_end=True)
    return first if first.endswith(b"\n") else first + b"\n"


def _text(data: bytes) -> str | None:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def _from_line(name: str, line: bytes) -> Any:
    try:
        if name == "STRING":
            return pickletools.read_stringnl(io.BytesIO(line))
        if name == "UNICODE":
            return line[:-1].decode("raw-unicode-escape")
        return int(line) if name in ("GET", "PUT") else None
    except ValueError:
        return None
