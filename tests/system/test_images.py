import re

import nibabel
import numpy as np
import pytest
from monai.transforms import LoadImage

from monai_lighter.system.images import (
    cast_exactly,
    describe_unusable_affine,
    find_smallest_dtype,
    keep_header_geometry,
)

OBLIQUE = np.array([[0, -0.3, 1.1, 4], [-1.5, 0, 0.2, -7], [0, 1.2, 0.1, 2], [0, 0, 0, 1.0]])


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (np.array([0.0, 255.0], np.float32), "uint8"),
        (np.array([0, 256]), "int16"),
        (np.array([-1.0, 3.0]), "int16"),
        (np.array([0, 40000]), "uint16"),
        (np.array([0, 2**31]), "uint32"),
        (np.array([-1, 2**31]), "int64"),
        (np.array([True, False]), "uint8"),
        (np.array([0.25, 1.0]), "float32"),
        (np.array([0.1, 1.0], np.float32), "float32"),
        (np.array([0.1, 1.0], np.float64), "float64"),
        (np.array([1.0, np.nan], np.float32), "float32"),
        (np.array([1.0, np.inf]), "float32"),
        (np.array([0.5, 1e300]), "float64"),
        (np.array([0.5, 1], np.float16), "float32"),
        (np.zeros((0, 3), np.float64), "float32"),
    ],
)
def test_smallest_type(values, name):
    dtype = find_smallest_dtype(values)
    assert dtype == name
    assert np.array_equal(values.astype(dtype).astype(values.dtype), values, equal_nan=values.dtype != bool)


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        (np.array([1, 299.0]), "uint8", "the value 299.0 would be 43 as uint8"),
        (np.array([0.7]), "uint8", "the value 0.7 would be 0 as uint8"),
        (np.array([-1]), "uint8", "the value -1 would be 255"),
        (np.array([200], np.uint8), "int8", "the value 200 would be -56"),
        (np.array([np.nan]), "int16", "the value nan"),
        (np.array([np.inf]), "int32", "the value inf"),
        (np.array([2.0**63]), "int64", "the value 9"),
        (np.array([2**24 + 1]), "float32", "the value 16777217 would be 16777216"),
        (np.array([1e300]), "float32", "would be inf"),
        (np.array([2]), "bool", "the value 2"),
    ],
)
def test_a_cast_that_changes_a_value(values, dtype, message):
    with pytest.raises(ValueError, match=message):
        cast_exactly(values, dtype)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([0.0, 255.0]), "uint8"),
        (np.array([True]), "uint8"),
        (np.array([-128.0, 127]), "int8"),
        (np.array([0.1]), "float32"),
        (np.array([np.nan, np.inf]), "float32"),
        (np.array([2**24]), "float32"),
    ],
)
def test_a_cast_that_changes_none(values, dtype):
    cast = cast_exactly(values, dtype)
    assert cast.dtype == dtype
    assert np.allclose(cast, values, equal_nan=True)


def nifti(path, sform=None, pixdim=(1, 1, 1), qform=None, shape=(4, 5, 6)):
    """A file with exactly this geometry in its header, contradictions included."""
    image = nibabel.Nifti1Image(np.zeros(shape, np.float32), None)
    header = image.header
    header.set_zooms(pixdim)
    if qform is not None:
        header.set_qform(qform, code=1)
        header["pixdim"][1:4] = pixdim
    if sform is not None:
        header["sform_code"] = 1
        header["srow_x"], header["srow_y"], header["srow_z"] = np.asarray(sform, np.float32)[:3]
    data = image.get_fdata(dtype=np.float32).tobytes(order="F")
    path.write_bytes(header.binaryblock + b"\0\0\0\0" + data)
    return path


class TestAffines:
    @pytest.mark.parametrize(
        ("geometry", "message"),
        [
            ({"sform": np.zeros((4, 4))}, "no inverse"),
            ({"sform": np.where(np.eye(4) == 1, np.nan, 0)}, "not finite"),
            (
                {"sform": np.diag([1.5, 1.2, 2, 1])},
                r"sform, \[1.5, 1.2, 2.0\], contradicts its pixdim, \[1.0, 1.0, 1.0\]",
            ),
            ({"sform": np.diag([1.5, 1.2, 2, 1]), "pixdim": (3, 3, 3), "qform": np.diag([3, 3, 3, 1])}, "contradicts"),
        ],
    )
    def test_that_cannot_be_used(self, tmp_path, geometry, message):
        file = nifti(tmp_path / "x.nii", **geometry)
        described = describe_unusable_affine(file)
        assert re.search(message, described)
        assert str(np.round(LoadImage()(file).affine.numpy(), 4).tolist()) in described

    @pytest.mark.parametrize("affine", [np.eye(4), OBLIQUE, np.diag([-2.0, -2, 3, 1])])
    def test_that_can(self, tmp_path, affine):
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), affine), tmp_path / "x.nii.gz")
        assert describe_unusable_affine(tmp_path / "x.nii.gz") is None

    def test_a_file_without_affine_or_of_another_kind(self, tmp_path):
        assert describe_unusable_affine(nifti(tmp_path / "x.nii", pixdim=(2, 3, 4))) is None
        assert describe_unusable_affine(tmp_path / "x.png") is None
        (tmp_path / "broken.nii.gz").write_bytes(b"no")
        assert describe_unusable_affine(tmp_path / "broken.nii.gz") is None

    def test_the_header_of_the_source_is_kept(self, tmp_path):
        source = nifti(tmp_path / "x.nii", sform=np.diag([1.5, 1.2, 2, 1]))
        values = np.arange(120, dtype=np.uint8).reshape(4, 5, 6)
        for name, affine in (("same", np.eye(4)), ("other", np.diag([2, 1, 1, 1]))):
            nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / f"{name}.nii.gz")
            keep_header_geometry(tmp_path / f"{name}.nii.gz", source, affine, np.eye(4))
        same, other = nibabel.load(tmp_path / "same.nii.gz"), nibabel.load(tmp_path / "other.nii.gz")
        assert np.array_equal(same.affine, nibabel.load(source).affine)
        assert same.header.get_zooms() == nibabel.load(source).header.get_zooms()
        assert np.array_equal(np.asanyarray(same.dataobj), values)
        assert same.get_data_dtype() == np.uint8
        assert np.array_equal(other.affine, np.diag([2, 1, 1, 1]))
