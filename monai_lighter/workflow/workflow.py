"""The MONAI workflow that runs a bundle on PyTorch Lightning."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import seed_everything
from monai.bundle.utils import ID_SEP_KEY
from monai.config import PathLike
from monai.utils import BundlePropertyConfig, ensure_tuple, optional_import, set_determinism

from monai_lighter.callbacks.run_report import RunReport
from monai_lighter.callbacks.trial_record import find_trial_folder
from monai_lighter.config.composed import read_composed
from monai_lighter.config.files import (
    bundle_folder,
    config_files,
    config_root,
    explain_unreadable,
    files_of_run,
    require_files,
)
from monai_lighter.config.items import copied, locate, located, plain_config
from monai_lighter.config.overrides import apply_overrides, recover_lost
from monai_lighter.config.positions import Positions
from monai_lighter.config.resolver import LOCATOR, Resolver
from monai_lighter.config.stages import MODES_OF_STAGE, ON_BAD_CASE, SKIP, STAGES, checks_data, is_native
from monai_lighter.data.integrity import require_sound_cases
from monai_lighter.errors import ConfigError, Finding, Note, is_command, print_errors_briefly
from monai_lighter.errors.context import advised, explained, missing_file_hints
from monai_lighter.system.bad_cases import LEFT_OUT, make_tolerant
from monai_lighter.trust.digest import log_digest
from monai_lighter.trust.enforce import Trust, refuse_trust_of_file
from monai_lighter.workflow.aliases import remove_aliases
from monai_lighter.workflow.furnishing import furnish, shows_summary
from monai_lighter.workflow.logging_conf import applied_for_monai
from monai_lighter.workflow.next_commands import list_next_commands
from monai_lighter.workflow.parts import Parts
from monai_lighter.workflow.prepare import Asked, Prepared
from monai_lighter.workflow.project import find_project_folder
from monai_lighter.workflow.resume import Fit, choose_for_engines, find_place
from monai_lighter.workflow.screen import Screen
from monai_lighter.workflow.stages_workflow import StagesWorkflow, tell_what_is_left
from monai_lighter.workflow.tracking import (
    SETTINGS,
    add_tracking,
    claim_log_folders,
    read_tracking_settings,
    save_executed,
    save_for_study,
)

__all__ = ["Workflow"]

_, has_engines = optional_import("ignite.engine")
if has_engines:  # an error of our own must be seen, else Ignite would run
    from monai_lighter.engines import adopt as engines
    from monai_lighter.engines.engine_summary import print_summary
    from monai_lighter.engines.resumption import Resumption

logger = logging.getLogger(__name__)

STAGE_OF_TYPE = {"train": "fit", "training": "fit", "eval": "test", "evaluation": "test"}
"""Workflow types of ``BundleWorkflow`` and the stage each runs; the others are inference: ``predict``."""


class Workflow(StagesWorkflow):
    """``monai.bundle.ConfigWorkflow`` on PyTorch Lightning.

    A native config has a ``system`` section (`System`) and a ``trainer`` section (``lightning.pytorch.Trainer``). Its run ids
    ``fit validate test predict`` are Lightning's stages; any other id is an expression of the config, as in MONAI. With the
    default run id and no ``run`` in the config, the stage follows from ``workflow_type``.

    The config is read, overridden, its macros expanded, checked, pruned to what the stage needs, and only then resolved. The
    whole of it is saved with the run: ``config.yaml`` in the log directory, and the hyperparameters of checkpoints.

    Beside MONAI's arguments a native config may have ``seed`` (torch, numpy, python, MONAI transforms and workers), ``project``
    (a directory of custom modules, in the bundle or where the command is run, imported as ``project``) and ``args`` (keywords
    of the Trainer's methods, by stage). A relative ``bundle_root`` of a native config is relative to the bundle, wherever the
    command is run; one given as an override is relative to where it is run. The file of a macro
    (``%configs/common.yaml::spacing``) is one in the bundle too; where the bundle has none, in the working directory.

    ``resume`` of a native config (``resume="auto"``, ``--resume auto``) goes on with a fit: ``auto`` from the newest whole
    checkpoint of its folders, or anew where there is none; ``force`` also where that is of another config; or from a path.

    With ``skip_existing: true`` (``--skip_existing true``) a prediction leaves out the cases whose outputs an earlier one, with
    this config and these weights, has written, and which are whole.

    With ``data: check`` a native config has every case of training and validation read before a fit: what ``check --data``
    finds wrong ends the run, notes are logged.

    Attributes:
        bundle_path: absolute path of the bundle: the folder above ``configs``, or the folder of the config.

    Args:
        config_file: path of the config, or several (a list, or joined by commas) merged in order.
        meta_file: path of the metadata, or several. Default: ``metadata.json`` beside the config.
        logging_file: path of an ini file for Python's ``logging``; False for none. Default: ``logging.conf`` beside the config.
        init_id: id of the expressions that `initialize` evaluates, before the run.
        run_id: a stage (``fit``, ``validate``, ``test``, ``predict``), or the id of the expressions that `run` evaluates.
        final_id: id of the expressions that ``finalize`` evaluates, after the run.
        tracking: ``mlflow``, a file or a dict with settings of MONAI's experiment tracking; a native config gets Lightning's
            ``MLFlowLogger``. None for no tracking.
        workflow_type: ``train``, ``training``, ``infer``, ``inference``, ``eval``, ``evaluation``: MONAI's properties of the
            workflow, and the stage where no run id is given and the config has no ``run``. None for the metadata's alone.
        properties_path: JSON file of properties in place of MONAI's own.
        trust: what the run may do: ``all``, as under MONAI; ``declarative``, the listed parts that the config names and no code;
            ``sha256:NUMBER``, code too, of the bundle with this digest (``docs/security.md``). Default: the environment's
            ``MONAI_LIGHTER_TRUST``, else ``all``.
        quiet: print errors and the result alone. Default: ``quiet`` of a native config, else false.
        verbose: print what MONAI, Lightning and other libraries say, too. Default: ``verbose`` of a native config, else false.
        override: id (``trainer::max_epochs``) to the value that takes the place of the config's.

    Raises:
        ConfigError: a config file that cannot be read; from `initialize`, all that is wrong in the config and the overrides.
    """

    def __init__(
        self,
        config_file: str | Sequence[str] | None = None,
        meta_file: str | Sequence[str] | None = None,
        logging_file: str | bool | None = None,
        init_id: str = "initialize",
        run_id: str = "run",
        final_id: str = "finalize",
        tracking: str | dict | None = None,
        workflow_type: str | None = "train",
        properties_path: PathLike | None = None,
        trust: str | None = None,
        quiet: bool | None = None,
        verbose: bool | None = None,
        **override: Any,
    ) -> None:
        if is_command():
            print_errors_briefly()
            refuse_trust_of_file(trust)
        require_files(config_file, run_id, init_id, final_id, override)
        files = config_files(config_file)
        composed = read_composed(files)
        read = composed.read if composed else []
        granted = Trust(trust, bundle_folder(files), [*files_of_run(files, meta_file, logging_file), *map(Path, read)])
        try:
            with applied_for_monai(config_root(files), logging_file, meta_file) as no_file:
                first = ensure_tuple(files)[:1] if composed else files
                super().__init__(
                    first, meta_file, no_file, init_id, run_id, final_id, None, workflow_type, properties_path
                )
        except Exception as error:
            raise explain_unreadable(files, error, meta_file) from error
        if composed:
            self.parser.set({self.parser.meta_key: self.parser.get(self.parser.meta_key, {}), **composed.content})
        self.bundle_path = bundle_folder(files)
        self.parser.locator = LOCATOR
        self.native = is_native(self.parser.get())
        self._screen = Screen.of_run(self.parser.get(), self.native, quiet, verbose)
        if is_command():
            self._screen.keep()
            granted.tell()
        self._trust, self._files, self._overrides = granted, files, {**override}
        override.update(recover_lost(override, self.native))
        self._overridden = apply_overrides(self.parser, override, self.bundle_path)
        of_lighter = composed is not None and composed.of_lighter
        self._positions = Positions(ensure_tuple(files), override, of_lighter)
        self._absent: Finding | None = None
        self._digest: Future[str] | None = None
        self._untrained: Finding | None = None
        self._unused: list[Note] = []
        self._advice: list[Finding] = []
        if tracking is not None and self.native:
            add_tracking(self.parser.get(), tracking)
        elif tracking is not None:
            self.patch_bundle_tracking(parser=self.parser, settings=read_tracking_settings(tracking))
        self._tracked = tracking is not None and self.native
        type_stage = STAGE_OF_TYPE.get((workflow_type or "").lower(), "predict")
        by_type = run_id == "run" and "run" not in self.parser
        self._set_stage(run_id if run_id in STAGES else type_stage if by_type else None, type_stage)
        adopts = has_engines and not self.native
        self.parser.ref_resolver = Resolver(built=partial(engines.adopt_engines, self.parser) if adopts else None)

    @contextmanager
    def announced(self) -> Iterator[None]:
        """Says what the config may do, and within it prints no more than was asked for: around all of a run that is a command."""
        with self._screen.show():
            self._trust.tell()
            yield

    def initialize(self) -> Any:
        """Checks the config and evaluates its ``initialize`` expressions; builds nothing else. Once, until a property is set."""
        if self._is_initialized:
            return None
        if not self._prepared:
            self._prepare()
            self._prepared = True
        else:
            self._trust.require(self.parser, self._positions.place)  # with what has been set since
        if self.native and self.parser.get("seed") is not None:
            self.parser.parse(reset=True)
            seed = int(self.parser.get_parsed_content("seed"))
            seed_everything(seed, workers=True, verbose=False)
            set_determinism(seed)
        return super().initialize()

    def _prepare(self) -> None:
        known = {entry.get(BundlePropertyConfig.ID, "") for entry in self.properties.values()}
        known.update(SETTINGS if self._tracked else ())
        stages = [self.stage] if self.native else None
        asked = Asked(self.run_id, self.init_id, self.final_id, stages, known)
        doubles, place = self._positions.doubles(), self._positions.place
        prepared = Prepared(self.parser, self._overridden, self.bundle_path, asked, doubles, self._trust, place)
        if len(prepared.errors) > len(prepared.left) or prepared.here:
            raise ConfigError([*prepared.errors, *prepared.here])
        self._advice = [*prepared.left, *prepared.notes]
        for note in (*prepared.left, *prepared.warnings):
            logger.warning(str(note))
        self._absent, self._untrained, self._unused = prepared.absent, prepared.untrained, prepared.unused
        if self.native:
            if not self._given:
                self.config, self._given = prepared.saved, copied(prepared.config)
            self.parser.set(prepared.needed[self.stage or self.run_id])
            self._screen.hide_caching(self.parser.get(), LOCATOR)
            self._build_with(self._parts.find_shared() if self._parts else {})
        elif not self._trust.is_all:
            self.parser.set(prepared.config)  # what was judged, so that no macro is read again
        save_for_study(prepared.saved or plain_config(prepared.config))

    def _run_expr(self, id: str, **kwargs: Any) -> list[Any]:
        on_lightning = nullcontext() if self.native or not has_engines else self._on_lightning()
        with missing_file_hints(self.bundle_path), advised(self._advice), on_lightning:
            return super()._run_expr(id, **kwargs)

    def _on_lightning(self) -> AbstractContextManager[None]:
        config, ids = self.parser.get(), (self.run_id, self.init_id)
        made = choose_for_engines(config, self.code_folders, self._digest, ids)
        folder = find_trial_folder() or self.bundle_path
        return engines.on_lightning(self.parser, Resumption(folder, *made) if made else None)

    @property
    def code_folders(self) -> tuple[Path, ...]:
        """Where code of the user's lies: in the bundle, in ``project``, or where the command is run."""
        return tuple(dict.fromkeys((self.bundle_path, *find_project_folder(), Path.cwd())))

    def _build_with(self, kept: dict[str, Any]) -> None:
        """Everything but what is kept is built anew."""
        commands = list_next_commands(self._files, self._overrides, self.config)
        add = partial(furnish, config=self.config, screen=self._screen, commands=commands)
        self._parts = Parts(self.stage, self.parser, self.config, add, self._parts, self.run_id, self.bundle_path)
        skips = located(self.parser.get(), f"system{ID_SEP_KEY}{ON_BAD_CASE}")[1] == SKIP
        self.parser.ref_resolver = Resolver(make_tolerant if skips else None, self._parts.take, kept)

    def run(self) -> list[Any]:
        """Runs the stage, or the expressions of the run id, and gives their results.

        Raises:
            ConfigError: the run id is neither a stage of this config nor one of its items; with ``data: check``, what is
                wrong with its cases.
            ComponentError: what a part of the config raised when it was built.
            CaseError: what a case raised when it was read or transformed.
        """
        self._start()
        with self._told():
            if self.stage is None:
                return self._run_expr(id=self.run_id)
            with missing_file_hints(self.bundle_path):
                return [self._run_stage(self.stage)]

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Within it, no more is printed than was asked for, engines end with what they came to, and errors name their part."""
        built, sources = (self._parts.built, self._parts.sources) if self._parts else ({}, {})
        shown = has_engines and not self.native and shows_summary(self.parser.get())
        summary = print_summary(shown, self._screen.quiet) if has_engines else nullcontext()
        with self._screen.show(), explained(built, sources), summary:
            yield

    def _start(self) -> None:
        """What comes before anything is run."""
        if not self._is_initialized:
            self.initialize()
        if self._absent is not None:
            raise ConfigError([self._absent])
        self._digest = log_digest(self.bundle_path)
        if self._checks_data():
            require_sound_cases(self.parser.get(), MODES_OF_STAGE["fit"])

    def finalize(self) -> Any:
        """Evaluates the ``finalize`` expressions, and says once more which overrides nothing referred to.

        Code that imports Lighter finds it no more (`install_aliases`).
        """
        try:
            results = super().finalize()
        finally:
            remove_aliases()
        for note in self._unused:
            logger.warning(str(note))
        if is_command() and self.exit_code:
            raise SystemExit(self.exit_code)
        return results

    @property
    def exit_code(self) -> int:
        """Of a command whose run came to its end: 3 where cases were left out, else 0."""
        built = self._parts.built if self._parts else {}
        bad_cases = getattr(built.get("system"), "bad_cases", None)
        first = getattr(
            built.get("trainer"), "is_global_zero", True
        )  # launchers end a run in which another process fails
        return LEFT_OUT if bad_cases is not None and first and bad_cases.read() else 0

    def _checks_data(self) -> bool:
        """Whether the config has its cases checked before the fit that this run is."""
        fits = self.stage == "fit" or (self.stage is None and ".fit(" in str(self.parser.get(self.run_id)))
        return self.native and fits and checks_data(self.parser.get())

    def _run_stage(self, stage: str, given: Mapping[str, Any] | None = None) -> Any:
        untouched = (
            locate(self.parser.get(), f"system{ID_SEP_KEY}model") not in self.parser.ref_resolver.resolved_content
        )
        system = self.parser.get_parsed_content("system")
        if self._untrained is not None and untouched and [*system.model.parameters()]:  # else weights may have been set
            logger.warning(str(self._untrained))
        trainer = self.parser.get_parsed_content("trainer")
        arguments = {**self._stage_arguments(stage), **(given or {})}
        if stage in ("validate", "test") and shows_summary(self.config):
            arguments = {"verbose": False, **arguments}  # which has the table
        if stage == "fit":
            made = Fit(self.config, self.code_folders, self._digest)
            arguments |= find_place(trainer, system, self.parser, made, arguments)
        if stage == "fit" and self.by_hand:
            tell_what_is_left(trainer)
        if not getattr(trainer, "fast_dev_run", True):
            claim_log_folders(trainer.loggers)
        if getattr(system, "bad_cases", None) is not None:
            system.bad_cases.place(
                trainer, stage
            )  # before processes are started, which would do it apart from this one
        if self._tracked:
            save_executed(self.parser, self.config)
        for callback in getattr(trainer, "callbacks", ()):
            if isinstance(callback, RunReport):
                callback.digest = self._digest
        try:
            return getattr(trainer, stage)(system, **arguments)
        except KeyError as error:
            if error.args != ("pytorch-lightning_version",):
                raise
            problem = f"must be a checkpoint of Lightning, not weights alone, got {arguments['ckpt_path']!r}"
            hint = "Weights are loaded where the model is: see monai_lighter.load_weights."
            raise ConfigError([Finding(f"args::{stage}::ckpt_path", problem, hint)]) from error
