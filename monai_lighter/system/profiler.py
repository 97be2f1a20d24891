"""The profiler of a run that is not profiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from time import perf_counter

from lightning.pytorch import Trainer, profilers

__all__ = ["PassThroughProfiler"]

NOTHING: AbstractContextManager[None] = nullcontext()
FINISHING = "finish_cases"
"""Action: postprocessing, metrics and files of cases that are evaluated or predicted, or waiting for the threads that do it."""
MEASURED = {"save_checkpoint": "saving", "save_weights": "saving", FINISHING: "postprocessing"}
"""Actions, Lightning's and ours, to the part of a run that their time is counted to."""


class PassThroughProfiler(profilers.PassThroughProfiler):
    """``lightning.pytorch.profilers.PassThroughProfiler`` with one empty context for all actions, and a watch.

    Lightning's makes a new context, with a generator, for each of the about 50 actions of a step. The two that it does not put
    into a context, but begins and ends, are those of waiting for a batch: their seconds are summed up, and so are those of the
    few actions that are `MEASURED`.

    Attributes:
        measured: part of a run (``saving``) to the seconds that it has taken so far, in whichever threads.
    """

    def __init__(self) -> None:
        super().__init__()
        self._began: dict[str, float] = {}
        self._waited: dict[str, float] = {}
        self.measured: dict[str, float] = {}
        self._lock = Lock()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return self._measure(MEASURED[action_name]) if action_name in MEASURED else NOTHING

    @contextmanager
    def _measure(self, part: str) -> Iterator[None]:
        began = perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.measured[part] = self.measured.get(part, 0.0) + perf_counter() - began

    def start(self, action_name: str) -> None:
        self._began[action_name] = perf_counter()

    def stop(self, action_name: str) -> None:
        began = self._began.get(action_name)
        if began is not None:
            self._waited[action_name] = self._waited.get(action_name, 0.0) + perf_counter() - began

    def count_waited(self, mode: str) -> float:
        """Seconds that have been spent waiting for batches of a mode (``train``, ``val``, ``test``, ``predict``)."""
        ends = (f".{mode}_dataloader_next", f".{mode}_next")
        return sum(seconds for action, seconds in self._waited.items() if action.endswith(ends))

    @classmethod
    def into(cls, trainer: Trainer) -> None:
        """Puts one in the place of Lightning's own; any other profiler stays."""
        if type(trainer.profiler) is profilers.PassThroughProfiler:  # type: ignore[attr-defined]
            trainer.profiler = cls()  # type: ignore[attr-defined]
