"""``lighter`` and ``pytorch_lightning`` for the code of a project, where Lighter itself is not installed."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pydoc import locate
from types import ModuleType
from typing import Any

from monai_lighter.config.lighter import LIGHTER, LIGHTNING, MODULES, is_installed, translated_path

__all__ = ["install_aliases", "remove_aliases"]

logger = logging.getLogger(__name__)


class Aliases(MetaPathFinder, Loader):
    """Finds, under the names of Lighter's modules, modules that give this package's classes and functions.

    ``pytorch_lightning``, which Lighter and the projects for it are written with, is ``lightning.pytorch``: their classes differ,
    and those here are derived from the latter.

    Args:
        of_model: whether the names are those of Lighter 0.1.0, whose ``FileWriter`` is another one.

    Attributes:
        hidden: modules of ``pytorch_lightning`` that had been imported before.
    """

    def __init__(self, of_model: bool) -> None:
        self.of_model = of_model
        self.hidden: dict[str, ModuleType] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        is_lightning = _is_in(fullname, LIGHTNING[0]) and find_spec(fullname.replace(*LIGHTNING, 1)) is not None
        if fullname in MODULES or is_lightning:
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        if _is_in(name, LIGHTNING[0]):
            sys.modules[name] = import_module(name.replace(*LIGHTNING, 1))
            return
        if name == LIGHTER:
            logger.warning(
                "Lighter is not installed: code that imports lighter is given what monai_lighter has in its place."
            )

        def find(attribute: str) -> Any:
            path = translated_path(f"{name}.{attribute}", self.of_model)
            found = None if path == f"{name}.{attribute}" else locate(path)
            if found is None:
                raise AttributeError(f"monai_lighter has nothing in the place of {name}.{attribute}")
            return found

        module.__getattr__ = find  # type: ignore[method-assign]


def _is_in(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def _take_out(package: str) -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in [*sys.modules] if _is_in(name, package)}


def install_aliases(of_model: bool) -> None:
    """From now on code that imports Lighter finds this package; nothing happens where Lighter is installed.

    Args:
        of_model: whether the config has a ``model`` section, as those of Lighter 0.1.0.
    """
    remove_aliases()
    if not is_installed():
        aliases = Aliases(of_model)
        aliases.hidden = _take_out(LIGHTNING[0])
        sys.meta_path.insert(0, aliases)


def remove_aliases() -> None:
    """Imports are again what they were; what has been imported stays with those who did."""
    for aliases in [each for each in sys.meta_path if isinstance(each, Aliases)]:
        sys.meta_path.remove(aliases)
        _take_out(LIGHTER)
        _take_out(LIGHTNING[0])
        sys.modules.update(aliases.hidden)
