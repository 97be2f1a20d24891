import os

import pytest
import torch
from monai.data import LMDBDataset, SmartCacheDataset
from parts import classification, loader, pairs, trainer

from monai_lighter.system.datasets import STARTED, SmartCache, describe_old_cache

pytestmark = pytest.mark.slow


class Seen(SmartCacheDataset):
    """Keeps which items were given."""

    def __init__(self, count):
        items = [(vector + 10 * number, label) for number, (vector, label) in enumerate(pairs(count))]
        super().__init__(items, replace_rate=0.5, cache_num=count // 2, progress=False, copy_cache=False, shuffle=False)
        self.given = set()

    def __getitem__(self, index):
        vector, label = super().__getitem__(index)
        self.given.add(int(vector[0]) // 10)
        return vector, label


def test_every_item_has_its_turn(tmp_path):
    data = Seen(8)
    trainer(tmp_path, max_epochs=6).fit(classification(dataloaders={"train": loader(data)}))
    assert data.given == set(range(8))
    assert not data.is_started()


def test_a_run_that_fails_leaves_no_thread(tmp_path):
    data = Seen(8)

    def fails(pred, target):
        raise ArithmeticError("no loss")

    with pytest.raises(ArithmeticError):
        trainer(tmp_path).fit(classification(dataloaders={"train": loader(data)}, criterion=fails))
    assert not data.is_started()


def test_other_data_have_no_such_callback(tmp_path):
    fit = trainer(tmp_path)
    fit.fit(classification())
    assert not any(isinstance(callback, SmartCache) for callback in fit.callbacks)


class _Closed:
    def __init__(self, made):
        self.made = made

    def close(self):
        pass


@pytest.mark.parametrize(("age", "known"), [(-60, False), (60, True)])
def test_a_database_of_an_earlier_run(tmp_path, age, known, monkeypatch):
    monkeypatch.setattr(LMDBDataset, "_fill_cache_start_reader", lambda self, **given: _Closed(self.db_file.touch()))
    data = LMDBDataset([1], lambda item: item, cache_dir=tmp_path, progress=False)
    os.utime(data.db_file, (STARTED - age,) * 2)
    assert bool(describe_old_cache(data)) is known


def test_a_bad_case_among_the_replacements_ends_the_run(tmp_path):
    def read(item):
        if item == 5:
            raise ValueError("no five")
        return torch.zeros(4), 0

    data = SmartCacheDataset([*range(8)], read, replace_rate=0.5, cache_num=4, progress=False, shuffle=False)
    with pytest.raises(RuntimeError, match="applying transform") as caught:  # else it waits for its thread for ever
        trainer(tmp_path, max_epochs=6).fit(classification(dataloaders={"train": loader(data)}))
    assert "no five" in str(caught.value.__cause__)
