"""What a bundle's network takes and gives, and what it was trained on, measured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import torch
from monai.bundle import ConfigParser
from torch import Tensor
from torch.nn import Module

from monai_lighter.config.items import located
from monai_lighter.share.layout import Bundle, SharingError
from monai_lighter.system.inference import infer
from monai_lighter.system.tensors import plain
from monai_lighter.workflow.workflow import Workflow

__all__ = ["Measured", "find_network", "forward", "measure_case", "measure_noise", "take_first"]

logger = logging.getLogger(__name__)

TARGET, LOADS = "_target_", "load_weights"


class Measured(NamedTuple):
    """One forward pass of a network.

    Attributes:
        input: ``(1, C, H, W[, D])`` as the network got it, one patch where the inferer makes patches.
        output: what it gave for it.
        whole: shape of the image that the patch was taken from.
        data: summary of the data of the run.
    """

    input: Tensor
    output: Tensor
    whole: tuple[int, ...]
    data: dict[str, Any]


def measure_case(config_files: Sequence[Path], overrides: Mapping[str, Any] | None = None) -> Measured | None:
    """Measure with the first validation case (else training case) of a training config; None where it cannot be had.

    Of the data no more than one case is loaded; the headers of NIfTI files are read for the summary.

    Args:
        config_files: merged in order.
        overrides: id to the value that takes the place of the config's.
    """
    try:
        workflow = Workflow([*map(str, config_files)], run_id="fit", workflow_type="train", **(overrides or {}))
        workflow.initialize()
        modes = [mode for mode in ("train", "val") if f"system::dataloaders::{mode}" in workflow.parser]
        data = {mode: list(getattr(workflow, f"{mode}_dataset_data")) for mode in modes}
        for mode in modes:
            setattr(workflow, f"{mode}_dataset_data", data[mode][:1])
        workflow.initialize()
        system = workflow.parser.get_parsed_content("system")
        mode = "val" if "val" in data else "train"
        batch = next(iter(system.dataloaders[mode]))
        source = system.adapters[mode]["batch"](batch)[0]
    except Exception as error:
        logger.warning(f"{config_files[0].name}: no case could be loaded, so the network is measured without: {error}")
        return None
    calls = _watch(system.model, lambda: infer(system.inferer.get(mode), source, system.model))
    if calls is None:
        return None
    return Measured(*calls, tuple(plain(source).shape[2:]), _summarize(data))


def find_network(config: dict, name: str) -> str:
    """Find the id of a config's network: ``network_def``, as MONAI's tools name it, else the model of its `System`.

    Args:
        config: macros expanded.
        name: of its file, for the error.

    Raises:
        SharingError: it has neither, as where its system is a LightningModule of its own.
    """
    is_loaded = str(located(config, f"system::model::{TARGET}")[1]).endswith(LOADS)
    for id in ("network_def", *(["system::model::model"] if is_loaded else []), "system::model"):
        where, value = located(config, id)
        if value is not None:
            return where
    system = located(config, f"system::{TARGET}")[1]
    what = f"whose network is within {system}" if system else "which names no network"
    hint = "Write the network as network_def, and hand it on: '@network_def'."
    raise SharingError.of("network_def", f"is not in {name}, {what}", hint)


def measure_noise(bundle: Bundle, config_file: Path, metadata: dict) -> Measured:
    """Measure the network of a config with noise of the shape that the metadata or the inferer name.

    Raises:
        SharingError: neither names one; there is no network (`find_network`).
    """
    parser = ConfigParser(bundle.read(config_file))
    parser["bundle_root"] = str(bundle.root)
    net_id = find_network(parser.get(), config_file.name)
    network = parser.get_parsed_content(net_id)
    image = metadata.get("network_data_format", {}).get("inputs", {}).get("image", {})
    shape = image.get("spatial_shape")
    for id in ("system::inferer::roi_size", "inferer::roi_size"):
        shape = shape or (id in parser and parser.get_parsed_content(id))
    channels = image.get("num_channels")
    if channels is None and f"{net_id}::in_channels" in parser:
        channels = parser.get_parsed_content(f"{net_id}::in_channels")
    if not shape or channels is None:
        hint = "Put a case where the training config finds it, or name num_channels and spatial_shape in the metadata."
        raise SharingError.of("network_data_format", "cannot be measured without a case", hint)
    input = torch.rand(1, int(channels), *(size if isinstance(size, int) else 64 for size in shape))
    output = forward(network, input)
    return Measured(input, output, tuple(input.shape[2:]), {})


def forward(network: Callable, input: Tensor) -> Tensor:
    """Compute the first output of a network in evaluation mode, of an input ``(B, C, H, W[, D])``."""
    if isinstance(network, Module):
        network.eval()
    with torch.inference_mode():
        return take_first(network(input))


def take_first(output: Any) -> Any:
    """Of several outputs the first."""
    return output[0] if isinstance(output, (tuple, list)) else output


def _watch(model: Module, run: Callable[[], Any]) -> tuple[Tensor, Tensor] | None:
    """Input and output of the first call of a network, one case of each."""
    calls: list[tuple[Tensor, Tensor]] = []

    def hook(_: Module, inputs: tuple, output: Any) -> None:
        output = take_first(output)
        if not calls and inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            calls.append((inputs[0].detach()[:1], output.detach()[:1]))

    handle = model.register_forward_hook(hook)
    model.eval()
    with torch.no_grad():
        run()
    handle.remove()
    return calls[0] if calls else None


def _summarize(data: dict[str, list]) -> dict[str, Any]:
    """Numbers of cases, and ranges of shape and spacing of NIfTI images; no names."""
    images = {
        mode: {str(item.get("image", item) if isinstance(item, dict) else item): item for item in items}
        for mode, items in data.items()
    }
    summary: dict[str, Any] = {f"{mode}_cases": len(distinct) for mode, distinct in images.items()}
    headers = [_read_header(item) for distinct in images.values() for item in distinct.values()]
    shapes, spacings = zip(*filter(None, headers), strict=True) if any(headers) else ((), ())
    for name, values in (("image_shape", shapes), ("spacing_mm", spacings)):
        for end in (min, max) if values else ():
            summary[f"{name}_{end.__name__}"] = [round(end(sizes), 4) for sizes in zip(*values, strict=False)]
    return summary


def _read_header(item: Any) -> tuple[tuple[int, ...], tuple[float, ...]] | None:
    image = item.get("image") if isinstance(item, dict) else None
    if not isinstance(image, str) or not image.endswith((".nii", ".nii.gz")) or not Path(image).is_file():
        return None
    header: Any = nib.load(image).header
    shape = tuple(int(size) for size in header.get_data_shape()[:3])
    return shape, tuple(float(zoom) for zoom in header.get_zooms()[: len(shape)])
