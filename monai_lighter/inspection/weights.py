"""Files of weights and other binary files: what loading one could run, read without loading it."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from monai_lighter.inspection.archive import zip_problems
from monai_lighter.inspection.judge import home_of, judge, name_of
from monai_lighter.inspection.pickles import PickleScan, scan_pickles
from monai_lighter.inspection.report import Entry, Level, Verdict
from monai_lighter.inspection.resolve import STDLIB, Resolver
from monai_lighter.inspection.source import name_problems

__all__ = ["binary_entries"]

PICKLED = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".p", ".bin", ".joblib", ".th", ".tar", ".npy", ".model")
NATIVE = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\xfe\xed\xfa")
PACKED = (b"7z\xbc\xaf\x27\x1c", b"Rar!", b"\x28\xb5\x2f\xfd")
OPAQUE = (".plan", ".engine", ".trt", ".onnx", ".h5", ".hdf5", ".keras", ".pb", ".tflite", ".mlmodel", ".pte")
REBUILT = re.compile(
    r"torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_from_type_v2|torch(\.storage)?\.\w*Storage|torch\.serialization\."
    r"_get_layout|torch\.jit\._pickle\.\w+|__torch__\..*|"
    r"numpy\.(_core|core)\.multiarray\.(_reconstruct|scalar|_frombuffer)|numpy\.(_core|core)\.numeric\._frombuffer|"
    r"numpy\.dtypes\.\w+|numpy\.dtype|copyreg\._reconstructor|builtins\.object|argparse\.Namespace|"
    r"lightning\.fabric\.utilities\.data\.AttributeDict|lightning\.pytorch\.utilities\.parsing\.AttributeDict|"
    r"monai\.data\.meta_tensor\.MetaTensor|monai\.utils\.enums\.\w+|torch\.nn\.parameter\.(Buffer|Parameter)"
)
"""What weights are made of, under the names of the places where it is defined."""
SCRIPTED = re.compile(r"\b(?:torch|ops\.aten|ops\.prim)\.(save|from_file|load|open|write\w*|_save\w*|_load\w*)\(")
CUSTOM = re.compile(r"\bops\.(?!aten\b|prim\b|quantized\b|torchvision\b|image\b)(\w+)\.(\w+)\(")
NAME = re.compile(r"\?|[^\W\d]\w*(\.[\w<>]+)+")
MAX_PACKED = 64 << 20
MAX_PICKLE = 512 << 20


def binary_entries(name: str, stream: BinaryIO, resolver: Resolver) -> Iterator[Entry]:
    """What a file is by its content, whatever its name says.

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
    elif head.startswith(PACKED):
        yield Entry(Level.LOOK, "archive", name, "an archive in the bundle", "not read")
    elif zipfile.is_zipfile(stream):
        yield from _zip(name, stream, resolver)
    else:
        stream.seek(0)
        yield from _plain(name, stream, head, suffix, resolver)


def _plain(name: str, stream: BinaryIO, head: bytes, suffix: str, resolver: Resolver) -> Iterator[Entry]:
    """A file that is neither a program nor a zip file."""
    if suffix == ".safetensors":
        yield _safetensors(name, stream)
    elif head.startswith(b"\x93NUMPY"):
        yield from _numpy(name, stream, resolver)
    elif head[257:262] == b"ustar":
        yield from _tar(name, stream, resolver)
    elif head[:2] == b"\x1f\x8b" or head.startswith((b"BZh", b"\xfd7zXZ\0", b"x\x01", b"x\x9c", b"x\xda", b"x^")):
        yield from _compressed(name, stream, resolver)
    else:
        yield from _pickle(name, stream, resolver, suffix in PICKLED)
        if suffix in OPAQUE:
            yield Entry(Level.LOOK, "weights", name, suffix, "a model in a format that is not read here")


def _is_native(head: bytes) -> bool:
    return not head.startswith(b"MZ") or b"PE\0\0" in head or b"DOS mode" in head


def _pickle(name: str, stream: BinaryIO, resolver: Resolver, expected: bool) -> Iterator[Entry]:
    """A stream of pickles; a file that only looks like one for a few bytes is none."""
    scan = scan_pickles(stream)
    if not expected:
        levels = [_verdict(entry.name, resolver).level for entry in scan.globals if NAME.fullmatch(entry.name)]
        if not levels or not (scan.complete or Level.DANGER in levels):
            return
    yield from _scanned(name, scan, resolver)


def _scanned(name: str, scan: PickleScan, resolver: Resolver) -> Iterator[Entry]:
    fine: list[str] = []
    seen: set[str] = set()
    for entry in scan.globals:
        if entry.name in seen:
            continue
        seen.add(entry.name)
        verdict = _verdict(entry.name, resolver)
        if verdict.level is Level.OK:
            fine.append(entry.name)
        else:
            yield Entry(verdict.level, "pickle", name, entry.name, verdict.why, f"byte {entry.position}")
    if fine or scan.complete:
        yield Entry(Level.OK, "pickle", name, f"{len(fine)} harmless globals", ", ".join(fine))
    if scan.error:
        level = Level.DANGER if scan.globals else Level.LOOK
        why = f"no whole pickle ({scan.error}): what stands before that would still be run"
        yield Entry(level, "pickle", name, "broken", why)


def _verdict(name: str, resolver: Resolver) -> Verdict:
    if name == "?":
        return Verdict(Level.DANGER, "a global whose name is put together when it is loaded")
    if REBUILT.fullmatch(name) and not name.startswith("torch._utils._rebuild_from"):
        return Verdict(Level.OK)
    found = resolver.dotted(name)
    verdict = judge(found, as_target=True)
    if verdict.level is not Level.LOOK or REBUILT.fullmatch(name_of(found)):
        return verdict if verdict.level is Level.DANGER else Verdict(Level.OK)
    root = (home_of(found.object) if found.kind == "object" else found.name).split(".")[0]
    if root in STDLIB and not isinstance(found.object, type):
        return Verdict(Level.DANGER, "a function of the standard library that no weights need")
    return verdict


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
    is_weights = any(member.endswith(("data.pkl", ".npy", "constants.pkl")) for member in names)
    if not is_weights:
        yield Entry(Level.LOOK, "archive", name, f"an archive of {len(names)} files in the bundle", "not unpacked")
    code: list[tuple[str, bytes]] = []
    for info in archive.infolist():
        inner = f"{name}!{info.filename}"
        stored = re.search(r"(^|/)(data|constants|tensors|xl_model_weights)/\d+$", info.filename)
        if info.is_dir() or info.flag_bits & 1 or (stored and is_weights) or info.file_size > MAX_PICKLE:
            continue
        try:
            data = archive.read(info)
        except Exception as error:  # zipfile raises whatever broken bytes lead to
            yield Entry(Level.DANGER, "archive", inner, "broken", f"{error}: PyTorch's reader may read it all the same")
            continue
        if info.filename.endswith(".py"):
            code.append((info.filename, data))
        elif not info.filename.endswith((".zip", ".debug_pkl")):
            yield from _member(inner, data, resolver)
    if code:
        yield from _code(name, code, any("/code/" in f"/{file}" for file, _ in code))


def _member(inner: str, data: bytes, resolver: Resolver) -> Iterator[Entry]:
    if inner.endswith((".pkl", ".pickle")):
        yield from _scanned(inner, scan_pickles(io.BytesIO(data)), resolver)
    elif not zipfile.is_zipfile(io.BytesIO(data)):
        yield from binary_entries(inner, io.BytesIO(data), resolver)
    else:
        yield Entry(Level.LOOK, "archive", inner, "an archive in an archive", "not read")


def _code(name: str, code: list[tuple[str, bytes]], is_script: bool) -> Iterator[Entry]:
    digest = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for _, data in sorted(code))).hexdigest()
    files = ", ".join(file for file, _ in code[:3]) + (", …" if len(code) > 3 else "")
    if not is_script:
        yield Entry(
            Level.DANGER, "script", name, f"{len(code)} Python files", f"code that torch.package would run: {files}"
        )
        return
    yield Entry(Level.LOOK, "torchscript", name, f"{len(code)} code files, sha256 {digest}", f"a program: {files}")
    for file, data in code:
        text = data.decode("utf-8", "replace")
        for operator in sorted(set(SCRIPTED.findall(text))):
            yield Entry(Level.DANGER, "torchscript", f"{name}!{file}", operator, "reads or writes a file")
        for space, operator in sorted(set(CUSTOM.findall(text))):
            yield Entry(
                Level.LOOK, "torchscript", f"{name}!{file}", f"{space}.{operator}", "an operator of another library"
            )


def _tar(name: str, stream: BinaryIO, resolver: Resolver) -> Iterator[Entry]:
    """PyTorch's oldest format is a tar file of pickles."""
    yield Entry(Level.LOOK, "archive", name, "a tar file in the bundle", "not unpacked")
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for info in archive:
                member = archive.extractfile(info) if info.isfile() and info.size <= MAX_PACKED else None
                if member is not None:
                    yield from _pickle(
                        f"{name}!{info.name}", io.BytesIO(member.read()), resolver, info.name == "pickle"
                    )
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        yield Entry(Level.DANGER, "archive", name, "broken tar", str(error))


def _compressed(name: str, stream: BinaryIO, resolver: Resolver) -> Iterator[Entry]:
    """Compressed data is looked into as far as a pickle would be recognised by."""
    data = stream.read(MAX_PACKED)
    unpackers: tuple[Any, ...] = (zlib.decompressobj(47), bz2.BZ2Decompressor(), lzma.LZMADecompressor())
    for unpacker in unpackers:
        try:
            content = unpacker.decompress(data, MAX_PACKED)
        except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError):
            continue
        yield from _pickle(f"{name}!", io.BytesIO(content), resolver, False)
        return


def _safetensors(name: str, stream: BinaryIO) -> Entry:
    try:
        size = struct.unpack("<Q", stream.read(8))[0]
        if size > MAX_PACKED:
            raise ValueError(f"header of {size} bytes")
        header = json.loads(stream.read(size))
        return Entry(Level.OK, "weights", name, f"safetensors, {len(header)} entries", "holds tensors alone")
    except (struct.error, ValueError, TypeError, RecursionError) as error:
        return Entry(Level.LOOK, "weights", name, "safetensors", f"broken: {error}")


def _numpy(name: str, stream: BinaryIO, resolver: Resolver) -> Iterator[Entry]:
    """An array of objects is a pickle behind its header."""
    head = stream.read(12)
    size = struct.unpack("<H", head[8:10])[0] if head[6] == 1 else struct.unpack("<I", head[8:12])[0]
    start = (10 if head[6] == 1 else 12) + min(size, 1 << 20)
    stream.seek(0)
    header = stream.read(start)
    if re.search(rb"""['"]descr['"]:.*['"|]O['"\d]""", header):
        yield Entry(
            Level.LOOK, "pickle", name, "array of objects", "a pickle: only numpy.load(allow_pickle=True) loads it"
        )
        yield from _scanned(name, scan_pickles(io.BytesIO(stream.read(MAX_PACKED))), resolver)
