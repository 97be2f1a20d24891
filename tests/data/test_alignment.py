import numpy as np
import pytest

from monai_lighter.data.alignment import find_better_shift

RANDOM = np.random.default_rng(0)
LABEL = np.zeros((40, 36, 30), np.uint8)
LABEL[12:26, 10:24, 9:20] = 1
IMAGE = (RANDOM.normal(0, 1, LABEL.shape) + 3 * LABEL).astype(np.float32)


@pytest.mark.parametrize("voxels", [-8, -6, 6, 8])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_label_that_was_moved(axis, voxels):
    found = find_better_shift(IMAGE, np.roll(LABEL, voxels, axis))
    assert (found.axis, found.voxels) == (axis, -voxels)


def test_the_correlation_is_that_of_numpy():
    few = np.s_[4:36, 12:23, 10:21]  # few enough to be taken whole
    label, image = np.roll(LABEL, 8, 0)[few], IMAGE[few]
    found = find_better_shift(image, label)
    assert found.before == pytest.approx(abs(np.corrcoef(image.ravel(), label.ravel())[0, 1]), rel=1e-4)
    moved = np.corrcoef(image[:-8].ravel(), label[8:].ravel())[0, 1]
    assert found.correlation == pytest.approx(abs(moved), rel=1e-4)


def test_nothing_is_said_of_a_label_in_its_place_or_of_an_image_that_does_not_show_it():
    assert find_better_shift(IMAGE, LABEL) is None
    assert find_better_shift(-IMAGE, LABEL) is None
    assert find_better_shift(RANDOM.normal(0, 1, LABEL.shape), LABEL) is None
    assert find_better_shift(IMAGE, np.zeros_like(LABEL)) is None
    assert find_better_shift(np.ones_like(IMAGE), LABEL) is None


def test_nothing_is_said_of_an_image_with_a_value_that_is_not_finite():
    image, label = IMAGE[:, 8:22, 8:22].copy(), np.roll(LABEL, 8, 0)[:, 8:22, 8:22]
    assert find_better_shift(image, label) is not None
    image[::2, ::2, ::2] = np.nan
    assert find_better_shift(image, label) is None
