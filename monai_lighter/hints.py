"""What to do about a failure, where the bundle itself says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from monai.bundle import ConfigParser

from monai_lighter.errors import BundleError

__all__ = ["large_file_hint", "large_file_hints"]


@contextmanager
def large_file_hints(bundle: Path) -> Iterator[None]:
    """Within it, an error about a file that was not found comes with `large_file_hint`, where there is one.

    Raises:
        BundleError: the error with the hint.
    """
    try:
        yield
    except Exception as error:
        hint = large_file_hint(error, bundle)
        if hint is None:
            raise
        raise BundleError(f"{error} {hint}") from error


def large_file_hint(error: BaseException, bundle: Path) -> str | None:
    """The command that fetches a file that was not found, where the bundle lists it among its large files.

    Args:
        error: anything; a ``FileNotFoundError`` among its causes is what counts.
        bundle: root of the bundle, which may have ``large_files.yml`` (``.yaml``, ``.json``), as MONAI's
            ``download_large_files`` reads it.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, FileNotFoundError):
        cause = cause.__cause__
    if cause is None:
        return None
    words = [Path(word.strip("'\",.:;()[]")).name for word in str(cause).split()]
    if not any(name in words for name in _large_files(bundle)):
        return None
    return (
        f"The bundle lists it among its large files: python -m monai.bundle download_large_files --bundle_path {bundle}"
    )


def _large_files(bundle: Path) -> Iterator[str]:
    """Names of the files in the bundle's lists; a list that cannot be read has none."""
    for path in bundle.glob("large_files*"):
        try:
            lists = ConfigParser.load_config_file(str(path))
        except (ValueError, yaml.YAMLError):
            continue
        listed = lists.get("large_files") if isinstance(lists, dict) else None
        entries = listed if isinstance(listed, list) else ()
        yield from (Path(str(entry["path"])).name for entry in entries if isinstance(entry, dict) and "path" in entry)
