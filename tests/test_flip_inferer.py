"""Flips as test-time augmentation: equal to flips by hand, in any inferer, of members that take turns, of several heads."""

from itertools import combinations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import (
    AvgMerger,
    PatchInferer,
    SaliencyInferer,
    SimpleInferer,
    SliceInferer,
    SlidingWindowInferer,
    SlidingWindowSplitter,
)
from parts import Outputs, items, loader, trainer
from torch import nn

from monai_lighter import Ensemble, FlipInferer, SlidingWindowLabelInferer, System
from monai_lighter.system.inference import infer


def convolution(dims=2, channels=3, seed=0):
    """A network that is not symmetric."""
    torch.manual_seed(seed)
    return (nn.Conv2d if dims == 2 else nn.Conv3d)(1, channels, 3, padding=1).eval()


def picture(*shape):
    return torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(0))


def by_hand(call, image, flips):
    """The mean over flips, by NumPy."""
    results = []
    for flip in flips:
        axes = [axis + 2 for axis in flip]
        mirrored = torch.from_numpy(np.ascontiguousarray(np.flip(image.numpy(), axes)))
        results.append(np.flip(call(mirrored).numpy(), axes))
    return torch.from_numpy(np.mean(results, 0))


def every(axes):
    return [flip for size in range(len(axes) + 1) for flip in combinations(axes, size)]


@torch.no_grad()
@pytest.mark.parametrize(("dims", "axes"), [(2, [0]), (2, [0, 1]), (3, [0, 2]), (3, [0, 1, 2])])
def test_all_combinations_and_each_alone(dims, axes):
    network, image = convolution(dims), picture(*(5, 6, 7)[:dims])
    assert len(FlipInferer(axes).flips) == 2 ** len(axes)
    assert torch.allclose(FlipInferer(axes)(image, network), by_hand(network, image, every(axes)), atol=1e-6)
    alone = [(), *((axis,) for axis in axes)]
    assert torch.allclose(FlipInferer(axes, combine=False)(image, network), by_hand(network, image, alone), atol=1e-6)


@torch.no_grad()
def test_windows_are_flipped_as_in_nnunet():
    network, image = convolution(), picture(13, 17)
    inferer = SlidingWindowInferer((8, 8), overlap=0.5, mode="gaussian", sw_batch_size=3)
    expected = inferer(image, lambda window: by_hand(network, window, every([0, 1])))
    assert torch.allclose(FlipInferer([0, 1], inferer)(image, network), expected, atol=1e-6)


@torch.no_grad()
def test_where_windows_lie_alike_it_is_the_mean_of_whole_results():
    network, image = convolution(), picture(16, 24)
    inferer = SlidingWindowInferer((8, 8), overlap=0.5)
    expected = by_hand(lambda mirrored: inferer(mirrored, network), image, every([0, 1]))
    assert torch.allclose(FlipInferer([0, 1], inferer)(image, network), expected, atol=1e-6)


@torch.no_grad()
def test_label_maps_are_the_largest_of_the_mean():
    network, image = convolution(), picture(13, 17)
    arguments = {"roi_size": (8, 8), "overlap": 0.5, "mode": "gaussian"}
    full = FlipInferer([0, 1], SlidingWindowInferer(**arguments))(image, network)
    labels = FlipInferer([0, 1], SlidingWindowLabelInferer(**arguments))(image, network)
    assert torch.equal(labels.long(), full.argmax(1, keepdim=True))


@torch.no_grad()
@pytest.mark.parametrize("offloaded", [False, True])
@pytest.mark.parametrize("gives_labels", [False, True])
def test_of_members_that_take_turns(offloaded, gives_labels):
    members, image = [convolution(seed=seed) for seed in range(3)], picture(13, 17)
    arguments = {"roi_size": (8, 8), "overlap": 0.5, "mode": "gaussian"}
    whole = FlipInferer([0, 1], SlidingWindowInferer(**arguments), activation="softmax")
    expected = torch.stack([whole(image, member) for member in members]).mean(0)
    kind = SlidingWindowLabelInferer if gives_labels else SlidingWindowInferer
    ensemble = Ensemble(members, activation="softmax", cpu_offload=offloaded).eval()
    result = infer(FlipInferer([0, 1], kind(**arguments)), image, ensemble)
    if gives_labels:
        assert torch.equal(result.long(), expected.argmax(1, keepdim=True))
    else:
        assert torch.allclose(result, expected, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("splitter", [SlidingWindowSplitter((4, 4)), None])
def test_patches(splitter):
    network, image = convolution(), picture(8, 8)
    inferer = PatchInferer(splitter=SlidingWindowSplitter((4, 4)), merger_cls=AvgMerger)
    expected = inferer(image, lambda patch: by_hand(network, patch, every([0])))
    if splitter is None:
        patches, places = zip(*SlidingWindowSplitter((4, 4))(image[:1]), strict=True)
        given = MetaTensor(torch.cat(patches), meta={"location": np.array(places)})
        inferer = PatchInferer(batch_size=4, merger_cls=AvgMerger, merged_shape=(1, 3, 8, 8))
        expected = inferer(given, lambda patch: by_hand(network, patch.as_tensor(), every([0])))
        assert expected.isfinite().all()
        assert torch.allclose(infer(FlipInferer(0, inferer), given, network), expected, atol=1e-6)
        return
    assert torch.allclose(infer(FlipInferer(0, inferer), image, network), expected, atol=1e-6)


@torch.no_grad()
def test_slices_have_the_axes_that_the_network_sees():
    network, volume = convolution(), picture(8, 9, 5)
    inferer = SliceInferer(spatial_dim=2, roi_size=(8, 9))
    expected = torch.stack([by_hand(network, volume[..., i], every([0, 1])) for i in range(5)], -1)
    assert torch.allclose(FlipInferer([0, 1], inferer)(volume, network), expected, atol=1e-6)
    with pytest.raises(ValueError, match="axes must be of the 2 that the network sees, got 2"):
        FlipInferer([0, 2], inferer)(volume, network)


class Heads(nn.Module):
    """Scores of voxels, those at half the resolution, and classes of the whole."""

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = convolution(), nn.Conv2d(1, 3, 2, stride=2)

    def forward(self, x):
        fine = self.fine(x)
        return {"fine": fine, "rest": (self.coarse(x), fine[..., 0, 0])}


@torch.no_grad()
def test_several_heads():
    network, image = Heads(), picture(6, 8)
    result = FlipInferer([0, 1])(image, network)
    assert torch.allclose(result["fine"], by_hand(lambda x: network(x)["fine"], image, every([0, 1])), atol=1e-6)
    assert torch.allclose(result["rest"][0], by_hand(lambda x: network(x)["rest"][0], image, every([0, 1])), atol=1e-6)
    classes = torch.stack([network(image.flip([axis + 2 for axis in flip]))["rest"][1] for flip in every([0, 1])])
    assert torch.allclose(result["rest"][1], classes.mean(0), atol=1e-6)
    with pytest.raises(
        ValueError, match="activation must be none for a network with several outputs, got softmax for dict"
    ):
        FlipInferer(0, activation="softmax")(image, network)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "axes must be spatial axes, each once: 0, 1 or 2"),
        (([0, 0],), "each once"),
        ((-1,), "got -1"),
        (([0.5],), "axes must be"),
        ((0, None, True, "sofmax"), "activation must be one of"),
        ((0, SaliencyInferer("CAM", "layer")), "inferer must be one of images, got SaliencyInferer"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FlipInferer(*arguments)


@torch.no_grad()
def test_refused_in_a_call():
    image = picture(4, 4)
    with pytest.raises(ValueError, match="called with the image alone"):
        FlipInferer(0)(image, lambda x, other: x, image)
    with pytest.raises(ValueError, match="called with the image alone"):
        FlipInferer(0, SlidingWindowInferer((4, 4), with_coord=True))(image, lambda x, places: x)
    with pytest.raises(ValueError, match=r"must have the dimensions of the image, or be \(B, K\), got \(2, 1, 16\)"):
        FlipInferer(0)(image, lambda x: x.flatten(2))
    for network in (Ensemble([convolution()]), Ensemble([convolution()] * 2, cpu_offload=True)):
        with pytest.raises(
            ValueError, match="activation must be none for an Ensemble, got softmax: give it to the Ensemble"
        ):
            infer(FlipInferer(0, activation="softmax"), image, network)


@torch.no_grad()
def test_a_network_that_takes_the_epoch():
    calls = []

    def network(x, epoch):
        calls.append(epoch)
        return x

    image = picture(4, 4)
    assert torch.allclose(FlipInferer([0, 1])(image, network, epoch=3), image)
    assert calls == [3] * 4


@pytest.mark.slow
def test_in_a_run(tmp_path):
    class Label(nn.Module):
        def forward(self, x):
            return torch.cat([x, 1 - x], 1)

    inferer = FlipInferer([0, 1], SlidingWindowLabelInferer((4, 4)))
    outputs = Outputs()
    data = {mode: loader(items(3)) for mode in ("val", "predict")}
    system = System(Label(), data, criterion=nn.CrossEntropyLoss(), inferer=inferer)
    run = trainer(tmp_path, callbacks=[outputs])
    run.validate(system, verbose=False)  # of label maps there is no loss
    run.predict(system, return_predictions=False)
    expected = torch.stack([item["image"] for item in items(3)]) < 0.5
    for mode in ("val", "predict"):
        assert torch.equal(torch.cat([output["pred"] for output in outputs.of[mode]]).bool(), expected)
    assert not run.callback_metrics
    assert isinstance(SimpleInferer(), type(FlipInferer(0).inferer))
