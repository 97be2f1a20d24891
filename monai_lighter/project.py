"""Custom modules of a project, made importable for its config."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from monai_lighter.errors import Finding

__all__ = ["import_project", "make_importable"]

NAME = "project"

BUNDLES: set[Path] = set()
"""Bundles whose modules have been made importable in this process."""


def make_importable(bundle: Path) -> None:
    """Puts a bundle's folder on the search path, as ``ConfigWorkflow.run`` does, and forgets modules of other bundles.

    Bundles call their package ``scripts``: without that, the second one in a process would be given the first one's.

    Args:
        bundle: absolute path.
    """
    if str(bundle) in sys.path:
        sys.path.remove(str(bundle))
    sys.path.insert(1, str(bundle))
    others = tuple(f"{other}{os.sep}" for other in BUNDLES - {bundle})
    for name, module in list(sys.modules.items()):
        file, top = getattr(module, "__file__", None), name.partition(".")[0]
        own = (f"{other}{top}{end}" for other in others for end in (os.sep, ".py"))
        if file and file.startswith(others) and file.startswith(tuple(own)):
            del sys.modules[name]
    BUNDLES.add(bundle)


def import_project(path: str | Path) -> list[Finding]:
    """Imports a directory with an ``__init__.py`` as the module ``project``, so that ``project.models.Net`` can be a target.

    Follows ``lighter.utils.dynamic_imports.import_module_from_path``. A second call for the same directory does nothing.

    Returns:
        What is wrong: no such package; a package that raises; another directory is the module ``project`` already.
    """
    init = Path(path).resolve() / "__init__.py"
    if not init.is_file():
        return [Finding("project", f"must be a directory with an __init__.py, got {str(path)!r}", "Add the file.")]
    present = sys.modules.get(NAME)
    if present is not None:
        other = getattr(present, "__file__", None)
        if other == str(init):
            return []
        return [Finding("project", f"{str(path)!r} cannot be imported beside {other!r}", "Use one project a process.")]
    spec = importlib.util.spec_from_file_location(NAME, init, submodule_search_locations=[str(init.parent)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[NAME]
        return [Finding("project", f"{str(path)!r} cannot be imported ({type(error).__name__}: {error})", "Mend it.")]
    return []
