"""Trials as processes: what each is given, pruned, stopped, of MONAI's engines, and several folds of a search."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from monai_lighter.study.locks import TrialLock
from monai_lighter.study.plan import make_plan
from monai_lighter.study.runner import begin_study
from monai_lighter.study.study_folder import COMPLETE, PRUNED, RUNNING, StudyRequest, Trial, read_study
from monai_lighter.study.trial_process import TrialProcess, read_key_metric

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def run(*words, code=0):
    command = [sys.executable, "-m", "monai_lighter", "study", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def wait_for(happened):
    start = time.monotonic()
    while not happened():
        assert time.monotonic() - start < 120
        time.sleep(0.05)


def test_a_trial_that_is_pruned_ends_after_its_step_and_says_so(bundle):
    plan = make_plan(["configs/train.yaml"], {"width": "4,8", "max_epochs": "200"})
    begin_study(bundle / "studies" / "s", plan)
    trial = Trial(bundle / "studies" / "s" / "000", 0, 0, {"width": 4}, {})
    lock = TrialLock(trial.folder / "lock")
    assert lock.take()
    seen = {}

    def judge(epoch, value):
        seen[epoch] = value
        return epoch >= 2

    process = TrialProcess(plan.request, plan.outputs, "7", Event())
    trial = process.run(trial, lock, judge)
    assert (trial.state, trial.exit_code, trial.device) == (PRUNED, 143, "7")
    assert "worse than the median" in trial.note
    assert seen.items() <= read_key_metric(trial.key_metric_path).items()
    assert len(read_key_metric(trial.key_metric_path)) < 200
    assert Trial.read(trial.folder) == trial
    assert process.run(trial, lock, judge) == trial  # it is over


def test_a_trial_that_goes_on_is_not_pruned_by_what_was_known_before_it_died(bundle):
    plan = make_plan(["configs/train.yaml"], {"width": "4,8"})
    begin_study(bundle / "studies" / "s", plan)
    trial = Trial(bundle / "studies" / "s" / "000", 0, 0, {"width": 4}, {})
    lock = TrialLock(trial.folder / "lock")
    assert lock.take()
    trial.key_metric_path.write_text("epoch,value,metric\n0,0.1,dice\n1,0.2,dice\n")
    seen = {}

    def judge(epoch, value):
        seen[epoch] = value
        return True

    trial = TrialProcess(plan.request, plan.outputs, "", Event()).run(trial, lock, judge)
    assert (trial.state, trial.exit_code) == (COMPLETE, 0)
    assert seen == {0: 0.1, 1: 0.2}


def test_ctrl_c_has_the_trials_end_and_the_same_command_goes_on_with_them(bundle):
    (bundle / "told.py").write_text("import os\nprint('sees', os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True)\n")
    config = bundle / "configs" / "train.yaml"
    config.write_text(config.read_text().replace("- $import glob\n", "- $import glob\n- $import told\n"))
    words = ("configs/train.yaml", "--width", "4,8", "--max_epochs", "16", "--n_jobs", "2", "--devices", "5,6")
    command = [sys.executable, "-m", "monai_lighter", "study", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        folders = [bundle / "studies" / "train" / name for name in ("000", "001")]
        wait_for(lambda: all((folder / "key_metric.csv").is_file() for folder in folders))
        seen = [set(re.findall(r"sees (\w+)", (folder / "log.txt").read_text())) for folder in folders]
        assert sorted(seen, key=min) == [{"5"}, {"6"}]
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        assert process.returncode == 130
    study = read_study("studies/train")
    assert [trial.state for trial in study.trials] == [RUNNING] * 2
    epochs = [len(read_key_metric(trial.key_metric_path)) for trial in study.trials]
    assert max(epochs) < 16
    assert [len(list(trial.folder.rglob("last.ckpt"))) for trial in study.trials] == [1, 1]
    output = run(*words[:-2])
    assert "trials  2 complete" in " ".join(output.split()).replace("trials 2", "trials  2")
    study = read_study("studies/train")
    assert [(trial.state, trial.attempts) for trial in study.trials] == [(COMPLETE, 2)] * 2
    for (
        trial
    ) in study.trials:  # each epoch once: what was validated before the stop was not validated again, but for the last
        with open(trial.key_metric_path, newline="") as file:
            assert 16 <= len(list(csv.DictReader(file))) <= 17
        assert os.path.getsize(trial.log_path)


def test_a_search_looks_at_the_mean_over_its_folds(bundle):
    run("configs/train.yaml", "--fold", "0,1", "--learning_rate", "log(1e-3, 1e-1)", "--n_trials", "2",
        "--max_epochs", "1", "--n_jobs", "2", "--name", "s")  # fmt: skip
    study = read_study("studies/s")
    assert [(trial.number, trial.set, trial.fold) for trial in study.trials] == [
        (0, 0, "0"),
        (1, 0, "1"),
        (2, 1, "0"),
        (3, 1, "1"),
    ]
    assert len({trial.parameters["learning_rate"] for trial in study.trials}) == 2
    for one in study.sets:
        with open(f"studies/s/out_of_fold_{one.number:03d}.csv", newline="") as file:
            values = [float(row["value"]) for row in csv.DictReader(file)]
        assert len(values) == 8  # two of three folds of twelve cases
        assert one.mean == pytest.approx(np.mean(values), rel=1e-5)  # folds of one size


def test_bundles_of_engines_take_part(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (config,) = re.findall(
        r"```yaml\n(# configs/train\.yaml\n.*?)```", (ROOT / "docs" / "zoo.md").read_text(), re.DOTALL
    )
    Path("configs").mkdir()
    Path("configs/train.yaml").write_text(config)
    run("configs/train.yaml", "--optimizer::lr", "0.001,0.01", "--n_jobs", "2")
    study = read_study("studies/train")
    assert [trial.state for trial in study.trials] == [COMPLETE] * 2
    for trial in study.trials:
        values = read_key_metric(trial.key_metric_path)
        assert (trial.metric, trial.weights) == ("val/metrics/val_mean_dice/epoch", "models/model.pt")
        assert len(values) == 2
        assert trial.value == max(values.values())
        torch.load(trial.weights_path, weights_only=True)
        assert trial.config_path.is_file()
    assert not Path("models").exists()
    assert not Path("lightning_logs").exists()
    assert run("configs/train.yaml", "--optimizer::lrr", "0.001,0.01", "--name", "x", code=2) == ""


def test_a_worker_that_is_interrupted_leaves_no_trial_running(bundle):
    """Trials are in a session of their own, which the signal does not reach."""
    words = ["study", "configs/train.yaml", "--width", "4,8", "--max_epochs", "500"]
    command = [sys.executable, "-m", "study_worker", *words]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    folder = bundle / "studies" / "train" / "000"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, **quiet) as process:
        wait_for((folder / "key_metric.csv").is_file)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    assert TrialLock(folder / "lock").take()
    assert Trial.read(folder).state == RUNNING
    assert len(list(folder.rglob("last.ckpt"))) == 1


@pytest.mark.parametrize(("metric", "weights"), [("", "models/model.pt"), ("val_loss", "")])
def test_engines_choose_weights_by_their_key_metric_alone(tmp_path, metric, weights):
    """The best value of another metric is of another epoch than the file of the weights."""
    request = StudyRequest(["train.yaml"], {}, {"lr": [1, 2]}, {}, [], None, metric, "minimize", False, "")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.pt").touch()
    (tmp_path / "key_metric.csv").write_text("epoch,value,metric\n0,0.5,m\n1,0.25,m\n2,0.75,m\n")
    process = TrialProcess(request, {}, "", Event())
    trial = process._measure(Trial(tmp_path, 0, 0, {}, {}))
    assert (trial.value, trial.epoch, trial.weights) == (0.25, 1, weights)
