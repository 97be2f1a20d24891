"""``inspect``: what a stranger's bundle would do."""

from __future__ import annotations

from pathlib import Path

from monai_lighter.commands.output import Printed
from monai_lighter.errors import Finding
from monai_lighter.inspection import inspect as inspect_bundle
from monai_lighter.share.layout import SharingError

__all__ = ["inspect"]


def inspect(bundle: str, json: bool = False) -> Printed:
    """Say what a bundle would do when it runs, without running anything of it. Advice, not a sandbox.

    Example:

        python -m monai_lighter inspect spleen_v0.1.0.zip

    Ends with 0 where nothing dangerous was found, 1 where there are things to look at, 2 where something is dangerous or
    broken.

    Args:
        bundle: directory, zip or tar file, or a single file.
        json: print the report as JSON.
    """
    if not Path(str(bundle)).exists():
        raise SharingError(Finding("bundle", f"must be a directory or a file, got {str(bundle)!r}", "Mend the path."))
    found = inspect_bundle(str(bundle))
    return Printed(found.to_json() if json else str(found), found.exit_code)
