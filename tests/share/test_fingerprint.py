"""What is read from data sets, against numpy on the same files."""

import csv
import gzip
import json
import re
import shutil

import nibabel
import numpy as np
import pytest
import yaml
from monai.bundle import ConfigParser
from PIL import Image

from monai_lighter import ConfigError
from monai_lighter.commands.init import init
from monai_lighter.share import fingerprint
from monai_lighter.share.create import create_bundle
from monai_lighter.share.layout import Bundle, SharingError


def arrays(folder, pattern="*.nii.gz"):
    return [nibabel.load(path) for path in sorted(folder.rglob(pattern))]


def common(root):
    return yaml.safe_load((root / "configs" / "common.yaml").read_text())


@pytest.fixture
def made(tmp_path):
    """Makes a bundle of a data set; gives its folder."""

    def make(data, task="segmentation", memory="1GB", **wanted):
        create_bundle(tmp_path / "made", task, data=data, memory=memory, **wanted)
        return tmp_path / "made"

    return make


def test_ct(sets, made):
    data = sets.ct()
    root = made(data)
    config, text = common(root), (root / "configs" / "common.yaml").read_text()
    images, labels = arrays(data / "imagesTr"), arrays(data / "labelsTr")
    spacings = np.array([image.header.get_zooms() for image in images])
    assert np.allclose(config["spacing"][:2], np.median(spacings, axis=0)[:2], rtol=1e-3)
    assert np.isclose(config["spacing"][2], np.percentile(spacings[:, 2], 10), rtol=1e-3)
    assert "median of 6 cases: 0.8 to 1.05 x 0.8 to 1.05 x 4 to 6.5; of the coarse axis the 10th percentile" in text
    inside = np.concatenate(
        [image.get_fdata()[label.get_fdata() > 0] for image, label in zip(images, labels, strict=True)]
    )
    window, scale = config["preprocessing"][3:5]
    assert np.allclose([window["a_min"], window["a_max"]], np.percentile(inside, [0.5, 99.5]), atol=1)
    assert np.allclose([scale["subtrahend"], scale["divisor"]], [inside.mean(), inside.std()], rtol=1e-2)
    assert (window["b_min"], window["b_max"], window["clip"]) == (window["a_min"], window["a_max"], True)
    assert "guessed: 6 of 6 cases have values below -500" in text
    assert config["num_classes"] == 3
    assert "labels 0, 1, 2 of 6 cases; 2 in 3" in text


def test_mr_of_two_channels(sets, made):
    root = made(sets.mr())
    config, metadata = common(root), Bundle(root).metadata()
    assert (config["num_channels"], config["spacing"]) == (2, [1.0, 1.0, 1.0])
    assert config["preprocessing"][3] == {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True}
    assert metadata["network_data_format"]["inputs"]["image"]["num_channels"] == 2
    splits = json.loads((root / "splits.json").read_text())
    parts = [splits["test"], *splits["folds"]]
    assert sum(map(len, parts)) == 6
    assert sum(any("sub-01" in name for name in part) for part in parts) == 1


def test_as_many_cases_are_cached_as_fit_half_of_the_memory(sets, made, monkeypatch, tmp_path):
    """CacheDataset keeps all of them else, and hundreds of large volumes have the process killed."""

    def read(root):
        text = (root / "configs" / "train.yaml").read_text()
        return yaml.safe_load(text), re.search("cache_rate: .*  # (.*)", text)[1]

    config, said = read(made(sets.mr()))
    assert config["cache_rate"] == 1.0
    bytes_of_all = 6 * 24 * 26 * 28 * (2 + 1) * 4
    assert f"all of them take {bytes_of_all / 2**20:.0f} MB" in said
    shutil.rmtree(tmp_path / "made")
    monkeypatch.setattr(fingerprint, "read_free_memory", lambda: bytes_of_all)
    config, said = read(made(sets.mr()))
    assert config["cache_rate"] == 0.5
    assert {each["dataset"]["cache_rate"] for each in config["system"]["dataloaders"].values()} == {"@cache_rate"}
    assert "were free" in said


def test_a_modality_that_is_said_decides(sets, made):
    root = made(sets.mr(), modality="CT")
    assert common(root)["preprocessing"][3]["_target_"] == "ScaleIntensityRanged"
    assert Bundle(root).metadata()["network_data_format"]["inputs"]["image"]["modality"] == "CT"


def test_dataset_json_says_modality_and_names(sets, made):
    root = made(sets.decathlon())
    assert "CT (dataset.json)" in (root / "configs" / "common.yaml").read_text()
    assert Bundle(root).metadata()["network_data_format"]["outputs"]["pred"]["channel_def"]["2"] == "tumour"


def test_three_cases_are_one_each(sets, made):
    root = made(sets.flat())
    assert common(root)["network_def"]["spatial_dims"] == 2
    splits = json.loads((root / "splits.json").read_text())
    assert [len(part) for part in (splits["test"], *splits["folds"])] == [1, 1, 1]


def test_classes_and_their_balance(sets, made):
    root = made(sets.classes(), "classification")
    config, train = common(root), Bundle(root).read(root / "configs" / "train.yaml")
    assert (config["num_classes"], config["image_size"]) == (2, [40, 38])
    assert train["system"]["criterion"]["weight"] == f"$torch.tensor({[round(16 / 2 / 12, 4), 2.0]})"
    assert "12 of benign, 4 of malignant" in (root / "configs" / "common.yaml").read_text()
    assert json.loads((root / "splits.json").read_text())["stratify"] == "label"


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_no_batch_of_a_training_is_one_small_image(task, made, tmp_path, monkeypatch):
    """Of 28 x 28 points one is left at the end of the network, of which batch norm has no variance."""
    random, rows = np.random.default_rng(0), ["image,label"]
    for i in range(15):
        Image.fromarray(random.integers(0, 255, (28, 28)).astype(np.uint8)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{i % 2}")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    root = made(tmp_path / "cases.csv", task)
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(root)
    parser = ConfigParser()
    parser.read_config(["configs/train.yaml"])
    network = parser.get_parsed_content("network_def").train()
    training = len(parser.get_parsed_content("train_data"))
    parser["batch_size"] = training - 1
    parser.parse(True)
    batches = [*parser.get_parsed_content("system::dataloaders::train")]
    assert [len(network(batch["image"])) for batch in batches] == [training - 1]
    parser["batch_size"] = training - 2
    parser.parse(True)
    assert [len(batch["image"]) for batch in parser.get_parsed_content("system::dataloaders::train")] == [
        training - 2,
        2,
    ]


def test_regression_of_a_table(sets, made):
    root = made(sets.table(), "regression")
    with open(root / "data" / "cases.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows][:2] == ["40.5", "41.5"]
    assert common(root)["folds"]["subject"] == "subject"
    assert common(root)["image_size"] == [20, 22, 24]


def test_what_is_said_is_taken(sets, made):
    root = made(sets.ct(), num_classes=5, spacing=[1, 1, 4], patch_size=[32, 32, 8], authors="Ada")
    config = common(root)
    assert (config["num_classes"], config["spacing"], config["patch_size"]) == (5, [1, 1, 4], [32, 32, 8])
    assert "3, 4 in none" in (root / "configs" / "common.yaml").read_text()


def shape(root):
    label = nibabel.load(root / "labels" / "scan_1.nii.gz")
    nibabel.save(
        nibabel.Nifti1Image(label.get_fdata()[1:].astype(np.uint8), label.affine), root / "labels" / "scan_1.nii.gz"
    )


def nan(root):
    image = nibabel.load(root / "images" / "scan_1.nii.gz")
    values = image.get_fdata().astype(np.float32)
    values[3, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, image.affine), root / "images" / "scan_1.nii.gz")


def cut_off(root):
    file = root / "images" / "scan_1.nii.gz"
    file.write_bytes(file.read_bytes()[:300])


def empty(root):
    for file in (root / "labels").iterdir():
        label = nibabel.load(file)
        nibabel.save(nibabel.Nifti1Image(np.zeros(label.shape, np.uint8), label.affine), file)


def eight_bits(root):
    for file in (root / "labels").iterdir():
        label = nibabel.load(file)
        nibabel.save(nibabel.Nifti1Image((label.get_fdata() * 255).astype(np.uint8), label.affine), file)


def colours(root):
    shutil.rmtree(root)
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
        for i in range(3):
            values = np.random.default_rng(i).integers(0, 2, (20, 24, 3)).astype(np.uint8)
            Image.fromarray(values if folder == "labels" else values * 90).save(root / folder / f"{i}.png")


def sagittal(root):
    for file in sorted(root.rglob("*.nii.gz")):
        image = nibabel.load(file)
        turned = np.array([[0, 0, 1.0, 5], [-0.5, 0, 0, 3], [0, 0.5, 0, 2], [0, 0, 0, 1]])
        nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), turned), file)


def few(root):
    for folder in ("images", "labels"):
        (root / folder / "scan_1.nii.gz").unlink()


WRONG = {
    "another shape": (
        shape,
        "case scan_1.nii.gz, .*labels/scan_1.nii.gz: the shape of the label, 59 x 50, is not that of",
    ),
    "NaN": (nan, "is not a number in 1 of 3000 voxels"),
    "cut off": (cut_off, "images/scan_1.nii.gz: cannot be read"),
    "no foreground": (empty, "no label has anything but background"),
    "sagittal slices": (
        sagittal,
        "scan_0.nii.gz is a 2D image in a sagittal, coronal or oblique plane.* volumes of one",
    ),
    "two cases": (few, "has 2 cases. Training, validation and test need one each"),
    "0 and 255": (eight_bits, "the labels are 0, 255: of 256 classes most occur in no case. .*--num_classes 256"),
    "a label in colours": (colours, "the label map .*png has 3 channels. Write one channel"),
}


@pytest.mark.parametrize(("spoil", "message"), WRONG.values(), ids=WRONG)
def test_faulty_cases_are_told_and_nothing_is_written(spoil, message, own_sets, made, tmp_path):
    data = own_sets.flat()
    spoil(data)
    with pytest.raises(SharingError) as raised:
        made(data)
    assert re.search(message, str(raised.value))
    assert not (tmp_path / "made").exists()


def test_labels_may_leave_a_number_out(own_sets, made, check_command):
    """As BraTS does (0, 1, 2, 4): what `init` takes, `check --data` does not call wrong."""
    data = own_sets.ct()
    for file in (data / "labelsTr").iterdir():
        label = nibabel.load(file)
        values = np.where(label.get_fdata() == 2, 4, label.get_fdata())
        nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), label.affine), file)
    root = made(data)
    assert "labels 0, 1, 4 of 6 cases; 2, 3 in none; 4 in 3" in (root / "configs" / "common.yaml").read_text()
    code, text = check_command(str(root / "configs" / "train.yaml"), "--data")
    assert (code, "class 2 (class 2), class 3 (class 3). Is that meant?" in text) == (0, True)


def test_authors_may_have_quotes(tmp_path):
    create_bundle(tmp_path / "made", "segmentation", authors='The "X" \\ team')
    assert json.loads((tmp_path / "made" / "configs" / "metadata.json").read_text())["authors"] == 'The "X" \\ team'


def test_a_disk_that_is_full_leaves_nothing(sets, made, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("monai_lighter.share.create._write_table", fail)
    (tmp_path / "made").mkdir()
    with pytest.raises(OSError, match="No space"):
        made(sets.flat())
    assert list((tmp_path / "made").iterdir()) == []


def test_an_empty_label_among_others_is_a_note(own_sets, tmp_path):
    data = own_sets.flat(4)
    label = nibabel.load(data / "labels" / "scan_1.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros(label.shape, np.uint8), label.affine), data / "labels" / "scan_1.nii.gz")
    report = json.loads(init(str(tmp_path / "made"), data=str(data), memory="1GB", json=True))
    assert report["data"] == "4 cases (images and labels)"
    assert any("scan_1.nii.gz: the label is background alone" in note for note in report["notes"])
    assert re.fullmatch(r"about \d+ MB a training step, of 1GB", report["memory"])


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"memory": "much"}, "memory: must be a size, got 'much'"),
        ({"modality": "ct"}, "modality: must be CT or MR, got 'ct'"),
        ({"spacing": [1, 1, 1]}, r"spacing: must be 2 numbers, as the data are 2D, got \[1, 1, 1\]"),
        ({"dims": 3}, r"must be all 3D as --dims says, got \[2\]D"),
        ({"channels": 2}, "the images have 1 channels, the network takes 2|has 1 channels"),
        ({"synthetic": True}, "synthetic: is nothing that a bundle with data has"),
    ],
)
def test_what_does_not_fit_the_data(wanted, message, sets, made, tmp_path):
    with pytest.raises((SharingError, ConfigError), match=message):
        made(sets.flat(), **wanted)
    assert not (tmp_path / "made").exists()


def without_spacing(kind, root, names):
    """Takes what says a spacing out of files of 3D images and their label maps."""
    for path in (path for path in root.rglob("*.nii.gz") if any(name in path.name for name in names)):
        values = np.asarray(nibabel.load(path).dataobj)
        image = nibabel.Nifti1Image(values, None)
        if kind == "pixdim 0":
            image.header["pixdim"][1:4] = (0, 0, 0)
            image.header.set_xyzt_units("mm")
        nibabel.save(image, path)
        if kind == "pixdim 0":  # nibabel has put ones there
            raw = bytearray(gzip.decompress(path.read_bytes()))
            raw[80:92] = bytes(12)
            path.write_bytes(gzip.compress(bytes(raw)))
    return root


MISSING = {
    "pixdim 0": r"pixdim 0 x 0 x 0",
    "nothing said": r"pixdim 1 along all axes, no unit, no sform and no qform",
}


@pytest.mark.parametrize(("kind", "found"), MISSING.items(), ids=MISSING)
def test_a_spacing_that_no_file_says_is_asked_for(kind, found, own_sets, made, tmp_path):
    data = without_spacing(kind, own_sets.ct(), ("",))
    with pytest.raises(SharingError, match=rf"spacing: is not known: .*liver_000.*: {found}. Write it .*--spacing 1"):
        made(data)
    assert not (tmp_path / "made").exists()
    text = (made(data, spacing=1) / "configs" / "common.yaml").read_text()
    line = rf"spacing: \[1.0, 1.0, 1.0\]  # mm, not measured: no file says it \({found}\), and MONAI takes 1 x 1 x 1\n"
    assert re.search(line, text)


@pytest.mark.parametrize(("kind", "found"), MISSING.items(), ids=MISSING)
def test_cases_without_a_spacing_among_others_are_named(kind, found, own_sets, made, tmp_path):
    data = without_spacing(kind, own_sets.ct(), ("liver_003",))
    with pytest.raises(
        SharingError, match=rf"1 of 6 images do not say .*liver_003.*: {found}. Write it into these files"
    ):
        made(data, spacing=1)
    assert not (tmp_path / "made").exists()


def test_pictures_have_no_millimetres(own_sets, made):
    root = own_sets.folder / "pictures"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
        for i in range(3):
            values = np.random.default_rng(i).integers(0, 2, (48, 40)).astype(np.uint8)
            Image.fromarray(values if folder == "labels" else values * 90).save(root / folder / f"{i}.png")
    text = (made(root) / "configs" / "common.yaml").read_text()
    assert (
        "spacing: [1.0, 1.0]  # mm, not measured: no file says it (no geometry, as pictures and arrays have none)"
        in text
    )


@pytest.mark.parametrize("unit", ["mm", "unknown"])
def test_a_spacing_in_no_unit_is_one(unit, own_sets, made):
    """As most NIfTI files have it; also one of 1 mm, where a form says so."""
    data = own_sets.ct()
    for path in data.rglob("*.nii.gz"):
        image = nibabel.load(path)
        image = nibabel.Nifti1Image(np.asarray(image.dataobj), np.eye(4))
        image.header.set_xyzt_units(unit)
        nibabel.save(image, path)
    assert "# mm, median of 6 cases: 1 x 1 x 1" in (made(data) / "configs" / "common.yaml").read_text()


def with_axes(root, *axes):
    for path in (root / "imagesTr").iterdir():
        image = nibabel.load(path)
        values = np.asarray(image.dataobj)
        values = np.stack([values] * axes[-1], -1).reshape(*values.shape, *axes)
        nibabel.save(nibabel.Nifti1Image(values, image.affine), path)
    return root


def test_a_fourth_axis_is_told_to_be_channels(own_sets, tmp_path):
    data = with_axes(own_sets.ct(), 4)
    report = json.loads(init(str(tmp_path / "made"), data=str(data), memory="1GB", json=True))
    (note,) = (note for note in report["notes"] if "fourth axis" in note)
    assert "the fourth axis of 6 of 6 images is taken as 4 channels. Are they points in time?" in note
    assert (
        "# of the images, in each of 6 cases: the fourth axis of their files"
        in (tmp_path / "made" / "configs" / "common.yaml").read_text()
    )


def test_channels_in_files_of_their_own_are_no_fourth_axis(sets, tmp_path):
    report = json.loads(init(str(tmp_path / "made"), data=str(sets.mr()), memory="1GB", json=True))
    assert not any("fourth axis" in note for note in report.get("notes", ()))


def test_a_fifth_axis_is_refused(own_sets, made):
    with pytest.raises(
        SharingError, match=r"liver_000_0000.nii.gz has 5 axes, 48 x 40 x 10 x 1 x 3, and there is place for"
    ):
        made(with_axes(own_sets.ct(), 1, 3))


KINDS = {
    "ct": ("ct", "segmentation"),
    "mr": ("mr", "segmentation"),
    "flat": ("flat", "segmentation"),
    "classification": ("classes", "classification"),
    "regression": ("table", "regression"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "task"), KINDS.values(), ids=KINDS)
def test_from_data_to_predictions_without_an_edit(kind, task, sets, tmp_path, python_module):
    def run(*words, code=0):
        done = python_module("monai_lighter", *words, cwd=tmp_path, timeout=240)
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    run("init", "made", "--data", getattr(sets, kind)(), "--task", task, "--memory", "300MB")
    quick = ("--trainer::accelerator", "cpu", "--trainer::enable_progress_bar", "False", "--report", "False")
    for config in ("train", "evaluate"):
        run("check", f"made/configs/{config}.yaml")
    run("check", "made/configs/train.yaml", "--data")
    run("fit", "made/configs/train.yaml", "--max_epochs", "1", *quick)
    run("validate", "made/configs/train.yaml", *quick)
    run("test", "made/configs/evaluate.yaml", *quick)
    run("predict", "made/configs/inference.yaml", *quick)
    made = tmp_path / "made"
    assert (made / "models" / "model.pt").is_file()
    if task == "segmentation":
        cases = (made / "data" / "cases.csv").read_text().splitlines()[1:]
        assert len(list((made / "eval").rglob("*_pred.nii.gz"))) == len(cases)
        assert (made / "eval" / "dice.csv").is_file()
    else:
        assert (made / "eval" / "predictions.csv").is_file()
