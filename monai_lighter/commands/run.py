"""``run``: a stage of somebody's bundle."""

from __future__ import annotations

from typing import Any

from monai_lighter.commands.arguments import UsageError
from monai_lighter.config.native import find_similar_stage
from monai_lighter.errors import Finding, did_you_mean

__all__ = ["run"]

TYPES = {"fit": "train", "validate": "train", "test": "eval", "predict": "infer"}


def run(
    bundle: str,
    stage: str = "predict",
    version: str | None = None,
    bundle_dir: str | None = None,
    source: str | None = None,
    repo: str | None = None,
    trust: str | None = None,
    quiet: bool | None = None,
    verbose: bool | None = None,
    **override: Any,
) -> None:
    """Load a bundle and run a stage of it: predict, test, validate or fit.

    What is fetched, or comes as a zip file, may bring no code, unless --trust says so: the error says how to go on.

    Example:

        monai-lighter run spleen_v0.1.0.zip predict --predict_data "[{'image': 'scan.nii.gz'}]" --output_dir here

    Args:
        bundle: directory, zip file, address of one, or the name of a bundle.
        stage: predict, test, validate or fit.
        version: default: the newest that was downloaded before, else the latest there is.
        bundle_dir: where bundles are kept; default: as MONAI's, the folder bundle of torch.hub.
        source: monaihosting, github, ngc, ngc_private or huggingface_hub.
        repo: as for `python -m monai.bundle download`.
        trust: what the bundle may do: all, declarative (no code), or sha256:NUMBER, which inspect prints. Default: the
            environment's MONAI_LIGHTER_TRUST, else all for a directory and declarative for the rest.
        quiet: print errors and the result alone.
        verbose: print what MONAI, Lightning and other libraries say, too.
        override: items of the config, such as --output_dir or --trainer::accelerator.
    """
    if stage not in TYPES:
        hint = did_you_mean(find_similar_stage(str(stage)) or str(stage), TYPES)
        raise UsageError(Finding("stage", f"must be one of {', '.join(TYPES)}, got {stage!r}", hint))
    from monai_lighter.share.loading import load_bundle

    shown = {name: value for name, value in (("quiet", quiet), ("verbose", verbose)) if value is not None}
    workflow = load_bundle(
        str(bundle),
        version=version,
        workflow_type=TYPES[stage],
        run_id="validate" if stage == "validate" else None,
        bundle_dir=bundle_dir,
        source=source,
        repo=repo,
        trust=trust,
        **{**shown, **override},
    )
    workflow.run()
    workflow.finalize()
    if workflow.exit_code:
        raise SystemExit(workflow.exit_code)
