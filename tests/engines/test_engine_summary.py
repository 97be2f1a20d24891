import csv
import re

import numpy as np
import pytest
from zoo import run_bundle, write_bundle

pytestmark = pytest.mark.slow

SAVER = {
    "_target_": "CheckpointSaver",
    "save_dir": "$@output_dir",
    "save_dict": "$dict(model=@network)",
    "save_key_metric": True,
    "key_metric_filename": "model.pt",
}
CHANGES = {"validate#extra": [SAVER]}
BATCHES = (2, 2, 1)
"""Cases in the batches of an epoch."""


def summary(root, capsys, changes, **keywords):
    write_bundle(root, changes)
    outcome = run_bundle(root, "lightning", **keywords)
    return outcome, [line for line in capsys.readouterr().out.splitlines() if line]


def test_a_training_says_why_it_ended_the_best_and_its_weights(root, capsys):
    outcome, text = summary(root, capsys, CHANGES)
    start = next(i for i, line in enumerate(text) if line.startswith("train::trainer: "))
    assert re.fullmatch(r"train::trainer: 2 epochs, 6 iterations in .* s", text[start])
    told = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in text[start + 1 :]]
    assert told[0] == ["ended by", "max_epochs = 2"]
    assert re.fullmatch(r"val_dice = 0\.\d{4} in epoch [12]", told[1][1])
    assert ["weights", "out/model.pt"] in told
    assert outcome.error is None


def test_an_evaluation_has_a_table(root, capsys):
    write_bundle(root, {"run": ["$@validate#evaluator.run()"]})
    outcome = run_bundle(root, "lightning")
    text = capsys.readouterr().out.splitlines()
    row = next(line.split() for line in text if line.startswith("val_dice"))
    assert row[-1] == "3"
    assert 0 <= float(row[2]) <= 1
    assert outcome.error is None


def test_one_that_is_not_wanted_or_fails(root, capsys):
    _, text = summary(root, capsys, {**CHANGES, "run_summary": False})
    assert not [line for line in text if line.startswith("train::trainer")]
    outcome, text = summary(root, capsys, {"train#extra": ["$lambda engine: 1 / 0"]})
    assert outcome.error is not None


def test_the_loss_is_logged_over_the_epoch(root, tmp_path):
    logger = {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": str(tmp_path / "logs")}
    write_bundle(root, {"lightning": {"logger": logger, "log_every_n_steps": 1}})
    assert run_bundle(root, "lightning").error is None
    (file,) = (tmp_path / "logs").rglob("metrics.csv")
    with open(file, newline="") as table:
        rows = [*csv.DictReader(table)]
    for epoch in ("0", "1"):
        own = [row for row in rows if row["epoch"] == epoch]
        steps = [float(row["train/loss/step"]) for row in own if row["train/loss/step"]]
        (whole,) = [float(row["train/loss/epoch"]) for row in own if row["train/loss/epoch"]]
        assert whole == pytest.approx(np.average(steps, weights=BATCHES), rel=1e-5)
