"""Label maps equal the largest channel of what MONAI's sliding window gives, voxel for voxel, without holding it."""

import random

import nibabel
import numpy as np
import pytest
import torch
import yaml
from monai.data import MetaTensor
from monai.data.utils import dense_patch_slices
from monai.inferers import SlidingWindowInferer
from torch import nn

from monai_lighter import Ensemble, SlidingWindowLabelInferer, Workflow
from monai_lighter.window_sums import WindowSums

ARGUMENTS = {"roi_size": (6, 7), "overlap": 0.4, "mode": "gaussian"}


def network(dims, channels, dtype=None, coarse=False):
    """A convolution, of other type and with many ties where asked for."""
    convolution = (nn.Conv2d if dims == 2 else nn.Conv3d)(1, channels, 3, padding=1).eval()

    def call(windows):
        scores = convolution(windows.float()) + torch.linspace(0, 1, windows.shape[-1])
        return ((scores * 2).round() / 2 if coarse else scores).to(dtype or windows.dtype)

    return call


def both(inputs, model, **arguments):
    """What MONAI gives, and our labels."""
    with torch.no_grad():
        return SlidingWindowInferer(**arguments)(inputs, model), SlidingWindowLabelInferer(**arguments)(inputs, model)


@pytest.mark.parametrize("seed", range(60))
def test_voxel_for_voxel(seed):
    torch.manual_seed(seed)
    draw = random.Random(seed)
    dims = 2 + seed % 2
    most = 40 if dims == 2 else 18
    dtype = draw.choice([torch.float32, torch.float64, torch.float16, torch.bfloat16])
    padding = draw.choice(["constant", "replicate"])
    arguments = {
        "roi_size": [draw.choice([-1, draw.randint(2, most)]) for _ in range(dims)],
        "sw_batch_size": draw.choice([1, 2, 3, 7]),
        "overlap": draw.choice([0.0, 0.25, 0.5, 0.8, [draw.random() * 0.85 for _ in range(dims)]]),
        "mode": draw.choice(["constant", "gaussian"]),
        "padding_mode": padding,
        "cval": 0.5 if padding == "constant" else 0.0,
    }
    inputs = torch.randn(draw.choice([1, 2, 3]), 1, *[draw.randint(3, most) for _ in range(dims)]).to(dtype)
    inputs = MetaTensor(inputs) if seed % 5 == 0 else inputs
    scores = draw.choice([dtype, torch.float16, torch.bfloat16, torch.float32])
    full, labels = both(inputs, network(dims, draw.choice([2, 3, 5]), scores, seed % 3 == 0), **arguments)
    assert labels.dtype is torch.uint8
    assert type(labels) is type(full)
    assert torch.equal(plain(labels).long(), plain(full).argmax(1, keepdim=True))


def plain(tensor):
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite(value):
    pattern = torch.randn(1, 4, 6, 7)
    pattern[:, 2, 1:4, 2:5] = value
    pattern[:, :, 5, 5] = value
    full, labels = both(torch.rand(1, 1, 15, 16), lambda windows: pattern + windows, **ARGUMENTS)
    assert torch.equal(labels.long(), full.argmax(1, keepdim=True))


@pytest.mark.parametrize(("classes", "dtype"), [(256, torch.uint8), (257, torch.int16), (300, torch.int16)])
@pytest.mark.parametrize("scores", [torch.float32, torch.bfloat16])
def test_many_classes(classes, dtype, scores):
    full, labels = both(torch.rand(1, 1, 12, 12), network(2, classes, scores), **ARGUMENTS)
    assert labels.dtype is dtype
    assert torch.equal(labels.long(), full.argmax(1, keepdim=True))
    assert labels.max() > 127


@pytest.mark.parametrize("limit", [0.4, [0.3, 0.5, 0.6]])
@pytest.mark.parametrize("sigmoid", [True, False])
def test_classes_that_overlap(limit, sigmoid):
    inputs, model = torch.rand(2, 1, 15, 16), network(2, 3)
    full, _ = both(inputs, model, **ARGUMENTS)
    limits = torch.tensor(limit).reshape(-1, 1, 1)
    with torch.no_grad():
        found = SlidingWindowLabelInferer(**ARGUMENTS, threshold=limit, sigmoid=sigmoid)(inputs, model)
    assert found.dtype is torch.uint8
    assert torch.equal(found.bool(), (full.sigmoid() if sigmoid else full) >= limits)
    assert 0 < found.float().mean() < 1


def test_any_number_of_classes_that_overlap_is_of_0_and_1():
    labels = SlidingWindowLabelInferer(**ARGUMENTS, threshold=0.5)(torch.rand(1, 1, 9, 9), network(2, 300))
    assert labels.shape == (1, 300, 9, 9)
    assert labels.dtype is torch.uint8


def test_the_mean_of_several_networks():
    torch.manual_seed(0)
    models = [nn.Conv2d(1, 3, 3, padding=1).eval() for _ in range(3)]
    inputs = torch.rand(1, 1, 15, 16)
    with torch.no_grad():
        mean = SlidingWindowInferer(**ARGUMENTS)(
            inputs, lambda windows: sum(model(windows).softmax(1) for model in models) / 3
        )
        labels = SlidingWindowLabelInferer(**ARGUMENTS)(inputs, Ensemble(models, activation="softmax"))
        one = SlidingWindowLabelInferer(**ARGUMENTS)(inputs, models[0])
    assert torch.equal(labels.long(), mean.argmax(1, keepdim=True))
    assert not torch.equal(labels, one)


def test_arguments_as_monais():
    inputs, places = torch.rand(2, 1, 15, 16), {"monai": [], "own": []}
    weights = torch.rand(6, 7) + 0.1
    model = network(2, 4)

    def located(windows, coords, scale, to):
        places[to].append([tuple(coord) for coord in coords])
        return model(windows) * scale

    reference = SlidingWindowInferer(**ARGUMENTS, sw_batch_size=3, with_coord=True)
    reference.roi_weight_map = weights
    own = SlidingWindowLabelInferer(**ARGUMENTS, sw_batch_size=3, with_coord=True, roi_weight_map=weights)
    with torch.no_grad():
        full, labels = reference(inputs, located, -1.0, to="monai"), own(inputs, located, -1.0, to="own")
    assert torch.equal(labels.long(), full.argmax(1, keepdim=True))
    assert places["own"] == places["monai"]
    cached = {**ARGUMENTS, "cache_roi_weight_map": True, "sw_device": "cpu", "device": "cpu", "cpu_thresh": 1}
    full, labels = both(inputs, model, **cached)
    assert torch.equal(labels.long(), full.argmax(1, keepdim=True))


def test_metadata_and_operations_are_those_of_the_input():
    inputs = MetaTensor(torch.rand(1, 1, 15, 16), affine=torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0])))
    inputs.meta["filename_or_obj"] = "a.nii.gz"
    inputs.push_applied_operation({"class": "Flip"})
    full, labels = both(inputs, network(2, 3), **ARGUMENTS)
    assert labels.meta.keys() == full.meta.keys()
    assert torch.equal(labels.affine, inputs.affine)
    assert labels.applied_operations == full.applied_operations == inputs.applied_operations


def test_only_what_overlaps_is_held():
    windows = dense_patch_slices((40, 40, 40), (16, 16, 16), (12, 12, 12))
    sums = WindowSums(
        (1, 1, 40, 40, 40), windows, None, "cpu", (torch.float32,) * 2, lambda values: values.argmax(0)[None]
    )
    held = []
    for window in windows:
        sums.add(0, window, torch.rand(5, 16, 16, 16))
        held.append(sum(cell.value[0].numel() for cell in sums.cells.values()))
    assert held[-1] == 0
    # a slab of the first axis' overlap, a row of the second's, a piece of the third's
    assert max(held) <= 4 * 40 * 40 + 12 * 4 * 40 + 12 * 12 * 4
    assert max(held) < 40**3 / 4


@pytest.mark.parametrize(
    ("inputs", "model", "arguments", "message"),
    [
        (torch.rand(1, 1, 8, 8), nn.Conv2d(1, 2, 1).train(), {}, "label maps, which have no gradient"),
        (torch.rand(1, 1, 8, 8), nn.Conv2d(1, 1, 1).eval(), {}, "the largest of 1 channels is always the first"),
        (torch.rand(1, 1, 8, 8), lambda x: (x, x), {}, "must give one tensor, got tuple"),
        (torch.rand(1, 1, 8, 8), lambda x: {"a": x}, {}, "must give one tensor, got dict"),
        (torch.rand(1, 1, 8, 8), lambda x: x[..., ::2], {}, r"must give \(N, K, …\)"),
        (torch.rand(1, 1, 8, 8), lambda x: x.long(), {}, "of floating-point numbers for windows"),
        (torch.ones(1, 1, 8, 8).long(), nn.Identity().eval(), {}, "the input must be"),
        (torch.rand(1, 1, 8, 8), lambda x: torch.cat([x, x], 1), {"threshold": [0.5]}, "one for each of 2 channels"),
        (torch.rand(1, 1, 8, 8), lambda x: torch.cat([x, x], 1), {"overlap": 1.0}, "overlap must be from 0 to below 1"),
        (
            torch.rand(1, 1, 8, 8),
            lambda x: x,
            {"roi_weight_map": torch.ones(3, 3)},
            "roi_weight_map must be of roi_size",
        ),
    ],
)
def test_what_it_refuses(inputs, model, arguments, message):
    with pytest.raises(ValueError, match=message):
        SlidingWindowLabelInferer((4, 4), **arguments)(inputs, model)


def test_arguments_it_does_not_have():
    with pytest.raises(ValueError, match="sigmoid is for a threshold"):
        SlidingWindowLabelInferer((4, 4), sigmoid=True)
    with pytest.raises(TypeError, match="buffer_steps"):
        SlidingWindowLabelInferer((4, 4), buffer_steps=1)
    with pytest.raises(ValueError, match="condition is not known"):
        SlidingWindowLabelInferer((4, 4))(torch.rand(1, 1, 8, 8), lambda x: x, condition=torch.rand(1, 1, 8, 8))


RESAMPLED = [
    {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True},
    {"_target_": "Spacingd", "keys": "image", "pixdim": [0.7, 0.8], "mode": "bilinear"},
]
INVERT = {
    "_target_": "Invertd",
    "keys": "pred",
    "transform": "@preprocessing",
    "orig_keys": "image",
    "nearest_interp": True,
}
LARGEST = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
SAVE = {
    "_target_": "SaveImaged",
    "keys": "pred",
    "output_dir": "@output_dir",
    "separate_folder": False,
    "print_log": False,
    "resample": False,
}
WINDOWS = {"roi_size": [8, 8], "overlap": 0.5, "mode": "gaussian"}
LABELS = {"_target_": "monai_lighter.SlidingWindowLabelInferer", **WINDOWS}
SCORES = {"_target_": "SlidingWindowInferer", **WINDOWS}


def saved(folder):
    return {path.name: np.asarray(nibabel.load(path).dataobj) for path in sorted(folder.glob("*.nii.gz"))}


def same(found, expected):
    assert found.keys() == expected.keys()
    assert found
    for name, voxels in expected.items():
        assert found[name].shape == voxels.shape == (16, 16)
        assert np.array_equal(found[name], voxels)
    return {*np.unique(np.stack([*found.values()])).tolist()}


@pytest.mark.slow
def test_files_of_a_prediction_on_the_grid_of_the_source(bundle, monkeypatch):
    monkeypatch.chdir(bundle)

    def predicted(name, inferer, *first):
        override = {
            "seed": 1,
            "output_dir": name,
            "preprocessing::transforms": RESAMPLED,
            "system::inferer": inferer,
            "system::postprocessing::predict::transforms": [*first, INVERT, SAVE],
        }
        Workflow("configs/inference.yaml", logging_file=False, **override).predict()
        return saved(bundle / name)

    assert same(predicted("own", LABELS), predicted("monai", SCORES, LARGEST)) == {0, 1}


@pytest.mark.slow
def test_files_of_an_engine(bundle, monkeypatch):
    monkeypatch.chdir(bundle)
    native = yaml.safe_load((bundle / "configs" / "inference.yaml").read_text())
    shared = {
        key: native[key] for key in ("bundle_root", "dataset_dir", "output_dir", "imports", "data", "network_def")
    }
    loader = native["system"]["dataloaders"]["predict"]

    def predicted(name, inferer, *first):
        engine = {
            "_target_": "SupervisedEvaluator",
            "device": "cpu",
            "val_data_loader": loader,
            "network": "@network_def",
            "inferer": inferer,
            "postprocessing": {"_target_": "Compose", "transforms": [*first, INVERT, SAVE]},
        }
        config = {
            **shared,
            "output_dir": name,
            "preprocessing": {"_target_": "Compose", "transforms": RESAMPLED},
            "evaluator": engine,
            "initialize": ["$monai.utils.set_determinism(1)"],
            "run": ["$@evaluator.run()"],
        }
        (bundle / "configs" / "engine.yaml").write_text(yaml.safe_dump(config))
        workflow = Workflow("configs/engine.yaml", logging_file=False)
        workflow.initialize()
        workflow.run()
        workflow.finalize()
        return saved(bundle / name)

    assert same(predicted("own", LABELS), predicted("monai", SCORES, LARGEST)) == {0, 1}
