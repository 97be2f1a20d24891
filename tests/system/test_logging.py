import pytest
from parts import classification, loader, pairs, trainer
from torchmetrics.classification import MulticlassAccuracy

LOADERS = [loader(pairs(5, seed=1)), loader(pairs(3, seed=2))]


@pytest.fixture
def system():
    metrics = {mode: {"acc": MulticlassAccuracy(3, average="micro")} for mode in ("val", "test")}
    return classification(metrics=metrics, dataloaders={"train": loader(pairs(4)), "val": LOADERS, "test": LOADERS})


@pytest.mark.parametrize(("stage", "mode"), [("validate", "val"), ("test", "test")])
def test_each_loader_has_its_own_values_in_what_is_returned_and_printed(system, tmp_path, capsys, stage, mode):
    run = trainer(tmp_path)
    results = getattr(run, stage)(system)
    names = [f"{mode}/metrics/acc/epoch/dataloader_idx_{i}" for i in range(2)]
    values = [float(run.callback_metrics[name]) for name in names]
    assert values[0] != values[1]
    assert [result[name] for result, name in zip(results, names, strict=True)] == pytest.approx(values)
    assert names[1] not in results[0]
    assert names[0] not in results[1]
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "metrics/acc/epoch" in line]
    assert [float(word) for word in row.replace("│", " ").split()[1:]] == pytest.approx(values)


def test_limited_loaders_are_logged_once(system, tmp_path):
    alone = trainer(tmp_path, limit_val_batches=1)
    alone.validate(system, dataloaders=LOADERS[1], verbose=False)
    run = trainer(tmp_path, limit_val_batches=1)
    first, second = run.validate(system, verbose=False)
    key = "val/metrics/acc/epoch"
    assert second[f"{key}/dataloader_idx_1"] == pytest.approx(float(alone.callback_metrics[key]))
    assert f"{key}/dataloader_idx_0" in first
