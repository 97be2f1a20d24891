"""Which files of a bundle are handed on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from monai_lighter.errors import Finding
from monai_lighter.share.datalists import is_data_list
from monai_lighter.share.layout import CONFIG_SUFFIXES, Bundle, SharingError
from monai_lighter.share.network import newest_checkpoint, write_plain_weights
from monai_lighter.share.portable import portable_config

__all__ = ["project_folder", "stage"]

BY_FOLDER = {
    "configs": (*CONFIG_SUFFIXES, ".conf"),
    "docs": (".md", ".txt", ".rst", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".pdf"),
    "scripts": (".py", *CONFIG_SUFFIXES, ".txt", ".md"),
}
"""Suffixes of the files that are handed on, by folder. Nothing else is: data, their lists, logs and checkpoints stay
behind."""
AT_TOP = ("LICENSE*", "NOTICE*", "README*", "requirements*.txt", "large_files.*")


def stage(bundle: Bundle, directory: Path, weights: str | Path | None = None) -> list[Finding]:
    """Copies what is the bundle's own, with portable configs and plain weights. The metadata are not copied: see `completed`.

    Weights are ``models/*.pt`` but those of the last epoch (``*_last.pt``); where there is no ``models/model.pt``, it is
    made from the newest Lightning checkpoint. What exporters wrote is left out: it can be exported again.

    Args:
        bundle: where from.
        directory: where to.
        weights: checkpoint for ``models/model.pt`` instead.

    Returns:
        What was changed on the way.

    Raises:
        SharingError: there are no weights, or weights or a config cannot be read.
    """
    changes: list[Finding] = []
    for source in _files(bundle):
        name = source.relative_to(bundle.root)
        target = directory / name
        if source == bundle.metadata_file:
            continue
        if len(name.parts) > 1 and source.suffix in CONFIG_SUFFIXES and is_data_list(_content(source)):
            changes.append(Finding(name.as_posix(), "names data and stays behind", "Who trains brings another list."))
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.parent.name == "configs" and source.suffix in CONFIG_SUFFIXES:
            text, found = _portable(source, bundle.root)
            target.write_text(text, "utf-8")
            changes += [finding._replace(id=f"{source.name}: {finding.id}") for finding in found]
        else:
            shutil.copyfile(source, target)
    changes += _weights(bundle, directory, weights)
    return changes


def _portable(file: Path, root: Path) -> tuple[str, list[Finding]]:
    try:
        return portable_config(file.read_text("utf-8"), root)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SharingError(Finding(f"configs/{file.name}", f"cannot be read: {error}", "Mend the file.")) from error


def _content(file: Path) -> Any:
    """What a YAML or JSON file holds; None where it cannot be read, or only by MONAI."""
    try:
        text = file.read_text("utf-8")
        return json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return None


def _files(bundle: Bundle) -> Iterator[Path]:
    folders = {bundle.root / name: suffixes for name, suffixes in BY_FOLDER.items()}
    project = project_folder(bundle)
    if project is not None:
        folders.setdefault(project, BY_FOLDER["scripts"])
    for folder, suffixes in folders.items():
        for path in sorted(folder.rglob("*")):
            hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(bundle.root).parts)
            if path.is_file() and not path.is_symlink() and path.suffix.lower() in suffixes and not hidden:
                yield path
    for pattern in AT_TOP:
        yield from sorted(path for path in bundle.root.glob(pattern) if path.is_file() and not path.is_symlink())


def project_folder(bundle: Bundle) -> Path | None:
    """The folder that the item ``project`` of the configs names, where it is in the bundle."""
    for name in ("train", "inference", "evaluate"):
        file = bundle.config(name)
        given = None if file is None else ConfigParser.load_config_file(str(file)).get("project")
        if isinstance(given, str):
            folder = (bundle.root / given).resolve()
            if folder.is_dir() and folder.is_relative_to(bundle.root) and folder != bundle.root:
                return folder
    return None


def _weights(bundle: Bundle, directory: Path, given: str | Path | None) -> list[Finding]:
    models = directory / "models"
    for file in sorted((bundle.root / "models").glob("*.pt")):
        if not file.stem.endswith("_last") and not (given and file.name == "model.pt"):
            write_plain_weights(file, models / file.name)
    best = models / "model.pt"
    if best.is_file():
        return []
    source = Path(given) if given else newest_checkpoint(bundle.root)
    if source is None or not source.is_file():
        missing = f"{source} does not exist" if source else f"{bundle.root} has no models/model.pt and no checkpoint"
        raise SharingError(Finding("weights", missing, "Train first, or name a file with --weights."))
    write_plain_weights(source, best)
    name = source.name if given else source.relative_to(bundle.root).as_posix()
    return [Finding("models/model.pt", f"was made from {name}")]
