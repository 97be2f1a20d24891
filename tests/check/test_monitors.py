"""Monitors are held against the names of all that a fit logs, and left alone where other code may log too."""

import pytest

from monai_lighter.workflow.check_config import Check
from monai_lighter.workflow.prepare import Asked

STOPPING, CHECKPOINT = (f"lightning.pytorch.callbacks.{name}" for name in ("EarlyStopping", "ModelCheckpoint"))
LOADER = {"_target_": "DataLoader", "dataset": {"_target_": "Dataset", "data": "@data"}}
PLATEAU = {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "optimizer": "@system::optimizer"}


def errors(bundle, monitor, target=STOPPING, stage="fit", **override):
    override["trainer::callbacks"] = [{"_target_": target, "monitor": monitor}]
    return [str(error) for error in Check(str(bundle / "configs" / "train.yaml"), override, Asked(run_id=stage)).errors]


@pytest.mark.parametrize(
    "name",
    [
        "val/loss/epoch",
        "val/loss/step",
        "train/loss/epoch",
        "val/metrics/dice/epoch",
        "val/metrics/dice/tumour/epoch",
        "train/optimizer/AdamW/lr",
        "$'val/' + 'loss/epoch'",
    ],
)
def test_names_that_are_logged(bundle, name):
    assert errors(bundle, name) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("val_loss", "val/loss/epoch"),
        ("val/loss", "val/loss/epoch"),
        ("train_loss", "train/loss/epoch"),
        ("val_dice", "val/metrics/dice/epoch"),
        ("dice", "val/metrics/dice/epoch"),
        ("val/metrics/dise/epoch", "val/metrics/dice/epoch"),
        ("test/loss/epoch", "train/loss/epoch"),
    ],
)
def test_names_that_are_not(bundle, name, meant):
    (found,) = errors(bundle, name)
    assert found.startswith(
        f"trainer::callbacks::0::monitor: must be the name of a logged value, got {name!r}. Did you mean {meant!r}?"
    )
    assert errors(bundle, name, stage="validate") == []


def test_a_checkpoint_may_count(bundle):
    assert errors(bundle, "epoch", CHECKPOINT) == []
    assert errors(bundle, None, CHECKPOINT) == []


def test_several_loaders_have_names(bundle):
    several = {"system::dataloaders::val": {"near": LOADER, "far": LOADER}}
    assert errors(bundle, "val/loss/epoch/near", **several) == []
    assert "Did you mean 'val/loss/epoch/near'?" in errors(bundle, "val/loss/epoch/ner", **several)[0]
    several = {"system::dataloaders::val": [LOADER, LOADER]}
    assert errors(bundle, "val/metrics/dice/epoch/dataloader_idx_1", **several) == []


def test_losses_and_metrics_whose_names_are_not_known(bundle):
    assert errors(bundle, "val/loss/dice/epoch") != []
    assert errors(bundle, "val/loss/dice/epoch", **{"system::criterion": "$lambda pred, target: {}"}) == []
    for metrics in ("$[]", {"_target_": "torchmetrics.MetricCollection", "metrics": "$[]"}):
        assert errors(bundle, "val/metrics/iou/epoch", **{"system::metrics::val": metrics}) == []
    listed = {"system::metrics::val": [{"_target_": "MeanIoU"}]}
    assert errors(bundle, "val/metrics/MeanIoU/epoch", **listed) == []
    assert errors(bundle, "val/metrics/dice/epoch", **listed) != []
    made = {"_target_": "torchmetrics.Accuracy", "task": "multiclass", "num_classes": 3}
    assert errors(bundle, "val/metrics/MulticlassAccuracy/epoch", **{"system::metrics::val": [made]}) == []


def test_what_others_may_log(bundle):
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "mine.py").write_text(
        "import lightning.pytorch as pl\nclass Mine(pl.Callback):\n    monitor = 0\n"
    )
    file = str(bundle / "configs" / "train.yaml")
    callbacks = [{"_target_": STOPPING, "monitor": "mine"}, {"_target_": "scripts.mine.Mine"}]
    assert Check(file, {"trainer::callbacks": callbacks}, Asked(run_id="fit")).errors == []
    assert errors(bundle, "mine", args={"fit": {"val_dataloaders": "$[]"}}) == []


@pytest.mark.parametrize(
    ("scheduler", "id"),
    [
        (PLATEAU, "system::scheduler"),
        ([PLATEAU], "system::scheduler::0"),
        ({"scheduler": PLATEAU}, "system::scheduler"),
        ({"scheduler": PLATEAU, "monitor": "val/lss/epoch"}, "system::scheduler::monitor"),
        ({"scheduler": PLATEAU, "monitor": "val/loss/epoch"}, None),
        ([{"scheduler": PLATEAU, "monitor": "train/loss/epoch"}], None),
    ],
)
def test_schedulers(bundle, scheduler, id):
    found = errors(bundle, "val/loss/epoch", **{"system::scheduler": scheduler})
    assert [one.partition(": ")[0] for one in found] == ([] if id is None else [id])
