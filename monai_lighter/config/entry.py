"""What a run is asked for: a stage or an item of the config, and a type of workflow."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from monai.bundle import BundleWorkflow
from monai.bundle.reference_resolver import ReferenceResolver
from monai.utils import ensure_tuple

from monai_lighter.config.sections import STAGES, is_native, locate
from monai_lighter.errors import Finding, Note, did_you_mean

__all__ = ["no_run", "other_run_ids", "unknown_run_id", "unknown_type"]

RUNS = re.compile(r"\$\s*@[\w#:]+\.run\(")
TYPES = (*BundleWorkflow.supported_train_type, *BundleWorkflow.supported_infer_type)


def unknown_run_id(run_id: str, config: dict) -> list[Finding]:
    """A finding where a run id is neither a stage of the config nor one of its items."""
    native = is_native(config)
    if (native and run_id in STAGES) or locate(config, ReferenceResolver.normalize_id(run_id)) is not None:
        return []
    hint = did_you_mean(run_id, [*config, *(STAGES if native else ())])
    if run_id in STAGES:
        hint = "A stage needs a `system` section."
    return [Finding("run_id", f"run ID {run_id!r} doesn't exist in the config file", hint)]


def unknown_type(workflow_type: str | None) -> list[Finding]:
    """A finding where a type of workflow is none of MONAI's."""
    if workflow_type is None or str(workflow_type).lower() in TYPES:
        return []
    hint = did_you_mean(str(workflow_type), TYPES)
    return [Finding("workflow_type", f"must be one of {', '.join(TYPES)}, got {workflow_type!r}", hint)]


def other_run_ids(config: dict, run_id: str, taken: Collection[str]) -> list[str]:
    """Top-level expressions that run an engine, where there is no ``run``."""
    texts = {id: "".join(map(str, ensure_tuple(value))) for id, value in config.items()}
    return [id for id, text in texts.items() if run_id == "run" and RUNS.match(text) and id not in taken]


def no_run(run_id: str, config: dict, run_ids: Sequence[str]) -> Finding:
    """A config of engines without the item that is to be run; a `Note` where there are others that run an engine."""
    problem = f"the config has no item {run_id!r}"
    if run_ids:
        return Note(run_id, problem, f"It is run by: run {run_ids[0]} …, or --run_id {run_ids[0]}.")
    hint = did_you_mean(run_id, config)
    if run_id in STAGES:
        hint = "A stage needs a `system` section."
    elif not hint.startswith("Did"):
        hint = "A file that is merged over others is given after them: train.json,multi_gpu_train.json."
    return Finding(run_id, f"there is nothing to run: {problem}", hint)
