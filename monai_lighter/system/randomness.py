"""Where random numbers stand, so that a run that goes on draws those of the run not stopped."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform

__all__ = [
    "collect_random_numbers",
    "drawn_from",
    "find_random_sources",
    "load_numpy_state",
    "restore_random_numbers",
    "save_numpy_state",
]

DATA = ("dataset", "datasets", "sampler", "batch_sampler", "transform", "transforms")
"""Attributes by which the parts of a data loader that draw random numbers hang together."""


def collect_random_numbers() -> dict[str, Any]:
    """The state of torch's generators, numpy's and Python's, of plain values and tensors."""
    return {
        "torch": torch.get_rng_state(),
        "numpy": save_numpy_state(np.random.get_state()),
        "python": random.getstate(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_numbers(numbers: dict[str, Any]) -> None:
    """Puts back what `collect_random_numbers` gave; that of CUDA on as many devices as it was of."""
    torch.set_rng_state(numbers["torch"])
    np.random.set_state(load_numpy_state(numbers["numpy"]))
    version, internal, gauss = numbers["python"]
    random.setstate((version, tuple(internal), gauss))
    if len(numbers["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(numbers["cuda"])


def save_numpy_state(state: Any) -> list:
    """The state of a ``numpy.random.RandomState`` as ``torch.load(weights_only=True)`` reads it."""
    name, keys, position, has_gauss, gauss = state
    return [name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)]


def load_numpy_state(state: list) -> tuple:
    """What `save_numpy_state` was given."""
    name, keys, position, has_gauss, gauss = state
    return name, keys.numpy().astype(np.uint32), position, has_gauss, gauss


def find_random_sources(part: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """Everything of a data loader with a random state ``R`` of its own (``monai.transforms.Randomizable``), in a fixed order."""
    seen = set() if seen is None else seen
    if id(part) in seen:
        return
    seen.add(id(part))
    if isinstance(part, (list, tuple)):
        for item in part:
            if isinstance(item, Transform) or any(name in DATA for name in getattr(item, "__dict__", ())):
                yield from find_random_sources(item, seen)
        return
    if isinstance(part, Randomizable):
        yield part
    own = getattr(part, "__dict__", {})  # a property of somebody's dataset may be anything but cheap
    if isinstance(part, Transform):
        inner = [value for value in own.values() if isinstance(value, (Transform, Randomizable, list, tuple))]
    else:
        inner = [own[name] for name in DATA if own.get(name) is not None]
    for value in inner:
        yield from find_random_sources(value, seen)


@contextmanager
def drawn_from(numbers: Sequence[int], sources: Sequence[Any] = ()) -> Iterator[None]:
    """Within it, what is drawn on the CPU depends on some numbers alone; afterwards random numbers stand where they stood.

    Args:
        numbers: whole numbers, none below 0, such as seed, epoch and index.
        sources: of random numbers of their own, as `find_random_sources` gives them; they are not put back.
    """
    seeds = np.random.SeedSequence(numbers).generate_state(3 + len(sources)).tolist()
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seeds[0])  # torch.manual_seed would seed the GPUs too
    np.random.seed(seeds[1])
    random.seed(seeds[2])
    for source, seed in zip(sources, seeds[3:], strict=True):
        source.R.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
