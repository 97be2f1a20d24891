"""Parts that do otherwise than they read are told before a run, with what to write."""

import pytest
from monai.data import ThreadDataLoader

from monai_lighter.workflow.check_config import Check
from monai_lighter.workflow.prepare import Asked

TRAIN = "system::dataloaders::train"


def errors(bundle, stage="fit", **override):
    return [str(error) for error in Check(str(bundle / "configs" / "train.yaml"), override, Asked(run_id=stage)).errors]


def test_why_batches_cannot_be_repeated():
    loader = ThreadDataLoader([0, 1, 2, 3], repeats=2, batch_size=1)
    taken = [int(batch) for batch, _ in zip(loader, range(len(loader)), strict=False)]
    assert taken == [0, 0, 1, 1]  # Lightning takes len(loader) batches


@pytest.mark.parametrize("mode", ["train", "val"])
def test_repeated_batches(bundle, mode):
    id = f"system::dataloaders::{mode}"
    (found,) = errors(bundle, **{f"{id}::_target_": "ThreadDataLoader", f"{id}::repeats": 2})
    assert found.startswith(f"{id}::repeats: must be 1")
    assert not errors(bundle, **{f"{id}::_target_": "ThreadDataLoader", f"{id}::repeats": 1})


def test_workers_that_keep_an_old_cache(bundle):
    smart = {f"{TRAIN}::dataset::_target_": "SmartCacheDataset", f"{TRAIN}::num_workers": 1}
    (found,) = errors(bundle, **smart, **{f"{TRAIN}::persistent_workers": True})
    assert found.startswith(f"{TRAIN}::persistent_workers: must be false")
    assert not errors(bundle, **smart)
    assert not errors(bundle, **{f"{TRAIN}::persistent_workers": True, f"{TRAIN}::num_workers": 1})


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ({"filename": "{epoch}-{val/loss/epoch:.2f}"}, True),
        ({"filename": "{epoch}-{val/loss/epoch:.2f}", "auto_insert_metric_name": False}, False),
        ({"filename": "{epoch}-{step}"}, False),
        ({"filename": "folder/{epoch}"}, False),
        ({}, False),
    ],
)
def test_the_file_of_a_checkpoint(bundle, arguments, wrong):
    callback = {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", **arguments}
    found = errors(bundle, **{"trainer::callbacks": [callback]})
    assert [one.partition(": ")[0] for one in found] == ["trainer::callbacks::0::filename"] * wrong
    assert all("Write trainer::callbacks::0::auto_insert_metric_name: false." in one for one in found)


LOSS, METRIC = "system::criterion", "system::metrics::val"


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({TRAIN: {"_target_": "CacheDataset", "data": "@data"}}, [TRAIN]),
        (
            {"system::dataloaders::val": {"near": {"_target_": "Dataset", "data": "@data"}}},
            ["system::dataloaders::val::near"],
        ),
        ({"system::dataloaders::val": "$[1, 2]"}, []),
        ({METRIC: {"one": {"_target_": "DiceLoss"}}}, [f"{METRIC}::one"]),
        ({METRIC: [{"_target_": "torch.nn.L1Loss"}]}, [f"{METRIC}::0"]),
        ({METRIC: {"one": {"_target_": "DiceMetric", "_mode_": "callable"}}}, [f"{METRIC}::one"]),
        ({METRIC: {"_target_": "torchmetrics.MetricCollection", "metrics": "$[]"}}, []),
        ({METRIC: {"one": "$monai.metrics.DiceMetric()", "two": {"_target_": "torchmetrics.MeanMetric"}}}, []),
        ({"network_def::out_channels": 1}, ["network_def::out_channels"]),
        ({"network_def::out_channels": 1, LOSS: {"_target_": "DiceLoss", "sigmoid": True}}, []),
        ({"network_def::out_channels": 1, LOSS: {"_target_": "torch.nn.BCEWithLogitsLoss"}}, []),
        ({"network_def::out_channels": 3}, []),
    ],
)
def test_parts_that_are_none(bundle, changes, wrong):
    assert [one.partition(": ")[0] for one in errors(bundle, **changes)] == wrong
