"""NumPy's files: an array of objects is a pickle behind its header."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

from numpy.lib import format as npy

from monai_lighter.inspection.pickled import pickle_entries, unread_entry
from monai_lighter.inspection.report import Entry, Level
from monai_lighter.inspection.resolve import Resolver

__all__ = ["array_entries"]

MAX_HEADER = 1 << 22


def array_entries(name: str, stream: BinaryIO, resolver: Resolver, is_cut: bool = False) -> Iterator[Entry]:
    """Of an array in NumPy's format.

    Args:
        name: of the file.
        stream: at its start.
        resolver: of the bundle.
        is_cut: whether the file goes on behind the end of the stream.
    """
    try:
        dtype = _dtype(stream)
    except Exception as error:  # NumPy raises whatever broken headers lead to
        yield unread_entry(name, "array", f"its header: {type(error).__name__}: {error}")
        return
    if dtype.hasobject:
        why = "a pickle: only numpy.load(allow_pickle=True) loads it"
        yield Entry(Level.LOOK, "pickle", name, "array of objects", why)
        if is_cut:
            yield unread_entry(name, "array of objects", "it is too large")
        yield from pickle_entries(name, stream, resolver, True)


def _dtype(stream: BinaryIO) -> Any:
    """What NumPy takes the type of the elements for; the stream is then behind the header."""
    version = npy.read_magic(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if version == (1, 0):
            return npy.read_array_header_1_0(stream, max_header_size=MAX_HEADER)[2]
        if version == (2, 0):
            return npy.read_array_header_2_0(stream, max_header_size=MAX_HEADER)[2]
        size = int.from_bytes(stream.read(4), "little")
        if version != (3, 0) or size > MAX_HEADER:
            raise ValueError(f"version {version}, {size} bytes")
        return npy.descr_to_dtype(ast.literal_eval(stream.read(size).decode("utf-8"))["descr"])
