"""Which case (data item) an error is about."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from lightning.fabric.utilities.seed import pl_worker_init_function
from monai.data import Dataset as MonaiDataset
from monai.data import MetaTensor, SmartCacheDataset
from monai.data.utils import worker_init_fn
from monai.transforms import apply_transform
from monai.utils import ImageMetaKey
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, get_worker_info

from monai_lighter.errors.errors import CaseError, in_short
from monai_lighter.errors.machine import OF_LOADER, AtWork, advise_on_memory, find_killed, is_out_of_memory
from monai_lighter.errors.marks import find_owner, passed_through, walk_causes, walk_frames

__all__ = [
    "describe",
    "describe_batch",
    "find_case",
    "find_transform",
    "join_names",
    "list_entries",
    "make_case_error",
    "make_killed_error",
    "name_cases",
]

MOST_CASES = 8
"""Cases of a batch that are named; of more, these and their number."""


def find_case(error: BaseException) -> str | None:
    """The data item that a transform was working on when it raised: the file it came from, or its values as given.

    It is the argument ``data`` of ``monai.transforms.apply_transform``, innermost last. The index that a dataset was asked for
    would not do: ``SmartCacheDataset`` and ``PatchDataset`` have other items there than their ``data``, and a
    ``CacheDataset`` that is filled is asked for none. For another dataset, ``item N`` by its index; None where the error came
    from no dataset.
    """
    item = index = None
    for frame in walk_frames(error):
        code = frame.f_code
        if code is apply_transform.__code__:
            item = describe(frame.f_locals.get("data")) or item
        elif code.co_name == "__getitem__" and code.co_argcount > 1 and isinstance(find_owner(frame), Dataset):
            index = frame.f_locals.get(code.co_varnames[1])
    return item or (None if index is None else f"item {index}")


def find_transform(error: BaseException) -> str:
    """Class of the innermost transform that was at work when an error was raised; empty where none was."""
    given = [
        frame.f_locals.get("transform") for frame in walk_frames(error) if frame.f_code is apply_transform.__code__
    ]
    return type(given[-1]).__name__ if given else ""


def describe(item: Any) -> str | None:
    """A data item in a few words: ``image=/data/case_7.nii.gz, label=1``; of several modalities the list of their files.

    Returns:
        None for what has no name: an array, a tensor that came from no file.
    """
    if isinstance(item, Mapping):
        texts = {key: "None" if value is None else _describe_value(value) for key, value in item.items()}
        return ", ".join(f"{key}={text}" for key, text in texts.items() if text) or None
    return _describe_value(item)


def _describe_value(value: Any) -> str | None:
    if isinstance(value, MetaTensor):
        name = value.meta.get(ImageMetaKey.FILENAME_OR_OBJ)
        return None if name is None else str(name)
    if isinstance(value, (list, tuple)):
        texts = [_describe_value(each) for each in value[:MOST_CASES]]
        return f"[{', '.join(text for text in texts if text)}]" if value and all(texts) else None
    if isinstance(value, (str, int, float, np.number, os.PathLike)):
        return str(value)[:300]
    return None


def describe_batch(batch: Any) -> list[str]:
    """The cases of a collated batch, each as `describe` has it: files of its `MetaTensor`, texts, and numbers ``(B,)``.

    Args:
        batch: a dict, or a tensor, list or tuple of such, as loaders give them.

    Returns:
        As many as the batch has items; none where nothing in it has a name.
    """
    entries = (
        batch if isinstance(batch, Mapping) else dict(enumerate(batch if isinstance(batch, (list, tuple)) else [batch]))
    )
    names = {str(key): _row_names(value) for key, value in entries.items()}
    named = {key: rows for key, rows in names.items() if rows}
    files = [key for key, rows in named.items() if not all(_is_number(row) for row in rows)]
    count = max((len(named[key]) for key in files), default=0)
    with_keys = isinstance(batch, Mapping)
    rows = [{key: each[i] for key, each in named.items() if len(each) == count} for i in range(count)]
    return [", ".join(f"{key}={text}" if with_keys else text for key, text in row.items()) for row in rows]


def _row_names(value: Any) -> list[str]:
    """What names the rows of one entry of a batch."""
    if isinstance(value, MetaTensor):
        names = value.meta.get(ImageMetaKey.FILENAME_OR_OBJ)
        return [] if names is None else [names] if isinstance(names, str) else [str(name) for name in names]
    if isinstance(value, Tensor):
        return [str(number) for number in value.tolist()] if value.ndim == 1 and len(value) <= MOST_CASES else []
    if isinstance(value, (list, tuple)) and value and all(isinstance(each, (str, int, float)) for each in value):
        return [str(each)[:300] for each in value]
    return []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def name_cases(system: Any) -> dict[str, Any]:
    """Makes errors in the dataloaders of a system name the case, or the cases of the batch, that they are about.

    What collates a batch is put into `Collate`. A worker hands an exception on as text, so the case must be named where it
    happens: `WorkerInit`.

    Args:
        system: with ``dataloaders`` (mode to DataLoader, or to a list or dict of them), as `System` has them; may be missing.

    Returns:
        config id to the dataset there.
    """
    sources: dict[str, Any] = {}
    for mode, given in getattr(system, "dataloaders", {}).items():
        for place, loader in list_entries(given):
            id = f"system::dataloaders::{mode}{place}"
            if not isinstance(loader, DataLoader):
                continue
            sources[id] = loader.dataset
            if not isinstance(loader.collate_fn, Collate):
                loader.collate_fn = Collate(loader.collate_fn, id)
            if loader.num_workers and not isinstance(loader.worker_init_fn, WorkerInit):
                inner = loader.worker_init_fn or _choose_seeding(loader.dataset)
                loader.worker_init_fn = WorkerInit(inner, id, loader.num_workers)
    return sources


def list_entries(given: Any) -> Iterator[tuple[str, Any]]:
    """One thing, or the things of a list or dict, each with the end of its config id: ``""``, ``::0`` or ``::name``."""
    if isinstance(given, (Mapping, list, tuple)):
        for key, entry in given.items() if isinstance(given, Mapping) else enumerate(given):
            yield f"::{key}", entry
    else:
        yield "", given


def _choose_seeding(dataset: Any) -> Callable[[int], None]:
    """What ``monai.data.DataLoader`` does in a worker, so that random transforms differ between workers and epochs; for other
    datasets what Lightning does, which leaves loaders that have a ``worker_init_fn`` alone."""
    return worker_init_fn if isinstance(dataset, MonaiDataset) else pl_worker_init_function


class Collate:
    """``collate_fn`` that names the cases of a batch that could not be made, and in what they differ.

    Args:
        inner: the loader's own ``collate_fn``.
        id: config id of the loader.
    """

    def __init__(self, inner: Callable[[Any], Any], id: str) -> None:
        self.inner, self.id = inner, id

    def __call__(self, items: Any) -> Any:
        try:
            return self.inner(items)
        except Exception as error:
            lines = [f"{self.id}: a batch failed: {_shorten_last(error)}", *_compare(items)]
            raise CaseError("\n".join(lines)) from error


def _compare(items: Any) -> list[str]:
    """Of the items of a batch, each entry in which they differ by shape or type, or else their names."""
    if not isinstance(items, Sequence):
        return []
    flat = [each for item in items for each in (item if isinstance(item, list) and _are_mappings(item) else [item])]
    if not _are_mappings(flat):
        flat = [dict(enumerate(item)) if isinstance(item, tuple) else {"": item} for item in flat]
    names = [_describe_named(item) or f"item {i} of the batch" for i, item in enumerate(flat)]
    lines = []
    for key in dict.fromkeys(key for item in flat for key in item):
        kinds: dict[str, list[str]] = {}
        for name, item in zip(names, flat, strict=True):
            value = item.get(key)
            own = _describe_value(value) if isinstance(value, MetaTensor) else name
            kinds.setdefault(_describe_kind(value) if key in item else "missing", []).append(own or name)
        if len(kinds) > 1:
            told = "; ".join(f"{kind} of {join_names(cases, ' and ')}" for kind, cases in kinds.items())
            lines.append(f"{key}: {told}" if key != "" else told)
    return lines or [f"cases: {join_names(names, '; ')}"]


def _describe_named(item: Mapping) -> str | None:
    """`describe`, unless all that is known are numbers."""
    return (
        None
        if all(_describe_value(v) is None or isinstance(v, (int, float)) for v in item.values())
        else describe(item)
    )


def _are_mappings(values: Iterable[Any]) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def _describe_kind(value: Any) -> str:
    return f"{tuple(value.shape)}" if hasattr(value, "shape") else "None" if value is None else type(value).__name__


def join_names(names: list[str], separator: str) -> str:
    """Names of cases as one text; of many, the first and how many more."""
    more = len(names) - MOST_CASES
    return separator.join([*names[:MOST_CASES], *([f"{more} more"] if more > 0 else [])])


class WorkerInit:
    """``worker_init_fn`` that gives the dataset, inside the worker process, a subclass of its class that names the case.

    It also says what the worker is at work on (`AtWork`), for the case that the worker is killed.

    The class of the dataset is exchanged because nothing else stands between torch's fetcher and any dataset: the fetcher
    has the object already, looks ``__getitem__`` and ``__iter__`` up on its class, and passes an exception on as text. It is
    done to the worker's own copy, which nobody else sees.

    Args:
        inner: the loader's own ``worker_init_fn``, called first.
        id: config id of the loader.
        workers: of the loader.
    """

    def __init__(self, inner: Callable[[int], None], id: str, workers: int = 1) -> None:
        self.inner, self.id, self.at_work = inner, id, AtWork(workers)

    def __call__(self, worker_id: int) -> None:
        self.inner(worker_id)
        info = get_worker_info()
        if info is not None and isinstance(info.dataset, Dataset):
            self.at_work.start(worker_id)
            _name_cases_of(info.dataset, self.id, self.at_work)


def _name_cases_of(dataset: Dataset, id: str, at_work: AtWork) -> None:
    kind = type(dataset)

    def name_case(method: Callable) -> Callable:
        def call(self: Any, place: Any) -> Any:
            at_work.begin(place)
            try:
                item = method(self, place)
            except CaseError:
                raise
            except Exception as error:
                raise CaseError(_make_sentence(id, error)) from error
            at_work.end()
            return item

        return call

    def iterate(self: Any) -> Iterator[Any]:
        try:
            yield from kind.__iter__(self)  # type: ignore[attr-defined]
        except Exception as error:
            raise CaseError(_make_sentence(id, error)) from error

    methods = {name: name_case(getattr(kind, name)) for name in ("__getitem__", "__getitems__") if hasattr(kind, name)}
    if isinstance(dataset, IterableDataset):
        methods = {"__iter__": iterate}
    dataset.__class__ = type(kind.__name__, (kind,), methods)


def make_case_error(error: BaseException, sources: Mapping[str, Any]) -> CaseError | None:
    """`CaseError` for an error in one of the datasets of `name_cases`: config id, case and cause.

    Returns:
        None where the error is not about a case of one of them.
    """
    for id, source in sources.items():
        if passed_through(error, source):
            return None if find_case(error) is None else CaseError(_make_sentence(id, error))
    return None


def _make_sentence(id: str, error: BaseException) -> str:
    case = find_case(error)
    lines = [f"{id}: {'a case' if case is None else f'case {case}'} failed: {_shorten_last(error)}"]
    if is_out_of_memory(error):
        lines += [*_list_shapes(error), advise_on_memory(id)]
    return "\n".join(lines)


def _list_shapes(error: BaseException) -> Iterator[str]:
    """The shapes of the case that the innermost transform was given, in a line; none where they are not known."""
    given = [frame.f_locals.get("data") for frame in walk_frames(error) if frame.f_code is apply_transform.__code__]
    item = given[-1] if given else None
    arrays: Mapping[str, Any] = item if isinstance(item, Mapping) else {"": item}
    shapes = [f"{key} {tuple(value.shape)}".strip() for key, value in arrays.items() if hasattr(value, "shape")]
    if shapes:
        yield f"with {', '.join(shapes)} in {find_transform(error)}"


def make_killed_error(error: BaseException, system: Any, sources: Mapping[str, Any]) -> CaseError | None:
    """`CaseError` where a worker of a loader was killed: config id, what happened, and the cases that it was at work on.

    Args:
        error: that ended the run.
        system: with ``dataloaders`` that `name_cases` has prepared.
        sources: as `name_cases` gives them.
    """
    workers: dict[str, list[AtWork]] = {}
    for given in getattr(system, "dataloaders", {}).values():
        for _, loader in list_entries(given):
            init = getattr(loader, "worker_init_fn", None)
            if isinstance(init, WorkerInit):
                workers.setdefault(init.id, []).append(init.at_work)
    killed = find_killed(error, workers)
    if killed is None:
        return None
    id, happened, (indices, made) = killed
    cases = join_names([_name_item(sources.get(id), index) for index in indices], "; ")
    doing = f"{'after' if made else 'at work on'} case {cases}" if cases else "before its first case"
    hint = "Linux kills a process where memory is out, and a broken file may end its reader"
    return CaseError(f"{id}: {happened}, {doing}. {hint}: {OF_LOADER}; or look at that case with num_workers 0.")


def _name_item(dataset: Any, index: int) -> str:
    """An item of a dataset by its data, where MONAI's dataset has them in the order of its items, else by its index."""
    while isinstance(dataset, Subset):
        dataset, index = dataset.dataset, dataset.indices[index]
    data = getattr(dataset, "data", None) if isinstance(dataset, MonaiDataset) else None
    if isinstance(dataset, SmartCacheDataset) or not isinstance(data, (list, tuple)) or len(data) != len(dataset):
        return f"item {index}"
    return describe(data[index]) or f"item {index}"


def _shorten_last(error: BaseException) -> str:
    *_, cause = walk_causes(error)
    return in_short(cause)
