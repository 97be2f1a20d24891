"""``fit``, ``validate``, ``test`` and ``predict``, in this process but for what is of processes."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml

from monai_lighter import ConfigError
from monai_lighter.commands.main import main
from monai_lighter.config.stages import find_engine_kinds
from monai_lighter.errors import BundleError

ENGINES = """
width: 3
train: {trainer: {_target_: SupervisedTrainer, max_epochs: 1}}
validate: {evaluator: {_target_: SupervisedEvaluator}}
run: ["$@%s.run()"]
"""


@pytest.fixture
def command(monkeypatch, bundle):
    """Runs ``monai-lighter ARGUMENTS`` in a bundle and in this process; gives the exit code."""
    monkeypatch.chdir(bundle)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["monai-lighter", *map(str, arguments)])
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    return run


@pytest.mark.slow
def test_a_fit_and_a_prediction_as_the_long_command_has_them(command, bundle):
    (bundle / "configs" / "more.yaml").write_text("trainer#limit_val_batches: 1\n")
    line = (
        "configs/train.yaml",
        "configs/more.yaml",
        "trainer::limit_train_batches=1",
        "--system::optimizer::lr",
        "0.5",
    )
    assert command("fit", *line, "--trainer::logger", "None", "--seed=3") == 0
    first = torch.load(bundle / "models" / "model.pt", weights_only=True)
    (bundle / "models" / "model.pt").unlink()
    arguments = {
        "config_file": ["configs/train.yaml", "configs/more.yaml"],
        "trainer::limit_train_batches": 1,
        "seed": 3,
    }
    (bundle / "args.json").write_text(json.dumps({**arguments, "system::optimizer::lr": 7}))
    assert command("fit", "--args_file", "args.json", "--system::optimizer::lr", "0.5") == 0
    second = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert command("predict", "configs/inference.yaml", "--meta_file", "configs/metadata.json") == 0
    assert len([*(bundle / "eval").glob("*.nii.gz")]) == 2


def test_what_is_wrong_in_the_config_ends_it(command):
    with pytest.raises(ConfigError) as caught:
        command("fit", "configs/train.yaml", "--learning_rat", 1, "trainer.max_epochs=2", "--trainer::max_epoch", 2)
    assert [finding.id for finding in caught.value.findings] == [
        "trainer::max_epoch",
        "learning_rat",
        "trainer.max_epochs",
    ]
    with pytest.raises(ConfigError, match="trust: must be all, declarative or"):
        command("fit", "configs/train.yaml", "--trust", "non")


def test_trust_that_a_file_of_arguments_gives_is_refused(command, bundle):
    (bundle / "args.json").write_text('{"config_file": "configs/train.yaml", "trust": "all"}')
    with pytest.raises(ConfigError, match="must be given on the command line"):
        command("fit", "--args_file", "args.json")


def test_an_item_may_be_run_instead(command, bundle, capsys):
    assert command("fit", "configs/train.yaml", "--run_id", "hello", "hello=$print('hello ' + str(@max_epochs))") == 0
    assert "hello 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stage", "engine", "hint"),
    [("predict", "train::trainer", "Use fit"), ("fit", "validate#evaluator", "Use validate, test or predict")],
)
def test_engines_that_do_something_else(command, bundle, stage, engine, hint):
    (bundle / "configs" / "engines.yaml").write_text(ENGINES % engine)
    with pytest.raises(ConfigError, match=f"run: of configs/engines.yaml .* which '{stage}' does not. {hint}"):
        command(stage, "configs/engines.yaml")


def test_a_config_of_engines_runs_its_run(command, bundle, capsys):
    (bundle / "configs" / "engines.yaml").write_text("width: 3\nrun: $print(@width + 1)\n")
    assert command("fit", "configs/engines.yaml", "width=5") == 0
    assert "6" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("engine", "kinds"), [("train::trainer", {"Trainer"}), ("validate#evaluator", {"Evaluator"}), ("x", set())]
)
def test_kinds_of_engines(engine, kinds):
    assert find_engine_kinds(yaml.safe_load(ENGINES % engine), "run") == kinds


@pytest.mark.slow
def test_an_interrupt_ends_a_fit_with_130_and_no_traceback(bundle, tmp_path):
    line = [sys.executable, "-m", "monai_lighter", "fit", "configs/train.yaml", "--max_epochs", "100000"]
    with open(tmp_path / "err", "w") as errors:
        process = subprocess.Popen(
            line, cwd=bundle, stdout=subprocess.DEVNULL, stderr=errors, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        while not (bundle / "models" / "model.pt").is_file() and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
    assert "Traceback" not in (tmp_path / "err").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Dataset", "CacheDataset"])
def test_a_case_that_cannot_be_read(command, bundle, capfd, caplog, kind):
    """It ends the run with its name, or is left out, listed, said, and told by the exit code; the rest is as without it."""
    without = ["--data", "$[{'image': f, 'label': f.replace('image', 'label')} for f in @files[:2] + @files[3:]]"]
    line = [
        *("configs/train.yaml", "--trainer::logger", "true", "--seed", "1"),
        *("--system::dataloaders::val::dataset::_target_", kind),
        *("--system::dataloaders::val::dataset::data", "$@data"),
    ]
    assert command("validate", *line, *without) == 0
    expected = capfd.readouterr().out
    bad = bundle / "data" / "image_2.nii.gz"
    bad.write_bytes(bad.read_bytes()[:50])
    with pytest.raises(BundleError, match=str(bad)):
        command("validate", *line)
    capfd.readouterr()
    assert command("validate", *line, "--system::on_bad_case", "skip") == 3
    out = capfd.readouterr().out
    assert out.partition("metric")[2] == expected.partition("metric")[2] != ""
    (table,) = bundle.glob("lightning_logs/*/bad_cases_validate.csv")
    assert f"1 of 6 cases was left out: {table}" in caplog.text
    with open(table, newline="") as file:
        (row,) = csv.DictReader(file)
    assert str(bad) in row["case"]
    assert (row["transform"], row["mode"]) == ("LoadImaged", "val")


@pytest.mark.slow
def test_the_exit_code_of_the_long_command(bundle, monai_bundle):
    bad = bundle / "data" / "image_5.nii.gz"
    bad.unlink()
    line = (
        "run",
        "validate",
        "--workflow",
        "monai_lighter.Workflow",
        "--config_file",
        bundle / "configs" / "train.yaml",
    )
    data = "$[{'image': f, 'label': f.replace('image', 'label')} for f in [*@files, @dataset_dir + '/image_5.nii.gz']]"
    ended = monai_bundle(*line, "--data", data, "--system::on_bad_case", "skip", "--quiet")
    assert ended.returncode == 3, ended.stderr
    assert f"1 of 2 cases was left out: {bundle / 'bad_cases_validate.csv'}" in ended.stdout + ended.stderr
