"""Runs that end early, go on, or fail: in the same place, with the same events and the same exception."""

import pytest

pytestmark = pytest.mark.slow

VALIDATION = {"_target_": "ValidationHandler", "validator": "@validate#evaluator", "interval": 1}
EVENTS = [
    "started",
    "epoch_started",
    "get_batch_started",
    "get_batch_completed",
    "iteration_started",
    "forward_completed",
    "model_completed",
    "iteration_completed",
    "epoch_completed",
    "completed",
]


def at(event, call, count=None):
    return {"_target_": "zoo_parts.At", "event": event, "call": f"$lambda engine: {call}", "count": count}


def count_of(event):
    return None if event in ("started", "completed") else 2


@pytest.mark.parametrize("event", EVENTS)
def test_terminate(both, event):
    handler = at(event, "engine.terminate()", count_of(event))
    reference = both({"train#extra": [VALIDATION, handler], "epochs": 3})
    assert any(row["event"] == "terminate" for row in reference.rows) or event == "completed"


@pytest.mark.parametrize("event", ["iteration_completed", "epoch_completed"])
def test_terminate_without_completed(both, event):
    reference = both({"train#extra": [at(event, "engine.terminate(skip_completed=True)", 2)], "epochs": 3})
    assert all(row["event"] != "completed" for row in reference.rows)


@pytest.mark.parametrize("event", EVENTS)
def test_terminate_epoch(both, event):
    """Ignite forbids it in ``STARTED`` and ``EPOCH_STARTED``: then both fail alike."""
    forbidden = event in ("started", "epoch_started")
    handlers = [at(event, "engine.terminate_epoch()", count_of(event)), VALIDATION]
    both({"train#extra": handlers, "epochs": 3}, fails=forbidden)


def test_terminate_epoch_without_epoch_completed(both):
    handler = at("iteration_completed", "engine.terminate_epoch(skip_epoch_completed=True)", 2)
    both({"train#extra": [handler, VALIDATION], "epochs": 3})


@pytest.mark.parametrize("event", ["started", "get_batch_completed", "iteration_completed", "epoch_completed"])
@pytest.mark.parametrize("runs", [1, 2])
def test_interrupt(both, event, runs):
    """A run that was interrupted goes on where it stood when it is run again."""
    handler = at(event, "engine.interrupt()", count_of(event))
    states = ["$@train#trainer.run()", "$@train#trainer.state.iteration"] * runs
    reference = both({"train#extra": [VALIDATION, handler], "epochs": 3, "run": states})
    assert any(row["event"] == "interrupt" for row in reference.rows)


@pytest.mark.parametrize("call", ["terminate", "interrupt"])
@pytest.mark.parametrize("event", ["iteration_completed", "epoch_completed"])
def test_validator_stops_the_trainer(both, call, event):
    stop = at(event, f"engine.{call}()", 2)
    run = ["$@stop.set_trainer(@train#trainer)", "$@train#trainer.run()", "$@train#trainer.state.epoch"]
    both({"stop": stop, "validate#extra": ["@stop"], "epochs": 4, "run": run})


@pytest.mark.parametrize("event", ["started", "iteration_started", "iteration_completed", "epoch_completed"])
def test_validation_is_stopped_and_training_goes_on(both, event):
    handler = {**at(event, "engine.terminate()"), "count": 1 if count_of(event) else None}
    both({"validate#extra": [handler]})


@pytest.mark.parametrize("section", ["train", "validate"])
@pytest.mark.parametrize("level", [True, False], ids=["epoch", "iteration"])
def test_early_stop(both, section, level):
    stop = {
        "_target_": "EarlyStopHandler",
        "patience": 1,
        "score_function": "$lambda engine: -engine.state.epoch",
        "epoch_level": level,
    }
    handlers = [VALIDATION, "@stop"] if section == "train" else ["@stop"]
    run = ["$@stop.set_trainer(@train#trainer)", "$@train#trainer.run()", "$@train#trainer.state.epoch"]
    reference = both({"stop": stop, f"{section}#extra": handlers, "epochs": 5, "run": run})
    assert reference.rows[-1]["state"]["epoch"] < "5"


def test_early_stop_by_loss_and_metric(both):
    by_loss = {
        "_target_": "EarlyStopHandler",
        "patience": 1,
        "score_function": "$lambda engine: -engine.state.output[0]['loss']",
    }
    by_metric = {
        "_target_": "EarlyStopHandler",
        "patience": 2,
        "score_function": "$monai.handlers.stopping_fn_from_metric('val_dice')",
    }
    run = ["$@one.set_trainer(@train#trainer)", "$@two.set_trainer(@train#trainer)", "$@train#trainer.run()"]
    handlers = {"train#extra": [VALIDATION, "@one"], "validate#extra": ["@two"]}
    both({"one": by_loss, "two": by_metric, **handlers, "epochs": 4, "run": run})


FAILURES = [
    pytest.param({"network_def#fails_at": 4}, id="in a training step"),
    pytest.param({"network_def#fails_at": 1}, id="in the first step"),
    pytest.param({"network_def#fails_at": 5}, id="in a validation step"),
    pytest.param({"train#dataset#data": "$zoo_parts.Failing(5, 3)"}, id="in the training data"),
    pytest.param({"validate#dataset#data": "$zoo_parts.Failing(3, 2)"}, id="in the validation data"),
    *(
        pytest.param({"train#extra": [VALIDATION, at(event, "1 / 0", count_of(event))]}, id=f"in a handler at {event}")
        for event in EVENTS
    ),
    pytest.param({"validate#extra": [at("iteration_completed", "1 / 0", 1)]}, id="in a handler of the validator"),
    pytest.param({"train#trainer#postprocessing": "$lambda data: 1 / 0"}, id="in postprocessing"),
]


@pytest.mark.parametrize("changes", FAILURES)
@pytest.mark.parametrize("swallow", [False, True], ids=["raised", "ended by a handler"])
def test_exception(both, changes, swallow):
    reference = both({**changes, "recorder#swallow": swallow}, fails=None if swallow else True)
    assert any(row["event"] == "exception_raised" for row in reference.rows)


def test_exception_with_no_handler_for_it(both):
    reference = both(
        {"train#handlers": "$@train#extra", "validate#handlers": [], "network_def#fails_at": 4}, fails=True
    )
    assert reference.error == "ArithmeticError: call 4 fails"


def test_a_run_after_one_that_failed(both):
    run = ["$@train#trainer.run()", "$setattr(@network_def, 'fails_at', 0)", "$@train#trainer.run()"]
    both({"network_def#fails_at": 4, "recorder#swallow": True, "run": run})


def test_training_mode_of_the_network_after_a_run(both):
    both({"run": ["$@train#trainer.run()", "$@network.training", "$[p.requires_grad for p in @network.parameters()]"]})
