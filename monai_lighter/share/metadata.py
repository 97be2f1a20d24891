"""A bundle's metadata, filled in from what is true: versions, packages, shapes."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, version
from pathlib import Path
from typing import Any

from monai.bundle.utils import ID_SEP_KEY
from torch import Tensor

from monai_lighter.config.items import at, items
from monai_lighter.share.layout import PROOF
from monai_lighter.share.measure import Measured
from monai_lighter.share.schema import SCHEMA_URL

__all__ = ["complete_metadata", "find_packages"]

APART = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}
"""Packages that metadata name in fields of their own."""
NATIVE = ("monai_lighter", "lightning")
READERS = {"ITKReader": "itk", "PILReader": "pillow", "NrrdReader": "pynrrd", "PydicomReader": "pydicom"}
IMAGES = re.compile(r"(?:Load|Save)Image(?:d|D|Dict)?$")


def complete_metadata(
    metadata: Mapping[str, Any],
    name: str,
    measured: Measured,
    packages: Mapping[str, str],
    key_metric: Mapping[str, float],
    version: str | None = None,
    proof: str = "",
) -> tuple[dict[str, Any], list[str]]:
    """Fill in metadata of the present schema.

    What can be known is written over what was there: versions, required packages, ``network_data_format``, the key metric,
    ``training_data``. What only the author can say stays, or gets a neutral text.

    Args:
        metadata: as the bundle has it; may be empty.
        name: of the bundle's folder.
        measured: one forward pass.
        packages: required distributions and their versions.
        key_metric: name and value.
        version: of the bundle; default: the one it has, or 0.1.0.
        proof: the checks that it is to pass; empty where it is not tried out.

    Returns:
        The metadata, and the names of the fields that only the author can fill and that were missing.
    """
    title = name.replace("_", " ").capitalize()
    texts = {
        "name": title,
        "task": title,
        "description": title,
        "authors": f"The authors of {title}",
        "copyright": f"Copyright (c) the authors of {title}",
        "intended_use": "Research, not to be used for diagnostic purposes",
    }
    number = str(version or metadata.get("version", "0.1.0"))
    kept = {**metadata.get("optional_packages_version", {}), **metadata.get("required_packages_version", {})}
    present = {package: now for package in kept if (now := _find_version(package)) is not None}
    known = {
        "schema": SCHEMA_URL,
        "version": number,
        "changelog": {number: "packaged", **metadata.get("changelog", {})},
        **{field: _find_version(package) or "unknown" for field, package in APART.items()},
        "required_packages_version": dict(sorted({**kept, **present, **packages}.items())),
    }
    measurements = {
        "eval_metrics": {**metadata.get("eval_metrics", {}), **key_metric},
        "network_data_format": _describe_network(metadata.get("network_data_format", {}), measured),
    }
    if measured.data:
        measurements["training_data"] = measured.data
    completed = {**known, **texts, **metadata, **known, **measurements}
    completed.pop("optional_packages_version", None)
    completed.pop(PROOF, None)
    completed.update({PROOF: proof} if proof else {})
    return completed, [field for field in texts if field not in metadata]


def _describe_network(known: Mapping[str, Any], measured: Measured) -> dict[str, Any]:
    """``network_data_format`` with channels, shapes and types as measured; the rest as it was, or by shape."""
    image = {"type": "image", "format": "magnitude", "modality": "n/a", **known.get("inputs", {}).get("image", {})}
    spatial = measured.output.ndim > 2
    pred = {"type": "image", "format": "segmentation"} if spatial else {"type": "probabilities", "format": "classes"}
    pred.update(known.get("outputs", {}).get("pred", {}))
    patches = tuple(measured.input.shape[2:]) != measured.whole or bool(image.get("is_patch_data", False))
    image.update(_describe_tensor(measured.input, patches, image))
    pred.update(_describe_tensor(measured.output, patches and spatial, pred))
    inputs, outputs = ({**known.get(side, {})} for side in ("inputs", "outputs"))
    return {**known, "inputs": {**inputs, "image": image}, "outputs": {**outputs, "pred": pred}}


def _describe_tensor(tensor: Tensor, patches: bool, known: Mapping[str, Any]) -> dict[str, Any]:
    channels = tensor.shape[1] if tensor.ndim > 1 else 1
    named = known.get("channel_def", {})
    return {
        "num_channels": channels,
        "spatial_shape": list(tensor.shape[2:]),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "value_range": known.get("value_range", []),
        "is_patch_data": patches,
        "channel_def": {str(i): named.get(str(i), f"channel {i}") for i in range(channels)},
    }


def find_packages(configs: Iterable[dict], code: Iterable[Path], own: Iterable[str], native: bool) -> dict[str, str]:
    """Find the distributions that a bundle imports, and their installed versions, by name.

    Args:
        configs: as read from the files.
        code: Python files.
        own: names of modules that are the bundle's own.
        native: whether it runs on this package alone; else it needs pytorch-ignite.
    """
    modules: set[str] = set()
    distributions: set[str] = {*NATIVE} if native else {"pytorch-ignite"}
    for config in configs:
        for id, value in items(config):
            if not isinstance(value, str):
                continue
            if id.endswith(f"{ID_SEP_KEY}_target_"):
                modules.update([value.partition(".")[0]] if "." in value else [])
                if IMAGES.search(value) and not at(config, id.rpartition(ID_SEP_KEY)[0]).get("reader"):
                    distributions.add("nibabel")
                distributions.update(name for reader, name in READERS.items() if value.endswith(reader))
            elif value in READERS:
                distributions.add(READERS[value])
            elif value.startswith("$"):
                modules.update(_find_imports(value[1:].strip()))
    for file in code:
        modules.update(_find_imports(file.read_text("utf-8")))
    known = _find_distributions()
    for module in modules - {*APART.values()} - {*own} - sys.stdlib_module_names:
        distributions.update(known.get(module, [module])[:1])
    found = {name: _find_version(name) for name in sorted(distributions, key=str.lower)}
    return {name: number for name, number in found.items() if number is not None}


@cache
def _find_distributions() -> dict[str, list[str]]:
    """Distributions by the modules that they install, read once, which takes a second.

    ``packages_distributions`` of Python 3.10 leaves out those without a ``top_level.txt``.
    """
    found: dict[str, list[str]] = {}
    for distribution in Distribution.discover():
        listed = (distribution.read_text("top_level.txt") or "").split()
        files = () if listed else distribution.files or ()
        for module in listed or {file.parts[0].partition(".")[0] for file in files if file.suffix == ".py"}:
            found.setdefault(module, []).append(distribution.metadata["Name"])
    return found


def _find_version(name: str) -> str | None:
    """The installed version of a distribution, without its local part; None where it is not installed."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def _find_imports(source: str) -> Iterator[str]:
    """Top-level modules that a piece of Python imports; of an expression that refers to items too."""
    try:
        tree = ast.parse(re.sub(r"[@%][\w:#]+", "_", source) if source.startswith(("@", "%")) else source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
