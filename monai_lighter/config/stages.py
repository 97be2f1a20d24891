"""The sections of a native config, and which of them a stage needs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from monai.bundle import BundleWorkflow, ConfigParser
from monai.bundle.config_item import ConfigComponent
from monai.bundle.utils import ID_REF_KEY, ID_SEP_KEY
from monai.utils import ensure_tuple

from monai_lighter.config.items import at, copied, items, locate, located, mentions, normalize
from monai_lighter.config.native import BY_MODE, MODEL, STAGES, find_similar_stage, has_model_section, is_native
from monai_lighter.errors import Finding, Note, did_you_mean

__all__ = [
    "ADAPTERS",
    "BY_MODE",
    "DATA",
    "DATA_TARGET",
    "LOADERS",
    "MAX_BAD_CASES",
    "MODEL",
    "MODES",
    "MODES_OF_STAGE",
    "ON_BAD_CASE",
    "PROJECT",
    "RAISE",
    "RUN_IDS",
    "SKIP",
    "STAGES",
    "SYSTEM_TARGET",
    "TOP_LEVEL",
    "TRAINER_TARGET",
    "add_defaults",
    "checks_data",
    "find_absent_ids",
    "find_absent_run",
    "find_datasets",
    "find_engine_kinds",
    "find_loaders",
    "find_other_run_ids",
    "find_resume",
    "find_stages",
    "find_unknown_type",
    "has_model_section",
    "is_native",
    "pruned",
]

MODES_OF_STAGE = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}
MODES = ("train", "val", "test", "predict")
TOP_LEVEL = (
    *("args", "bundle_root", "lightning", "project", "quiet", "report", "resume", "run_summary"),
    *("seed", "skip_existing", "system", "trainer", "vars", "verbose"),
)
RUN_IDS = ("run", "initialize", "finalize", "imports")
"""Items of MONAI's configs that run something with nothing in the config referring to them."""
ADAPTERS = ("batch", "criterion", "metrics", "logging")
ON_BAD_CASE, MAX_BAD_CASES = "on_bad_case", "max_bad_cases"
"""Arguments of `System` for cases that cannot be read."""
RAISE, SKIP = "raise", "skip"
"""What ``on_bad_case`` may be."""
MOST_OF_HINT = 200
SYSTEM_TARGET = "monai_lighter.System"
TRAINER_TARGET = "lightning.pytorch.Trainer"
PROJECT = "project"
DATA = "data"
DATA_TARGET = "monai_lighter.LighterDataModule"
LOADERS = {mode: f"{mode}_dataloader" for mode in MODES}
"""Mode to the argument of `LighterDataModule` that is its loader."""


def checks_data(config: dict) -> bool:
    """Whether a config says ``data: check``; an item of that name with another value is the config's own."""
    return config.get("data") == "check"


def add_defaults(config: dict, bundle_root: str) -> None:
    """In place: ``_target_`` of ``system`` and ``trainer``, the bundle as the Trainer's ``default_root_dir``, and the names of
    the classes (``labels`` of the config, or ``channel_def`` of the metadata) as those of the system.

    Where one of the sections that stages are pruned in is a reference to another, it becomes a section of references, one to
    each item of the other, so that a stage can leave some of them alone.

    Args:
        config: native config, macros expanded.
        bundle_root: absolute path of the bundle.
    """
    if config.get("trainer") is None:
        config["trainer"] = {}
    of_model = has_model_section(config)
    for name in ("system", "trainer", "args"):
        _open(config, config, name)
    if of_model:  # not opened: the system is the one object that other items mean by @model
        config["system"] = f"{ID_REF_KEY}{MODEL}"
        _give_data(config)
    if isinstance(config["system"], dict):
        config["system"].setdefault("_target_", SYSTEM_TARGET)
        for key in (*BY_MODE, "inferer"):
            _open(config, config["system"], key, "system")
        if config["system"]["_target_"] == SYSTEM_TARGET and "labels" not in config["system"]:
            labels = _find_labels(config)
            config["system"].update({"labels": labels} if labels else {})
    if isinstance(config["trainer"], dict):
        config["trainer"].setdefault("_target_", TRAINER_TARGET)
        config["trainer"].setdefault("default_root_dir", bundle_root)


def _give_data(config: dict) -> None:
    """In place: the ``data`` section as the data of each stage that it has a loader for."""
    data, arguments = config.get(DATA), config.get("args")
    if data is None or not isinstance(arguments or {}, dict):
        return
    config["args"] = arguments = dict(arguments or {})
    known = isinstance(data, dict) and data.get("_target_") == DATA_TARGET
    for stage in STAGES:
        own = arguments.get(stage) or {}
        if not isinstance(own, dict) or any("data" in str(name) for name in own):
            continue
        if not known or data.get(LOADERS[MODES_OF_STAGE[stage][0]]) is not None:
            arguments[stage] = {"datamodule": f"{ID_REF_KEY}{DATA}", **own}


PLACEHOLDER = re.compile(r"(channel|class)[ _]?\d+", re.IGNORECASE)
"""Stands in metadata for a name that nobody has given."""


def _find_labels(config: dict) -> Any:
    """Names of the classes: the config's own ``labels``, else the ``channel_def`` of the prediction in its metadata."""
    own = config.get("labels")
    if _names_classes(own):
        return f"{ID_REF_KEY}labels"
    meta = config.get(ConfigParser.meta_key) or {}
    where = f"network_data_format{ID_SEP_KEY}outputs{ID_SEP_KEY}pred{ID_SEP_KEY}channel_def"
    named: Any = at(meta, where) if locate(meta, where) == where else None
    if not _names_classes(named) or all(PLACEHOLDER.fullmatch(name.strip()) for name in named.values()):
        return None
    return dict(named) if len({*named.values()}) == len(named) else None


def _names_classes(value: Any) -> bool:
    """Whether a section has whole numbers as keys and texts as values, none of which is an expression or a reference."""
    if not isinstance(value, dict) or not value or not all(str(key).isdecimal() for key in value):
        return False
    names = value.values()
    return all(isinstance(name, str) and name.strip() and name[0] not in "$@%" for name in names)


def _open(config: dict, parent: dict, key: str, above: str = "") -> None:
    id = f"{above}{ID_SEP_KEY}{key}" if above else key
    where = locate(config, id) if isinstance(parent.get(key), str) else None
    section = ConfigParser(config).get(where) if where is not None else None
    if isinstance(section, dict) and (not above or "_target_" not in section):
        parent[key] = {
            name: value if name in ConfigComponent.non_arg_keys else f"{ID_REF_KEY}{where}{ID_SEP_KEY}{name}"
            for name, value in section.items()
        }


def pruned(config: dict, stage: str) -> dict:
    """A copy of a native config with only what a stage builds.

    Kept are the modes of the stage (fit: train and val; validate: val; …), the arguments of that stage, the criterion for fit
    and validate, the optimizer and scheduler for fit. Follows ``lighter.engine.resolver.Resolver.get_stage_config``.
    """
    config = copied(config)
    modes = MODES_OF_STAGE[stage]
    system = config["system"]
    if isinstance(system, dict):
        for key in (*BY_MODE, "inferer"):
            section = system.get(key)
            if isinstance(section, dict) and "_target_" not in section:
                for mode in MODES:
                    if mode not in modes:
                        section.pop(mode, None)
        unused = {"fit": (), "validate": ("optimizer", "scheduler")}.get(stage, ("optimizer", "scheduler", "criterion"))
        for key in unused:
            system.pop(key, None)
    if isinstance(config.get("args"), dict):
        config["args"] = {stage: config["args"].get(stage) or {}}
    return config


def find_resume(config: dict) -> str | None:
    """With what a run of MONAI's engines goes on: ``resume`` of a config, a text that nothing in it refers to.

    An item that something refers to, or of another kind, is the bundle's own.
    """
    value = config.get("resume")
    own = any(mentions(text, "resume") for _, text in items(config) if isinstance(text, str))
    return value if isinstance(value, str) and value and not own else None


def find_stages(config: dict, run_id: str) -> list[str]:
    """Stages that the expressions of a run id begin with the Trainer of a native config: ``$@trainer.fit(@system)``."""
    where = locate(config, normalize(run_id))
    texts = [value for _, value in items(at(config, where)) if isinstance(value, str)] if where is not None else []
    return [stage for stage in STAGES if any(f"@trainer.{stage}(" in text for text in texts)]


def find_datasets(config: dict, stage: str) -> dict[str, str]:
    """Where the datasets of a stage's loaders stand, to the ids by which the system has them."""
    found = {}
    for id in find_loaders(config, stage):
        where = locate(config, id)
        section = at(config, where) if where is not None else None
        names = [] if not isinstance(section, dict) or "_target_" in section else section
        for each in (id, *(f"{id}{ID_SEP_KEY}{name}" for name in names)):  # of one loader, or of several
            each = f"{each}{ID_SEP_KEY}dataset"
            where = locate(config, each)
            if where is not None:
                found[where] = each
    return found


def find_loaders(config: dict, stage: str) -> list[str]:
    """Ids of the loaders of which a stage takes batches."""
    modes = MODES_OF_STAGE[stage]
    limits = {mode: locate(config, f"trainer{ID_SEP_KEY}limit_{mode}_batches") for mode in modes}
    used = [mode for mode, limit in limits.items() if limit is None or at(config, limit) != 0]
    return [f"system{ID_SEP_KEY}dataloaders{ID_SEP_KEY}{mode}" for mode in used]


RUNS = re.compile(r"\$\s*@([\w#:]+)\.run\(")
TYPES = (*BundleWorkflow.supported_train_type, *BundleWorkflow.supported_infer_type)


def find_absent_run(run_id: str, config: dict, run_ids: Sequence[str] = ()) -> Finding | None:
    """A finding where a run id is neither a stage of the config nor one of its items.

    Args:
        run_id: a stage, or the id of an item.
        config: macros expanded.
        run_ids: ids of items that would run something; with some, it is a `Note`.
    """
    native = is_native(config)
    if (native and run_id in STAGES) or locate(config, normalize(run_id)) is not None:
        return None
    problem = f"run ID {run_id!r} doesn't exist in the config file"
    if run_ids:
        return Note("run_id", problem, f"It is run by: run {run_ids[0]} …, or --run_id {run_ids[0]}.")
    stage = find_similar_stage(run_id) if native else None
    hint = did_you_mean(stage or run_id, [*config, *(STAGES if native else ())])
    if run_id in STAGES:
        hint = "A stage needs a `system` section."
    elif not native and not hint.startswith("Did"):
        hint = "A file that is merged over others is given after them: train.json,multi_gpu_train.json."
    return Finding("run_id", problem, hint)


IDS = {"init_id": "initialize", "final_id": "finalize"}
"""Arguments that name what comes before and after a run, and MONAI's defaults, which a config need not have."""
NONE = ("", "none", "null")
"""Ids by which nothing is asked for."""


def find_absent_ids(init_id: str, final_id: str, config: dict) -> Iterator[Finding]:
    """Findings for ids of what comes before and after the run at which there is nothing: MONAI goes on without a word."""
    for (name, default), id in zip(IDS.items(), (str(init_id), str(final_id)), strict=True):
        if id not in (default, *NONE) and locate(config, normalize(id)) is None:
            hint = did_you_mean(id, config)[:MOST_OF_HINT]
            if id.endswith(("]", ")", "}", ",")):
                hint = 'It is the rest of a list or section of the command line, which needs quotes: --spacing "[1, 1, 2]".'
            yield Finding(name, f"{id!r} doesn't exist in the config file", hint)


def find_unknown_type(workflow_type: str | None) -> list[Finding]:
    """A finding where a type of workflow is none of MONAI's."""
    if workflow_type is None or str(workflow_type).lower() in TYPES:
        return []
    hint = did_you_mean(str(workflow_type), TYPES)
    return [Finding("workflow_type", f"must be one of {', '.join(TYPES)}, got {workflow_type!r}", hint)]


def find_other_run_ids(config: dict, taken: Collection[str]) -> list[str]:
    """Ids of the top-level expressions, or lists of them, that run an engine, but for those ``taken``."""
    return [
        id
        for id, value in config.items()
        if id not in taken and any(RUNS.match(part) for part in ensure_tuple(value) if isinstance(part, str))
    ]


def find_engine_kinds(config: dict, run_id: str) -> set[str]:
    """``Trainer``, ``Evaluator``, or both: what the engines are, by their class, that an item of the config runs."""
    texts = [text for text in ensure_tuple(config.get(run_id) or ()) if isinstance(text, str)]
    engines = [located(config, normalize(id))[1] for text in texts for id in RUNS.findall(text)]
    targets = [str(engine.get("_target_")) for engine in engines if isinstance(engine, dict)]
    return {kind for kind in ("Trainer", "Evaluator") for target in targets if target.endswith(kind)}
