"""The one pipeline from config files to what a run resolves: read, override, expand, translate, defaults, check, prune.

`Workflow` and ``python -m monai_lighter check`` both go through it, so that what one says of a config the other says too.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from difflib import get_close_matches
from json import dumps
from pathlib import Path
from typing import Any, NamedTuple

import monai
from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.check.devices import find_absent_devices
from monai_lighter.check.engine_config import check_engines, find_missing_packages
from monai_lighter.check.label_maps import find_label_misuses
from monai_lighter.check.modules import breaks_imports, is_import
from monai_lighter.check.native_config import check_walk
from monai_lighter.check.paths import find_missing_paths
from monai_lighter.check.transforms import find_misplaced
from monai_lighter.check.untrained import find_idle_loads, find_untrained
from monai_lighter.check.walk import Built, Walk
from monai_lighter.config.items import at, copied, is_text, items, locate, mentions, plain_config
from monai_lighter.config.lighter import is_lighter, names_lighter, translated
from monai_lighter.config.overrides import Overridden, expand_macros, find_unused_overrides
from monai_lighter.config.resolver import LOCATOR
from monai_lighter.config.stages import (
    MODES_OF_STAGE,
    PROJECT,
    RUN_IDS,
    STAGES,
    TOP_LEVEL,
    add_defaults,
    checks_data,
    find_absent_ids,
    find_absent_run,
    find_other_run_ids,
    find_unknown_type,
    has_model_section,
    is_native,
    pruned,
)
from monai_lighter.errors import Finding, Note
from monai_lighter.trust.enforce import Trust
from monai_lighter.workflow.aliases import install_aliases, remove_aliases
from monai_lighter.workflow.project import find_marked, import_project, make_importable
from monai_lighter.workflow.properties import find_missing_properties

__all__ = ["Asked", "Prepared"]


class Asked(NamedTuple):
    """What is to be done with a config.

    Attributes:
        run_id: a stage (``fit``, ``validate``, ``test``, ``predict``), or the id of an expression.
        init_id: id of the expressions that come before it.
        final_id: id of the expressions that come after it.
        stages: the stages of a native config, None among them for an expression that is the run; by default all that the config
            has data for where ``run_id`` is ``run``, else the one that it names.
        known: top-level items that are used with nothing in the config referring to them, beside those that every config has.
        workflow_type: ``train`` or ``infer``, whose properties must be there; with None, what is missing is a note.
    """

    run_id: str = "run"
    init_id: str = "initialize"
    final_id: str = "finalize"
    stages: Sequence[str | None] | None = None
    known: Collection[str] = ()
    workflow_type: str | None = None


class Prepared:
    """A config as a run has it, and all that is wrong with it. Nothing of it is built, and no expression is run.

    Modules are imported as far as targets are looked for in them, those of the bundle among them.

    Args:
        parser: with the files read and the overrides set; it is not changed.
        overridden: what the overrides did.
        bundle: absolute path of the bundle.
        asked: what is to be done with the config.
        doubles: findings about keys that stand twice in a file, of which MONAI takes the last.
        trust: what the config may do.
        place: file and line of an item, for what is not covered by the trust.

    Raises:
        ConfigError: the config is not covered by the trust. Nothing of the bundle has been imported then.

    Attributes:
        config: the whole of it, macros expanded; of a native config also translated and with defaults.
        saved: a native config of plain values, as it is saved with a run: before the defaults.
        native: whether it has a ``system`` section.
        needed: stage, or run id, to what of the config it resolves.
        built: stage, or run id, to the components that it would build, in order.
        absent: a finding where the run id is no item of the config.
        untrained: a note where no stage trains the network and the first of them has no weights for it.
        errors: what is wrong.
        left: those of the errors that a run of MONAI's engines leaves to MONAI, since code may yet mend them where it cannot be
            seen here (a class that a script adds, an item that is disabled then). All others end a run.
        here: those of the notes that keep a run from starting on this machine: devices that it does not have.
        notes: what is worth knowing and need not be wrong.
        warnings: those of the notes that a run says too: packages that are not installed, and ``unused``.
        unused: overrides of a config of engines that nothing refers to, which a run says again at its end; those of a native
            config are errors.
    """

    def __init__(
        self,
        parser: ConfigParser,
        overridden: Overridden,
        bundle: Path,
        asked: Asked,
        doubles: Iterable[Finding] = (),
        trust: Trust | None = None,
        place: Callable[[str], Any] = lambda id: "",
    ) -> None:
        self.bundle, self.asked, self.overridden = bundle, asked, overridden
        self.saved: dict[str, Any] = {}
        self.needed: dict[str, dict] = {}
        self.built: dict[str, list[Built]] = {}
        self.absent: Finding | None = None
        self.untrained: Note | None = None
        self._sure: list[Finding] = []
        self._idle: list[Note] = []
        trust = trust or Trust(None, bundle)
        working = ConfigParser(copied(parser.get()))
        working.locator = LOCATOR
        given = copied(working.get())
        broken = expand_macros(working, bundle if is_native(given) else None, trust.require_counted_macros)
        of_model, imports_lighter = has_model_section(working.get()), is_native(given) and is_lighter(working.get())
        self._of_lighter = of_model or names_lighter(working.get())
        if is_native(working.get()):
            working.set(translated(working.get()))
        if of_model and trust.imports_bundle and working.get(PROJECT) is None:
            working.get().update({PROJECT: marked} if (marked := find_marked(bundle)) else {})
        trust.require(working, place)
        remove_aliases()
        if trust.imports_bundle:
            make_importable(bundle)
            if imports_lighter:
                install_aliases(of_model)
        self.config: dict[str, Any] = working.get()
        self.native = is_native(self.config)
        found = [*overridden.findings, *broken, *self._without_consequences(broken)]
        twice = [Finding(*one) if self.native else Note(*one) for one in doubles]  # Ignite runs such a config
        meta = self.config.get(ConfigParser.meta_key) or {}
        unused = self._unused(given)
        self.unused = [one for one in unused if isinstance(one, Note)]
        told = [*twice, *unused, *self._idle, *find_missing_packages(meta), *self._misplaced_root()]
        self.warnings = [one for one in told if isinstance(one, Note)]
        found += [*told, *self._misnamed(given), *find_missing_paths(plain_config(given), bundle), *self._properties()]
        devices = list(find_absent_devices(self.config, "trainer" if self.native else "lightning"))
        self.here = [one for one in devices if isinstance(one, Note)]
        found = list(dict.fromkeys([*found, *devices, *find_absent_ids(asked.init_id, asked.final_id, self.config)]))
        self.errors = [finding for finding in found if not isinstance(finding, Note)]
        self.notes = [finding for finding in found if isinstance(finding, Note)]
        sure = {*overridden.findings, *broken, *self._sure, *devices}
        self.left = [] if self.native else [error for error in self.errors if error not in sure]

    def _without_consequences(self, broken: list[Finding]) -> Iterator[Finding]:
        """Findings of the check, but for references to items that a macro could not be expanded to."""
        lost = [f"`@{finding.id}" for finding in broken]
        for finding in self._native() if self.native else self._advise():
            if not any(reference in finding.problem for reference in lost):
                yield finding

    def _native(self) -> list[Finding]:
        config: Any = self.config
        self.saved = plain_config(config)
        if "bundle_root" not in self.overridden.ids:
            config["bundle_root"] = self._inside(config.get("bundle_root", "."))
        add_defaults(config, config["bundle_root"])
        found: list[Finding] = []
        project = config.get(PROJECT)
        if is_text(project):
            folders = (Path.cwd(), self.bundle) if self._of_lighter else (self.bundle, Path.cwd())
            found += import_project(project, folders)
        stages = list(self.asked.stages or self._stages())
        visited: set[str] = set()
        for stage in stages:
            needed = config if stage is None else pruned(config, stage)
            walk = Walk(config, needed, stage, LOCATOR, _written_for(config))
            for finding in check_walk(walk, self._roots(stage)):
                other = stage != stages[0] and finding.hint == f"Stage {stage!r} does not build it."
                found.append(Note(*finding) if other else finding)
            for id, value in walk.read.items():
                _set(needed, id, value)
            visited |= walk.visited
            name = stage or self.asked.run_id
            self.needed[name], self.built[name] = needed, walk.built
            self.untrained = self.untrained or (find_untrained(walk) if "fit" not in stages else None)
        found += [self.untrained] if self.untrained else []
        self._idle = [] if self.untrained else list(find_idle_loads(config, visited))
        if None in stages:
            self.absent = find_absent_run(self.asked.run_id, config)
        return found

    def _inside(self, path: Any) -> Any:
        """A relative path of a config is one in the bundle, wherever the command is run."""
        return str(self.bundle / path) if is_text(path) and not Path(path).is_absolute() else path

    def _roots(self, stage: str | None) -> list[str]:
        """Ids that a run resolves."""
        run = [self.asked.run_id] if stage is None else ["system", "trainer", f"args{ID_SEP_KEY}{stage}"]
        return [*run, self.asked.init_id, self.asked.final_id, "imports", "seed"]

    def _stages(self) -> list[str | None]:
        """Stages of a native config that have the data they need, and None for an expression that is the run."""
        config, run_id = self.config, self.asked.run_id
        if run_id in STAGES:
            return [run_id]
        if run_id != "run":
            return [None]
        system, arguments = config["system"], config.get("args")
        loaders = system.get("dataloaders") if isinstance(system, dict) else None
        by_mode = loaders if isinstance(loaders, dict) and "_target_" not in loaders else {}
        own = bool(by_mode)  # it is a System, or of a class derived from it
        modes = [mode for mode, loader in by_mode.items() if loader]
        given = arguments if isinstance(arguments, dict) else {}
        named = [stage for stage in STAGES if given.get(stage) and not (own and _has_no_data(given[stage]))]
        able = [stage for stage in STAGES if MODES_OF_STAGE[stage][0] in modes or stage in named]
        return [*(able or ["fit"]), *([None] if "run" in config else [])]

    def _advise(self) -> list[Finding]:
        """Findings about a config of engines, which keep no run from starting, and neither must what Python makes of them."""
        try:
            return self._engines()
        except (
            SystemError
        ) as error:  # "AST constructor recursion depth mismatch", now and then, of Python 3.11's own parser
            return [*self._sure, Note("config", f"was not checked to its end: {error}", "Check it again.")]

    def _engines(self) -> list[Finding]:
        config, (run_id, *others) = self.config, self.asked[:3]
        found = self._sure = list(check_engines(config))
        run_ids = [run_id]
        if run_id not in config:
            run_ids = find_other_run_ids(config, others) if run_id == "run" else []
            self.absent = find_absent_run(run_id, config, run_ids)
        scripted = any(next(self.bundle.glob(each), None) for each in ("*.py", "*/*.py"))
        for each in run_ids or [run_id]:
            walk = Walk(config, config, None, LOCATOR, _written_for(config), lenient=True, scripted=scripted)
            for root in (each, *others, "lightning"):
                found = [*found, *(walk.item(root) if root in config else ())]
            found += [*find_misplaced(walk), *find_label_misuses(walk)]
            found += [Note(*finding) for finding in walk.misread]  # Ignite would hand the text on
            for id, value in walk.read.items():
                problem = f"the text {at(config, id)!r} is handed on where {value!r} may be meant"
                found.append(Note(id, problem, f"Write {dumps(value)}, without quotes."))
            self.needed[each], self.built[each] = config, walk.built
        for id, value in items(config):  # every import statement counts, wherever it stands
            if id not in walk.visited and (is_import(value) or breaks_imports(value)):
                found += walk.item(id)
        return found

    def _unused(self, given: dict) -> list[Finding]:
        """Overrides that change nothing: a native run that goes on with the value that was there is not the one asked for."""
        properties = find_missing_properties({}, self._trains, self._first_stage)
        known = {*TOP_LEVEL, *RUN_IDS, *self.asked[:3], *self.asked.known, *(one.id for one in properties)}
        known |= {"data"} if self.native and checks_data(self.config) else set()
        unused = find_unused_overrides([given, self.config], self.overridden.added, known)
        return [finding if self.native else Note(*finding) for finding in unused]

    def _misplaced_root(self) -> Iterator[Note]:
        """A relative ``bundle_root`` of a config of engines is one in the working directory, which must not be ``configs``."""
        root = self.config.get("bundle_root")
        inside = Path.cwd() == self.bundle / "configs"
        if not self.native and inside and is_text(root) and not Path(root).is_absolute():
            hint = f"Run the command in {self.bundle}, or give --bundle_root {shlex.quote(str(self.bundle))}."
            yield Note("bundle_root", f"{root!r} is {Path(root).resolve()} here, in the folder of the configs", hint)

    def _misnamed(self, given: dict) -> Iterator[Finding]:
        """Items that nothing refers to and whose name is nearly one that is looked for."""
        sections = ("system", "trainer", "args", "seed", "project") if self.native else ("lightning", "system")
        absent = [name for name in (*RUN_IDS, *sections) if name not in self.config or name not in given]
        texts = [value for _, value in items([given, self.config]) if isinstance(value, str)]
        for key in given:
            close = get_close_matches(str(key), absent, 1, 0.8)
            if close and key not in (*TOP_LEVEL, *RUN_IDS) and not any(mentions(text, str(key)) for text in texts):
                level = Finding if self.native else Note  # which Ignite runs
                yield level(str(key), "nothing refers to it", f"Did you mean {close[0]!r}?")

    @property
    def _first_stage(self) -> str | None:
        """The first of the stages; None for a config of MONAI's engines."""
        return next((stage for stage in self.built if stage in STAGES), "fit") if self.native else None

    @property
    def _trains(self) -> bool | None:
        """Whether it is a training workflow rather than an inference workflow; None where it is neither."""
        if self.asked.workflow_type is not None:
            return self.asked.workflow_type.lower().startswith("train")
        if self.native:
            return "fit" in self.built
        if locate(self.config, f"train{ID_SEP_KEY}trainer") is not None:
            return True
        return False if "evaluator" in self.config and "trainer" not in self.config else None

    def _properties(self) -> Iterator[Finding]:
        unknown = find_unknown_type(self.asked.workflow_type)
        yield from unknown
        if unknown:
            return
        level = Note if self.asked.workflow_type is None else Finding
        hint = "MONAI requires it of a bundle of this type."
        for one in find_missing_properties(self.config, self._trains, self._first_stage):
            if one.required:
                yield level(one.id, f"the property {one.name!r} ({one.meaning}) is not there", hint)


def _has_no_data(arguments: Any) -> bool:
    """Whether arguments of a stage are for data that it has elsewhere."""
    return isinstance(arguments, dict) and not any("data" in str(name) for name in arguments)


def _set(config: Any, id: str, value: Any) -> None:
    parent, _, key = id.rpartition(ID_SEP_KEY)
    section = at(config, parent) if parent else config
    section[int(key) if isinstance(section, list) else key] = value


def _written_for(config: dict) -> str | None:
    """The version of MONAI in the metadata, where it is older than the one installed."""
    version = str((config.get(ConfigParser.meta_key) or {}).get("monai_version", ""))
    numbers, installed = (re.findall(r"\d+", text)[:2] for text in (version, monai.__version__))
    return version if numbers and [*map(int, numbers)] < [*map(int, installed)] else None
