"""What bundles of the zoo, and those written like them, do beside the plain path."""

import pytest
from test_trace_stopping import at
from zoo import differences

pytestmark = pytest.mark.slow

TRAIN = "$@train#trainer.run()"
VALIDATE = "$@validate#evaluator.run()"
VALIDATION = {"_target_": "ValidationHandler", "validator": "@validate#evaluator", "interval": 1}
INNER = {
    "_target_": "SupervisedTrainer",
    "device": "@device",
    "max_epochs": 1,
    "network": "@network",
    "train_data_loader": "@validate#dataloader",
    "loss_function": "@loss",
    "optimizer": "@optimizer",
    "train_handlers": ["@recorder"],
}
SECOND = {
    "_target_": "SupervisedEvaluator",
    "device": "@device",
    "val_data_loader": "@train#dataloader",
    "network": "@network",
    "val_handlers": ["@recorder"],
}

EXCHANGES = {
    "optimizer": "setattr(engine, 'optimizer', torch.optim.SGD(engine.network.parameters(), lr=0.5))",
    "network and optimizer": "[setattr(engine, 'network', zoo_parts.Net()), "
    "setattr(engine, 'optimizer', torch.optim.SGD(engine.network.parameters(), lr=0.5))]",
    "data": "engine.set_data(torch.utils.data.DataLoader(zoo_parts.items(3, 5), batch_size=1))",
    "shorter epochs": "setattr(engine.state, 'epoch_length', 2)",
    "longer epochs": "setattr(engine.state, 'epoch_length', 5)",
    "more epochs": "setattr(engine.state, 'max_epochs', 4)",
    "fewer epochs": "setattr(engine.state, 'max_epochs', 1)",
}


@pytest.mark.parametrize("event", ["epoch_started", "epoch_completed"])
@pytest.mark.parametrize("call", EXCHANGES.values(), ids=EXCHANGES)
def test_handler_exchanges_parts_of_its_engine(both, call, event):
    both({"train#extra": [at(event, call, 1)], "epochs": 3}, fails=None if "set_data" in call else False)


@pytest.mark.parametrize("event", ["get_batch_completed", "iteration_started"])
@pytest.mark.parametrize(
    "call", ["state.batch.update(image=b['image'] * torch.rand(1))", "state.__setattr__('batch', {**b})"]
)
def test_handler_changes_the_batch(both, call, event):
    handler = at(event, f"(lambda b: engine.{call})(engine.state.batch)")
    both({"train#extra": [handler]})


@pytest.mark.parametrize("steps", [[VALIDATE, "$torch.is_grad_enabled()"], [TRAIN]], ids=["evaluation", "training"])
def test_gradients_turned_off_by_the_bundle(both, steps):
    first = ["$monai.utils.set_determinism(1)", "$torch.set_grad_enabled(False)"]
    without = {"_target_": "scripts.parts.NoContext", "device": "@device", "val_data_loader": "@validate#dataloader",
               "network": "@network", "val_handlers": "@validate#handlers"}  # fmt: skip
    both(
        {"initialize": first, "run": steps, "validate#evaluator": without},
        fails=steps == [TRAIN],
        scripts={"parts.py": PARTS},
    )


PARTS = """
from monai.engines import Evaluator


class NoContext(Evaluator):
    def __init__(self, network, **arguments):
        super().__init__(**arguments)
        self.network = network

    def _iteration(self, engine, batchdata):
        self.network.eval()
        return {"pred": self.network(batchdata["image"]).numpy()}
"""


@pytest.mark.parametrize("event", ["forward_completed", "iteration_completed", "epoch_completed"])
def test_interrupted_from_the_keyboard(both, event):
    saver = {"_target_": "CheckpointSaver", "save_dir": "@output_dir", "save_dict": {"net": "@network"}, "save_final": True,
             "final_filename": "interrupted.pt"}  # fmt: skip
    stop = at(event, "(_ for _ in ()).throw(KeyboardInterrupt('Ctrl-C'))", 2)
    reference = both({"train#extra": [saver, stop]}, fails=True)
    assert "KeyboardInterrupt" in reference.error
    assert "out/interrupted.pt" in reference.files


def test_script_catches_an_interruption(both):
    """Code around a run may go on after Ctrl-C, and be interrupted again."""
    source = """
import signal


def train(trainer):
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.run()
    except KeyboardInterrupt as error:
        return str(error), signal.getsignal(signal.SIGINT) is handler
"""
    imports = ["$import torch", "$import monai", "$import zoo_parts", "$from scripts.training import train"]
    stop = at("iteration_completed", "(_ for _ in ()).throw(KeyboardInterrupt('Ctrl-C'))", 2)
    changes = {"imports": imports, "train#handlers": [stop], "run": ["$train(@train#trainer)"]}
    reference = both(changes, scripts={"training.py": source})
    assert reference.returned[-1][1:] == ["'Ctrl-C'", "True"]


def test_engine_is_told_of_an_error_in_lightning(run):
    """As of any other error: its handlers keep what has been trained."""
    callback = {"_target_": "scripts.parts.Failing"}
    source = """
from lightning.pytorch import Callback


class Failing(Callback):
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch:
            raise OSError("no space left")
"""
    saver = {"_target_": "CheckpointSaver", "save_dir": "@output_dir", "save_dict": {"net": "@network"}, "save_final": True,
             "final_filename": "kept.pt"}  # fmt: skip
    changes = {"train#extra": [saver], "lightning": {"callbacks": [callback]}}
    outcome = run("lightning", changes, scripts={"parts.py": source})
    assert outcome.error == "OSError: no space left"
    assert "out/kept.pt" in outcome.files
    assert outcome.rows[-1]["event"] == "exception_raised"


@pytest.mark.parametrize(
    "event",
    ["started", "epoch_started", "get_batch_started", "iteration_started", "forward_completed", "loss_completed",
     "backward_completed", "model_completed", "iteration_completed", "epoch_completed", "completed"],
)  # fmt: skip
def test_validation_at_any_event(both, event):
    validate = {
        "_target_": "zoo_parts.At",
        "event": event,
        "call": "$lambda engine: @validate#evaluator.run(engine.state.epoch)",
    }
    both({"train#extra": [validate]})


@pytest.mark.parametrize("event", ["started", "iteration_completed", "epoch_completed", "completed"])
@pytest.mark.parametrize("outer", ["trainer", "evaluator", "evaluator in a trainer"])
@pytest.mark.parametrize("inner", ["@inner", "@second"], ids=["trainer", "evaluator"])
def test_engine_run_by_a_handler_of_another(both, inner, outer, event):
    handler = {"_target_": "zoo_parts.At", "event": event, "call": f"$lambda engine: {inner}.run()"}
    changes = {"inner": INNER, "second": SECOND, "run": [VALIDATE if outer == "evaluator" else TRAIN]}
    if outer == "trainer":
        changes["train#extra"] = [handler]
    else:
        changes |= {"validate#extra": [handler], "train#extra": [VALIDATION]}
    both(changes, nested=True)


def test_traced_network(both):
    traced = "$torch.jit.trace(@network_def.eval(), torch.rand(1, 1, 8, 8))"
    both({"network": traced, "run": [VALIDATE, "$@validate#evaluator.state.metrics"]})


def test_step_that_raises_stop_iteration(both):
    reference = both({"train#trainer#iteration_update": "$lambda engine, batch: next(iter([]))"}, fails=True)
    assert "StopIteration" in reference.error


def test_on_a_cluster(both, monkeypatch):
    """A run in a job with several tasks is one process, as under Ignite, and the job's signals stay its own."""
    job = {"NTASKS": "2", "JOB_NAME": "train", "PROCID": "0", "JOB_ID": "5", "LOCALID": "0", "NODEID": "0"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    both()


STEPS = """
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle import run as run_bundle


def train(config):
    parser = ConfigParser()
    parser.read_config(config)
    parser["epochs"] = 1
    parser.get_parsed_content("initialize")
    parser.get_parsed_content("train#trainer").run()
    run_bundle(config_file=config, epochs=1, run_id="inner", logging_file=False)
    workflow = ConfigWorkflow(config, epochs=1, run_id="inner", logging_file=False)
    workflow.initialize()
    workflow.run()
    return [float(x.double().sum()) for x in parser.get_parsed_content("network").state_dict().values()]
"""


def test_script_runs_bundles(run):
    """By a parser of its own, by ``monai.bundle.run`` and by MONAI's workflow: all of it on Lightning."""
    imports = [
        "$import torch",
        "$import monai",
        "$import zoo_parts",
        "$import ignite",
        "$from scripts.steps import train",
    ]
    changes = {"imports": imports,
               "inner": [TRAIN, VALIDATE], "run": ["$train('configs/train.yaml')"]}  # fmt: skip
    reference, ours = (run(engine, changes, scripts={"steps.py": STEPS}) for engine in ("ignite", "lightning"))
    assert reference.error is None
    assert differences(reference, ours) == []
    assert (ours.calls["ignite"], ours.calls["trainer"]) == (0, reference.calls["outer"])
