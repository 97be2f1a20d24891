"""What takes label maps for scores is told before a run."""

import pytest
from monai.bundle import ConfigParser

from monai_lighter import Workflow
from monai_lighter.workflow.check_config import Check
from monai_lighter.workflow.prepare import Asked

LABELS = {"_target_": "monai_lighter.SlidingWindowLabelInferer", "roi_size": [16, 16]}
SCORES = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16]}
INFERER, AFTER = "system::inferer", "system::postprocessing::val"
ONE_HOT = {"_target_": "AsDiscreted", "keys": ["pred", "label"], "to_onehot": 2}


def errors(bundle, stage="validate", **override):
    return [str(error) for error in Check(str(bundle / "configs" / "train.yaml"), override, Asked(run_id=stage)).errors]


def ids(found):
    return [one.partition(": ")[0] for one in found]


def test_the_largest_channel_of_a_label_map(bundle):
    (found,) = errors(bundle, **{INFERER: LABELS})
    assert found.startswith(f"{AFTER}::argmax: takes the largest channel, and the inferer gives label maps already")
    assert not errors(bundle, **{INFERER: LABELS, AFTER: ONE_HOT})
    assert not errors(bundle, **{INFERER: {"val": LABELS, "test": SCORES}, AFTER: ONE_HOT})
    assert not errors(bundle, **{INFERER: {"val": SCORES, "predict": LABELS}})


@pytest.mark.parametrize(
    ("transform", "wrong"),
    [
        ({"_target_": "AsDiscreted", "keys": "pred", "argmax": True}, "argmax"),
        ({"_target_": "AsDiscreted", "keys": "label", "argmax": True}, None),
        ({"_target_": "AsDiscreted", "keys": ["label", "pred"], "argmax": [True, False]}, None),
        ({"_target_": "AsDiscreted", "keys": ["label", "pred"], "argmax": [False, True]}, "argmax"),
        ({"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}, "threshold"),
        ({"_target_": "Activationsd", "keys": "pred", "softmax": True}, "softmax"),
        ({"_target_": "Activationsd", "keys": "pred", "sigmoid": True}, "sigmoid"),
        ({"_target_": "Activationsd", "keys": "pred", "sigmoid": True, "_disabled_": True}, None),
        ({"_target_": "Invertd", "keys": "pred", "transform": None, "nearest_interp": False}, "nearest_interp"),
        ({"_target_": "Invertd", "keys": "pred", "transform": None}, None),
        ({"_target_": "KeepLargestConnectedComponentd", "keys": "pred"}, None),
    ],
)
def test_transforms_for_scores_wherever_they_are_named(bundle, transform, wrong):
    whole = {"_target_": "Compose", "transforms": "$@more + []"}
    found = errors(bundle, **{INFERER: LABELS, AFTER: whole, "more": [ONE_HOT, transform]})
    assert [id.rpartition("::")[2] for id in ids(found)] == ([wrong] if wrong else [])
    assert not errors(bundle, **{AFTER: whole, "more": [ONE_HOT, transform]})


def test_channels_of_0_and_1_may_be_compared_with_a_threshold(bundle):
    after = {AFTER: {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}}
    assert not errors(bundle, **{INFERER: {**LABELS, "threshold": 0.5}}, **after)
    wrong = {AFTER: {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}}
    assert ids(errors(bundle, **{INFERER: {**LABELS, "threshold": 0.5}}, **wrong)) == [f"{AFTER}::sigmoid"]


def test_training(bundle):
    (found,) = errors(bundle, "fit", **{INFERER: {"train": LABELS}})
    assert found.startswith(f"{INFERER}::train: gives label maps, of which there is no gradient")


def test_a_fit_has_no_loss_of_validation(bundle):
    labels = {INFERER: LABELS, AFTER: ONE_HOT}
    stop = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val/loss/epoch"}
    (found,) = errors(bundle, "fit", **labels, **{"trainer::callbacks": [stop]})
    assert found.startswith("trainer::callbacks::0::monitor: must be the name of a logged value")
    assert not errors(bundle, "fit", **labels)


@pytest.mark.slow
def test_metrics_of_label_maps_are_those_of_scores(bundle, monkeypatch):
    monkeypatch.chdir(bundle)

    def fitted(**override):
        run = Workflow("configs/train.yaml", logging_file=False, **override, seed=0)
        metrics = run.fit()
        return {name: float(value) for name, value in metrics.items() if name.startswith("val/")}

    small = {"roi_size": [8, 8], "overlap": 0.5, "mode": "gaussian"}
    scores = fitted(**{INFERER: {**SCORES, **small}})
    labels = fitted(**{INFERER: {**LABELS, **small}, AFTER: ONE_HOT})
    assert scores.pop("val/loss/epoch") > 0
    assert {name: value for name, value in scores.items() if "loss" not in name} == labels
    assert labels


ENGINE = {
    "network": {
        "_target_": "UNet",
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 2,
        "channels": [4, 8],
        "strides": [2],
    },
    "inferer": LABELS,
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}],
    },
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "device": "cpu",
        "val_data_loader": [],
        "network": "@network",
        "inferer": "@inferer",
        "postprocessing": "@postprocessing",
    },
    "run": ["$@evaluator.run()"],
}


def test_engines(tmp_path):
    (tmp_path / "configs").mkdir()
    file = tmp_path / "configs" / "inference.json"
    ConfigParser.export_config_file(ENGINE, str(file))
    found = [str(error) for error in Check(str(file), {}, Asked(run_id="run")).errors]
    assert ids(found) == ["postprocessing::transforms::0::argmax"]
    short = {**ENGINE, "inferer": {**LABELS, "_target_": "SlidingWindowLabelInferer"}}
    ConfigParser.export_config_file(short, str(file))
    (found,) = (str(error) for error in Check(str(file), {}, Asked(run_id="run")).errors)
    assert "Did you mean 'monai_lighter.SlidingWindowLabelInferer'?" in found


def test_an_engine_that_trains(tmp_path):
    (tmp_path / "configs").mkdir()
    file = tmp_path / "configs" / "train.json"
    trainer = {
        "_target_": "SupervisedTrainer",
        "device": "cpu",
        "max_epochs": 1,
        "train_data_loader": [],
        "network": "@network",
        "optimizer": None,
        "loss_function": {"_target_": "DiceLoss"},
        "inferer": "@inferer",
    }
    ConfigParser.export_config_file({**ENGINE, "trainer": trainer, "run": ["$@trainer.run()"]}, str(file))
    found = [str(error) for error in Check(str(file), {}, Asked(run_id="run")).errors]
    assert ids(found) == ["inferer"]
    assert "there is no gradient" in found[0]


def test_a_flip_inferer_gives_what_is_within_it(bundle):
    flips = {"_target_": "monai_lighter.FlipInferer", "axes": [0, 1], "inferer": LABELS}
    (found,) = errors(bundle, **{INFERER: flips})
    assert found.startswith(f"{AFTER}::argmax: takes the largest channel")
    assert not errors(bundle, **{INFERER: {**flips, "inferer": SCORES}})
    entropy = {"_target_": "monai_lighter.transforms.PredictiveEntropyd", "keys": "pred"}
    (found,) = errors(bundle, **{INFERER: flips, AFTER: {"_target_": "Compose", "transforms": [entropy, ONE_HOT]}})
    assert found.startswith(f"{AFTER}::transforms::0: is of probabilities: the inferer gives label maps")
