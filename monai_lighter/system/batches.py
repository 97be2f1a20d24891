"""What a batch, a case and a head are: the one place that counts the cases of a batch, names them and takes it apart.

A *case* is one data item, a *batch* several of them, a *head* one of several outputs of a network, each for the whole batch.
Tensors of a batch are ``(B, …)``; dictionaries and tuples hold heads (or modalities); a list holds heads where its tensors are
``(B, …)`` too, and else one entry for each case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from monai.data import MetaTensor, decollate_batch
from monai.utils import ImageMetaKey, ensure_tuple
from monai.utils.enums import CommonKeys
from torch import Tensor

__all__ = [
    "CaseNumber",
    "Cases",
    "copy_metadata",
    "count_cases",
    "find_image",
    "list_identifiers",
    "make_items",
    "read_case_names",
    "split_cases",
    "split_outputs",
    "take_added",
    "take_results",
]

FILE_NAME = ImageMetaKey.FILENAME_OR_OBJ


class Cases(list):
    """A list with one entry for each case of a batch that has been taken apart: what postprocessing gives."""


def _tensors(value: Any) -> Iterator[Tensor]:
    """Tensors inside dicts, lists and tuples, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)


def count_cases(input: Any) -> int:
    """Number of cases B in a batch.

    Args:
        input: of the model: ``(B, …)``; a dict or tuple of several inputs, of which the first tensor counts; a list with an
            entry for each case (images of several sizes), or of modalities that are collated `MetaTensor`.
    """
    if isinstance(input, list):
        collated = bool(input) and all(isinstance(part, MetaTensor) and part.is_batch for part in input)
        return len(input[0]) if collated else len(input)
    if isinstance(input, (Mapping, tuple)):
        parts = list(input.values()) if isinstance(input, Mapping) else list(input)
        return next((count_cases(part) for part in parts if any(True for _ in _tensors(part))), 1)
    return input.shape[0] if isinstance(input, Tensor) and input.ndim else 1


def find_image(input: Any, batch: Any = None) -> MetaTensor | None:
    """The `MetaTensor` that geometry and file name of a batch are taken from.

    Args:
        input: of the model, or several inputs in a dict, tuple or list: the first image with a file name, else the first image.
        batch: what the loader gave, which is searched where the input is of plain tensors, for an image of its size.

    Returns:
        None where there is no image, and where each case is a tensor of its own.
    """
    if isinstance(input, MetaTensor):
        return input
    if isinstance(input, list) and not all(isinstance(part, MetaTensor) and part.is_batch for part in input):
        return None
    tensors = list(_tensors(input))
    images = [tensor for tensor in tensors if isinstance(tensor, MetaTensor)]
    if not images and tensors and batch is not None:
        held = [tensor for tensor in _tensors(batch) if isinstance(tensor, MetaTensor)]
        size = (tensors[0].shape[0], *tensors[0].shape[2:]) if held and tensors[0].ndim > 2 else None
        images = [tensor for tensor in held if (*tensor.shape[:1], *tensor.shape[2:]) == size]
    return next((image for image in images if FILE_NAME in image.meta), images[0] if images else None)


def read_case_names(input: Any, batch: Any = None) -> list[str] | None:
    """File names of the cases of a batch, one for each, or None where they are not known.

    Args:
        input: of the model: a `MetaTensor`, several in a dict, tuple or list, or a list of cases, each a `MetaTensor`.
        batch: what the loader gave, for an input that has lost its file names.
    """
    if isinstance(input, list) and input and all(isinstance(case, MetaTensor) and not case.is_batch for case in input):
        names = [case.meta.get(FILE_NAME) for case in input]
        return None if None in names else [str(name) for name in names]
    image = find_image(input, batch)
    if image is None or FILE_NAME not in image.meta:
        return None
    return [str(name) for name in ensure_tuple(image.meta[FILE_NAME])]


class CaseNumber(int):
    """Stands for a case that has no name, in one run alone: that of another fold with this number is another case."""


def list_identifiers(identifier: Any, input: Any) -> list[Any] | None:
    """What a batch adapter gave to name the cases of a batch, one for each case.

    Args:
        identifier: a list, tuple, array or tensor with an entry for each case; one text or number for a batch of one; None.
        input: of the model, whose cases they are (`count_cases`).

    Raises:
        ValueError: one text or number for several cases.
    """
    if hasattr(identifier, "tolist"):
        identifier = identifier.tolist()
    if identifier is None or isinstance(identifier, (list, tuple)):
        return identifier if identifier is None else list(identifier)
    count = count_cases(input)
    if count != 1:
        raise ValueError(
            f"identifier_accessor must give a list with an entry for each of the {count} cases of the batch, got "
            f"{identifier!r:.80}."
        )
    return [identifier]


def copy_metadata(pred: Any, input: Any, batch: Any = None) -> Any:
    """The prediction as `MetaTensor` with the metadata and applied operations of the input, as under MONAI's engines.

    Args:
        pred: ``(B, …)``, or lists, tuples and dicts of such; what is no tensor with one row per case stays as it is.
        input: of the model: a `MetaTensor`, several in a dict, tuple or list, or a list of cases for a list of predictions.
        batch: what the loader gave.
    """
    if isinstance(input, list) and isinstance(pred, list) and len(input) == len(pred):
        images = [case if isinstance(case, MetaTensor) and not case.is_batch else None for case in input]
        if all(image is not None for image in images):
            return [_described(part, image, ()) for part, image in zip(pred, images, strict=True)]
    source = find_image(input, batch)
    if source is None:
        return pred
    return _described(pred, source, source.shape[:1])


def _described(value: Any, source: Any, rows: tuple[int, ...]) -> Any:
    """Tensors whose shape begins with ``rows``, also inside lists, tuples and dicts, with the metadata of ``source``."""

    def describe(tensor: Tensor) -> Tensor:
        if tensor.shape[: len(rows)] != rows:
            return tensor
        result = MetaTensor(tensor)
        result.copy_meta_from(source, copy_attr=False)
        return result

    return describe(value) if isinstance(value, Tensor) else apply_to_collection(value, Tensor, describe)


def split_cases(value: Any, input: Any) -> Cases:
    """What belongs to a batch, as one entry for each case.

    ``(A, B)`` of two heads gives ``(A[0], B[0]), (A[1], B[1]), …``; a dict of heads gives a dict for each case.

    Args:
        value: ``(B, …)``; a dict, tuple or list of heads, each such a value; a list with an entry for each case; anything else
            (a number, a tensor of another length) is every case's.
        input: of the model, whose cases they are (`count_cases`). With one of ``(B, C, H, W[, D])``, a list of B tensors
            ``(C, H, W[, D])`` has an entry for each case, also where C is B.
    """
    return _split(value, count_cases(input), _image_dims(input))


def split_outputs(outputs: Any, batch: Any) -> Cases:
    """Predictions of a step as a callback gets them, as one entry for each case.

    Args:
        outputs: of `System`, a dict with ``pred`` and ``input``; of another LightningModule the predictions alone, a tensor or
            list with an entry for each case, or a dict or tuple of heads.
        batch: what the loader gave, which tells the number of cases where the outputs have no input.
    """
    of_system = isinstance(outputs, Mapping) and CommonKeys.PRED in outputs
    if not of_system and isinstance(outputs, (Tensor, list)):
        return Cases(outputs)
    pred, input = (outputs[CommonKeys.PRED], outputs.get("input")) if of_system else (outputs, None)
    return split_cases(pred, input if any(True for _ in _tensors(input)) else batch)


def _image_dims(input: Any) -> int:
    """Dimensions of an image ``(C, H, W[, D])`` of the batch; -1 where there is none."""
    of_cases = isinstance(input, list) and count_cases(input) == len(input)
    return next((tensor.ndim - (not of_cases) for tensor in _tensors(input) if tensor.ndim > 3 - of_cases), -1)


def _split(value: Any, count: int, dims: int) -> Cases:
    if isinstance(value, Cases):
        return value
    if isinstance(value, Tensor):
        return _rows(value, count)
    if isinstance(value, Mapping):
        parts = {key: _split(part, count, dims) for key, part in value.items()}
        return Cases({key: part[i] for key, part in parts.items()} for i in range(count))
    if isinstance(value, (list, tuple)):
        if _holds_cases(value, count, dims):
            return Cases(value)
        heads = [_split(part, count, dims) for part in value]
        rows = ([head[i] for head in heads] for i in range(count))
        kind = type(value)
        return Cases(kind(*row) if hasattr(value, "_fields") else kind(row) for row in rows)
    return Cases(value if getattr(value, "shape", ())[:1] == (count,) else [value] * count)


def _rows(tensor: Tensor, count: int) -> Cases:
    tensor = tensor.detach()
    if tensor.shape[:1] != (count,):
        return Cases([tensor] * count)
    if isinstance(tensor, MetaTensor) and tensor.is_batch and tensor.ndim > 1:
        return Cases(decollate_batch(tensor))
    return Cases(torch.unbind(tensor))


def _holds_cases(value: list | tuple, count: int, dims: int) -> bool:
    """Whether a list has an entry for each case, and not for each head.

    Args:
        dims: of an image ``(C, H, W[, D])`` of the batch.
    """
    if len(value) != count or hasattr(value, "_fields"):
        return False
    if isinstance(value, list) and all(isinstance(part, Mapping) for part in value):
        return True  # as detection networks have it
    tensors = list(_tensors(value))
    if isinstance(value, list) and tensors and all(tensor.ndim == dims for tensor in tensors):
        return True
    return not tensors or any(tensor.shape[:1] != (count,) for tensor in tensors)


def make_items(batch: Any, adapter: Any, input: Any, target: Any, identifier: Any, pred: Any) -> list[dict]:
    """A batch and its prediction as a list of items, each with the keys of the batch, ``image``, ``label`` and ``pred``.

    ``image``, ``label`` and ``identifier`` are what the batch adapter gave for the case, whatever the batch has there; where a
    `BatchAdapter` takes them by a key of the batch, they keep that key. A batch's own ``image`` stays where the model has
    several inputs.

    Args:
        batch: what the loader gave.
        adapter: the batch adapter, which gave input, target and identifier.
        input, target: of the batch, ``(B, C, H, W[, D])``, with their metadata; or dicts, tuples and lists of such.
        identifier: names of the cases, or None.
        pred: ``(B, C, H, W[, D])``, or a list or tuple of heads; of a dict of heads, each is a key of its own.
    """
    count = count_cases(input) if any(True for _ in _tensors(input)) else count_cases(batch)
    dims = _image_dims(input)
    whole: Mapping[str, Any] = batch if isinstance(batch, Mapping) else {}
    items = decollate_batch(dict(whole)) if whole else []
    if not isinstance(items, list) or len(items) != count:
        items = list(_split(whole, count, dims))
    added: dict[str, Any] = {}
    image, label = (getattr(adapter, f"{name}_key", key) for name, key in (("input", "image"), ("target", "label")))
    if whole.get(image) is not input and (image not in whole or isinstance(input, Tensor)):
        added[image] = input
    if target is not None and whole.get(label) is not target:
        added[label] = target
    if identifier is not None and "identifier" not in whole:
        added["identifier"] = identifier
    added.update(pred if isinstance(pred, Mapping) else {CommonKeys.PRED: pred})
    parts = {key: _split(value, count, dims) for key, value in added.items()}
    return [{**item, **{key: _number(part[i]) for key, part in parts.items()}} for i, item in enumerate(items)]


def take_results(items: list[Any], adapter: Any, target: Any) -> tuple[Cases, Any]:
    """Prediction and target of items that have been postprocessed.

    Args:
        items: as `make_items` gives them, after the transforms.
        adapter: the batch adapter.
        target: of the batch, as the adapter gave it.

    Returns:
        ``pred`` of each item, or the whole item where the network gave a dict of heads; the target of each item, which is None
        where the adapter gave none.
    """
    key = getattr(adapter, "target_key", CommonKeys.LABEL)
    if target is not None and items and key in items[0]:
        target = Cases(item[key] for item in items)
    return Cases(item.get(CommonKeys.PRED, item) for item in items), target


def take_added(items: list[Any], known: set[Any]) -> dict[Any, Cases]:
    """What postprocessing has added to the items of a batch: key to its value of each case.

    Args:
        items: after the transforms.
        known: keys that they had before.
    """
    added = [key for key in (items[0] if items else ()) if key not in known and all(key in item for item in items)]
    return {key: Cases(item[key] for item in items) for key in added}


def _number(value: Any) -> Any:
    """A number for a tensor of no dimension, as ``decollate_batch`` has it."""
    return value.item() if isinstance(value, Tensor) and not value.ndim else value
