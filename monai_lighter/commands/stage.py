"""``fit``, ``validate``, ``test``, ``predict``: a stage of a config, MONAI's long command in short."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from monai_lighter.commands.arguments import UsageError, require_configs
from monai_lighter.errors import ConfigError, Finding

__all__ = ["fit", "predict", "test", "validate"]

DOCSTRING = """{summary}

Example:

    monai-lighter {stage} {example}

The same as: python -m monai.bundle run {stage} --workflow monai_lighter.Workflow --config_file CONFIG,CONFIG --ID VALUE.
A config of MONAI's engines runs what its run says, which must be {kind}.

Args:
    config: file; several are merged in order.
    config_file: the same by name, as in MONAI's command.
    meta_file: metadata; default: metadata.json beside the config.
    logging_file: settings of Python's logging; default: logging.conf beside the config.
    run_id: item of the config to run instead.
    init_id: item to evaluate before the run.
    final_id: item to evaluate after it.
    tracking: mlflow, or a file with settings of MONAI's experiment tracking.
    workflow_type: train, infer or eval, for MONAI's properties; default: train, as MONAI's.
    properties_path: JSON file of properties in place of MONAI's.
    args_file: JSON or YAML file with any of these and of the overrides; the command line goes first.
    resume: with what a fit goes on: auto (the newest checkpoint, or a new beginning), force (also of another config), or a path.
    skip_existing: predict no case again whose outputs an earlier predict with this config and these weights has left whole.
    trust: what the config may do: all, declarative (no code), or sha256:NUMBER, which inspect prints.
    quiet: print errors and the result alone.
    verbose: print what MONAI, Lightning and other libraries say, too.
    override: an item of the config, by its id, such as --trainer::max_epochs 300 or learning_rate=0.01.
"""


def _make_verb(stage: str, summary: str, example: str, kind: str) -> Callable[..., None]:
    def verb(
        *config: str,
        config_file: Any = None,
        meta_file: Any = None,
        logging_file: str | None = None,
        run_id: str | None = None,
        init_id: str | None = None,
        final_id: str | None = None,
        tracking: Any = None,
        workflow_type: str | None = None,
        properties_path: str | None = None,
        args_file: str | None = None,
        resume: str | None = None,
        skip_existing: bool | None = None,
        trust: str | None = None,
        quiet: bool | None = None,
        verbose: bool | None = None,
        **override: Any,
    ) -> None:
        given = {"meta_file": meta_file, "logging_file": logging_file, "init_id": init_id, "final_id": final_id}
        given |= {
            "tracking": tracking,
            "workflow_type": workflow_type,
            "properties_path": properties_path,
            "resume": resume,
            "skip_existing": skip_existing,
            "trust": trust,
            "quiet": quiet,
            "verbose": verbose,
        }
        given = {name: value for name, value in given.items() if value is not None}
        files = [*config, *_listed(config_file)]
        if args_file is not None:
            more = _read_arguments(args_file)
            of_file = more.pop("config_file", None), more.pop("run_id", None)
            files, run_id = files or _listed(of_file[0]), run_id or of_file[1]
            given = {**more, **given}
        _run(stage, require_configs(files, stage), run_id, {**given, **override})

    verb.__name__ = verb.__qualname__ = stage
    verb.__doc__ = DOCSTRING.format(summary=summary, stage=stage, example=example, kind=kind)
    return verb


fit = _make_verb("fit", "Train the network of a config.", "configs/train.yaml --max_epochs 300", "training")
validate = _make_verb(
    "validate", "Measure a network on the cases of validation.", "configs/train.yaml", "an evaluation"
)
test = _make_verb("test", "Measure a network on the cases of a test.", "configs/evaluate.yaml", "an evaluation")
predict = _make_verb(
    "predict", "Apply a network to cases, and write what it makes of them.", "configs/inference.yaml", "an evaluation"
)


def _listed(value: Any) -> list[Any]:
    return [] if value is None else [*value] if isinstance(value, (list, tuple)) else [value]


def _read_arguments(file: str) -> dict[str, Any]:
    from monai.bundle import ConfigParser

    from monai_lighter.trust.enforce import refuse_trust_of_file

    if not os.path.isfile(file):
        raise UsageError(Finding("args_file", f"must be a JSON or YAML file, there is no {file!r}", "Mend the path."))
    read = dict(ConfigParser.load_config_file(file))
    for name in ("workflow_name", "workflow"):
        read.pop(name, None)
    refuse_trust_of_file(read.get("trust"))
    return read


def _run(stage: str, files: list[str], run_id: str | None, keywords: dict[str, Any]) -> None:
    """Runs a config as MONAI's command does: what it imports may lie where the command is run.

    Raises:
        ConfigError: it is of MONAI's engines, and trains where it should not, or does not where it should.
    """
    from monai_lighter.config.stages import find_engine_kinds
    from monai_lighter.trust.enforce import ALL, DECLARATIVE, default_trust
    from monai_lighter.workflow.workflow import Workflow

    if default_trust(keywords.get("trust"), ALL) != DECLARATIVE and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    workflow = Workflow(files, run_id=run_id or stage, **keywords)
    if not workflow.native and run_id is None:
        workflow.run_id = "run"
        kinds = find_engine_kinds(workflow.parser.get(), workflow.run_id)
        if kinds and ("Trainer" in kinds) != (stage == "fit"):
            does, verbs = ("trains", "fit") if "Trainer" in kinds else ("evaluates", "validate, test or predict")
            hint = f"Use {verbs}, or another config."
            raise ConfigError([Finding("run", f"of {', '.join(files)} {does}, which {stage!r} does not", hint)])
    with workflow.announced():
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    if workflow.exit_code:
        raise SystemExit(workflow.exit_code)
