import fcntl
import logging
import os
import pty
import re
import struct
import sys
import termios
import threading

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar, TQDMProgressBar
from lightning.pytorch.callbacks import ProgressBar as LightningsBar
from monai.engines import SupervisedTrainer
from parts import Logged, classification, items, loader, pairs, trainer
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from monai_lighter import ProgressBar, Workflow
from monai_lighter.engines.trainer import make_trainer
from monai_lighter.system.profiler import PassThroughProfiler


class Terminal:
    """A terminal of so many columns as standard error, and what is written to it."""

    def __init__(self, columns, rows=24):
        self.columns, self.rows = columns, rows

    def __enter__(self):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", self.rows, self.columns, 0, 0))
        self.written, self.stderr = b"", sys.stderr
        self.reader = threading.Thread(target=self.read, args=(master,))
        self.reader.start()
        sys.stderr = os.fdopen(slave, "w", encoding="utf-8")
        return self

    def read(self, master):
        try:
            while part := os.read(master, 65536):
                self.written += part
        except OSError:  # the other end is closed
            os.close(master)

    def __exit__(self, *_):
        sys.stderr.close()
        sys.stderr = self.stderr
        self.reader.join()

    @property
    def drawings(self):
        """What has stood in the last line of the terminal, one after the other."""
        parts = re.split(r"[\r\n]|\x1b\[A", self.written.decode())
        return [part.rstrip() for part in parts if part.strip()]


def fit(tmp_path, bar, module=None, **settings):
    if module is None:
        metrics = {"val": {"dice": MulticlassAccuracy(3, average="micro")}}
        module = classification(train=8, val=4, metrics=metrics)
    settings = {"max_epochs": 3, "logger": False, "callbacks": [], **settings}
    run = trainer(tmp_path, **{**settings, "enable_progress_bar": True, "callbacks": [bar, *settings["callbacks"]]})
    PassThroughProfiler.into(run)
    run.fit(module)
    return run


@pytest.mark.slow
class TestOnATerminal:
    def test_it_says_at_80_columns_what_one_wants_to_know(self, tmp_path):
        with Terminal(80) as terminal:
            run = fit(tmp_path, ProgressBar(interval=1e-9))
        assert max(map(len, terminal.drawings)) < 80
        key = float(run.callback_metrics["val/metrics/dice/epoch"])
        last = terminal.drawings[-1]
        said = re.fullmatch(r"epoch 3/3 100%\|█+\| loss [\d.]+, dice [\d.]+ \(best ([\d.]+)\), data \d+%", last)
        assert said, last
        assert float(said[1]) >= round(key, 3)
        assert f"{float(run.callback_metrics['train/loss/step']):.3g}" in last
        assert any("left, loss" in line for line in terminal.drawings)
        assert any(re.match(r"epoch 2/3, val 1/2  ?\d+%", line) for line in terminal.drawings)
        assert "\n" not in terminal.written.decode().rstrip()

    @pytest.mark.parametrize("columns", [30, 46, 60])
    def test_a_narrow_one_has_the_key_metric(self, tmp_path, columns):
        with Terminal(columns) as terminal:
            fit(tmp_path, ProgressBar(interval=1e-9))
        assert max(map(len, terminal.drawings)) < columns
        assert re.search(r"dice [\d.]+", terminal.drawings[-1])

    def test_a_wide_one_has_the_rest(self, tmp_path):
        with Terminal(140) as terminal:
            fit(tmp_path, ProgressBar(interval=1e-9))
        assert re.search(r"data \d+%, val loss [\d.]+$", terminal.drawings[-1])

    def test_it_is_drawn_by_the_clock(self, tmp_path):
        with Terminal(80) as terminal:
            fit(tmp_path, ProgressBar(interval=3600))
        assert len({*terminal.drawings}) == 1

    def test_a_terminal_that_tells_no_size_has_it_too(self, tmp_path):
        with Terminal(0, rows=0) as terminal:
            fit(tmp_path, ProgressBar(interval=1e-9), max_epochs=1)
        assert re.match(r"epoch 1/1 100%\|█+\| loss", terminal.drawings[-1])

    def test_what_is_logged_and_printed_stands_above_it(self, tmp_path):
        class Talk(Callback):
            def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
                logging.getLogger("talk").warning("a record")

        with Terminal(80) as terminal:
            handler = logging.StreamHandler(sys.stderr)
            logging.getLogger("talk").addHandler(handler)
            try:
                fit(tmp_path, ProgressBar(interval=1e-9), callbacks=[Talk()])
            finally:
                logging.getLogger("talk").removeHandler(handler)
        assert terminal.drawings.count("a record") == 12
        assert handler.filters == []

    def test_key_metric_of_a_lightning_module_is_the_monitored_one(self, tmp_path):
        loaders = {"train": loader(pairs(8)), "val": loader(pairs(4, seed=1))}
        for callback in (EarlyStopping("val/loss/epoch"), ModelCheckpoint(tmp_path, monitor="val/loss/epoch")):
            with Terminal(100) as terminal:
                fit(tmp_path, ProgressBar(interval=1e-9), Logged(loaders), callbacks=[callback])
            assert re.search(r"loss [\d.]+, val loss [\d.]+ \(best [\d.]+\), data", terminal.drawings[-1])

    def test_steps_are_an_end_too_and_no_end_has_no_bar(self, tmp_path):
        with Terminal(80) as terminal:
            fit(tmp_path, ProgressBar(interval=1e-9), max_epochs=-1, max_steps=6)
        assert re.match(r"epoch 2 100%\|█+\|", terminal.drawings[-1])

        class Stop(Callback):
            def on_train_epoch_end(self, trainer, module):
                trainer.should_stop = True

        with Terminal(80) as terminal:
            fit(tmp_path, ProgressBar(interval=1e-9), max_epochs=-1, callbacks=[Stop()])
        assert re.match(r"epoch 1, batch 4  loss [\d.]+, dice", terminal.drawings[-1])

    @pytest.mark.parametrize("stage", ["validate", "test", "predict"])
    def test_other_stages(self, tmp_path, stage):
        mode = {"validate": "val"}.get(stage, stage)
        data = loader([torch.rand(4)] * 8) if stage == "predict" else loader(pairs(8))
        system = classification(dataloaders={mode: [data, data]})
        run = trainer(tmp_path, enable_progress_bar=True, callbacks=[ProgressBar(interval=1e-9)])
        PassThroughProfiler.into(run)
        with Terminal(80) as terminal:
            getattr(run, stage)(system)
        name = {"validate": "validation", "predict": "prediction"}.get(stage, stage)
        assert re.match(rf"{name}  12%\|[^|]+\| \d\d:\d\d left, data \d+%", terminal.drawings[0])
        assert re.match(rf"{name} 100%\|█+\|", terminal.drawings[-1])


@pytest.mark.slow
class TestElsewhere:
    def test_a_line_for_each_epoch(self, tmp_path, capsys):
        run = fit(tmp_path, ProgressBar(), log_every_n_steps=1)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 3
        for i, line in enumerate(lines):
            said = re.fullmatch(
                rf"epoch {i + 1}/3: loss ([\d.]+), val loss ([\d.]+), dice ([\d.]+) \(best ?([\d.]*)\), [\d.]+ s"
                r"(, \d\d:\d\d left)?(, data \d+%)?", line)  # fmt: skip
            assert said, line
            assert (said[5] is None) == (i == 2)
            assert len(line) <= 80
            assert said[4] == "" or float(said[4]) > float(said[3])
            assert said[4] == "" or i > 0  # the first is the best so far
        names = ("train/loss/epoch", "val/loss/epoch", "val/metrics/dice/epoch")
        assert [float(value) for value in said.groups()[:3]] == [float(f"{run.callback_metrics[n]:.4g}") for n in names]

    @pytest.mark.parametrize("stage", ["validate", "test", "predict"])
    def test_a_line_at_the_end_of_other_stages_and_some_before(self, tmp_path, stage, capsys):
        mode = {"validate": "val"}.get(stage, stage)
        data = loader([torch.rand(4)] * 8) if stage == "predict" else loader(pairs(8))
        name = {"validate": "validation", "predict": "prediction"}.get(stage, stage)
        for every, count in ((3600, 1), (1e-9, 5)):
            run = trainer(tmp_path, enable_progress_bar=True, callbacks=[ProgressBar(report_every=every)])
            PassThroughProfiler.into(run)
            getattr(run, stage)(classification(dataloaders={mode: data}))
            lines = capsys.readouterr().err.splitlines()
            assert len(lines) == count
            assert re.fullmatch(rf"{name}: 4 batches in \d\d:\d\d, data \d+%", lines[-1])

    def test_with_a_profiler_of_lightning_nobody_knows_of_the_waiting(self, tmp_path, capsys):
        fit(tmp_path, ProgressBar(), profiler="simple", max_epochs=1)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("epoch 1/1: loss")
        assert "data" not in line

    def test_of_several_processes_the_first_writes(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(Trainer, "is_global_zero", False)
        fit(tmp_path, ProgressBar(), enable_checkpointing=False)
        assert capsys.readouterr().err == ""

    def test_share_of_waiting(self, tmp_path, capsys):
        class Slow(torch.utils.data.Dataset):
            def __len__(self):
                return 4

            def __getitem__(self, i):
                threading.Event().wait(0.05)
                return torch.rand(4), 0

        fit(tmp_path, ProgressBar(), classification(dataloaders={"train": loader(Slow())}), max_epochs=1)
        (line,) = capsys.readouterr().err.splitlines()
        assert 50 < int(re.search(r"data (\d+)%", line)[1]) <= 100


def build(tmp_path, **settings):
    config = {
        "trainer": {"_target_": "lightning.pytorch.Trainer", "logger": False, **settings},
        "system": {"model": {"_target_": "torch.nn.Identity"}},
    }
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(config))
    run = Workflow(str(tmp_path / "train.yaml"), logging_file=False, run_id="none")
    run.initialize()
    return [type(each) for each in run.trainer.callbacks if isinstance(each, LightningsBar)]


class TestWhoseItIs:
    def test_by_default_ours(self, tmp_path):
        assert build(tmp_path) == [ProgressBar]

    @pytest.mark.parametrize("target", ["TQDMProgressBar", "RichProgressBar"])
    def test_one_in_the_config_wins(self, tmp_path, target):
        pytest.importorskip("rich" if target == "RichProgressBar" else "tqdm")
        bar = {"_target_": f"lightning.pytorch.callbacks.{target}"}
        kind = {"TQDMProgressBar": TQDMProgressBar, "RichProgressBar": RichProgressBar}[target]
        assert build(tmp_path, callbacks=[bar]) == [kind]
        module = "$__import__('lightning.pytorch.callbacks', fromlist=['x'])"
        assert build(tmp_path, callbacks=f"$[{module[1:]}.{target}()]") == [kind]

    def test_settings_of_ours(self, tmp_path):
        assert build(tmp_path, callbacks=[{"_target_": "monai_lighter.ProgressBar", "interval": 1}]) == [ProgressBar]

    def test_none_where_none_is_wanted(self, tmp_path):
        assert build(tmp_path, enable_progress_bar=False) == []

    @pytest.mark.parametrize("name", ["interval", "report_every"])
    def test_seconds_are_positive(self, name):
        with pytest.raises(ValueError, match="must be positive, in seconds, got"):
            ProgressBar(**{name: 0})


def engine(epochs=2):
    model = nn.Conv2d(1, 1, 1)
    return SupervisedTrainer(
        torch.device("cpu"), epochs, loader(items(4)), model, torch.optim.SGD(model.parameters(), lr=0.1), nn.MSELoss()
    )


class TestOfEngines:
    @pytest.mark.parametrize(
        ("keywords", "kinds"),
        [
            ({"enable_progress_bar": True}, [ProgressBar]),
            ({}, []),
            ({"enable_progress_bar": True, "callbacks": TQDMProgressBar()}, [TQDMProgressBar]),
        ],
    )
    def test_ours_where_there_is_a_terminal(self, keywords, kinds):
        made = make_trainer(engine(), True, keywords)
        assert [type(each) for each in made.callbacks if isinstance(each, LightningsBar)] == kinds


def test_it_prints_as_a_lightning_module_does(capsys):
    class Say(LightningModule):
        pass

    ProgressBar().print("said")
    assert capsys.readouterr().out == "said\n"
