"""Files of weights and other binary files: what loading one could run, read without loading it."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

from monai_lighter.inspection.arrays import array_entries
from monai_lighter.inspection.packed import COMPRESSED, compressed_entries, is_tar, tar_entries
from monai_lighter.inspection.pickled import hidden_entries, pickle_entries, unread_entry
from monai_lighter.inspection.report import Entry, Level
from monai_lighter.inspection.resolve import Resolver
from monai_lighter.inspection.source import name_problems
from monai_lighter.inspection.torchscript import code_entries
from monai_lighter.inspection.zip_records import zip_problems

__all__ = ["binary_entries"]

PICKLED = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".p", ".bin", ".joblib", ".th", ".tar", ".npy", ".model")
NATIVE = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\xfe\xed\xfa")
PACKED = (b"7z\xbc\xaf\x27\x1c", b"Rar!", b"\x28\xb5\x2f\xfd")
OPAQUE = (".plan", ".engine", ".trt", ".onnx", ".h5", ".hdf5", ".keras", ".pb", ".tflite", ".mlmodel", ".pte")
DATABASES = (".lmdb", ".mdb")
"""Files of pickles and other data, as MONAI's ``LMDBDataset`` keeps them and loads them."""
ZIP, ARRAY = b"PK\x03\x04", b"\x93NUMPY"
STORED = re.compile(r"(^|/)(data|constants|tensors|xl_model_weights)/\d+$")
"""Members of PyTorch's archives that hold numbers alone."""
MAX_HEADER = 64 << 20
MAX_PICKLE = 512 << 20
"""Bytes of a file in an archive that are read."""


def binary_entries(name: str, stream: BinaryIO, resolver: Resolver) -> Iterator[Entry]:
    """What a file is by its content, whatever its name says: all that different loaders may take it for.

    Args:
        name: in the bundle.
        stream: seekable.
        resolver: of the bundle.
    """
    head = stream.read(512)
    stream.seek(0)
    suffix = name[name.rfind(".") :].lower()
    if head.startswith(NATIVE) and _is_native(head):
        yield Entry(Level.DANGER, "file", name, "native code", "a program or library: cannot be read here")
        return
    if head.startswith(PACKED):
        yield Entry(Level.LOOK, "archive", name, "an archive in the bundle", "not read")
        return
    is_zip = zipfile.is_zipfile(stream)
    if is_zip:
        yield from _zip(name, stream, resolver)
    elif head.startswith(ZIP) and suffix in PICKLED:
        why = "begins as a zip file and does not end as one: PyTorch's reader may read it all the same"
        yield Entry(Level.DANGER, "archive", name, "broken zip", why)
    if not (is_zip and head.startswith(ZIP)):
        stream.seek(0)
        yield from _plain(name, stream, head, "" if is_zip else suffix, resolver)


def _plain(name: str, stream: BinaryIO, head: bytes, suffix: str, resolver: Resolver) -> Iterator[Entry]:
    """A file that is no program, read from its first byte."""
    expected = suffix in PICKLED
    if suffix == ".safetensors":
        yield _safetensors(name, stream)
    elif head.startswith(ARRAY):
        yield from array_entries(name, stream, resolver)
        expected = False
    elif is_tar(head):
        yield from tar_entries(name, stream, resolver)
        expected = False
    elif head.startswith(COMPRESSED):
        yield from compressed_entries(name, stream, resolver)
        expected = False
    stream.seek(0)
    yield from pickle_entries(name, stream, resolver, expected)
    if suffix in DATABASES:
        stream.seek(0)
        yield from hidden_entries(name, stream, resolver)
    if suffix in OPAQUE:
        yield Entry(Level.LOOK, "weights", name, suffix, "a model in a format that is not read here")


def _is_native(head: bytes) -> bool:
    return not head.startswith(b"MZ") or b"PE\0\0" in head or b"DOS mode" in head


def _zip(name: str, stream: BinaryIO, resolver: Resolver) -> Iterator[Entry]:
    """PyTorch's archives, npz files, TorchScript, torch.package and plain zip files."""
    try:
        archive = zipfile.ZipFile(stream)
        names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        yield Entry(Level.DANGER, "archive", name, "broken zip", f"{error}: PyTorch's reader may read it all the same")
        return
    problems = [*name_problems(names), *zip_problems(archive)]
    for member, verdict in problems:
        if verdict.level is Level.DANGER:
            yield Entry(verdict.level, "archive", f"{name}!{member}", "zip record", verdict.why)
    if any(verdict.why.startswith("bomb") for _, verdict in problems):
        return
    is_weights = any(member.lower().endswith(("data.pkl", ".npy", "constants.pkl")) for member in names)
    first = min((info.header_offset for info in archive.infolist()), default=0)
    if first and is_weights:
        why = "what stands before a zip file is read in its place by some loaders"
        yield Entry(Level.DANGER, "archive", name, f"{first} bytes before the zip file", why)
    if not is_weights:
        yield Entry(Level.LOOK, "archive", name, f"an archive of {len(names)} files in the bundle", "not unpacked")
    code: list[tuple[str, bytes]] = []
    for info in archive.infolist():
        if info.is_dir() or info.flag_bits & 1:
            continue
        yield from _member(name, archive, info, is_weights, code, resolver)
    if code:
        yield from code_entries(name, code, any("/code/" in f"/{file}" for file, _ in code))


def _member(
    name: str,
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    is_weights: bool,
    code: list[tuple[str, bytes]],
    resolver: Resolver,
) -> Iterator[Entry]:
    """One file of a zip file; Python files are put into ``code``."""
    inner = f"{name}!{info.filename}"
    is_code = info.filename.endswith(".py")
    try:
        with archive.open(info) as member:
            start = member.read(len(ARRAY))
            if start != ARRAY and (
                info.filename.endswith(".debug_pkl") or (is_weights and STORED.search(info.filename))
            ):
                return
            data = start + member.read(MAX_PICKLE - len(start))
            is_cut = bool(member.read(1))
    except Exception as error:  # zipfile raises whatever broken bytes lead to
        yield Entry(Level.DANGER, "archive", inner, "broken", f"{error}: PyTorch's reader may read it all the same")
        return
    if is_code and not is_cut:
        code.append((info.filename, data))
    elif start == ARRAY:
        yield from array_entries(inner, io.BytesIO(data), resolver, is_cut)
    elif is_cut:
        entry = unread_entry(inner, f"{info.file_size} bytes", "it is too large")
        yield entry if is_weights or is_code or inner.lower().endswith(PICKLED) else _overlooked(entry)
    elif inner.endswith((".pkl", ".pickle")):
        yield from pickle_entries(inner, io.BytesIO(data), resolver, True)
    elif zipfile.is_zipfile(io.BytesIO(data)):
        yield Entry(Level.LOOK, "archive", inner, "an archive in an archive", "not read")
        yield from pickle_entries(inner, io.BytesIO(data), resolver, False)
    else:
        yield from binary_entries(inner, io.BytesIO(data), resolver)


def _overlooked(entry: Entry) -> Entry:
    """A file that no loader takes for a pickle."""
    return Entry(Level.LOOK, "archive", entry.file, entry.what, entry.why)


def _safetensors(name: str, stream: BinaryIO) -> Entry:
    try:
        size = struct.unpack("<Q", stream.read(8))[0]
        if size > MAX_HEADER:
            raise ValueError(f"header of {size} bytes")
        header = json.loads(stream.read(size))
        return Entry(Level.OK, "weights", name, f"safetensors, {len(header)} entries", "holds tensors alone")
    except (struct.error, ValueError, TypeError, RecursionError) as error:
        return Entry(Level.LOOK, "weights", name, "safetensors", f"broken: {error}")
