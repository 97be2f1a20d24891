import math
import resource
import subprocess
import sys
import textwrap

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import EMAWeightAveraging
from monai.data import MetaTensor
from monai.metrics import ConfusionMatrixMetric, Cumulative, HausdorffDistanceMetric
from parts import Memory, classification, classifier, items, loader, pairs, trainer
from torch import nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from monai_lighter import ComponentError, ModelWeights, System

pytestmark = pytest.mark.slow


class Scripted(Cumulative):
    """A metric that takes the values it is told to, one per validation."""

    def __init__(self, values):
        super().__init__()
        self.values = list(values)

    def __call__(self, y_pred, y):
        return None

    def aggregate(self):
        return torch.tensor(self.values.pop(0))


class ScriptedError(Scripted):
    """The same, better when lower."""


class Epochs(Callback):
    """Keeps the weights at the end of each epoch."""

    def __init__(self):
        self.weights = []

    def on_train_epoch_end(self, trainer, module):
        self.weights.append(module.model.weight.detach().clone())


def kept(tmp_path, name="model.pt"):
    return torch.load(tmp_path / "models" / name, weights_only=True)["weight"]


def fitted(tmp_path, values, **kwargs):
    """Runs one epoch for each value of the key metric; gives the weights after each."""
    epochs = Epochs()
    metric = kwargs.pop("metric", Scripted)(values)
    system = classification(metrics={"val": {"key": metric}}, train=4, val=2)
    callbacks = [epochs, *kwargs.pop("callbacks", [])]
    trainer(tmp_path, max_epochs=len(values), callbacks=callbacks, **kwargs).fit(system)
    return epochs.weights


class TestBest:
    @pytest.mark.parametrize(
        ("values", "metric", "best"),
        [
            ([0.1, 0.7, 0.3], Scripted, 1),
            ([0.5, 0.5, 0.1], Scripted, 0),
            ([3.0, 1.0, 2.0], ScriptedError, 1),
            ([math.nan, 0.2, math.nan], Scripted, 1),
            ([math.nan, math.nan, math.nan], Scripted, 2),  # none is the best: the last
            ([-math.inf, -1.0, -2.0], Scripted, 1),
        ],
    )
    def test_by_the_first_metric_of_validation(self, tmp_path, values, metric, best):
        weights = fitted(tmp_path, values, metric=metric)
        assert torch.equal(kept(tmp_path), weights[best])
        assert torch.equal(kept(tmp_path, "model_last.pt"), weights[-1])

    def test_by_the_loss_where_there_is_no_metric(self, tmp_path):
        losses, epochs = [], Epochs()

        class Look(Callback):
            def on_validation_end(self, trainer, module):
                losses.append(float(trainer.callback_metrics["val/loss/total/epoch"]))

        def criterion(pred, target):
            return {"part": pred.mean(), "total": nn.functional.cross_entropy(pred, target)}

        system = classification(criterion=criterion)
        system.optimizer.param_groups[0]["lr"] = 20.0  # up and down
        trainer(tmp_path, max_epochs=4, callbacks=[epochs, Look()]).fit(system)
        assert torch.equal(kept(tmp_path), epochs.weights[losses.index(min(losses))])

    def test_the_last_without_validation(self, tmp_path):
        system = classification(dataloaders={"train": loader(pairs(4))})
        trainer(tmp_path).fit(system)
        assert torch.equal(kept(tmp_path), system.model.weight)

    @pytest.mark.parametrize(
        ("metric", "monitor", "mode"),
        [
            (MulticlassF1Score(3, average="none"), "val/metrics/key/epoch", "max"),
            (nn.Identity, "val/loss/epoch", "min"),
        ],
    )
    def test_what_it_chooses(self, tmp_path, metric, monitor, mode):
        metrics = None if metric is nn.Identity else {"val": {"key": metric}}
        weights = ModelWeights()
        trainer(tmp_path, callbacks=[weights]).fit(classification(metrics=metrics))
        assert (weights.monitor, weights.mode) == (monitor, mode)

    @pytest.mark.parametrize(
        ("metric", "monitor", "mode"),
        [
            (HausdorffDistanceMetric(), "val/metrics/key/epoch", "min"),
            (ConfusionMatrixMetric(metric_name=["miss rate", "f1 score"]), "val/metrics/key/miss rate/epoch", "min"),
        ],
    )
    @pytest.mark.parametrize("named", [True, False])
    def test_distances_and_error_rates_of_monai_are_better_when_lower(self, tmp_path, metric, monitor, mode, named):
        model = nn.Conv2d(1, 1, 1)
        system = System(
            model,
            {"train": loader(items(2)), "val": loader(items(2))},
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            criterion=lambda pred, target: pred.mean(),
            metrics={"val": {"key": metric}},
            postprocessing={"val": lambda item: {**item, "pred": (item["pred"] > 0).float()}},
        )
        weights = ModelWeights(monitor=monitor if named else None)
        trainer(tmp_path, callbacks=[weights]).fit(system)
        assert (weights.monitor, weights.mode) == (monitor, mode)

    def test_the_metric_of_the_first_of_two_loaders(self, tmp_path):
        weights = ModelWeights()
        data = {"train": loader(pairs(4)), "val": [loader(pairs(2)), loader(pairs(3))]}
        system = classification(dataloaders=data, metrics={"val": {"acc": MulticlassAccuracy(3)}})
        trainer(tmp_path, callbacks=[weights]).fit(system)
        assert weights.monitor == "val/metrics/acc/epoch/dataloader_idx_0"

    def test_arguments(self, tmp_path):
        with pytest.raises(ValueError, match="mode must be 'min' or 'max', got 'best'"):
            ModelWeights(mode="best")
        with pytest.raises(
            ComponentError,
            match=r"trainer::callbacks: monitor .* must be the name of a logged value, got 'dice'; logged: .*val/loss/epoch",
        ):
            trainer(tmp_path / "other", callbacks=[ModelWeights(monitor="dice")]).fit(classification())
        (tmp_path / "file").touch()
        log = Memory()
        with pytest.raises(ComponentError, match=r"ModelWeights: cannot write to .*file: "):
            trainer(tmp_path, logger=log, callbacks=[ModelWeights(tmp_path / "file" / "best.pt")]).fit(classification())
        assert not log.logged
        weights = fitted(
            tmp_path,
            [1.0, 3.0, 2.0],
            callbacks=[ModelWeights(tmp_path / "w" / "best.pt", "val/metrics/key/epoch", "min", save_last=False)],
        )
        assert [path.name for path in (tmp_path / "w").iterdir()] == ["best.pt"]
        assert torch.equal(torch.load(tmp_path / "w" / "best.pt", weights_only=True)["weight"], weights[0])
        assert not (tmp_path / "models").exists()

    def test_resuming_remembers_the_best(self, tmp_path):
        epochs = Epochs()
        values = [0.9, 0.1, 0.2, 0.95]

        def system(values):
            return classification(metrics={"val": {"key": Scripted(values)}}, train=4, val=2)

        run = trainer(tmp_path, max_epochs=2, callbacks=[epochs])
        run.fit(system(values[:2]))
        checkpoint = run.checkpoint_callback.best_model_path
        trainer(tmp_path, max_epochs=3, callbacks=[epochs]).fit(system(values[2:]), ckpt_path=checkpoint)
        assert torch.equal(kept(tmp_path), epochs.weights[0])
        trainer(tmp_path, max_epochs=4, callbacks=[epochs]).fit(system(values[2:]), ckpt_path=checkpoint)
        assert torch.equal(kept(tmp_path), epochs.weights[-1])

    def test_a_resumed_run_may_watch_something_else(self, tmp_path):
        run = trainer(tmp_path)
        run.fit(classification(metrics={"val": {"acc": MulticlassAccuracy(3)}}))
        weights = ModelWeights(monitor="val/loss/epoch")
        again = trainer(tmp_path, max_epochs=2, callbacks=[weights])
        again.fit(
            classification(metrics={"val": {"acc": MulticlassAccuracy(3)}}),
            ckpt_path=run.checkpoint_callback.best_model_path,
        )
        assert weights.mode == "min"
        assert weights.best == pytest.approx(float(again.callback_metrics["val/loss/epoch"]))


class TestFile:
    def test_a_process_without_monai_or_lightning_reads_it(self, tmp_path):
        trainer(tmp_path).fit(classification())
        script = textwrap.dedent(
            f"""
            import sys
            for name in ("monai", "lightning", "pytorch_lightning", "torchmetrics", "monai_lighter"):
                sys.modules[name] = None
            import torch
            state = torch.load({str(tmp_path / "models" / "model.pt")!r}, weights_only=True)
            torch.nn.Linear(4, 3).load_state_dict(state)
            assert all(type(value) is torch.Tensor for value in state.values())
            """
        )
        environment = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
        subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=120)

    def test_metatensors_and_extra_state_do_not_get_in(self, tmp_path):
        class Net(nn.Linear):
            def get_extra_state(self):
                return {"any": "thing"}

            def set_extra_state(self, state):
                pass

        model = Net(4, 3)
        model.register_buffer("mean", MetaTensor(torch.zeros(1)))
        trainer(tmp_path).fit(classification(model=model))
        state = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
        assert {name: type(value) for name, value in state.items()} == dict.fromkeys(
            ("weight", "bias", "mean"), torch.Tensor
        )

    def test_it_is_replaced_at_once_or_not_at_all(self, tmp_path, monkeypatch):
        fitted(tmp_path, [0.5])
        before = kept(tmp_path)

        def broken(state, path):
            path.write_bytes(b"half a file")
            raise OSError("disk full")

        monkeypatch.setattr(torch, "save", broken)
        with pytest.raises(ComponentError, match="disk full"):
            fitted(tmp_path, [0.5, 0.9], enable_checkpointing=True)
        monkeypatch.undo()
        assert torch.equal(kept(tmp_path), before)

    def test_nothing_is_written_in_a_fast_development_run_or_without_checkpoints(self, tmp_path):
        trainer(tmp_path, fast_dev_run=True).fit(classification())
        trainer(tmp_path, enable_checkpointing=False).fit(classification())
        run = trainer(tmp_path)
        run.validate(classification(), verbose=False)
        assert list(tmp_path.iterdir()) == []

    def test_validating_after_a_fit_leaves_it(self, tmp_path):
        system = classification(metrics={"val": {"key": Scripted([0.1, 0.9])}})
        run = trainer(tmp_path)
        run.fit(system)
        before = kept(tmp_path)
        nn.init.zeros_(system.model.weight)
        run.validate(system, verbose=False)
        assert torch.equal(kept(tmp_path), before)

    def test_any_lightning_module_may_stand_in_for_the_system(self, tmp_path):
        class Plain(LightningModule):
            def __init__(self):
                super().__init__()
                self.layer = classifier()

            def training_step(self, batch, batch_idx):
                return nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

            def validation_step(self, batch, batch_idx):
                self.log("dice", 0.5)

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=0.1)

        run = trainer(tmp_path, callbacks=[ModelWeights()])
        run.fit(Plain(), loader(pairs(4)), loader(pairs(2)))
        assert set(torch.load(tmp_path / "models" / "model.pt", weights_only=True)) == {"layer.weight", "layer.bias"}


def test_a_value_of_the_training_epoch(tmp_path):
    epochs, values = Epochs(), iter([3.0, 1.0, 2.0])

    class Costs(nn.CrossEntropyLoss):
        def forward(self, pred, target):
            return super().forward(pred, target) * 0 + self.value

    criterion = Costs()
    change = Callback()
    change.on_train_epoch_start = lambda trainer, module: setattr(criterion, "value", next(values))
    keeper = ModelWeights(monitor="train/loss/epoch")
    system = classification(criterion=criterion, optimizer=None)
    trainer(tmp_path, max_epochs=3, callbacks=[epochs, change, keeper]).fit(system)
    assert (keeper.best, keeper.best_epoch, keeper.mode) == (1.0, 1, "min")
    assert kept(tmp_path).equal(epochs.weights[1])


def test_the_last_training_epoch_counts(tmp_path):
    keeper = ModelWeights(monitor="train/loss/epoch", mode="max")
    system = classification(dataloaders={"train": loader(pairs(4))})
    trainer(tmp_path, callbacks=[keeper]).fit(system)
    assert keeper.best is not None
    assert (tmp_path / "models" / "model.pt").is_file()


def test_a_value_of_training_that_is_not_logged(tmp_path):
    with pytest.raises(ComponentError, match=r"got 'train/los/epoch'; logged: .*train/loss/epoch"):
        trainer(tmp_path, callbacks=[ModelWeights(monitor="train/los/epoch")]).fit(classification())


def test_a_run_that_goes_on_elsewhere_finds_its_best_anew(tmp_path):
    fitted(tmp_path / "one", [0.9])
    (checkpoint,) = (tmp_path / "one").rglob("*.ckpt")
    system = classification(metrics={"val": {"key": Scripted([0.5])}}, train=4, val=2)
    trainer(tmp_path / "two", max_epochs=2).fit(system, ckpt_path=checkpoint)
    assert kept(tmp_path / "two").equal(system.model.weight)


@pytest.mark.parametrize("compiled", [False, True])
def test_averaged_weights_are_what_was_validated(tmp_path, compiled):
    model = classifier()
    system = classification(model=torch.compile(model, backend="eager") if compiled else model, train=4, val=2)
    seen = []
    watch = Callback()
    watch.on_validation_batch_start = lambda trainer, module, *_: seen.append(model.weight.detach().clone())
    trainer(tmp_path, callbacks=[EMAWeightAveraging(decay=0.5), watch]).fit(system)
    assert kept(tmp_path).equal(seen[-1])
    assert kept(tmp_path, "model_last.pt").equal(seen[-1])


@pytest.fixture
def full_disk():
    """No file of this process grows beyond 64 KB within it, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestFilesThatCannotBeWritten:
    def test_a_full_disk_leaves_the_weights_that_were_there_and_nothing_else(self, tmp_path, full_disk):
        folder = tmp_path / "models"
        folder.mkdir()
        (folder / "model.pt").write_bytes(b"those of before")
        model = nn.Sequential(nn.Linear(4, 20000), nn.Linear(20000, 3))
        system = classification(model=model)
        full_disk()
        with pytest.raises(ComponentError) as caught:
            trainer(tmp_path, enable_checkpointing=False, callbacks=[ModelWeights()]).fit(system)
        (line,) = str(caught.value).splitlines()
        assert line.startswith(f"trainer::callbacks: ModelWeights: cannot write to {folder / 'model.pt'}: ")
        assert line.endswith(
            "or give another place (trainer::default_root_dir, or path of a monai_lighter.ModelWeights)."
        )
        assert [path.name for path in folder.iterdir()] == ["model.pt"]
        assert (folder / "model.pt").read_bytes() == b"those of before"

    def test_a_folder_in_which_nothing_can_be_written_is_told_before_the_first_epoch(self, tmp_path):
        epochs = Epochs()
        callbacks = [epochs, ModelWeights("/proc/model.pt")]
        with pytest.raises(ComponentError, match=r"^trainer::callbacks: ModelWeights: cannot write to /proc: "):
            trainer(tmp_path, callbacks=callbacks).fit(classification())
        assert epochs.weights == []
