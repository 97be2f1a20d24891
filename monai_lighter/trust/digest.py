"""One number for the files of a bundle that decide what a run of it does."""

from __future__ import annotations

import ast
import hashlib
import logging
import os
import stat
import sys
import sysconfig
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import BinaryIO

from lightning_utilities.core.rank_zero import rank_zero_only

__all__ = [
    "RUN_FOLDERS",
    "begin_digest",
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
LARGE = 1 << 20
"""Bytes of a file that a run does not wait for when it logs its digest."""
MOST_OPEN = 64
"""Large files that are held open at once."""
SETTLED = 2_000_000_000
"""Nanoseconds after which a change of a file shows in its times, whatever the file system: FAT has them by two seconds."""
_known: dict[tuple[Path, int, int, int, int], str] = {}


def run_digest(directory: Path) -> str:
    """sha256 over the files in `RUN_FOLDERS`.

    Counted are the path of each file in the bundle (``/`` between its parts, NFC) and the sha256 of its content; for a link its
    text in place of the content. Not counted are order, times, modes, empty directories, the name of the bundle's own directory,
    and the files in directories named ``__pycache__`` and ``.cache``. Nothing is followed out of the bundle. The digest of a file
    that did not change (`hash_file`) is remembered for the life of the process.

    Args:
        directory: of the bundle.

    Raises:
        OSError: a file that cannot be read.
    """
    return _sum_up({name: _describe(path, mode) for name, path, mode in _list_counted(directory)})


def begin_digest(directory: Path) -> Future[str]:
    """The `run_digest` of a bundle as it is now, with no waiting for its large files: they are opened here, and read beside what
    follows.

    A file that another takes the place of is read as it was, which is how this package writes weights.

    Args:
        directory: of the bundle.

    Returns:
        Its ``result()`` waits for the digest, and raises OSError where a file cannot be read, or is written to while it is.
    """
    found: Future[str] = Future()
    contents: dict[str, str] = {}
    large: dict[str, tuple[BinaryIO, os.stat_result]] = {}
    try:
        for name, path, mode in _list_counted(directory):
            status = path.lstat()
            if (
                stat.S_ISREG(mode)
                and status.st_size > LARGE
                and _key(path, status) not in _known
                and len(large) < MOST_OPEN
            ):
                file = path.open("rb")
                large[name] = file, os.fstat(file.fileno())  # here: it is the file of now that is meant
            else:
                contents[name] = _describe(path, mode)
    except OSError as error:
        found.set_exception(error)

    def finish() -> None:
        try:
            found.set_result(_sum_up({**contents, **{name: _read(*opened) for name, opened in large.items()}}))
        except OSError as error:
            found.set_exception(error)
        finally:
            _close(large.values())

    if found.done():
        _close(large.values())
    elif large:
        Thread(target=finish, name="digest").start()
    else:
        finish()
    return found


def _list_counted(directory: Path) -> Iterator[tuple[str, Path, int]]:
    """Name, path and mode of the files and links that count."""
    for name, mode in walk_files(directory, RUN_FOLDERS):
        cached = any(part in CACHES for part in name.split("/")[:-1])
        if not cached and (stat.S_ISLNK(mode) or stat.S_ISREG(mode)):
            yield name, directory / name, mode


def _describe(path: Path, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "link:" + hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()
    return hash_file(path)


def _sum_up(contents: dict[str, str]) -> str:
    lines = (f"{content} {unicodedata.normalize('NFC', name)}\0" for name, content in contents.items())
    return hashlib.sha256(b"".join(sorted(line.encode("utf-8", "surrogateescape") for line in lines))).hexdigest()


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
    """sha256 of a file's content, remembered for the life of the process by path, size, times and inode.

    Raises:
        OSError: it cannot be read, or is written to while it is.
    """
    known = _known.get(_key(path, path.stat()))
    if known is not None:
        return known
    with path.open("rb") as file:
        return _read(file, os.fstat(file.fileno()))


def _read(file: BinaryIO, status: os.stat_result) -> str:
    """sha256 of an open file that had this status; remembered where another change would be seen by the clock of its times."""
    path = Path(file.name)
    digest = hashlib.sha256()
    while block := file.read(BLOCK):
        digest.update(block)
    after = os.fstat(file.fileno())
    if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
        raise OSError(f"{path} was written to while it was read")
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED:
        _known[_key(path, status)] = digest.hexdigest()
    return digest.hexdigest()


def _key(path: Path, status: os.stat_result) -> tuple[Path, int, int, int, int]:
    return path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _close(opened: Iterable[tuple[BinaryIO, os.stat_result]]) -> None:
    for file, _ in opened:
        file.close()


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
def log_digest(directory: Path) -> Future[str]:
    """Logs what is about to run, and gives it: the `run_digest` of a bundle, which ``inspect`` prints too.

    It is logged as soon as it is known (`begin_digest`), for which nothing but the end of the process waits.
    """
    absolute, here = directory.absolute(), Path.cwd()

    def tell(found: Future[str]) -> None:
        error = found.exception()
        if error is not None:
            logger.warning(f"{directory}: sha256 not computed: {error}")
            return
        near = absolute.relative_to(here) if absolute.is_relative_to(here) else absolute
        logger.info(f"{near if near.name else absolute.name}: sha256 over {', '.join(RUN_FOLDERS)}: {found.result()}")

    begun = begin_digest(directory)
    begun.add_done_callback(tell)
    return begun
