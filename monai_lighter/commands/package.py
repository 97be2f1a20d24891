"""``package``: a trained bundle as a zip that others can run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from monai_lighter.commands.arguments import require_path
from monai_lighter.commands.output import format_report

__all__ = ["package"]


def package(
    bundle: str,
    output: str | None = None,
    version: str | None = None,
    weights: str | None = None,
    prove: bool = True,
    trust: str | None = None,
    json: bool = False,
) -> str:
    """Turn a trained bundle into a zip that others can run, and prove that they can.

    Example:

        monai-lighter package spleen -o spleen_v0.1.0.zip

    The zip holds the configs, plain weights, metadata filled from what is true, docs, license and scripts; no data, logs,
    optimizer states or absolute paths. The same bundle gives the same bytes. The bundle itself is not changed.

    Of a study (monai-lighter package studies/NAME) the networks of the folds, of the best set of parameters, become one
    bundle: their mean (monai_lighter.Ensemble).

    Args:
        bundle: its directory; or that of a study.
        output: the zip; default: NAME_vVERSION.zip here, of a study NAME_STUDY_vVERSION.zip.
        version: of the package; default: that in the metadata.
        weights: checkpoint for models/model.pt; default: models/model.pt, else the newest Lightning checkpoint.
        prove: unpack it elsewhere and run it on a synthetic case.
        trust: what the bundle may do when it is measured and proved: all, declarative, or sha256:NUMBER, which inspect prints.
        json: print the report as JSON.
    """
    require_path("bundle", bundle, "the directory of a bundle or a study")
    from monai_lighter.share.packaging import package_bundle
    from monai_lighter.trust.enforce import ALL, DECLARATIVE, VARIABLE, Trust

    if trust is not None:  # for the copies of the bundle that are run, in this process and in others
        level = Trust(trust, Path(str(bundle))).level
        os.environ[VARIABLE] = DECLARATIVE if level == DECLARATIVE else ALL
    made = package_bundle(str(bundle), output, None if version is None else str(version), weights, prove)
    summary: dict[str, Any] = {
        "package": str(made.file),
        "sha256": made.digest,
        "files": made.files if json else len(made.files),
    }
    if json:
        summary["changes"] = [str(change) for change in made.changes]
    else:
        summary.update({f"note {i}": change for i, change in enumerate(made.changes, 1)})
    return format_report(summary, made.checks, json)
