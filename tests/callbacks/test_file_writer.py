from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from monai.data import Dataset, MetaTensor
from monai.transforms import AsDiscreted, Compose, Lambdad, LoadImaged, Orientationd, SaveImaged, Spacingd
from parts import items, loader, trainer
from PIL import Image
from torch import nn

from monai_lighter import BatchAdapter, CaseError, ConfigError, FileWriter, System
from monai_lighter.callbacks import writers as file_writer


def written(path, writer, data, batch_size=2, identifier="id", model=None, **settings):
    system = System(
        model or nn.Identity(),
        {"predict": loader(data, batch_size)},
        adapters={"predict": {"batch": BatchAdapter("image", identifier_accessor=identifier)}},
    )
    trainer(path, callbacks=[FileWriter(path / "out", writer, **settings)]).predict(system, return_predictions=False)
    return files(path / "out")


def files(folder):
    """Files below a folder, without the record of their cases."""
    return sorted(
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.is_file() and file.name != "manifest.csv"
    )


def named(*names):
    return [{**item, "id": name} for item, name in zip(items(len(names)), names, strict=True)]


@pytest.mark.slow
class TestNames:
    @pytest.mark.parametrize(
        ("identifiers", "files"),
        [
            (["/data/x.nii.gz", "/data/y.nii"], ["x", "y"]),
            (["1.2.840.113619.2.55", "1.2.840.113619.2.56"], ["1.2.840.113619.2.55", "1.2.840.113619.2.56"]),
            (["scan.v2.seg.nrrd", "scan.v1.NRRD"], ["scan.v1", "scan.v2"]),
            (["a b", "ä"], ["a b", "ä"]),
            ([7, 12], ["12", "7"]),  # collated to a tensor
        ],
    )
    def test_of_identifiers(self, tmp_path, identifiers, files):
        assert written(tmp_path, "tensor", named(*identifiers)) == sorted(f"{name}.pt" for name in files)

    def test_postfix_and_folders(self, tmp_path):
        data = named("/d/a/T1.nii.gz", "/d/b/T1.nii.gz")
        settings = {"postfix": "seg", "data_root_dir": "/d"}
        assert written(tmp_path, "tensor", data, **settings) == ["a/T1_seg.pt", "b/T1_seg.pt"]
        apart = written(tmp_path / "other", "tensor", named("/d/T1.nii", "/d/T2.nii"), separate_folder=True)
        assert apart == ["T1/T1.pt", "T2/T2.pt"]

    def test_without_identifiers_items_are_numbered(self, tmp_path):
        assert written(tmp_path, "tensor", items(3), identifier=None) == ["0.pt", "1.pt", "2.pt"]

    def test_the_metadata_name_the_items(self, tmp_path):
        data = [
            {"image": MetaTensor(torch.rand(1, 4, 4), meta={"filename_or_obj": f"/data/case_{i}.nii.gz"})}
            for i in range(2)
        ]
        assert written(tmp_path, "tensor", data, identifier=None) == ["case_0.pt", "case_1.pt"]

    def test_a_directory_with_a_dot(self, tmp_path):
        system = System(nn.Identity(), {"predict": loader(items(1))})
        trainer(tmp_path, callbacks=[FileWriter(tmp_path / "v1.0", "tensor")]).predict(system)
        assert files(tmp_path / "v1.0") == ["0.pt"]

    def test_another_number_of_identifiers_is_an_error(self, tmp_path):
        with pytest.raises(ValueError, match="2 predictions must have as many identifiers, got 3"):
            written(tmp_path, "tensor", items(2), identifier=lambda batch: ["a", "b", "c"])


class TestWriters:
    @pytest.mark.slow
    def test_tensor(self, tmp_path):
        written(tmp_path, "tensor", named("a", "b"), model=nn.Flatten())
        tensor = torch.load(tmp_path / "out" / "b.pt", weights_only=True)
        assert torch.equal(tensor, items(2)[1]["image"].flatten())
        assert tensor.untyped_storage().nbytes() == 4 * tensor.numel()  # not the whole batch

    @pytest.mark.slow
    @pytest.mark.parametrize(("shape", "size"), [((1, 4, 6), (6, 4)), ((3, 4, 6), (6, 4)), ((1, 2, 4, 6), (6, 8))])
    def test_image(self, tmp_path, shape, size):
        data = [{"image": torch.rand(shape), "id": "a"}]
        written(tmp_path, "image", data)
        image = Image.open(tmp_path / "out" / "a.png")
        assert image.size == size
        assert image.mode == ("RGB" if shape[0] == 3 else "L")
        expected = (data[0]["image"].reshape(shape[0], -1, shape[-1]) * 255).round()
        assert np.array_equal(np.asarray(image), expected.movedim(0, -1).squeeze(-1).numpy())

    @pytest.mark.slow
    def test_image_of_labels_keeps_their_values(self, tmp_path):
        written(tmp_path, "image", [{"image": torch.tensor([[[0, 1], [2, 3]]]), "id": "a"}])
        assert np.asarray(Image.open(tmp_path / "out" / "a.png")).tolist() == [[0, 1], [2, 3]]

    @pytest.mark.slow
    def test_video(self, tmp_path, monkeypatch):
        calls = []

        class Video:
            @staticmethod
            def write_video(path, frames, fps):
                calls.append((path, frames.shape, frames.dtype, fps))

        monkeypatch.setattr(file_writer, "optional_import", lambda name: (Video, True))
        written(tmp_path, "video", [{"image": torch.rand(1, 5, 3, 4), "id": "a"}])
        assert [(Path(path).name, *call) for path, *call in calls] == [("a.mp4", (5, 4, 4, 3), torch.uint8, 24)]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("writer", "suffix"), [("itk_nifti", ".nii.gz"), ("itk_nrrd", ".nrrd"), ("itk_seg_nrrd", ".seg.nrrd")]
    )
    def test_volumes_lie_where_the_network_saw_them(self, tmp_path, writer, suffix):
        source = tmp_path / "x.nii.gz"
        affine = np.array([[-1.0, 0, 0, 7], [0, 1.5, 0, -5], [0, 0, 2, 3], [0, 0, 0, 1]])
        volume = np.random.default_rng(0).random((6, 5, 4), dtype=np.float32)
        nibabel.save(nibabel.Nifti1Image(volume, affine), source)
        transform = Compose(
            [
                LoadImaged("image", ensure_channel_first=True),
                Orientationd("image", axcodes="RAS", labels=None),
                Spacingd("image", pixdim=(2, 1.5, 2)),
            ]
        )
        assert written(tmp_path, writer, Dataset([{"image": str(source)}], transform), identifier=None) == [
            f"x{suffix}"
        ]
        seen = transform({"image": str(source)})["image"]
        file = tmp_path / "out" / f"x{suffix}"
        if suffix == ".nii.gz":
            saved = nibabel.load(file)
            assert np.allclose(saved.get_fdata(), seen[0].numpy(), atol=1e-6)
            assert np.allclose(saved.affine, seen.affine.numpy(), atol=1e-4)
        else:
            saved = itk.imread(str(file))
            assert np.allclose(itk.array_view_from_image(saved).T, seen[0].numpy(), atol=1e-6)
            assert np.allclose(np.asarray(saved.GetSpacing()), (2, 1.5, 2), atol=1e-4)
            assert np.allclose(
                np.asarray(saved.GetOrigin()), np.array([-1, -1, 1]) * seen.affine[:3, 3].numpy(), atol=1e-4
            )

    @pytest.mark.slow
    def test_volumes_need_metadata(self, tmp_path):
        with pytest.raises(
            TypeError, match=r"a prediction must be a MetaTensor to be written as \.nii\.gz, got Tensor"
        ):
            written(tmp_path, "itk_nifti", named("a"))

    @pytest.mark.slow
    def test_a_function(self, tmp_path):
        def write(path, tensor):
            path.with_name(path.name + ".txt").write_text(str(tuple(tensor.shape)))

        assert written(tmp_path, write, named("a.nii.gz")) == ["a.txt"]
        assert (tmp_path / "out" / "a.txt").read_text() == "(1, 8, 8)"

    def test_an_unknown_name(self):
        with pytest.raises(ValueError, match=r"writer must be .* got 'itk_nift'\. Did you mean 'itk_nifti'\?"):
            FileWriter("out", "itk_nift")

    @pytest.mark.slow
    def test_predictions_of_another_module(self, tmp_path):
        class Plain(LightningModule):
            def predict_step(self, batch, batch_idx):
                return batch["image"]

        trainer(tmp_path, callbacks=[FileWriter(tmp_path / "out", "tensor")]).predict(Plain(), loader(items(3)))
        assert files(tmp_path / "out") == ["0.pt", "1.pt", "2.pt"]

    @pytest.mark.slow
    def test_other_stages_make_no_folder(self, tmp_path):
        system = System(nn.Identity(), {"test": loader(items(1))})
        trainer(tmp_path, callbacks=[FileWriter(tmp_path / "out", "tensor")]).test(system, verbose=False)
        assert not (tmp_path / "out").exists()


def scan(path, affine=None, shape=(5, 6, 7)):
    """Writes a NIfTI file and gives its path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).random(shape, np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return str(path)


def predicted(path, images, writer="itk_nifti", post=None, out="out", load=(), **settings):
    """Predicts images with a FileWriter, and gives the files that are in its folder then."""
    data = Dataset([{"image": i} for i in images], Compose([LoadImaged("image", ensure_channel_first=True), *load]))
    system = System(nn.Identity(), {"predict": loader(data, 1)}, postprocessing={"predict": post} if post else None)
    trainer(path, callbacks=[FileWriter(path / out, writer, **settings)]).predict(system, return_predictions=False)
    return files(path / out)


@pytest.mark.slow
class TestNothingIsLost:
    def test_two_cases_with_one_name_are_told_before_the_first(self, tmp_path):
        with pytest.raises(ConfigError) as raised:
            written(tmp_path, "tensor", named("/a/T1.nii.gz", "/b/T1.nii.gz"))
        message = str(raised.value)
        assert message.startswith(
            "trainer::callbacks (FileWriter): case 0 (/a/T1.nii.gz) and case 1 (/b/T1.nii.gz) would"
        )
        assert "data_root_dir" in message
        assert files(tmp_path / "out") == []

    @pytest.mark.parametrize("identifier", [lambda batch: ["same"] * len(batch["id"]), lambda batch: batch["id"]])
    def test_or_when_the_second_is_written(self, tmp_path, identifier):
        with pytest.raises(CaseError, match="would be written to one file"):
            written(tmp_path, "tensor", named("same", "x/same"), identifier=identifier)
        assert torch.equal(torch.load(tmp_path / "out" / "same.pt"), items(1)[0]["image"])
        assert files(tmp_path / "out") == ["same.pt"]

    def test_two_writers_with_one_folder(self, tmp_path):
        writers = [FileWriter(tmp_path / "out", "tensor", postfix=postfix) for postfix in ("", "")]
        adapters = {"predict": {"batch": BatchAdapter("image", identifier_accessor="id")}}
        system = System(nn.Identity(), {"predict": loader(named("a"))}, adapters=adapters)
        with pytest.raises(ConfigError, match="twice, would be written to one file"):
            trainer(tmp_path, callbacks=writers).predict(system)

    def test_a_file_writer_and_save_image(self, tmp_path):
        save = SaveImaged("pred", output_dir=tmp_path / "out", output_postfix="", separate_folder=False)
        with pytest.raises(ConfigError, match=r"also by"):
            predicted(tmp_path, [scan(tmp_path / "x.nii.gz")], post=save)

    def test_a_second_run_replaces_files_of_the_same_cases(self, tmp_path):
        data = named("/a/x.nii.gz", "/b/y.nii.gz")
        assert written(tmp_path, "tensor", data) == written(tmp_path, "tensor", data) == ["x.pt", "y.pt"]

    def test_and_none_of_others(self, tmp_path):
        first, other = named("/a/T1.nii.gz", "/b/T1.nii.gz")
        written(tmp_path, "tensor", [first])
        with pytest.raises(
            ConfigError, match=r"output of another case, /a/T1.nii.gz; .* or overwrite: true to replace it"
        ):
            written(tmp_path, "tensor", [other])
        assert torch.equal(torch.load(tmp_path / "out" / "T1.pt"), first["image"])
        written(tmp_path, "tensor", [other], overwrite=True)
        assert torch.equal(torch.load(tmp_path / "out" / "T1.pt"), other["image"])

    def test_nor_of_another_source_with_the_same_identifier(self, tmp_path):
        first, other = (
            {"image": MetaTensor(item["image"], meta={"filename_or_obj": item["id"]}), "id": "1"}
            for item in named("/a/x.nii.gz", "/b/x.nii.gz")
        )
        written(tmp_path, "tensor", [first], identifier="id")
        with pytest.raises(ConfigError, match=r"output of another case, /a/x.nii.gz"):
            written(tmp_path, "tensor", [other], identifier="id")
        assert torch.equal(torch.load(tmp_path / "out" / "1.pt"), first["image"])
        written(tmp_path, "tensor", [first], identifier="id")

    def test_nor_numbered_ones(self, tmp_path):
        written(tmp_path, "tensor", items(1), identifier=None)
        with pytest.raises(CaseError, match="cases without names cannot be told apart"):
            written(tmp_path, "tensor", items(1, seed=1), identifier=None)
        assert torch.equal(torch.load(tmp_path / "out" / "0.pt"), items(1)[0]["image"])
        written(tmp_path, "tensor", items(1, seed=1), identifier=None, overwrite=True)
        assert torch.equal(torch.load(tmp_path / "out" / "0.pt"), items(1, seed=1)[0]["image"])

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_the_source_is_never_written_over(self, tmp_path, overwrite):
        image = Path(scan(tmp_path / "out" / "x.nii.gz"))
        before = image.read_bytes()
        with pytest.raises(
            ConfigError, match=r"written over an input, .*x.nii.gz\. Set data_root_dir .*, postfix or path"
        ):
            predicted(tmp_path, [str(image)], overwrite=overwrite)
        assert image.read_bytes() == before
        assert predicted(tmp_path, [str(image)], postfix="seg") == ["x.nii.gz", "x_seg.nii.gz"]

    def test_nor_by_a_function(self, tmp_path):
        image = Path(scan(tmp_path / "out" / "x.nii.gz"))
        before = image.read_bytes()
        with pytest.raises(CaseError, match="written over an input"):
            predicted(
                tmp_path, [str(image)], lambda path, tensor: path.with_name(f"{path.name}.nii.gz").write_text("lost")
            )
        assert image.read_bytes() == before
        assert files(tmp_path / "out") == ["x.nii.gz"]

    def test_a_writer_that_fails_leaves_the_old_file(self, tmp_path):
        def write(path, tensor):
            path.with_name(f"{path.name}.txt").write_text("half")
            raise OSError("disk full")

        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "a.txt").write_text("old")
        with pytest.raises(OSError, match="disk full"):
            written(tmp_path, write, named("a"))
        assert files(tmp_path / "out") == ["a.txt"]
        assert (tmp_path / "out" / "a.txt").read_text() == "old"


@pytest.mark.slow
class TestValues:
    @pytest.mark.parametrize(
        ("values", "dtype"),
        [
            ([0, 1, 255], "uint8"),
            ([0, 299], "int16"),
            ([0, 40000], "uint16"),
            ([-2, 1], "int16"),
            ([0.25, 1], "float32"),
        ],
    )
    @pytest.mark.parametrize("writer", ["itk_nifti", "itk_nrrd"])
    def test_the_type_follows_the_values(self, tmp_path, values, dtype, writer):
        post = Lambdad(
            "pred", lambda pred: torch.tensor(values)[torch.arange(pred.numel()) % len(values)].view_as(pred)
        )
        name = predicted(tmp_path, [scan(tmp_path / "x.nii.gz")], writer, post=track(post))[0]
        if writer == "itk_nifti":
            image = nibabel.load(tmp_path / "out" / name)
            saved = np.asanyarray(image.dataobj)
        else:
            saved = itk.array_from_image(itk.imread(str(tmp_path / "out" / name)))
        assert saved.dtype == dtype
        assert np.unique(saved).tolist() == sorted(values)

    def test_a_type_that_cannot_hold_them(self, tmp_path):
        image = scan(tmp_path / "x.nii.gz")
        with pytest.raises(CaseError) as raised:
            predicted(tmp_path, [image], dtype="uint8")
        assert f"case {image}: the value 0." in str(raised.value)
        assert "would be 0 as uint8. Leave dtype out" in str(raised.value)
        assert files(tmp_path / "out") == []

    def test_a_given_type(self, tmp_path):
        predicted(tmp_path, [scan(tmp_path / "x.nii.gz")], post=AsDiscreted("pred", threshold=0.5), dtype="float32")
        assert nibabel.load(tmp_path / "out" / "x.nii.gz").get_data_dtype() == np.float32
        written(tmp_path / "t", "tensor", [{"image": torch.tensor([1.0, 7.0]), "id": "a"}], dtype="int16")
        assert torch.load(tmp_path / "t" / "out" / "a.pt").dtype == torch.int16

    def test_numbers_above_16_million_are_kept(self, tmp_path):
        post = track(Lambdad("pred", lambda pred: torch.full(pred.shape, 2**24 + 1)))
        predicted(tmp_path, [scan(tmp_path / "x.nii.gz")], post=post)
        assert np.unique(nibabel.load(tmp_path / "out" / "x.nii.gz").dataobj).tolist() == [2**24 + 1]

    def test_label_maps_as_images(self, tmp_path):
        classes = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
        with pytest.raises(
            CaseError, match=r"case a: floats must be in \[0, 1\] .*, got 0.0 to 3.0.* set dtype: uint8"
        ):
            written(tmp_path, "image", [{"image": classes, "id": "a"}])
        written(tmp_path, "image", [{"image": classes, "id": "a"}], dtype="uint8")
        assert np.asarray(Image.open(tmp_path / "out" / "a.png")).tolist() == [[0, 1], [2, 3]]
        written(tmp_path, "image", [{"image": classes * 100, "id": "b"}], dtype="uint16")
        assert np.asarray(Image.open(tmp_path / "out" / "b.png")).tolist() == [[0, 100], [200, 300]]

    def test_a_photograph_lies_as_it_did(self, tmp_path):
        colors = np.random.default_rng(0).integers(0, 255, (20, 28, 3), dtype=np.uint8)
        Image.fromarray(colors).save(tmp_path / "x.png")
        predicted(tmp_path, [str(tmp_path / "x.png")], "image", dtype="uint8")
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "x.png")), colors)


def track(transform):
    """The metadata stay although the values are new."""

    def apply(item):
        after = transform(item)
        pred = MetaTensor(torch.as_tensor(after["pred"]), meta=item["pred"].meta, affine=item["pred"].affine)
        return {**after, "pred": pred}

    return apply


@pytest.mark.slow
@pytest.mark.parametrize(
    "affine",
    [
        [[0, 0, 1, 3], [-1, 0, 0, 5], [0, 1, 0, 7], [0, 0, 0, 1]],  # sagittal
        [[1, 0, 0, 3], [0, 0, -2, 5], [0, 1.5, 0, 7], [0, 0, 0, 1]],  # coronal
        [[0, -0.3, 1.1, 4], [-1.5, 0, 0.2, -7], [0, 1.2, 0.1, 2], [0, 0, 0, 1]],  # oblique
    ],
)
@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 6, 7, 2)])
def test_any_orientation(tmp_path, affine, shape):
    image = scan(tmp_path / "x.nii.gz", np.array(affine, float), shape)
    predicted(tmp_path, [image], post=AsDiscreted("pred", argmax=True) if len(shape) == 4 else None)
    saved, source = nibabel.load(tmp_path / "out" / "x.nii.gz"), nibabel.load(image)
    values = source.get_fdata()
    assert np.allclose(saved.affine, source.affine, atol=1e-6)
    assert np.array_equal(saved.get_fdata(), values if len(shape) == 3 else values.argmax(-1))


@pytest.mark.slow
def test_an_affine_that_cannot_be_used_is_kept(tmp_path):
    image = Path(scan(tmp_path / "x.nii"))
    raw = nibabel.Nifti1Image.from_filename(image)
    data = np.asarray(raw.dataobj).tobytes(order="F")
    raw.header["srow_x"], raw.header["sform_code"], raw.header["qform_code"] = 0, 1, 0
    raw.header["vox_offset"] = 352
    image.write_bytes(raw.header.binaryblock + b"\0\0\0\0" + data)
    predicted(tmp_path, [str(image)])
    saved = nibabel.load(tmp_path / "out" / "x.nii.gz")
    assert np.array_equal(saved.affine, nibabel.load(image).affine)
    assert np.array_equal(saved.get_fdata(), nibabel.load(image).get_fdata())
