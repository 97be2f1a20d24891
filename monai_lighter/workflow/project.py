"""Custom modules of a project, made importable for its config."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from monai_lighter.errors import Finding

__all__ = ["find_marked", "find_project_folder", "import_project", "make_importable"]

NAME, MARKER = "project", "__lighter__.py"

INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
IMPORTABLE: list[str] = []
"""Folder of the bundle whose modules have been made importable in this process."""


def make_importable(bundle: Path) -> None:
    """Puts a bundle's folder on the search path, as ``ConfigWorkflow.run`` does, in the place of the one before it.

    Bundles call their package ``scripts``: modules of the one before are forgotten, else this one would be given them.

    Args:
        bundle: absolute path.
    """
    folder = str(bundle)
    for other in IMPORTABLE:
        while other in sys.path:  # MONAI's own workflow adds it once more
            sys.path.remove(other)
        if other != folder:
            _forget_modules(other)
    own = {path.stem for path in bundle.iterdir() if path.is_dir() or path.suffix == ".py"} & sys.modules.keys()
    _forget({name for name in own if _lies_elsewhere(sys.modules[name], folder)})
    IMPORTABLE[:] = [folder]
    while folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(1, folder)


def _lies_elsewhere(module: ModuleType, folder: str) -> bool:
    """Whether a module is of somebody's own files, outside of a folder; a package without ``__init__.py`` may be of several."""
    places = [getattr(module, "__file__", None) or "", *map(str, getattr(module, "__path__", ()))]
    own = [place for place in places if place and not place.startswith(INSTALLED)]
    return bool(own) and not any(place.startswith(os.path.join(folder, "")) for place in own)


def _forget_modules(folder: str) -> None:
    """Forgets the top-level modules that lie in a folder, and all in them; packages without ``__init__.py`` have no file."""
    modules = sys.modules.copy()  # made in one go: other threads import too
    tops, inside = set(), os.path.join(folder, "")
    for name, module in modules.items():
        file = getattr(module, "__file__", None)
        if file and file.startswith(inside):
            top = name.partition(".")[0]
            if file.startswith((f"{inside}{top}{os.sep}", f"{inside}{top}.py")):
                tops.add(top)
    _forget(tops)


def _forget(tops: set[str]) -> None:
    for name in sys.modules.copy() if tops else ():
        if name.partition(".")[0] in tops:
            del sys.modules[name]


def find_marked(bundle: Path) -> str | None:
    """The project that ``__lighter__.py`` marks, as of Lighter 0.1.0: where the command is run, or else around the config."""
    folders = (Path.cwd(), bundle, *bundle.parents)
    return next((str(folder) for folder in folders if (folder / MARKER).is_file()), None)


def find_project_folder() -> list[Path]:
    """Folder of the module ``project`` in a list, which is empty where none has been imported."""
    file = getattr(sys.modules.get(NAME), "__file__", None)
    return [Path(file).parent] if file else []


def import_project(path: str | Path, folders: Sequence[Path] = ()) -> list[Finding]:
    """Imports a directory with an ``__init__.py`` as the module ``project``, so that ``project.models.Net`` can be a target.

    Follows ``lighter.utils.dynamic_imports.import_module_from_path``. A second call for the same directory does nothing.

    Args:
        path: of the directory; a relative one is looked for in ``folders``, and the first that has the file counts.
        folders: in order; by default where the command is run.

    Returns:
        What is wrong: no such package; a package that raises; another directory is the module ``project`` already.
    """
    inits = [Path(folder, path).resolve() / "__init__.py" for folder in folders or (Path.cwd(),)]
    init = next((each for each in inits if each.is_file()), None)
    if init is None:
        places = [*dict.fromkeys(str(each.parent) for each in inits)]
        hint = "Add the file." if len(places) == 1 else f"Add the file to {' or '.join(places)}."
        return [Finding("project", f"must be a directory with an __init__.py, got {str(path)!r}", hint)]
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
