"""Checkpoints of fits that are killed, and the newest that is whole."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger

from monai_lighter.system.checkpoints import LastCheckpoint, SafeCheckpointIO, find_newest_checkpoint, list_checkpoints


def test_a_file_that_fails_leaves_the_one_before_and_no_litter(tmp_path):
    path = tmp_path / "a" / "model.pt"
    SafeCheckpointIO().save_checkpoint({"x": torch.ones(2)}, path)
    with pytest.raises(AttributeError):  # of pickle, which has begun to write
        SafeCheckpointIO().save_checkpoint({"x": lambda: 0}, path)
    assert torch.equal(torch.load(path, weights_only=True)["x"], torch.ones(2))
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.slow
def test_saves_that_are_killed_leave_whole_checkpoints(tmp_path):
    path = tmp_path / "last.ckpt"
    code = (
        "import sys, torch; from monai_lighter.system.checkpoints import SafeCheckpointIO\n"
        "state = {'x': torch.rand(1_000_000)}\n"
        f"while True: SafeCheckpointIO().save_checkpoint(state, {str(path)!r}); print('.', flush=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout.read(2)
    time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert find_newest_checkpoint([path]) == path
    assert find_newest_checkpoint([]) is None


def save(path, mtime):
    SafeCheckpointIO().save_checkpoint({"x": torch.ones(3)}, path)
    os.utime(path, (mtime, mtime))


def test_a_broken_newest_is_passed_over(tmp_path, caplog):
    older, newer = (tmp_path / "logs" / f"version_{i}" / "checkpoints" / "last.ckpt" for i in (0, 1))
    save(older, 10)
    save(newer, 20)
    assert find_newest_checkpoint([older, newer]) == newer
    whole = newer.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", whole.replace(torch.ones(3).numpy().tobytes(), bytes(12))):
        newer.write_bytes(broken)
        assert find_newest_checkpoint([older, newer]) == older
    assert "is broken" in caplog.text


@pytest.mark.slow
def test_a_fit_keeps_one_checkpoint_by_epoch_and_by_time(tmp_path):
    for minutes in (15.0, 0.0):
        trainer = Trainer(
            max_epochs=2, limit_train_batches=3, limit_val_batches=0, default_root_dir=tmp_path / str(minutes),
            callbacks=[LastCheckpoint(minutes)], enable_progress_bar=False, accelerator="cpu",
        )  # fmt: skip
        trainer.fit(BoringModel())
        (path,) = (tmp_path / str(minutes)).glob("lightning_logs/version_0/checkpoints/*")
        assert path.name == "last.ckpt"
        assert torch.load(path, weights_only=True)["global_step"] == 6
        assert trainer.checkpoint_callback.best_model_path == str(path)


def test_checkpoints_are_found_where_lightning_puts_them(tmp_path):
    places = ("checkpoints", "lightning_logs/version_0/checkpoints", "logs/run/version_3/checkpoints", "own")
    files = [tmp_path / place / "x.ckpt" for place in places]
    for file in (*files, tmp_path / "pretrained.ckpt"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    trainer = Trainer(
        default_root_dir=tmp_path, logger=CSVLogger(tmp_path / "logs"), accelerator="cpu",
        callbacks=[ModelCheckpoint(tmp_path / "own")],
    )  # fmt: skip
    assert list_checkpoints(trainer) == {*files}


def test_lightnings_default_gives_way_and_a_users_stays(tmp_path):
    own = ModelCheckpoint(monitor="x")
    for given, kept in (([], LastCheckpoint), ([own], ModelCheckpoint)):
        trainer = Trainer(default_root_dir=tmp_path, callbacks=given, accelerator="cpu", logger=False)
        LastCheckpoint.into(trainer)
        SafeCheckpointIO.into(trainer)
        assert type(trainer.checkpoint_callback) is kept
        assert type(trainer.strategy.checkpoint_io) is SafeCheckpointIO
