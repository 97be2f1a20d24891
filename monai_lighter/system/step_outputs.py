"""What a step gives callbacks while its cases are still being finished."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from monai_lighter.system.threads import ThreadState

__all__ = ["CaseJob", "StepOutputs", "when_ready"]

LATE = ("input", "target", "pred", "metrics")
"""Entries of a step's outputs that are on their way."""


class CaseJob:
    """A batch whose cases are being finished.

    Args:
        known: entries of the outputs that are there already.
        postprocess: called in any thread, with a copy of the mode's transform; gives a tuple.
        complete: called with what is in that, one batch after the other; gives the entries that are missing.
        batch: as the loader gave it.
        place: where it stands, such as ``test batch 3``.
    """

    def __init__(
        self, known: dict[str, Any], postprocess: Callable, complete: Callable, batch: Any, place: str
    ) -> None:
        self.known, self.postprocess, self.complete = known, postprocess, complete
        self.batch, self.place = batch, place
        self.state, self.loop_state = ThreadState(), ThreadState(autocast=False)
        self.then: list[Callable] = []
        self.items: tuple = ()
        self.values: dict[str, Any] = {}
        self.future: Future | None = None

    def forget(self) -> None:
        """Lets go of everything that holds a case."""
        self.known, self.batch, self.items, self.then = {}, None, (), []
        self.postprocess = self.complete = _nothing


def _nothing(*arguments: Any) -> None:
    """In the place of what has been done."""


class Waiting(Protocol):
    """Who can wait for a batch."""

    def wait(self, job: CaseJob) -> dict[str, Any]:
        """The entries that were missing."""


class StepOutputs(dict):
    """What a step gives callbacks, as a dict: some of its entries are waited for when somebody reads them.

    Who reads an entry that is on its way, or one that may be, as postprocessing may add some, or goes through them, or changes
    the dict, waits for all that has been handed over before; the error of the first case that has failed is raised there.
    """

    def __init__(self, values: Any = (), job: CaseJob | None = None, pool: Waiting | None = None) -> None:
        super().__init__(values)
        self._job, self._pool = job, pool
        if job is not None:
            super().update(dict.fromkeys(LATE, _nothing))

    @property
    def job(self) -> CaseJob | None:
        """The batch, as long as it is being finished."""
        return self._job

    def _wait(self) -> None:
        if self._job is not None and self._pool is not None:
            values = self._pool.wait(self._job)
            self._job = self._pool = None
            super().update(values)

    def __getitem__(self, key: Any) -> Any:
        if super().__getitem__(key) is _nothing:
            self._wait()
        return super().__getitem__(key)

    def __missing__(self, key: Any) -> Any:
        if self._job is None or self._pool is None:
            raise KeyError(key)
        self._wait()
        return self[key]

    def __contains__(self, key: Any) -> bool:
        if not super().__contains__(key):
            self._wait()
        return super().__contains__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401

    def __bool__(self) -> bool:
        return super().__len__() > 0

    def __reduce_ex__(self, protocol: Any) -> Any:
        self._wait()
        return dict, (dict(self),)


def _waiting(name: str) -> Callable:
    method = getattr(dict, name)

    def wait_and_call(self: StepOutputs, *arguments: Any, **keywords: Any) -> Any:
        self._wait()
        return method(self, *arguments, **keywords)

    return wait_and_call


for _name in (
    *("keys", "values", "items", "copy", "pop", "popitem", "setdefault", "update", "clear", "__len__"),
    "__iter__",  # without it, dict(outputs) would copy what is there and not ask
    *("__setitem__", "__delitem__", "__eq__", "__ne__", "__or__", "__ror__", "__ior__", "__repr__"),
):
    setattr(StepOutputs, _name, _waiting(_name))


def when_ready(outputs: Any, function: Callable[[Any], None]) -> None:
    """Calls ``function(outputs)``, now or, where entries are on their way, as soon as they are there.

    What is called later is called in the order of the cases, one call at a time, before anything is said of the epoch, but in
    another thread. An error in it ends the run as one in the callback would.

    Args:
        outputs: of a step of `System`, as a callback gets them, or of any LightningModule.
        function: takes them; in another thread, a plain dict of them.
    """
    job = outputs.job if isinstance(outputs, StepOutputs) else None
    if job is None or job.future is not None:
        function(outputs)
    else:
        job.then.append(function)
