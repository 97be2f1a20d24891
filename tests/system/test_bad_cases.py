import csv
import errno
import threading

import pytest
import torch
from lightning.pytorch.callbacks import BasePredictionWriter, ModelCheckpoint
from monai.bundle import ConfigParser
from monai.data import CacheDataset, DataLoader, Dataset, IterableDataset, SmartCacheDataset
from monai.metrics import MSEMetric
from monai.transforms import Compose, Lambdad, RandGaussianNoised
from parts import trainer
from torch import nn

from monai_lighter import System
from monai_lighter.config.resolver import LOCATOR, Resolver
from monai_lighter.errors import CaseError
from monai_lighter.system.bad_cases import BadCases, Remaining, SkippingCollate, SkippingDataset, make_tolerant

COUNT = 7


def read(item):
    if item < 0:
        raise ValueError(f"no case\n{-item}")
    return torch.full((1, 4, 4), float(item))


def dataset(bad=(), count=COUNT, kind=Dataset, random=False, **kwargs):
    """Images of one value each, some of which cannot be read."""
    data = [{"image": -i - 1 if i in bad else i, "label": torch.ones(1, 4, 4), "name": i} for i in range(count)]
    noise = [RandGaussianNoised("image", prob=1.0)] if random else []
    return kind(data, Compose([Lambdad("image", read), *noise]), **kwargs)


def system(mode, data, batch_size=2, **kwargs):
    torch.manual_seed(0)
    model = nn.Conv2d(1, 1, 1)
    return System(
        model=model,
        criterion=nn.MSELoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        metrics={"val": {"error": MSEMetric()}, "test": {"error": MSEMetric()}},
        dataloaders={mode: DataLoader(data, batch_size=batch_size, shuffle=mode == "train")},
        **{"on_bad_case": "skip", **kwargs},
    )


def listed(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("bad", [(0,), (3,), (6,), (2, 3), (0, 1, 2, 5)])
def test_an_evaluation_comes_to_what_it_comes_to_without_the_case(tmp_path, bad, batch_size):
    class Kept(Dataset):
        """The good cases alone."""

        def __init__(self, data, transform):
            super().__init__([item for item in data if item["image"] >= 0], transform)

    found = trainer(tmp_path / "a").test(system("test", dataset(bad), batch_size), verbose=False)
    expected = trainer(tmp_path / "b").test(system("test", dataset(bad, kind=Kept), batch_size), verbose=False)
    assert found == expected
    rows = listed(tmp_path / "a" / "bad_cases_test.csv")
    assert [row["case"] for row in rows] == [f"image={-i - 1}, name={i}" for i in bad]
    assert {(row["transform"], row["mode"]) for row in rows} == {("Lambdad", "test")}
    assert rows[0]["cause"] == f"ValueError: no case {bad[0] + 1}"
    assert not (tmp_path / "b" / "bad_cases_test.csv").exists()


@pytest.mark.slow
def test_a_bad_case_ends_the_run_by_default(tmp_path):
    with pytest.raises(RuntimeError, match="applying transform"):
        trainer(tmp_path).test(system("test", dataset((3,)), on_bad_case="raise"), verbose=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_cases_without_names_keep_their_numbers(tmp_path):
    class Indices(BasePredictionWriter):
        found = []

        def write_on_batch_end(self, trainer, pl_module, prediction, batch_indices, *args):
            names = None if prediction is None else prediction["identifier"]
            self.found.append((names, batch_indices))

    predicting = trainer(tmp_path, callbacks=[Indices("batch")])
    outputs = predicting.predict(system("predict", dataset((1, 4, 5))))
    kept = [[0], [2, 3], None, [6]]
    assert [output and output["identifier"] for output in outputs] == kept
    assert Indices.found == [(names, names or []) for names in kept]
    assert [output["input"][:, 0, 0, 0].tolist() for output in outputs if output] == [[0], [2, 3], [6]]


def test_another_case_takes_the_place_in_training(tmp_path):
    bad = BadCases(5)
    bad.path = tmp_path / "bad.csv"
    skipping = SkippingDataset(dataset((2, 3, 6)), bad, "train", True)
    assert [skipping[i]["name"] for i in range(COUNT)] == [0, 1, 4, 4, 4, 5, 0]
    assert len(skipping) == COUNT
    assert skipping.data[1]["name"] == 1
    assert [row["case"] for row in listed(bad.path)] == [f"image={-i - 1}, name={i}" for i in (2, 3, 6)]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 3, 6])
def test_a_fit_that_is_gone_on_with_draws_the_same_and_its_list_goes_on(tmp_path, stop):
    def fit(path, **kwargs):
        module = system("train", dataset((3,), random=True))
        module.seed = 4
        steps = ModelCheckpoint(path, "{step}", save_top_k=-1, every_n_train_steps=1)
        trainer(path, max_epochs=2, callbacks=[steps]).fit(module, **kwargs)
        return module

    whole = fit(tmp_path / "whole")
    again = fit(tmp_path / "again", ckpt_path=tmp_path / "whole" / f"step={stop}.ckpt")
    assert torch.equal(whole.model.weight, again.model.weight)
    assert whole.bad_cases.read() == again.bad_cases.read() != []


@pytest.mark.slow
def test_the_budget_counts_cases_once_and_over_all_modes(tmp_path):
    module = system("train", dataset((3,)), max_bad_cases=1)
    trainer(tmp_path, max_epochs=3).fit(module)
    module = system("train", dataset((3,)), max_bad_cases=1)
    module.dataloaders["val"] = DataLoader(dataset((3, 4)))
    module.val_dataloader = lambda: module.skip_bad_cases("val", module.dataloaders["val"])
    with pytest.raises(CaseError, match="max_bad_cases: 2 cases cannot be read or transformed, 1 may be") as caught:
        trainer(tmp_path, max_epochs=3).fit(module)
    assert "train: case image=-4, name=3: ValueError: no case 4\n  val: case image=-4, name=3" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["train", "test"])
def test_a_loader_with_no_good_case_ends_the_run(tmp_path, mode):
    module = system(mode, dataset(range(3), 3))
    run = {"train": "fit", "test": "test"}[mode]
    with pytest.raises(CaseError, match=f"system::dataloaders::{mode}: none of its 3 cases can be read or transformed"):
        getattr(trainer(tmp_path), run)(module)


@pytest.mark.parametrize(
    "error", [MemoryError("no"), OSError(errno.EMFILE, "too many"), RuntimeError("CUDA out of memory.")]
)
def test_what_the_machine_lacks_is_no_bad_case(tmp_path, error):
    def fail(value):
        raise error

    bad = BadCases(5)
    bad.path = tmp_path / "bad.csv"
    with pytest.raises(RuntimeError, match="applying transform"):
        SkippingDataset(Dataset([{"image": 1}], Compose([Lambdad("image", fail)])), bad, "val", False)[0]
    assert not bad.path.exists()


def test_a_list_is_whole_whoever_adds_to_it(tmp_path):
    bad = BadCases(1000)
    bad.path = tmp_path / "logs" / "bad.csv"
    bad.add(ValueError("first"), 0, "val")
    with open(bad.path, "ab") as file:
        file.write(b'"half a ro')  # of a process that was killed
    threads = [
        threading.Thread(target=lambda: [bad.add(ValueError("x"), i, "val") for i in range(20)]) for _ in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(int(row.case.removeprefix("item ")) for row in bad.read()) == list(range(20))
    assert len(listed(bad.path)) == 20


def test_a_batch_without_some_of_its_items():
    collate = SkippingCollate(list)
    missing = SkippingDataset(dataset(range(9), 9), BadCases(99), "val", False)[0]
    assert collate([1, 2]) == [1, 2]
    assert collate([1, missing, 2]) == Remaining([1, 2], [0, 2])
    assert collate([missing]) == Remaining(None, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_bad_case": "skp"}, "system::on_bad_case: must be raise or skip, got 'skp'"),
        ({"on_bad_case": "raise", "max_bad_cases": 3}, "system::max_bad_cases: is for on_bad_case: skip, got 3"),
        ({"max_bad_cases": 0}, "system::max_bad_cases: must be a whole number from 1, got 0"),
        ({"max_bad_cases": True}, "system::max_bad_cases: must be a whole number from 1, got True"),
        ({"dataloaders": {}}, "for the loaders of system::dataloaders, got none"),
        ({"dataloaders": {"val": {"a": [1]}}}, "system::dataloaders::val::a: a list has no dataset"),
        ({"dataloaders": {"val": DataLoader(IterableDataset([1]))}}, "a IterableDataset ends at its first bad case"),
        (
            {"dataloaders": {"train": DataLoader(SmartCacheDataset([1, 2], Compose([]), cache_num=1, progress=False))}},
            "Take a CacheDataset or PersistentDataset, or set on_bad_case: raise",
        ),
        (
            {"dataloaders": {"val": torch.utils.data.DataLoader([1, 2], batch_sampler=[[0], [1]])}},
            "Give it a batch_size in place of a batch_sampler",
        ),
    ],
)
def test_what_cannot_be_is_told_when_the_system_is_built(arguments, message):
    with pytest.raises(ValueError, match=message):
        System(nn.Identity(), **{"on_bad_case": "skip", "dataloaders": {"val": DataLoader([1])}, **arguments})


def test_a_cached_dataset_fails_again_when_the_case_is_asked_for(tmp_path):
    data = [{"image": -i - 1 if i == 1 else i} for i in range(3)]
    config = {"data": {"_target_": "CacheDataset", "data": data, "transform": "@transform", "progress": False}}
    parser = ConfigParser({**config, "transform": Compose([Lambdad("image", read)])})
    parser.locator, parser.ref_resolver = LOCATOR, Resolver(make_tolerant)
    built = parser.get_parsed_content("data")
    assert type(built) is CacheDataset
    assert [built[i]["image"].mean().item() for i in (0, 2)] == [0, 2]
    with pytest.raises(RuntimeError, match="applying transform"):
        built[1]
