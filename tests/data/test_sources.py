"""Where cases come from: tables, modalities, arrays, datasets of other kinds, configs of engines."""

import nibabel
import numpy as np
import pytest
import yaml
from conftest import AFFINE, SHAPE

from monai_lighter.data.integrity import DataCheck
from monai_lighter.share.create import create_bundle
from monai_lighter.workflow.check_config import Check

pytestmark = pytest.mark.usefixtures("own_modules")


def check(root, config="train", **override):
    done = Check(str(root / "configs" / f"{config}.yaml"), override)
    assert done.errors == []
    built = [one.id for components in done.built.values() for one in components]
    return DataCheck(done.prepared.config, done.prepared.native, built=built)


def short(done):
    return [(each.level, each.kind, each.mode, each.file.rpartition("/")[2], each.value) for each in done.findings]


@pytest.fixture
def tables(tmp_path):
    """Makes a bundle whose table of training is changed, and checks it."""

    def make(change, task="segmentation", encoding="utf-8-sig"):
        create_bundle(tmp_path / "new", task, 2, True)
        reader = tmp_path / "new" / "scripts" / "dataset.py"
        assert "utf-8-sig" in reader.read_text()
        reader.write_text(reader.read_text().replace("utf-8-sig", encoding))
        table = tmp_path / "new" / "data" / "cases.csv"
        table.write_bytes(change(table.read_bytes()))
        return check(tmp_path / "new")

    return make


def blank(raw):
    return raw.replace(b"labels/train_02.nii.gz", b"")


FLAWS = {
    "semicolons": (lambda raw: raw.replace(b",", b";"), "image;label"),
    "tabs": (lambda raw: raw.replace(b",", b"\t"), "image\tlabel"),
    "another name": (lambda raw: raw.replace(b"label", b"lable", 1), "label"),
    "blanks around a name": (lambda raw: raw.replace(b"image,label", b"image, label"), " label"),
}


@pytest.mark.parametrize(("change", "value"), FLAWS.values(), ids=FLAWS)
def test_columns_that_are_not_there(tables, change, value):
    found = [(kind, got) for _, kind, _, _, got in short(tables(change))]
    assert ("missing" if value == "label" else "columns", value) in found


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_bom_is_told_where_the_reader_stumbles_over_it(tables, encoding):
    found = [(kind, got) for _, kind, _, _, got in short(tables(lambda raw: b"\xef\xbb\xbf" + raw, encoding=encoding))]
    assert (("columns", "BOM") in found) == (encoding == "utf-8")


def test_a_blank_cell_is_told_with_its_line(tables):
    done = tables(blank)
    (cell,) = [each for each in done.findings if each.kind == "columns"]
    assert cell.file.endswith("cases.csv")
    assert "line 4 has a blank cell in column 'label'" in cell.problem
    (folder,) = [each for each in done.findings if each.kind == "unreadable"]
    assert folder.file.endswith("new/data")
    assert "blank" in folder.hint
    assert len(done.errors) == 2


def test_a_table_of_which_no_cases_can_be_made(tables):
    done = tables(lambda raw: b"\xef\xbb\xbf" + raw.replace(b",", b";"), "classification")
    assert {("data list", ""), ("columns", "BOM"), ("columns", "image;label")} <= {
        (e.kind, e.value) for e in done.errors
    }
    (failed,) = [each for each in done.errors if each.kind == "data list"]
    assert failed.id == "folds::data"
    assert "cases.csv must have the columns image and label, it has" in failed.problem


def test_classes_of_a_table(tables):
    change = lambda raw: raw.replace(b"train_01.nii.gz,1", b"train_01.nii.gz,7")  # noqa: E731
    found = short(tables(change, "classification"))
    assert found == [("error", "label value", "train", "", "7")]


def test_a_blank_class_is_told_with_its_case(tables):
    done = tables(lambda raw: raw.replace(b"train_02.nii.gz,0", b"train_02.nii.gz,"), "classification")
    assert ("error", "columns", "train", "cases.csv", "blank") in short(done)
    assert any("case 2 has no 'label'" in each.problem for each in done.errors)


def modalities(folder, *, concatenated):
    for i in range(6):
        for name in ("t1", "t2"):
            folder.save(f"train_{i}/{name}.nii.gz", folder.random.normal(0, 1, SHAPE).astype(np.float32))
        files = [f"{folder.root}/train_{i}/{name}.nii.gz" for name in ("t1", "t2")]
        case = folder.config["train_data"][i]
        case.update({"image": files} if concatenated else {"t1": files[0], "t2": files[1]})
        if not concatenated:
            del case["image"]
    folder.config["val_data"] = folder.config["train_data"][4:]
    del folder.config["train_data"][4:]
    folder.config["network_def"]["in_channels"] = 2
    if not concatenated:
        load, *_ = folder.config["preprocessing"]
        load["keys"] = ["t1", "t2", "label"]
        folder.config["preprocessing"] = [load, {"_target_": "ConcatItemsd", "keys": ["t1", "t2"], "name": "image"}]
        folder.config["augmentation"] = []


@pytest.mark.parametrize("concatenated", [True, False])
def test_modalities(folder, concatenated):
    modalities(folder, concatenated=concatenated)
    assert folder.found() == []
    other = AFFINE.copy()
    other[1, 3] += 3
    folder.save("train_1/t2.nii.gz", folder.load("train_1/t2.nii.gz"), other)
    assert folder.found() == [("error", "affine", "train_1", "t2.nii.gz")]
    folder.save("train_1/t2.nii.gz", folder.load("train_1/t2.nii.gz")[1:])
    assert ("error", "shape", "train_1", "t2.nii.gz") in folder.found()


def test_a_modality_that_is_missing(folder):
    modalities(folder, concatenated=True)
    folder.config["train_data"][1]["image"].pop()
    kinds = [(each.kind, each.case, each.value) for each in folder.check().errors]
    assert kinds == [
        ("channels", "train_1/t1.nii.gz", "1"),
        ("missing", "train_1/t1.nii.gz", "1 files"),
    ]


def test_a_modality_that_is_another_file_again(folder):
    modalities(folder, concatenated=False)
    folder.save("train_1/t2.nii.gz", folder.load("train_1/t1.nii.gz"))
    assert folder.found() == [("error", "duplicate", "train_1", "t2.nii.gz")]


def test_arrays_are_looked_at_as_they_are(tmp_path):
    config = {
        "system": {
            "model": {"_target_": "torch.nn.Flatten"},
            "dataloaders": {
                "predict": {
                    "_target_": "DataLoader",
                    "dataset": {
                        "_target_": "Dataset",
                        "data": "$[{'image': __import__('numpy').full((1, 4, 4), float(i))} for i in range(2)]",
                    },
                }
            },
        }
    }
    (tmp_path / "predict.yaml").write_text(yaml.safe_dump(config))
    done = Check(str(tmp_path / "predict.yaml"))
    found = DataCheck(done.prepared.config, done.prepared.native)
    assert [(each.kind, each.case) for each in found.findings] == [("constant", "item 0"), ("constant", "item 1")]
    assert found.summary["predict"]["images"]["image"]["size"] == [[4, 4, 4]] * 2


def test_a_dataset_of_another_kind_is_said_not_to_be_checked(folder):
    folder.config["system"]["dataloaders"]["val"]["dataset"] = {"_target_": "torch.utils.data.TensorDataset"}
    folder.config["system"]["dataloaders"]["val"]["dataset"]["_args_"] = []
    del folder.config["system"]["dataloaders"]["val"]["dataset"]["_args_"]
    (note,) = folder.check().findings
    assert (note.level, note.kind, note.id) == ("note", "not checked", "system::dataloaders::val::dataset")
    assert "TensorDataset has no `data` and `transform`" in note.problem


def test_nothing_is_cached_and_nothing_random_is_done(folder, tmp_path):
    for mode in ("train", "val"):
        dataset = folder.config["system"]["dataloaders"][mode]["dataset"]
        dataset.update({"_target_": "PersistentDataset", "cache_dir": str(tmp_path / "cache")})
    assert folder.found() == []
    assert not (tmp_path / "cache").exists()


def test_a_subset_and_a_concatenation(folder):
    loaders = folder.config["system"]["dataloaders"]
    whole = loaders["train"]["dataset"]
    folder.config["whole"] = whole
    part = {"_target_": "torch.utils.data.Subset", "dataset": "@whole", "indices": [0, 1, 2]}
    loaders["train"]["dataset"] = part
    loaders["val"]["dataset"] = {
        "_target_": "torch.utils.data.ConcatDataset",
        "datasets": [loaders["val"]["dataset"], {**part, "indices": [2]}],
    }
    done = folder.check()
    assert done.summary["train"]["cases"] == 3
    assert done.summary["val"]["cases"] == 4
    assert [(each.kind, each.mode, each.case) for each in done.findings] == [("leakage", "val", "image.nii.gz")]


def test_labels_that_a_transform_converts_are_not_judged(folder):
    convert = {"_target_": "MapLabelValued", "keys": "label", "orig_labels": [7], "target_labels": [2]}
    folder.config["preprocessing"].append(convert)
    folder.change("train_1/label.nii.gz", lambda label: np.where(label == 2, 7, label))
    found = folder.check().findings
    assert [(each.level, each.kind, each.mode, each.value) for each in found] == [
        ("note", "not judged", "train", "MapLabelValued"),
        ("note", "not judged", "val", "MapLabelValued"),
    ]


def test_a_regression_of_images_has_labels_of_any_value(folder):
    folder.config["system"]["criterion"] = {"_target_": "torch.nn.MSELoss"}
    folder.config["network_def"]["out_channels"] = 1
    for i in range(6):
        folder.change(f"train_{i}/label.nii.gz", lambda label: folder.random.normal(0, 400, SHAPE).astype(np.float32))
    for i in range(3):
        folder.change(f"val_{i}/label.nii.gz", lambda label: folder.random.normal(0, 400, SHAPE).astype(np.int16))
    done = folder.check()
    assert done.findings == []
    assert done.summary["train"]["images"]["label"]["intensity"]["std"] == pytest.approx(400, rel=0.05)
    assert done.summary["val"]["images"]["label"]["intensity"]["std"] == pytest.approx(400, rel=0.05)


ENGINES = """
imports: [$import glob]
images: $sorted(glob.glob('{root}/*/image.nii.gz'))
cases: "$[{{'image': i, 'label': i.replace('image', 'label')}} for i in @images]"
device: $torch.device('cpu')
network_def: {{_target_: UNet, spatial_dims: 3, in_channels: 1, out_channels: 3, channels: [4, 8], strides: [2]}}
loss: {{_target_: DiceLoss, softmax: true, to_onehot_y: true}}
load:
- {{_target_: LoadImaged, keys: [image, label]}}
- {{_target_: EnsureChannelFirstd, keys: [image, label]}}
train:
  dataset:
    _target_: CacheDataset
    data: $@cases[:6]
    transform: {{_target_: Compose, transforms: '@load'}}
  dataloader: {{_target_: DataLoader, dataset: '@train#dataset', batch_size: 1}}
  trainer:
    _target_: SupervisedTrainer
    max_epochs: 1
    device: '@device'
    train_data_loader: '@train#dataloader'
    network: '@network_def'
    loss_function: '@loss'
    optimizer: {{_target_: torch.optim.SGD, params: $@network_def.parameters(), lr: 0.1}}
    train_handlers: [{{_target_: ValidationHandler, validator: '@validate#evaluator', interval: 1}}]
validate:
  dataset:
    _target_: CacheDataset
    data: $@cases[5:]
    transform: {{_target_: Compose, transforms: '%load'}}
  dataloader: {{_target_: DataLoader, dataset: '@validate#dataset', batch_size: 1}}
  evaluator:
    _target_: SupervisedEvaluator
    device: '@device'
    val_data_loader: '@validate#dataloader'
    network: '@network_def'
run: [$@train#trainer.run()]
"""


def test_a_config_of_engines(folder):
    pytest.importorskip("ignite")
    (folder.root / "configs").mkdir()
    (folder.root / "configs" / "train.yaml").write_text(ENGINES.format(root=folder.root))
    folder.change("train_2/label.nii.gz", lambda label: np.where(label, 9, 0).astype(np.uint8))
    done = check(folder.root)
    assert [(each.kind, each.mode, each.id, each.case.split("/")[0]) for each in done.errors] == [
        ("label value", "train", "train::dataset", "train_2"),
        ("leakage", "val", "validate::dataset", "train_5"),
    ]
    assert (done.summary["train"]["cases"], done.summary["val"]["cases"]) == (6, 4)


def test_2d_pictures(tmp_path):
    image = pytest.importorskip("PIL.Image")
    create_bundle(tmp_path / "new", "classification", 2, True)
    random = np.random.default_rng(0)
    for path in sorted((tmp_path / "new" / "data" / "images").glob("*.nii.gz")):
        image.fromarray(random.integers(0, 255, (20, 30, 3), np.uint8)).save(str(path).replace(".nii.gz", ".png"))
    for table in (tmp_path / "new" / "data" / "cases.csv", tmp_path / "new" / "splits.json"):
        table.write_text(table.read_text().replace(".nii.gz", ".png"))
    (tmp_path / "new" / "data" / "images" / "train_03.png").write_bytes(b"no picture")
    found = [each[:4] for each in short(check(tmp_path / "new", num_channels=3))]
    assert found == [("error", "unreadable", "train", "train_03.png")]
    found = [(each.kind, each.mode, each.value) for each in check(tmp_path / "new").errors if each.kind == "channels"]
    assert found == [("channels", "train", "3"), ("channels", "val", "3")]


def test_numbers_of_the_summary(folder):
    done = folder.check()
    summary = done.summary["train"]
    images = [nibabel.load(folder.root / f"train_{i}" / "image.nii.gz").get_fdata() for i in range(6)]
    labels = [folder.load(f"train_{i}/label.nii.gz") for i in range(6)]
    grid = summary["images"]["image"]
    assert grid["spacing"] == [[1.5] * 3, [1.2] * 3, [2] * 3]
    assert grid["size"] == [[n] * 3 for n in SHAPE]
    assert grid["orientation"] == {"LAS": 6}
    shown = grid["intensity"]
    assert shown["min"] == pytest.approx(min(image.min() for image in images), rel=1e-5)
    assert shown["max"] == pytest.approx(max(image.max() for image in images), rel=1e-5)
    assert shown["mean"] == pytest.approx(np.mean([image.mean() for image in images]), rel=1e-5)
    assert shown["std"] == pytest.approx(np.mean([image.std() for image in images]), rel=1e-5)
    assert shown["p99.5"] == pytest.approx(
        np.median([np.percentile(image, 99.5, method="nearest") for image in images]), rel=1e-5
    )
    ones = [int((label == 1).sum()) for label in labels]
    row = summary["labels"]["label"]["1"]
    assert row["voxels"] == [min(ones), np.median(ones), max(ones)]
    assert row["volume"] == pytest.approx([n * 3.6 / 1000 for n in row["voxels"]])
    assert row["cases"] == 6
