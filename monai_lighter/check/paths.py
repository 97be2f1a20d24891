"""Files and directories that a config names by plain texts and that are not there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.config.items import items, normalize, referenced
from monai_lighter.errors import Note

__all__ = ["find_missing_paths"]

ROOTED = re.compile(r"(/|\./|\.\./|~/|[A-Za-z]:[\\/])\S")
KINDS = "csv tsv json yaml yml npz npy h5 hdf5 pkl pt pth ckpt ts onnx nii nii.gz nrrd mha dcm png jpg jpeg tif tiff txt zip"
FILE = re.compile(rf"\.({'|'.join(map(re.escape, KINDS.split()))})$", re.IGNORECASE)
RELATIVE = re.compile(r"[\w. +-]+(/[\w. +-]+)+/?")
PLACE = re.compile(r"(?<!name_or)(^|_)(dir|directory|folder|path|root)$")
"""Keys of a file or directory, whatever their text looks like; of a library, ``name_or_path`` may be an address."""
NO_PATH = re.compile(r"[*?{}<>|%\n]|://|^[$@]")
READ = re.compile(r"(^|_)(ckpt|checkpoint|weights|pretrained|file|path|csv|table|list)(_|$)")
WRITTEN = re.compile(
    r"(^|_)(out|output|outputs|save|saved|log|logs|logger|cache|tmp|temp|write|writes|result|results|pred|preds|prediction"
    r"|predictions|eval|export|download|downloads|work|experiment|tracking|artifact|artifacts|filename|dirpath"
    r"|(ckpt|checkpoint|model|models|root|run)_dirs?)(_|$)"
)
WRITER = re.compile(r"Sav|Writ|Logg|Logf|ModelCheckpoint|ModelWeights|CaseMetrics|Profil|TensorBoard|MLFlow|Stats")
"""In the names of classes whose paths are made by the run."""
DOWNLOADS = "download"
WEIGHTS = "models"
"""Folder of a bundle to which its training writes."""


def find_missing_paths(config: dict, bundle: Path) -> Iterator[Note]:
    """Notes on texts that look like paths and lead nowhere, neither from the working directory nor from the bundle.

    Left alone are expressions, what by its name or by the class it is given to is written by the run, and weights that a
    training may yet write.

    Args:
        config: macros expanded.
        bundle: absolute path of the bundle.
    """
    written = set(_written(config))
    texts = [value for _, value in items(config) if isinstance(value, str) and value.startswith("$")]
    for id, value, parent in _texts(config):
        key = id.rpartition(ID_SEP_KEY)[2] if not id.rpartition(ID_SEP_KEY)[2].isdigit() else ""
        if id in written or not _is_path(key, value) or _is_written(key, parent) or parent.get(DOWNLOADS) is True:
            continue
        if any(re.search(rf"[+,]\s*@{re.escape(id)}(?!\w)", normalize(text)) for text in texts):
            continue  # a part of a path
        path = Path(value).expanduser()
        places = [path] if path.is_absolute() else [path, bundle / path]
        if any(place.exists() for place in places):
            continue
        near = next((close for place in places for close in _near(place)), None)
        if near is None and (bundle / WEIGHTS) in places[-1].parents:
            continue
        top = id.partition(ID_SEP_KEY)[0]
        hint = f"Did you mean {near!r}?" if near else f"If the run reads it, put it there or name another: --{top} …."
        yield Note(
            id, f"{value!r} does not exist", hint if near or top == id else "If the run reads it, mend the path."
        )


def _texts(config: Any, id: str = "", parent: dict | None = None) -> Iterator[tuple[str, str, dict]]:
    """Id, text and the innermost mapping around it."""
    if isinstance(config, str):
        yield id, config, parent or {}
    elif isinstance(config, (dict, list)):
        for key, value in config.items() if isinstance(config, dict) else enumerate(config):
            if not (isinstance(key, str) and (key == ConfigParser.meta_key or key.startswith("_"))):
                inner = config if isinstance(config, dict) else parent
                yield from _texts(value, f"{id}{ID_SEP_KEY}{key}" if id else str(key), inner)


def _is_path(key: str, text: str) -> bool:
    if NO_PATH.search(text) or len(text) > 1000:
        return False
    if ROOTED.match(text):
        return True
    if RELATIVE.fullmatch(text) and PLACE.search(key.lower()):
        return True
    is_file = FILE.search(text) is not None and not FILE.fullmatch(text)
    return is_file and ("/" in text or READ.search(key) is not None)


def _is_written(key: str, parent: dict) -> bool:
    return WRITTEN.search(key.lower()) is not None or WRITER.search(str(parent.get("_target_", ""))) is not None


def _written(config: dict) -> Iterator[str]:
    """Ids of items that something written refers to."""
    for id, text, parent in _texts(config):
        other = referenced(text)
        if other is not None and _is_written(id.rpartition(ID_SEP_KEY)[2], parent):
            yield other


def _near(path: Path) -> list[str]:
    try:
        names = [child.name for child in path.parent.iterdir()]
    except OSError:
        return []
    return [str(path.parent / name) for name in get_close_matches(path.name, names, 1, 0.7)]
