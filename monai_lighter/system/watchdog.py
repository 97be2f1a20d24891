"""Processes that watch over each other: one that ends before its time ends the others, and they say which it was."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, wait
from typing import Any
from uuid import uuid4

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer

from monai_lighter.errors import BundleError, explain, in_short, in_terms_of_config
from monai_lighter.errors.marks import walk_causes
from monai_lighter.system.signals import RunStopped

__all__ = ["Watchdog"]

logger = logging.getLogger(__name__)

GRACE = 10.0
"""Seconds that a process has to end by itself when another has ended."""
NEWS = 2.0
"""Seconds within which what ended another process is known, after an exchange with it has failed."""
LOCAL = "127.0.0.1"


class Watchdog(Callback):
    """Ends all processes of a run when one of them fails, is killed or exits, and says which it was and why.

    Each process holds a connection to that of rank 0, over which it says that it is through, or what it failed with; a process
    that is killed says nothing, and the system closes its connection. The others have `GRACE` seconds to end by themselves: the
    next exchange with the dead one fails. One that has none to make (it predicts its own cases) or waits for ever (NCCL) is then
    ended with exit code 1. Nothing is done in a step. Launcher and backend do not matter.

    `Workflow` adds it to a run of a native config with several processes.
    """

    def __init__(self) -> None:
        self._watch: _Watch | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.world_size == 1 or self._watch is not None:
            return
        is_alone = getattr(trainer, "num_nodes", 1) == 1
        environment: Any = getattr(trainer.strategy, "cluster_environment", None)
        host = LOCAL if is_alone or environment is None else environment.main_address
        listener, key = None, uuid4().hex
        if trainer.is_global_zero:
            listener = Listener((LOCAL if is_alone else "", 0), backlog=trainer.world_size, authkey=key.encode())
        port, key = trainer.strategy.broadcast((listener.address[1] if listener else 0, key))  # type: ignore[misc]
        self._watch = _Watch(trainer.global_rank, trainer.world_size, listener, (str(host), int(port)), key.encode())
        self._watch.start()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._watch is None:
            return
        lost = self._watch.wait_for_news() if _failed_to_exchange(exception) else ""
        if lost:
            explain(exception, lost)
            self._watch.end("")
        else:
            stopped = isinstance(exception, (RunStopped, KeyboardInterrupt))
            *_, cause = walk_causes(exception)
            self._watch.end("" if stopped else in_terms_of_config(exception) or in_short(cause))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._watch is not None:
            self._watch.end(None)
            self._watch = None


def _failed_to_exchange(error: BaseException) -> bool:
    """Whether an error may be that another process is no longer there: of gloo it is a ``RuntimeError`` by its message alone."""
    if isinstance(error, BundleError) or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


class _Watch(threading.Thread):
    """The connections of one process. What goes over them is JSON: ``[rank]`` at first, ``[rank, why]`` of a process that ends;
    ``why`` is None where it is through.

    Args:
        rank: of this process.
        size: number of processes.
        listener: of rank 0.
        address: host and port of the listener.
        key: without which nobody is heard.
    """

    def __init__(self, rank: int, size: int, listener: Listener | None, address: tuple[str, int], key: bytes) -> None:
        super().__init__(name="watchdog", daemon=True)
        self.rank, self.size, self.listener, self.address, self.key = rank, size, listener, address, key
        self.connections: dict[Connection, int] = {}
        self.lost, self.known, self.is_through, self.has_failed = "", threading.Event(), False, False
        self.lock = threading.Lock()

    def run(self) -> None:
        try:
            self._connect()
        except Exception as error:  # a firewall between nodes: the run goes on without
            logger.warning(f"the processes of this run do not watch over each other: {in_short(error)}")
            return
        if self.is_through:  # and nobody could be told before
            self._tell([self.rank, None])
        while self.connections and not self.is_through:
            for connection in wait(list(self.connections), timeout=1.0):
                self._hear(connection)  # type: ignore[arg-type]

    def _connect(self) -> None:
        if self.listener is None:
            connection = Client(self.address, authkey=self.key)
            connection.send_bytes(json.dumps([self.rank]).encode())
            self.connections[connection] = 0
            return
        with self.listener:
            while len(self.connections) < self.size - 1:
                try:
                    connection = self.listener.accept()
                    self.connections[connection] = json.loads(connection.recv_bytes())[0]
                except (AuthenticationError, EOFError, ConnectionError, ValueError):  # somebody else's
                    continue

    def _hear(self, connection: Connection) -> None:
        try:
            rank, why = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            rank, why = (
                self.connections[connection],
                "it was killed (kill -9, out of memory) or crashed, or its own error is told elsewhere",
            )
        del self.connections[connection]
        if why is not None and not self.is_through:
            self._lose(rank, why)

    def _lose(self, rank: int, why: str) -> None:
        """Tells of a process that has ended, and ends this one."""
        self._tell([rank, why])
        first, *more = why.strip().splitlines() or ["a signal"]
        self.lost = "\n".join([f"the process of rank {rank} has ended: {first}", *more])
        if why and not self.has_failed and self.rank == (rank == 0):  # the first that is left
            print(f"\n{self.lost}\nThe other processes end.", file=sys.__stderr__, flush=True)
        self.known.set()
        threading.Event().wait(GRACE)
        if not self.is_through:
            os._exit(1)

    def _tell(self, message: list[Any]) -> None:
        with self.lock:
            for connection in list(self.connections):
                try:
                    connection.send_bytes(json.dumps(message).encode())
                except OSError:
                    continue

    def wait_for_news(self) -> str:
        """What is known of a process that has ended; empty where there is none."""
        self.known.wait(NEWS)
        return self.lost

    def end(self, why: str | None) -> None:
        """Says that this process ends: with an error in words, by a signal (empty), or because it is through (None)."""
        self.is_through, self.has_failed = why is None, why is not None
        self._tell([self.rank, why])
