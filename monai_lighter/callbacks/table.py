"""A csv file that several processes write together."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

__all__ = ["Table"]


class Table:
    """Rows go to disk as they come, each process to a part of its own; `close` makes one table of the parts.

    Args:
        path: the csv file.
        header: names of the columns.
        trainer: whose processes write.
    """

    def __init__(self, path: Path, header: Sequence[str], trainer: Trainer) -> None:
        self.path, self.header, self.trainer = path, header, trainer
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._part(trainer.global_rank), "w", newline="")  # noqa: SIM115
        self._writer = csv.writer(self._file)

    def _part(self, rank: int) -> Path:
        return self.path.with_name(f".{self.path.name}.part{rank}")

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Writes rows."""
        self._writer.writerows(rows)
        self._file.flush()

    def close(self) -> None:
        """One table in place of the parts: sorted by the first column, numbers as numbers."""
        self._file.close()
        self.trainer.strategy.barrier()
        if self.trainer.is_global_zero:
            parts = [self._part(rank) for rank in range(self.trainer.world_size)]
            rows: list[list[str]] = []
            for part in parts:
                with open(part, newline="") as file:
                    rows += csv.reader(file)
            rows.sort(key=lambda row: (0, float(row[0]), "") if _is_number(row[0]) else (1, 0.0, row[0]))
            merged = self.path.with_name(f".{self.path.name}.merged")
            with open(merged, "w", newline="") as file:
                csv.writer(file).writerows([self.header, *rows])
            merged.replace(self.path)
            for part in parts:
                part.unlink()
        self.trainer.strategy.barrier()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
