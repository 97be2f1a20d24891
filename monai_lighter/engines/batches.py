"""What Lightning's loops iterate over while an engine runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ignite.engine import Events

from monai_lighter.engines.run import Run

__all__ = ["UNKNOWN_LENGTH", "Batches"]

UNKNOWN_LENGTH = 2**31
"""Stands for a length that is not known: a loader with a length is never read ahead by Lightning."""


class Batches:
    """The batches of one epoch of an engine's run, from the engine's own iterator.

    Each is fetched by the engine itself, events included, when Lightning asks for it: no batch is drawn ahead, and no iterator
    is begun anew at an epoch that Ignite would not begin anew.

    Args:
        run: the run whose batches are asked for.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def __len__(self) -> int:
        return self.run.engine.state.epoch_length or UNKNOWN_LENGTH

    def __iter__(self) -> Iterator[Any]:
        run = self.run
        epoch = run.epochs
        while run.epochs == epoch:
            if run.position in (Events.EPOCH_STARTED, Events.ITERATION_COMPLETED):
                run.advance()
            if run.position is not Events.ITERATION_STARTED:
                return
            batch = run.engine.state.batch
            yield () if batch is None else batch
