import csv
import math

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from parts import Memory, classification, loader, pairs, trainer
from torchmetrics.classification import MulticlassAccuracy

from monai_lighter.callbacks.curves import CurvesLogger
from monai_lighter.callbacks.defaults import LearningRate


def table(path):
    with open(path, newline="") as file:
        return [*csv.DictReader(file)]


def fit(path, *callbacks, scheduler=None, logger=None, **how):
    log, memory = logger or CurvesLogger(path), Memory()
    system = classification(
        metrics={"val": {"acc": MulticlassAccuracy(3)}}, **({"scheduler": scheduler} if scheduler else {})
    )
    if callable(scheduler):
        system.scheduler = scheduler(system.optimizer)
    trainer(path, logger=[log, memory], callbacks=[*callbacks], **how).fit(system)
    return log, memory


@pytest.mark.slow
class TestTables:
    def test_an_epoch_is_a_row_and_no_cell_is_empty(self, tmp_path):
        log, memory = fit(tmp_path, max_epochs=3)
        rows = table(f"{log.log_dir}/metrics.csv")
        assert [row["epoch"] for row in rows] == ["0", "1", "2"]
        assert [row["step"] for row in rows] == ["2", "5", "8"]
        assert all(cell for row in rows for cell in row.values())
        for name in ("train/loss/epoch", "val/loss/epoch", "val/metrics/acc/epoch", "train/optimizer/SGD/lr"):
            assert [float(row[name]) for row in rows] == pytest.approx(memory.values(name))

    def test_steps_stand_apart(self, tmp_path):
        log, memory = fit(tmp_path, max_epochs=2)
        for mode in ("train", "val"):
            rows = table(f"{log.log_dir}/{mode}_steps.csv")
            name = f"{mode}/loss/step"
            assert [float(row[name]) for row in rows] == pytest.approx(memory.values(name))
            assert [int(row["step"]) for row in rows] == [*range(6)]
            assert all(cell for row in rows for cell in row.values())

    def test_each_validation_within_an_epoch_has_a_row(self, tmp_path):
        log, _ = fit(tmp_path, max_epochs=2, val_check_interval=1)
        rows = table(f"{log.log_dir}/metrics.csv")
        assert len(rows) == 6
        assert all(row["val/loss/epoch"] for row in rows)
        assert [bool(row["train/loss/epoch"]) for row in rows] == [False, False, True] * 2

    def test_epochs_without_a_validation_keep_the_cells_empty(self, tmp_path):
        log, _ = fit(tmp_path, max_epochs=3, check_val_every_n_epoch=2)
        assert [bool(row["val/loss/epoch"]) for row in table(f"{log.log_dir}/metrics.csv")] == [False, True, False]

    def test_any_lightning_module(self, tmp_path):
        class Own(LightningModule):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(4, 3)

            def training_step(self, batch, batch_idx):
                loss = self.layer(batch[0]).square().mean()
                self.log("loss", loss, on_step=True, on_epoch=True)
                return loss

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=0.25)

        log = CurvesLogger(tmp_path)
        trainer(tmp_path, logger=log, callbacks=[LearningRate()], max_epochs=2).fit(Own(), loader(pairs(6)))
        rows = table(f"{log.log_dir}/metrics.csv")
        assert [row["train/optimizer/SGD/lr"] for row in rows] == ["0.25", "0.25"]
        steps = [float(row["loss_step"]) for row in table(f"{log.log_dir}/steps.csv")]
        assert len(steps) == 6
        assert float(rows[0]["loss_epoch"]) == pytest.approx(sum(steps[:3]) / 3, rel=1e-4)

    def test_they_lie_beside_tensorboard(self, tmp_path):
        board = TensorBoardLogger(tmp_path, "lightning_logs")
        log = CurvesLogger(tmp_path, beside=board)
        trainer(tmp_path, logger=[board, log], max_epochs=2).fit(classification())
        (folder,) = (tmp_path / "lightning_logs").iterdir()
        names = {path.name.partition(".")[0] for path in folder.iterdir()}
        assert names >= {"metrics", "train_steps", "curves", "events", "hparams"}
        assert log.version == board.version == 0


def test_a_table_that_is_there_is_added_to_and_gets_new_columns(tmp_path):
    first = CurvesLogger(tmp_path, version="job")
    first.log_metrics({"epoch": 0, "loss": 1.5}, 3)
    again = CurvesLogger(tmp_path, version="job")
    again.log_metrics({"epoch": 1, "loss": 1.0}, 7)
    again.log_metrics({"epoch": 1, "dice": 1e-4}, 7)
    assert table(f"{again.log_dir}/metrics.csv") == [
        {"epoch": "0", "step": "3", "loss": "1.5", "dice": ""},
        {"epoch": "1", "step": "7", "loss": "1", "dice": "0.0001"},
    ]


def test_a_value_that_comes_twice_at_a_step_has_a_row_of_its_own(tmp_path):
    log = CurvesLogger(tmp_path)
    for value in (1.0, math.nan):
        log.log_metrics({"epoch": 0, "loss": value}, 0)
    assert [row["loss"] for row in table(f"{log.log_dir}/metrics.csv")] == ["1", "nan"]


@pytest.mark.slow
def test_the_picture_is_there_when_the_fit_is_over(tmp_path):
    image = pytest.importorskip("PIL.Image")
    log, _ = fit(tmp_path, max_epochs=2)
    with image.open(f"{log.log_dir}/curves.png") as picture:
        assert min(picture.size) > 100
    assert not list(tmp_path.rglob(".part*"))


@pytest.mark.slow
class TestLearningRate:
    def warm_up(self, optimizer):
        scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4)
        return {"scheduler": scheduler, "interval": "step"}

    def test_a_warm_up_is_logged_by_step(self, tmp_path):
        log, _ = fit(tmp_path, LearningRate(), scheduler=self.warm_up, max_epochs=2)
        rows = table(f"{log.log_dir}/train_steps.csv")
        rates = [float(row["train/optimizer/SGD/lr/step"] or "nan") for row in rows]
        assert math.isnan(rates[0])
        assert rates[1:] == pytest.approx([0.1 * min(1, 0.1 + 0.9 * i / 4) for i in range(1, 6)])

    def test_by_epoch_it_is_logged_by_epoch_alone(self, tmp_path):
        def decay(optimizer):
            return torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

        log, memory = fit(tmp_path, LearningRate(), scheduler=decay, max_epochs=3)
        assert [row["train/optimizer/SGD/lr"] for row in table(f"{log.log_dir}/metrics.csv")] == [
            "0.1",
            "0.05",
            "0.025",
        ]
        assert not [name for name in memory.keys if "lr/step" in name]

    def test_with_lightnings_own_monitor_the_row_joins_the_step(self, tmp_path):
        _, memory = fit(tmp_path, LearningRateMonitor(), scheduler=self.warm_up)
        assert "lr-SGD" in memory.keys
