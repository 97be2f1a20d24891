import re
from pathlib import Path

import pytest

from monai_lighter.share.found_cases import find_cases
from monai_lighter.share.layout import SharingError


def short(case):
    return {
        key: [Path(file).name for file in value] if key == "image" else Path(str(value)).name
        for key, value in case.items()
    }


def test_the_layout_of_nnunet(sets):
    found = find_cases(sets.ct(), "segmentation")
    assert found.layout == "imagesTr and labelsTr"
    assert short(found.cases[1]) == {"image": ["liver_001_0000.nii.gz"], "label": "liver_001.nii.gz"}
    assert len(found.cases) == 6


def test_the_layout_of_the_decathlon(sets):
    found = find_cases(sets.decathlon(), "segmentation")
    assert (len(found.cases), found.modality, found.names[2]) == (6, "CT", "tumour")


def test_names_and_modality_of_nnunet(own_sets):
    root = own_sets.flat()
    (root / "dataset.json").write_text(
        '{"channel_names": {"0": "T2"}, "labels": {"background": 0, "spot": 1}, "numTraining": 3}'
    )
    found = find_cases(root, "segmentation")
    assert (found.layout, found.modality, found.names) == ("images and labels", "MR", {0: "background", 1: "spot"})


def test_the_layout_of_bids(sets):
    found = find_cases(sets.mr(), "segmentation")
    assert [short(case) for case in found.cases[:2]] == [
        {
            "image": [f"sub-01_ses-{n}_FLAIR.nii.gz", f"sub-01_ses-{n}_T1w.nii.gz"],
            "label": f"sub-01_ses-{n}_dseg.nii.gz",
            "subject": "sub-01",
        }
        for n in (1, 2)
    ]
    assert len(found.cases) == 6


def test_a_folder_a_class(sets):
    found = find_cases(sets.classes(), "classification")
    assert found.names == {0: "benign", 1: "malignant"}
    assert [case["label"] for case in found.cases] == [0] * 12 + [1] * 4


def test_tables(sets, own_sets):
    numbers = find_cases(sets.table(), "regression")
    assert [case["label"] for case in numbers.cases][:2] == [40.5, 41.5]
    assert [case["subject"] for case in numbers.cases][:3] == ["p0", "p0", "p1"]
    texts = find_cases(own_sets.table(ages=False), "classification")
    assert ([case["label"] for case in texts.cases], texts.names) == ([0] * 4 + [1] * 4, {0: "ill", 1: "well"})


def test_subjects_are_read_from_names_that_have_them(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for name in ("patient_7_a", "patient_7_b", "patient_8_a"):
            (tmp_path / folder / f"{name}.nii.gz").touch()
    assert [case["subject"] for case in find_cases(tmp_path, "segmentation").cases] == [
        "patient_7",
        "patient_7",
        "patient_8",
    ]


def spoil(kind, sets):
    if kind == "none":
        return sets.folder / "nowhere", "segmentation"
    if kind == "empty":
        (sets.folder / "empty").mkdir()
        return sets.folder / "empty", "segmentation"
    if kind == "columns":
        (sets.folder / "t.csv").write_text("scan,label\na,b\n")
        return sets.folder / "t.csv", "segmentation"
    if kind == "no label":
        root = sets.flat()
        (root / "labels" / "scan_1.nii.gz").unlink()
        return root, "segmentation"
    if kind == "no channel":
        root = sets.mr()
        next(root.rglob("sub-03*T1w*")).unlink()
        return root, "segmentation"
    if kind == "text as number":
        return sets.table(ages=False), "regression"
    return sets.table(ages=False), "segmentation"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("none", "there is no table and no folder '.*nowhere'"),
        ("empty", "has no cases in a layout that is known. Known are a csv table"),
        ("columns", "must have the columns image and label, it has scan, label"),
        ("no label", "1 cases of images and labels have no label map, such as 'scan_1'"),
        ("no channel", "sub-03/ses-1 has 1 label maps .* and FLAIR, not one label map and FLAIR, T1w as most have"),
        ("text as number", "the label 'ill' is no number"),
        ("text as file", "the label 'ill' is none of a segmentation. .*--task classification"),
    ],
)
def test_what_cannot_be_taken_says_what_to_do(kind, message, own_sets):
    place, task = spoil(kind, own_sets)
    with pytest.raises(SharingError) as raised:
        find_cases(place, task)
    assert re.search(message, str(raised.value))
    assert raised.value.findings[0].hint
