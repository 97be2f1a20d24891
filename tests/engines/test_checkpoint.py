"""A run that goes on from a checkpoint of Lightning ends as the run that was not stopped, bit for bit."""

import pytest
import torch
from test_trace_own_iteration import gan
from test_trace_run_lists import VALIDATION
from zoo import clear, differences, run_bundle, write_bundle

pytestmark = pytest.mark.slow

CHECKPOINT = {
    "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
    "dirpath": "kept",
    "filename": "{step}",
    "auto_insert_metric_name": False,
    "save_top_k": -1,
}


def schedule(name, level=True, **arguments):
    scheduler = {"_target_": f"torch.optim.lr_scheduler.{name}", "optimizer": "@optimizer", **arguments}
    return {"_target_": "LrScheduleHandler", "lr_scheduler": scheduler, "print_lr": False, "epoch_level": level}


ACCURACY = {"step_transform": "$lambda engine: engine.state.metrics['train_accuracy']"}
PLATEAU = {**schedule("ReduceLROnPlateau", patience=0), **ACCURACY}
EARLY = {"_target_": "EarlyStopHandler", "patience": 1, "score_function": "$lambda engine: -engine.state.epoch"}
STOP = {"stop": EARLY, "run": ["$@stop.set_trainer(@train#trainer)", "$@train#trainer.run()"]}


@pytest.fixture
def resumed(root):
    """Outcome of a whole run, and of one that went on from a checkpoint of it with other random numbers before.

    Rows are those since the checkpoint.
    """

    def run(step, changes, iteration=None, **checkpoint):
        clear(root)
        write_bundle(root, changes)
        whole = run_bundle(root, "lightning", **{"lightning::callbacks": {**CHECKPOINT, **checkpoint}})
        write_bundle(root, {**changes, "initialize": ["$monai.utils.set_determinism(seed=5)"]})
        rest = run_bundle(root, "lightning", **{"lightning::ckpt_path": f"kept/{step}.ckpt"})
        for outcome in (whole, rest):
            assert outcome.error is None
            outcome.files = {}
            outcome.rows = since(outcome.rows, iteration or step)
        return whole, rest

    return run


def since(rows, step):
    """The ends of iterations and epochs after one; before, a run that goes on has no batch and no gradients yet."""
    first = next(
        i for i, row in enumerate(rows) if row["engine"] == "trainer" and int(row["state"]["iteration"]) > step
    )
    trainers = [row for row in rows[first:] if row["engine"] == "trainer"]
    ends = [row for row in trainers if row["event"] in ("iteration_completed", "epoch_completed", "completed")]
    validations = [row for row in rows[first:] if (row["engine"], row["event"]) == ("evaluator", "completed")]
    return ends + validations


RUNS = [
    pytest.param(6, {"train#extra": [schedule("CosineAnnealingLR", T_max=4), VALIDATION]}, id="schedule"),
    pytest.param(6, {"train#extra": [PLATEAU, VALIDATION]}, id="plateau"),
    pytest.param(3, {"train#extra": [VALIDATION, "@stop"], **STOP}, id="early stop"),
    pytest.param(6, {"train#dataloader#num_workers": 1}, id="worker"),
    pytest.param(6, {"train#dataloader#batch_size": 1, "train#trainer#accumulation_steps": 2}, id="accumulation"),
    pytest.param(4, {"train#trainer#epoch_length": 2}, id="epochs shorter than the loader"),
    pytest.param(5, {"train#trainer#epoch_length": 5}, id="epochs longer than the loader"),
    pytest.param(6, {"train#dataset#_target_": "CacheDataset", "train#dataset#progress": False}, id="cached"),
    pytest.param(6, {"optimizer": {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": 0.1,
                                   "momentum": 0.9}}, id="momentum"),
    pytest.param(6, {"train#dataloader": {"_target_": "torch.utils.data.DataLoader", "batch_size": 2, "dataset":
                     {"_target_": "zoo_parts.Stream", "count": 5}, "collate_fn": "$monai.data.list_data_collate"},
                     "train#dataset": None}, id="no length"),
    pytest.param(6, gan(), id="own iteration"),
]  # fmt: skip


@pytest.mark.parametrize(("step", "changes"), RUNS)
def test_from_the_end_of_an_epoch(resumed, step, changes):
    accumulates = "train#trainer#accumulation_steps" in changes
    whole, rest = resumed(step, {"epochs": 4, **changes}, iteration=10 if accumulates else None)
    assert len(whole.rows) > 4
    assert differences(whole, rest) == []


@pytest.mark.parametrize(("step", "length"), [(1, None), (4, None), (3, 2), (3, 5), (7, 5)])
def test_from_within_an_epoch(resumed, step, length):
    """Metrics over the epoch are begun anew, as they are when Ignite goes on."""
    schedules = [schedule("StepLR", level=False, step_size=2, gamma=0.5), VALIDATION]
    changes = {"epochs": 3, "train#trainer#epoch_length": length, "train#key_metric": None, "train#extra": schedules}
    whole, rest = resumed(step, changes, every_n_train_steps=1)
    assert differences(whole, rest) == []


def test_after_validation_within_an_epoch(resumed):
    often = {**VALIDATION, "epoch_level": False, "interval": 2}
    whole, rest = resumed(4, {"epochs": 3, "train#key_metric": None, "train#extra": [often]}, every_n_train_steps=1)
    assert differences(whole, rest) == []


def test_for_more_epochs(root):
    clear(root)
    write_bundle(root, {"epochs": 4})
    whole = run_bundle(root, "lightning")
    write_bundle(root, {"epochs": 2})
    run_bundle(root, "lightning", **{"lightning::callbacks": CHECKPOINT})
    rest = run_bundle(root, "lightning", **{"lightning::ckpt_path": "kept/6.ckpt", "lightning::max_epochs": 4})
    assert rest.rows[-1]["state"]["epoch"] == "4"
    assert rest.parts == whole.parts
    assert rest.random == whole.random


def test_the_best_metric_is_kept(resumed):
    whole, rest = resumed(6, {"epochs": 4, "train#trainer#metric_cmp_fn": "$lambda now, best: now <= best"})
    best = [(row["state"]["best_metric"], row["state"]["best_metric_epoch"]) for row in whole.rows]
    assert [(row["state"]["best_metric"], row["state"]["best_metric_epoch"]) for row in rest.rows] == best


def test_weights_that_a_handler_loads_are_those_of_the_checkpoint_after_all(resumed):
    """A bundle's CheckpointLoader begins a run at other weights; the checkpoint is what comes later."""
    load = {
        "_target_": "zoo_parts.At",
        "event": "started",
        "call": "$lambda engine: engine.network.norm.weight.data.zero_()",
    }
    whole, rest = resumed(6, {"epochs": 4, "train#extra": [load, VALIDATION]})
    assert rest.parts == whole.parts


def test_a_checkpoint_is_plain_values(root):
    """So that Lightning reads it with ``weights_only``, and its weights are those of the network."""
    clear(root)
    write_bundle(root, {"train#extra": [schedule("CosineAnnealingLR", T_max=4), VALIDATION]})
    run_bundle(root, "lightning", **{"lightning::callbacks": CHECKPOINT})
    kept = torch.load(root / "kept" / "6.ckpt", weights_only=True)
    assert {name.partition(".")[0] for name in kept["state_dict"]} == {"model"}
    assert kept["engine"]["engines"][0]["iteration"] == 6


def test_a_checkpoint_that_is_not_there(root):
    clear(root)
    write_bundle(root, {})
    outcome = run_bundle(root, "lightning", **{"lightning::ckpt_path": "kept/6.ckpt"})
    assert "kept/6.ckpt" in outcome.error
