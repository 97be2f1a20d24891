"""`LighterModule` logs what the steps give, as the plain computation has it, and says which step is not there."""

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from monai_lighter import LighterDataModule, LighterModule
from monai_lighter.system.lighter_module import _count_cases


class Steps(LighterModule):
    calls = "forward"

    def _step(self, batch, metrics):
        pred = self(batch[0])
        if metrics is not None:
            (metrics.update if self.calls == "update" else metrics)(pred, batch[1])
        return pred

    def training_step(self, batch, batch_idx):
        return self.criterion(self._step(batch, self.train_metrics), batch[1])

    def validation_step(self, batch, batch_idx):
        loss = self.criterion(self._step(batch, self.val_metrics), batch[1])
        return {"loss": {"total": loss, "half": loss / 2}}


def data(count, seed):
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(count) % 3
    return torch.nn.functional.one_hot(target, 4) + torch.randn(count, 4, generator=generator), target


def fit(tmp_path, module, train, val, **kwargs):
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        **kwargs,
    )
    loaders = [DataLoader(TensorDataset(*each), batch_size=4) for each in (train, val)]
    trainer.fit(module, datamodule=LighterDataModule(*loaders))
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def make(lr=0.0, **kwargs):
    torch.manual_seed(0)
    network = torch.nn.Linear(4, 3)
    return Steps(
        network, torch.nn.CrossEntropyLoss(), torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9), **kwargs
    )


@pytest.mark.slow
@pytest.mark.parametrize("calls", ["forward", "update"])
def test_losses_and_metrics_of_an_epoch(tmp_path, calls, monkeypatch):
    monkeypatch.setattr(Steps, "calls", calls)
    train, val = data(10, 0), data(7, 1)
    several = MetricCollection([MulticlassAccuracy(3, average="micro"), MulticlassF1Score(3)])
    module = make(train_metrics=MulticlassAccuracy(3, average="micro"), val_metrics=several)
    with torch.no_grad():
        pred, val_pred = module(train[0]), module(val[0])
    loss, val_loss = module.criterion(pred, train[1]).item(), module.criterion(val_pred, val[1]).item()
    values = fit(tmp_path, module, train, val)
    assert values["train/loss/epoch"] == pytest.approx(loss, rel=1e-5)
    assert values["train/metrics/MulticlassAccuracy/epoch"] == pytest.approx(
        (pred.argmax(1) == train[1]).float().mean()
    )
    assert values["val/loss/total/epoch"] == pytest.approx(val_loss, rel=1e-5)
    assert values["val/loss/half/epoch"] == pytest.approx(val_loss / 2, rel=1e-5)
    assert values["val/metrics/MulticlassAccuracy/epoch"] == pytest.approx(
        (val_pred.argmax(1) == val[1]).float().mean()
    )
    assert values["val/metrics/MulticlassF1Score/epoch"] == pytest.approx(MulticlassF1Score(3)(val_pred, val[1]).item())
    assert values["train/optimizer/SGD/lr/epoch"] == 0
    assert values["train/optimizer/SGD/momentum/epoch"] == pytest.approx(0.9)


@pytest.mark.slow
def test_the_loss_is_that_of_the_step_when_gradients_are_accumulated(tmp_path):
    train = data(8, 0)
    module = make()
    with torch.no_grad():
        loss = module.criterion(module(train[0]), train[1]).item()
    values = fit(tmp_path, module, train, data(4, 1), accumulate_grad_batches=2)
    assert values["train/loss/epoch"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.slow
def test_a_step_that_is_not_there_is_told(tmp_path):
    class Half(Steps):
        validation_step = LighterModule.validation_step

    module = Half(torch.nn.Linear(4, 3), torch.nn.CrossEntropyLoss())
    module.optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    with pytest.raises(
        NotImplementedError, match=r"^model: Half must have a validation_step\(batch, batch_idx\) to validate"
    ):
        fit(tmp_path, module, data(4, 0), data(4, 0))


def test_metrics_of_another_kind_are_refused():
    with pytest.raises(TypeError, match="val_metrics must be a torchmetrics Metric or MetricCollection, got list"):
        LighterModule(torch.nn.Identity(), val_metrics=[MulticlassAccuracy(3)])


def test_outside_of_a_run_it_has_no_mode_and_no_optimizer():
    module = LighterModule(torch.nn.Identity())
    with pytest.raises(RuntimeError, match="has a mode in a run alone"):
        _ = module.mode
    with pytest.raises(ValueError, match=r"model::optimizer: must be given to fit, got None\."):
        module.configure_optimizers()


@pytest.mark.parametrize(
    ("batch", "count"),
    [
        ([torch.zeros(3, 1), torch.zeros(3)], 3),
        ({"name": ["a", "b"], "image": torch.zeros(2, 1, 4)}, 2),
        ([{"image": torch.zeros(1, 4)}] * 4, 4),
        (torch.zeros(5), 5),
        ("text", 1),
    ],
)
def test_cases_of_a_batch(batch, count):
    assert _count_cases(batch) == count
