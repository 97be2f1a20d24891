"""Folders of a data list."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["find_common_folder", "name_below_shared_folder"]


def find_common_folder(data: Iterable[Any], key: str = "image") -> str:
    """The innermost folder that all cases lie in, for ``data_root_dir`` of ``SaveImaged`` and `FileWriter`: with it, outputs of
    cases from one folder lie side by side, and folders that differ are kept.

    Args:
        data: a data list, ``[{"image": file}, …]``; of a list of files under ``key`` the first counts, as it names the case.
        key: of the images.

    Returns:
        An absolute path; empty where no case is a file.
    """
    folders = set()
    for item in data:
        value = item.get(key) if isinstance(item, Mapping) else item
        first = value[0] if isinstance(value, (list, tuple)) and value else value
        if isinstance(first, (str, os.PathLike)):
            folders.add(os.path.dirname(os.path.abspath(Path(first).expanduser())))
    return os.path.commonpath(folders) if folders else ""


def name_below_shared_folder(names: Iterable[str]) -> dict[str, str]:
    """Names of cases that stay the same where data are moved as a whole.

    Args:
        names: of cases; paths, or others.

    Returns:
        a short name for each to the name: the path below the folder that all of them share; where one is no absolute path, the
        names themselves.
    """
    names = [*names]
    if not names or not all(os.path.isabs(name) for name in names):
        return {name: name for name in names}
    folder = os.path.commonpath([os.path.dirname(name) for name in names])
    return {os.path.relpath(name, folder): name for name in names}
