"""The last line of a terminal, which is drawn anew while what is logged stands above it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator

from tqdm import tqdm

__all__ = ["TerminalLine"]


class _Bar(tqdm):
    """``tqdm`` without its thread, which draws bars that are not drawn: this one is drawn when there is something new."""

    monitor_interval = 0


class TerminalLine:
    """The last line of a terminal (standard error). What is logged meanwhile stands above it."""

    SHORTEST = 4
    """Columns that are kept for the bar itself."""

    def __init__(self) -> None:
        self._bar: _Bar | None = None
        self._handlers: list[logging.Handler] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """As a filter of handlers that write to the terminal: makes room for each record."""
        self.clear()
        return True

    def draw(self, name: str, fraction: float | None, texts: list[tuple[int, str]]) -> None:
        """Draws the bar anew.

        Args:
            name: what is being done.
            fraction: how much of it is done, from 0 to 1; None for no bar.
            texts: what is said beside it, the most important first, with their places from left to right. What does not fit
                into the terminal is left out.
        """
        if self._bar is None:
            # a terminal that tells no height (of a container, of `script`) has 0 rows, in which tqdm would draw nothing
            self._bar = _Bar(total=1, file=sys.stderr, leave=True, bar_format="{desc}", nrows=2)
            self._handlers = [handler for handler in _list_handlers() if self not in handler.filters]
            for handler in self._handlers:
                handler.addFilter(self)
        columns = _count_columns() - 1  # a character in the last column would begin a new line on some terminals
        room = columns - len(name) - 2
        said, meter = _join_fitting(texts, room - len(" 100%||") - self.SHORTEST), "{desc} {percentage:3.0f}%|{bar}| "
        if fraction is None or not said:
            said, meter = _join_fitting(texts, room), "{desc}  "
        self._bar.bar_format = meter + said.replace("{", "{{").replace("}", "}}")
        self._bar.ncols = columns
        self._bar.n = fraction or 0.0
        self._bar.set_description_str(name)

    def clear(self) -> None:
        """Leaves the line empty, until it is drawn again."""
        if self._bar is not None:
            self._bar.clear()

    def close(self) -> None:
        """Leaves the bar where it is, and the terminal to others."""
        for handler in self._handlers:
            handler.removeFilter(self)
        if self._bar is not None:
            self._bar.close()
        self._bar, self._handlers = None, []


def _join_fitting(texts: list[tuple[int, str]], room: int) -> str:
    """Texts by their places, as far as there is room for them; the first of them or none."""
    chosen: dict[int, str] = {}
    for place, text in texts:
        needed = len(text) + (2 if chosen else 0)
        if place not in chosen and needed <= room:
            chosen[place], room = text, room - needed
    return ", ".join(chosen[place] for place in sorted(chosen)) if texts and texts[0][0] in chosen else ""


def _list_handlers() -> Iterator[logging.Handler]:
    """Handlers, of any logger, that write to a terminal."""
    for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
        for handler in getattr(logger, "handlers", ()):
            stream = getattr(handler, "stream", None)
            if isinstance(handler, logging.StreamHandler) and getattr(stream, "isatty", bool)():
                yield handler


def _count_columns() -> int:
    """Width of the terminal; 80 where it does not tell."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
