"""Sums of windows that overlap, each part of which becomes labels with the last window over it: `WindowSums`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["WindowSums"]

PIECES = 4
"""Parts of a window along an axis, about, at most: each costs a few calls of torch."""
LABEL_TYPES = (torch.uint8, torch.int16, torch.int32)


class _Piece(NamedTuple):
    """Where a window and a cell meet along an axis: the number of the cell, and the place in it and in the window."""

    cell: int
    in_cell: slice
    in_window: slice


class _Axis:
    """The cells of an axis, which are cut where windows begin and end.

    Args:
        starts: of the windows.
        roi: length of a window.
        size: of the image.
    """

    def __init__(self, starts: set[int], roi: int, size: int) -> None:
        cuts = [0]
        for cut in sorted({*starts, *(start + roi for start in starts)} - {0, size}):
            if cut - cuts[-1] >= roi / PIECES:
                cuts.append(cut)
        self.cells = [slice(*pair) for pair in itertools.pairwise([*cuts, size])]
        self.pieces = {start: list(self._meet(start, start + roi)) for start in starts}
        self.touches = [0] * len(self.cells)
        for piece in itertools.chain(*self.pieces.values()):
            self.touches[piece.cell] += 1

    def _meet(self, start: int, stop: int) -> Iterator[_Piece]:
        for i, cell in enumerate(self.cells):
            first, last = max(start, cell.start), min(stop, cell.stop)
            if first < last:
                yield _Piece(i, slice(first - cell.start, last - cell.start), slice(first - start, last - start))


class _Cell:
    """The sums of a part of the volume between the first and the last window over it.

    Args:
        place: in the image, a slice for each axis.
        windows: how many are over it.
        dtype: of the sums.
    """

    def __init__(self, place: tuple[slice, ...], windows: int, dtype: torch.dtype) -> None:
        self.place, self.windows, self.left, self.dtype = place, windows, windows, dtype
        self.shape = tuple(side.stop - side.start for side in place)
        self.value: Tensor | None = None
        self.weight: Tensor | None = None

    def add(self, inside: tuple[slice, ...], part: Tensor, weight: Tensor) -> None:
        """Adds a weighted part ``(K, …)`` of a window, and its weights ``(…)``, to the place ``inside`` the cell."""
        self.left -= 1
        if self.value is None and weight.shape == self.shape:
            self.value = part.to(self.dtype, copy=True, memory_format=torch.contiguous_format)
            self.weight = weight.clone()
            return
        if self.value is None or self.weight is None:
            self.value = torch.zeros((len(part), *self.shape), dtype=self.dtype, device=part.device)
            self.weight = torch.zeros(self.shape, dtype=self.dtype, device=part.device)
        place = (slice(None), *inside)
        self.value[place] += part
        self.weight[inside] += weight


class WindowSums:
    """What windows come to, summed in the order in which they are added and divided by the sum of their weights.

    The volume is cut into cells where windows begin and end. A cell is held from the first window over it to the last: with
    windows in order, the first axis outermost, that is the overlap with the windows to come, and no more.

    Args:
        shape: of the image, ``(B, C, H, W[, D])``.
        windows: places of all windows of an image.
        weights: ``(H, W[, D])`` of a window; None for 1.
        device: of the sums and of the labels.
        dtypes: of the sums, and the one that the means are rounded to.
        decide: makes labels ``(1 or K, …)`` of the final values ``(K, …)`` of a cell, which it may overwrite.
        turns: how often each window is added, by one network after the other, of which the mean is taken.

    Attributes:
        labels: ``(B, 1 or K, H, W[, D])``, whole when each window of each image has been added.
    """

    def __init__(
        self,
        shape: Sequence[int],
        windows: Sequence[tuple[slice, ...]],
        weights: Tensor | None,
        device: torch.device | str,
        dtypes: tuple[torch.dtype, torch.dtype],
        decide: Callable[[Tensor], Tensor],
        turns: int = 1,
    ) -> None:
        self.turns = turns
        self.shape, self.device, self.decide = shape, device, decide
        self.dtype, self.final_dtype = dtypes
        roi = [side.stop - side.start for side in windows[0]]
        self.weighted = weights is not None
        self.weights = torch.ones(roi, dtype=self.dtype, device=device) if weights is None else weights.to(device)
        self.axes = [_Axis({window[i].start for window in windows}, roi[i], size) for i, size in enumerate(shape[2:])]
        self.labels: Tensor | None = None
        self.cells: dict[tuple[int, ...], _Cell] = {}

    def add(self, image: int, window: tuple[slice, ...], score: Tensor) -> None:
        """Adds a window.

        Args:
            image: its number in the batch.
            window: its place in it.
            score: ``(K, H, W[, D])``, weighted, which stays as it is.
        """
        on_axes = [axis.pieces[side.start] for axis, side in zip(self.axes, window, strict=True)]
        for pieces in itertools.product(*on_axes):
            in_window = tuple(piece.in_window for piece in pieces)
            place = (slice(None), *in_window)
            key = (image, *(piece.cell for piece in pieces))
            cell = self.cells.get(key) or self._open(key)
            cell.add(tuple(piece.in_cell for piece in pieces), score[place].to(self.device), self.weights[in_window])
            if not cell.left:
                self._close(key)

    def _open(self, key: tuple[int, ...]) -> _Cell:
        on_axes = list(zip(self.axes, key[1:], strict=True))
        place = tuple(axis.cells[i] for axis, i in on_axes)
        self.cells[key] = _Cell(place, self.turns * math.prod(axis.touches[i] for axis, i in on_axes), self.dtype)
        return self.cells[key]

    def _close(self, key: tuple[int, ...]) -> None:
        cell = self.cells.pop(key)
        assert cell.value is not None
        assert cell.weight is not None
        if self.weighted or cell.windows > 1:
            cell.value /= cell.weight
        labels = self.decide(cell.value.to(self.final_dtype))
        if self.labels is None:
            count = 2 if labels.dtype is torch.bool else len(cell.value)
            dtype = next(kind for kind in LABEL_TYPES if count <= torch.iinfo(kind).max + 1)
            self.labels = torch.zeros((self.shape[0], len(labels), *self.shape[2:]), dtype=dtype, device=self.device)
        place = (slice(None), *cell.place)
        self.labels[key[0]][place] = labels
