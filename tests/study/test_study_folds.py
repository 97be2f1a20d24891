"""The script that shows studies that are killed, in short, and what a command of a study prints."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from monai_lighter.commands.main import main
from monai_lighter.study.study_folder import COMPLETE, FAILED, read_study

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "scripts" / "study_folds.py"


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs ``monai-lighter study`` in this process, its trials in theirs; gives exit code and output."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["monai-lighter", "study", "configs/train.yaml", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().out

    return run


@pytest.mark.parametrize("part", ["folds", "search"])
def test_folds_and_a_search_that_are_killed_come_to_what_a_loop_comes_to(part, tmp_path):
    runpy.run_path(str(SCRIPT))["main"](["--short", "--only", part, "--work", str(tmp_path / "work")])


def test_a_trial_that_fails_is_told_and_the_others_run_and_it_is_run_again_when_asked_for(command, bundle):
    words = ("--width", "4,8", "--name", "widths", "--max_epochs", "1", "--n_jobs", "2")
    label = bundle / "data" / "label_03.nii.gz"
    kept = label.read_bytes()
    label.write_bytes(b"none")
    code, output = command(*words)
    assert code == 1
    assert "trial 000 failed with exit code 1" in output
    assert "label_03.nii.gz" in output
    study = read_study("studies/widths")
    assert [trial.state for trial in study.trials] == [FAILED, FAILED]
    assert study.best is None
    label.write_bytes(kept)
    assert command(*words)[0] == 1  # as before: nothing is run
    assert [trial.attempts for trial in read_study("studies/widths").trials] == [1, 1]
    code, output = command(*words, "--retry_failed", "--json")
    assert code == 0
    found = json.loads(output)
    assert found["states"] == {"complete": 2}
    assert found["metric"] == "val/metrics/dice/epoch"
    assert [trial.attempts for trial in read_study("studies/widths").trials] == [2, 2]


def test_workers_of_submitit_run_each_trial_once(command, bundle):
    pytest.importorskip("submitit")
    words = ("--fold", "0,1", "--name", "folds", "--max_epochs", "1", "--cluster", "local", "--n_jobs", "2")
    code, output = command(*words, "--cluster_options", "{'timeout_min': 10}")
    assert code == 0, output
    study = read_study("studies/folds")
    assert [(trial.state, trial.attempts) for trial in study.trials] == [(COMPLETE, 1)] * 2
    assert study.out_of_fold_path.is_file()
