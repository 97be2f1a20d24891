import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from monai.metrics import DiceMetric
from parts import Memory, classification, loader, pairs, trainer
from torchmetrics.classification import MulticlassAccuracy

from monai_lighter import ModelWeights

pytestmark = pytest.mark.slow

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


class TestNamedLoaders:
    named = dict(zip(("site_a", "site_b"), LOADERS, strict=True))

    @pytest.mark.parametrize("limit", [1.0, 1])
    @pytest.mark.parametrize("mode", ["val", "test"])
    def test_their_names_stand_after_what_is_logged(self, tmp_path, mode, limit):
        log = Memory()
        metrics = {mode: {"acc": MulticlassAccuracy(3, average="micro")}}
        system = classification(metrics=metrics, dataloaders={mode: self.named})
        how = {f"limit_{mode}_batches": limit}
        run = trainer(tmp_path, logger=log, **how)
        results = {"val": run.validate, "test": run.test}[mode](system, verbose=False)
        for (name, data), result in zip(self.named.items(), results, strict=True):
            alone = classification(metrics=metrics, dataloaders={mode: data})
            single = trainer(tmp_path, **how)
            (expected,) = {"val": single.validate, "test": single.test}[mode](alone, verbose=False)
            key = f"{mode}/metrics/acc/epoch"
            assert result[f"{key}/{name}"] == pytest.approx(expected[key])
            assert float(run.callback_metrics[f"{key}/{name}"]) == pytest.approx(expected[key])
            assert f"{mode}/metrics/acc/step/{name}" in log.keys
        assert not [name for name in {*log.keys, *run.callback_metrics} if "dataloader_idx" in name]

    def test_callbacks_monitor_them(self, tmp_path):
        weights = ModelWeights(monitor="val/loss/epoch/site_b")
        checkpoint = ModelCheckpoint(tmp_path, filename="best", monitor="val/metrics/acc/epoch/site_b", mode="max")
        system = classification(
            metrics={"val": {"acc": MulticlassAccuracy(3)}},
            dataloaders={"train": loader(pairs(4)), "val": self.named},
        )
        run = trainer(tmp_path, callbacks=[weights, checkpoint], num_sanity_val_steps=1, max_epochs=2)
        run.fit(system)
        assert weights.best is not None
        assert checkpoint.best_model_score is not None
        assert "val/loss/epoch/site_a" in run.callback_metrics

    def test_one_loader_with_a_name_is_as_one_without(self, tmp_path):
        (result,) = trainer(tmp_path).validate(classification(dataloaders={"val": {"all": LOADERS[0]}}), verbose=False)
        assert "val/loss/epoch" in result


class TestNoValue:
    """What monitors a metric that has no value: it is told, and never takes it for a good one."""

    def fit(self, tmp_path, *callbacks, epochs=2):
        system = classification(
            metrics={"val": {"dice": DiceMetric()}},
            adapters={"val": {"metrics": lambda metric, input, target, pred: None}},
            dataloaders={"train": loader(pairs(4)), "val": loader(pairs(2))},
        )
        run = trainer(tmp_path, callbacks=[*callbacks], max_epochs=epochs)
        run.fit(system)
        return run

    def test_it_is_logged_as_nan_and_makes_no_weights_the_best(self, tmp_path, caplog):
        weights = ModelWeights()
        run = self.fit(tmp_path, weights)
        assert run.callback_metrics["val/metrics/dice/epoch"].isnan()
        assert weights.monitor == "val/metrics/dice/epoch"
        assert weights.best is None
        assert "val/metrics/dice/epoch had no value in any epoch: none has the best weights" in caplog.text

    @pytest.mark.parametrize(
        ("callback", "does", "epochs"),
        [
            (EarlyStopping, "monitored by EarlyStopping, which stops the run unless it has check_finite: false", 1),
            (ModelCheckpoint, "monitored by ModelCheckpoint, which takes it for the worst value", 2),
        ],
    )
    def test_lightnings_callbacks_are_spoken_for(self, tmp_path, caplog, callback, does, epochs):
        run = self.fit(tmp_path, callback(monitor="val/metrics/dice/epoch", mode="max"))
        assert (
            f"val/metrics/dice/epoch has no value in epoch 0 (NaN: no case of it has one); it is {does}" in caplog.text
        )
        assert run.current_epoch == epochs
