"""One number for the files of a bundle that decide what a run of it does."""

from __future__ import annotations

import ast
import hashlib
import logging
import os
import stat
import sys
import sysconfig
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

__all__ = [
    "RUN_FOLDERS",
    "find_changed_code",
    "hash_file",
    "hash_imported_code",
    "log_digest",
    "run_digest",
    "walk_files",
]

logger = logging.getLogger(__name__)

CACHES = ("__pycache__", ".cache")
"""Directories, at any depth, whose files do not count: Python's byte code, and what download clients note down."""
RUN_FOLDERS = ("configs", "models", "scripts")
"""Directories of a bundle that decide what a run of it does; beside them it may hold data, logs and results of any size."""
BLOCK = 1 << 20
INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
"""Folders of Python and of what is installed: no code of the user's."""
PACKAGE = Path(__file__).resolve().parents[1]


def run_digest(directory: Path) -> str:
    """sha256 over the files in `RUN_FOLDERS`.

    Counted are the path of each file in the bundle (``/`` between its parts, NFC) and the sha256 of its content; for a link its
    text in place of the content. Not counted are order, times, modes, empty directories, the name of the bundle's own directory,
    and the files in directories named ``__pycache__`` and ``.cache``. Nothing is followed out of the bundle. The digest of a file
    that did not change (size, times, inode) is remembered for the life of the process.

    Args:
        directory: of the bundle.

    Raises:
        OSError: a file that cannot be read.
    """
    total = hashlib.sha256()
    for line in sorted(_lines(directory)):
        total.update(line)
    return total.hexdigest()


def _lines(directory: Path) -> Iterator[bytes]:
    for name, mode in walk_files(directory, RUN_FOLDERS):
        path = directory / name
        if any(part in CACHES for part in name.split("/")[:-1]):
            continue
        if stat.S_ISLNK(mode):
            content = "link:" + hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()
        elif stat.S_ISREG(mode):
            content = hash_file(path)
        else:
            continue
        yield f"{content} {unicodedata.normalize('NFC', name)}\0".encode("utf-8", "surrogateescape")


def walk_files(directory: Path, folders: tuple[str, ...] = (".",)) -> Iterator[tuple[str, int]]:
    """Names with ``/`` and modes of all files below some folders of a directory; links are not followed."""
    for folder in folders:
        top = directory / folder
        if top.is_symlink():
            yield folder, top.lstat().st_mode
            continue
        for parent, names, files in os.walk(top):
            for name in [*files, *(name for name in names if os.path.islink(os.path.join(parent, name)))]:
                path = Path(parent, name)
                yield path.relative_to(directory).as_posix(), path.lstat().st_mode


def hash_file(path: Path) -> str:
    """sha256 of a file's content."""
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@lru_cache(maxsize=100_000)
def _digest(path: Path, *_status: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def hash_imported_code(folders: Iterable[Path]) -> dict[str, str]:
    """sha256 of the statements of every Python file in some folders that this process has imported, by its name there.

    Comments, docstrings and layout do not count: what they are changes no result. (The number is one for a version of Python.)

    Args:
        folders: absolute; a file in several of them is named by the first.
    """
    files = {getattr(module, "__file__", None) or "" for module in sys.modules.copy().values()}
    own = sorted(
        Path(file) for file in files if file.endswith(".py") and not file.startswith((*INSTALLED, str(PACKAGE)))
    )
    hashes: dict[str, str] = {}
    for folder in folders:
        hashes = {
            **{p.relative_to(folder).as_posix(): _hash_code(p) for p in own if p.is_relative_to(folder)},
            **hashes,
        }
    return hashes


def find_changed_code(before: Mapping[str, str], folders: Iterable[Path]) -> list[tuple[str, str]]:
    """Names of files of `hash_imported_code` whose code is another one now, and what has become of it."""
    found = []
    for name, digest in before.items():
        file = next((path for folder in folders if (path := folder / name).is_file()), None)
        if file is None:
            found.append((name, "is not there any more: it has been moved or deleted"))
        elif _hash_code(file) != digest:
            found.append((name, "is other code: it has been edited"))
    return found


def _hash_code(path: Path) -> str:
    data = path.read_bytes()
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):
        return hashlib.sha256(data).hexdigest()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode("utf-8", "surrogatepass")).hexdigest()


@rank_zero_only
def log_digest(directory: Path) -> str | None:
    """Logs what is about to run: the `run_digest` of a bundle, which ``inspect`` prints too, and gives it.

    None where a file cannot be read.
    """
    try:
        digest = run_digest(directory)
    except OSError as error:
        logger.warning(f"{directory}: sha256 not computed: {error}")
        return None
    absolute, here = directory.absolute(), Path.cwd()
    near = absolute.relative_to(here) if absolute.is_relative_to(here) else absolute
    logger.info(f"{near if near.name else absolute.name}: sha256 over {', '.join(RUN_FOLDERS)}: {digest}")
    return digest
