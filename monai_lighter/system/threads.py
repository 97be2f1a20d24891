"""What the threads of a run may share and what not: copies of transforms, torch's state, and parts that are not for threads."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from monai.transforms import (
    Compose,
    Invertd,
    SaveClassificationd,
    TraceableTransform,
    WriteFileMapping,
    WriteFileMappingd,
)
from monai.transforms.traits import RandomizableTrait

from monai_lighter.internals import match_as

__all__ = ["ThreadState", "copy_transform", "find_joint", "find_random", "find_unknown"]

KNOWN = ("builtins", "functools", "monai", "monai_lighter", "numpy", "torch", "torchmetrics")
"""Packages whose functions and transforms share nothing between their copies, and draw no random numbers unless they say so."""

JOINT = (SaveClassificationd, WriteFileMapping, WriteFileMappingd)
"""Transforms with one file for all cases, of which copies would lose rows or change their order."""


class ThreadState:
    """What torch keeps for each thread by itself, as it is in the thread that makes this; to be entered in another.

    Args:
        autocast: whether a step's mixed precision is part of it, which callbacks are not in.
    """

    def __init__(self, autocast: bool = True) -> None:
        self._inference, self._grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        self._device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
        kinds = ("cpu", "cuda", "mps", "xpu") if autocast else ()
        self._autocast = {kind: torch.get_autocast_dtype(kind) for kind in kinds if torch.is_autocast_enabled(kind)}

    @contextmanager
    def entered(self) -> Iterator[None]:
        with ExitStack() as stack:
            if self._device is not None:
                torch.cuda.set_device(self._device)
            stack.enter_context(torch.inference_mode(self._inference))
            stack.enter_context(torch.set_grad_enabled(self._grad))
            for kind, dtype in self._autocast.items():
                stack.enter_context(torch.autocast(kind, dtype))
            yield


def copy_transform(transform: Any) -> Any:
    """A copy of a transform for a thread, which shares nothing with it and inverts what the transforms that it copies have done.

    Transforms change while they are at work: an ``Invertd`` lets the keys of all that it inverts be missing meanwhile.

    Raises:
        Exception: something in it that cannot be copied.
    """
    memo: dict[int, Any] = {}
    copied = copy.deepcopy(transform, memo)
    for part in _walk_callables(transform):
        if isinstance(part, TraceableTransform) and id(part) in memo:
            match_as(memo[id(part)], part)
    return copied


def find_random(part: Any) -> str | None:
    """The class of the first random transform in a part, without what an ``Invertd`` inverts; None where there is none."""
    random = (each for each in _walk_callables(part, False) if isinstance(each, RandomizableTrait))
    return next((type(each).__name__ for each in random if type(each) is not Compose), None)


def find_joint(transform: Any) -> str | None:
    """The class of the first transform that writes one file for all cases, in their order; None where there is none."""
    joint = (each for each in _walk_callables(transform, False) if isinstance(each, JOINT))
    return next((type(each).__name__ for each in joint), None)


def find_unknown(part: Any) -> str | None:
    """The name of the first function or class in a part that is none of `KNOWN`, without what an ``Invertd`` inverts."""
    for each in _walk_callables(part, False):
        module = getattr(each, "__module__", None) or type(each).__module__
        if module.partition(".")[0] not in KNOWN:
            return getattr(each, "__qualname__", type(each).__qualname__)
    return None


def _walk_callables(part: Any, inverted: bool = True, seen: set[int] | None = None) -> Iterator[Any]:
    """Functions and callable objects of a part, and those that they hold.

    Args:
        part: a transform, a metric, an adapter, or lists and dicts of such.
        inverted: whether the transform that an ``Invertd`` inverts is among them.
        seen: those that have been given.
    """
    seen = set() if seen is None else seen
    if id(part) in seen:
        return
    seen.add(id(part))
    held: Any = ()
    if isinstance(part, Mapping):
        held = part.values()
    elif isinstance(part, (list, tuple, set)):
        held = part
    elif callable(part):
        yield part
        if isinstance(part, partial):
            held = [part.func, *part.args, *part.keywords.values()]
        elif not isinstance(part, type):
            own = getattr(part, "__dict__", {})
            held = [
                each for name, each in own.items() if inverted or name != "transform" or not isinstance(part, Invertd)
            ]
    for each in held:
        yield from _walk_callables(each, inverted, seen)
