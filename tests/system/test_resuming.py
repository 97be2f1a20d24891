"""A native fit that is stopped and gone on with, against the one that is not."""

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from monai.data import CacheDataset, DataLoader, Dataset
from monai.metrics import MAEMetric
from monai.transforms import Compose, RandFlipd, RandGaussianNoised, RandSpatialCropSamplesd
from torch.utils.data import Subset, WeightedRandomSampler
from torchmetrics import MeanSquaredError
from torchmetrics.wrappers import LambdaInputTransformer

from monai_lighter import System
from monai_lighter.system.seeded import SeededLoader, find_reason_against_seeding

pytestmark = pytest.mark.usefixtures("impatient_workers")


class Keep(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.seen.append(batch["image"].as_tensor().clone() if hasattr(batch["image"], "as_tensor") else batch["image"])


def items(count=7):
    numbers = torch.Generator().manual_seed(1)
    return [{"image": torch.rand(1, 6, 6, generator=numbers), "label": torch.tensor([float(i)])} for i in range(count)]


TRANSFORM = [RandFlipd("image", prob=0.5), RandGaussianNoised("image", prob=1.0)]


def make_system(workers=0, dataset=CacheDataset, sampler=None, seed=3, transforms=(), **keywords):
    seed_everything(seed, workers=True, verbose=False)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    data = dataset(items(), Compose([*(transforms or TRANSFORM)]))
    order = {"sampler": sampler(data)} if sampler else {"shuffle": True}
    loader = DataLoader(data, batch_size=2, num_workers=workers, **order)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    system = System(net, {"train": loader}, optimizer, criterion=torch.nn.functional.mse_loss, **keywords)
    system.seed = seed
    return system


def fit(system, folder, resume=None, epochs=3, **keywords):
    checkpoint = ModelCheckpoint(folder, "{epoch}-{step}", save_top_k=-1, every_n_train_steps=1)
    keep = Keep()
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[checkpoint, keep], default_root_dir=folder, **keywords,
    )  # fmt: skip
    trainer.fit(system, ckpt_path=resume)
    return [each.clone() for each in system.model.parameters()], keep.seen


def weighted(data):
    return WeightedRandomSampler([1.0 + i for i in range(len(data))], len(data))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("sampler", [None, weighted])
def test_a_fit_that_goes_on_comes_to_the_same_weights(tmp_path, workers, sampler):
    whole, seen = fit(make_system(workers, sampler=sampler), tmp_path / "whole")
    assert len(seen) == 12
    for step in (1, 4, 6, 8, 11):
        (file,) = (tmp_path / "whole").glob(f"*step={step}.ckpt")
        weights, rest = fit(make_system(workers, sampler=sampler), tmp_path / f"from_{step}", str(file))
        assert len(rest) == 12 - step
        assert all(torch.equal(*pair) for pair in zip(seen[step:], rest, strict=True))
        assert all(torch.equal(*pair) for pair in zip(whole, weights, strict=True))


def test_part_of_a_dataset_is_drawn_as_any_other():
    loader = SeededLoader(DataLoader(Subset(Dataset(items()), [1, 3, 5, 0]), batch_size=3), 3)
    assert [batch["label"].flatten().tolist() for batch in loader] == [[1, 3, 5], [0]]


@pytest.mark.slow
def test_gradients_that_were_accumulated_go_on(tmp_path):
    whole, _ = fit(make_system(), tmp_path / "whole", accumulate_grad_batches=3)
    for file in (tmp_path / "whole").glob("*.ckpt"):
        weights, _ = fit(make_system(), tmp_path / file.stem, str(file), accumulate_grad_batches=3)
        assert all(torch.equal(*pair) for pair in zip(whole, weights, strict=True))


class Epochs(ModelCheckpoint):
    """Keeps what each epoch came to, as callbacks find it that monitor it."""

    def __init__(self, folder):
        super().__init__(folder, "{epoch}-{step}", save_top_k=-1, every_n_train_steps=1)
        self.found, self.steps = {}, {}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        loss = float(trainer.callback_metrics["train/loss/step"])
        self.steps.setdefault(trainer.current_epoch, []).append((loss, len(batch["image"])))
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer, module):
        values = trainer.callback_metrics
        self.found[trainer.current_epoch] = {name: float(values[name]) for name in values if name.endswith("/epoch")}


@pytest.mark.slow
class TestAnEpochThatGoesOn:
    """Losses and metrics of training are over the whole epoch, also of one that was stopped within."""

    def fit(self, folder, resume=None, accumulate=1):
        metrics = {
            "mse": MeanSquaredError(),
            "scaled": LambdaInputTransformer(MeanSquaredError(), lambda pred: 2 * pred),
            "mae": MAEMetric(),
        }
        epochs = Epochs(folder)
        trainer = Trainer(
            max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[epochs], default_root_dir=folder, accumulate_grad_batches=accumulate,
        )  # fmt: skip
        trainer.fit(make_system(metrics={"train": metrics}), ckpt_path=resume)
        return epochs

    @pytest.mark.parametrize("accumulate", [1, 3])
    def test_it_comes_to_what_it_would_have_come_to(self, tmp_path, accumulate):
        whole = self.fit(tmp_path, accumulate=accumulate)
        for epoch, steps in whole.steps.items():
            losses, counts = zip(*steps, strict=True)
            assert counts == (2, 2, 2, 1)
            assert whole.found[epoch]["train/loss/epoch"] == pytest.approx(np.average(losses, weights=counts))
            assert whole.found[epoch]["train/metrics/mse/epoch"] == pytest.approx(np.average(losses, weights=counts))
        within = 0
        for file in sorted(tmp_path.glob("*.ckpt")):
            rest = self.fit(tmp_path / file.stem, str(file), accumulate)
            for epoch, values in rest.found.items():
                assert values == pytest.approx(whole.found[epoch])
                within += len(rest.steps[epoch]) < 4
        assert within >= 3

    def test_of_another_number_of_processes_it_says_so(self, tmp_path, caplog):
        whole = self.fit(tmp_path)
        (file,) = tmp_path.glob("*step=2.ckpt")
        checkpoint = torch.load(file, weights_only=True)
        checkpoint["epoch_so_far"]["train"] *= 2
        torch.save(checkpoint, file)
        rest = self.fit(tmp_path / "rest", str(file))
        assert "losses and metrics of training in epoch 1 are those of the batches after the checkpoint" in caplog.text
        losses, counts = zip(*rest.steps[0], strict=True)
        assert rest.found[0]["train/loss/epoch"] == pytest.approx(np.average(losses, weights=counts))
        assert rest.found[1] == pytest.approx(whole.found[1])


@pytest.mark.slow
def test_an_epoch_of_two_processes_comes_to_what_it_would_have_come_to(tmp_path, python_module):
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    done = python_module("ddp_resumed", tmp_path, cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr[-3000:]
    whole, steps, weights = json.loads((tmp_path / "whole" / "told.json").read_text())
    assert steps == {"0": 2, "1": 2}
    within = 0
    for file in tmp_path.glob("[0-9]*/told.json"):
        found, rest, sums = json.loads(file.read_text())
        assert sums == weights
        for epoch, values in found.items():
            assert {"train/loss/epoch", "train/metrics/mse/epoch", "train/metrics/mae/epoch"} <= values.keys()
            assert values == whole[epoch]
            within += rest[epoch] < steps[epoch]
    assert within == 2


@pytest.mark.slow
def test_what_is_drawn_does_not_depend_on_workers(tmp_path):
    runs = [fit(make_system(workers, Dataset), tmp_path / str(workers), epochs=2) for workers in (0, 1, 3)]
    for weights, seen in runs[1:]:
        assert all(torch.equal(*pair) for pair in zip(runs[0][1], seen, strict=True))
        assert all(torch.equal(*pair) for pair in zip(runs[0][0], weights, strict=True))


def epoch_of(loader, epoch, batches=0):
    loader.begin(epoch, batches)
    return [batch["image"].as_tensor() for batch in loader]


def test_several_processes_draw_what_one_draws():
    loader = make_system().dataloaders["train"]
    one = torch.cat(epoch_of(SeededLoader(loader, 3), 1))
    two = [torch.cat(epoch_of(SeededLoader(loader, 3, 2, rank), 1)) for rank in (0, 1)]
    joined = torch.stack([each for pair in zip(*two, strict=True) for each in pair])
    torch.testing.assert_close(joined[:7], one, rtol=0, atol=0)
    assert torch.equal(joined[7], joined[0])  # filled up, as DistributedSampler does


def test_epochs_differ_and_their_ends_are_the_same():
    loader = SeededLoader(make_system().dataloaders["train"], 3)
    first, second = epoch_of(loader, 0), epoch_of(loader, 1)
    assert not torch.equal(first[0], second[0])
    assert all(torch.equal(*pair) for pair in zip(epoch_of(loader, 1, 2), second[2:], strict=True))
    assert len(loader) == len(first) == 4


def test_other_seeds_draw_others():
    loader = make_system().dataloaders["train"]
    assert not torch.equal(epoch_of(SeededLoader(loader, 3), 0)[0], epoch_of(SeededLoader(loader, 4), 0)[0])


def test_nothing_of_the_runs_own_numbers_is_drawn():
    loader = SeededLoader(make_system().dataloaders["train"], 3)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    epoch_of(loader, 0)
    assert torch.equal(torch.rand(3), expected)


def test_crops_of_one_case():
    crops = [RandSpatialCropSamplesd("image", [3, 3], num_samples=2, random_size=False)]
    loader = SeededLoader(make_system(transforms=crops).dataloaders["train"], 3)
    first = epoch_of(loader, 0)
    assert first[0].shape == (4, 1, 3, 3)
    assert all(torch.equal(*pair) for pair in zip(first, epoch_of(loader, 0), strict=True))


def test_numbers_of_numpy_and_python_are_covered():
    class Draws(torch.utils.data.Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return torch.tensor([np.random.rand(), random.random(), torch.rand(()).item(), index])

    loader = SeededLoader(torch.utils.data.DataLoader(Draws(), shuffle=True), 0)
    loader.begin(2, 0)
    first = torch.cat([*loader])
    loader.begin(2, 0)
    assert torch.equal(first, torch.cat([*loader]))
    assert len({*first[:, :3].flatten().tolist()}) == 9
    assert sorted(first[:, 3].tolist()) == [0, 1, 2]


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(())


class Batches(torch.utils.data.BatchSampler):
    pass


def test_what_cannot_be_seeded_says_why():
    data = Dataset(items())
    iterable = torch.utils.data.DataLoader(Endless())
    own = torch.utils.data.DataLoader(data, batch_sampler=Batches(range(7), 2, False))
    assert "iterable" in find_reason_against_seeding(iterable)
    assert "batch_sampler is a Batches" in find_reason_against_seeding(own)
    assert "no torch DataLoader" in find_reason_against_seeding([1])
    assert find_reason_against_seeding(torch.utils.data.DataLoader(data)) is None
