"""The networks of a fit, a line each."""

from __future__ import annotations

import logging
from typing import Any

from lightning.pytorch.callbacks import ModelSummary

__all__ = ["NetworkSummary"]

logger = logging.getLogger("lightning.pytorch.callbacks.model_summary")


class NetworkSummary(ModelSummary):
    """Lightning's ``ModelSummary`` as a line for each part that has parameters: its name, class and number of parameters.

    Losses and metrics, which have none, are left out. It is what a fit of a native config has, unless one is named in
    ``trainer::callbacks`` or ``enable_model_summary`` is false.
    """

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        columns = dict(summary_data)
        rows = zip(columns["Name"], columns["Type"], columns["Params"], strict=True)
        lines = [f"{name}: {kind}, {count.strip()} parameters" for name, kind, count in rows if count.strip() != "0"]
        frozen = total_parameters - trainable_parameters
        held = f", {frozen:,} of them frozen" if frozen else ""
        if lines:
            lines[-1] += f"{held}, {model_size:.1f} MB"
        for line in lines:
            logger.info(line)
