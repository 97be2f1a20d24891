"""The MONAI workflow that runs a bundle on PyTorch Lightning."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import monai.bundle
from lightning.pytorch import LightningModule, Trainer, seed_everything
from monai.bundle.utils import ID_SEP_KEY
from monai.config import PathLike
from monai.utils import BundlePropertyConfig, ensure_tuple, optional_import, set_determinism

from monai_lighter.config.files import bundle_folder, config_files, config_root, files_of_run, unreadable
from monai_lighter.config.items import at, locate
from monai_lighter.config.overrides import apply_overrides, find_lost
from monai_lighter.config.positions import Positions
from monai_lighter.config.resolver import LOCATOR, Resolver
from monai_lighter.config.stages import MODES_OF_STAGE, STAGES, checks_data, is_native
from monai_lighter.data.integrity import require_sound_cases
from monai_lighter.errors import ConfigError, Finding, is_command, print_errors_briefly
from monai_lighter.errors.cases import name_cases
from monai_lighter.errors.context import advised, explained, missing_file_hints
from monai_lighter.system.datasets import count_items, describe_old_cache
from monai_lighter.system.profiler import PassThroughProfiler
from monai_lighter.system.tensors import as_list
from monai_lighter.trust.digest import log_digest
from monai_lighter.trust.enforce import Trust, refuse_trust_of_file
from monai_lighter.workflow.logging_conf import applied_for_monai
from monai_lighter.workflow.prepare import Asked, Prepared
from monai_lighter.workflow.properties import PropertiesWorkflow, native_properties
from monai_lighter.workflow.tracking import SETTINGS, SaveConfig, add_tracking, save_executed, tracking_settings

__all__ = ["Workflow"]

_, has_engines = optional_import("ignite.engine")
if has_engines:  # an error of our own must be seen, else Ignite would run
    from monai_lighter.engines import adopt as engines

logger = logging.getLogger(__name__)

STAGE_OF_TYPE = {"train": "fit", "training": "fit", "eval": "test", "evaluation": "test"}
"""Workflow types of ``BundleWorkflow`` and the stage each runs; the others are inference: ``predict``."""


class Workflow(PropertiesWorkflow):
    """``monai.bundle.ConfigWorkflow`` on PyTorch Lightning.

    A native config has a ``system`` section (`System`) and a ``trainer`` section (``lightning.pytorch.Trainer``). Its run ids
    ``fit validate test predict`` are Lightning's stages; any other id is an expression of the config, as in MONAI. With the
    default run id and no ``run`` in the config, the stage follows from ``workflow_type``.

    The config is read, overridden, its macros expanded, checked, pruned to what the stage needs, and only then resolved. The
    whole of it is saved with the run: ``config.yaml`` in the log directory, and the hyperparameters of checkpoints.

    Beside MONAI's arguments a native config may have ``seed`` (torch, numpy, python, MONAI transforms and workers), ``project``
    (a directory of custom modules, in the bundle or where the command is run, imported as ``project``) and ``args`` (keywords
    of the Trainer's methods, by stage). A relative ``bundle_root`` of a native config is relative to the bundle, wherever the
    command is run; one given as an override is relative to where it is run.

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
        override: id (``trainer::max_epochs``) to the value that takes the place of the config's.

    Raises:
        ConfigError: a config file that cannot be read; from `initialize`, all that is wrong in the config and the overrides.
    """

    def __init__(
        self,
        config_file: str | Sequence[str],
        meta_file: str | Sequence[str] | None = None,
        logging_file: str | bool | None = None,
        init_id: str = "initialize",
        run_id: str = "run",
        final_id: str = "finalize",
        tracking: str | dict | None = None,
        workflow_type: str | None = "train",
        properties_path: PathLike | None = None,
        trust: str | None = None,
        **override: Any,
    ) -> None:
        if is_command():
            print_errors_briefly()
            refuse_trust_of_file(trust)
        files = config_files(config_file)
        granted = Trust(trust, bundle_folder(files), files_of_run(files, meta_file, logging_file))
        try:
            with applied_for_monai(config_root(files), logging_file) as no_file:
                super().__init__(
                    files, meta_file, no_file, init_id, run_id, final_id, None, workflow_type, properties_path
                )
        except Exception as error:
            raise unreadable(files, error, meta_file) from error
        self.bundle_path = bundle_folder(files)
        self.parser.locator = LOCATOR
        self.native = is_native(self.parser.get())
        override.update(_recover_lost(override, self.native))
        self._overridden = apply_overrides(self.parser, override)
        self._trust, self._positions = granted, Positions(ensure_tuple(files), override)
        self._absent: Finding | None = None
        self._untrained: Finding | None = None
        self._prepared = False
        self._advice: list[Finding] = []
        self._parts: dict[str, Any] = {}
        self._sources: dict[str, Any] = {}
        self._datasets: dict[str, str] = {}
        self._old_caches: set[str] = set()
        if tracking is not None and self.native:
            add_tracking(self.parser.get(), tracking)
        elif tracking is not None:
            self.patch_bundle_tracking(parser=self.parser, settings=tracking_settings(tracking))
        self._tracked = tracking is not None and self.native
        type_stage = STAGE_OF_TYPE.get((workflow_type or "").lower(), "predict")
        by_type = run_id == "run" and "run" not in self.parser
        self.stage = None if not self.native else run_id if run_id in STAGES else type_stage if by_type else None
        self._stage_of_type = "validate" if (self.stage or type_stage) == "fit" else self.stage or type_stage
        if self.native:
            self.properties = native_properties(
                self.properties, self.parser.get(), self.workflow_type, self.stage or type_stage
            )
        self.parser.ref_resolver = Resolver(
            built=self._built if self.native else partial(engines.adopt_engines, self.parser) if has_engines else None
        )

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
        self._absent, self._untrained = prepared.absent, prepared.untrained
        if self.native:
            self.config = prepared.saved
            self.parser.set(prepared.needed[self.stage or self.run_id])
            self._datasets = _find_datasets(self.parser.get(), self.stage)
        elif not self._trust.is_all:
            self.parser.set(prepared.config)  # what was judged, so that no macro is read again

    def _run_expr(self, id: str, **kwargs: Any) -> list[Any]:
        on_lightning = nullcontext() if self.native or not has_engines else engines.on_lightning(self.parser)
        with missing_file_hints(self.bundle_path), advised(self._advice), on_lightning:
            return super()._run_expr(id, **kwargs)

    def _built(self, id: str, value: Any) -> None:
        """What the run owes its system and trainer, whether a stage or an expression uses them; no data of a stage are empty.

        Raises:
            ConfigError: a dataset with no items, or a loader with no batches.
        """
        if id in self._datasets and count_items(value) == 0:
            where = f" They are those of {id}." if id != self._datasets[id] else ""
            hint = f"Mend its list of cases, or leave the loader out.{where}"
            raise ConfigError([Finding(self._datasets[id], f"has no items, which stage {self.stage!r} needs", hint)])
        old = describe_old_cache(value)
        if old is not None and old not in self._old_caches:  # which references hand on
            self._old_caches.add(old)
            logger.warning(f"{id}: {old}")
        if id in ("system", "trainer"):
            self._parts[id] = value
        if id == "system" and self.stage is not None:
            empty = [*_find_without_batches(value, self.parser.get(), self.stage)]
            if empty:
                raise ConfigError(empty)
        if id == "system":
            if isinstance(value, LightningModule) and not value.hparams:
                value.save_hyperparameters(self.config)
            self._sources.update(name_cases(value))
        elif id == "trainer" and isinstance(value, Trainer):
            value.callbacks.append(SaveConfig(self.config))  # type: ignore[attr-defined]
            PassThroughProfiler.into(value)

    def run(self) -> list[Any]:
        """Runs the stage, or the expressions of the run id, and gives their results.

        Raises:
            ConfigError: the run id is neither a stage of this config nor one of its items; with ``data: check``, what is
                wrong with its cases.
            ComponentError: what a part of the config raised when it was built.
            CaseError: what a case raised when it was read or transformed.
        """
        if not self._is_initialized:
            self.initialize()
        if self._absent is not None:
            raise ConfigError([self._absent])
        log_digest(self.bundle_path)
        if self._checks_data():
            require_sound_cases(self.parser.get(), MODES_OF_STAGE["fit"])
        with explained(self._parts, self._sources):
            if self.stage is None:
                return self._run_expr(id=self.run_id)
            with missing_file_hints(self.bundle_path):
                return [self._run_stage(self.stage)]

    def _checks_data(self) -> bool:
        """Whether the config has its cases checked before the fit that this run is."""
        fits = self.stage == "fit" or (self.stage is None and ".fit(" in str(self.parser.get(self.run_id)))
        return self.native and fits and checks_data(self.parser.get())

    def _run_stage(self, stage: str) -> Any:
        untouched = (
            locate(self.parser.get(), f"system{ID_SEP_KEY}model") not in self.parser.ref_resolver.resolved_content
        )
        system = self.parser.get_parsed_content("system")
        if self._untrained is not None and untouched and [*system.model.parameters()]:  # else weights may have been set
            logger.warning(str(self._untrained))
        trainer = self.parser.get_parsed_content("trainer")
        arguments = self._stage_arguments(stage)
        if self._tracked:
            save_executed(self.parser, self.config)
        try:
            return getattr(trainer, stage)(system, **arguments)
        except KeyError as error:
            if error.args != ("pytorch-lightning_version",):
                raise
            problem = f"must be a checkpoint of Lightning, not weights alone, got {arguments['ckpt_path']!r}"
            hint = "Weights are loaded where the model is: see monai_lighter.load_weights."
            raise ConfigError([Finding(f"args::{stage}::ckpt_path", problem, hint)]) from error


def _recover_lost(override: dict[str, Any], native: bool) -> dict[str, None]:
    """Overrides that are None, which ``monai.bundle`` leaves out; of a config of engines they are named alone."""
    own = inspect.signature(monai.bundle.run).parameters
    lost = find_lost(sys.argv[1:], {*own, *override}) if is_command() else []
    for id in () if native else lost:
        logger.warning(f"{id}: monai.bundle leaves out an override that is None, so the config's own value stays.")
    return dict.fromkeys(lost) if native else {}


def _find_datasets(config: dict, stage: str | None) -> dict[str, str]:
    """Where the datasets of a stage's loaders stand, to the ids by which the system has them."""
    found = {}
    for id in _find_loaders(config, stage):
        where = locate(config, id)
        section = at(config, where) if where is not None else None
        names = [] if not isinstance(section, dict) or "_target_" in section else section
        for each in (id, *(f"{id}{ID_SEP_KEY}{name}" for name in names)):  # of one loader, or of several
            each = f"{each}{ID_SEP_KEY}dataset"
            where = locate(config, each)
            if where is not None:
                found[where] = each
    return found


def _find_loaders(config: dict, stage: str | None) -> list[str]:
    """Ids of the loaders of which a stage takes batches."""
    modes = MODES_OF_STAGE[stage] if stage else ()
    limits = {mode: locate(config, f"trainer{ID_SEP_KEY}limit_{mode}_batches") for mode in modes}
    used = [mode for mode, limit in limits.items() if limit is None or at(config, limit) != 0]
    return [f"system{ID_SEP_KEY}dataloaders{ID_SEP_KEY}{mode}" for mode in used]


def _find_without_batches(system: Any, config: dict, stage: str) -> Iterator[Finding]:
    loaders = getattr(system, "dataloaders", None)
    if not isinstance(loaders, dict):
        return
    for id in _find_loaders(config, stage):
        for loader in as_list(loaders.get(id.rpartition(ID_SEP_KEY)[2])):
            if count_items(loader) == 0:
                items = count_items(getattr(loader, "dataset", None))
                problem = f"has no batches, which stage {stage!r} needs, got {items} items of data"
                if items:
                    yield Finding(id, problem, "Lower batch_size, or leave drop_last out.")
                else:
                    yield Finding(
                        f"{id}{ID_SEP_KEY}dataset", problem, "Mend its list of cases, or leave the loader out."
                    )
