import random

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from monai_lighter.collate import collate_replace_corrupted


class Cases(Dataset):
    def __init__(self, broken, length=6):
        self.broken, self.length = broken, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return None if index in self.broken else torch.tensor(index)


def loader(dataset, **arguments):
    return DataLoader(dataset, 3, collate_fn=lambda batch: collate_replace_corrupted(batch, dataset, **arguments))


def test_batches_are_whole_with_cases_that_can_be_read():
    random.seed(0)
    batches = list(loader(Cases(broken={1, 3, 4, 5})))
    assert [len(batch) for batch in batches] == [3, 3]
    assert set(torch.cat(batches).tolist()) <= {0, 2}


def test_batches_with_nothing_broken_are_as_ever():
    assert [batch.tolist() for batch in loader(Cases(broken=()))] == [[0, 1, 2], [3, 4, 5]]


def test_replaced_cases_go_through_the_given_collate_function():
    (first, _) = loader(Cases(broken={0}), default_collate_fn=tuple)
    assert isinstance(first, tuple)
    assert len(first) == 3


def test_a_dataset_with_nothing_to_read_is_told():
    with pytest.raises(ValueError, match="must hold cases that can be read, got 300 corrupted ones in a row"):
        next(iter(loader(Cases(broken=range(6)))))
