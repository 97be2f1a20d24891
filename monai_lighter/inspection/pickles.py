"""Pickles read opcode by opcode: which globals one would import, found without loading it.

The stack is followed with the effects that `pickletools` states for each opcode, so that names which reach ``STACK_GLOBAL`` by
way of the memo are known, and a name that is not known is reported.
"""

from __future__ import annotations

import io
import pickletools
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from monai_lighter.inspection.opcodes import Ended, opcodes

__all__ = ["Global", "PickleScan", "named_globals", "scan_bytes", "scan_pickles"]

MARK = object()
UNKNOWN = None
MAX_OPCODES = 5_000_000
MAX_PICKLES = 100
"""Pickles that may stand one behind the other; PyTorch's old format has five."""
TEXT_OPCODES = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"}
SETS_MEMO = {"PUT", "BINPUT", "LONG_BINPUT"}
GETS_MEMO = {"GET", "BINGET", "LONG_BINGET"}
NAMED = re.compile(
    rb"[ci]([A-Za-z_][\w.]{0,99})\r?\n([A-Za-z_][\w.<>]{0,99})\r?\n|"
    rb"\x8c.([A-Za-z_][\w.]{0,99})\x94?\x8c.([A-Za-z_][\w.<>]{0,99})\x94?\x93",
    re.DOTALL,
)
"""What ``GLOBAL``, ``INST`` and ``STACK_GLOBAL`` look like among bytes that are not read as a pickle."""
BLOCK = 1 << 24
OVERLAP = 512
MAX_SEARCHED = 1 << 28


class Global(NamedTuple):
    """Something a pickle would import.

    Attributes:
        name: dotted, in Python 3's terms; ``?`` where it is put together at load time.
        position: byte offset of the opcode.
    """

    name: str
    position: int


class PickleScan(NamedTuple):
    """What a stream of pickles holds.

    Attributes:
        globals: everything that would be imported, up to where the stream stops to be a pickle.
        complete: number of pickles that are whole.
        error: why the last one is not.
        unread: whether reading stopped before an unpickler would: anything may follow. ``globals`` then has what looks like one.
        at_end: whether the last pickle goes on behind the last byte.
    """

    globals: list[Global]
    complete: int
    error: str
    unread: bool = False
    at_end: bool = False


class _Unread(Exception):
    """A limit is reached."""


def scan_pickles(stream: BinaryIO) -> PickleScan:
    """All pickles at the start of a stream, one behind the other."""
    found: list[Global] = []
    complete = 0
    while True:
        start, known = stream.tell(), len(found)
        if not stream.read(1):
            return PickleScan(found, complete, "")
        stream.seek(start)
        try:
            if complete == MAX_PICKLES:
                raise _Unread(f"more than {MAX_PICKLES} pickles")
            for entry in _globals(stream):
                found.append(entry)
            complete += 1
        except _Unread as limit:
            return PickleScan([*found, *named_globals(stream)], complete, str(limit), unread=True)
        except Ended as end:
            if complete and len(found) == known:
                return PickleScan(found, complete, "")  # what follows the pickles, such as raw storages
            return PickleScan(found, complete, str(end), at_end=end.at_end)


def named_globals(stream: BinaryIO) -> Iterator[Global]:
    """What looks like a global in the rest of a stream, whatever stands between."""
    position, kept = stream.tell(), b""
    for _ in range(MAX_SEARCHED // BLOCK):
        block = stream.read(BLOCK)
        if not block:
            return
        data = kept + block
        for match in NAMED.finditer(data):
            module, name = (part.decode() for part in match.groups() if part is not None)
            yield Global(_python3(module, name), position - len(kept) + match.start())
        position, kept = position + len(block), data[-OVERLAP:]


def _globals(stream: BinaryIO) -> Iterator[Global]:
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for count, (opcode, argument, position) in enumerate(opcodes(stream)):
        if count > MAX_OPCODES:
            raise _Unread(f"more than {MAX_OPCODES} opcodes")
        name = opcode.name
        if name in ("GLOBAL", "INST"):
            module, _, attribute = str(argument).partition(" ")
            yield Global(_python3(module, attribute), position)
        elif name == "STACK_GLOBAL" and len(stack) >= len(opcode.stack_before):
            yield Global(_joined(stack[-2:]), position)
        elif name in ("EXT1", "EXT2", "EXT4"):
            yield Global(f"copyreg.extension_{argument}", position)
        _step(opcode, argument, stack, memo)


def _joined(names: list[Any]) -> str:
    if len(names) < 2 or not all(isinstance(name, str) for name in names):
        return "?"
    return _python3(*names)


def _python3(module: str, name: str) -> str:
    """Python 2 names stand for Python 3's in protocols below 3 (``pickle.Unpickler.find_class``, ``fix_imports``)."""
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[(module, name)]
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"


def _step(opcode: Any, argument: Any, stack: list[Any], memo: dict[Any, Any]) -> None:
    """What an opcode does to the stack and the memo, texts alone told apart."""
    name = opcode.name
    if name in TEXT_OPCODES:
        stack.append(argument)
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1] if stack else UNKNOWN
    elif name in SETS_MEMO:
        memo[argument] = stack[-1] if stack else UNKNOWN
    elif name in GETS_MEMO:
        stack.append(memo.get(argument, UNKNOWN))
    elif name == "DUP":
        stack.append(stack[-1] if stack else UNKNOWN)
    elif name == "MARK":
        stack.append(MARK)
    else:
        _pop(opcode, stack)
        stack.extend(UNKNOWN for _ in opcode.stack_after)


def _pop(opcode: Any, stack: list[Any]) -> None:
    """Takes what an opcode needs off the stack; an unpickler stops where that is not there."""
    before = opcode.stack_before
    marks = [i for i, kind in enumerate(before) if kind is pickletools.markobject]
    if opcode.name == "POP" or not marks:
        if len(stack) < len(before):
            raise Ended(f"{opcode.name} finds nothing on the stack")
        del stack[len(stack) - len(before) :]
        return
    while stack and stack[-1] is not MARK:
        stack.pop()
    if len(stack) <= marks[0]:
        raise Ended(f"{opcode.name} finds no mark on the stack")
    del stack[len(stack) - 1 - marks[0] :]


def scan_bytes(data: bytes) -> PickleScan:
    """As `scan_pickles`, of bytes."""
    return scan_pickles(io.BytesIO(data))
