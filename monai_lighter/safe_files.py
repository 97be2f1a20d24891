"""Files that are whole or as they were, whatever becomes of the process that writes them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["copy_safely", "sync", "written_beside"]


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; what is there at the end is synced to the disk and takes the place of ``path``.

    Where something fails, ``path`` is as it was and nothing is left beside it; a killed process leaves ``.NAME.part``, which the
    next one writes over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def copy_safely(source: Path, target: Path) -> None:
    """Copies a file to its place, where it is as a whole or not at all."""
    with written_beside(target) as temporary:
        shutil.copyfile(source, temporary)


def sync(path: Path) -> None:
    """Waits until a file is on the disk: a rename may get there before what is renamed."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
