"""How a batch becomes the arguments of a model, a criterion and a metric.

Follows ``lighter.adapters`` of Lighter 0.0.4: the same names, arguments and defaults. What is added: with no accessor given,
`BatchAdapter` understands MONAI's dictionary batches (``image``, ``label``) as well as ``(input, target)`` pairs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from monai.utils import ensure_tuple
from monai.utils.enums import CommonKeys

from monai_lighter.system.batches import read_case_names

__all__ = ["BatchAdapter", "CriterionAdapter", "LoggingAdapter", "MetricsAdapter", "complete_adapters", "takes_meta"]

Accessor = int | str | Callable[[Any], Any] | None
Transforms = Callable | Sequence[Callable] | None


class BatchAdapter:
    """Takes input, target and identifier out of a batch.

    Args:
        input_accessor: index (list, tuple), key (dict) or function of the batch. With None, a dict gives ``image``, a list
            or tuple its first item, anything else itself.
        target_accessor: the same for the target. With None *and* no ``input_accessor``: ``label`` of a dict, the second
            item of a list or tuple. With None beside an ``input_accessor``: no target, as in Lighter.
        identifier_accessor: the same for what names an item in files and tables: an entry for each case, or, of a batch of
            one, a text or number. With None: the file names that the input's metadata (`MetaTensor`) hold, else None.

    Raises:
        ValueError: an accessor that does not fit the batch, at the first batch.
    """

    def __init__(
        self,
        input_accessor: Accessor = None,
        target_accessor: Accessor = None,
        identifier_accessor: Accessor = None,
    ) -> None:
        self.input_accessor = input_accessor
        self.target_accessor = target_accessor
        self.identifier_accessor = identifier_accessor

    def __call__(self, batch: Any) -> tuple[Any, Any, Any]:
        """Gives ``(input, target, identifier)``."""
        if self.input_accessor is None:
            input = _default(batch, CommonKeys.IMAGE, 0, batch)
        else:
            input = _access(batch, self.input_accessor)
        if self.target_accessor is not None:
            target = _access(batch, self.target_accessor)
        elif self.input_accessor is None:
            target = _default(batch, CommonKeys.LABEL, 1, None)
        else:
            target = None
        if self.identifier_accessor is not None:
            return input, target, _access(batch, self.identifier_accessor)
        return input, target, read_case_names(input, batch)

    @property
    def target_key(self) -> str:
        """Key of the target in the items that postprocessing sees."""
        return self.target_accessor if isinstance(self.target_accessor, str) else CommonKeys.LABEL


def _default(batch: Any, key: str, index: int, otherwise: Any) -> Any:
    if isinstance(batch, (list, tuple)):
        return batch[index] if len(batch) > index else otherwise
    return batch.get(key, otherwise) if isinstance(batch, Mapping) else otherwise


def _access(batch: Any, accessor: Accessor) -> Any:
    if callable(accessor):
        return accessor(batch)
    fits = (list, tuple) if isinstance(accessor, int) else Mapping
    if isinstance(batch, fits):
        try:
            return batch[accessor]  # type: ignore[index]
        except (KeyError, IndexError):
            held = f"keys {sorted(map(str, batch))}" if isinstance(batch, Mapping) else f"{len(batch)} items"
            raise ValueError(f"accessor {accessor!r} must be in the batch, got a batch with {held}.") from None
    raise ValueError(
        f"accessor must be an index for a list, a key for a dict or a function, "
        f"got {accessor!r} for a batch of type {type(batch).__name__}."
    )


class LoggingAdapter:
    """Transforms input, target and prediction for what the step returns to callbacks.

    Args:
        input_transforms: a function or a list of functions, applied in order to the batch's input.
        target_transforms: the same for the target.
        pred_transforms: the same for the prediction.

    Raises:
        TypeError: a transform that cannot be called.
    """

    def __init__(
        self,
        input_transforms: Transforms = None,
        target_transforms: Transforms = None,
        pred_transforms: Transforms = None,
    ) -> None:
        self.input_transforms = _callables("input_transforms", input_transforms)
        self.target_transforms = _callables("target_transforms", target_transforms)
        self.pred_transforms = _callables("pred_transforms", pred_transforms)

    def __call__(self, input: Any, target: Any, pred: Any) -> tuple[Any, Any, Any]:
        """Gives the transformed ``(input, target, pred)``."""
        for transform in self.input_transforms:
            input = transform(input)
        for transform in self.target_transforms:
            target = transform(target)
        for transform in self.pred_transforms:
            pred = transform(pred)
        return input, target, pred


def _callables(name: str, transforms: Transforms) -> tuple[Callable, ...]:
    result = () if transforms is None else ensure_tuple(transforms)
    for transform in result:
        if not callable(transform):
            raise TypeError(f"{name} must be functions, got {transform!r}.")
    return result


class CriterionAdapter(LoggingAdapter):
    """Calls a criterion with input, target and prediction at the positions or names it expects.

    Args:
        input_argument: position (from 0) or name of the argument that takes the input; None leaves it out.
        target_argument: the same for the target.
        pred_argument: the same for the prediction.
        input_transforms: a function or a list of functions applied to the input first.
        target_transforms: the same for the target.
        pred_transforms: the same for the prediction.

    Raises:
        ValueError: positions that are not 0, 1, …; transforms of something that no argument takes.
    """

    def __init__(
        self,
        input_argument: int | str | None = None,
        target_argument: int | str | None = None,
        pred_argument: int | str | None = None,
        input_transforms: Transforms = None,
        target_transforms: Transforms = None,
        pred_transforms: Transforms = None,
    ) -> None:
        super().__init__(input_transforms, target_transforms, pred_transforms)
        self.arguments = {"input": input_argument, "target": target_argument, "pred": pred_argument}
        positions = sorted(a for a in self.arguments.values() if isinstance(a, int))
        if positions != list(range(len(positions))):
            raise ValueError(f"positional arguments must be consecutive integers from 0, got {positions}.")
        for name, argument in self.arguments.items():
            if argument is None and getattr(self, f"{name}_transforms"):
                raise ValueError(f"{name}_transforms need {name}_argument, got None.")
        self._positions = sorted((a, i) for i, a in enumerate(self.arguments.values()) if isinstance(a, int))
        self._names = [(a, i) for i, a in enumerate(self.arguments.values()) if isinstance(a, str)]

    def __call__(self, fn: Callable, input: Any, target: Any, pred: Any) -> Any:  # type: ignore[override]
        """Gives what ``fn`` returns for the transformed and placed arguments."""
        values = super().__call__(input, target, pred)
        return fn(*[values[i] for _, i in self._positions], **{name: values[i] for name, i in self._names})


class MetricsAdapter(CriterionAdapter):
    """`CriterionAdapter` for metrics."""


def takes_meta(adapter: Callable) -> bool:
    """Whether an adapter has an argument ``meta``: the metadata of the cases of the batch, a dict for each, with ``affine``,
    ``filename_or_obj`` and the like as MONAI has them, and ``spacing`` (a tuple, in mm, or None)."""
    try:
        return "meta" in inspect.signature(adapter).parameters
    except (TypeError, ValueError):  # of something built in, which tells no arguments
        return False


DEFAULTS: dict[str, Callable[[], Callable]] = {
    "batch": BatchAdapter,
    "criterion": partial(CriterionAdapter, pred_argument=0, target_argument=1),
    "metrics": partial(MetricsAdapter, pred_argument=0, target_argument=1),
    "logging": LoggingAdapter,
}


def complete_adapters(id: str, given: Mapping[str, Callable] | None) -> dict[str, Callable]:
    """The four adapters of a mode: those given, the default for the others.

    Raises:
        ValueError: an adapter of another name; ``id`` says where.
    """
    for name in given or ():
        if name not in DEFAULTS:
            raise ValueError(f"{id}: must have the keys {', '.join(DEFAULTS)}, got {name!r}.")
    return {**{name: default() for name, default in DEFAULTS.items()}, **(given or {})}
