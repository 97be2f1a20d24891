"""Predictions case by case: what writers see of a step, and the list that Python gets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from monai_lighter.system.batches import read_case_names, split_outputs
from monai_lighter.system.profiler import FINISHING
from monai_lighter.system.step_outputs import when_ready

__all__ = ["CasewiseCallback", "Predictions"]


class CasewiseCallback(Callback, ABC):
    """Gives each prediction of a predict run, as it comes, to `write`: one at a time, in the order of the data, and, with
    ``system::workers``, in a thread of its own.

    Items are named by the step's ``identifier``; without one they are numbered from 0 in the order of the data, over all
    processes. A LightningModule other than `System` may give the predictions alone.

    Attributes:
        note: on the case that is being written, such as that its input is not finite; empty where there is nothing to say.

    Raises:
        ValueError: in a run, another number of identifiers than of predictions.
    """

    note = ""
    _count = 0
    _named = True
    _source: str | None = None

    @abstractmethod
    def write(self, tensor: Any, identifier: Any) -> None:
        """Takes one prediction ``(C, H, W[, D])`` or of any other shape, without batch dimension.

        Args:
            tensor: of one case; where the network has several heads, a tuple, list or dict with the case's part of each.
            identifier: what names the case.
        """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._count = trainer.global_rank

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if outputs is not None:  # else no case of the batch could be read
            with trainer.profiler.profile(FINISHING):  # type: ignore[attr-defined]
                when_ready(outputs, partial(self.write_cases, trainer.world_size, batch))

    def write_cases(self, processes: int, batch: Any, outputs: Any) -> None:
        """Gives the predictions of one step to `write`.

        Args:
            processes: of the run, which take turns in the numbers of cases without identifiers.
            batch: as the loader gave it.
            outputs: of the step.
        """
        predictions = split_outputs(outputs, batch)
        identifiers = outputs.get("identifier") if isinstance(outputs, Mapping) else None
        if isinstance(identifiers, Tensor):
            identifiers = identifiers.tolist()
        self._named = identifiers is not None
        if identifiers is None:
            identifiers = range(self._count, self._count + len(predictions) * processes, processes)
            self._count += len(predictions) * processes
        if len(identifiers) != len(predictions):
            raise ValueError(
                f"system::adapters::predict::batch: {len(predictions)} predictions must have as many identifiers, got "
                f"{len(identifiers)}. Mend identifier_accessor."
            )
        notes = (outputs.get("notes") if isinstance(outputs, Mapping) else None) or [""] * len(predictions)
        sources: list[Any] = (
            read_case_names(outputs.get("input") if isinstance(outputs, Mapping) else None, batch) or []
        )
        if len(sources) != len(predictions):
            sources = [None] * len(predictions)
        for prediction, identifier, self.note, self._source in zip(
            predictions, identifiers, notes, sources, strict=True
        ):
            self.write(prediction, identifier)


class Predictions(CasewiseCallback):
    """Keeps the predictions of a predict run in memory, as `Workflow.predict` gives them.

    Attributes:
        items: a dict for each case of this process, in the order of the data: ``identifier``, and ``pred``, which is
            ``(C, H, W[, D])`` (a ``MetaTensor`` where the input is one) after the postprocessing, on the CPU; of several heads a
            tuple, list or dict; ``note`` where the case is not finite.
    """

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []

    def write(self, tensor: Any, identifier: Any) -> None:
        item = {"identifier": identifier, "pred": apply_to_collection(tensor, Tensor, Tensor.cpu)}
        self.items.append({**item, "note": self.note} if self.note else item)
