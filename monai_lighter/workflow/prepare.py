"""The static check of a config, native or of MONAI's engines: everything about it at once, with nothing built or run."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import monai
from monai.bundle import ConfigParser
from monai.bundle.config_item import ComponentLocator
from monai.bundle.utils import ID_SEP_KEY
from monai.utils import ensure_tuple

from monai_lighter.check.modules import breaks_imports, is_import
from monai_lighter.check.native import check_walk
from monai_lighter.check.paths import missing_paths
from monai_lighter.check.walk import Built, Walk
from monai_lighter.check.zoo import engine_findings, missing_packages
from monai_lighter.config.files import bundle_of, config_files, config_root, files_of_run, unreadable
from monai_lighter.config.items import items, locate, plain_config
from monai_lighter.config.lighter import translated
from monai_lighter.config.overrides import apply_overrides, expand_macros, unused_overrides
from monai_lighter.config.positions import Place, Positions
from monai_lighter.config.stages import (
    MODES_OF_STAGE,
    STAGES,
    SYSTEM_TARGET,
    TOP_LEVEL,
    is_native,
    no_run,
    other_run_ids,
    pruned,
    unknown_run_id,
    unknown_type,
    with_defaults,
)
from monai_lighter.errors import ConfigError, Finding, Note
from monai_lighter.trust.enforce import Trust
from monai_lighter.workflow.project import import_project, make_importable
from monai_lighter.workflow.properties import missing_properties

__all__ = ["Check"]

RUN_IDS = ("run", "initialize", "finalize", "imports")


class Check:
    """What is wrong with a config, what is worth knowing about it, and what it would build.

    Modules are imported as far as targets are looked for in them, those of the bundle among them: for a bundle of strangers
    ``python -m monai_lighter inspect`` comes first. Nothing is built, and no expression is run.

    Args:
        config_file: path of the config, or several merged in order, as `Workflow` takes them.
        override: id-value pairs.
        run_id: a stage of a native config, or the id of an expression; with ``run``, all that the config allows.
        init_id: as in ``ConfigWorkflow``.
        final_id: as in ``ConfigWorkflow``.
        workflow_type: ``train`` or ``infer``, whose properties must be there; with None, those of the type that the config
            seems to be are looked for, and what is missing is a note.
        meta_file: as in ``ConfigWorkflow``.
        trust: as `Workflow` takes it. With ``declarative`` nothing of the bundle is imported.

    Attributes:
        errors: what is wrong, by place.
        notes: what need not be wrong, by place.
        stages: stage, or run id, to what it would build, in order.
        config: with its macros expanded and defaults set; empty where it cannot be read.
        native: whether it has a ``system`` section.
    """

    def __init__(
        self,
        config_file: Any,
        override: Mapping[str, Any] | None = None,
        run_id: str = "run",
        init_id: str = "initialize",
        final_id: str = "finalize",
        workflow_type: str | None = None,
        meta_file: str | None = None,
        trust: str | None = None,
    ) -> None:
        self.files = config_files(config_file)
        self.override, self.run_id, self.workflow_type = dict(override or {}), run_id, workflow_type
        self.others = [init_id, final_id, "imports"]
        self.stages: dict[str, list[Built]] = {}
        self.config: dict[str, Any] = {}
        self.native = False
        self.locator = ComponentLocator(excludes="monai_lighter")
        self.positions = Positions(ensure_tuple(self.files), self.override)
        self.bundle = bundle_of(self.files)
        self.trust = Trust(trust, self.bundle, files_of_run(self.files, meta_file))
        found = list(dict.fromkeys(self._findings(meta_file)))
        order = {finding: self._order(finding) for finding in found}
        found.sort(key=order.__getitem__)
        self.errors = [finding for finding in found if not isinstance(finding, Note)]
        self.notes = [finding for finding in found if isinstance(finding, Note)]

    def place(self, finding: Finding | Built) -> Place:
        """File and line of a finding or of a component."""
        return self.positions.place(finding.id)

    def _order(self, finding: Finding) -> tuple:
        place = self.place(finding)
        files = self.positions.files
        return files.index(place.file) if place.file in files else len(files), place.line or 0

    def _findings(self, meta_file: str | None) -> Iterable[Finding]:
        parser = ConfigParser()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # keys that stand twice, which are told below
                parser.read_config(self.files)
            meta = meta_file or str(config_root(self.files) / "metadata.json")
            if meta_file or Path(meta).is_file():
                parser.read_meta(meta)
        except Exception as error:
            return self._unreadable(error)
        added = [id for id in self.override if id not in parser]
        found = [*self.positions.doubles(), *apply_overrides(parser, self.override)]
        given = plain_config(parser.get())
        bad = expand_macros(parser)
        if bad:  # without them, so that the rest can be looked at
            for finding in bad:
                parser.set(None, finding.id)
            expand_macros(parser)
        if is_native(parser.get()):
            parser.set(translated(parser.get()))
        try:
            self.trust.require(parser, self.positions.place)
        except ConfigError as error:
            return [*found, *bad, *error.findings]
        if self.trust.imports_bundle:
            make_importable(self.bundle)
        config = parser.get()
        native = is_native(config)
        self.config, self.native = config, native
        inner = self._native(config) if native else self._engines(config)
        unknown = [f"`@{finding.id}" for finding in bad]
        found += [*bad, *(one for one in inner if not any(reference in one.problem for reference in unknown))]
        unused = unused_overrides([given, config], added, {*TOP_LEVEL, self.run_id, *self.others, *RUN_IDS})
        found += [Note(*finding) for finding in unused]
        found += [*self._misnamed(config, given, native), *missing_paths(given, self.bundle)]
        packages = missing_packages(config.get(ConfigParser.meta_key) or {})
        return [*found, *(Note(*finding) for finding in packages), *self._properties(config, native)]

    def _unreadable(self, error: Exception) -> list[Finding]:
        known = unreadable(self.files, error)
        if isinstance(known, ConfigError):
            return known.findings
        hint = "A file that is merged over others is given after them: train.json,multi_gpu_train.json."
        names = ", ".join(map(str, ensure_tuple(self.files)))
        return [Finding("config_file", f"{names} cannot be read: {type(error).__name__}: {error}", hint)]

    def _native(self, config: dict) -> list[Finding]:
        config.update(translated(config))
        root = config.get("bundle_root", ".")
        if "bundle_root" not in self.override and isinstance(root, str) and not root.startswith(("$", "@")):
            root = config["bundle_root"] = str(self.bundle / root)
        with_defaults(config, root)
        found: list[Finding] = []
        project = config.get("project")
        if isinstance(project, str) and not project.startswith(("$", "@")):
            inside = self.bundle / project
            found += import_project(inside if inside.is_dir() else project)
        stages = self._stages(config)
        if None in stages:
            found += unknown_run_id(self.run_id, config)
        for stage in stages:
            needed = config if stage is None else pruned(config, stage)
            walk = Walk(config, needed, stage, self.locator, _written_for(config))
            run = [self.run_id] if stage is None else ["system", "trainer", f"args{ID_SEP_KEY}{stage}"]
            for finding in check_walk(walk, [*run, *self.others, "seed"]):
                other = stage != stages[0] and finding.hint == f"Stage {stage!r} does not build it."
                found.append(Note(*finding) if other else finding)
            self.stages[stage or self.run_id] = walk.built
        return found

    def _stages(self, config: dict) -> list[str | None]:
        """Stages of a native config that have the data they need, and None for an expression that is the run."""
        if self.run_id in STAGES:
            return [self.run_id]
        if self.run_id != "run":
            return [None]
        system, arguments = config["system"], config.get("args")
        own = isinstance(system, dict) and system.get("_target_") == SYSTEM_TARGET
        loaders = system.get("dataloaders") if own else None
        modes = [mode for mode, loader in loaders.items() if loader] if isinstance(loaders, dict) else []
        named = [stage for stage in STAGES if isinstance(arguments, dict) and arguments.get(stage)]
        able = [stage for stage in STAGES if MODES_OF_STAGE[stage][0] in modes or stage in named]
        return [*(able or ["fit"]), *([None] if "run" in config else [])]

    def _engines(self, config: dict) -> list[Finding]:
        found = list(engine_findings(config))
        run_ids = [self.run_id] if self.run_id in config else other_run_ids(config, self.run_id, self.others)
        found += [] if self.run_id in run_ids else [no_run(self.run_id, config, run_ids)]
        for run_id in run_ids or [self.run_id]:
            walk = Walk(config, config, None, self.locator, _written_for(config))
            for root in (run_id, *self.others, "lightning"):
                found += walk.item(root) if root in config else ()
            self.stages[run_id] = walk.built
        for id, value in items(config):  # every import statement counts, wherever it stands
            if id not in walk.visited and (is_import(value) or breaks_imports(value)):
                found += walk.item(id)
        return found

    def _misnamed(self, config: dict, given: dict, native: bool) -> list[Finding]:
        """Items that nothing refers to and whose name is nearly one that is looked for."""
        looked_for = [
            *RUN_IDS,
            *(("system", "trainer", "args", "seed", "project") if native else ("lightning", "system")),
        ]
        absent = [name for name in looked_for if name not in config or name not in given]
        texts = [value for _, value in items([given, config]) if isinstance(value, str)]
        found = []
        for key in given:
            close = get_close_matches(str(key), absent, 1, 0.8)
            if close and key not in (*TOP_LEVEL, *RUN_IDS) and not any(f"@{key}" in t or f"%{key}" in t for t in texts):
                found.append(Finding(str(key), "nothing refers to it", f"Did you mean {close[0]!r}?"))
        return found

    def _properties(self, config: dict, native: bool) -> list[Finding]:
        unknown = unknown_type(self.workflow_type)
        kind = self.workflow_type or self._kind(config, native)
        if unknown or not kind:
            return unknown
        stage = next((stage for stage in self.stages if stage in STAGES), None) if native else None
        level = Note if self.workflow_type is None else Finding
        return [
            level(id, f"the property {name!r} ({meaning}) is not there", "MONAI requires it of a bundle of this type.")
            for name, id, meaning in missing_properties(config, kind.lower().startswith("train"), stage)
        ]

    def _kind(self, config: dict, native: bool) -> str | None:
        if native:
            return "train" if "fit" in self.stages else "infer"
        trains = locate(config, f"train{ID_SEP_KEY}trainer") is not None
        return "train" if trains else "infer" if "evaluator" in config and "trainer" not in config else None


def _written_for(config: dict) -> str | None:
    """The version of MONAI in the metadata, where it is older than the one installed."""
    version = str((config.get(ConfigParser.meta_key) or {}).get("monai_version", ""))
    numbers, installed = (re.findall(r"\d+", text)[:2] for text in (version, monai.__version__))
    return version if numbers and [*map(int, numbers)] < [*map(int, installed)] else None
