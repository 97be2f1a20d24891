"""SaveImaged in the postprocessing of a System: real files in, real files out."""

import logging
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import Dataset, MetaTensor
from monai.transforms import (
    AsDiscreted,
    Compose,
    CopyItemsd,
    Invertd,
    Lambdad,
    LoadImaged,
    Orientationd,
    SaveImage,
    SaveImaged,
    Spacingd,
)
from parts import loader, trainer
from PIL import Image
from torch import nn

from monai_lighter import BatchAdapter, CaseError, ConfigError, System, Workflow
from monai_lighter.errors import BundleError
from monai_lighter.system.ledger import Ledger, Output

SAGITTAL = np.array([[0, 0, 1, 3], [-1, 0, 0, 5], [0, 1, 0, 7], [0, 0, 0, 1.0]])
CORONAL = np.array([[1, 0, 0, 3], [0, 0, -2, 5], [0, 1.5, 0, 7], [0, 0, 0, 1.0]])


def scan(path, affine=None, values=None, shape=(5, 6, 7)):
    """Writes a NIfTI file and gives its path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(len(str(path))).random(shape, np.float32) if values is None else values
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return str(path)


def predict(folder, images, *steps, keys="pred", out="out", model=None, load=(), adapter=None, **settings):
    """Predicts with steps and a SaveImaged after them, and gives the files that are in the folder then."""
    settings = {"output_postfix": "pred", "separate_folder": False, "print_log": False, **settings}
    data = [image if isinstance(image, dict) else {"image": image} for image in images]
    pre = Compose([LoadImaged("image", ensure_channel_first=True), *load])
    post = Compose([*steps, SaveImaged(keys, output_dir=folder / out, **settings)])
    system = System(
        model or nn.Identity(),
        {"predict": loader(Dataset(data, pre), 1)},
        postprocessing={"predict": post},
        adapters={"predict": {"batch": adapter}} if adapter else None,
    )
    trainer(folder).predict(system, return_predictions=False)
    assert type(post.transforms[-1].saver) is SaveImage
    return written(folder / out)


def written(folder):
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.csv"
    )


def two_subjects(folder):
    return [scan(folder / f"sub-0{i}" / "ses-1" / "T1w.nii.gz") for i in (1, 2)]


def cause(raised):
    """What MONAI's transforms have wrapped."""
    error = raised.value
    while error.__cause__ is not None and not isinstance(error, CaseError):
        error = error.__cause__
    return error


class Never(nn.Module):
    def forward(self, x):
        raise AssertionError("a case was predicted")


@pytest.mark.slow
class TestClashes:
    def test_one_base_name_is_told_before_the_first_case(self, tmp_path):
        first, second = two_subjects(tmp_path / "data")
        with pytest.raises(ConfigError) as raised:
            predict(tmp_path, [first, second], model=Never())
        message = str(raised.value)
        assert message.startswith("system::postprocessing::predict: ")
        for part in (f"case 0 ({first})", f"case 1 ({second})", "T1w_pred.nii.gz", "data_root_dir", "output_postfix"):
            assert part in message
        assert written(tmp_path / "out") == []

    def test_all_of_them_at_once_and_not_too_many(self, tmp_path):
        images = [scan(tmp_path / str(i) / name, shape=(2, 2, 2)) for i in range(13) for name in ("a.nii", "b.nii")]
        with pytest.raises(ConfigError) as raised:
            predict(tmp_path, images, model=Never())
        assert len(raised.value.findings) == 10
        assert "15 more of the same" in str(raised.value.findings[-1])

    def test_folders_that_are_kept_part_them(self, tmp_path):
        images = two_subjects(tmp_path / "data")
        files = predict(tmp_path, images, data_root_dir=tmp_path / "data")
        assert files == [f"sub-0{i}/ses-1/T1w_pred.nii.gz" for i in (1, 2)]
        for image, file in zip(images, files, strict=True):
            assert np.array_equal(nibabel.load(tmp_path / "out" / file).get_fdata(), nibabel.load(image).get_fdata())

    def test_two_keys_with_one_postfix(self, tmp_path):
        image = scan(tmp_path / "x.nii.gz")
        with pytest.raises(ConfigError, match=r"pred of case 0 .* and prob of case 0 .* would be written to one file"):
            predict(tmp_path, [image], CopyItemsd("pred", names="prob"), keys=["pred", "prob"], model=Never())

    def test_two_transforms_with_one_postfix(self, tmp_path):
        image = scan(tmp_path / "x.nii.gz")
        other = SaveImaged("pred", output_dir=tmp_path / "out", output_postfix="pred", separate_folder=False)
        with pytest.raises(ConfigError, match="twice"):
            predict(tmp_path, [image], other, model=Never())

    def test_a_case_that_is_listed_twice(self, tmp_path):
        image = scan(tmp_path / "x.nii.gz")
        with pytest.raises(
            ConfigError, match=r"case 0 .* and case 1 .* If it is one case, leave it out of the data once"
        ):
            predict(tmp_path, [image, image], model=Never())

    def test_two_files_that_no_setting_parts(self, tmp_path):
        images = [scan(tmp_path / name) for name in ("c0.nii", "c0.nii.gz")]
        with pytest.raises(ConfigError, match="No setting parts files that differ in their suffix alone: rename one"):
            predict(tmp_path, images, data_root_dir=str(tmp_path), model=Never())

    def test_names_that_transforms_make_are_theirs(self, tmp_path):
        def rename(image):
            image.meta["filename_or_obj"] = Path(image.meta["filename_or_obj"]).parents[1].name + ".nii.gz"
            return image

        files = predict(tmp_path, two_subjects(tmp_path / "data"), load=[Lambdad("image", rename)])
        assert files == ["sub-01_pred.nii.gz", "sub-02_pred.nii.gz"]

    def test_names_that_are_known_late(self, tmp_path):
        images = two_subjects(tmp_path / "data")
        adapter = BatchAdapter(lambda batch: batch["image"])
        with pytest.raises(RuntimeError) as raised:
            predict(tmp_path, images, adapter=adapter)
        error = cause(raised)
        assert isinstance(error, CaseError)
        assert images[0] in str(error)
        assert images[1] in str(error)
        assert "would be written to one file" in str(error)
        saved = nibabel.load(tmp_path / "out" / "T1w_pred.nii.gz")
        assert np.array_equal(saved.get_fdata(), nibabel.load(images[0]).get_fdata())
        assert written(tmp_path / "out") == ["T1w_pred.nii.gz"]

    def test_a_case_outside_of_data_root_dir(self, tmp_path):
        images = two_subjects(tmp_path / "data")
        with pytest.raises(ConfigError, match=r"written outside of .*data_root_dir must be a folder above"):
            predict(tmp_path, images, data_root_dir=tmp_path / "data" / "sub-01", model=Never())

    def test_each_validation_of_a_fit_replaces_the_files_of_the_one_before(self, tmp_path):
        data = [
            {"image": image, "label": image} for image in (scan(tmp_path / "x.nii.gz"), scan(tmp_path / "y.nii.gz"))
        ]
        pre = LoadImaged(["image", "label"], ensure_channel_first=True)
        save = SaveImaged("pred", output_dir=tmp_path / "out", separate_folder=False, print_log=False)
        model = nn.Conv3d(1, 1, 1)
        data = Dataset(data, pre)
        system = System(
            model,
            {"train": loader(data), "val": loader(data)},
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            criterion=nn.MSELoss(),
            postprocessing={"val": save},
        )
        trainer(tmp_path, max_epochs=2, num_sanity_val_steps=1, enable_checkpointing=False).fit(system)
        assert written(tmp_path / "out") == ["x_trans.nii.gz", "y_trans.nii.gz"]
        last = model(torch.as_tensor(nibabel.load(data.data[1]["image"]).get_fdata(dtype=np.float32))[None, None])
        saved = nibabel.load(tmp_path / "out" / "y_trans.nii.gz").get_fdata()
        assert np.allclose(saved, last[0, 0].detach().numpy(), atol=1e-6)


@pytest.mark.slow
class TestEarlierRuns:
    def test_the_same_case_is_replaced(self, tmp_path):
        image = scan(tmp_path / "x.nii.gz")
        predict(tmp_path, [image])
        assert predict(tmp_path, [image], Lambdad("pred", lambda pred: pred + 1)) == ["x_pred.nii.gz"]
        saved = nibabel.load(tmp_path / "out" / "x_pred.nii.gz").get_fdata()
        assert np.allclose(saved, nibabel.load(image).get_fdata() + 1)

    def test_another_case_is_not(self, tmp_path):
        first, second = two_subjects(tmp_path / "data")
        predict(tmp_path, [first])
        with pytest.raises(
            ConfigError, match=r"is the output of another case, \.\./data/sub-01/ses-1/T1w.nii.gz; case 0"
        ):
            predict(tmp_path, [second], model=Never())
        assert predict(tmp_path, [first]) == ["T1w_pred.nii.gz"]

    def test_nor_is_what_nobody_knows_the_case_of(self, tmp_path):
        image = scan(tmp_path / "x.nii.gz")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "x_pred.nii.gz").write_text("by hand")
        with pytest.raises(ConfigError, match="exists, and no earlier run says"):
            predict(tmp_path, [image], model=Never())
        assert (tmp_path / "out" / "x_pred.nii.gz").read_text() == "by hand"

    def test_a_folder_may_be_moved_with_its_data(self, tmp_path):
        scan(tmp_path / "old" / "x.nii.gz")
        predict(tmp_path / "old", [str(tmp_path / "old" / "x.nii.gz")])
        (tmp_path / "old").rename(tmp_path / "new")
        assert predict(tmp_path / "new", [str(tmp_path / "new" / "x.nii.gz")]) == ["x_pred.nii.gz"]

    def test_data_may_be_moved_without_it(self, tmp_path):
        image = Path(scan(tmp_path / "data" / "x.nii.gz"))
        predict(tmp_path, [str(image)])
        (tmp_path / "scratch").mkdir()
        moved = image.rename(tmp_path / "scratch" / "x.nii.gz")
        assert predict(tmp_path, [str(moved)]) == ["x_pred.nii.gz"]
        scan(moved, values=np.full((5, 6, 7), 3, np.float32))
        moved = moved.rename(image)
        scan(moved, values=np.full((5, 6, 7), 4, np.float32))
        with pytest.raises(ConfigError, match=r"is the output of another case, .*Delete it if it may be replaced"):
            predict(tmp_path, [str(moved)], model=Never())

    def test_a_record_that_was_cut_off(self, tmp_path):
        image = scan(tmp_path / "x.nii.gz")
        predict(tmp_path, [image])
        with open(tmp_path / "out" / "manifest.csv", "a") as file:
            file.write('{"file": "y_p')
        assert predict(tmp_path, [image]) == ["x_pred.nii.gz"]


@pytest.mark.slow
class TestInputs:
    @pytest.mark.parametrize("how", ["itself", "symlink", "hard link", "spelling", "folder link"])
    def test_are_never_written_over(self, tmp_path, how):
        image = Path(scan(tmp_path / "data" / "x.nii.gz"))
        before, out = image.read_bytes(), "data"
        if how in ("symlink", "hard link"):
            out = "out"
            (tmp_path / out).mkdir()
            (os.symlink if how == "symlink" else os.link)(image, tmp_path / out / "x.nii.gz")
        elif how == "folder link":
            out = "link"
            (tmp_path / out).symlink_to(tmp_path / "data")
        elif how == "spelling":
            out = "data/../data/."
        with pytest.raises(ConfigError, match="would be written over an input"):
            predict(tmp_path, [str(image)], out=out, output_postfix="", model=Never())
        assert image.read_bytes() == before

    def test_nor_are_those_of_other_cases(self, tmp_path):
        images = [scan(tmp_path / "data" / name) for name in ("x.nii.gz", "x_pred.nii.gz")]
        with pytest.raises(ConfigError, match=r"case 0 .* would be written over an input, .*x_pred.nii.gz"):
            predict(tmp_path, images, out="data", model=Never())

    def test_nor_labels(self, tmp_path):
        label = scan(tmp_path / "data" / "x_pred.nii.gz")
        with pytest.raises(ConfigError, match="would be written over an input"):
            predict(tmp_path, [{"image": scan(tmp_path / "data" / "x.nii.gz"), "label": label}], out="data")

    def test_where_it_is_known_late(self, tmp_path):
        image = Path(scan(tmp_path / "x.nii.gz"))
        before = image.read_bytes()
        with pytest.raises(RuntimeError) as raised:
            predict(tmp_path, [str(image)], out=".", output_postfix="", adapter=BatchAdapter(lambda b: b["image"]))
        assert "would be written over an input" in str(cause(raised))
        assert image.read_bytes() == before

    def test_a_postfix_makes_room_beside_them(self, tmp_path):
        image = scan(tmp_path / "data" / "x.nii.gz")
        assert predict(tmp_path, [image], out="data") == ["x.nii.gz", "x_pred.nii.gz"]


@pytest.mark.slow
class TestValues:
    def test_a_class_that_the_type_cannot_hold(self, tmp_path):
        image = scan(tmp_path / "x.nii.gz")
        many = Lambdad("pred", lambda pred: torch.full_like(pred, 299))
        with pytest.raises(RuntimeError) as raised:
            predict(tmp_path, [image], many, output_dtype="uint8")
        message = str(cause(raised))
        assert f"case {image}: the value 299.0 would be 43 as uint8. Set output_dtype" in message
        assert written(tmp_path / "out") == []
        predict(tmp_path, [image], many, output_dtype="uint16")
        assert np.unique(nibabel.load(tmp_path / "out" / "x_pred.nii.gz").get_fdata()).tolist() == [299]

    @pytest.mark.parametrize("dtype", ["int32", "float64", None])
    @pytest.mark.parametrize("kind", [torch.float64, torch.int32])
    def test_a_whole_number_that_the_writers_of_monai_round(self, tmp_path, kind, dtype):
        image = scan(tmp_path / "x.nii.gz")
        large = Lambdad("pred", lambda pred: torch.full_like(pred, 2**24 + 1, dtype=kind))
        with pytest.raises(RuntimeError) as raised:
            predict(tmp_path, [image], large, output_dtype=dtype)
        assert "the value 16777217" in str(cause(raised))
        assert "would be 16777216.0 as float32. MONAI's writers compute in float32" in str(cause(raised))
        assert written(tmp_path / "out") == []
        predict(
            tmp_path,
            [image],
            Lambdad("pred", lambda pred: torch.full_like(pred, 2**24 + 2, dtype=kind)),
            output_dtype="int32",
        )
        assert np.unique(nibabel.load(tmp_path / "out" / "x_pred.nii.gz").dataobj).tolist() == [2**24 + 2]

    @pytest.mark.parametrize("settings", [{"output_dtype": np.uint8}, {"output_ext": ".png"}])
    def test_probabilities_are_not_truncated(self, tmp_path, settings):
        image = scan(tmp_path / "x.nii.gz", shape=(5, 6))
        with pytest.raises(RuntimeError) as raised:
            predict(tmp_path, [image], **settings)
        assert isinstance(cause(raised), CaseError)
        assert written(tmp_path / "out") == []

    def test_scaled_probabilities(self, tmp_path):
        values = np.linspace(0, 1, 30, dtype=np.float32).reshape(5, 6)
        predict(tmp_path, [scan(tmp_path / "x.nii.gz", values=values)], output_ext=".png", scale=255)
        saved = np.asarray(Image.open(tmp_path / "out" / "x_pred.png"))
        assert np.array_equal(saved, (values * 255).astype(np.uint8).T)
        with pytest.raises(RuntimeError) as raised:
            predict(tmp_path, [scan(tmp_path / "y.nii.gz", values=values * 3)], output_ext=".png", scale=255)
        assert r"must be in [0, 1] to be scaled, got 0.0 to 3.0" in str(cause(raised))


@pytest.mark.slow
class TestGeometry:
    @pytest.mark.parametrize("affine", [SAGITTAL, CORONAL])
    @pytest.mark.parametrize("channels", [1, 2])
    def test_any_orientation(self, tmp_path, affine, channels):
        shape = (5, 6, 7) if channels == 1 else (5, 6, 7, 2)
        image = scan(tmp_path / "x.nii.gz", affine, shape=shape)
        pre = [Orientationd("image", axcodes="RAS", labels=None), Spacingd("image", pixdim=(1, 1, 1))]
        transform = Compose([LoadImaged("image", ensure_channel_first=True), *pre])
        # Invertd inverts what the data went through
        post = [
            Lambdad("pred", lambda pred: pred[:1]),
            Invertd("pred", transform=transform, orig_keys="image"),
            AsDiscreted("pred", threshold=0.5),
        ]
        data = Dataset([{"image": image}], transform)
        save = SaveImaged("pred", output_dir=tmp_path / "out", output_dtype="uint8", separate_folder=False)
        system = System(nn.Identity(), {"predict": loader(data, 1)}, postprocessing={"predict": Compose([*post, save])})
        trainer(tmp_path).predict(system, return_predictions=False)
        saved, source = nibabel.load(tmp_path / "out" / "x_trans.nii.gz"), nibabel.load(image)
        assert saved.shape == source.shape[:3]
        assert np.allclose(saved.affine, source.affine, atol=1e-5)
        assert saved.get_data_dtype() == np.uint8
        if affine is SAGITTAL:  # of 1 mm: nothing was interpolated
            values = source.get_fdata() if channels == 1 else source.get_fdata()[..., 0]
            assert np.array_equal(saved.get_fdata(), values >= 0.5)

    def test_a_color_image(self, tmp_path):
        colors = np.random.default_rng(0).integers(0, 255, (20, 28, 3), dtype=np.uint8)
        Image.fromarray(colors).save(tmp_path / "x.png")
        predict(tmp_path, [str(tmp_path / "x.png")], Lambdad("pred", lambda pred: pred[:1]))
        saved = nibabel.load(tmp_path / "out" / "x_pred.nii.gz")
        assert np.array_equal(saved.get_fdata(), colors[..., 0].T)  # MONAI's axes of an image

    @pytest.mark.parametrize("row", [[0, 0, 0, 0], [np.nan, 0, 0, 0], [1.5, 0, 0, 30]])
    def test_an_affine_that_cannot_be_used_is_told_and_kept(self, tmp_path, row, caplog):
        image = Path(scan(tmp_path / "x.nii"))
        raw = nibabel.Nifti1Image.from_filename(image)
        raw.header["srow_x"] = row
        raw.header["sform_code"], raw.header["qform_code"] = 1, 0
        raw.header["vox_offset"] = 352
        data = np.asarray(raw.dataobj).tobytes(order="F")
        image.write_bytes(raw.header.binaryblock + b"\0\0\0\0" + data)
        with caplog.at_level(logging.WARNING):
            predict(tmp_path, [str(image)])
        assert [record.message for record in caplog.records if f"case {image}: " in record.message]
        saved, source = nibabel.load(tmp_path / "out" / "x_pred.nii.gz"), nibabel.load(image)
        assert np.array_equal(saved.affine, source.affine, equal_nan=True)
        assert saved.header.get_zooms() == source.header.get_zooms()
        assert np.array_equal(saved.get_fdata(), source.get_fdata())

    def test_a_good_affine_is_not_talked_about(self, tmp_path, caplog):
        with caplog.at_level(logging.WARNING):
            predict(tmp_path, [scan(tmp_path / "x.nii.gz", CORONAL)])
        assert not [record for record in caplog.records if record.name.startswith("monai_lighter")]


ENGINE = """
post: {_target_: SaveImaged, keys: pred, output_dir: "@out", separate_folder: false, print_log: false}
dataset: {_target_: Dataset, data: "@data", transform: {_target_: LoadImaged, keys: image, ensure_channel_first: true}}
evaluator:
  _target_: SupervisedEvaluator
  device: $torch.device('cpu')
  val_data_loader: {_target_: DataLoader, dataset: "@dataset"}
  network: $torch.nn.Identity()
  postprocessing: {_target_: Compose, transforms: ["@post"]}
imports: [$import torch]
run: [$@evaluator.run()]
"""


@pytest.mark.slow
def test_an_engine_of_monai_is_warned_of_and_writes_as_ever(tmp_path, caplog):
    images = two_subjects(tmp_path / "data")
    config = tmp_path / "inference.yaml"
    config.write_text(ENGINE)
    data = [{"image": image} for image in images]
    workflow = Workflow(str(config), workflow_type="infer", logging_file=False, out=str(tmp_path / "out"), data=data)
    with caplog.at_level(logging.WARNING):
        workflow.run()
    warnings = [record.message for record in caplog.records if record.name == "monai_lighter.system.outputs"]
    assert len(warnings) == 1
    start = f"evaluator::postprocessing: case 0 ({images[0]}) and case 1 ({images[1]}) would be written to one file"
    assert warnings[0].startswith(start)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["T1w_trans.nii.gz"]
    saved = nibabel.load(tmp_path / "out" / "T1w_trans.nii.gz")
    assert np.array_equal(saved.get_fdata(), nibabel.load(images[1]).get_fdata())


@pytest.mark.slow
def test_a_writer_that_fails_leaves_nothing(tmp_path):
    image = scan(tmp_path / "x.nii.gz")
    with pytest.raises(RuntimeError):
        predict(tmp_path, [image], output_ext=".nosuch")
    assert written(tmp_path) == ["x.nii.gz"]


@pytest.mark.slow
def test_where_it_was_saved_stands_in_the_metadata(tmp_path):
    saved = []
    image = scan(tmp_path / "x.nii.gz")
    data = Dataset([{"image": image}], LoadImaged("image", ensure_channel_first=True))
    save = SaveImaged("pred", output_dir=tmp_path / "out", savepath_in_metadict=True, print_log=False)
    post = Compose([save, lambda item: saved.append(item["pred"].meta["saved_to"]) or item])
    system = System(nn.Identity(), {"predict": loader(data, 1)}, postprocessing={"predict": post})
    trainer(tmp_path).predict(system, return_predictions=False)
    assert saved == [str(tmp_path / "out" / "x" / "x_trans.nii.gz")]


@pytest.mark.slow
def test_images_without_names_are_numbered(tmp_path):
    def run():
        save = SaveImaged("pred", output_dir=tmp_path / "out", separate_folder=False, print_log=False)
        data = [{"image": MetaTensor(torch.rand(1, 3, 4, 5))} for _ in range(3)]
        system = System(nn.Identity(), {"predict": loader(data, 2)}, postprocessing={"predict": save})
        trainer(tmp_path).predict(system, return_predictions=False)

    run()
    assert written(tmp_path / "out") == ["0_trans.nii.gz", "1_trans.nii.gz", "2_trans.nii.gz"]
    with pytest.raises(RuntimeError) as raised:
        run()
    assert "cases without names cannot be told apart" in str(cause(raised))


def test_processes_tell_each_other_what_they_have_written(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    one, other = Ledger(), Ledger()
    for ledger in (one, other):
        ledger.reset(shared)
    output = Output(tmp_path / "out" / "x.txt", tmp_path / "out", "a", "case a", "writer", "its path")
    with one.write(output) as path:
        path.write_text("a")
    with pytest.raises(BundleError, match="case a and case b would be written to one file"):  # noqa: SIM117
        with other.write(output._replace(case="b", label="case b")) as path:
            path.write_text("b")
    assert output.path.read_text() == "a"
