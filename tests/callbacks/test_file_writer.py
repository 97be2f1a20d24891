import itk
import nibabel
import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from monai.data import Dataset, MetaTensor
from monai.transforms import Compose, LoadImaged, Orientationd, Spacingd
from parts import items, loader, trainer
from PIL import Image
from torch import nn

from monai_lighter import BatchAdapter, FileWriter, System
from monai_lighter.callbacks import writers as file_writer


def written(path, writer, data, batch_size=2, identifier="id", model=None):
    system = System(
        model or nn.Identity(),
        {"predict": loader(data, batch_size)},
        adapters={"predict": {"batch": BatchAdapter("image", identifier_accessor=identifier)}},
    )
    trainer(path, callbacks=[FileWriter(path / "out", writer)]).predict(system, return_predictions=False)
    return sorted(file.name for file in (path / "out").iterdir())


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
            (["/a/T1.nii.gz", "/b/T1.nii.gz", "/c/T1.nii.gz"], ["T1", "T1_1", "T1_2"]),
            (["x", "x_1", "y/x"], ["x", "x_1", "x_2"]),
            (["same", "same"], ["same"]),  # one case twice
        ],
    )
    def test_of_identifiers(self, tmp_path, identifiers, files):
        expected = sorted(f"{name}.pt" for name in files) if "x_2" not in files else None
        result = written(tmp_path, "tensor", named(*identifiers))
        if expected is None:
            assert len(result) == 3
        else:
            assert result == expected

    def test_a_second_run_writes_the_same_files(self, tmp_path):
        data = named("/a/T1.nii.gz", "/b/T1.nii.gz")
        assert written(tmp_path, "tensor", data) == written(tmp_path, "tensor", data) == ["T1.pt", "T1_1.pt"]

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
        assert [file.name for file in (tmp_path / "v1.0").iterdir()] == ["0.pt"]

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
        assert calls == [(str(tmp_path / "out" / "a.mp4"), (5, 4, 4, 3), torch.uint8, 24)]

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
        assert len(list((tmp_path / "out").iterdir())) == 3

    @pytest.mark.slow
    def test_other_stages_make_no_folder(self, tmp_path):
        system = System(nn.Identity(), {"test": loader(items(1))})
        trainer(tmp_path, callbacks=[FileWriter(tmp_path / "out", "tensor")]).test(system, verbose=False)
        assert not (tmp_path / "out").exists()
