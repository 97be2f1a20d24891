"""Which files of a bundle are handed on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from monai_lighter.errors import Finding
from monai_lighter.share.fetch import list_large_files
from monai_lighter.share.layout import CONFIG_SUFFIXES, Bundle, SharingError
from monai_lighter.share.plain_weights import find_checkpoint_to_share, write_plain_weights
from monai_lighter.share.portable import make_config_portable

__all__ = ["find_project", "is_data_list", "stage"]

BY_FOLDER = {
    "configs": (*CONFIG_SUFFIXES, ".conf"),
    "docs": (".md", ".txt", ".rst", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".pdf"),
    "scripts": (".py", *CONFIG_SUFFIXES, ".txt", ".md"),
}
"""Suffixes of the files that are handed on, by folder. Nothing else is: data, their lists, logs and checkpoints stay
behind."""
AT_TOP = ("LICENSE*", "NOTICE*", "README*", "requirements*.txt")

EXPORTED = (".ts", ".onnx", ".pt2", ".trt", ".plan", ".engine")
"""Of networks that have been exported, with their weights."""
DATA = re.compile(
    r"\.(nii|nii\.gz|dcm|dicom|nrrd|mha|mhd|png|jpe?g|tiff?|svs|bmp|npy|npz|h5|hdf5|csv|parquet|zip|tar|tar\.gz)$",
    re.IGNORECASE,
)
IMAGE = "image"
"""Key of an entry of a data list as MONAI reads them; it may name a directory, or a file of any kind."""


def stage(
    bundle: Bundle, directory: Path, weights: str | Path | None = None, members: Mapping[str, Path] | None = None
) -> list[Finding]:
    """Copy what is the bundle's own, with portable configs and plain weights. Not its metadata: see `complete_metadata`.

    Weights are ``models/*.pt`` but those of the last epoch (``*_last.pt``); where there is no ``models/model.pt``, it is
    made from the newest Lightning checkpoint. What exporters wrote is left out: it can be exported again. ``large_files.yml``
    names what is still to be downloaded and nothing that the package has, which would be the weights that it was loaded with.

    Args:
        bundle: where from.
        directory: where to.
        weights: checkpoint for ``models/model.pt`` instead.
        members: name in the package to checkpoint, of several networks in place of the one of ``models/model.pt``.

    Returns:
        What was changed on the way.

    Raises:
        SharingError: there are no weights, or weights or a config cannot be read.
    """
    changes: list[Finding] = []
    for source in _list_files(bundle):
        name = source.relative_to(bundle.root)
        target = directory / name
        if source == bundle.metadata_file:
            continue
        if len(name.parts) > 1 and source.suffix in CONFIG_SUFFIXES and is_data_list(_read_content(source)):
            changes.append(Finding(name.as_posix(), "names data and stays behind", "Who trains brings another list."))
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.parent.name == "configs" and source.suffix in CONFIG_SUFFIXES:
            text, found = _read_portable(source, bundle.root)
            target.write_text(text, "utf-8")
            changes += [finding._replace(id=f"{source.name}: {finding.id}") for finding in found]
        else:
            shutil.copyfile(source, target)
    changes += _stage_weights(bundle, directory, weights, members or {})
    changes += _stage_large_files(bundle, directory)
    return changes


def _read_portable(file: Path, root: Path) -> tuple[str, list[Finding]]:
    try:
        return make_config_portable(file.read_text("utf-8"), root)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SharingError.of(f"configs/{file.name}", f"cannot be read: {error}", "Mend the file.") from error


def _read_content(file: Path) -> Any:
    """What a YAML or JSON file holds; None where it cannot be read, or only by MONAI."""
    try:
        text = file.read_text("utf-8")
        return json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return None


def _list_files(bundle: Bundle) -> Iterator[Path]:
    folders = {bundle.root / name: suffixes for name, suffixes in BY_FOLDER.items()}
    project = find_project(bundle)
    if project is not None:
        folders.setdefault(project, BY_FOLDER["scripts"])
    for folder, suffixes in folders.items():
        for path in sorted(folder.rglob("*")):
            hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(bundle.root).parts)
            if path.is_file() and not path.is_symlink() and path.suffix.lower() in suffixes and not hidden:
                yield path
    for pattern in AT_TOP:
        yield from sorted(path for path in bundle.root.glob(pattern) if path.is_file() and not path.is_symlink())


def find_project(bundle: Bundle) -> Path | None:
    """Find the folder that the item ``project`` of the configs names, where it is in the bundle."""
    for name in ("train", "inference", "evaluate"):
        file = bundle.config(name)
        given = None if file is None else ConfigParser.load_config_file(str(file)).get("project")
        if isinstance(given, str):
            folder = (bundle.root / given).resolve()
            if folder.is_dir() and folder.is_relative_to(bundle.root) and folder != bundle.root:
                return folder
    return None


def _stage_weights(
    bundle: Bundle, directory: Path, given: str | Path | None, members: Mapping[str, Path]
) -> list[Finding]:
    models = directory / "models"
    for file in sorted((bundle.root / "models").glob("*.pt")):
        if not file.stem.endswith("_last") and not ((given or members) and file.name == "model.pt"):
            write_plain_weights(file, models / file.name)
    for name, file in members.items():
        write_plain_weights(file, directory / name)
    if members:
        return []
    best = models / "model.pt"
    if best.is_file():
        return []
    source = Path(given) if given else find_checkpoint_to_share(bundle.root)
    if source is None or not source.is_file():
        missing = f"{source} does not exist" if source else f"{bundle.root} has no models/model.pt and no checkpoint"
        raise SharingError.of("weights", missing, "Train first, or name a file with --weights.")
    write_plain_weights(source, best)
    name = source.name if given else source.relative_to(bundle.root).as_posix()
    return [Finding("models/model.pt", f"was made from {name}")]


def _stage_large_files(bundle: Bundle, directory: Path) -> list[Finding]:
    kept: list[dict] = []
    dropped: list[dict] = []
    for entry in list_large_files(bundle.root):
        has = (directory / entry["path"]).is_file() or Path(entry["path"]).suffix in EXPORTED
        (dropped if has else kept).append(entry)
    if kept:
        (directory / "large_files.yml").write_text(yaml.safe_dump({"large_files": kept}, sort_keys=False), "utf-8")
    names = ", ".join(entry["path"] for entry in dropped)
    hint = "The package has its own weights; what was exported from others is not of them."
    return [Finding("large_files", f"no longer name {names}", hint)] if dropped else []


def is_data_list(content: Any) -> bool:
    """Whether the content of a YAML or JSON file names data and nothing else.

    It does where it builds and computes nothing, and has, at the top or below a key such as ``training``, a list of data
    files or of mappings to them.
    """
    if any(_computes(value) for value in _texts(content)):
        return False
    lists = [content] if isinstance(content, list) else content.values() if isinstance(content, dict) else []
    return any(isinstance(entries, list) and any(map(_names_data, entries)) for entries in lists)


def _computes(text: str) -> bool:
    return text.startswith(("$", "@", "%")) or text == "_target_"


def _names_data(entry: Any) -> bool:
    if isinstance(entry, dict) and isinstance(entry.get(IMAGE), (str, list)):
        return True
    return any(DATA.search(text) for text in _texts(entry))


def _texts(content: Any) -> Iterator[str]:
    """Keys and values that are texts, at any depth."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, (dict, list)):
        for part in [*content, *content.values()] if isinstance(content, dict) else content:
            yield from _texts(part)
