"""Writers of what a predict step gives by its keys: order, names, kinds of values, and what is refused."""

import csv

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch.utils.data import DataLoader

from monai_lighter import CaseError, CsvWriter, OutputWriter
from monai_lighter.callbacks.output_writers import BatchWriter


class Gives(LightningModule):
    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def predict_step(self, batch, batch_idx):
        return self.outputs(batch)


def predict(tmp_path, outputs, *writers, count=5):
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
        callbacks=list(writers),
    )
    trainer.predict(Gives(outputs), DataLoader(torch.arange(count), batch_size=2), return_predictions=False)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


@pytest.mark.slow
def test_rows_are_those_of_the_cases_in_their_order(tmp_path):
    path = tmp_path / "new" / "table.csv"

    def outputs(batch):
        return {
            "pred": -batch,
            "pair": torch.stack([batch, batch], 1),
            "id": [f"n{i}" for i in batch.tolist()],
            "all": "x",
        }

    predict(tmp_path, outputs, CsvWriter(path, ["pred", "id", "pair", "all"]))
    assert rows(path) == [["pred", "id", "pair", "all"], *([str(-i), f"n{i}", f"[{i}, {i}]", "x"] for i in range(5))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("outputs", "error", "message"),
    [
        (lambda batch: {"pred": batch}, KeyError, "must give a dict with 'id', got"),
        (lambda batch: batch, KeyError, "must give a dict with 'pred', got Tensor"),
        (lambda batch: {"pred": batch, "id": ["a"]}, ValueError, "must have one length, got {'pred': 2, 'id': 1}"),
    ],
)
def test_what_does_not_fit_ends_the_run(tmp_path, outputs, error, message):
    with pytest.raises(error, match=message):
        predict(tmp_path, outputs, CsvWriter(tmp_path / "table.csv", ["pred", "id"]))
    assert not (tmp_path / "table.csv").exists()


@pytest.mark.slow
def test_files_of_each_kind(tmp_path):
    image = torch.rand(1, 3, 4)

    def outputs(batch):
        count = len(batch)
        return {
            "image": image.expand(count, 1, 3, 4),
            "volume": torch.zeros(count, 1, 2, 3, 4),
            "text": [f"t{i}" for i in batch.tolist()],
            "name": [f"case.{i}.nii.gz" for i in batch.tolist()],
        }

    def write_own(path, value):
        path.with_suffix(".npy").write_bytes(value.numpy().tobytes())

    predict(
        tmp_path,
        outputs,
        OutputWriter(tmp_path / "tensors", "image", "tensor"),
        OutputWriter(tmp_path / "images", "image", "image_2d", "name"),
        OutputWriter(tmp_path / "volumes", "volume", "image_3d"),
        OutputWriter(tmp_path / "texts", "text", "text", "name"),
        OutputWriter(tmp_path / "own", "image", write_own),
    )
    assert torch.equal(torch.load(tmp_path / "tensors" / "4.pt", weights_only=True), image)
    read = np.asarray(Image.open(tmp_path / "images" / "case.3.png"))
    assert np.array_equal(read, (image[0].numpy() * 255).round().astype(np.uint8))
    assert Image.open(tmp_path / "volumes" / "0.png").size == (4, 6)
    assert (tmp_path / "texts" / "case.2.txt").read_text() == "t2"
    assert sorted(path.name for path in (tmp_path / "own").glob("*.npy")) == [f"{i}.npy" for i in range(5)]


@pytest.mark.slow
def test_two_cases_with_one_name_are_told(tmp_path):
    writer = OutputWriter(tmp_path / "files", "pred", "tensor", "name")
    with pytest.raises(CaseError, match="same"):
        predict(tmp_path, lambda batch: {"pred": batch, "name": ["same"] * len(batch)}, writer)


def test_an_unknown_writer_is_told():
    with pytest.raises(ValueError, match=r"a known name, got 'image2d'\. Did you mean 'image_2d'"):
        OutputWriter("files", "pred", "image2d")


@pytest.mark.slow
def test_a_writer_of_ones_own_is_given_each_batch(tmp_path):
    class Own(BatchWriter):
        def write(self, outputs, batch, batch_idx, dataloader_idx):
            with open(self.path / "sums.txt", "a") as file:
                file.write(f"{batch_idx} {int(outputs['pred'].sum())}\n")

    predict(tmp_path, lambda batch: {"pred": batch}, Own(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b" / "sums.txt").read_text() == "0 1\n1 5\n2 4\n"
