"""Files that are whole or as they were, whatever becomes of the process that writes them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import gethostname
from tempfile import mkdtemp

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["copy_safely", "folder_beside", "sweep", "sync", "written_beside"]

PART = f".part-{gethostname()}-"
"""Folders of this machine: not all that machines share hold locks for all of them."""


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; what is there at the end is synced to the disk and takes the place of ``path``.

    Where something fails, ``path`` is as it was and nothing is left beside it; what a killed process leaves, the next one takes
    away. Several may write to one path at once, as two fits of a bundle do: the last one counts, whole.
    """
    sweep(path.parent)
    with folder_beside(path) as folder:
        temporary = folder / path.name
        yield temporary
        sync(temporary)
        temporary.replace(path)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A new folder beside ``path``, which goes at the end with all in it; what a killed process leaves, `sweep` takes away."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder, lock = _make_locked(path.parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(parent: Path) -> None:
    """Takes away the folders of `folder_beside` that killed processes have left in a folder, and none of a process that lives.

    A process holds a lock on its own, which the system takes from it when it dies. Where there are no such locks (Windows, some
    network file systems) they stay, and so do those of other machines.
    """
    for left in parent.glob(f"{PART}*") if fcntl is not None else ():
        with suppress(OSError):
            lock = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)


def _make_locked(parent: Path) -> tuple[Path, int]:
    while True:
        folder = Path(mkdtemp(prefix=PART, dir=parent))
        try:
            lock = os.open(folder if fcntl is not None else os.devnull, os.O_RDONLY)
        except FileNotFoundError:
            continue
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():  # else somebody has swept it before it was locked
            return folder, lock
        os.close(lock)


def copy_safely(source: Path, target: Path) -> None:
    """Copies a file to its place, where it is as a whole or not at all."""
    with written_beside(target) as temporary:
        shutil.copyfile(source, temporary)


def sync(path: Path) -> None:
    """Waits until a file is on the disk: a rename may get there before what is renamed."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
