"""What is wrong with a config, at its place in the files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.utils import ensure_tuple

from monai_lighter.check.walk import Built
from monai_lighter.config.composed import Composed, read_composed
from monai_lighter.config.files import bundle_folder, config_files, config_root, explain_unreadable, files_of_run
from monai_lighter.config.overrides import apply_overrides
from monai_lighter.config.positions import Place, Positions
from monai_lighter.errors import ConfigError, Finding, Note
from monai_lighter.trust.enforce import Trust
from monai_lighter.workflow.prepare import Asked, Prepared

__all__ = ["Check", "read_config"]


class Check:
    """What is wrong with a config, what is worth knowing about it, and what it would build, each at its place in the files.

    For a bundle of strangers ``monai-lighter inspect`` comes first: modules are imported, unless ``trust`` forbids it.

    Args:
        config_file: path of the config, or several (a list, or joined by commas) merged in order.
        override: id-value pairs.
        asked: what is to be done with the config.
        meta_file: path of the metadata. Default: ``metadata.json`` beside the config.
        trust: what the config may do, ``all``, ``declarative`` or ``sha256:NUMBER``. With ``declarative`` code is an error, and
            nothing of the bundle is imported.

    Attributes:
        files: paths of the config files.
        errors: what is wrong, by place.
        notes: what need not be wrong, by place.
        prepared: the config as a run has it; None where it cannot be read.
        built: stage, or run id, to the components that it would build, in order.
    """

    def __init__(
        self,
        config_file: Any,
        override: Mapping[str, Any] | None = None,
        asked: Asked | None = None,
        meta_file: str | None = None,
        trust: str | None = None,
    ) -> None:
        self.files = config_files(config_file)
        override = dict(override or {})
        self.prepared: Prepared | None = None
        found: list[Finding] = []
        composed, unmerged = None, list[Finding]()
        try:
            composed = read_composed(self.files)
        except ConfigError as error:
            unmerged = error.findings
        self.positions = Positions(ensure_tuple(self.files), override, composed is not None and composed.of_lighter)
        read = map(Path, composed.read if composed else ())
        granted = Trust(trust, bundle_folder(self.files), [*files_of_run(self.files, meta_file), *read])
        try:
            if unmerged:
                raise ConfigError(unmerged)
            parser = read_config(self.files, meta_file, composed)
        except Exception as error:
            found = unmerged or [*self.positions.doubles(), *_why_unreadable(self.files, error, meta_file)]
        else:
            try:
                found = self._prepare(parser, override, asked or Asked(), granted)
            except ConfigError as error:  # not covered by the trust
                found = error.findings
        self.built: dict[str, list[Built]] = self.prepared.built if self.prepared else {}
        found = sorted(dict.fromkeys(found), key=self._order)
        self.errors = [finding for finding in found if not isinstance(finding, Note)]
        self.notes = [finding for finding in found if isinstance(finding, Note)]

    def _prepare(self, parser: ConfigParser, override: dict[str, Any], asked: Asked, trust: Trust) -> list[Finding]:
        bundle, doubles = bundle_folder(self.files), self.positions.doubles()
        overridden = apply_overrides(parser, override, bundle)
        prepared = self.prepared = Prepared(parser, overridden, bundle, asked, doubles, trust)
        return [*prepared.errors, *prepared.notes, *([prepared.absent] if prepared.absent else [])]

    def place(self, finding: Finding | Built) -> Place:
        """File and line of a finding or of a component."""
        return self.positions.place(finding.id)

    def _order(self, finding: Finding) -> tuple[int, int]:
        place, files = self.place(finding), self.positions.files
        return files.index(place.file) if place.file in files else len(files), place.line or 0


def read_config(files: Any, meta_file: str | None = None, composed: Composed | None = None) -> ConfigParser:
    """A parser with config files, merged in order, and the metadata where there are some, as ``ConfigWorkflow`` reads them.

    Args:
        files: a path or several.
        meta_file: path of the metadata.
        composed: what the files come to where they are merged by Lighter's rules (`read_composed`).
    """
    parser = ConfigParser()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # keys that stand twice, which `Positions` finds
        parser.read_config(files if composed is None else composed.content)
    meta = meta_file or str(config_root(files) / "metadata.json")
    if meta_file or Path(meta).is_file():
        parser.read_meta(meta)
    return parser


def _why_unreadable(files: Any, error: Exception, meta_file: str | None) -> list[Finding]:
    known = explain_unreadable(files, error, meta_file)
    if isinstance(known, ConfigError):
        return known.findings
    hint = "A file that is merged over others is given after them: train.json,multi_gpu_train.json."
    names = ", ".join(map(str, ensure_tuple(files)))
    return [Finding("config_file", f"{names} cannot be read: {type(error).__name__}: {error}", hint)]
