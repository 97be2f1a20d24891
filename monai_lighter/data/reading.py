"""The loading of a case: which of a dataset's transforms load, and what they make of a case."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from monai.data import NibabelReader
from monai.transforms import Compose, EnsureChannelFirst, EnsureChannelFirstd, LoadImage, LoadImaged
from monai.transforms.traits import RandomizableTrait
from monai.transforms.transform import apply_transform
from torch import Tensor

from monai_lighter.data.alignment import Shift, find_better_shift
from monai_lighter.data.facts import ImageFacts, is_image, make_array, measure
from monai_lighter.data.headers import HeaderReader, StoredHeader
from monai_lighter.errors import in_short
from monai_lighter.internals import get_image_loader

__all__ = ["CaseFacts", "Loading", "Unreadable", "list_files_in"]

CHANGING = tuple(f"monai.transforms.{kind}." for kind in ("croppad", "intensity", "spatial"))
"""Modules of transforms that change an image that has been loaded."""
LOADERS = (LoadImage, LoadImaged, EnsureChannelFirst, EnsureChannelFirstd)


class Unreadable(NamedTuple):
    """An entry of a case that could not be loaded.

    Attributes:
        key: of the entry; empty where it is not known which.
        file: path of the file.
        cause: class and message of the error.
        headers: of those of its files that could be opened.
    """

    key: str
    file: str
    cause: str
    headers: tuple[tuple[str, StoredHeader], ...] = ()


class CaseFacts(NamedTuple):
    """What is kept of a case.

    Attributes:
        position: in the data of its mode.
        keys: of the item as given.
        files: key to the paths that it gives.
        images: that were loaded.
        numbers: key to a number, of entries that are one.
        texts: key to a text that is no file, such as the name of a subject.
        blank: keys whose value is None, blank or not a number.
        unreadable: what could not be loaded.
        shifts: key of a label to where it would lie better (`find_better_shift`).
        times: how often the case is in the data.
    """

    position: int
    keys: tuple[str, ...]
    files: dict[str, tuple[str, ...]]
    images: tuple[ImageFacts, ...]
    numbers: dict[str, float]
    texts: dict[str, str]
    blank: tuple[str, ...]
    unreadable: tuple[Unreadable, ...]
    shifts: dict[str, Shift]
    times: int = 1


class Loading:
    """The loading transforms of a dataset: from its first to the last that reads a file or puts channels first
    (``LoadImage``, ``EnsureChannelFirst`` and those with ``d``). What resamples, crops or scales comes after them, and is left
    out where it stands between two that load.

    Where there is none of these, the data are taken as they are; if they name files, which something else must read, all
    transforms up to the first random one are the loading.

    Args:
        transform: of the dataset; None or a ``Compose``, or any other callable.
        names_files: whether the data name files.

    Attributes:
        first: the loading transforms.
        rest: those after them, with the random ones.
        keys: that the loaders read; empty where they read the case itself.
    """

    def __init__(self, transform: Any, names_files: bool) -> None:
        flat = [] if transform is None else list(_flat(transform))
        random = next((n for n, (each, _) in enumerate(flat) if isinstance(each, RandomizableTrait)), len(flat))
        loaders = [n + 1 for n, (each, _) in enumerate(flat[:random]) if isinstance(each, LOADERS)]
        end = loaders[-1] if loaders else random if names_files else 0
        self.first = [pair for pair in flat[:end] if not type(pair[0]).__module__.startswith(CHANGING)]
        self.rest = [each for each, _ in flat if not any(each is loading for loading, _ in self.first)]
        readers = [each for each, _ in self.first if isinstance(each, LoadImaged)]
        self.keys = tuple(dict.fromkeys(str(key) for each in readers for key in each.keys))
        self.optional = tuple(str(key) for each in readers if each.allow_missing_keys for key in each.keys)
        self._own = threading.local()

    def examine(self, position: int, case: Any, labels: Sequence[str], times: int = 1) -> CaseFacts:
        """Loads a case and looks at it; what cannot be loaded is part of what is found.

        Args:
            position: of the case in the data.
            case: item of the data.
            labels: keys of entries that are label maps.
            times: how often the case is in the data.
        """
        chain, readers = self._transforms()
        for reader in readers:
            reader.headers.clear()
        given = case if isinstance(case, Mapping) else {"": case}
        blank = tuple(str(key) for key, value in given.items() if _is_blank(value))
        unreadable: list[Unreadable] = []
        loaded: dict[str, Any] = {}
        try:
            loaded = _entries(_applied(chain, case))
        except Exception as error:
            loaded, unreadable = self._each_alone(chain, case, readers, error, blank)
        files = {str(key): found for key, value in given.items() if (found := list_files_in(value))}
        headers = {name: header for reader in readers for name, header in reader.headers.items()}
        images = tuple(
            measure(key, value, files.get(key, ()), _of_files(headers, files.get(key, ())), key in labels)
            for key, value in loaded.items()
            if is_image(value)
        )
        numbers = {key: number for key, value in loaded.items() if (number := _number(value)) is not None}
        texts = {str(key): str(value) for key, value in given.items() if isinstance(value, (str, int))}
        keys = tuple(map(str, case)) if isinstance(case, Mapping) else ()
        shifts = _shifts(loaded, labels)
        return CaseFacts(position, keys, files, images, numbers, texts, blank, tuple(unreadable), shifts, times)

    def _transforms(self) -> tuple[list[tuple[Any, Compose | None]], list[HeaderReader]]:
        """The loading transforms of this thread, with readers that keep headers: readers remember what they read."""
        if not hasattr(self._own, "chain"):
            chain = copy.deepcopy(self.first)
            readers: list[HeaderReader] = []
            for each, _ in chain:
                loader = get_image_loader(each) if isinstance(each, LoadImaged) else each
                if isinstance(loader, LoadImage):
                    if loader.dtype is not None and np.dtype(loader.dtype).kind in "iub":
                        loader.dtype = np.float32  # else what is no integer in a label is cut off before it is seen
                    for n, reader in enumerate(loader.readers):
                        if type(reader) is NibabelReader:
                            readers.append(HeaderReader(reader))
                            loader.readers[n] = readers[-1]
            self._own.chain, self._own.readers = chain, readers
        return self._own.chain, self._own.readers

    def _each_alone(
        self, chain: list, case: Any, readers: Sequence[HeaderReader], error: Exception, blank: Sequence[str]
    ) -> tuple[dict[str, Any], list[Unreadable]]:
        """Loads the entries of a case one by one, to know which cannot be."""
        if not isinstance(case, Mapping) or not self.keys:
            names = list_files_in(case) if not isinstance(case, Mapping) else ()
            return {}, [Unreadable("", names[0] if names else "", _cause(error))]
        loaded: dict[str, Any] = {key: value for key, value in case.items() if str(key) not in self.keys}
        unreadable = []
        for key in [key for key in case if str(key) in self.keys and str(key) not in blank]:
            try:
                loaded |= _entries(_applied(_lenient(chain), {key: case[key]}))
            except Exception as cause:
                names = list_files_in(case[key])
                opened = tuple((n, r.headers[n]) for r in readers for n in names if n in r.headers)
                unreadable.append(Unreadable(str(key), _failing(names, opened), _cause(cause), opened))
        told = unreadable or blank or any(key not in case for key in self.keys)
        return loaded, unreadable if told else [Unreadable("", "", _cause(error))]


def _flat(transform: Any, outer: Compose | None = None) -> Iterator[tuple[Any, Compose | None]]:
    """Transforms in order, each with the ``Compose`` that it is in; those that choose among theirs are one."""
    if type(transform) is Compose:
        for inner in transform.transforms:
            yield from _flat(inner, transform)
    elif isinstance(transform, (list, tuple)):
        for inner in transform:
            yield from _flat(inner, outer)
    else:
        yield transform, outer


def _applied(chain: Sequence[tuple[Callable, Compose | None]], case: Any) -> Any:
    item = dict(case) if isinstance(case, Mapping) else case
    for transform, compose in chain:
        mapped: dict[str, Any] = (
            {} if compose is None else {"map_items": compose.map_items, "unpack_items": compose.unpack_items}
        )
        item = apply_transform(transform, item, lazy=False, **mapped)
    return item


def _lenient(chain: Sequence[tuple[Any, Compose | None]]) -> list[tuple[Any, Compose | None]]:
    """The same transforms, which leave out keys that are not there."""
    lenient = []
    for transform, compose in chain:
        shallow = copy.copy(transform)
        if hasattr(shallow, "allow_missing_keys"):
            shallow.allow_missing_keys = True
        lenient.append((shallow, compose))
    return lenient


def _entries(item: Any) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return {str(key): value for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return {str(n): value for n, value in enumerate(item)}
    return {"": item}


def list_files_in(value: Any) -> tuple[str, ...]:
    """Paths that an entry of a case gives: one, or a list of them; none where it is no path."""
    if isinstance(value, (list, tuple)):
        return tuple(path for each in value for path in list_files_in(each))
    if isinstance(value, Path) or (isinstance(value, str) and ("/" in value or "\\" in value or Path(value).suffix)):
        return (str(Path(value).expanduser()),)
    return ()


def _shifts(loaded: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Shift]:
    """Label maps of one channel that lie beside what the first image shows."""
    arrays = {key: make_array(value) for key, value in loaded.items() if is_image(value)}
    pictures = [array for key, array in arrays.items() if key not in labels and array.size]
    found: dict[str, Shift] = {}
    for key in labels:
        label = arrays.get(key)
        if pictures and label is not None and label.shape == pictures[0].shape and label.ndim > 2 and len(label) == 1:
            shift = find_better_shift(pictures[0][0], label[0])
            found |= {} if shift is None else {key: shift}
    return found


def _of_files(headers: Mapping[str, StoredHeader], files: Sequence[str]) -> tuple[StoredHeader, ...]:
    return tuple(headers[file] for file in files if file in headers)


def _failing(names: Sequence[str], opened: Sequence[tuple[str, StoredHeader]]) -> str:
    """The file of several that could not be read: the first that is not there or was not opened."""
    known = [name for name, _ in opened]
    absent = [name for name in names if not Path(name).exists()]
    return next(iter([*absent, *(name for name in names if name not in known), *names]), "")


def _is_blank(value: Any) -> bool:
    if isinstance(value, float):
        return bool(np.isnan(value))
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, (list, tuple)) and not value)


def _number(value: Any) -> float | None:
    if isinstance(value, (bool, int, float, np.number)):
        return float(value)
    if isinstance(value, (Tensor, np.ndarray)) and value.ndim < 2 and np.prod(value.shape) == 1:
        return float(value.reshape(-1)[0])
    return None


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return in_short(error).splitlines()[0][:400]
