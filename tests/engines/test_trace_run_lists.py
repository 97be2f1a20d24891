"""Run lists, several engines and runs, resuming, and code of a bundle that builds engines itself."""

import pytest
from zoo import differences

VALIDATION = {"_target_": "ValidationHandler", "validator": "@validate#evaluator", "interval": 1}
SAVED = "$dict([('network', @network), ('optimizer', @optimizer), ('trainer', @train#trainer)])"
SAVER = {"_target_": "CheckpointSaver", "save_dir": "@output_dir", "save_dict": SAVED, "save_interval": 1}
LOADER = {"_target_": "CheckpointLoader", "load_dict": SAVED}
TRAIN = "$@train#trainer.run()"
VALIDATE = "$@validate#evaluator.run()"

RUNS = [
    pytest.param(
        [VALIDATE, "$@validate#evaluator.state.metrics", "$@validate#evaluator.state.metric_details"], id="metrics"
    ),
    pytest.param([TRAIN, "$@train#trainer.state.best_metric", "$@train#trainer.get_stats('metrics')"], id="statistics"),
    pytest.param([TRAIN, VALIDATE], id="training, then validation"),
    pytest.param([VALIDATE, TRAIN], id="validation, then training"),
    pytest.param([VALIDATE, VALIDATE], id="validation twice"),
    pytest.param([TRAIN, TRAIN], id="training begun anew"),
    pytest.param([TRAIN, "$setattr(@train#trainer.state, 'max_epochs', 4)", TRAIN], id="more epochs"),
    pytest.param(["$@validate#evaluator.run(3)"], id="a later epoch"),
    pytest.param(["$monai.utils.set_determinism(7)", TRAIN], id="determinism first"),
    pytest.param([TRAIN, "$@train#trainer.state_dict()"], id="state dict"),
]


@pytest.mark.slow
@pytest.mark.parametrize("expressions", RUNS)
def test_run_list(both, expressions):
    changes = {"run": expressions, **({"initialize": []} if "determinism" in str(expressions) else {})}
    assert both(changes).error is None


@pytest.mark.parametrize(
    "expressions",
    [["$@network(torch.ones(1, 1, 8, 8)).sum().item()"], ["$1 + 1", "$@epochs"]],
    ids=["network", "numbers"],
)
def test_no_engine_at_all(both, expressions):
    reference = both({"run": expressions})
    assert reference.error is None
    assert not reference.calls


@pytest.mark.slow
def test_two_trainers_after_one_another(both):
    second = {"_target_": "SupervisedTrainer", "device": "@device", "max_epochs": 1, "network": "@network",
              "train_data_loader": "@second#loader", "loss_function": "@loss", "optimizer": "@optimizer",
              "train_handlers": ["@recorder"]}  # fmt: skip
    loader = {"_target_": "DataLoader", "dataset": "$zoo_parts.items(3, seed=5)", "batch_size": 2}
    reference = both({"second": {"loader": loader, "trainer": second}, "run": [TRAIN, "$@second#trainer.run()"]})
    assert {"trainer", "trainer2", "evaluator"} == {row["engine"] for row in reference.rows}


@pytest.mark.slow
def test_handlers_added_in_the_run_list(both):
    run = ["$@train#trainer.add_event_handler(ignite.engine.Events.ITERATION_COMPLETED, @hook)",
           "$@late.set_validator(@validate#evaluator)", TRAIN, "$@hook.seen"]  # fmt: skip
    hook = {"_target_": "zoo_parts.At", "event": "iteration_completed", "call": "$lambda engine: None"}
    late = {"_target_": "ValidationHandler", "interval": 1}
    reference = both({"hook": hook, "late": late, "train#extra": ["@late"], "run": run})
    assert reference.returned[-1] == "6"


@pytest.mark.slow
def test_handler_called_with_an_engine_in_initialize(both):
    save = "$[pathlib.Path(@output_dir).mkdir(), torch.save(@network.state_dict(), @output_dir + '/w.pt')]"
    load = {"_target_": "CheckpointLoader", "load_path": "$@output_dir + '/w.pt'", "load_dict": {"network": "@network"}}
    imports = ["$import torch", "$import monai", "$import zoo_parts", "$import pathlib"]
    first = ["$monai.utils.set_determinism(seed=123)", save, "$@load(@validate#evaluator)"]
    both({"imports": imports, "load": load, "initialize": first, "run": [VALIDATE]})


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["checkpoint_epoch=1.pt", "checkpoint_iteration=4.pt"], ids=["epoch", "within an epoch"]
)
@pytest.mark.parametrize(
    "engines", [("ignite", "lightning"), ("lightning", "ignite"), ("lightning", "lightning")], ids=str
)
def test_a_run_goes_on_under_the_other_engine(run, engines, name):
    saver = {**SAVER, "epoch_level": "epoch" in name}
    begin = {"saver": saver, "run": ["$@saver.attach(@train#trainer)", TRAIN]}
    go_on = {"loader": {**LOADER, "load_path": f"$@output_dir + '/{name}'"}, "epochs": 4,
             "run": ["$@loader.attach(@train#trainer)", TRAIN]}  # fmt: skip

    def outcome(first, second):
        return [run(first, begin), run(second, go_on, fresh=False)]

    for reference, ours in zip(outcome("ignite", "ignite"), outcome(*engines), strict=True):
        assert reference.error is None
        assert differences(reference, ours) == []


BUILT = """
import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler


def train(device, network, loss, optimizer, loader, validation, recorder):
    evaluator = SupervisedEvaluator(device=device, val_data_loader=validation, network=network, val_handlers=[recorder])
    trainer = SupervisedTrainer(
        device=device, max_epochs=2, train_data_loader=loader, network=network, loss_function=loss, optimizer=optimizer,
        train_handlers=[ValidationHandler(interval=1, validator=evaluator), recorder],
    )
    trainer.run()
    evaluator.run()
    return trainer.state.iteration
"""


@pytest.mark.slow
def test_code_that_builds_and_runs_engines(both):
    imports = ["$import torch", "$import monai", "$import zoo_parts", "$from scripts.training import train"]
    run = ["$train(@device, @network, @loss, @optimizer, @train#dataloader, @validate#dataloader, @recorder)"]
    reference = both({"imports": imports, "run": run}, scripts={"training.py": BUILT})
    assert reference.error is None
    assert reference.returned[-1] == "6"


PLAIN_ENGINE = """
from ignite.engine import Engine


def count(loader):
    engine = Engine(lambda engine, batch: len(batch))
    engine.run(loader, max_epochs=2)
    return engine.state.iteration
"""


@pytest.mark.slow
def test_plain_ignite_engine_in_code(both):
    imports = ["$import torch", "$import monai", "$import zoo_parts", "$from scripts.training import count"]
    both({"imports": imports, "run": ["$count(@train#dataloader)"]},
         scripts={"training.py": PLAIN_ENGINE})  # fmt: skip
