"""The judgement kept by a run: what trust a run has, and that nothing runs which it does not cover."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path
from typing import Any

from monai.bundle.config_item import ComponentLocator

from monai_lighter.errors import ConfigError, Finding
from monai_lighter.trust.configs import judge
from monai_lighter.trust.digest import RUN_FOLDERS, file_digest, run_digest, walk_files
from monai_lighter.trust.files import own_modules

__all__ = ["ALL", "DECLARATIVE", "VARIABLE", "Trust"]

VARIABLE = "MONAI_LIGHTER_TRUST"
"""Environment variable: the trust of runs that name none."""
ALL, DECLARATIVE, DIGEST = "all", "declarative", "sha256:"
ITEM = "trust"
FORCE, FORCE_NOT = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


class Trust:
    """What a run may do.

    Args:
        given: ``all``: whatever the bundle says, as MONAI; ``declarative``: no code at all (`judge`); ``sha256:…``: code, if the
            bundle's `run_digest` is this one. None: the value of ``MONAI_LIGHTER_TRUST``, else ``default``.
        bundle: its directory.
        files: configs that the run reads.
        default: where neither says anything.

    Raises:
        ConfigError: none of these; the digest is another, or does not count one of the files.
    """

    def __init__(self, given: str | None, bundle: Path, files: Sequence[str | Path] = (), default: str = ALL) -> None:
        self.bundle, self.files = bundle.resolve(), [Path(file) for file in files]
        self.level = given or os.environ.get(VARIABLE) or default
        if self.level not in (ALL, DECLARATIVE) and not re.fullmatch(rf"{DIGEST}[0-9a-f]{{64}}", str(self.level)):
            hint = "The number is printed by: python -m monai_lighter inspect BUNDLE."
            raise ConfigError(
                [Finding(ITEM, f"must be all, declarative or sha256:NUMBER, got {self.level!r:.90}", hint)]
            )
        self._require_digest()

    @property
    def is_all(self) -> bool:
        return self.level == ALL

    def require(
        self,
        config: dict[str, Any],
        place: Callable[[str], Any] = lambda id: "",
        locator: ComponentLocator | None = None,
        left_out: Sequence[str] = (),
    ) -> None:
        """Refuses a config that the trust does not cover, before anything of it is imported, evaluated or loaded.

        From then on this process imports nothing of a bundle that must be declarative, and loads weights alone; of one with a
        digest it imports source files that the digest counts, compared once more as they are read.

        Args:
            config: as it will be resolved: overridden, merged, macros expanded.
            place: file and line of an item.
            locator: of the parser that will resolve it.
            left_out: what of the logging file is no plain setting.

        Raises:
            ConfigError: with all that is not covered.
        """
        if ITEM in config:
            problem = "must not stand in a config: whoever runs it says what it may do"
            raise ConfigError([Finding(ITEM, problem, "Remove it; the command has --trust.")])
        if self.level == DECLARATIVE:
            self._require_declarative(config, place, locator, left_out)
            self._restrict()
        elif self.level != ALL:
            self._require_digest()
            self._import_counted()

    def _require_declarative(self, config: dict, place: Callable[[str], Any], locator: Any, left_out: Any) -> None:
        code = judge({"": config}, own_modules(self.bundle), locator, expanded=True)
        found = [Finding(f"{place(each.id)} {each.id}".strip(), f"is code, {each.text[:200]}") for each in code]
        found += [Finding("logging_file", f"is code, {text[:200]}") for text in left_out]
        if found:
            problem = f"the config must be declarative, and {len(found)} of its items are code"
            hint = (
                f"Read them, with: python -m monai_lighter inspect {self.bundle}. "
                f"Then run it as it is now, with: --trust {DIGEST}{run_digest(self.bundle)}."
            )
            raise ConfigError([*found, Finding(ITEM, problem, hint)])

    def _require_digest(self) -> None:
        if self.level in (ALL, DECLARATIVE):
            return
        folders = [self.bundle / folder for folder in RUN_FOLDERS]
        outside = [file for file in self.files if not any(file.resolve().is_relative_to(folder) for folder in folders)]
        if outside:
            problem = f"the digest counts {', '.join(RUN_FOLDERS)} in {self.bundle}, and not {outside[0]}"
            raise ConfigError([Finding(ITEM, problem, "Put the config into the bundle's configs/.")])
        digest = run_digest(self.bundle)
        if self.level != f"{DIGEST}{digest}":
            problem = f"{self.bundle} has sha256:{digest}, not {self.level}"
            hint = f"It is not what was read. Read it again, with: python -m monai_lighter inspect {self.bundle}."
            raise ConfigError([Finding(ITEM, problem, hint)])

    def _restrict(self) -> None:
        """For the rest of the process: nothing of the bundle is importable, and ``torch.load`` loads weights alone."""
        sys.path[:] = [entry for entry in sys.path if not Path(entry or ".").resolve().is_relative_to(self.bundle)]
        os.environ.pop(FORCE_NOT, None)
        os.environ[FORCE] = "1"  # which workers and processes that are started inherit

    def _import_counted(self) -> None:
        counted = {
            str(self.bundle / name): file_digest(self.bundle / name)
            for name, _ in walk_files(self.bundle, RUN_FOLDERS)
            if name.endswith(tuple(SOURCE_SUFFIXES)) and not (self.bundle / name).is_symlink()
        }
        _CountedLoader.counted.update(counted)
        folder = str(self.bundle)

        def hook(path: str) -> FileFinder:
            if not Path(path).resolve().is_relative_to(folder):
                raise ImportError("not of the bundle")
            return FileFinder(path, (_CountedLoader, SOURCE_SUFFIXES))

        sys.path_hooks.insert(0, hook)
        for path in [path for path in sys.path_importer_cache if Path(path).resolve().is_relative_to(folder)]:
            del sys.path_importer_cache[path]


class _CountedLoader(SourceFileLoader):
    """Imports source files that are what the digest counted, and never byte code."""

    counted: dict[str, str] = {}

    def path_stats(self, path: str) -> Any:
        raise OSError("no byte code")

    def get_data(self, path: str) -> bytes:
        data = super().get_data(path)
        if hashlib.sha256(data).hexdigest() != self.counted.get(str(Path(path).absolute())):
            raise ImportError(f"{path} is not what the digest of --trust counts")
        return data

    def set_data(self, path: str, data: bytes, *, _mode: int = 0o666) -> None:
        """No byte code is written."""
