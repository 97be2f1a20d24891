"""``inspect``: what of a bundle is code."""

from __future__ import annotations

from monai_lighter.commands.arguments import require_path
from monai_lighter.commands.output import Printed

__all__ = ["inspect"]


def inspect(bundle: str, json: bool = False) -> Printed:
    """Say what of a bundle is code, file by file and line by line, without running anything of it.

    Example:

        monai-lighter inspect spleen_v0.1.0.zip

    Ends with 0 where it is declarative, 1 where there is code to read, 2 where it is broken.

    Args:
        bundle: directory or zip file.
        json: print the report as JSON.
    """
    require_path("bundle", bundle, "a directory or a file")
    from monai_lighter.trust.report import inspect as inspect_bundle

    found = inspect_bundle(str(bundle))
    return Printed(found.to_json() if json else str(found), found.exit_code)
