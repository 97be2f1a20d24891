"""The part of a bundle's README that packaging writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["with_section"]

BEGIN, END = "<!-- begin: written by monai_lighter package -->", "<!-- end -->"


def with_section(text: str, metadata: Mapping[str, Any], configs: Mapping[str, str]) -> str:
    """A README with results and commands from the metadata, in a section that a later packaging replaces.

    Args:
        text: the README; empty for a new one.
        metadata: of the bundle, complete.
        configs: stage to file name in ``configs``.
    """
    text = text or f"# {metadata.get('name', 'Bundle')}\n{metadata['description']}\n"
    lines = [BEGIN, f"## Version {metadata['version']}"]
    if metadata.get("eval_metrics"):
        lines += ["| metric | value |", "| --- | --- |"]
        lines += [f"| {name} | {value} |" for name, value in metadata["eval_metrics"].items()]
        lines.append("")
    packages = {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
    }
    packages.update(metadata.get("required_packages_version", {}))
    lines.append("Made with " + ", ".join(f"{name} {number}" for name, number in packages.items()) + ".")
    lines += ["", "From the folder of the bundle:", ""]
    for stage, file in configs.items():
        lines.append(
            f"    python -m monai.bundle run {stage} --workflow monai_lighter.Workflow --config_file configs/{file}"
        )
    section = "\n".join([*lines, END])
    if BEGIN in text and END in text:
        return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda match: section, text, count=1, flags=re.DOTALL)
    return f"{text.rstrip()}\n\n{section}\n"
