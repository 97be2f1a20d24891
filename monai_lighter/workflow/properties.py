"""MONAI's bundle properties on native configs."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties
from monai.bundle.utils import ID_SEP_KEY
from monai.inferers import SimpleInferer
from monai.utils import BundleProperty, BundlePropertyConfig, optional_import

from monai_lighter.config.items import locate, normalize, plain_config
from monai_lighter.config.stages import MODES, MODES_OF_STAGE

__all__ = [
    "MissingProperty",
    "MissingPropertyError",
    "PropertiesWorkflow",
    "find_missing_properties",
    "make_native_properties",
    "set_item",
]

_, has_engines = optional_import("ignite.engine")
if has_engines:
    from monai_lighter.engines import stage_engines

TRAIN_IDS = {
    "trainer": "trainer",
    "max_epochs": "trainer::max_epochs",
    "train_dataset": "system::dataloaders::train::dataset",
    "train_dataset_data": "system::dataloaders::train::dataset::data",
    "train_inferer": "system::inferer::train",
    "train_handlers": "trainer::callbacks",
    "train_preprocessing": "system::dataloaders::train::dataset::transform",
    "train_postprocessing": "system::postprocessing::train",
    "train_key_metric": "system::metrics::train",
    "evaluator": "trainer",
    "val_interval": "trainer::check_val_every_n_epoch",
    "val_handlers": "trainer::callbacks",
    "val_dataset": "system::dataloaders::val::dataset",
    "val_dataset_data": "system::dataloaders::val::dataset::data",
    "val_inferer": "system::inferer::val",
    "val_preprocessing": "system::dataloaders::val::dataset::transform",
    "val_postprocessing": "system::postprocessing::val",
    "val_key_metric": "system::metrics::val",
}
IMPLIED = ("device", "trainer", "evaluator", "train_inferer", "val_inferer", "inferer")
"""Properties that a native config need not write out."""
ENGINES = ("trainer", "evaluator")
INFER_IDS = {
    "evaluator": "trainer",
    "dataset": "system::dataloaders::{mode}::dataset",
    "dataset_data": "system::dataloaders::{mode}::dataset::data",
    "inferer": "system::inferer::{mode}",
    "handlers": "trainer::callbacks",
    "preprocessing": "system::dataloaders::{mode}::dataset::transform",
    "postprocessing": "system::postprocessing::{mode}",
    "key_metric": "system::metrics::{mode}",
}


class MissingPropertyError(AttributeError, KeyError):
    """A required property that the config does not have; ``hasattr`` and ``check_properties`` then say so."""

    __str__ = Exception.__str__


def make_native_properties(properties: dict, config: dict, workflow_type: str | None, stage: str) -> dict[str, Any]:
    """Give MONAI's properties the ids that they have in a native config.

    Args:
        properties: as ``BundleWorkflow`` has them; not changed.
        config: native config.
        workflow_type: ``train``, ``infer`` or None.
        stage: whose mode ``dataset``, ``inferer``, … of an inference workflow mean.
    """
    mode = MODES_OF_STAGE[stage][-1]
    ids = TRAIN_IDS if workflow_type == "train" else INFER_IDS
    native = deepcopy(properties)
    for name, entry in native.items():
        if name in ids:
            entry[BundlePropertyConfig.ID] = ids[name].format(mode=mode)
            entry.pop(BundlePropertyConfig.REF_ID, None)
        elif name == "network_def" and "network_def" not in config:
            entry[BundlePropertyConfig.ID] = "system::model"
    return native


class MissingProperty(NamedTuple):
    """A property of MONAI's that a config does not have: its name, config id and meaning, and whether MONAI requires it."""

    name: str
    id: str
    meaning: str
    required: bool


def find_missing_properties(config: dict, train: bool | None, stage: str | None) -> Iterator[MissingProperty]:
    """Properties that a config does not have and need not imply.

    Args:
        config: macros expanded; properties of the metadata are looked for where it has some.
        train: whether it is a training workflow; else an inference workflow; None for one that is neither, with no properties.
        stage: of a native config; None for a config of MONAI's engines.
    """
    wanted: dict[str, Any] = {} if train is None else {**(TrainProperties if train else InferProperties)}
    if stage is not None:
        wanted = make_native_properties(wanted, config, "train" if train else "infer", stage)
        wanted = {name: entry for name, entry in wanted.items() if name not in IMPLIED}
    if wanted and config.get(ConfigParser.meta_key):
        wanted.update(MetaProperties)
    for name, entry in wanted.items():
        id = normalize(entry[BundlePropertyConfig.ID])
        if locate(config, id) is None:
            required = bool(entry.get(BundleProperty.REQUIRED, False))
            yield MissingProperty(name, id, entry[BundleProperty.DESC].rstrip("."), required)


def _find_implied(parser: ConfigParser, name: str, id: str) -> Any:
    """The value of a property that a native config need not write out: the Trainer's device, the one inferer of several modes.

    Returns:
        None where the property has no such value, or stands in the config.
    """
    if name == "device" and "device" not in parser:
        return parser.get_parsed_content("trainer").strategy.root_device
    if not name.endswith("inferer") or locate(parser.get(), id) is not None:
        return None
    shared = name != "train_inferer" and "system::inferer" in parser
    one = parser.get_parsed_content("system::inferer") if shared else None
    return SimpleInferer() if one is None or isinstance(one, dict) else one


def _set_property(parser: ConfigParser, name: str, id: str, value: Any) -> None:
    """Sets an item (`set_item`), but for a device that no item of the config names: it is the Trainer's."""
    if name == "device" and "device" not in parser:
        device = torch.device(value)
        id, value = "trainer::accelerator", device.type
        if device.index is not None:
            set_item(parser, "trainer::devices", [device.index])
    set_item(parser, id, value)


def set_item(parser: ConfigParser, id: str, value: Any) -> None:
    """Set an item where it really stands: whole-item references on the way are followed, missing sections made.

    One inferer for all modes becomes one for each where that of a mode is set.
    """
    section, _, mode = id.rpartition(ID_SEP_KEY)
    if section == "system::inferer" and mode in MODES:
        present = locate(parser.get(), section)
        one = None if present is None else parser.get(present)
        if one is not None and (not isinstance(one, dict) or "_target_" in one):
            parser.set(dict.fromkeys(MODES[1:], one), f"{locate(parser.get(), 'system')}::inferer")
    parser.set(value, locate(parser.get(), id) or id, recursive=True)


class PropertiesWorkflow(ConfigWorkflow):
    """`ConfigWorkflow` whose properties are those of a native config too.

    Its ``trainer`` and ``evaluator`` are MONAI's engines then (`StageTrainer`, `StageEvaluator`), with the attributes of
    Lightning's Trainer beside their own; without pytorch-ignite they are Lightning's Trainer itself.

    Args:
        arguments: of ``ConfigWorkflow``.
        keywords: of ``ConfigWorkflow``.

    Attributes:
        native: whether the config is one; False until a subclass that has read it says otherwise.
        config: the whole of a native config, of plain values, as it is saved with the run; empty until it is known.
        by_hand: whether Python calls the stages by their names, and so gets Lightning's Trainer rather than an engine.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.native = False
        self.config: dict[str, Any] = {}
        self.by_hand = False
        self._given: dict[str, Any] = {}
        self._stage_of_type = "predict"

    def _get_prop_id(self, name: str, property: dict) -> Any:
        wanted = property[BundlePropertyConfig.ID]
        id = locate(self.parser.get(), wanted) if self.native else wanted if wanted in self.parser else None
        if id is None and property.get(BundleProperty.REQUIRED, False):
            raise MissingPropertyError(f"property {name!r} with config ID {wanted!r} is not in the config.")
        return id

    def _get_property(self, name: str, property: dict) -> Any:
        if self.native and self._is_initialized:
            value = _find_implied(self.parser, name, property[BundlePropertyConfig.ID])
            if value is not None:
                return value
        value = super()._get_property(name, property)
        engine = self.native and name in ENGINES and has_engines and not self.by_hand
        return self._stage_engine(name, value) if engine else value

    def _stage_engine(self, name: str, trainer: Any) -> Any:
        """To MONAI, a trainer and an evaluator are engines: one of each for the Trainer of the config."""
        known: dict[str, Any] = vars(self).setdefault("_engines", {})
        if name not in known or known[name][0] is not trainer:
            stage = "fit" if name == "trainer" else "validate" if self.workflow_type == "train" else self._stage_of_type
            system = self.parser.get_parsed_content("system")
            known[name] = (
                trainer,
                stage_engines.make_stage_engine(stage, trainer, system, self._stage_arguments(stage)),
            )
        return known[name][1]

    def _stage_arguments(self, stage: str) -> dict[str, Any]:
        """Keywords for the Trainer's method of a stage: ``args`` of the config."""
        id = locate(self.parser.get(), f"args{ID_SEP_KEY}{stage}")
        arguments = dict(self.parser.get_parsed_content(id) or {}) if id is not None else {}
        return {"return_predictions": False, **arguments} if stage == "predict" else arguments

    def _set_property(self, name: str, property: dict, value: Any) -> None:
        if not self.native:
            return super()._set_property(name, property, value)
        id = property[BundlePropertyConfig.ID]
        _set_property(self.parser, name, id, value)
        if self.config:
            saved, given = ConfigParser(self.config), ConfigParser(self._given)
            _set_property(saved, name, id, value)
            _set_property(given, name, id, value)
            self.config, self._given = plain_config(saved.get()), given.get()
        self._is_initialized = False
        self.parser.ref_resolver.reset()
        return None
