"""Hands the run of an engine to Lightning's Trainer."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from monai.engines import Evaluator

from monai_lighter.engines.automatic import AutomaticSystem, is_automatic
from monai_lighter.engines.module import Batches, EngineSystem
from monai_lighter.engines.ranks import require_automatic
from monai_lighter.engines.run import Run
from monai_lighter.engines.trainer import CHECKPOINT, trainer_for

__all__ = ["drive"]


class _UnderWay(threading.local):
    """Fits and evaluations that have begun and not ended in this thread, the innermost last."""

    def __init__(self) -> None:
        self.systems: list[EngineSystem] = []


UNDER_WAY = _UnderWay()


def drive(run: Run, keywords: Mapping[str, Any]) -> None:
    """Runs an engine: an evaluator by ``Trainer.validate``, any other by ``Trainer.fit``.

    An evaluator that is run from a handler of a trainer runs as the validation loop of that trainer's fit.

    Args:
        run: of the engine.
        keywords: of Lightning's Trainer.
    """
    outer = UNDER_WAY.systems[-1] if UNDER_WAY.systems else None
    evaluates = isinstance(run.engine, Evaluator)
    if evaluates and outer is not None and outer.trainer.training:
        outer.validate(run)
        return
    automatic = is_automatic(run)
    system = AutomaticSystem(run, keywords) if automatic else EngineSystem(run)
    trainer = trainer_for(run.engine, automatic or evaluates, keywords)
    if not automatic and not evaluates:
        require_automatic(run.engine, trainer.world_size)
    UNDER_WAY.systems.append(system)
    try:
        with _interruptible():
            if evaluates:
                trainer.validate(system, dataloaders=Batches(run), verbose=False)
            else:
                fit: Any = trainer.fit
                fit(system, train_dataloaders=Batches(run), ckpt_path=keywords.get(CHECKPOINT))
    except BaseException as error:
        run.abandon(error)
        raise
    finally:
        UNDER_WAY.systems.pop()
        torch.set_grad_enabled(run.grad_enabled)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C is the ``KeyboardInterrupt`` that code around a run can catch; a Trainer exits, and ignores further signals."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise error.__context__ from None
