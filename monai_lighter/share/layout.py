"""Where a bundle has its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_lighter.config.overrides import expand_macros
from monai_lighter.errors import BundleError, Finding

__all__ = ["CONFIG_SUFFIXES", "PROOF", "Bundle", "SharingError"]

CONFIG_SUFFIXES = (".yaml", ".yml", ".json")
PROOF = "proof"
"""Field of the metadata, one that MONAI's schema leaves free, with the checks that a package has passed."""


class SharingError(BundleError, RuntimeError):
    """What keeps a bundle from being made, packaged, proved, exported or loaded. Ends the command line with exit code 2."""

    exit_code = 2

    def __init__(self, *findings: Finding) -> None:
        self.findings = findings
        super().__init__("\n".join(str(finding) for finding in findings))

    @classmethod
    def of(cls, id: str, problem: str, hint: str = "") -> SharingError:
        """The error of one `Finding`."""
        return cls(Finding(id, problem, hint))


class Bundle:
    """The directory of a bundle, as MONAI lays it out: ``configs/``, ``models/``, ``docs/``, ``scripts/``.

    Args:
        root: the directory.

    Raises:
        SharingError: no such directory, or one without ``configs``.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).resolve()
        if not (self.root / "configs").is_dir():
            what = "a directory without configs/" if self.root.is_dir() else "no directory"
            raise SharingError.of("bundle", f"must be a bundle's directory, {str(root)!r} is {what}", "Mend the path.")
        self.name = self.root.name

    def config(self, name: str) -> Path | None:
        """``configs/NAME.yaml``, ``.yml`` or ``.json``; None where there is none."""
        files = [self.root / "configs" / f"{name}{suffix}" for suffix in CONFIG_SUFFIXES]
        return next((file for file in files if file.is_file()), None)

    def require(self, *names: str) -> Path:
        """The first of several configs that there is.

        Raises:
            SharingError: none of them.
        """
        for name in names:
            file = self.config(name)
            if file is not None:
                return file
        wanted = " or ".join(f"configs/{name}.yaml" for name in names)
        raise SharingError.of("bundle", f"{self.root} has no {wanted}", "Add it; `monai_lighter init` writes one.")

    def read(self, file: Path) -> dict[str, Any]:
        """The content of a config with its macros expanded, wherever the working directory is.

        Raises:
            SharingError: a macro that names no file, or no item.
        """
        parser = ConfigParser(ConfigParser.load_config_file(str(file)))
        findings = expand_macros(parser, self.root)
        if findings:
            raise SharingError(*(finding._replace(id=f"{file.name}: {finding.id}") for finding in findings))
        return parser.get()

    @property
    def metadata_file(self) -> Path:
        return self.root / "configs" / "metadata.json"

    def metadata(self) -> dict[str, Any]:
        """The content of ``configs/metadata.json``; empty where there is none.

        Raises:
            SharingError: it is no JSON object.
        """
        if not self.metadata_file.is_file():
            return {}
        try:
            metadata = json.loads(self.metadata_file.read_text(encoding="utf-8"))
        except ValueError as error:
            problem = f"configs/metadata.json of {self.name} cannot be read: {error}"
            raise SharingError.of("metadata", problem, "Mend it.") from error
        if not isinstance(metadata, dict):
            raise SharingError.of("metadata", f"must be a JSON object, got {metadata!r:.80}", "Mend the file.")
        return metadata
