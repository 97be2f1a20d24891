import json
import re
from pathlib import Path

import pytest

from monai_lighter.errors import ConfigError
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


def test_a_case_whose_name_has_no_subject_is_one_beside_those_that_have(tmp_path):
    """Else none of them had any, and a patient was in training and validation."""
    names = ("patient_7_a", "patient_7_b", "control_x")
    touch(tmp_path, *(f"{folder}/{name}.nii.gz" for folder in ("images", "labels") for name in names))
    subjects = [case["subject"] for case in find_cases(tmp_path, "segmentation").cases]
    assert len(set(subjects)) == 2
    assert subjects[1] == subjects[2] == "patient_7"


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
    if kind == "other names":
        root = sets.flat()
        for folder, stem in (("images", "IMG"), ("labels", "SEG")):
            for i, file in enumerate(sorted((root / folder).iterdir())):
                file.rename(root / folder / f"{stem}_{i:04}.nii.gz")
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
        ("none", r"there is no table \(.csv\) and no folder '.*nowhere'"),
        ("empty", "has no cases in a layout that is known. Known are a csv table"),
        ("columns", "must have the columns image and label, it has scan, label"),
        ("no label", "1 cases of images and labels have no label map, such as 'scan_1'"),
        ("other names", "3 cases of images and labels have no label map, such as 'IMG_0000'"),
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


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


FOUR = [f"{i}.nii.gz" for i in range(4)]
HALF_RIGHT = {
    "two files of one name": (
        [*(f"{folder}/{name}" for folder in ("images", "labels") for name in FOUR), "images/1.nii"],
        "segmentation",
        "1.nii' and '1.nii.gz' have one name",
    ),
    "a channel that half of the cases have": (
        [
            *(f"imagesTr/{i}_{c:04}.nii.gz" for i in range(4) for c in range(1 + i % 2)),
            *(f"labelsTr/{n}" for n in FOUR),
        ],
        "segmentation",
        "'1' of imagesTr has 1_0000 and 1_0001, and not 1_0000 as most",
    ),
    "as many channels, but others": (
        [*(f"imagesTr/{n}.nii" for n in ("0_0000", "0_0001", "1_0000", "1_0002")), "labelsTr/0.nii", "labelsTr/1.nii"],
        "segmentation",
        "'1' of imagesTr has 1_0000 and 1_0002, and not 1_0000 and 1_0001",
    ),
    "parts and no classes": (
        [f"{part}/{name}/{i}.png" for part in ("train", "test") for name in "ab" for i in range(3)],
        "classification",
        "test, train have the same folders, such as 'b'",
    ),
    "label maps and no classes": (
        [f"{folder}/{name}" for folder in ("images", "labels") for name in FOUR],
        "classification",
        "images, labels are folders of images and label maps",
    ),
}


@pytest.mark.parametrize(("files", "task", "message"), HALF_RIGHT.values(), ids=HALF_RIGHT)
def test_a_layout_that_is_half_right_is_no_data_set(files, task, message, tmp_path):
    touch(tmp_path, *files)
    with pytest.raises(SharingError, match=message):
        find_cases(tmp_path, task)


def test_hidden_files_and_folders_are_no_cases(tmp_path):
    names = ["a/1.png", "a/1.jpg", "b/1.png", ".ipynb_checkpoints/1.png", "a/.ipynb_checkpoints/1.png", "a/._1.png"]
    touch(tmp_path, *names)
    found = find_cases(tmp_path, "classification")
    assert (len(found.cases), found.names) == (3, {0: "a", 1: "b"})


def test_nnunet_may_list_its_cases_without_channels(tmp_path):
    touch(tmp_path, *(f"imagesTr/{i}_0000.nii.gz" for i in range(4)), *(f"labelsTr/{name}" for name in FOUR))
    listed = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in FOUR]
    told = {"modality": {"0": "PET"}, "labels": {"0": "background", "1": "node"}, "training": listed}
    (tmp_path / "dataset.json").write_text(json.dumps(told))
    found = find_cases(tmp_path, "segmentation")
    assert (found.layout, found.modality, found.names[1]) == ("imagesTr and labelsTr", "", "node")
    assert found.cases[0]["image"] == [str(tmp_path / "imagesTr" / "0_0000.nii.gz")]


def table(root, labels, subjects=None):
    touch(root, *(f"{i}.png" for i in range(len(labels))))
    rows = [f"{i}.png,{label},{(subjects or labels)[i]}\n" for i, label in enumerate(labels)]
    (root / "cases.csv").write_text(f"image,label,{'subject' if subjects else 'note'}\n{''.join(rows)}")
    return root / "cases.csv"


def test_a_class_may_have_the_name_of_a_folder(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_cases(table(tmp_path, "abab"), "classification").names == {0: "a", 1: "b"}


@pytest.mark.parametrize(
    ("labels", "subjects", "message"),
    [
        (["0", "1", "nan", "1"], None, "row 3 of .*cases.csv has no label, its cell is 'nan'"),
        (["0", "", "1", "1"], None, "row 2 of .*cases.csv has no label, its cell is ''"),
        (["0.5", "1", "0", "1"], None, "the label 0.5 is no class"),
        (["Benign", "benign ", "ill", "ill"], None, "the classes 'Benign' and 'benign' differ by capitals alone"),
        (["0", "1", "0", "1"], ["p", "p", "", "q"], "the subject of 1 cases is blank, such as of .*2.png"),
    ],
)
def test_a_table_with_gaps_is_not_guessed_at(labels, subjects, message, tmp_path):
    with pytest.raises(SharingError, match=message):
        find_cases(table(tmp_path, labels, subjects), "classification")


@pytest.mark.parametrize("task", ["segmentation", "classification", "regression"])
@pytest.mark.parametrize("cell", ["", " ", "NaN"])
def test_a_channel_that_is_blank_names_its_row_and_column(cell, task, tmp_path):
    touch(tmp_path, *FOUR)
    label = "3.nii.gz" if task == "segmentation" else "1"
    rows = [
        "image_1,image,label,image_2",
        *(f"{i}.nii.gz,{i}.nii.gz,{label},{cell if i else FOUR[0]}" for i in range(2)),
    ]
    (tmp_path / "cases.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(
        SharingError, match=r"row 2 of .*cases\.csv has no image_2, its cell is .*Fill it in, or leave the row"
    ):
        find_cases(tmp_path / "cases.csv", task)


LABELS = {
    "ignore": (
        {"background": 0, "spot": 1, "ignore": 2},
        r"label 'ignore' \(2\) is of voxels to leave out.*Give these voxels",
    ),
    "ignore as the Decathlon has it": (
        {"0": "background", "1": "spot", "2": "Ignore"},
        r"label 'Ignore' \(2\) is of voxels",
    ),
    "regions": (
        {"background": 0, "whole": [1, 2], "core": 2},
        r"'whole' is a region of several classes, \[1, 2\].*own number",
    ),
}


@pytest.mark.parametrize(("labels", "message"), LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("layout", ["flat", "decathlon"])
def test_what_nnunet_has_beside_classes_is_not_trained_as_one(layout, labels, message, own_sets):
    root = getattr(own_sets, layout)()
    file = root / "dataset.json"
    told = json.loads(file.read_text()) if file.is_file() else {"channel_names": {"0": "T2"}}
    file.write_text(json.dumps({**told, "labels": labels}))
    with pytest.raises(SharingError, match=message):
        find_cases(root, "segmentation")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,label,split\na.png,0,train\nb.png,1,test\n",
            r"in the column 'split' \(test, train\) which part a case is in",
        ),
        ("image;label\na.png;0\n", "it has image;label. Save it with commas"),
        ("image,label,Arzt\na.png,0,M\xfcller\n", "is no text in UTF-8. Save it so"),
    ],
)
def test_a_table_of_another_kind_says_what_to_do(text, message, tmp_path):
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises((SharingError, ConfigError), match=message):
        find_cases(tmp_path / "t.csv", "classification")


def test_a_column_may_have_long_texts(tmp_path):
    """Longer than a file may be called."""
    rows = "".join(f'{i}.png,{i % 2},"{"no finding, " * 50}"\r\n' for i in range(4))
    (tmp_path / "t.csv").write_text(f"\ufeff,image,label,report\r\n{rows}".replace("\n", "\n0,")[:-2])
    assert len(find_cases(tmp_path / "t.csv", "classification").cases) == 4
