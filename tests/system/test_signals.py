"""Signals that end a run, and the fit that goes on from what it left."""

import os
import shutil
import signal

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from parts import classification, trainer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics.classification import MulticlassAccuracy

from monai_lighter.system.checkpoints import LastCheckpoint
from monai_lighter.system.signals import RunStopped, StopOnSignal

pytestmark = pytest.mark.slow


class Send(Callback):
    """Sends this process a signal after a batch of training or validation, counted from 1."""

    def __init__(self, number, mode="train", batch=0):
        self.number, self.mode, self.left = number, mode, batch

    def count(self, mode):
        self.left -= mode == self.mode
        if self.left == 0 and mode == self.mode:
            os.kill(os.getpid(), self.number)

    def on_train_batch_end(self, *args):
        self.count("train")

    def on_validation_batch_end(self, *args):
        self.count("val")

    def on_predict_batch_end(self, *args):
        self.count("predict")


def fit(folder, *callbacks, resume=None, plateau=False, **keywords):
    seed_everything(3, workers=True, verbose=False)
    model = torch.nn.Sequential(torch.nn.Dropout(0.4), torch.nn.Linear(4, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=10.0)
    if plateau:
        keywords["scheduler"] = {"scheduler": scheduler, "monitor": "val/loss/epoch"}
    system = classification(
        model=model, optimizer=optimizer, metrics={"val": {"acc": MulticlassAccuracy(3)}},
        scheduler=keywords.pop("scheduler", None),
    )  # fmt: skip
    system.seed = 3
    run = trainer(folder, max_epochs=3, callbacks=[*callbacks, LastCheckpoint(), StopOnSignal()], **keywords)
    run.fit(system, ckpt_path=resume)
    state = {**system.state_dict(), "lr": torch.tensor(optimizer.param_groups[0]["lr"])}
    state = {**state, **{name: value for name, value in run.callback_metrics.items() if "val" in name}}
    return {name: value.clone() for name, value in state.items()}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize(
    ("mode", "batch"), [("train", 1), ("train", 3), ("train", 5), ("val", 1), ("val", 3), ("val", 5)]
)
def test_a_fit_ends_after_the_step_and_can_be_gone_on_with(tmp_path, number, code, mode, batch):
    whole = fit(tmp_path / "whole")
    before = signal.getsignal(number)
    with pytest.raises(RunStopped) as stopped:
        fit(tmp_path / "stopped", Send(number, mode, batch))
    assert stopped.value.code == code
    assert signal.getsignal(number) == before
    (checkpoint,) = (tmp_path / "stopped").glob("**/last.ckpt")
    again = fit(tmp_path / "again", resume=checkpoint)
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize(("mode", "batch"), [("train", 2), ("train", 3), ("val", 4)])
def test_a_plateau_loses_no_step(tmp_path, mode, batch):
    whole = fit(tmp_path / "whole", plateau=True)
    assert whole["lr"] == 0.5 * 0.5**3
    with pytest.raises(RunStopped):
        fit(tmp_path / "stopped", Send(signal.SIGTERM, mode, batch), plateau=True)
    (checkpoint,) = (tmp_path / "stopped").glob("**/last.ckpt")
    again = fit(tmp_path / "again", resume=checkpoint, plateau=True)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_plateau_has_stepped_when_the_checkpoint_of_its_epoch_is_written(tmp_path):
    whole = fit(tmp_path / "whole", plateau=True)
    kept = []

    class Keep(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch:
                kept.append(shutil.copy(trainer.checkpoint_callback.best_model_path, tmp_path / f"{len(kept)}.ckpt"))

    fit(tmp_path / "stopped", Keep(), plateau=True)
    for checkpoint in kept:
        again = fit(tmp_path / "again", resume=checkpoint, plateau=True)
        assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert len(kept) == 2


@pytest.mark.parametrize("mode", ["train", "val"])
def test_sigusr1_saves_and_goes_on(tmp_path, mode):
    whole = fit(tmp_path / "whole")
    saved = []

    class Saved(Callback):
        def on_save_checkpoint(self, *args):
            saved.append(mode)

    here = fit(tmp_path / "here", Send(signal.SIGUSR1, mode, 2), Saved())
    assert len(saved) == 3 + 1
    assert all(torch.equal(whole[name], here[name]) for name in whole)


def test_what_follows_an_epoch_is_not_left_out(tmp_path):
    """A stop that comes with the last batch of an epoch waits for its validation, which callbacks judge."""
    with pytest.raises(RunStopped):
        fit(tmp_path / "stopped", Send(signal.SIGTERM, "train", 3))
    (checkpoint,) = (tmp_path / "stopped").glob("**/last.ckpt")
    stopping = EarlyStopping("val/loss/epoch", patience=9)
    fit(tmp_path / "again", stopping, resume=checkpoint)
    assert torch.isfinite(stopping.best_score)
    assert torch.load(checkpoint, weights_only=True)["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == 0


def test_a_second_signal_ends_the_process_at_once():
    pid = os.fork()
    if not pid:
        callback = StopOnSignal()
        signal.signal(signal.SIGTERM, callback._receive)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM


def test_an_evaluation_ends_after_its_batch(tmp_path):
    system = classification(val=9)
    run = trainer(tmp_path, callbacks=[Send(signal.SIGTERM, "val", 2), StopOnSignal()])
    with pytest.raises(RunStopped) as stopped:
        run.validate(system)
    assert stopped.value.code == 143
    assert run.validate_loop.batch_progress.current.processed == 2
