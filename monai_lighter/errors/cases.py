"""Which case (data item) an error is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from lightning.fabric.utilities.seed import pl_worker_init_function
from monai.data import Dataset as MonaiDataset
from monai.data import MetaTensor
from monai.data.utils import worker_init_fn
from monai.utils import ImageMetaKey
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from monai_lighter.errors.errors import CaseError, in_short

__all__ = ["case_error", "case_in", "frames", "loaders", "name_cases"]


def case_in(error: BaseException) -> str | None:
    """The data item that a transform was working on when it raised: the file it came from, or its values as given.

    It stands in the frames of MONAI's ``apply_transform``, innermost last. For another dataset, ``item N`` by its index; None
    where the error came from no dataset.
    """
    item = index = None
    for frame in frames(error):
        values = frame.f_locals
        if frame.f_code.co_name == "apply_transform" and "data" in values:
            item = describe(values["data"]) or item
        elif frame.f_code.co_name == "__getitem__" and isinstance(values.get("self"), Dataset):
            index = values.get(frame.f_code.co_varnames[1])
    return item or (None if index is None else f"item {index}")


def frames(error: BaseException | None) -> Iterator[Any]:
    while error is not None:
        trace: TracebackType | None = error.__traceback__
        while trace is not None:
            yield trace.tb_frame
            trace = trace.tb_next
        error = error.__cause__


def describe(item: Any) -> str | None:
    """A data item in a few words: ``image=/data/case_7.nii.gz``."""
    if isinstance(item, Mapping):
        parts = [f"{key}={text}" for key, text in ((key, describe(value)) for key, value in item.items()) if text]
        return ", ".join(parts) or None
    if isinstance(item, MetaTensor):
        name = item.meta.get(ImageMetaKey.FILENAME_OR_OBJ)
        return None if name is None else str(name)
    return str(item)[:300] if isinstance(item, (str, int, float)) or hasattr(item, "__fspath__") else None


def name_cases(system: Any) -> dict[str, Any]:
    """Makes errors in the workers of a system's dataloaders name the case they are about.

    A worker hands an exception on as text, so the case must be named where it happens.

    Args:
        system: with ``dataloaders`` (mode to DataLoader, or to a list or dict of them) and ``postprocessing`` (mode to
            transform), as `System` has them; either may be missing.

    Returns:
        config id to what works on cases there: datasets and transforms.
    """
    sources: dict[str, Any] = {}
    for mode, given in getattr(system, "dataloaders", {}).items():
        for place, loader in loaders(given):
            id = f"system::dataloaders::{mode}{place}"
            if not isinstance(loader, DataLoader):
                continue
            sources[id] = loader.dataset
            if loader.num_workers and not isinstance(loader.worker_init_fn, WorkerInit):
                loader.worker_init_fn = WorkerInit(loader.worker_init_fn or _seeding(loader.dataset), id)
    for mode, transform in getattr(system, "postprocessing", {}).items():
        sources[f"system::postprocessing::{mode}"] = transform
    return sources


def loaders(given: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(given, (Mapping, list, tuple)):
        for key, loader in given.items() if isinstance(given, Mapping) else enumerate(given):
            yield f"::{key}", loader
    else:
        yield "", given


def _seeding(dataset: Any) -> Callable[[int], None]:
    """What ``monai.data.DataLoader`` does in a worker, so that random transforms differ between workers and epochs; for other
    datasets what Lightning does, which leaves loaders that have a ``worker_init_fn`` alone."""
    return worker_init_fn if isinstance(dataset, MonaiDataset) else pl_worker_init_function


class WorkerInit:
    """``worker_init_fn`` that gives the dataset, inside the worker process, a subclass of its class that names the case.

    Args:
        inner: the loader's own ``worker_init_fn``, called first.
        id: config id of the loader.
    """

    def __init__(self, inner: Callable[[int], None], id: str) -> None:
        self.inner, self.id = inner, id

    def __call__(self, worker_id: int) -> None:
        self.inner(worker_id)
        info = get_worker_info()
        if info is not None and isinstance(info.dataset, Dataset):
            _name_cases_of(info.dataset, self.id)


def _name_cases_of(dataset: Dataset, id: str) -> None:
    kind = type(dataset)

    def named(method: Callable) -> Callable:
        def call(self: Any, *arguments: Any) -> Any:
            try:
                return method(self, *arguments)
            except Exception as error:
                raise CaseError(f"{id}: {_sentence(error)}") from error

        return call

    def iterate(self: Any) -> Iterator[Any]:
        try:
            yield from kind.__iter__(self)  # type: ignore[attr-defined]
        except Exception as error:
            raise CaseError(f"{id}: {_sentence(error)}") from error

    methods = {name: named(getattr(kind, name)) for name in ("__getitem__", "__getitems__") if hasattr(kind, name)}
    if isinstance(dataset, IterableDataset):
        methods = {"__iter__": iterate}
    dataset.__class__ = type(kind.__name__, (kind,), methods)


def case_error(error: Exception, sources: Mapping[str, Any]) -> CaseError | None:
    """`CaseError` for an error in one of the datasets or transforms of `name_cases`: config id, case and cause.

    Returns:
        None where the error is not about a case of one of them.
    """
    objects = [value for frame in frames(error) for value in (frame.f_locals.get("self"),) if value is not None]
    for id, source in sources.items():
        if any(source is value for value in objects):
            return CaseError(f"{id}: {_sentence(error)}") if case_in(error) is not None else None
    return None


def _sentence(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    case = case_in(error)
    return f"{'a case' if case is None else f'case {case}'} failed: {in_short(cause)}"
