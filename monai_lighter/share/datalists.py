"""Lists of data files, which are no configs although they stand among them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

__all__ = ["is_data_list"]

DATA = re.compile(
    r"\.(nii|nii\.gz|dcm|dicom|nrrd|mha|mhd|png|jpe?g|tiff?|svs|bmp|npy|npz|h5|hdf5|csv|parquet|zip|tar|tar\.gz)$",
    re.IGNORECASE,
)
IMAGE = "image"
"""Key of an entry of a data list as MONAI reads them; it may name a directory, or a file of any kind."""


def is_data_list(content: Any) -> bool:
    """Whether the content of a YAML or JSON file names data and nothing else.

    It does where it builds and computes nothing, and has, at the top or below a key such as ``training``, a list of data
    files or of mappings to them.
    """
    if any(_computes(value) for value in _texts(content)):
        return False
    lists = [content] if isinstance(content, list) else content.values() if isinstance(content, dict) else []
    return any(isinstance(entries, list) and any(map(_names_data, entries)) for entries in lists)


def _computes(text: str) -> bool:
    return text.startswith(("$", "@", "%")) or text == "_target_"


def _names_data(entry: Any) -> bool:
    if isinstance(entry, dict) and isinstance(entry.get(IMAGE), (str, list)):
        return True
    return any(DATA.search(text) for text in _texts(entry))


def _texts(content: Any) -> Iterator[str]:
    """Keys and values that are texts, at any depth."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, (dict, list)):
        for part in [*content, *content.values()] if isinstance(content, dict) else content:
            yield from _texts(part)
