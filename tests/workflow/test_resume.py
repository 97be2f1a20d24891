"""The checkpoint that a fit goes on from."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback

from monai_lighter import ConfigError, Workflow
from monai_lighter.system.signals import RunStopped
from monai_lighter.workflow.resume import LOADING, Fit, choose_checkpoint, find_differences

CONFIG = {
    "bundle_root": "/a",
    "seed": 0,
    "lr": 0.1,
    "max_epochs": 3,
    "workers": 0,
    "unused": 1,
    "net": {"_target_": "UNet", "channels": [4, 8]},
    "system": {
        "model": "@net",
        "optimizer": {"_target_": "Adam", "params": "$@net.parameters()", "lr": "@lr"},
        "dataloaders": {"train": {"_target_": "DataLoader", "num_workers": "@workers", "batch_size": 2}},
    },
    "trainer": {"max_epochs": "@max_epochs"},
}


def changed(**items):
    return {**CONFIG, **items}


def differences(before, now):
    return find_differences(before, now, ("seed", "system"), LOADING)


def choose(resume, config, found, folder="/nowhere"):
    return choose_checkpoint(resume, Fit(config, (Path(folder),)), found)


def test_what_training_does_not_depend_on_may_differ():
    assert differences(CONFIG, changed(bundle_root="/b", max_epochs=9, workers=4, unused=2, trainer={})) == []


def test_a_fit_that_a_bad_case_ended_may_go_on_without_it():
    system = {**CONFIG["system"], "on_bad_case": "skip", "max_bad_cases": 3}
    assert differences(CONFIG, changed(system=system)) == []


def test_what_it_depends_on_is_named():
    assert differences(CONFIG, changed(lr=0.2, seed=1)) == [("seed", 0, 1), ("lr", 0.1, 0.2)]
    net = {"_target_": "UNet", "channels": [4, 16]}
    assert differences(CONFIG, changed(net=net)) == [("net::channels::1", 8, 16)]
    system = {**CONFIG["system"], "criterion": "@loss"}
    (found, loss) = differences(CONFIG, changed(system=system, loss={"_target_": "DiceLoss"}))
    assert found == ("system::criterion", None, "@loss")
    assert loss == ("loss", None, {"_target_": "DiceLoss"})


def save(folder, config):
    path = folder / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"hyper_parameters": config}, path)
    return path


def test_auto_takes_the_newest_or_begins_anew(tmp_path):
    assert choose("auto", CONFIG, []) is None
    path = save(tmp_path, CONFIG)
    assert choose("auto", CONFIG, [path]) == choose(str(path), CONFIG, []) == str(path)
    assert choose("none", CONFIG, [path]) is None


def test_a_checkpoint_of_another_config_is_an_error_that_names_what_differs(tmp_path):
    path = save(tmp_path, CONFIG)
    with pytest.raises(ConfigError) as caught:
        choose("auto", changed(lr=0.2), [path])
    hint = "Set it back, or give --resume force to go on with what is there now, none to begin anew, or another's path."
    assert str(caught.value) == f"lr: is 0.2, and was 0.1 when {path} was made. {hint}"
    assert choose("force", changed(lr=0.2), [path]) == str(path)


@pytest.mark.parametrize(
    ("name", "value"), [("gradient_clip_val", 0.5), ("accumulate_grad_batches", 2), ("precision", 64)]
)
def test_keywords_of_the_trainer_that_change_a_step_are_named(tmp_path, name, value):
    path = save(tmp_path, CONFIG)
    trainer = {**CONFIG["trainer"], name: value}
    with pytest.raises(ConfigError, match=rf"^trainer::{name}: is {value}, and was None when"):
        choose("auto", changed(trainer=trainer), [path])
    for same in ({"max_epochs": 9, "devices": 2, "callbacks": []}, "@other"):
        assert choose("auto", changed(trainer=same, other={"logger": False}), [path]) == str(path)


def test_a_path_that_is_no_checkpoint(tmp_path):
    with pytest.raises(ConfigError, match=r"resume: must be a checkpoint, 'nowhere\.ckpt' is not there"):
        choose("nowhere.ckpt", CONFIG, [])
    (tmp_path / "x.ckpt").write_bytes(b"no")
    with pytest.raises(ConfigError, match="cannot be read"):
        choose(str(tmp_path / "x.ckpt"), CONFIG, [])


LOGGED = {"seed": 5, "trainer::logger": True}


def run(bundle, **override):
    made = Workflow(str(bundle / "configs" / "train.yaml"), logging_file=False, run_id="fit", **{**LOGGED, **override})
    made.run()
    return made


@pytest.mark.slow
def test_a_fit_that_is_resumed_comes_to_the_weights_of_the_one_not_stopped(bundle, caplog):
    whole = run(bundle, **{"trainer::max_epochs": 3, "trainer::default_root_dir": str(bundle / "whole")})
    with caplog.at_level("INFO"):
        run(bundle, **{"trainer::max_epochs": 2}, resume="auto")
        assert "it begins anew" in caplog.text
        again = run(bundle, **{"trainer::max_epochs": 3}, resume="auto")
    checkpoint = bundle / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"
    assert f"the fit goes on from {checkpoint}" in caplog.text
    pairs = zip(whole.system.model.parameters(), again.system.model.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    with pytest.raises(ConfigError, match=r"seed: is 6, and was 5 when .*last\.ckpt was made"):
        run(bundle, seed=6, resume="auto")
    other = run(bundle, seed=6, **{"args::fit::ckpt_path": str(checkpoint), "trainer::max_epochs": 3})
    assert "seed: is 6, and was 5" in caplog.text
    assert other.trainer.current_epoch == 3


def test_what_resume_may_be(bundle):
    with pytest.raises(ConfigError, match="resume: must be a checkpoint, auto, force or none, got True"):
        Workflow(str(bundle / "configs" / "train.yaml"), run_id="fit", logging_file=False, resume=True).initialize()


LOSS = """from monai.losses import DiceCELoss
class Loss(DiceCELoss):  # {comment}
    \"\"\"{comment}\"\"\"
    def forward(self, *arguments):
        return super().forward(*arguments) * {factor}
"""


@pytest.mark.slow
def test_code_that_was_edited_is_named_and_a_comment_is_not_code(bundle, caplog):
    """What somebody expects who mends a comment while a job waits: that the job goes on."""
    scripts = bundle / "scripts"
    scripts.mkdir()

    def write(comment, factor):
        (scripts / "loss.py").write_text(LOSS.format(comment=comment, factor=factor))
        for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
            del sys.modules[name]

    def go_on(**override):
        return run(bundle, **{"trainer::max_epochs": 2, "system::criterion::_target_": "scripts.loss.Loss", **override})

    (scripts / "__init__.py").touch()
    (scripts / "plot.py").write_text("x = 1\n")
    write("one", 1)
    go_on(**{"trainer::max_epochs": 1})
    (checkpoint,) = bundle.glob("lightning_logs/version_0/checkpoints/last.ckpt")
    made_with = torch.load(checkpoint, weights_only=True)["made_with"]
    assert {"scripts/__init__.py", "scripts/loss.py"} <= made_with["code"].keys()
    assert "scripts/plot.py" not in made_with["code"]
    assert len(made_with["digest"]) == 64
    write("two, another", 1)
    (scripts / "plot.py").write_text("x = 2\n")
    go_on(resume=str(checkpoint))
    write("two", 2)
    with pytest.raises(
        ConfigError, match=r"scripts/loss\.py: is other code: it has been edited since .*last\.ckpt was made"
    ):
        go_on(resume=str(checkpoint))
    go_on(resume="force")
    caplog.clear()
    go_on(**{"args::fit::ckpt_path": str(checkpoint)})
    assert "scripts/loss.py: is other code" in caplog.text


SCONTROL = """#!/bin/sh
echo "$@" >> {notes}
kill -TERM $PPID
"""
"""What SLURM does when it is asked to requeue a job: it ends it."""


@pytest.mark.slow
@pytest.mark.parametrize("array", [False, True])
def test_under_slurm_a_job_is_requeued_and_goes_on_by_the_same_command(bundle, monkeypatch, caplog, array):
    """The signal comes in the middle of a step, where Lightning's own handler would save."""
    whole = run(bundle, **{"trainer::max_epochs": 3, "trainer::default_root_dir": str(bundle / "whole")})
    notes, folder = bundle / "notes.txt", bundle / "bin"
    folder.mkdir()
    (folder / "scontrol").write_text(SCONTROL.format(notes=notes))
    (folder / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    job = {"JOB_ID": "77", "JOB_NAME": "train", "NTASKS": "1", "NTASKS_PER_NODE": "1", "PROCID": "0", "LOCALID": "0"}
    job |= {"NODEID": "0", "NNODES": "1", "NODELIST": "localhost", "JOB_NODELIST": "localhost"}
    job |= {"ARRAY_JOB_ID": "70", "ARRAY_TASK_ID": "4"} if array else {}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)

    def warn(trainer, *_):
        if trainer.global_step == 2 and "SLURM_RESTART_COUNT" not in os.environ:
            os.kill(os.getpid(), signal.SIGUSR1)

    def command():
        callback = LambdaCallback(on_before_optimizer_step=warn)
        return run(bundle, **{"trainer::max_epochs": 3, "trainer::callbacks": [callback]})

    with pytest.raises(RunStopped) as stopped:
        command()
    assert stopped.value.code == 143
    assert notes.read_text() == ("requeue 70_4\n" if array else "requeue 77\n")
    assert [*bundle.glob("**/hpc_ckpt*")] == []
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with caplog.at_level("INFO"):
        again = command()
    assert "SLURM has requeued this job" in caplog.text
    assert "the fit goes on from" in caplog.text
    pairs = zip(whole.system.model.parameters(), again.system.model.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
