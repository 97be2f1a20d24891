"""Tables that are written row by row as cases come, by one process or several."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from monai_lighter.callbacks.writers import BaseWriter
from monai_lighter.errors import ConfigError, Finding
from monai_lighter.safe_files import written_beside
from monai_lighter.system.outputs import Outputs

__all__ = ["Table", "TableWriter", "convert_to_number"]


class Table:
    """Rows go to disk as they come, each process to a part of its own; `close` makes one table of the parts.

    A row may have one more cell than the header: a note, such as that the case is not finite. The table of a run in which there
    was one has a last column ``note``.

    Args:
        path: the csv file; one of an earlier run is replaced when the table is complete.
        header: names of the columns.
        trainer: whose processes write.
        owner: the callback whose table it is.
        is_sorted: whether rows are sorted by the first column; else they, one a case, are in the order of the data, of which
            each of several processes has every n-th case.

    Raises:
        ConfigError: another callback's table goes to the file, or the file is there and is no such table.
    """

    def __init__(
        self, path: Path, header: Sequence[str], trainer: Trainer, owner: Callback, is_sorted: bool = True
    ) -> None:
        self.path, self.header, self.trainer, self.is_sorted = path, header, trainer, is_sorted
        problem = ""
        if Outputs.of(trainer).tables.setdefault(path.resolve(), owner) is not owner:
            problem = "is the table of another callback too"
        elif path.is_file() and path.stat().st_size:
            with open(path, newline="", encoding="utf-8", errors="replace") as file:
                first = next(csv.reader(file), [])
            if first[:1] != [header[0]]:
                problem = f"is there and is no table with the column {header[0]!r} first, but begins with {first[:3]}"
        if problem:
            id = f"trainer::callbacks ({type(owner).__name__})"
            raise ConfigError([Finding(id, f"{path} {problem}", "Give another path.")])
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._part(trainer.global_rank), "w", newline="", encoding="utf-8")  # noqa: SIM115
        self._writer = csv.writer(self._file)

    def _part(self, rank: int) -> Path:
        return self.path.with_name(f".{self.path.name}.part{rank}")

    def add(self, rows: Iterable[Sequence[Any]], loader: int = 0) -> None:
        """Writes rows, of cases of this loader."""
        self._writer.writerows(rows if self.is_sorted else ([loader, *row] for row in rows))
        self._file.flush()

    def close(self) -> None:
        """One table in place of the parts: sorted by the first column, numbers as numbers, unless it is not to be sorted."""
        self._file.close()
        self.trainer.strategy.barrier()
        if self.trainer.is_global_zero:
            parts = [self._part(rank) for rank in range(self.trainer.world_size)]
            read = [_read_rows(part) for part in parts]
            rows = sorted(chain(*read), key=lambda row: _order_name(row[0])) if self.is_sorted else order_by_data(read)
            columns = len(self.header)
            header = [*self.header, "note"] if any(len(row) > columns for row in rows) else self.header
            with written_beside(self.path) as merged, open(merged, "w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([header, *(row + [""] * (len(header) - len(row)) for row in rows)])
            for part in parts:
                part.unlink()
        self.trainer.strategy.barrier()


def order_by_data(parts: list[list[list[str]]]) -> list[list[str]]:
    """Rows, one a case, in the order of the data.

    Args:
        parts: the rows of each process, which has every n-th case of each loader; each begins with the number of its loader.
    """
    places = [
        ((int(loader), number, rank), row)
        for rank, part in enumerate(parts)
        for loader, own in groupby(part, itemgetter(0))
        for number, (_, *row) in enumerate(own)
    ]
    return [row for _, row in sorted(places, key=itemgetter(0))]


def _read_rows(part: Path) -> list[list[str]]:
    with open(part, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _order_name(text: str) -> tuple[int, float, str]:
    """Numbers by their value come first, then texts."""
    try:
        return (0, float(text), "")
    except ValueError:
        return (1, 0.0, text)


def convert_to_number(pred: Any) -> Any:
    """A number for one element, nested lists for more; of several heads, a list or a dict of these."""
    if isinstance(pred, Mapping):
        return {key: convert_to_number(head) for key, head in pred.items()}
    if isinstance(pred, (list, tuple)):
        return [convert_to_number(head) for head in pred]
    return pred if not isinstance(pred, Tensor) else pred.item() if pred.numel() == 1 else pred.tolist()


class TableWriter(BaseWriter):
    """Writes all predictions of a predict run to one csv file with the columns ``identifier`` and ``pred``.

    Where the input or the prediction of a case is not finite, a column ``note`` says so.
    Follows ``lighter.callbacks.TableWriter``. Rows go to disk as they come; several processes make one table, sorted by
    identifier.

    Args:
        path: csv file. A table of an earlier run is replaced when the run is through, any other file is not.
        writer: ``tensor`` (a number, or nested lists; of several heads a list or dict of these), or a function of a prediction
            that gives what stands in the table.

    Raises:
        ConfigError: when prediction begins, a path that another callback has, or at which another kind of file is.
    """

    writers = {"tensor": convert_to_number}

    def __init__(self, path: str | Path, writer: str | Callable = "tensor") -> None:
        super().__init__(path, writer)

    @property
    def directory(self) -> Path:
        return self.path.parent

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._table = Table(self.path, ("identifier", "pred"), trainer, self)

    def write(self, tensor: Any, identifier: Any) -> None:
        """Adds the row of one prediction.

        Args:
            tensor: of one case, of any shape; where the network has several heads, a tuple, list or dict of them.
            identifier: what stands in the first column.
        """
        note = [self.note] if self.note else []
        self._table.add([(identifier, self.writer(tensor), *note)])

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._table.close()
