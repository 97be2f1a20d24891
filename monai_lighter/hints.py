"""What to do about a failure, where the bundle itself says so."""

from __future__ import annotations

from pathlib import Path

__all__ = ["large_file_hint"]


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
    listed = "".join(
        path.read_text() for path in bundle.glob("large_files.*") if path.suffix in (".yml", ".yaml", ".json")
    )
    missing = [
        line
        for line in listed.splitlines()
        if "path" in line and Path(line.split(":", 1)[1].strip(" \"',")).name in str(cause)
    ]
    if not missing:
        return None
    return (
        f"The bundle lists it among its large files: python -m monai.bundle download_large_files --bundle_path {bundle}"
    )
