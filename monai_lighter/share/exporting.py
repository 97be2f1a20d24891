"""The network of a bundle in other formats, each compared with the network."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.bundle import ConfigParser, ckpt_export, onnx_export
from monai.utils import optional_import
from torch import Tensor
from torch.nn import Module

from monai_lighter.config.items import located
from monai_lighter.ensemble import Ensemble
from monai_lighter.errors import did_you_mean, in_short
from monai_lighter.errors.marks import walk_causes
from monai_lighter.errors.packages import install_hint_of
from monai_lighter.models import load_weights
from monai_lighter.share.layout import Bundle, SharingError
from monai_lighter.share.measure import TARGET, find_network, forward, take_first
from monai_lighter.share.plain_weights import write_plain_weights
from monai_lighter.trust.enforce import Trust

__all__ = ["FORMATS", "TOLERANCE", "Export", "export_bundle"]

TOLERANCE = 1e-5
NETWORK = "network_def"
OTHERWISE = "Try another format, or --trace."


class Export(NamedTuple):
    """What `export_bundle` made.

    Attributes:
        file: the exported network.
        input_shape: of the input that it was compared on.
        difference: largest absolute difference to the network's output.
        scale: largest absolute value of that output.
    """

    file: Path
    input_shape: tuple[int, ...]
    difference: float
    scale: float


class _Job(NamedTuple):
    """What each exporter is given: the bundle, its config with macros expanded (MONAI would look for their files in the working
    directory), the id of the network, a plain state dict, the file, the network, an input, and whether other sizes of the batch
    and the image are to be taken too."""

    bundle: Bundle
    config: Path
    id: str
    weights: Path
    file: Path
    network: Module
    input: Tensor
    any_size: bool = False


def export_bundle(
    directory: str | Path,
    format: str = "torchscript",
    output: str | Path | None = None,
    weights: str | Path | None = None,
    input_shape: Sequence[int] | None = None,
    trace: bool = False,
    trust: str | None = None,
) -> Export:
    """Export ``network_def`` with its weights, read the file back, and compare the two on the same noise.

    TorchScript and ONNX are written by ``monai.bundle.ckpt_export`` and ``onnx_export``, PT2 by ``torch.export``. ONNX and PT2
    take any size of the batch and the image where the network allows, else that of the input alone.

    Args:
        directory: the bundle.
        format: one of `FORMATS`.
        output: file; default: ``models/model.SUFFIX`` in the bundle.
        weights: a plain state dict or a Lightning checkpoint; default: ``models/model.pt``, of an `Ensemble` those that the
            config names.
        input_shape: ``(B, C, H, W[, D])``; default: from ``network_data_format`` of the metadata, with a batch of 1.
        trace: TorchScript by tracing rather than scripting; an `Ensemble` is traced in any case.
        trust: what the bundle may do, ``all``, ``declarative`` or ``sha256:NUMBER``. Default: the environment's
            ``MONAI_LIGHTER_TRUST``, else ``all``.

    Raises:
        SharingError: something is missing, the format cannot express the network, or the outputs differ by more than
            `TOLERANCE`; the file is not kept then.
    """
    if format not in FORMATS:
        problem = f"must be one of {', '.join(FORMATS)}, got {format!r}"
        raise SharingError.of("format", problem, did_you_mean(str(format), FORMATS))
    bundle = Bundle(directory)
    config = bundle.require("inference", "train")
    source = Path(weights or bundle.root / "models" / "model.pt").resolve()
    content = bundle.read(config)
    id = find_network(content, config.name)
    is_ensemble = str(located(content, f"{id}::{TARGET}")[1]).rpartition(".")[2] == Ensemble.__name__
    if not source.is_file() and not (is_ensemble and weights is None):
        raise SharingError.of("weights", f"{source} does not exist", "Train first, or name a file with --weights.")
    suffix = FORMATS[format][0]
    file = Path(output or bundle.root / "models" / f"model{suffix}").resolve()
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=file.parent) as folder:
        plain, written = Path(folder) / "weights.pt", Path(folder) / f"model{suffix}"
        whole = Path(folder) / config.name
        ConfigParser.export_config_file(content, whole, "json" if config.suffix == ".json" else "yaml")
        network = _build_network(bundle, config, content, id, trust)
        if isinstance(network, Ensemble) and network.cpu_offload:
            problem = "has members that take turns, of which no file can have more than one"
            raise SharingError.of(id, problem, "Set cpu_offload to false.")
        if is_ensemble and weights is None:
            torch.save(network.state_dict(), plain)
        else:
            write_plain_weights(source, plain)
        network = _load_network(network, plain, source)
        input = torch.rand(_choose_shape(bundle, input_shape), generator=torch.Generator().manual_seed(0))
        job = _Job(bundle, whole, id, plain, written, network, input)
        trace = trace or isinstance(network, Ensemble)  # whose members are called with whatever it is called with
        result = (_export_any_size(job, format) if format in TRACED else None) or _export(job, format, trace)
        written.replace(file)
    return result._replace(file=file)


def _export(job: _Job, format: str, trace: bool = False) -> Export:
    _, exporter, reader = FORMATS[format]
    try:
        exporter(job, trace)
    except Exception as error:
        problem = f"{format} cannot be written: {type(error).__name__}: {str(error).strip()[:500]}"
        raise SharingError.of(NETWORK, problem, install_hint_of(error) or OTHERWISE) from error
    try:
        exported = reader(job.file)
    except ImportError as error:
        raise SharingError.of(NETWORK, f"{format} cannot be read back", install_hint_of(error)) from error
    result = _compare(job, exported)
    if not result.difference <= TOLERANCE:
        problem = f"{format} differs from the network by {result.difference:.2e}, more than {TOLERANCE:.0e}"
        raise SharingError.of(NETWORK, problem, OTHERWISE)
    return result


def _export_any_size(job: _Job, format: str) -> Export | None:
    """With a batch of two or more, since one of 1 would be taken for fixed; None where the network does not allow it."""
    batch = torch.cat([job.input, job.input.flip(0)])
    try:
        _export(job._replace(input=batch, any_size=True), format)
        return _compare(job, FORMATS[format][2](job.file))
    except Exception:  # of the exporter, or of the runtime that reads the file
        return None


def _build_network(bundle: Bundle, config: Path, content: dict, id: str, trust: str | None) -> Module:
    granted = Trust(trust, bundle.root, [config])
    granted.require_counted_macros(ConfigParser.load_config_file(str(config)))
    parser = ConfigParser(deepcopy(content))
    parser["bundle_root"] = str(bundle.root)
    granted.require(parser)
    if granted.imports_bundle and str(bundle.root) not in sys.path:
        sys.path.insert(0, str(bundle.root))
    try:
        return parser.get_parsed_content(id)
    except Exception as error:  # of any network, and of the files that an Ensemble loads
        *_, cause = walk_causes(error)
        raise SharingError.of(id, f"cannot be built: {in_short(cause)}", "Mend the config, or its files.") from error


def _load_network(network: Module, plain: Path, source: Path) -> Module:
    try:
        return load_weights(network, plain).eval()
    except (RuntimeError, ValueError) as error:
        problem = str(error).replace(str(plain), str(source)).rstrip(".")
        raise SharingError.of("weights", problem, "Train with this config, or name a file with --weights.") from error


def _choose_shape(bundle: Bundle, given: Sequence[int] | None) -> tuple[int, ...]:
    if given:
        return tuple(int(size) for size in given)
    image = bundle.metadata().get("network_data_format", {}).get("inputs", {}).get("image", {})
    shape = (1, image.get("num_channels"), *image.get("spatial_shape", ()))
    if len(shape) < 4 or not all(isinstance(size, int) for size in shape):
        hint = 'Give --input_shape "[1, 1, 64, 64, 64]", or fill in the metadata.'
        raise SharingError.of("input_shape", f"must be whole numbers in the metadata, got {shape}", hint)
    return shape


def _write_torchscript(job: _Job, trace: bool) -> None:
    shape = list(job.input.shape) if trace else None
    ckpt_export(**_bundle_arguments(job), input_shape=shape, use_trace=trace, bundle_root=str(job.bundle.root))


def _write_onnx(job: _Job, trace: bool) -> None:
    given: dict[str, Any] = {"input_names": ["image"], "output_names": ["pred"]}
    if job.any_size:
        given["dynamic_axes"] = {key: {i: f"size_{i}" for i in _free_dimensions(job)} for key in ("image", "pred")}
    shape = list(job.input.shape)
    onnx_export(**_bundle_arguments(job), input_shape=shape, converter_kwargs=given, bundle_root=str(job.bundle.root))


def _free_dimensions(job: _Job) -> list[int]:
    """All dimensions but the channels."""
    return [0, *range(2, job.input.ndim)]


def _bundle_arguments(job: _Job) -> dict[str, Any]:
    """What MONAI's exporters share. The files they embed are the bundle's metadata and config."""
    meta = {"meta_file": str(job.bundle.metadata_file)} if job.bundle.metadata_file.is_file() else {}
    paths = {"filepath": str(job.file), "ckpt_file": str(job.weights), "config_file": str(job.config)}
    return {"net_id": job.id, **paths, **meta}


def _write_pt2(job: _Job, trace: bool) -> None:
    sizes = (dict.fromkeys(_free_dimensions(job), torch.export.Dim.AUTO),) if job.any_size else None
    torch.export.save(torch.export.export(job.network, (job.input,), dynamic_shapes=sizes), job.file)


def _read_onnx(file: Path) -> Callable[[Tensor], Tensor]:
    """By onnxruntime where it is installed, else by the reference implementation of onnx."""
    runtime, has_runtime = optional_import("onnxruntime")
    if has_runtime:
        session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        names = [session.get_inputs()[0].name]
    else:
        reference, _ = optional_import("onnx.reference")
        session = reference.ReferenceEvaluator(str(file))
        names = session.input_names
    return lambda input: torch.from_numpy(session.run(None, {names[0]: input.numpy()})[0])


def _read_torchscript(file: Path) -> Callable[[Tensor], Tensor]:
    return torch.jit.load(file, map_location="cpu")


def _read_pt2(file: Path) -> Callable[[Tensor], Tensor]:
    return torch.export.load(file).module()


def _compare(job: _Job, exported: Callable[[Tensor], Tensor]) -> Export:
    wanted = forward(job.network, job.input)
    with torch.inference_mode():
        got = take_first(exported(job.input))
    if got.shape != wanted.shape:
        problem = f"gives {tuple(got.shape)} where the network gives {tuple(wanted.shape)}"
        raise SharingError.of(NETWORK, problem, OTHERWISE)
    return Export(job.file, tuple(job.input.shape), float((got - wanted).abs().max()), float(wanted.abs().max()))


FORMATS: dict[str, tuple[str, Callable[[_Job, bool], None], Callable[[Path], Callable]]] = {
    "torchscript": (".ts", _write_torchscript, _read_torchscript),
    "onnx": (".onnx", _write_onnx, _read_onnx),
    "pt2": (".pt2", _write_pt2, _read_pt2),
}
"""Suffix, exporter and reader of each format."""
TRACED = ("onnx", "pt2")
"""Formats that are fixed to the size of the input unless told otherwise."""
