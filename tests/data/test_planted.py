"""Faults planted in sound cases, one at a time: each is found, with its case and file, and nothing else is."""

import gzip
import shutil

import nibabel
import numpy as np
import pytest
from conftest import AFFINE, SHAPE

IMAGE, LABEL = "train_1/image.nii.gz", "train_1/label.nii.gz"


def voxel(value, file=IMAGE):
    def plant(folder):
        def put(array):
            array = array.astype(np.float32 if file == IMAGE else np.int16)
            array[0, 0, 0] = value
            return array

        folder.change(file, put)

    return plant


def affine(of_label=None, of_image=None):
    def plant(folder):
        for file, given in ((LABEL, of_label), (IMAGE, of_image)):
            if given is not None:
                folder.save(file, folder.load(file), given)

    return plant


def header(change):
    """Changes the header of the image and the label alike."""

    def plant(folder):
        for file in (IMAGE, LABEL):
            image = nibabel.load(folder.root / file)
            image = nibabel.Nifti1Image(np.asanyarray(image.dataobj), None, image.header)
            change(image.header)
            nibabel.save(image, folder.root / file)

    return plant


def sform(rows):
    """Writes an sform into the bytes of the image's header, as no library would."""

    def plant(folder):
        path = folder.root / IMAGE
        raw = bytearray(gzip.decompress(path.read_bytes()))
        fields = nibabel.nifti1.header_dtype.fields
        for name, row in zip(("srow_x", "srow_y", "srow_z"), np.asarray(rows, "<f4"), strict=False):
            start = fields[name][1]
            raw[start : start + 16] = row.tobytes()
        for name, code in (("sform_code", 1), ("qform_code", 0)):
            start = fields[name][1]
            raw[start : start + 2] = np.int16(code).tobytes()
        path.write_bytes(gzip.compress(bytes(raw)))

    return plant


def other_sform(h):
    h.set_sform(np.diag([3.0, 3, 3, 1]), 1)
    h.set_qform(None, 0)


def flipped_qform(h):
    h.set_sform(AFFINE, 1)
    h.set_qform(AFFINE @ np.diag([-1.0, 1, 1, 1]), 1)


def shifted_qform(h):
    h.set_sform(AFFINE, 1)
    moved = AFFINE.copy()
    moved[0, 3] += 4
    h.set_qform(moved, 1)


def nothing_of_the_grid(header):
    header["pixdim"][1:4] = 1
    header.set_xyzt_units("unknown")
    header["sform_code"] = header["qform_code"] = 0


def meters(h):
    h.set_xyzt_units("meter")


def cut(folder):
    path = folder.root / IMAGE
    path.write_bytes(path.read_bytes()[:400])


def short(folder):
    """A file that is no NIfTI, well packed."""
    (folder.root / IMAGE).write_bytes(gzip.compress(b"nothing of an image" * 40))


def in_data(change, mode="train"):
    def plant(folder):
        change(folder.config[f"{mode}_data"], folder)

    return plant


def no_label(cases, folder):
    del cases[1]["label"]


def blank_label(cases, folder):
    cases[1]["label"] = ""


def none_label(cases, folder):
    cases[1]["label"] = None


def a_folder(cases, folder):
    cases[1]["image"] = str(folder.root / "train_1")


def same_file(cases, folder):
    cases[0] = folder.config["train_data"][1]


def same_image_file(cases, folder):
    cases[0]["image"] = folder.config["train_data"][1]["image"]
    shutil.copy(folder.root / LABEL, folder.root / "val_0" / "label.nii.gz")


def same_content(cases, folder):
    shutil.copy(folder.root / IMAGE, folder.root / "val_0" / "image.nii.gz")


def same_subject(cases, folder):
    folder.config["train_data"][2] = folder.write("sub-01/ses-1")
    cases[0] = folder.write("sub-01/ses-2")


def subject_of_an_entry(cases, folder):
    folder.config["train_data"][2]["patient_id"] = "7"
    cases[0]["patient_id"] = "7"


def twice(folder):
    shutil.copy(folder.root / IMAGE, folder.root / "train_4" / "image.nii.gz")


def label_twice(folder):
    shutil.copy(folder.root / LABEL, folder.root / "train_4" / "label.nii.gz")


def listed_twice(cases, folder):
    cases.append(dict(cases[1]))


def no_cases(cases, folder):
    cases.clear()


def never(folder):
    for i in range(6):
        folder.change(f"train_{i}/label.nii.gz", lambda label: np.where(label == 2, 1, label))


def never_in_val(folder):
    for i in range(3):
        folder.change(f"val_{i}/label.nii.gz", lambda label: np.where(label == 2, 1, label))


def a_number_left_out(folder):
    folder.config["network_def"]["out_channels"] = 4
    for file in folder.root.rglob("label.nii.gz"):
        folder.change(file.relative_to(folder.root), lambda label: np.where(label == 2, 3, label).astype(np.uint8))


def lacking_in_train_alone(folder):
    for i in range(6):
        folder.change(f"train_{i}/label.nii.gz", lambda label: np.where(label == 1, 2, label).astype(label.dtype))


def four(folder):
    folder.save(IMAGE, folder.random.normal(0, 1, (*SHAPE, 5)).astype(np.float32))


def moved(folder):
    """A label that was padded on one side and cut on the other, with the header of its image."""
    label = folder.load(LABEL)
    image = folder.load(IMAGE) + 100 * (label > 0)
    folder.save(IMAGE, image.astype(np.float32))
    folder.save(LABEL, np.pad(label, ((4, 0), (0, 0), (0, 0)))[:-4])


def cast_on_reading(folder):
    load, *others = folder.config["preprocessing"]
    of_label = {**load, "keys": "label", "dtype": "$int"}
    folder.config["preprocessing"] = [{**load, "keys": "image"}, of_label, *others]
    folder.change(LABEL, lambda label: (label * 0.9999).astype(np.float32))


def two(folder):
    """One slice as a 2D file."""
    for file in (IMAGE, LABEL):
        folder.save(file, folder.load(file)[:, :, 3])


def all_of_two_channels(folder):
    for case in (*(f"train_{i}" for i in range(6)), *(f"val_{i}" for i in range(3))):
        folder.save(f"{case}/image.nii.gz", folder.random.normal(0, 1, (*SHAPE, 2)).astype(np.float32))


def far_spacing(folder):
    folder.write("train_1", AFFINE @ np.diag([1, 1, 3.0, 1]))


def size(folder):
    folder.write("train_1", shape=(40, 14, 10))


def other_orientation(folder):
    folder.write("train_1", AFFINE @ np.diag([-1.0, 1, 1, 1]))
    del folder.config["preprocessing"][1]


ZERO, SINGULAR, NAN = np.diag([0, 0, 0, 1.0]), AFFINE.copy(), AFFINE.copy()
SINGULAR[:, 1] = SINGULAR[:, 0]
NAN[0, 0] = np.nan
MOVED, TURNED = AFFINE.copy(), AFFINE.copy()
MOVED[2, 3] += 6
TURNED[:2, :2] = [[0.995, -0.0998], [0.0998, 0.995]] @ TURNED[:2, :2]
AT_IMAGE, AT_LABEL = ("train_1", "image.nii.gz"), ("train_1", "label.nii.gz")
AT_CASE, IN_VAL = ("train_1", ""), ("val_0", "image.nii.gz")

PLANTED = {
    "not there": (lambda f: (f.root / IMAGE).unlink(), [("error", "unreadable", *AT_IMAGE)]),
    "label not there": (lambda f: (f.root / LABEL).unlink(), [("error", "unreadable", *AT_LABEL)]),
    "cut off": (cut, [("error", "unreadable", *AT_IMAGE)]),
    "another format": (short, [("error", "unreadable", *AT_IMAGE)]),
    "0 bytes": (lambda f: (f.root / IMAGE).write_bytes(b""), [("error", "empty", *AT_IMAGE)]),
    "a folder": (in_data(a_folder), [("error", "unreadable", "train_1", "train_1")]),
    "a label that is moved": (moved, [("note", "alignment", *AT_LABEL)]),
    "cut off when it is read": (cast_on_reading, [("error", "label value", *AT_LABEL)]),
    "shape": (
        lambda f: f.change(LABEL, lambda a: np.pad(a, ((4, 0), (0, 0), (0, 0)))),
        [("error", "shape", *AT_LABEL)],
    ),
    "spacing of the label": (affine(AFFINE @ np.diag([1, 1, 1.5, 1])), [("error", "spacing", *AT_LABEL)]),
    "orientation of the label": (affine(AFFINE @ np.diag([-1.0, 1, 1, 1])), [("error", "orientation", *AT_LABEL)]),
    "no affine of the label": (
        affine(np.eye(4)),
        [("error", "spacing", *AT_LABEL), ("error", "orientation", *AT_LABEL)],
    ),
    "origin of the label": (affine(MOVED), [("error", "affine", *AT_LABEL)]),
    "direction of the label": (affine(TURNED), [("error", "affine", *AT_LABEL)]),
    "value outside": (voxel(5, LABEL), [("error", "label value", *AT_LABEL)]),
    "negative value": (voxel(-1, LABEL), [("error", "label value", *AT_LABEL)]),
    "no integers": (
        lambda f: f.change(LABEL, lambda a: (a * 0.9999).astype(np.float32)),
        [("error", "label value", *AT_LABEL)],
    ),
    "NaN in a label": (
        lambda f: f.change(LABEL, lambda a: np.where(a == 2, np.nan, a).astype(np.float32)),
        [("error", "NaN", *AT_LABEL)],
    ),
    "class never occurs": (never, [("error", "class never occurs", "", "")]),
    "class never occurs in val": (never_in_val, [("note", "class never occurs", "", "")]),
    "a number that labels leave out": (a_number_left_out, [("note", "class never occurs", "", "")] * 2),
    "a class that only val has": (lacking_in_train_alone, [("error", "class never occurs", "", "")]),
    "background alone": (lambda f: f.change(LABEL, np.zeros_like), [("note", "background", *AT_LABEL)]),
    "NaN": (voxel(np.nan), [("error", "NaN", *AT_IMAGE)]),
    "Inf": (voxel(-np.inf), [("error", "Inf", *AT_IMAGE)]),
    "all NaN": (lambda f: f.change(IMAGE, lambda a: np.full_like(a, np.nan)), [("error", "NaN", *AT_IMAGE)]),
    "constant": (lambda f: f.change(IMAGE, np.ones_like), [("error", "constant", *AT_IMAGE)]),
    "4D among 3D": (four, [("error", "axes", *AT_IMAGE)]),
    "2D among 3D": (two, [("error", "axes", *AT_IMAGE), ("error", "axes", *AT_LABEL)]),
    "channels of the network": (all_of_two_channels, [("error", "channels", "", "")] * 2),
    "affine of zeros": (sform(ZERO), [("error", "unusable affine", *AT_IMAGE)]),
    "affine of NaN": (sform(NAN), [("error", "unusable affine", *AT_IMAGE)]),
    "singular affine": (sform(SINGULAR), [("error", "unusable affine", *AT_IMAGE)]),
    "sform and pixdim": (header(other_sform), [("error", "contradicting affine", *at) for at in (AT_IMAGE, AT_LABEL)]),
    "sform and qform flipped": (
        header(flipped_qform),
        [("error", "contradicting affine", *at) for at in (AT_IMAGE, AT_LABEL)],
    ),
    "sform and qform apart": (
        header(shifted_qform),
        [("note", "contradicting affine", *at) for at in (AT_IMAGE, AT_LABEL)],
    ),
    "meters": (header(meters), [("note", "unit", *at) for at in (AT_IMAGE, AT_LABEL)]),
    "no spacing": (
        header(nothing_of_the_grid),
        [*(("note", "spacing", *at) for at in (AT_IMAGE, AT_LABEL)), ("note", "spacing outlier", *AT_IMAGE)],
    ),
    "spacing outlier": (far_spacing, [("note", "spacing outlier", *AT_IMAGE)]),
    "size outlier": (size, [("note", "size outlier", *AT_IMAGE)]),
    "orientations that stay": (other_orientation, [("note", "orientation", "", "")]),
    "the same content": (twice, [("error", "duplicate", "train_4", "image.nii.gz")]),
    "the same label": (label_twice, [("note", "duplicate", "train_4", "label.nii.gz")]),
    "listed twice": (in_data(listed_twice), [("note", "repeated", *AT_CASE)]),
    "a case in train and val": (in_data(same_file, "val"), [("error", "leakage", *AT_IMAGE)]),
    "an image in train and val": (in_data(same_image_file, "val"), [("error", "leakage", "train_1", "image.nii.gz")]),
    "content in train and val": (in_data(same_content, "val"), [("error", "leakage", *IN_VAL)]),
    "subject in train and val": (in_data(same_subject, "val"), [("error", "leakage", "sub-01", "image.nii.gz")]),
    "patient_id in train and val": (in_data(subject_of_an_entry, "val"), [("error", "leakage", *IN_VAL)]),
    "no label": (in_data(no_label), [("error", "missing", *AT_CASE)]),
    "blank label": (in_data(blank_label), [("error", "missing", *AT_CASE)]),
    "None as label": (in_data(none_label), [("error", "missing", *AT_CASE)]),
    "no cases": (in_data(no_cases, "val"), [("error", "data list", "", "")]),
}


def test_nothing_is_found_in_sound_cases(folder):
    assert folder.found() == []


@pytest.mark.parametrize(("plant", "expected"), PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_is_found_and_nothing_else(folder, plant, expected):
    plant(folder)
    assert folder.found() == expected


def test_a_folder_above_all_cases_names_no_subject(folder, tmp_path):
    assert folder.copy_to(tmp_path / "sub_2024").found() == []


def test_all_are_told_at_once(folder):
    for name in ("cut off", "value outside"):
        PLANTED[name][0](folder)
    folder.change("train_2/image.nii.gz", np.ones_like)
    (folder.root / "train_3" / "label.nii.gz").unlink()
    kinds = [(kind, case) for _, kind, case, _ in folder.found()]
    assert sorted(kinds) == [
        ("constant", "train_2"),
        ("label value", "train_1"),
        ("unreadable", "train_1"),
        ("unreadable", "train_3"),
    ]
