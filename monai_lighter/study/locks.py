"""Locks that the system takes back from a process that dies, also by kill -9."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from monai_lighter.errors import BundleError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["HOST", "TrialLock", "locked"]

HOST = socket.gethostname()
STALE = 180.0
"""Seconds after which a holder on another machine, from which nothing has been heard, counts as dead."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Within it, no other process or thread is within the same."""
    number = _open(path)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


class TrialLock:
    """The right to run a trial. The process of the trial has it too, so that a trial whose study was killed is nobody's else
    while it runs on.

    The lock is one of the file system (``flock``). Not all that machines share hold it for all of them: a trial that another
    machine has taken is free only where nothing has been heard of it for `STALE` seconds either (`beat`).

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = -1
        self._heard = 0.0

    def take(self) -> bool:
        """Whether it is free, and this process has it now."""
        number = _open(self.path)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(number)
            return False
        holder = os.pread(number, 256, 0).decode(errors="replace")
        if holder not in ("", HOST) and _now(self.path.parent) - os.fstat(number).st_mtime < STALE:
            os.close(number)
            return False
        os.ftruncate(number, 0)
        os.pwrite(number, HOST.encode(), 0)
        self.number = number
        return True

    def beat(self) -> None:
        """Says that the holder lives, at most every ten seconds."""
        if time.monotonic() - self._heard > 10:
            self._heard = time.monotonic()
            with suppress(OSError):
                os.utime(self.number)

    def release(self) -> None:
        """Free for all others, whichever machine they are on."""
        if self.number >= 0:
            os.ftruncate(self.number, 0)
            os.close(self.number)
            self.number = -1


def _open(path: Path) -> int:
    if fcntl is None:
        raise BundleError("study needs file locks of POSIX, which this system does not have (Windows): use WSL.")
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _now(folder: Path) -> float:
    """The time by the clock of the file system that a folder is on."""
    probe = folder / f".now-{os.getpid()}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
