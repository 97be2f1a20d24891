import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from monai_lighter.commands.export import export
from monai_lighter.models import load_weights
from monai_lighter.share.exporting import FORMATS, TOLERANCE, export_bundle
from monai_lighter.share.layout import Bundle, SharingError


@pytest.fixture(scope="module")
def exported(bundles, tmp_path_factory):
    """A bundle with its network in all formats, and what was said of each."""
    pytest.importorskip("onnxruntime")
    root = Path(shutil.copytree(bundles(), tmp_path_factory.mktemp("exported") / "lesion"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        return root, json.loads(export(str(root), "all", json=True))["rows"]


@pytest.mark.slow
def test_all_formats_at_once(exported):
    root, rows = exported
    assert [row["format"] for row in rows] == list(FORMATS)
    assert all(float(row["max difference"]) <= TOLERANCE for row in rows)
    assert all(row["input"][0] == 1 for row in rows)
    assert {path.name for path in (root / "models").iterdir()} == {"model.pt", "model.ts", "model.onnx", "model.pt2"}


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_other_sizes_of_batch_and_image_are_taken(format, exported):
    root, _ = exported
    suffix, _, read = FORMATS[format]
    network = load_weights(ConfigParser(Bundle(root).read(root / "configs" / "inference.yaml"))
                           .get_parsed_content("network_def"), root / "models" / "model.pt").eval()  # fmt: skip
    for shape in ((1, 1, 64, 64), (3, 1, 32, 48)):
        input = torch.rand(shape)
        with torch.inference_mode():
            difference = (read(root / "models" / f"model{suffix}")(input) - network(input)).abs().max()
        assert difference <= TOLERANCE


FIXED = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
    def forward(self, image):
        return image.reshape(1, 1, 32, 32) * self.weight
"""


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_a_network_of_one_size_is_exported_for_that(format, created):
    root = created()
    (root / "scripts" / "fixed.py").write_text(FIXED)
    (root / "configs" / "inference.yaml").write_text("network_def: {_target_: scripts.fixed.Net}\n")
    torch.save({"weight": torch.ones(1)}, root / "models" / "model.pt")
    assert export_bundle(root, format, input_shape=[1, 1, 32, 32]).difference == 0


def test_torchscript_holds_metadata_and_config(created, tmp_path):
    root = created()
    made = export_bundle(root, output=tmp_path / "net.ts", trace=True, input_shape=[2, 1, 32, 32])
    extra = {"metadata.json": "", "inference.json": ""}
    torch.jit.load(made.file, _extra_files=extra)
    assert json.loads(extra["metadata.json"])["name"] == "Lesion"
    assert json.loads(extra["inference.json"])["network_def"]["_target_"] == "UNet"
    assert made.input_shape == (2, 1, 32, 32)


def test_from_a_lightning_checkpoint(created, tmp_path):
    root = created()
    state = torch.load(root / "models" / "model.pt", weights_only=True)
    other = {f"model.{name}": torch.zeros_like(value) for name, value in state.items()}
    torch.save({"state_dict": other, "optimizer_states": []}, tmp_path / "last.ckpt")
    assert export_bundle(root, "pt2", weights=tmp_path / "last.ckpt").scale == 0


def test_a_file_that_differs_is_not_kept(created, monkeypatch):
    root = created()
    suffix, exporter, reader = FORMATS["pt2"]
    monkeypatch.setitem(FORMATS, "pt2", (suffix, exporter, lambda file: lambda input: reader(file)(input) + 1e-3))
    with pytest.raises(SharingError, match="network_def: pt2 differs from the network by"):
        export_bundle(root, "pt2")
    assert [path.name for path in (root / "models").iterdir()] == ["model.pt"]


@pytest.mark.parametrize(
    ("arguments", "spoil", "message"),
    [
        ({"format": "onx"}, None, "Did you mean 'onnx'"),
        ({}, lambda root: (root / "models" / "model.pt").unlink(), "weights: .* does not exist"),
        ({}, lambda root: (root / "configs" / "metadata.json").unlink(), "input_shape: must be whole numbers"),
        ({"input_shape": [1, 3, 32, 32], "format": "pt2"}, None, "network_def: pt2 cannot be written"),
    ],
)
def test_what_keeps_a_network_from_being_exported(arguments, spoil, message, created):
    root = created()
    if spoil:
        spoil(root)
    with pytest.raises(SharingError, match=message):
        export_bundle(root, **arguments)
