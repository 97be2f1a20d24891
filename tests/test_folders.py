from pathlib import Path

import numpy as np
import pytest

from monai_lighter import find_common_folder


@pytest.mark.parametrize(
    ("data", "folder"),
    [
        ([{"image": "/d/a/x.nii"}, {"image": "/d/b/x.nii"}], "/d"),
        ([{"image": "/d/a/x.nii"}, {"image": "/d/a/y.nii"}], "/d/a"),
        ([{"image": "/d/ab/x.nii"}, {"image": "/d/ac/x.nii"}], "/d"),
        ([{"image": ["/d/a/t1.nii", "/e/t2.nii"]}], "/d/a"),
        ([{"image": Path("/d/a/dicom")}], "/d/a"),
        (["/d/a/x.nii"], "/d/a"),
        ([{"image": "x.nii"}], str(Path.cwd())),
        ([{"image": "~/x.nii"}], str(Path.home())),
        ([{"image": np.zeros(3)}, {"label": "/d/y.nii"}], ""),
        ([], ""),
    ],
)
def test_the_common_folder(data, folder):
    assert find_common_folder(data) == folder


def test_of_another_key():
    assert find_common_folder([{"t1": "/d/a/x.nii", "image": "/e/x.nii"}], key="t1") == "/d/a"
