"""What a case looks like at one point of its way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils.enums import MetaKeys
from torch import Tensor

from monai_lighter.errors import BundleError, in_short
from monai_lighter.errors.cases import describe
from monai_lighter.internals import get_version

__all__ = ["Row", "Rows", "TraceError", "explain_failure", "run_step", "wait_for_gpu"]


class TraceError(BundleError, RuntimeError):
    """What a case met on its way: names the part of the config and the case. Ends the command line with exit code 2."""

    exit_code = 2


class Row(NamedTuple):
    """An image, or a value, after one step.

    Attributes:
        part: the mode of a native config, or the config id of an engine.
        step: the transform, network, loss or metric that gave it.
        key: of the item; empty where it has none.
        shape: with channels, such as ``(1, 96, 96)``; ``2 x (1, 96, 96)`` where there are several of one shape.
        dtype: of its values.
        spacing: in mm, of the spatial axes; empty where it is not known.
        orientation: axis codes such as ``RAS``; empty where it is not known.
        range: smallest and largest value.
        seconds: that the step took; None in further rows of one step.
    """

    part: str
    step: str
    key: str = ""
    shape: str = ""
    dtype: str = ""
    spacing: str = ""
    orientation: str = ""
    range: str = ""
    seconds: float | None = None


class Rows(list[Row]):
    """The rows of a trace, in order.

    Attributes:
        part: of the rows to come.
    """

    part = ""

    def run(self, step: str, function: Callable, *arguments: Any, before: Any = None, about: Any = None) -> Any:
        """Run a step and add a row for every image that it gave or changed, or one with its time alone.

        Args:
            step: name for the rows.
            function: the step.
            arguments: for it.
            before: what it was given, so that images which pass unchanged get no row.
            about: the case, for the error.

        Raises:
            TraceError: what the step raised.
        """
        known = {_mark_version(image) for _, image, _ in _find_images(before)}
        start = time.perf_counter()
        value = run_step(step, about, function, *arguments)
        self.add(step, value, time.perf_counter() - start, known)
        return value

    def add(self, step: str, value: Any, seconds: float | None = None, known: Collection[tuple] = ()) -> None:
        """Add a row for every image of a step that is not known; where there is none, one with the time alone.

        Args:
            step: name for the rows.
            value: what the step gave: an image, an item, a list of items, or a batch.
            seconds: that the step took.
            known: of images that get no row, as `_mark_version` gives them.
        """
        images = [entry for entry in _find_images(value) if _mark_version(entry[1]) not in known]
        rows = [_describe_image(self.part, step, *entry) for entry in images] or [Row(self.part, step)]
        self.extend([rows[0]._replace(seconds=seconds), *rows[1:]])


def run_step(step: str, about: Any, function: Callable, *arguments: Any) -> Any:
    """Run a step, and wait for what it gives.

    Args:
        step: name for the error.
        about: the case, for the error: a data item, or a list of which the first counts; None where it is not known.
        function: the step.
        arguments: for it.

    Raises:
        TraceError: what it raised, with the step and the case.
    """
    try:
        value = function(*arguments)
        wait_for_gpu()
        return value
    except Exception as error:
        raise explain_failure(step, error, about) from error


def explain_failure(step: str, error: BaseException, about: Any = None) -> TraceError:
    """Explain an error by the innermost step that failed, and the case.

    Args:
        step: that raised the error, unless a step within it has been named already.
        error: what was raised.
        about: the case: a data item, or a list of which the first counts; None where it is not known.
    """
    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, TraceError):
        cause = cause.__cause__
    if isinstance(cause, TraceError):
        return cause
    case = describe(about[0] if isinstance(about, list) and about else about)
    return TraceError(f"{step} failed{f' on case {case}' if case else ''}: {in_short(cause)}")


def wait_for_gpu() -> None:
    """Wait until the GPU has done what it was given, so that times are true."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _find_images(value: Any, key: str = "") -> Iterator[tuple[str, Any, int]]:
    """Key, array and number of alike ones of all arrays in an item, a list of items, or a batch."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _find_images(item, str(name))
    elif isinstance(value, (list, tuple)) and value and not isinstance(value[0], (str, int, float)):
        shapes = [getattr(item, "shape", None) for item in value]
        alike = isinstance(value, list) and (isinstance(value[0], Mapping) or len(set(shapes)) == 1)
        for item in value[:1] if alike else value:
            yield from ((name, image, len(value) if alike else 1) for name, image, _ in _find_images(item, key))
    elif isinstance(value, (Tensor, np.ndarray)) and np.prod(value.shape):
        yield key, value, 1


def _mark_version(image: Any) -> tuple[int, int]:
    """Differs once an image is another, or has been changed in place."""
    try:
        return id(image), get_version(image)
    except (AttributeError, RuntimeError):  # numpy; a tensor of inference mode
        return id(image), 0


def _describe_image(part: str, step: str, key: str, image: Any, count: int) -> Row:
    shape = f"{f'{count} x ' if count > 1 else ''}{tuple(image.shape)}"
    dtype = str(image.dtype).removeprefix("torch.")
    return Row(part, step, key, shape, dtype, *_describe_geometry(image), _describe_range(image))


def _describe_geometry(image: Any) -> tuple[str, str]:
    """Spacing and orientation of a `MetaTensor`."""
    if not isinstance(image, MetaTensor) or image.ndim < 2:
        return "", ""
    loaded = image.meta.get(MetaKeys.SPATIAL_SHAPE)
    as_loaded = loaded is not None and not image.is_batch and tuple(image.shape) == tuple(map(int, loaded))
    affine = image.affine
    axes = min(affine.shape[-1] - 1, image.ndim - (2 if image.is_batch else 0 if as_loaded else 1))
    single = (affine[0] if affine.ndim == 3 else affine).detach().cpu().numpy()
    spacing = np.sqrt((single[:-1, :-1] ** 2).sum(0))[:axes]
    codes = [code or "?" for code in nib.aff2axcodes(single)][:axes] if single.shape == (4, 4) else []
    return " x ".join(f"{value:.4g}" for value in spacing), "".join(codes)


def _describe_range(image: Any) -> str:
    values = image.detach().cpu().numpy() if isinstance(image, Tensor) and image.dtype != torch.bfloat16 else image
    values = values.detach().cpu().float().numpy() if isinstance(values, Tensor) else values
    if values.dtype.kind not in "biuf":
        return ""
    low, high = float(values.min()), float(values.max())
    if math.isnan(low) or math.isnan(high):
        return "not a number"
    return f"{low:.4g}" if values.size == 1 else f"{low:.4g} to {high:.4g}"
