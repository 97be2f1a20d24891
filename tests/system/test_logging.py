import copy

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from monai.metrics import DiceMetric
from parts import Logged, Memory, Steps, classification, loader, pairs, trainer
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from monai_lighter import ModelWeights, System
from monai_lighter.system.logging import StepValues

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
            f"val/metrics/dice/epoch has no value in epoch 1 (NaN: no case of it has one); it is {does}" in caplog.text
        )
        assert run.current_epoch == epochs


class TestEachStep:
    """Callbacks, progress bars and loggers are given what ``self.log`` gives them, without it."""

    settings = pytest.mark.parametrize(
        "settings",
        [{}, {"log_every_n_steps": 3}, {"val_check_interval": 2}, {"accumulate_grad_batches": 2}, {"num_sanity_val_steps": 1}],
        ids=lambda settings: next(iter(settings), "plain"),
    )  # fmt: skip

    @settings
    def test_it_is_what_a_lightning_module_logs(self, tmp_path, settings):
        metrics = {mode: {"right": MulticlassAccuracy(3, average="micro")} for mode in ("train", "val")}
        loaders = {"train": loader(pairs(7)), "val": loader(pairs(4, seed=1))}
        found = []
        for module in (classification(metrics=metrics, dataloaders=loaders), Logged(loaders)):
            log, steps = Memory(), Steps()
            run = trainer(tmp_path, logger=log, callbacks=[steps], max_epochs=3, **settings)
            run.fit(module)
            found.append((steps.found, log.logged))
        (ours, our_log), (reference, log) = found
        assert len(ours) == len(reference) > 20
        for mine, theirs in zip(ours, reference, strict=True):
            for kept, expected in zip(mine, theirs, strict=True):
                assert _by_step(kept) == pytest.approx(_by_step(expected), rel=1e-6)
        assert {key for metrics in our_log for key in metrics} == {key for metrics in log for key in metrics}
        for key in {key for metrics in log for key in metrics} - {"epoch"}:
            values = [metrics[key] for metrics in our_log if key in metrics]
            assert values == pytest.approx([metrics[key] for metrics in log if key in metrics], rel=1e-6), key
        assert ours[-1][0] == pytest.approx(reference[-1][0], rel=1e-6)

    def test_each_loader_keeps_its_own(self, tmp_path):
        log = Memory()
        trainer(tmp_path, logger=log).validate(classification(dataloaders={"val": LOADERS}), verbose=False)
        for i, data in enumerate(LOADERS):
            alone = Memory()
            trainer(tmp_path, logger=alone).validate(classification(dataloaders={"val": data}), verbose=False)
            losses = alone.values("val/loss/step")
            assert len({*losses}) == len(data)
            assert log.values(f"val/loss/step/dataloader_idx_{i}") == pytest.approx(losses)

    def test_most_steps_do_without_it(self, tmp_path, monkeypatch):
        names = []
        monkeypatch.setattr(
            System, "log", lambda self, name, *a, **k: (names.append(name), super(System, self).log(name, *a, **k))
        )
        trainer(tmp_path, max_epochs=2).fit(classification())
        assert names.count("train/loss/step") == 2

    def test_early_stopping_and_checkpoints_monitor_them_within_an_epoch(self, tmp_path):
        checkpoint = ModelCheckpoint(
            tmp_path, filename="{step}", monitor="train/loss/step", every_n_train_steps=1, save_top_k=-1
        )

        class Stop(EarlyStopping):
            def on_train_batch_end(self, trainer, *args):
                self._run_early_stopping_check(trainer)

        steps = Steps()
        stop = Stop("train/loss/step", patience=10, verbose=False)
        run = trainer(tmp_path, callbacks=[stop, checkpoint, steps])
        run.fit(classification(train=8))
        losses = [callback["train/loss/step"] for callback, _, _ in steps.found if callback][:4]
        assert len({*losses}) == 4
        assert [float(score) for score in checkpoint.best_k_models.values()] == pytest.approx(losses)
        assert float(stop.best_score) == pytest.approx(min(losses))

    def test_what_a_user_logs_beside_them_is_kept(self, tmp_path):
        class Own(System):
            def training_step(self, batch, batch_idx):
                output = super().training_step(batch, batch_idx)
                self.log(
                    "twice", 2 * output["loss"], on_step=True, on_epoch=True, prog_bar=True, batch_size=len(batch[1])
                )
                return output

        class Early(Callback):
            def on_train_batch_start(self, trainer, module, batch, batch_idx):
                module.log("index", float(batch_idx))

        model = nn.Linear(4, 3)
        system = Own(
            model,
            {"train": loader(pairs(6))},
            torch.optim.SGD(model.parameters(), lr=0.1),
            criterion=nn.CrossEntropyLoss(),
        )
        steps = Steps()
        run = trainer(tmp_path, callbacks=[Early(), steps], max_epochs=2)
        run.fit(system)
        of_steps = [callback for callback, _, _ in steps.found if "twice_step" in callback]
        assert len(of_steps) == 2 * (3 + 1) + 1
        for metrics in of_steps:
            assert metrics["twice"] == pytest.approx(2 * metrics["train/loss/step"]) or "twice_epoch" in metrics
        assert [metrics["index"] for metrics in of_steps[:3]] == [0, 1, 2]
        assert run.callback_metrics["twice_epoch"] == pytest.approx(2 * float(run.callback_metrics["train/loss/epoch"]))

    def test_a_value_keeps_what_it_was(self, tmp_path):
        place = torch.zeros(())

        def criterion(pred, target):
            loss = nn.functional.cross_entropy(pred, target)
            place.copy_(loss.detach())
            return {"total": loss, "in_place": place, "half": loss.half(), "whole": 3}

        seen = []

        class Keep(Callback):
            def on_train_batch_end(self, trainer, *args):
                seen.append(dict(trainer.callback_metrics))

        trainer(tmp_path, callbacks=[Keep()]).fit(classification(criterion=criterion))
        assert len({float(metrics["train/loss/in_place/step"]) for metrics in seen}) == 3
        for metrics in seen:
            assert metrics["train/loss/in_place/step"] == metrics["train/loss/total/step"]
            assert {value.dtype for name, value in metrics.items() if "loss" in name} == {torch.float32}
            assert {value.shape for value in metrics.values()} == {()}
            assert not any(value.requires_grad for value in metrics.values())

    def test_a_copy_of_a_module_begins_with_none(self, tmp_path):
        system = classification()
        run = trainer(tmp_path)
        run.fit(system)
        again = copy.deepcopy(system)
        other = trainer(tmp_path)
        other.fit(again)
        assert other.callback_metrics["train/loss/epoch"] < run.callback_metrics["train/loss/epoch"]
        assert isinstance(copy.deepcopy(system.records["train"].steps), StepValues)


def _by_step(metrics):
    """Without what is of an epoch: a module that logs that in its step has it sooner, by a hook."""
    return {name: value for name, value in metrics.items() if name.endswith("/step")}
