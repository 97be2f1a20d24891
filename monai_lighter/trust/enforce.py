"""The judgement kept by a run: what it may do, and that nothing runs which that does not cover."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from monai.bundle import ConfigParser
from monai.bundle.utils import MACRO_KEY

from monai_lighter.config.files import find_macro_file
from monai_lighter.config.stages import is_native
from monai_lighter.errors import ConfigError, Finding
from monai_lighter.trust.configs import judge, texts
from monai_lighter.trust.contents import own_modules
from monai_lighter.trust.digest import RUN_FOLDERS, hash_file, run_digest, walk_files
from monai_lighter.trust.logging_files import find_logging_code

logger = logging.getLogger(__name__)

__all__ = ["ALL", "DECLARATIVE", "VARIABLE", "Trust", "default_trust", "refuse_trust_of_file"]

VARIABLE = "MONAI_LIGHTER_TRUST"
"""Environment variable: the trust of runs that name none."""
ALL, DECLARATIVE, DIGEST = "all", "declarative", "sha256:"
ITEM, PROJECT = "trust", "project"
FORCE, FORCE_NOT = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
MAX_MACROS = 20
"""How often macros may lead to macros."""


def default_trust(given: str | None, default: str) -> str:
    """The trust that is given, else that of the environment's ``MONAI_LIGHTER_TRUST``, else the default."""
    return given or os.environ.get(VARIABLE) or default


def refuse_trust_of_file(given: str | None) -> None:
    """For the process of a command: refuses trust that the command does not name, and so a file of arguments (``args_file``).

    Raises:
        ConfigError: there is such.
    """
    named = [word.lstrip("-").partition("=")[0] for word in sys.argv if word.startswith("-")]
    if given is not None and ITEM not in named:
        problem = f"must be given on the command line, got {given!r:.90} from a file"
        raise ConfigError([Finding(ITEM, problem, "Remove it from the file, and give --trust.")])


class Trust:
    """What a run may do.

    Args:
        given: ``all``: whatever the bundle says, as MONAI; ``declarative``: no code at all (`judge`); ``sha256:…``: code, if the
            bundle's `run_digest` is this one. None: the value of ``MONAI_LIGHTER_TRUST``, else ``all``.
        bundle: its directory.
        files: configs, metadata and logging settings that the run reads.

    Raises:
        ConfigError: it is none of these; the digest is another, or does not count one of the files.
    """

    def __init__(self, given: str | None, bundle: Path, files: Sequence[str | Path] = ()) -> None:
        self.bundle, self.files = bundle.resolve(), [Path(file) for file in files]
        self.level = default_trust(given, ALL)
        if self.level not in (ALL, DECLARATIVE) and not re.fullmatch(rf"{DIGEST}[0-9a-f]{{64}}", str(self.level)):
            hint = "The number is printed by: monai-lighter inspect BUNDLE."
            problem = f"must be {ALL}, {DECLARATIVE} or {DIGEST}NUMBER, got {self.level!r:.90}"
            raise ConfigError([Finding(ITEM, problem, hint)])
        if self.level.startswith(DIGEST):
            self._require_counted(self.files)
            self._require_digest()

    @property
    def is_all(self) -> bool:
        return self.level == ALL

    @property
    def imports_bundle(self) -> bool:
        """Whether modules of the bundle may be imported."""
        return self.level != DECLARATIVE

    @rank_zero_only
    def tell(self) -> None:
        """Says in a line what MONAI says at length of every config: that it may run any code, where it may."""
        if self.is_all:
            names = ", ".join(str(file) for file in self.files if file.suffix != ".conf" and file.stem != "metadata")
            logger.warning(f"{names} may run any code (trust: all): inspect what is not yours")

    def require(self, parser: ConfigParser, place: Callable[[str], Any] = lambda id: "") -> None:
        """Refuses a config that is not covered, before anything of it is imported, evaluated or loaded.

        From then on this process imports nothing of a bundle that must be declarative, and loads weights alone. Of a bundle with
        a digest it imports the source files that the digest counts, each compared as it is read, and no byte code.

        Args:
            parser: holds the config, overridden and merged; its macros are expanded where no code may be.
            place: file and line of an item, for the message.

        Raises:
            ConfigError: with all that is not covered.
        """
        if ITEM in parser:
            problem = "must not stand in a config: whoever runs it says what it may do"
            raise ConfigError([Finding(ITEM, problem, "Remove it; the command has --trust.")])
        if self.level == DECLARATIVE:
            self._restrict()  # first: to judge is to import what is listed, and that must not come from the bundle
            self._require_declarative(parser, place)
        elif self.level != ALL:
            if parser.get(PROJECT) is not None:
                problem = f"is not counted by the digest, which counts {', '.join(RUN_FOLDERS)}"
                raise ConfigError([Finding(PROJECT, problem, "Put its modules into scripts/.")])
            self._require_digest()
            self._import_counted()

    def require_counted_macros(self, config: Any) -> None:
        """Refuses a config whose macros read what the digest does not count. Before they are expanded.

        Raises:
            ConfigError: there is such a macro.
        """
        if self.level.startswith(DIGEST):
            bundle = self.bundle if is_native(config) else None
            self._require_counted([find_macro_file(path, bundle) for path in _macro_files(config)])

    def _require_declarative(self, parser: ConfigParser, place: Callable[[str], Any]) -> None:
        for _ in range(MAX_MACROS):  # what a macro brings in may be a macro, which MONAI would expand later
            if any(text.startswith(MACRO_KEY) for text in texts(parser.get())):
                parser.resolve_macro_and_relative_ids()
        code = judge({"": parser.get()}, own_modules(self.bundle), parser.locator, expanded=True)
        found = [Finding(f"{place(each.id)} {each.id}".strip(), f"is code: {each.text[:200]}") for each in code]
        for file in self.files:
            if file.suffix == ".conf" and file.is_file():
                found += [Finding(str(file), f"is code: {text[:200]}") for text in find_logging_code(file)]
        if found:
            problem = f"must be declarative, and {len(found)} of its items are code"
            hint = (
                f"Read them, with: monai-lighter inspect {shlex.quote(str(self.bundle))}. "
                f"Then run it as it now is, with: --trust {DIGEST}{run_digest(self.bundle)}."
            )
            raise ConfigError([*found, Finding(ITEM, problem, hint)])

    def _require_counted(self, files: Sequence[str | Path]) -> None:
        """Refuses files that are read as configs and that the digest does not count."""
        folders = [self.bundle / folder for folder in RUN_FOLDERS]
        for file in files:
            if not any(Path(file).resolve().is_relative_to(folder) for folder in folders):
                problem = f"the digest counts {', '.join(RUN_FOLDERS)} in {self.bundle}, and not {file}"
                raise ConfigError([Finding(ITEM, problem, "Put it into the bundle's configs/.")])

    def _require_digest(self) -> None:
        digest = run_digest(self.bundle)
        if self.level != f"{DIGEST}{digest}":
            problem = f"{self.bundle} has {DIGEST}{digest}, not {self.level}"
            hint = (
                f"It is not what was read. Read it again, with: monai-lighter inspect {shlex.quote(str(self.bundle))}."
            )
            raise ConfigError([Finding(ITEM, problem, hint)])

    def _restrict(self) -> None:
        """For the rest of the process: nothing of the bundle can be imported, and ``torch.load`` loads weights alone."""
        sys.path[:] = [entry for entry in sys.path if not Path(entry or ".").resolve().is_relative_to(self.bundle)]
        os.environ.pop(FORCE_NOT, None)
        os.environ[FORCE] = "1"  # inherited by workers and by the processes of other devices
        os.environ["PYTHONSAFEPATH"] = (
            "1"  # likewise: a worker that is spawned begins with the current directory on its path
        )

    def _import_counted(self) -> None:
        names = [name for name, _ in walk_files(self.bundle, RUN_FOLDERS) if name.endswith(tuple(SOURCE_SUFFIXES))]
        CountedLoader.counted.update({str(self.bundle / name): hash_file(self.bundle / name) for name in names})
        for name, module in [*sys.modules.items()]:  # of a run before, which may have been of other files
            file = getattr(module, "__file__", None)
            is_counted = isinstance(getattr(module, "__loader__", None), CountedLoader)
            if file and not is_counted and Path(file).is_relative_to(self.bundle):
                del sys.modules[name]
        if self.bundle not in CountedLoader.bundles:
            CountedLoader.bundles.append(self.bundle)
            sys.path_hooks.insert(0, _counted_finder)
            sys.path_importer_cache.clear()


def _macro_files(config: Any) -> Iterator[str]:
    paths = (ConfigParser.split_path_id(text[1:])[0] for text in texts(config) if text.startswith(MACRO_KEY))
    yield from filter(None, paths)


def _counted_finder(path: str) -> FileFinder:
    """A path hook, for the folders of bundles with a digest."""
    if not any(Path(path).resolve().is_relative_to(bundle) for bundle in CountedLoader.bundles):
        raise ImportError("not of such a bundle")
    return FileFinder(path, (CountedLoader, SOURCE_SUFFIXES))


class CountedLoader(SourceFileLoader):
    """Imports source files whose content is what the digest counted, and never byte code, which it does not count."""

    bundles: list[Path] = []
    counted: dict[str, str] = {}

    def path_stats(self, path: str) -> Any:
        """Without them no byte code is looked for."""
        raise OSError("no byte code")

    def get_data(self, path: str) -> bytes:
        """The content of a file.

        Raises:
            ImportError: it is not what was counted.
        """
        data = super().get_data(path)
        if hashlib.sha256(data).hexdigest() != self.counted.get(str(Path(path).resolve())):
            raise ImportError(f"{path} is not what the digest of --trust counts")
        return data
