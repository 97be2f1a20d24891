"""The profiler of a run that is not profiled."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from lightning.pytorch import Trainer, profilers

__all__ = ["PassThroughProfiler"]

NOTHING: AbstractContextManager[None] = nullcontext()


class PassThroughProfiler(profilers.PassThroughProfiler):
    """``lightning.pytorch.profilers.PassThroughProfiler`` with one empty context for all actions.

    Lightning's makes a new one, with a generator, for each of the about 50 actions of a step.
    """

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return NOTHING

    @classmethod
    def into(cls, trainer: Trainer) -> None:
        """Puts one in the place of Lightning's own; any other profiler stays."""
        if type(trainer.profiler) is profilers.PassThroughProfiler:  # type: ignore[attr-defined]
            trainer.profiler = cls()  # type: ignore[attr-defined]
