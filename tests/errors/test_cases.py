from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, MetaTensor
from monai.data import DataLoader as MonaiDataLoader
from monai.data import Dataset as MonaiDataset
from monai.transforms import Compose, Lambdad, RandGaussianNoised
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from monai_lighter.errors import CaseError, cases
from monai_lighter.errors.cases import WorkerInit, describe, find_case, make_case_error, name_cases

pytestmark = pytest.mark.usefixtures("impatient_workers")


class System:
    def __init__(self, **dataloaders):
        self.dataloaders = dataloaders


def fail_at_two(value):
    if value == 2:
        raise ValueError("no two")
    return value


ITEMS = [{"image": number, "label": 0} for number in range(4)]
TRANSFORM = Compose([Lambdad("image", fail_at_two)])


class Plain(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return fail_at_two(index)


class Stream(IterableDataset):
    def __iter__(self):
        yield from MonaiDataset(ITEMS, TRANSFORM)


def first_error(loader):
    with pytest.raises(Exception) as caught:
        list(loader)
    return caught.value


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("dataset", "case"),
    [
        (MonaiDataset(ITEMS, TRANSFORM), "case image=2, label=0"),
        (Subset(MonaiDataset(ITEMS, TRANSFORM), [0, 2]), "case image=2, label=0"),
        (Plain(), "case item 2"),
        (Subset(Plain(), [1, 2]), "case item 2"),
        (Stream(), "case image=2, label=0"),
    ],
    ids=["monai", "subset", "plain", "plain subset", "stream"],
)
def test_a_case_that_fails_is_named(dataset, case, workers):
    loader = DataLoader(dataset, batch_size=2, num_workers=workers)
    sources = name_cases(System(train=loader))
    assert sources == {"system::dataloaders::train": dataset}
    error = first_error(loader)
    if workers == 0:
        error = make_case_error(error, sources)
    assert isinstance(error, CaseError)
    assert str(error) == f"system::dataloaders::train: {case} failed: ValueError: no two"


@pytest.mark.parametrize("kind", [MonaiDataset, Subset, Stream])
def test_what_becomes_of_a_dataset_in_a_worker(monkeypatch, kind):
    arguments = {MonaiDataset: (ITEMS, TRANSFORM), Subset: (MonaiDataset(ITEMS, TRANSFORM), [2]), Stream: ()}[kind]
    dataset = kind(*arguments)
    monkeypatch.setattr(cases, "get_worker_info", lambda: SimpleNamespace(dataset=dataset, id=0))
    WorkerInit(lambda worker: None, "here")(0)
    assert type(dataset).__name__ == kind.__name__
    assert isinstance(dataset, kind)
    message = "^here: case image=2, label=0 failed: ValueError: no two$"
    with pytest.raises(CaseError, match=message):
        list(dataset) if kind is Stream else dataset[0 if kind is Subset else 2]
    if kind is Subset:
        with pytest.raises(CaseError, match=message):
            dataset.__getitems__([0])
    elif kind is MonaiDataset:
        assert dataset[1] == {"image": 1, "label": 0}


@pytest.mark.slow
def test_a_case_is_named_by_its_loader_where_there_are_several():
    good, bad = DataLoader(Plain(), batch_sampler=[[0]]), DataLoader(Plain(), num_workers=1)
    sources = name_cases(System(train={"a": good, "b": bad}, val=[good, bad], test="no loader"))
    assert set(sources) == {f"system::dataloaders::{end}" for end in ("train::a", "train::b", "val::0", "val::1")}
    assert str(first_error(bad)).startswith("system::dataloaders::train::b: case item 2 failed")


def test_a_loader_is_prepared_once_and_its_own_function_is_called():
    called = []
    loader = DataLoader(Plain(), num_workers=1, worker_init_fn=called.append)
    name_cases(System(val=loader))
    init = loader.worker_init_fn
    name_cases(System(val=loader))
    assert loader.worker_init_fn is init
    init(3)
    assert called == [3]


@pytest.mark.slow
def test_datasets_that_are_no_classes_of_torch_are_left_alone():
    loader = DataLoader([1, 2, 3], num_workers=1)
    name_cases(System(train=loader))
    assert [batch.item() for batch in loader] == [1, 2, 3]
    WorkerInit(lambda worker: None, "id")(0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [DataLoader, MonaiDataLoader])
def test_random_transforms_differ_between_workers_and_epochs(kind):
    noise = Compose([RandGaussianNoised("image", prob=1.0)])
    dataset = MonaiDataset([{"image": np.zeros(3, np.float32)}] * 4, noise)
    loader = kind(dataset, batch_size=1, num_workers=2)
    name_cases(System(train=loader))
    values = {round(batch["image"][0, 0].item(), 6) for _ in range(2) for batch in loader}
    assert len(values) == 8


def test_errors_about_no_case_are_none():
    sources = name_cases(System(train=DataLoader(Plain())))
    assert make_case_error(ValueError("x"), sources) is None
    assert find_case(ValueError("x")) is None
    with pytest.raises(RuntimeError) as caught:
        TRANSFORM({"image": 2})
    assert make_case_error(caught.value, sources) is None
    assert name_cases(object()) == {}


def test_a_cache_that_fails_when_it_is_filled():
    with pytest.raises(RuntimeError) as caught:
        CacheDataset(ITEMS, TRANSFORM, progress=False)
    assert find_case(caught.value) == "image=2, label=0"


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("a.nii", "a.nii"),
        (7, "7"),
        ({"image": "a.nii", "array": np.zeros(3)}, "image=a.nii"),
        ({"array": np.zeros(3)}, None),
        (MetaTensor(torch.zeros(1), meta={"filename_or_obj": "b.nii"}), "b.nii"),
        (MetaTensor(torch.zeros(1)), None),
        (np.zeros(1), None),
    ],
)
def test_items_in_a_few_words(item, text):
    assert describe(item) == text
