import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from monai.data import CacheDataset, DataLoader, Dataset
from monai.transforms import Lambdad
from parts import classification, classifier, loader, pairs, trainer
from torch import nn

from monai_lighter import ModelWeights, System, TableWriter
from monai_lighter.callbacks import timing
from monai_lighter.callbacks.timing import Timing
from monai_lighter.system.profiler import PassThroughProfiler

pytestmark = pytest.mark.slow

SLEEP = 0.05


class Slow(nn.Module):
    """A network that takes ``seconds`` longer."""

    def __init__(self, seconds, only_when_training):
        super().__init__()
        self.network, self.seconds, self.only = classifier(), seconds, only_when_training

    def forward(self, image):
        if self.training or not self.only:
            time.sleep(self.seconds)
        return self.network(image)


class Waiting(list):
    """Cases, each of which is waited for."""

    def __getitem__(self, index):
        time.sleep(SLEEP)
        return super().__getitem__(index)


def system(network, slow_data=False, slow_val=False):
    def make(slow):
        return loader((Waiting if slow else list)(pairs(8)), batch_size=1)

    return classification(
        model=network, dataloaders={"train": make(slow_data), "val": make(slow_val), "test": make(slow_data)}
    )


def run(path, module, stage="fit", **kwargs):
    logger = CSVLogger(path, name="logs")
    callbacks = [Timing(), ModelWeights(path / "model.pt")]
    measured = trainer(path, callbacks=callbacks, max_epochs=2, logger=logger, **kwargs)
    PassThroughProfiler.into(measured)
    getattr(measured, stage)(module)
    return json.loads((path / "logs/version_0/timing.json").read_text())


def test_waiting_for_data_is_counted_apart_from_the_step(tmp_path):
    report = run(tmp_path, system(classifier(), slow_data=True))
    seconds = report["seconds"]
    assert 16 * SLEEP <= seconds["data"] < 16 * SLEEP + 0.3
    assert seconds["step"] < seconds["data"]
    assert report["batches"] == 16


def test_the_step_is_that_of_a_network_that_sleeps(tmp_path):
    report = run(tmp_path, system(Slow(SLEEP, only_when_training=True)))
    assert report["seconds_per_step"] == pytest.approx(SLEEP, rel=0.5)
    assert report["seconds_per_step"] >= SLEEP
    assert report["share"]["step"] > 0.5 > report["share"]["data"]


def test_what_validation_waits_for_is_time_of_the_validation(tmp_path):
    seconds = run(tmp_path, system(classifier(), slow_val=True))["seconds"]
    assert seconds["validation"] >= 16 * SLEEP > seconds["data"] + seconds["step"]


def test_parts_add_up_to_the_total(tmp_path):
    seconds = run(tmp_path, system(Slow(SLEEP, only_when_training=False), slow_data=True))["seconds"]
    start, total = seconds.pop("start"), seconds.pop("total")
    assert sum(seconds.values()) == pytest.approx(total, abs=1e-6)
    assert start >= 0


def test_a_test_has_its_own_parts(tmp_path):
    report = run(tmp_path, system(Slow(SLEEP, only_when_training=False), slow_data=True), "test")
    assert report["stage"] == "test"
    assert report["batches"] == 8
    assert report["seconds"]["data"] >= 8 * SLEEP
    assert report["seconds"]["step"] >= 8 * SLEEP
    assert "validation" not in report["seconds"]


def test_peak_memory_is_that_of_the_process(tmp_path):
    held = torch.ones(64, 1 << 20)  # 256 MiB
    report = run(tmp_path, system(classifier()))
    assert report["memory"]["process"] > held.nbytes / (1 << 20)


def test_what_is_measured_is_there_when_a_fit_fails(tmp_path):
    class Broken(Slow):
        def forward(self, image):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(tmp_path, system(Broken(0, only_when_training=False)))
    assert json.loads((tmp_path / "logs/version_0/timing.json").read_text())["stage"] == "fit"


class Late(TableWriter):
    """A table whose rows take their time."""

    def write(self, tensor, identifier):
        time.sleep(SLEEP)
        super().write(tensor, identifier)


def late(transform):
    time.sleep(SLEEP)
    return transform


def predict(path, workers, **kwargs):
    loaders = {"predict": loader([{"image": torch.rand(4)} for _ in range(8)], batch_size=1)}
    callbacks = [Late(path / "table.csv"), Timing()]
    measured = trainer(path, callbacks=callbacks, logger=CSVLogger(path, name="logs"))
    PassThroughProfiler.into(measured)
    module = System(classifier(), loaders, workers=workers, **kwargs)
    measured.predict(module, return_predictions=False)
    return measured.callbacks[1].report


@pytest.mark.parametrize("workers", [0, 1])
def test_files_and_tables_are_no_part_of_the_step(tmp_path, workers):
    seconds = predict(tmp_path, workers)["seconds"]
    assert seconds["postprocessing"] >= 7 * SLEEP
    assert seconds["step"] < 4 * SLEEP


class TestAdvice:
    @pytest.fixture(autouse=True)
    def no_least_time(self, monkeypatch):
        monkeypatch.setattr(timing, "SECONDS", 0.2)
        monkeypatch.setattr(timing, "_count_cores", lambda: 3)

    def test_workers_where_data_hold_the_step_back(self, tmp_path):
        advice = run(tmp_path, system(classifier(), slow_data=True))["advice"]
        assert advice.startswith("set system::dataloaders::train::num_workers to 3")

    def test_none_where_the_network_takes_its_time(self, tmp_path):
        assert run(tmp_path, system(Slow(SLEEP, only_when_training=True)))["advice"] is None

    def test_fewer_validations_where_they_take_longest(self, tmp_path):
        assert "check_val_every_n_epoch" in run(tmp_path, system(classifier(), slow_val=True))["advice"]
        again = run(tmp_path / "2", system(classifier(), slow_val=True), check_val_every_n_epoch=2)
        assert again["advice"] is None

    def test_threads_where_they_help(self, tmp_path):
        assert predict(tmp_path / "0", 0)["advice"].startswith("leave out system::workers: 0")
        assert predict(tmp_path / "1", 1)["advice"] is None  # tables have one thread, however many there are
        slow = {"postprocessing": {"predict": Lambdad("pred", late)}}
        assert predict(tmp_path / "2", 1, **slow)["advice"].startswith("set system::workers to 3")

    @pytest.mark.parametrize(
        ("dataset", "workers", "advice"),
        [(Dataset, 3, "CacheDataset"), (CacheDataset, 1, "num_workers to 3"), (CacheDataset, 3, None)],
    )
    def test_what_is_left_with_workers(self, tmp_path, dataset, workers, advice):
        data = DataLoader(dataset(pairs(2)), num_workers=workers)
        given = next(timing._advise_data("system::dataloaders::train", data, trainer(tmp_path)), None)
        assert given is None if advice is None else advice in given


@pytest.mark.parametrize("order", [1, -1])
def test_what_validation_saves_is_counted_once(tmp_path, monkeypatch, order):
    """Else the step, which is what is left of the total, would be too short by it."""
    save = torch.save

    def save_slowly(*args, **kwargs):
        time.sleep(0.2)
        return save(*args, **kwargs)

    monkeypatch.setattr(torch, "save", save_slowly)
    callbacks = [Timing(), ModelWeights(tmp_path / "model.pt")][::order]
    logger = CSVLogger(tmp_path, name="logs")
    measured = trainer(tmp_path, callbacks=callbacks, max_epochs=1, logger=logger)
    PassThroughProfiler.into(measured)
    measured.fit(system(Slow(SLEEP, only_when_training=True)))
    seconds = json.loads((tmp_path / "logs/version_0/timing.json").read_text())["seconds"]
    assert seconds["step"] >= 8 * SLEEP
    assert seconds["saving"] >= 0.2
    assert sum(seconds[part] for part in ("data", "validation", "saving", "step")) == pytest.approx(seconds["total"])


def test_the_memory_of_a_process_is_not_that_of_the_one_that_started_it():
    """As of a trial of a study, or a command that a notebook has started."""
    ballast = np.ones(3 << 27)  # 3 GiB
    code = "from monai_lighter.callbacks.timing import read_peak_memory; print(read_peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 100 << 20 < int(done.stdout.splitlines()[-1]) < ballast.nbytes / 2
    assert timing.read_peak_memory() > ballast.nbytes
