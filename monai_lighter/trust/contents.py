"""What the files of a bundle are: configs, data, weights that hold tensors alone, and code."""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.serialization import get_unsafe_globals_in_checkpoint

from monai_lighter.trust.digest import hash_file, walk_files
from monai_lighter.trust.objects import is_listed_module

__all__ = ["CONFIG_SUFFIXES", "CodeFile", "list_code_files", "own_modules"]

CONFIG_SUFFIXES = (".json", ".yaml", ".yml")
DATA = re.compile(
    r"(.*\.(json|yaml|yml|conf|md|rst|txt|csv|tsv|toml|cff|bib|pdf|svg|png|jpe?g|gif|bmp|tiff?|webp|mp4|nii(\.gz)?|mha|mhd|raw|nrrd|"
    r"dcm|h5|hdf5|log|lock)|licen[cs]e|notice|readme|changelog|\.gitignore|\.gitattributes|\.gitkeep)",
    re.IGNORECASE,
)
"""Names of files that no run takes for a program."""
WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
ARRAYS = (".npy", ".npz")
UNREAD = (".git", ".cache")
"""Directories of a bundle in which no run looks for anything, and from which Python imports nothing."""
MODULES = (".py", ".pyc", ".so", ".pyd")
UNREADABLE = (
    RuntimeError,
    ValueError,
    OSError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    zipfile.BadZipFile,
)


class CodeFile(NamedTuple):
    """A file that is code, or may be.

    Attributes:
        file: its name in the bundle, with ``/``.
        sha256: of its content; empty where it has none.
        what: in a few words.
    """

    file: str
    sha256: str
    what: str


def list_code_files(bundle: Path) -> Iterator[CodeFile]:
    """All files of a bundle that are not known to be data. Reads them, and loads and imports nothing.

    Args:
        bundle: its directory.
    """
    for name, mode in walk_files(bundle):
        path = bundle / name
        if name.split("/")[0] in UNREAD:
            continue
        if stat.S_ISLNK(mode):
            if not path.resolve().is_relative_to(bundle.resolve()):
                yield CodeFile(name, "", "a link out of the bundle")
        elif not stat.S_ISREG(mode):
            yield CodeFile(name, "", "no file")
        else:
            what = _kind(path)
            if what:
                yield CodeFile(name, hash_file(path), what)


def _kind(path: Path) -> str:
    """What a file is; empty where it is data."""
    name = path.name.lower()
    if name.endswith(WEIGHTS):
        return "" if name.endswith(".safetensors") else _weights(path)
    if name.endswith(ARRAYS):
        return _arrays(path)
    if DATA.fullmatch(name):
        return ""
    return {".py": "Python", ".pyc": "byte code", ".ts": "TorchScript"}.get(path.suffix.lower(), "not known to be data")


def _weights(path: Path) -> str:
    """As ``torch.load(weights_only=True)`` takes them: names of what it would refuse."""
    try:
        unsafe = sorted(get_unsafe_globals_in_checkpoint(str(path)))
        return f"a pickle of {', '.join(unsafe)}"[:200] if unsafe else ""
    except Exception as error:  # torch raises whatever broken bytes lead to
        if "torchscript" in str(error).lower():
            return "TorchScript"
    try:  # files of before torch 1.6, of which torch names nothing
        torch.load(path, map_location="meta", weights_only=True)
        return ""
    except Exception:
        return "refused by torch.load(weights_only=True)"


def _arrays(path: Path) -> str:
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as stream:
                return "an array of pickles" if _holds_objects(stream) else ""
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as stream:
                    if _holds_objects(stream):
                        return "an array of pickles"
        return ""
    except UNREADABLE:
        return "a broken array"


def _holds_objects(member: Any) -> bool:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(member)[2].hasobject


def own_modules(bundle: Path) -> frozenset[str]:
    """First parts of the names under which Python would find the bundle's own modules."""
    found = set()
    for path in bundle.iterdir() if bundle.is_dir() else ():
        name = path.name.split(".")[0]
        is_module_file = path.suffix in MODULES or (path / "__init__.py").exists()
        if name.isidentifier() and (is_module_file or (path.is_dir() and not is_listed_module(name))):
            found.add(name)
    return frozenset(found)
