"""What a trial of a study leaves, beside a run that is none."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from monai_lighter import ModelWeights, Workflow
from monai_lighter.callbacks.trial_record import DIRECTION_VARIABLE, METRIC_VARIABLE, TRIAL_VARIABLE, TrialRecord
from monai_lighter.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))
from tiny_bundle import CONFIG, write_bundle

pytestmark = pytest.mark.slow


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def fit(tmp_path, monkeypatch):
    """Fits the tiny bundle, as a trial in ``tmp_path/trial`` or as none; gives the folder of its weights."""
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path)
    (tmp_path / "trial").mkdir()

    def run(trial=True, config=CONFIG, metric="", direction="", **override):
        (tmp_path / "configs" / "train.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        folder = tmp_path / ("trial" if trial else "plain")
        with monkeypatch.context() as patch:
            if trial:
                patch.setenv(TRIAL_VARIABLE, str(folder))
                patch.setenv(METRIC_VARIABLE, metric)
                patch.setenv(DIRECTION_VARIABLE, direction)
            override = {"trainer::default_root_dir": str(folder), "trainer::enable_progress_bar": False, **override}
            workflow = Workflow("configs/train.yaml", run_id="fit", **override)
            workflow.initialize()
            workflow.run()
            workflow.finalize()
        return folder

    return run


def test_a_trial_has_the_weights_of_the_run_that_is_none_and_the_cases_of_a_validation_with_them(fit):
    trial, plain = fit(max_epochs=4), fit(trial=False, max_epochs=4)
    own, other = (torch.load(folder / "models" / "model.pt", weights_only=True) for folder in (trial, plain))
    assert all(torch.equal(own[name], other[name]) for name in own)
    best = json.loads((trial / "best.json").read_text())
    rows = read(trial / "key_metric.csv")
    assert {row["metric"] for row in rows} == {"val/metrics/dice/epoch"}
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2, 3]
    values = [float(row["value"]) for row in rows]
    assert (best["value"], best["epoch"], best["weights"]) == (
        max(values),
        values.index(max(values)),
        "models/model.pt",
    )
    config = {
        **CONFIG,
        "system": {
            **CONFIG["system"],
            "model": {
                "_target_": "monai_lighter.load_weights",
                "model": "@network",
                "ckpt_path": str(trial / best["weights"]),
            },
        },
        "trainer": {
            "callbacks": [{"_target_": "monai_lighter.CaseMetrics", "path": "validated.csv"}],
            "accelerator": "cpu",
        },
    }
    Path("configs/validate.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    workflow = Workflow("configs/validate.yaml", run_id="validate")
    workflow.initialize()
    workflow.run()
    assert read("validated.csv") == read(trial / "cases.csv")
    assert not (trial / "cases_now.csv").exists()
    assert yaml.safe_load((trial / "config.yaml").read_text())["max_epochs"] == 4
    assert best["value"] == pytest.approx(sum(float(row["value"]) for row in read("validated.csv")) / 4)


def test_one_that_goes_on_keeps_what_it_had(fit):
    whole = fit(max_epochs=4)
    kept = {name: (whole / name).read_text() for name in ("key_metric.csv", "cases.csv", "best.json")}
    for name in kept:
        (whole / name).unlink()
    for folder in ("models", "lightning_logs"):
        (whole / folder).rename(whole / f"before_{folder}")
    fit(max_epochs=2)
    fit(max_epochs=4, resume="auto")
    assert {name: (whole / name).read_text() for name in kept} == kept
    fit(max_epochs=4, resume="auto")  # which has nothing left to do
    assert {name: (whole / name).read_text() for name in kept} == kept


def test_another_metric_is_read_at_the_epoch_of_the_best_weights(fit):
    trial = fit(metric="val/loss/epoch", max_epochs=3)
    best = json.loads((trial / "best.json").read_text())
    values = {int(row["epoch"]): float(row["value"]) for row in read(trial / "key_metric.csv")}
    assert (best["metric"], best["value"]) == ("val/loss/epoch", values[best["epoch"]])


def test_a_metric_that_is_not_logged_or_of_training_is_an_error(fit):
    with pytest.raises(ConfigError, match=r"metric: must be the name of a logged value, got 'val/metrics/dise/epoch'"):
        fit(metric="val/metrics/dise/epoch")
    with pytest.raises(ConfigError, match=r"must be one of validation, got 'train/loss/epoch'"):
        fit(metric="train/loss/epoch")


def test_weights_that_are_chosen_the_other_way_round_are_an_error(fit):
    """The trial's value would be that of its worst epoch."""
    weights = {"_target_": "monai_lighter.ModelWeights", "monitor": "val/metrics/dice/epoch"}
    config = {**CONFIG, "trainer": {**CONFIG["trainer"], "callbacks": [weights]}}
    with pytest.raises(ConfigError, match=r"direction: of the study is minimize, and ModelWeights keeps .* the max of"):
        fit(config=config, direction="minimize")
    fit(config=config, direction="maximize", max_epochs=1)
    fit(config=config, direction="minimize", metric="val/loss/epoch", max_epochs=1)


NAMELESS = "$[{'image': torch.rand(1, 16, 16), 'label': torch.ones(1, 16, 16)} for _ in range(4)]"
CROPS = {"_target_": "RandSpatialCropSamplesd", "keys": ["image", "label"], "roi_size": [8, 8], "num_samples": 2}


@pytest.mark.parametrize(
    ("dataset", "more"),
    [
        ({"data": NAMELESS}, {}),
        ({"data": NAMELESS}, {"on_bad_case": "skip"}),
        (
            {"data": "$@folds.val", "transform": {"_target_": "Compose", "transforms": ["@load", CROPS]}},
            {},
        ),
    ],
    ids=["without names", "numbered where bad ones are skipped", "several of an image"],
)
def test_cases_without_names_of_their_own_have_no_table(dataset, more, fit):
    """Those of two folds would be taken for one another."""
    loader = {"_target_": "DataLoader", "batch_size": 1, "dataset": {"_target_": "Dataset", **dataset}}
    system = {**CONFIG["system"], **more, "dataloaders": {**CONFIG["system"]["dataloaders"], "val": loader}}
    trial = fit(config={**CONFIG, "imports": ["$import glob", "$import torch"], "system": system})
    assert not list(trial.glob("cases*.csv"))
    assert (trial / "best.json").is_file()


def test_what_is_best_is_noted_before_a_checkpoint_knows_of_it(tmp_path):
    """A trial that is killed between both would go on with the value and the cases of the best epoch before."""
    record, weights, checkpoint = TrialRecord(tmp_path), ModelWeights(), ModelCheckpoint(tmp_path)
    trainer = Trainer(callbacks=[checkpoint], logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.callbacks += [record, weights]
    record.setup(trainer, None, "fit")
    assert trainer.callbacks[-3:] == [weights, record, checkpoint]
