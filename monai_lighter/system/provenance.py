"""What outputs are made of, as numbers (sha256): the weights of a network, and all that a case of the data is read from."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from monai_lighter.trust.digest import hash_file, walk_files

__all__ = ["digest_item", "digest_recipe", "hash_case_file", "join_digests"]

PAIRED = (".hdr", ".img")
"""Analyze and NIfTI pairs: header and voxels."""
NAMES_VOXELS = re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)[ \t]*(.+?)\s*$", re.MULTILINE | re.IGNORECASE)
"""In a header of MetaImage (``.mhd``) or NRRD (``.nhdr``), the file of the voxels."""


def join_digests(*digests: str) -> str:
    """One number for several; empty where one of them is."""
    return hashlib.sha256(" ".join(digests).encode()).hexdigest() if all(digests) else ""


def digest_recipe(system: Any, trainer: Trainer) -> str:
    """All that cases are predicted with: ``config_digest`` of a `System` and its weights; empty where either is not known.

    All processes take part.
    """
    config = getattr(system, "config_digest", "")
    weights = _digest_weights(trainer.strategy.lightning_module_state_dict()) if config else ""
    return str(trainer.strategy.broadcast(join_digests(config, weights)))  # of a sharded network the first has it


def _digest_weights(state: Mapping[str, Any]) -> str:
    """A state dict: names, types, shapes and values of its tensors; empty where it holds anything else, or parts of tensors."""
    total = hashlib.sha256()
    for name, value in sorted(state.items()):
        if type(value) not in (Tensor, torch.nn.Parameter) or value.layout != torch.strided:
            return ""
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
    return total.hexdigest()


def digest_item(item: Any) -> str:
    """An item of the data before its transforms: its keys, its values, and in place of paths what is in the files.

    Empty where a value is none of these: a text, a number, None, a tensor, an array; lists and dicts of such.
    """
    try:
        return hashlib.sha256(json.dumps(_describe(item)).encode()).hexdigest()
    except TypeError:
        return ""


def _describe(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _describe(each) for key, each in sorted(value.items(), key=lambda pair: str(pair[0]))}
    if isinstance(value, (list, tuple)):
        return [_describe(each) for each in value]
    if isinstance(value, (str, os.PathLike)):
        return _describe_file(str(value)) or str(value)
    if isinstance(value, (Tensor, np.ndarray)):
        array = np.ascontiguousarray(value.cpu() if isinstance(value, Tensor) else value)
        if array.dtype.hasobject:
            raise TypeError
        return [str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()]
    return value.item() if isinstance(value, np.generic) else value


def hash_case_file(path: Path) -> str:
    """sha256 of a file; of a header whose voxels lie in another file, over both.

    Raises:
        TypeError: a header that does not name one file for its voxels, or one that is not there.
    """
    suffix = path.suffix.lower()
    if suffix in (".mhd", ".nhdr"):
        named = NAMES_VOXELS.findall(path.read_bytes())
        files = [path, *(path.parent / os.fsdecode(name) for name in named)]
        if len(files) != 2 or not files[1].is_file():  # a list or a pattern of files
            raise TypeError
    else:
        files = [path, *(path.with_suffix(each) for each in PAIRED if suffix in PAIRED and each != suffix)]
    digests = [hash_file(file) for file in files if file.is_file()]
    return digests[0] if len(digests) == 1 else join_digests(*digests)


def _describe_file(text: str) -> Any:
    """Digest of a file, or of all files in a folder (of DICOM slices); None where there is neither.

    A word (``split: test``) is none, though a folder where the command is run may be called so.
    """
    path = Path(text).expanduser()
    try:
        if os.sep in text and path.is_dir():
            return {name: hash_file(path / name) for name, _ in sorted(walk_files(path)) if (path / name).is_file()}
        return [hash_case_file(path)] if path.is_file() else None
    except (OSError, ValueError):  # a text that cannot be a path
        return None
