import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacing
from monai.utils import MetaKeys, SpaceKeys

from monai_lighter.callbacks.case_slices import Grid, cut_slice, cut_volume, read_slices, write_slices

ANISOTROPIC = np.array([[0, 0, -5.0, 90], [-0.8, 0, 0, 70], [0, 1.5, 0, -30], [0, 0, 0, 1]])
"""Voxels run to P, S, L; 0.8, 1.5 and 5 mm apart."""
ANGLE = np.radians(20)
OBLIQUE = np.array(
    [
        [np.cos(ANGLE), -np.sin(ANGLE) * 2, 0, -20],
        [np.sin(ANGLE), np.cos(ANGLE) * 2, 0, 10],
        [0, 0, 3, 5],
        [0, 0, 0, 1],
    ]
)


def image_of(values, affine, name="a.nii.gz"):
    meta = {"filename_or_obj": name, MetaKeys.SPACE: SpaceKeys.RAS}
    return MetaTensor(torch.as_tensor(values)[None], affine=torch.as_tensor(affine), meta=meta)


def case(shape, affine):
    """A label with a ball, a prediction without one corner of it, and an image whose value is the world's x."""
    label = np.zeros(shape, np.int64)
    label[2:7, 3:8, 1:4] = 1
    pred = label.copy()
    pred[2:4, 3:8, 2] = 0
    world = np.einsum("ij,j...->i...", affine[:3, :3], np.indices(shape)) + affine[:3, 3][:, None, None, None]
    return image_of(world[0].astype(np.float32), affine), image_of(label, affine), image_of(pred, affine)


@pytest.mark.parametrize("affine", [ANISOTROPIC, OBLIQUE], ids=["anisotropic", "oblique"])
def test_the_slice_is_that_of_the_canonical_volume_with_the_largest_area_of_error(affine):
    image, label, pred = case((10, 12, 6), affine)
    shown = cut_slice(Grid.of_case(label, pred, pred), image, {1: "ball"}, "a", "dice", 0.5)
    canonical = [
        nibabel.as_closest_canonical(nibabel.Nifti1Image(each[0].numpy().astype(np.int16), affine))
        for each in (label, pred)
    ]
    wrong = np.asarray(canonical[0].dataobj) != np.asarray(canonical[1].dataobj)
    spacing = np.linalg.norm(canonical[0].affine[:3, :3], axis=0)
    areas = {
        axis: wrong.sum(axis=tuple({0, 1, 2} - {axis})).max()
        * spacing[[each for each in range(3) if each != axis]].prod()
        for axis in range(3)
    }
    axis = max(areas, key=areas.get)
    assert shown.plane == ("sagittal", "coronal", "axial")[axis]
    assert shown.sides == ("APSI", "RLSI", "RLAP")[axis]
    assert shown.error == pytest.approx(areas[axis])
    across, up = (spacing[each] for each in range(3) if each != axis)
    assert shown.pixel == pytest.approx((up, across))
    for given, mask in zip(canonical, (shown.label, shown.pred), strict=True):
        flat = np.take(np.asarray(given.dataobj), shown.number - 1, axis)
        np.testing.assert_array_equal(mask[0], flat[::-1, ::-1].T == 1)
    assert shown.classes == ["ball"]
    assert (shown.oblique > 1) == (affine is OBLIQUE)
    assert shown.oblique == pytest.approx(20 if affine is OBLIQUE else 0, abs=1e-3)


def test_an_image_on_another_grid_lies_below_by_its_affine():
    image, label, pred = case((10, 12, 6), ANISOTROPIC)
    fine = Spacing(pixdim=(1.1, 1.3, 2.0), mode="bilinear", padding_mode="border")(image)
    assert fine.shape != image.shape
    shown, same = (cut_slice(Grid.of_case(label, pred, pred), each, {}, "a", "dice", 0.5) for each in (fine, image))
    difference = abs(shown.image.astype(int) - same.image.astype(int))
    assert difference[1:-1, 1:-1].max() <= 6  # half a voxel would be 21
    assert same.image.max() == 255


def test_an_image_on_a_grid_that_nobody_knows_is_left_out():
    _, label, pred = case((10, 12, 6), ANISOTROPIC)
    shown = cut_slice(Grid.of_case(label, pred, pred), torch.rand(1, 5, 5, 5), {}, "a", "dice", 0.5)
    assert shown.image.size == 0
    assert shown.label.size


def test_one_hot_and_label_map_are_the_same_slice():
    image, label, pred = case((10, 12, 6), OBLIQUE)
    label[0, 5, 5, 3] = 2
    hot = torch.nn.functional.one_hot(label.as_tensor()[0], 3).movedim(-1, 0).float()
    one = cut_slice(Grid.of_case(label, pred, pred), image, {}, "a", "dice", 0.5)
    other = cut_slice(Grid.of_case(hot, pred, pred), image, {}, "a", "dice", 0.5)
    np.testing.assert_array_equal(one.label, other.label)
    assert one.error == other.error


def test_classes_that_overlap_keep_their_channels():
    label = torch.zeros(3, 8, 8)
    label[0, 1:7, 1:7] = label[1, 2:5, 2:5] = 1
    pred = label.clone()
    pred[1, 2, 2:5] = 0
    shown = cut_slice(Grid.of_case(label, pred, None), torch.rand(1, 8, 8), {0: "whole", 1: "core"}, "a", "dice", 0.5)
    assert shown.classes == ["whole", "core"]
    assert shown.error == 3
    np.testing.assert_array_equal(shown.label[1], label[1].bool().numpy())
    assert (shown.unit, shown.pixel, shown.sides) == ("voxels", (1, 1), "")


@pytest.mark.parametrize(
    ("label", "pred"),
    [
        (torch.ones(1, 8, 8), torch.randn(2, 8, 8)),
        (torch.ones(1, 8, 8), torch.rand(1, 8, 8)),
        (torch.ones(1, 8, 8), torch.ones(1, 4, 4)),
        (torch.ones(1, 8, 8), torch.full((1, 8, 8), torch.nan)),
        (torch.ones(1), torch.ones(1)),
        (3, torch.ones(1, 8, 8)),
    ],
    ids=["logits", "probabilities", "sizes", "nan", "classification", "number"],
)
def test_what_is_no_label_map_has_no_slice(label, pred):
    assert Grid.of_case(label, pred, None) is None


def test_two_dimensions_lie_as_in_the_file():
    label = np.zeros((8, 5), np.int64)
    label[6, 1] = 1
    affine = np.diag([0.5, 2.0, 1.0, 1.0])
    shown = cut_slice(
        Grid.of_case(image_of(label, affine), image_of(label * 0, affine), image_of(label, affine)),
        image_of(label.astype(np.float32), affine),
        {},
        "a",
        "dice",
        0.0,
    )
    assert shown.label.shape == (1, 5, 8)
    assert shown.label[0, 1, 6]
    assert shown.image[1, 6] == 255
    assert shown.pixel == (2.0, 0.5)
    assert shown.error == 1.0
    assert shown.plane == "axis 0 to the right, axis 1 downwards"


def test_lps_is_turned_to_ras():
    image, label, pred = case((10, 12, 6), ANISOTROPIC)
    own = cut_slice(Grid.of_case(label, pred, pred), image, {}, "a", "dice", 0.5)
    flip = np.diag([-1.0, -1, 1, 1]) @ ANISOTROPIC
    turned = [image_of(each[0].numpy(), flip) for each in (image, label, pred)]
    for each in turned:
        each.meta[MetaKeys.SPACE] = SpaceKeys.LPS
    other = cut_slice(Grid.of_case(turned[1], turned[2], turned[2]), turned[0], {}, "a", "dice", 0.5)
    np.testing.assert_array_equal(own.label, other.label)
    np.testing.assert_array_equal(own.image, other.image)


def test_a_volume_keeps_few_voxels_and_its_size(tmp_path):
    shape = (160, 140, 90)
    label = image_of(np.zeros(shape, np.int64), np.diag([1.0, 1.0, 3.0, 1.0]))
    label[0, 10:50, 10:50, 10:50] = 2
    grid = Grid.of_case(label, label, label)
    volume = cut_volume(grid, label.float(), "a")
    assert volume.image.size <= 700_000
    assert volume.steps[2] == 1
    for n, kept, step, spacing, own in zip(
        shape, volume.label.shape, volume.steps, volume.spacing, (1, 1, 3), strict=True
    ):
        assert kept == -(-n // step)
        assert spacing == own * step
    np.testing.assert_array_equal(
        volume.label, label[0].numpy()[tuple(slice(None, None, each) for each in volume.steps)]
    )
    shown = cut_slice(grid, label.float(), {}, "a", "dice", float("inf"))
    write_slices(tmp_path / "slices.npz", [shown], volume)
    (read,), other = read_slices(tmp_path / "slices.npz")
    assert read._replace(label=0, pred=0, image=0) == shown._replace(label=0, pred=0, image=0, pixel=[*shown.pixel])
    np.testing.assert_array_equal(read.label, shown.label)
    np.testing.assert_array_equal(other.image, volume.image)
