"""``check``: what is wrong with a config, before anything of it is built."""

from __future__ import annotations

from json import dumps
from typing import TYPE_CHECKING, Any

from monai_lighter.commands.arguments import require_configs
from monai_lighter.commands.output import Printed, format_report
from monai_lighter.config.native import STAGES

if TYPE_CHECKING:
    from monai_lighter.check.walk import Built
    from monai_lighter.data.integrity import DataCheck
    from monai_lighter.trace.trace import Trace
    from monai_lighter.workflow.check_config import Check
    from monai_lighter.workflow.prepare import Prepared

__all__ = ["check"]


def check(
    *config: str,
    trace: bool = False,
    case: int = 0,
    data: Any = False,
    csv: str | None = None,
    run_id: str = "run",
    init_id: str = "initialize",
    final_id: str = "finalize",
    workflow_type: str | None = None,
    meta_file: str | None = None,
    trust: str | None = None,
    json: bool = False,
    **override: Any,
) -> Printed:
    """Say what is wrong with a config, all at once, without building or running anything of it.

    Example:

        monai-lighter check configs/train.yaml --max_epochs 300

    Targets are looked for in their modules, which imports them, those of the bundle too, unless --trust forbids it: look at a
    stranger's bundle with inspect first. Ends with 0 where nothing is wrong (notes are no errors), else with 2.

    With --trace, a config without errors then sends one case on its way: see docs/check.md. With --data, every case of it is
    read: see docs/data.md. An error in a case ends with 2 as well.

    Args:
        config: file, or several joined by commas and merged in order; further ones are checked one by one.
        trace: also build the data pipeline and the network, and send one case through them, the loss and the metrics.
        case: index of that case.
        data: also read every case of every mode, and say what is wrong with them. A value that is neither this flag nor
            ``check`` is the item ``data`` of the config.
        csv: file for a table of what --data found.
        run_id: a stage of a native config, or the id of an expression; default: all that the config can run.
        init_id: id of the expressions before the run.
        final_id: id of the expressions after it.
        workflow_type: train or infer, to require MONAI's properties of it.
        meta_file: default: metadata.json beside the config.
        trust: declarative: code in the config is an error, and nothing of the bundle is imported; all; or sha256:NUMBER.
        json: print the report as JSON.
        override: items of the config, such as --max_epochs or --trainer::devices.
    """
    require_configs(config, "check")
    from monai_lighter.data.findings import write_table
    from monai_lighter.trace.trace import Trace
    from monai_lighter.workflow.check_config import Check
    from monai_lighter.workflow.prepare import Asked

    whole = data in (True, "check", "True")
    if data is not False and not whole:
        override["data"] = data
    asked = Asked(run_id, init_id, final_id, workflow_type=workflow_type)
    checks = [Check(each, override, asked, meta_file, trust) for each in config]
    stage = run_id if run_id in STAGES else None
    traces = [
        Trace(each.prepared, stage, case) if trace and each.prepared and not each.errors else None for each in checks
    ]
    cases = [
        _check_cases(each.prepared, stage) if whole and each.prepared and not each.errors else None for each in checks
    ]
    if csv is not None:
        write_table([finding for each in cases if each for finding in each.findings], csv)
    wrong = [*(each.errors for each in checks), *(each.errors for each in cases if each is not None)]
    found = 2 if any(wrong) or any(each and each.error for each in traces) else 0
    if json:
        reports = [_format_json(*each) for each in zip(checks, traces, cases, strict=True)]
        return Printed(dumps(reports[0] if len(reports) == 1 else reports, indent=2, default=str), found)
    return Printed("\n\n".join(_format_text(*each) for each in zip(checks, traces, cases, strict=True)), found)


def _check_cases(prepared: Prepared, stage: str | None) -> DataCheck:
    from monai_lighter.config.stages import MODES, MODES_OF_STAGE
    from monai_lighter.data.integrity import DataCheck

    modes = MODES if stage is None else MODES_OF_STAGE[stage]
    built = [one.id for components in prepared.built.values() for one in components]
    return DataCheck(prepared.config, prepared.native, modes, built)


def _format_text(check: Check, trace: Trace | None = None, cases: DataCheck | None = None) -> str:
    """Findings, one a line and with its place first, then what would be built."""
    from monai_lighter.data.findings import shortened
    from monai_lighter.data.ranges import make_rows

    lines = [f"{check.place(error)}: error: {error}" for error in check.errors]
    lines += [f"{check.place(note)}: note: {note}" for note in check.notes]
    summary = {"config": ", ".join(_files(check)), **_counts(check)}
    texts = [*lines, *([""] if lines else []), format_report(summary, _grouped(check))]
    if trace is not None:
        shown = [
            {**row._asdict(), "seconds": "" if row.seconds is None else f"{row.seconds:.3f}"} for row in trace.rows
        ]
        named = {f"step of {part}": f"{step['seconds']:.3f} s, {step['memory']}" for part, step in trace.steps.items()}
        outcome = {"error": trace.error} if trace.error else named
        texts += ["", format_report({"trace": trace.stage, **outcome}, shown)]
    if cases is not None:
        texts += ["", *shortened(cases.findings), format_report(_case_counts(cases), make_rows(cases.summary))]
    return "\n".join(texts)


def _format_json(check: Check, trace: Trace | None = None, cases: DataCheck | None = None) -> dict[str, Any]:
    """``rows`` are the findings, ``stages`` what would be built in each, ``trace`` the way of the case, ``data`` what is true
    of all cases."""
    rows = [
        {"level": level, **finding._asdict(), **check.place(finding)._asdict()}
        for level, findings in (("error", check.errors), ("note", check.notes))
        for finding in findings
    ]
    stages = {
        stage: [{**built._asdict(), **check.place(built)._asdict()} for built in all_built]
        for stage, all_built in check.built.items()
    }
    found = {"config": _files(check), **_counts(check), "rows": rows, "stages": stages}
    if trace is not None:
        traced = {"stage": trace.stage, "error": trace.error, "steps": trace.steps}
        found["trace"] = {**traced, "rows": [row._asdict() for row in trace.rows]}
    if cases is not None:
        rows = [finding._asdict() for finding in cases.findings]
        found["data"] = {**_case_counts(cases), "rows": rows, "summary": cases.summary}
    return found


def _case_counts(cases: DataCheck) -> dict[str, Any]:
    counts = {"cases": cases.cases, "errors": len(cases.errors), "notes": len(cases.notes)}
    return {**counts, "seconds": round(cases.seconds, 2)}


def _files(check: Check) -> list[str]:
    return [check.files] if isinstance(check.files, str) else [str(file) for file in check.files]


def _counts(check: Check) -> dict[str, int]:
    return {"errors": len(check.errors), "notes": len(check.notes)}


def _grouped(check: Check) -> list[dict[str, Any]]:
    """A row for each component, and one for all those in a list, with the stages that build them."""
    from monai.bundle.utils import ID_SEP_KEY

    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for stage, all_built in check.built.items():
        groups: dict[str, list[Built]] = {}
        for built in all_built:
            parent, _, key = built.id.rpartition(ID_SEP_KEY)
            groups.setdefault(parent if key.isdigit() else built.id, []).append(built)
        for id, group in groups.items():
            builds = ", ".join(one.target for one in group)
            row = rows.setdefault((id, builds), {"stages": stage, "id": id, "builds": builds})
            row["stages"] += "" if row["stages"] == stage else f" {stage}"
            row["at"] = check.place(group[0])
    return list(rows.values())
