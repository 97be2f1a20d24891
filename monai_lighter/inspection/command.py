"""The command ``inspect``."""

from __future__ import annotations

import sys

from monai_lighter.inspection.bundle import inspect as read_bundle

__all__ = ["inspect"]


def inspect(bundle: str, json: bool = False) -> None:
    """Reads a bundle, runs nothing of it, and prints what it would do.

    Ends the process with 0 where nothing dangerous was found, 1 where there are things to look at, 2 where something is dangerous
    or broken. Advice, not a sandbox. Example: ``python -m monai_lighter inspect bundle.zip``.

    Args:
        bundle: a directory, a zip or tar file, or a single file.
        json: print JSON in place of text.
    """
    try:
        report = read_bundle(bundle)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(report.to_json() if json else report)
    sys.exit(report.exit_code)
