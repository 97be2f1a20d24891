"""What an engine holds and gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from ignite.engine import Engine
from torch import Tensor

__all__ = ["held", "numbers"]


def held(engine: Engine, kind: type) -> Iterator[Any]:
    """Things of a kind among the attributes of an engine and of its state, and in their lists and dicts, each once."""
    seen: set[int] = set()
    for value in chain(vars(engine).values(), vars(engine.state).values()):
        values = (
            value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else (value,)
        )
        for item in values:
            if isinstance(item, kind) and id(item) not in seen:
                seen.add(id(item))
                yield item


def numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The entries that are a single number."""
    for name, value in values.items():
        if isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.numel() == 1):
            yield str(name), float(value)
