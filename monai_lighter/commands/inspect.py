"""``inspect``: what of a bundle is code."""

from __future__ import annotations

from pathlib import Path

from monai_lighter.commands.output import Printed
from monai_lighter.errors import Finding
from monai_lighter.share.layout import SharingError
from monai_lighter.trust.report import inspect as inspect_bundle

__all__ = ["inspect"]


def inspect(bundle: str, json: bool = False) -> Printed:
    """Say what of a bundle is code, file by file and line by line, without running anything of it.

    Example:

        python -m monai_lighter inspect spleen_v0.1.0.zip

    Ends with 0 where it is declarative, 1 where there is code to read, 2 where it is broken.

    Args:
        bundle: directory or zip file.
        json: print the report as JSON.
    """
    if not Path(str(bundle)).exists():
        raise SharingError(Finding("bundle", f"must be a directory or a file, got {str(bundle)!r}", "Mend the path."))
    found = inspect_bundle(str(bundle))
    return Printed(found.to_json() if json else str(found), found.exit_code)
