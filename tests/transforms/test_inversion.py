"""The label map of `InvertArgmaxd` is that of MONAI's own two transforms, in every voxel, and so is what is known of it."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import (
    AsDiscreted,
    BorderPadd,
    CenterSpatialCropd,
    Compose,
    CropForegroundd,
    DivisiblePadd,
    EnsureChannelFirstd,
    EnsureTyped,
    Flipd,
    Invertd,
    LoadImaged,
    OneOf,
    Orientationd,
    Rotate90d,
    ScaleIntensityRanged,
    Spacingd,
    SpatialCropd,
    SpatialPadd,
)
from scipy.spatial.transform import Rotation

from monai_lighter.check.parameters import find_accepted
from monai_lighter.transforms import InvertArgmaxd, inversion
from monai_lighter.trust.objects import find, is_class

AXES = {"keys": "image", "axcodes": "RAS", "labels": None}


@pytest.fixture
def interpolated(monkeypatch):
    """Numbers of voxels that were interpolated, of each image that was not left to MONAI."""
    counts = []
    find = inversion._find_points

    def count(voxels, *others):
        counts.append(len(voxels))
        return find(voxels, *others)

    monkeypatch.setattr(inversion, "_find_points", count)
    return counts


def make_image(rng, shape, spacing):
    """An image ``(1, H, W, D)`` whose axes run any way, every other time obliquely."""
    turn = np.zeros((3, 3))
    turn[rng.permutation(3), range(3)] = rng.choice([-1, 1], 3)
    affine = np.eye(4)
    affine[:3, :3] = (turn if rng.random() < 0.5 else Rotation.random(rng=rng).as_matrix()) * spacing
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return MetaTensor(torch.rand(1, *shape), affine=torch.as_tensor(affine), meta={"filename_or_obj": "case.nii.gz"})


def make_outputs(kind, channels, shape, seed):
    """Outputs of a network ``(C, H, W, D)``."""
    noise = torch.randn(channels, *shape, generator=torch.Generator().manual_seed(seed))
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, n) for n in shape], indexing="ij"))
    blobs = torch.stack([(grid - c / channels).square().sum(0) * -4 for c in range(channels)])
    if kind == "a hair apart":
        noise[1:] = torch.nextafter(noise[:1], torch.tensor(9.0))
    return {
        "noise": noise,
        "ties": noise.round(),
        "one-hot": (noise > 0).float(),
        "saturated": (noise * 300).softmax(0),
        "a hair apart": noise,
        "blobs": blobs.softmax(0),
        "logits": 50 * blobs,
        "float64": blobs.double(),
        "float16": blobs.half(),
        "not a number": torch.where(noise > 3, torch.nan, blobs),
        "huge": noise * 1e37,
        "tiny": noise * 1e-42,
        "zero": noise * 0,
    }[kind]


KINDS = (
    *("noise", "ties", "one-hot", "saturated", "a hair apart", "blobs", "logits", "float64", "float16"),
    *("not a number", "huge", "tiny", "zero"),
)


def both(preprocessing, image, outputs, **options):
    """What MONAI's transforms make of the outputs for an image, and what ours makes."""
    item = preprocessing({"image": image})
    options = {"keys": "pred", "transform": preprocessing, "orig_keys": "image", "nearest_interp": False, **options}
    results = []
    for post in (Compose([Invertd(**options), AsDiscreted("pred", argmax=True)]), InvertArgmaxd(**options)):
        pred = MetaTensor(outputs.clone()).copy_meta_from(item["image"])
        results.append(post({**item, "pred": pred})["pred"])
    return results


def assert_same(stock, ours):
    assert stock.shape == ours.shape
    assert stock.dtype == ours.dtype
    assert int((stock.as_tensor() != ours.as_tensor()).sum()) == 0
    assert torch.equal(stock.affine, ours.affine)
    assert str(stock.meta) == str(ours.meta)
    assert stock.applied_operations == ours.applied_operations


def make_preprocessing(rng, shape):
    """A ``Spacingd`` among transforms of those that a config may have beside it."""
    spacing = {"pixdim": rng.choice([0.7, 1.0, 1.5, 2.0, 3.0], 3), "align_corners": bool(rng.random() < 0.3)}
    before = [
        Orientationd(**AXES),
        Rotate90d("image", k=1),
        SpatialCropd("image", roi_start=(1, 1, 2), roi_end=[n - 1 for n in shape]),
        CenterSpatialCropd("image", roi_size=[n - 2 for n in shape]),
        SpatialPadd("image", spatial_size=(20, 20, 20)),
        BorderPadd("image", spatial_border=2),
    ]
    after = [
        CropForegroundd("image", source_key="image", select_fn=lambda values: values > 0.4),
        DivisiblePadd("image", k=8),
        Flipd("image", spatial_axis=0),
        ScaleIntensityRanged("image", 0, 1, 0, 2),
    ]
    dtype = np.float32 if rng.random() < 0.3 else np.float64
    chosen = [[each for each in part if rng.random() < 0.4] for part in (before, after)]
    return Compose([*chosen[0], Spacingd("image", mode="bilinear", dtype=dtype, **spacing), *chosen[1]])


@pytest.mark.parametrize("kind", KINDS)
def test_label_maps_are_those_of_monai(kind, interpolated):
    for seed in range(12):
        rng = np.random.default_rng([KINDS.index(kind), seed])
        shape = rng.integers(6, 25, 3)
        preprocessing = make_preprocessing(rng, shape)
        image = make_image(rng, shape, rng.uniform(0.6, 3, 3))
        size = preprocessing({"image": image})["image"].shape[1:]
        outputs = make_outputs(kind, int(rng.choice([2, 3, 7])), size, seed)
        assert_same(*both(preprocessing, image, outputs))
    if kind not in ("not a number", "huge", "tiny"):
        assert len(interpolated) > 8  # the others are left to MONAI


def test_without_the_margin_rounded_ties_would_go_to_the_wrong_class(monkeypatch):
    monkeypatch.setattr(inversion, "MARGIN", 0.0)
    image = make_image(np.random.default_rng(1), (20, 20, 20), 1.3)
    preprocessing = Compose([Spacingd("image", pixdim=2.0)])
    outputs = make_outputs("a hair apart", 2, preprocessing({"image": image})["image"].shape[1:], 0)
    stock, ours = both(preprocessing, image, outputs)
    assert (stock.as_tensor() != ours.as_tensor()).any()


def test_only_voxels_at_the_border_of_a_class_are_interpolated(interpolated):
    image = make_image(np.random.default_rng(0), (60, 60, 60), 0.8)
    preprocessing = Compose([Orientationd(**AXES), Spacingd("image", pixdim=1.5)])
    outputs = make_outputs("blobs", 3, preprocessing({"image": image})["image"].shape[1:], 0)
    stock, ours = both(preprocessing, image, outputs)
    assert_same(stock, ours)
    assert len(ours.unique()) == 3
    assert 0 < interpolated[0] < 0.2 * ours.numel()


def test_source_voxels_that_lie_on_voxels_of_the_prediction():
    """Where a rounded coordinate decides which voxels a point lies between."""
    for pixdim in ((1, 1, 1), (2, 2, 2), (0.5, 1, 3), (4, 0.25, 1)):
        image = MetaTensor(torch.rand(1, 12, 16, 20), affine=torch.eye(4) + torch.zeros(4, 4))
        for align_corners in (False, True):
            preprocessing = Compose([Spacingd("image", pixdim=pixdim, align_corners=align_corners)])
            size = preprocessing({"image": image})["image"].shape[1:]
            assert_same(*both(preprocessing, image, make_outputs("ties", 3, size, 3)))


@pytest.mark.parametrize(
    ("transforms", "shape", "options"),
    [
        ([Spacingd("image", pixdim=1.5)], (1, 16, 17), {}),
        ([Spacingd("image", pixdim=1.5)], (1, 14, 15, 16), {"nearest_interp": True}),
        ([Spacingd("image", pixdim=1.5, mode="nearest")], (1, 14, 15, 16), {}),
        ([Spacingd("image", pixdim=1.5, mode=3)], (1, 14, 15, 16), {}),
        ([Spacingd("image", pixdim=1.5, padding_mode="zeros")], (1, 14, 15, 16), {}),
        ([Spacingd("image", pixdim=1.5), Spacingd("image", pixdim=2.0)], (1, 14, 15, 16), {}),
        ([Spacingd("other", pixdim=1.5, allow_missing_keys=True)], (1, 14, 15, 16), {}),
        ([Orientationd(**AXES)], (1, 14, 15, 16), {}),
    ],
)
def test_what_is_left_to_monai(transforms, shape, options, interpolated):
    rank = len(shape) - 1
    image = MetaTensor(torch.rand(shape), affine=torch.diag(torch.tensor([-0.9, 1.1, 2.0, 1.0])[[*range(rank), 3]]))
    preprocessing = Compose([*transforms, EnsureTyped("image")])
    size = preprocessing({"image": image})["image"].shape[1:]
    outputs = torch.randn(3, *size, generator=torch.Generator().manual_seed(0))
    assert_same(*both(preprocessing, image, outputs, **options))
    assert not interpolated


def test_a_transform_that_changes_values_and_comes_before_is_inverted_before_the_argmax(interpolated):
    class Negated(Flipd):
        """Flips, and its inverse changes the sign too."""

        def inverse(self, data):
            inverted = super().inverse(data)
            return {key: -value for key, value in inverted.items()}

    image = MetaTensor(torch.rand(1, 14, 15, 16), affine=torch.diag(torch.tensor([0.9, 1.1, 2.0, 1.0])))
    preprocessing = Compose([Negated("image", spatial_axis=1), Spacingd("image", pixdim=1.5)])
    outputs = make_outputs("blobs", 3, preprocessing({"image": image})["image"].shape[1:], 0)
    assert_same(*both(preprocessing, image, outputs))
    assert not interpolated


def test_one_transform_without_a_compose(interpolated):
    image = make_image(np.random.default_rng(3), (20, 21, 22), 1.2)
    transform = Spacingd("image", pixdim=2.0)
    outputs = make_outputs("blobs", 2, transform({"image": image})["image"].shape[1:], 0)
    assert_same(*both(transform, image, outputs))
    assert interpolated


def test_transforms_of_another_kind_are_refused():
    choice = OneOf([Spacingd("image", pixdim=2.0), Spacingd("image", pixdim=1.0)])
    with pytest.raises(ValueError, match="must be a Compose or a dictionary transform, got OneOf"):
        InvertArgmaxd("pred", transform=choice, orig_keys="image")


def test_its_parameters_are_checked_and_it_is_no_code():
    assert find_accepted(InvertArgmaxd) == find_accepted(Invertd)
    assert is_class(find("monai_lighter.transforms.InvertArgmaxd").object)


def test_from_a_file_through_a_loader_by_its_name_in_a_config(tmp_path, interpolated):
    affine = np.diag([-0.8, -0.8, 2.5, 1.0])
    data = np.random.default_rng(0).normal(0, 200, (40, 40, 16)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "case.nii.gz")
    names = [("LoadImaged", {}), ("EnsureChannelFirstd", {}), ("Orientationd", {"axcodes": "RAS", "labels": None})]
    names += [("Spacingd", {"pixdim": [1.5, 1.5, 2.0]}), ("EnsureTyped", {})]
    inversion_config = {"transform": "@before", "keys": "pred", "orig_keys": "image", "nearest_interp": False}
    config = {
        "before": {
            "_target_": "Compose",
            "transforms": [{"_target_": name, "keys": "image", **own} for name, own in names],
        },
        "ours": {"_target_": "monai_lighter.transforms.InvertArgmaxd", **inversion_config},
        "stock": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Invertd", **inversion_config},
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            ],
        },
    }
    parser = ConfigParser(config)
    before = parser.get_parsed_content("before")
    assert isinstance(before.transforms[0], LoadImaged)
    assert isinstance(before.transforms[1], EnsureChannelFirstd)
    batch = list_data_collate([before({"image": str(tmp_path / "case.nii.gz")})])
    batch["pred"] = torch.cat([batch["image"], -batch["image"] + 30], 1)
    stock, ours = (parser.get_parsed_content(id)(decollate_batch(batch)[0])["pred"] for id in ("stock", "ours"))
    assert_same(stock, ours)
    assert ours.shape == (1, 40, 40, 16)
    assert np.allclose(ours.affine, affine)
    assert interpolated
