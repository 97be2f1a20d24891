"""Transforms in the wrong order and sizes for another number of axes are told; what may be meant is left alone."""

import pytest

from monai_lighter.workflow.check_config import Check
from monai_lighter.workflow.prepare import Asked

LOAD = {"_target_": "LoadImaged", "keys": ["image", "label"]}
CHANNELS = {"_target_": "EnsureChannelFirstd", "keys": ["image", "label"]}
SPACING = {"_target_": "Spacingd", "keys": ["image", "label"], "pixdim": [1.0, 1.0]}
CROP = {"_target_": "RandSpatialCropd", "keys": "image", "roi_size": [8, 8], "random_size": False}
SCALE = {"_target_": "ScaleIntensityd", "keys": "image"}


def errors(bundle, **override):
    return [str(error) for error in Check(str(bundle / "configs" / "train.yaml"), override, Asked(run_id="fit")).errors]


@pytest.mark.parametrize(
    ("listed", "wrong"),
    [
        ([LOAD, CHANNELS, SPACING, SCALE], None),
        ([LOAD, SPACING, CHANNELS], 1),
        ([LOAD, CROP, CHANNELS], 1),
        ([SPACING, LOAD, CHANNELS], 0),
        ([SCALE, LOAD, CHANNELS], 0),
        ([LOAD, SCALE, CHANNELS], None),  # it does not look at the channels
        ([LOAD, {**SPACING, "_disabled_": True}, CHANNELS], None),
        ([LOAD, SPACING, SCALE], None),  # a file may have its channels first
        ([LOAD, {**CHANNELS, "keys": "image"}, {**CROP, "keys": "image"}, {**CHANNELS, "keys": "label"}], None),
        ([{"_target_": "CopyItemsd", "keys": "image", "names": "path"}, LOAD, CHANNELS], None),
        ([LOAD, "$print", CHANNELS], None),
    ],
)
def test_order(bundle, listed, wrong):
    found = errors(bundle, preprocessing=listed)
    assert [one.partition(": ")[0] for one in found] == ([] if wrong is None else [f"preprocessing::{wrong}"])


@pytest.mark.parametrize(
    ("dims", "id", "value", "wrong"),
    [
        (3, "preprocessing::1", {**SPACING, "pixdim": [1.0, 2.0]}, "preprocessing::1::pixdim"),
        (3, "preprocessing::1", {**SPACING, "pixdim": [1.0, 1.0, 2.0]}, None),
        (3, "preprocessing::1", {**SPACING, "pixdim": 1.0}, None),  # MONAI's way of saying the same for each axis
        (3, "preprocessing::1", {**CROP, "roi_size": [8, 8]}, "preprocessing::1::roi_size"),
        (2, "preprocessing::1", {**CROP, "roi_size": [8, 8, 1]}, None),  # a slice of a volume, to be squeezed
        (2, "preprocessing::1", {**SPACING, "pixdim": [1.0, 1.0, 2.0]}, None),
    ],
)
def test_sizes_of_transforms(bundle, dims, id, value, wrong):
    found = errors(bundle, **{"network_def::spatial_dims": dims, id: value, "system::inferer": None})
    assert [one.partition(": ")[0] for one in found] == ([] if wrong is None else [wrong])


@pytest.mark.parametrize(
    ("inferer", "wrong"),
    [
        ({"_target_": "SlidingWindowInferer", "roi_size": [8, 8, 8]}, True),
        ({"_target_": "SlidingWindowInferer", "roi_size": [8, 8]}, False),
        ({"_target_": "SlidingWindowInferer", "roi_size": 8}, False),
        ({"_target_": "SliceInferer", "roi_size": [8, 8, 8]}, False),
    ],
)
def test_sizes_of_inferers(bundle, inferer, wrong):
    found = errors(bundle, **{"system::inferer": inferer})
    assert [one.partition(": ")[0] for one in found] == ["system::inferer::roi_size"] * wrong
