"""A bundle's metadata, filled in from what is true."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from monai_lighter.share.measure import Measured
from monai_lighter.share.requirements import package_version
from monai_lighter.share.schema import SCHEMA_URL

__all__ = ["completed"]

ORDER = (
    "schema",
    "version",
    "changelog",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "required_packages_version",
    "name",
    "task",
    "description",
    "authors",
    "copyright",
    "data_source",
    "data_type",
    "image_classes",
    "label_classes",
    "pred_classes",
    "eval_metrics",
    "intended_use",
    "references",
    "training_data",
    "network_data_format",
)


def completed(
    metadata: Mapping[str, Any],
    name: str,
    measured: Measured,
    packages: Mapping[str, str],
    key_metric: Mapping[str, float],
    version: str | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Metadata of the present schema.

    What can be known is written over what was there: versions, required packages, ``network_data_format``, the key metric,
    ``training_data``. What only the author can say stays, or gets a neutral text.

    Args:
        metadata: as the bundle has it; may be empty.
        name: of the bundle's folder.
        measured: one forward pass.
        packages: required distributions and their versions.
        key_metric: name and value.
        version: of the bundle; default: the one it has, or 0.1.0.

    Returns:
        The metadata, and the names of the fields that only the author can fill and that were missing.
    """
    filled = deepcopy(dict(metadata))
    older = filled.pop("optional_packages_version", {})
    kept = {**older, **filled.get("required_packages_version", {})}
    now = {package: number for package in kept if (number := package_version(package)) is not None}
    title = name.replace("_", " ").capitalize()
    texts = {
        "name": title,
        "task": title,
        "description": title,
        "authors": f"The authors of {title}",
        "copyright": f"Copyright (c) the authors of {title}",
        "intended_use": "Research, not to be used for diagnostic purposes",
    }
    missing = [field for field in texts if field not in filled]
    for field, text in texts.items():
        filled.setdefault(field, text)
    filled["schema"] = SCHEMA_URL
    filled["version"] = str(version or filled.get("version", "0.1.0"))
    filled.setdefault("changelog", {}).setdefault(filled["version"], "packaged")
    for field, package in (("monai_version", "monai"), ("pytorch_version", "torch"), ("numpy_version", "numpy")):
        filled[field] = package_version(package) or "unknown"
    filled["required_packages_version"] = dict(sorted({**kept, **now, **packages}.items()))
    filled["eval_metrics"] = {**filled.get("eval_metrics", {}), **key_metric}
    if measured.data:
        filled["training_data"] = measured.data
    filled["network_data_format"] = _network_format(filled.get("network_data_format", {}), measured)
    ordered = [field for field in ORDER if field in filled]
    return {field: filled[field] for field in [*ordered, *(field for field in filled if field not in ordered)]}, missing


def _network_format(known: Mapping[str, Any], measured: Measured) -> dict[str, Any]:
    """``network_data_format`` with channels, shapes and types as measured; the rest as it was, or by shape."""
    image = known.get("inputs", {}).get("image", {})
    pred = known.get("outputs", {}).get("pred", {})
    patches = tuple(measured.input.shape[2:]) != measured.whole or bool(image.get("is_patch_data", False))
    spatial = measured.output.ndim > 2
    output = {"type": "image", "format": "segmentation"} if spatial else {"type": "probabilities", "format": "classes"}
    inputs = {
        "type": "image",
        "format": "magnitude",
        "modality": "n/a",
        **image,
        **_tensor(measured.input, patches, image),
    }
    outputs = {**output, **pred, **_tensor(measured.output, patches and spatial, pred)}
    return {
        **known,
        "inputs": {**known.get("inputs", {}), "image": inputs},
        "outputs": {**known.get("outputs", {}), "pred": outputs},
    }


def _tensor(tensor: Any, patches: bool, known: Mapping[str, Any]) -> dict[str, Any]:
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
