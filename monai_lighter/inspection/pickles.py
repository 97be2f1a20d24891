"""Pickles read opcode by opcode: which globals one would import, found without loading it.

The stack is followed with the effects that `pickletools` states for each opcode, so that names which reach ``STACK_GLOBAL`` by
way of the memo are known, and a name that is not known is reported.
"""

from __future__ import annotations

import io
import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

__all__ = ["Global", "PickleScan", "scan_bytes", "scan_pickles"]

MARK = object()
UNKNOWN = None
MAX_OPCODES = 5_000_000
MAX_PICKLES = 100
"""Pickles that may stand one behind the other; PyTorch's old format has five."""
TEXT_OPCODES = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"}
SETS_MEMO = {"PUT", "BINPUT", "LONG_BINPUT"}
GETS_MEMO = {"GET", "BINGET", "LONG_BINGET"}


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
    """

    globals: list[Global]
    complete: int
    error: str


def scan_pickles(stream: BinaryIO) -> PickleScan:
    """All pickles at the start of a stream, one behind the other."""
    found: list[Global] = []
    complete, error = 0, ""
    while complete < MAX_PICKLES:
        start, known = stream.tell(), len(found)
        if not stream.read(1):
            break
        stream.seek(start)
        try:
            for entry in _globals(stream):
                found.append(entry)
            complete += 1
        except Exception as failure:  # pickletools raises whatever broken bytes lead to
            error = f"{type(failure).__name__}: {failure}"
            if complete and len(found) == known:
                error = ""  # what follows the pickles, such as raw storages
            break
    return PickleScan(found, complete, error)


def _globals(stream: BinaryIO) -> Iterator[Global]:
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for count, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
        if count > MAX_OPCODES:
            raise ValueError(f"more than {MAX_OPCODES} opcodes")
        name = opcode.name
        if name in ("GLOBAL", "INST"):
            module, _, attribute = str(argument).partition(" ")
            yield Global(_python3(module, attribute), position or 0)
        elif name == "STACK_GLOBAL":
            yield Global(_joined(stack[-2:]), position or 0)
        elif name in ("EXT1", "EXT2", "EXT4"):
            yield Global(f"copyreg.extension_{argument}", position or 0)
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
        memo[int(argument)] = stack[-1] if stack else UNKNOWN
    elif name in GETS_MEMO:
        stack.append(memo.get(int(argument), UNKNOWN))
    elif name == "DUP":
        stack.append(stack[-1] if stack else UNKNOWN)
    elif name == "MARK":
        stack.append(MARK)
    else:
        _pop(opcode, stack)
        stack.extend(UNKNOWN for _ in opcode.stack_after)


def _pop(opcode: Any, stack: list[Any]) -> None:
    before = opcode.stack_before
    marks = [i for i, kind in enumerate(before) if kind is pickletools.markobject]
    if opcode.name == "POP" or not marks:
        del stack[max(0, len(stack) - len(before)) :]
        return
    while stack and stack.pop() is not MARK:
        pass
    del stack[max(0, len(stack) - marks[0]) :]


def scan_bytes(data: bytes) -> PickleScan:
    """As `scan_pickles`, of bytes."""
    return scan_pickles(io.BytesIO(data))
