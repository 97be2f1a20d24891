"""Validation, schedulers and metrics: what handlers see under Lightning is what they see under Ignite."""

import pytest

pytestmark = pytest.mark.slow

VALIDATION = {"_target_": "ValidationHandler", "validator": "@validate#evaluator", "interval": 1}
STEP = {"_target_": "torch.optim.lr_scheduler.StepLR", "optimizer": "@optimizer", "step_size": 1, "gamma": 0.5}
PLATEAU = {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "optimizer": "@optimizer", "patience": 0}
SCHEDULE = {"_target_": "LrScheduleHandler", "lr_scheduler": "@scheduler", "print_lr": False}
PAIR = "$monai.handlers.from_engine(['pred', 'label'])"


@pytest.mark.parametrize(
    "handlers",
    [
        pytest.param([], id="none"),
        pytest.param([VALIDATION], id="every epoch"),
        pytest.param([{**VALIDATION, "interval": 2}], id="every second epoch"),
        pytest.param([{**VALIDATION, "epoch_level": False, "interval": 2}], id="every second iteration"),
        pytest.param([{**VALIDATION, "exec_at_start": True}], id="at the start"),
        pytest.param(
            [{**VALIDATION, "epoch_level": False, "exec_at_start": True}], id="at the start and every iteration"
        ),
        pytest.param([VALIDATION, {**VALIDATION, "epoch_level": False, "interval": 3}], id="by two handlers"),
    ],
)
def test_validation(both, handlers):
    reference = both({"train#extra": handlers, "epochs": 3})
    assert {row["engine"] for row in reference.rows} == ({"trainer", "evaluator"} if handlers else {"trainer"})
    assert reference.error is None


@pytest.mark.parametrize("level", [True, False], ids=["epoch", "iteration"])
@pytest.mark.parametrize("first", [True, False], ids=["before validation", "after validation"])
def test_scheduler(both, level, first):
    handlers = [{**SCHEDULE, "epoch_level": level}, VALIDATION]
    both({"scheduler": STEP, "train#extra": handlers if first else handlers[::-1]})


@pytest.mark.parametrize("engine", ["train", "validate"])
def test_scheduler_by_metric(both, engine):
    name, of = ("train_accuracy", "train#extra") if engine == "train" else ("val_dice", "validate#extra")
    handler = {**SCHEDULE, "step_transform": f"$lambda engine: engine.state.metrics['{name}']"}
    handlers = [VALIDATION, handler] if engine == "train" else [handler]
    both({"scheduler": PLATEAU, of: handlers, "epochs": 4})


def test_scheduler_reads_the_validators_metric(both):
    transform = "$lambda engine: @validate#evaluator.state.metrics['val_dice']"
    both({"scheduler": PLATEAU, "train#extra": [VALIDATION, {**SCHEDULE, "step_transform": transform}], "epochs": 3})


def test_metrics_of_monai_and_ignite(both):
    reference = both(
        {
            "train#trainer#additional_metrics": {
                "dice": {"_target_": "MeanDice", "output_transform": PAIR},
                "loss": {
                    "_target_": "ignite.metrics.RunningAverage",
                    "output_transform": "$monai.handlers.from_engine('loss', first=True)",
                },
            },
            "validate#additional_metrics": {
                "accuracy": {"_target_": "ignite.metrics.Accuracy", "output_transform": PAIR},
                "error": {"_target_": "MeanSquaredError", "output_transform": PAIR, "save_details": True},
            },
        }
    )
    ends = [row for row in reference.rows if row["engine"] == "trainer" and row["event"] == "epoch_completed"]
    assert {"train_accuracy", "dice", "loss"} <= set(ends[-1]["state"]["metrics"])


def test_no_metrics_at_all(both):
    both({"train#trainer#key_train_metric": None, "validate#evaluator#key_val_metric": None})


def test_smaller_is_better(both):
    both(
        {
            "epochs": 3,
            "validate#evaluator#metric_cmp_fn": "$lambda now, best: now < best",
            "validate#key_metric": {"error": {"_target_": "MeanSquaredError", "output_transform": PAIR}},
        }
    )


def test_metric_that_is_no_scalar_is_not_compared(both):
    metric = {"_target_": "MeanDice", "output_transform": PAIR, "reduction": "none"}
    both({"validate#key_metric": {"val_dice": metric}})
