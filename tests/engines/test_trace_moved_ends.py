"""Handlers and engines that move the end of a run, an epoch or a step while it is under way."""

import threading

import pytest
import torch
import yaml
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from test_trace_stopping import at
from test_trace_zoo_styles import TRAIN, VALIDATE, VALIDATION
from zoo_parts import Net, items

from monai_lighter import Workflow
from monai_lighter.engines.adopt import on_lightning
from monai_lighter.engines.engine import LightningEngine

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("event", ["iteration_completed", "epoch_completed"])
def test_more_epochs_in_the_last_one(both, event):
    reference = both({"train#extra": [at(event, "setattr(engine.state, 'max_epochs', 3)", 2)], "epochs": 2})
    assert any(row["state"]["epoch"] == "3" for row in reference.rows)


@pytest.mark.parametrize("length", [2, 5, 7])
def test_another_length_within_an_epoch(both, length):
    both({"train#extra": [at("iteration_completed", f"setattr(engine.state, 'epoch_length', {length})", 1)]})


@pytest.mark.parametrize("event", ["iteration_started", "iteration_completed", "epoch_started"])
def test_interrupted_and_run_on(both, event):
    both({"train#extra": [at(event, "engine.interrupt()", 2)], "run": [TRAIN, TRAIN]})


def test_evaluator_interrupted_and_run_on(both):
    both({"validate#extra": [at("iteration_started", "engine.interrupt()", 1)], "run": [VALIDATE, VALIDATE]})


@pytest.mark.parametrize("steps", [[VALIDATE], [TRAIN]], ids=["alone", "within a fit"])
def test_evaluator_of_several_epochs(both, steps):
    more = at("epoch_started", "setattr(engine.state, 'max_epochs', 3)", 1)
    reference = both({"validate#extra": [more], "train#extra": [VALIDATION], "run": steps, "epochs": 1})
    assert any(row["engine"] == "evaluator" and row["state"]["epoch"] == "3" for row in reference.rows)


@pytest.mark.parametrize(
    "call", ["engine.terminate_epoch()", "setattr(engine.state, 'epoch_length', 5)"], ids=["shorter", "longer"]
)
def test_accumulation_is_by_the_engines_own_count(both, call):
    changes = {"train#extra": [at("iteration_completed", call, 2)], "train#trainer#accumulation_steps": 2, "epochs": 3}
    both(changes)


def test_resumed_within_an_epoch_accumulation_goes_on(both):
    handler = at("started", "[setattr(engine.state, 'iteration', 2), setattr(engine.state, 'epoch', 0)]", 1)
    both({"train#extra": [handler], "train#trainer#accumulation_steps": 2, "train#trainer#epoch_length": 5})


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3)])
def test_accumulation_steps_changed_in_a_run(both, before, after):
    handler = at("epoch_started", f"setattr(engine, 'accumulation_steps', {after})", 2)
    both({"train#extra": [handler], "train#trainer#accumulation_steps": before, "epochs": 3})


@pytest.mark.parametrize("event", ["forward_completed", "backward_completed", "iteration_completed"])
def test_optimizer_exchanged(both, event):
    other = "setattr(engine, 'optimizer', torch.optim.SGD(engine.network.parameters(), lr=0.5))"
    both({"train#extra": [at(event, other, 2)]})


PARTICULAR = """
import torch


class Particular(torch.optim.SGD):
    def step(self, closure=None):
        if closure is not None:
            self.param_groups[0]["lr"] *= 2
        return super().step()
"""


@pytest.mark.parametrize("steps", [1, 2])
def test_optimizer_that_does_more_with_a_closure(both, steps):
    optimizer = {"optimizer#_target_": "scripts.optimizers.Particular", "train#trainer#accumulation_steps": steps}
    both(optimizer, scripts={"optimizers.py": PARTICULAR})


def test_gradients_that_a_validator_turns_off_are_off_for_its_trainer(both):
    off = at("completed", "torch.set_grad_enabled(False)", 1)
    changes = {"validate#extra": [off], "train#extra": [VALIDATION], "finalize": ["$torch.set_grad_enabled(True)"]}
    try:
        both(changes, fails=True)
    finally:
        torch.set_grad_enabled(True)


RUN_AGAIN = """
def run_again(trainer):
    counts = []
    for _ in range(3):
        try:
            trainer.run()
        except ArithmeticError:
            pass
        counts.append((trainer.state.epoch, trainer.state.iteration))
    return counts
"""


def test_runs_after_an_error_that_a_script_caught(both):
    imports = ["$import torch", "$import monai", "$import zoo_parts", "$from scripts.runs import run_again"]
    changes = {
        "imports": imports,
        "network_def#fails_at": 4,
        "train#handlers": [],
        "run": ["$run_again(@train#trainer)"],
    }
    reference = both(changes, scripts={"runs.py": RUN_AGAIN}, nested=True)
    assert reference.returned


LIMITS = """
from ignite.engine import Engine


def tried(*runs):
    engine = Engine(lambda engine, batch: batch)
    said = []
    for arguments in runs:
        try:
            engine.run(**arguments)
        except (TypeError, ValueError) as error:
            said.append(type(error).__name__)
        said.append((engine.state.epoch, engine.state.iteration, engine.state.max_epochs, engine.state.max_iters))
    return said
"""


@pytest.mark.parametrize(
    "runs",
    [
        "dict(data=range(3), max_iters=7), dict(data=range(3), max_iters=9), dict(data=range(3), max_epochs=4)",
        "dict(data=range(3), max_epochs=2), dict(data=range(3), max_epochs=1), dict(data=range(3), max_iters=9)",
        "dict(data=range(3), max_epochs=2, max_iters=3)",
        "dict(data=range(3), max_epochs=2), dict(data=range(3), max_epochs=4, epoch_length=2)",
        "dict(data=[], max_epochs=1), dict(max_epochs=1), dict(data=5), dict(max_epochs=1, epoch_length=0)",
        "dict(max_epochs=1, epoch_length=3), dict(max_epochs=2), dict(max_epochs=2, epoch_length=3)",
    ],
)
def test_limits_of_runs(run, runs):
    imports = ["$import torch", "$import monai", "$import zoo_parts", "$from scripts.runs import tried"]
    changes = {"imports": imports, "run": [f"$tried({runs})"]}
    reference, ours = (run(engine, changes, scripts={"runs.py": LIMITS}) for engine in ("ignite", "lightning"))
    assert "tuple" in str(reference.returned)
    assert ours.returned == reference.returned


def test_anomaly_detection_of_the_bundle_stays_on(both):
    initialize = ["$monai.utils.set_determinism(seed=123)", "$torch.autograd.set_detect_anomaly(True)"]
    finalize = ["$torch.autograd.set_detect_anomaly(False)"]
    both({"initialize": initialize, "run": [TRAIN, "$torch.is_anomaly_enabled()", *finalize]})


def test_event_of_the_loop_fired_by_the_step_itself(both):
    step = "$lambda engine, batch: [engine.fire_event(zoo_parts.Events.EPOCH_COMPLETED), {'loss': 0.0}][1]"
    plain = {"train#trainer#decollate": False, "train#trainer#postprocessing": None, "train#key_metric": None}
    both({"train#trainer#iteration_update": step, "train#extra": [], **plain})


def test_two_threads():
    run, states = Engine.run, {}

    def evaluate(name):
        loader = DataLoader(Dataset(items(3)))
        evaluator = SupervisedEvaluator(device="cpu", val_data_loader=loader, network=Net(), decollate=False)
        with on_lightning(ConfigParser({})):
            evaluator.run()
        states[name] = evaluator.state.iteration

    threads = [threading.Thread(target=evaluate, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states == {"a": 3, "b": 3}
    assert Engine.run is run


TOGETHER = threading.Barrier(2)


def train_in_code():
    """Builds a trainer and an evaluator that no config item is, and runs them while another thread does so too.

    Returns:
        epochs that the trainer ran, iterations that the evaluator ran in the last of them, and whether Lightning ran them.
    """
    loader, network = DataLoader(Dataset(items(3))), Net()
    evaluator = SupervisedEvaluator(device="cpu", val_data_loader=loader, network=network, decollate=False)
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=loader,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=torch.nn.functional.binary_cross_entropy_with_logits,
        decollate=False,
    )
    trainer.add_event_handler(Events.STARTED, lambda: TOGETHER.wait(60))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(trainer.state.epoch))
    TOGETHER.wait(60)
    trainer.run()
    TOGETHER.wait(60)
    return trainer.state.epoch, evaluator.state.iteration, isinstance(trainer, LightningEngine)


def in_threads(**functions):
    found = {}
    threads = [
        threading.Thread(target=lambda name=name, function=function: found.update({name: function()}))
        for name, function in functions.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def workflow_of(folder, keywords):
    folder.mkdir()
    config = {"imports": ["$import test_trace_moved_ends as it"], "run": ["$it.train_in_code()"], "lightning": keywords}
    (folder / "train.yaml").write_text(yaml.safe_dump(config))
    return Workflow(str(folder / "train.yaml"))


@pytest.mark.slow
def test_two_workflows_in_two_threads_have_a_section_each(tmp_path):
    long = workflow_of(tmp_path / "long", {"max_epochs": 3, "limit_val_batches": 2})
    short = workflow_of(tmp_path / "short", {"max_epochs": 2, "limit_val_batches": 1})
    found = in_threads(long=long.run, short=short.run)
    assert found == {"long": [(3, 2, True)], "short": [(2, 1, True)]}


@pytest.mark.slow
def test_a_thread_beside_a_workflow_stays_with_ignite(tmp_path):
    workflow = workflow_of(tmp_path / "bundle", {"max_epochs": 3, "limit_val_batches": 2})
    found = in_threads(workflow=workflow.run, other=train_in_code)
    assert found == {"workflow": [(3, 2, True)], "other": (1, 3, False)}
