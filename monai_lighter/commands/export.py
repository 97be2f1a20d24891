"""``export``: the network of a bundle in another format."""

from __future__ import annotations

from monai_lighter.commands.arguments import require_path
from monai_lighter.commands.output import format_report

__all__ = ["export"]


def export(
    bundle: str,
    format: str = "torchscript",
    output: str | None = None,
    weights: str | None = None,
    input_shape: list[int] | None = None,
    trace: bool = False,
    trust: str | None = None,
    json: bool = False,
) -> str:
    """Export the network of a bundle to TorchScript, ONNX or PT2, and compare it with the network.

    Example:

        monai-lighter export spleen --format onnx

    The file is kept only where its outputs differ by at most 1e-5 from the network's.

    Args:
        bundle: its directory.
        format: torchscript, onnx, pt2, or all.
        output: file; default: models/model.ts, .onnx or .pt2 in the bundle.
        weights: plain state dict or Lightning checkpoint; default: models/model.pt in the bundle.
        input_shape: batch, channels, space; default: from the metadata.
        trace: TorchScript by tracing rather than scripting.
        trust: what the bundle may do: all, declarative or sha256:NUMBER, which inspect prints.
        json: print the report as JSON.
    """
    require_path("bundle", bundle, "a bundle's directory")
    from monai_lighter.share.exporting import FORMATS, export_bundle

    rows = []
    for name in FORMATS if format == "all" else [format]:
        made = export_bundle(str(bundle), name, output, weights, input_shape, trace, trust)
        rows.append(
            {
                "format": name,
                "file": str(made.file),
                "bytes": made.file.stat().st_size,
                "input": list(made.input_shape),
                "max difference": f"{made.difference:.2e}",
                "max output": f"{made.scale:.2e}",
            }
        )
    return format_report({"bundle": str(bundle)}, rows, json)
