import csv
import json
import math
import os
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.metrics import DiceMetric
from torch.utils.data import DistributedSampler

from monai_lighter.system.processes import count_own_items, gather, share_items, take


@pytest.fixture(scope="module")
def runs(tmp_path_factory, python_module):
    """Folder and results of the same script in one process and in two."""
    result = []
    for devices in (1, 2):
        folder = tmp_path_factory.mktemp(f"devices_{devices}")
        here = Path(__file__).parent
        path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
        done = python_module("ddp_run", folder, devices, cwd=folder, PYTHONPATH=path)
        assert done.returncode == 0, done.stderr[-3000:]
        result.append((folder, json.loads((folder / "results.json").read_text())))
    return result


@pytest.mark.slow
class TestTwoProcesses:
    @pytest.mark.parametrize("name", ["val 5", "test 5", "val 1", "test 1", "classified", "classified 1"])
    def test_metrics_and_losses_are_those_of_one(self, runs, name):
        one, two = (results[name] for _, results in runs)
        for single, double in zip(one, two, strict=True):
            assert single.keys() == double.keys()
            epochs = [key for key in single if "/step" not in key]
            assert len(epochs) >= 1
            for key in epochs:
                assert double[key] == pytest.approx(single[key], abs=1e-6, nan_ok=True), key

    def test_metrics_of_monai_are_equal_bit_for_bit(self, runs):
        one, two = (results["test 5"][0] for _, results in runs)
        for name in ("dice", "classes", "classes/1", "classes/not_nans", "hd"):
            key = f"test/metrics/{name}/epoch"
            assert one[key] == two[key], key

    def test_a_class_that_is_in_no_case_of_any_process_has_no_value(self, runs):
        for _, results in runs:
            result = {name.removeprefix("test/metrics/"): value for name, value in results["test 5"][0].items()}
            assert math.isnan(result["classes/2/epoch"])
            assert result["classes/not_nans/2/epoch"] == 0
            assert result["classes/epoch"] == pytest.approx((result["classes/0/epoch"] + result["classes/1/epoch"]) / 2)

    @pytest.mark.parametrize("name", ["cases_5.csv", "cases_1.csv", "table.csv", "few.csv"])
    def test_tables_are_one_and_the_same(self, runs, name):
        tables = []
        for folder, _ in runs:
            with open(folder / name, newline="") as file:
                tables.append(list(csv.reader(file)))
            assert not list(folder.glob(".*part*"))
        assert tables[0] == tables[1]
        assert len(tables[0]) > 1

    def test_steps_and_epochs_are_logged_as_a_lightning_module_logs_them(self, runs):
        (_, _), (folder, _) = runs
        ranks = [json.loads((folder / f"logged_{rank}.json").read_text()) for rank in range(2)]
        for ours, theirs in ranks:
            assert len(ours) == len(theirs) > 10
            for mine, expected in zip(ours, theirs, strict=True):
                for kept, logged in zip(mine, expected, strict=True):
                    steps = {name: value for name, value in logged.items() if name.endswith("/step")}
                    assert {name: value for name, value in kept.items() if name.endswith("/step")} == pytest.approx(
                        steps
                    )
            metrics, expected = ours[-1][0], theirs[-1][0]
            assert metrics["train/loss/epoch"] == pytest.approx(expected["train/loss/epoch"])
            assert metrics["val/metrics/right/epoch"] == pytest.approx(expected["val/metrics/right/epoch"])
        first, second = (ours[0][0]["train/loss/step"] for ours, _ in ranks)
        assert first != second

    def test_a_loss_that_is_not_finite_ends_them_all(self, runs):
        for (folder, _), batch_case in zip(runs, (1, 0), strict=True):
            told = [path.read_text() for path in sorted(folder.glob("stopped_*.txt"))]
            assert len(told) == (1 if folder == runs[0][0] else 2)
            for text in told:
                assert text.startswith("1 system::criterion: the loss")
                assert f"the input of item {batch_case} of the batch is not finite: NaN in 4" in text
            kept = torch.load(folder / "stopped" / "models" / "model_last.pt", weights_only=True)
            assert kept["weight"].isfinite().all()

    def test_one_manifest_of_all_processes_is_in_the_order_of_the_data(self, runs):
        found = []
        for folder, _ in runs:
            with open(folder / "files" / "manifest.csv", newline="") as file:
                rows = list(csv.DictReader(file))
            assert all(float(row["seconds"]) > 0 for row in rows)
            found.append([(row["case"], row["outputs"], row["sha256"], row["state"]) for row in rows])
        assert found[0] == found[1]
        assert [case for case, *_ in found[0]] == [f"/s{i}/T1.nii.gz" for i in range(5)]

    def test_every_prediction_has_its_file_although_the_names_are_the_same(self, runs):
        tensors = []
        for folder, _ in runs:
            files = sorted((folder / "files").rglob("*.pt"))
            assert [path.parent.name for path in files] == [f"s{i}" for i in range(5)]
            tensors.append(torch.stack([torch.load(path, weights_only=True) for path in files]))
            assert not list(folder.rglob(".outputs-*"))
        assert torch.allclose(*tensors, atol=1e-6)

    def test_a_process_without_a_case_predicts_none(self, runs):
        for folder, _ in runs:
            assert sorted(path.name for path in (folder / "few").glob("*.pt")) == ["0.pt", "1.pt"]
            with open(folder / "few" / "manifest.csv", newline="") as file:
                assert [(row["case"], row["state"]) for row in csv.DictReader(file)] == [
                    ("0", "written"),
                    ("1", "written"),
                ]

    def test_training_with_a_frozen_layer_logs_the_same_names(self, runs):
        one, two = (results["fit"] for _, results in runs)
        assert one == two
        assert "val/metrics/classes/not_nans/epoch/dataloader_idx_1" in one

    def test_best_and_last_weights_are_written_once(self, runs):
        for folder, _ in runs:
            assert sorted(path.name for path in (folder / "models").iterdir()) == ["model.pt", "model_last.pt"]


class TestOwnItems:
    @pytest.mark.parametrize("replicas", [1, 2, 3, 5])
    @pytest.mark.parametrize("count", [1, 4, 7, 10])
    @pytest.mark.parametrize("batch_size", [1, 2, 4])
    def test_each_item_is_own_exactly_once(self, replicas, count, batch_size):
        data, seen = list(range(count)), []
        for rank in range(replicas):
            sampler = DistributedSampler(data, replicas, rank, shuffle=False)
            loader = DataLoader(data, batch_size=batch_size, sampler=sampler)
            for i, batch in enumerate(loader):
                counts = count_own_items(loader, i)
                own = batch if counts is None else take(batch, *counts)
                seen += own.tolist()
        assert sorted(seen) == data

    def test_nothing_is_repeated_where_there_is_no_such_sampler(self):
        assert count_own_items(DataLoader(range(4)), 0) is None
        assert count_own_items([1, 2], 0) is None
        sampler = DistributedSampler(range(5), 2, 1, shuffle=False, drop_last=True)
        assert count_own_items(DataLoader(range(5), sampler=sampler), 1) is None


class TestTake:
    def test_from_batches_of_every_kind(self):
        image = MetaTensor(torch.arange(6.0).reshape(3, 2), meta={"filename_or_obj": ["a", "b", "c"]})
        batch = {"image": image, "name": ["a", "b", "c"], "scale": torch.tensor(2.0), "epoch": 3}
        own = take(batch, 2, 3)
        assert own["image"].shape == (2, 2)
        assert own["name"] == ["a", "b"]
        assert (own["scale"], own["epoch"]) == (2, 3)
        assert [t.shape for t in take((torch.zeros(2, 4), torch.zeros(2)), 1, 2)] == [(1, 4), (1,)]
        assert [t.shape for t in take([torch.zeros(2, 4), torch.zeros(2)], 1, 2)] == [(1, 4), (1,)]

    def test_from_a_named_tuple(self):
        Pair = namedtuple("Pair", ["image", "label"])
        own = take(Pair(torch.zeros(2, 4), torch.zeros(2)), 1, 2)
        assert own.image.shape == (1, 4)


def test_alone_a_process_gathers_its_own_value():
    assert gather({"a": 1}) == [{"a": 1}]


def test_items_are_shared_in_the_order_of_the_data(tmp_path, monkeypatch):
    """Of three processes with 2, 1 and no case."""
    metric = DiceMetric()
    metric.extend(torch.tensor([[0.0], [3.0]]))
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        own = gather([[torch.tensor([0.0]), torch.tensor([3.0])]])
        assert own == [[[torch.tensor([0.0]), torch.tensor([3.0])]]]
        others = [[[torch.tensor([1.0])]], []]
        monkeypatch.setattr("monai_lighter.system.processes.gather", lambda value: [value, *others])
        share_items(metric)
    finally:
        torch.distributed.destroy_process_group()
    assert metric.get_buffer().flatten().tolist() == [0.0, 1.0, 3.0]
    assert float(metric.aggregate()) == pytest.approx(4 / 3)
