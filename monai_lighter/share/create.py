"""New bundles from the templates that come with the package."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

from monai_lighter.errors import Finding, did_you_mean
from monai_lighter.share.layout import SharingError
from monai_lighter.share.synthetic import write_cases

__all__ = ["TASKS", "create_bundle"]

TEMPLATES = Path(__file__).parent.parent / "templates"
TASKS = ("segmentation", "classification", "regression")
PATCH_SIZES = {2: 64, 3: 48}
"""By number of spatial dimensions, in pixels or voxels along each of them."""
FIELD = re.compile(r"\{\{([\w:]+)\}\}")


def create_bundle(
    directory: str | Path, task: str, dims: int, synthetic: bool = False, authors: str | None = None
) -> list[Path]:
    """Write a complete native bundle.

    Args:
        directory: where; must be empty or not exist. Its name is the bundle's.
        task: one of `TASKS`.
        dims: 2 or 3.
        synthetic: also write small synthetic data to ``data/``.
        authors: for the metadata.

    Returns:
        The files, without the data.

    Raises:
        SharingError: another task or number of dimensions, or a directory that is not empty.
    """
    root = Path(directory).resolve()
    findings = []
    if task not in TASKS:
        problem = f"must be one of {', '.join(TASKS)}, got {task!r}"
        findings.append(Finding("task", problem, did_you_mean(str(task), TASKS)))
    if dims not in PATCH_SIZES:
        findings.append(Finding("dims", f"must be 2 or 3, got {dims!r}", "Use the number of spatial axes."))
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        findings.append(Finding("directory", f"must be empty or not exist, got {str(directory)!r}", "Choose another."))
    if findings:
        raise SharingError(*findings)
    title = re.sub(r"[_\W]+", " ", root.name).strip().capitalize() or "Bundle"
    words = {
        "dims": str(dims),
        "patch_size": str([PATCH_SIZES[dims]] * dims),
        "image_size": str([PATCH_SIZES[dims]] * dims),
        "spacing": str([1.0] * dims),
        "axcodes": "RAS"[:dims],
        "points": "pixels" if dims == 2 else "voxels",
        "title": title,
        "authors": authors or f"The authors of {title}",
        "data_source": "synthetic images, generated with the bundle" if synthetic else "say where the data come from",
    }
    files = [file for folder in ("common", task) for file in _fill(TEMPLATES / folder, root, words)]
    if synthetic:
        write_cases(root / "data", task, dims)
    return sorted(files)


def _fill(template: Path, root: Path, words: dict[str, str]) -> list[Path]:
    written = []
    for source in sorted(template.rglob("*")):
        if source.is_dir() or "__pycache__" in source.parts:
            continue
        target = root / source.relative_to(template)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(FIELD.sub(lambda match: _word(match.group(1), words), source.read_text("utf-8")), "utf-8")
        written.append(target)
    return written


def _word(name: str, words: dict[str, str]) -> str:
    kind, _, package = name.partition(":")
    return version(package).partition("+")[0] if kind == "version" else words[name]
