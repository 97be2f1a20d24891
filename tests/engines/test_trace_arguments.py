"""Every argument of MONAI's engines means under Lightning what it means under Ignite."""

import pytest

pytestmark = pytest.mark.slow

PAIR = "$monai.handlers.from_engine(['pred', 'label'])"
PLAIN = {"train#key_metric": None, "train#trainer#postprocessing": None}

TRAINER = [
    pytest.param({**PLAIN, "train#trainer#decollate": False}, id="decollate false"),
    pytest.param(PLAIN, id="no postprocessing"),
    pytest.param({"train#trainer#amp": True, "validate#evaluator#amp": True}, id="amp"),
    pytest.param(
        {"train#trainer#amp": True, "train#trainer#amp_kwargs": {"dtype": "$torch.bfloat16"}}, id="amp_kwargs"
    ),
    pytest.param({"train#trainer#optim_set_to_none": True}, id="optim_set_to_none"),
    pytest.param({"train#trainer#accumulation_steps": 2}, id="accumulation_steps"),
    pytest.param(
        {"train#trainer#accumulation_steps": 2, "train#trainer#epoch_length": 4}, id="accumulation that divides"
    ),
    pytest.param(
        {"train#trainer#accumulation_steps": 3, "train#trainer#epoch_length": 2}, id="accumulation over epochs"
    ),
    pytest.param({"train#trainer#non_blocking": True}, id="non_blocking"),
    pytest.param({"train#trainer#to_kwargs": {"dtype": "$torch.float32"}}, id="to_kwargs"),
    pytest.param({"train#inferer": {"_target_": "SlidingWindowInferer", "roi_size": [4, 4]}}, id="inferer"),
    pytest.param({"network": "$torch.nn.DataParallel(@network_def)"}, id="DataParallel"),
    pytest.param({"optimizer#_target_": "Novograd"}, id="Novograd"),
    pytest.param(
        {
            "optimizer": {
                "_target_": "torch.optim.SGD",
                "lr": 0.1,
                "momentum": 0.9,
                "params": "$[{'params': @network.conv.parameters(), 'lr': 0.01}, {'params': @network.norm.parameters()}]",
            }
        },
        id="parameter groups",
    ),
    pytest.param({"optimizer#params": "$@network.norm.parameters()"}, id="some parameters are not optimized"),
    pytest.param(
        {"initialize": ["$[p.requires_grad_(False) for p in @network.norm.parameters()]"]}, id="frozen parameters"
    ),
    pytest.param({"train#trainer#metric_cmp_fn": "$lambda now, best: now <= best", "epochs": 3}, id="metric_cmp_fn"),
]


@pytest.mark.parametrize("changes", TRAINER)
def test_argument(both, changes):
    assert both(changes).error is None


@pytest.mark.parametrize(
    "keys", [["grade"], {"shift": "grade"}, {"scale": "grade", "shift": "grade"}], ids=["positional", "keyword", "two"]
)
def test_prepare_batch_with_more_inputs(both, keys):
    prepare = {"_target_": "monai.engines.PrepareBatchExtraInput", "extra_keys": keys}
    dataset = {
        "train#dataset#data": "$[{**i, 'grade': torch.full((1, 1, 1), float(i['grade']))} for i in zoo_parts.items(5)]"
    }
    assert both({**dataset, "train#trainer#prepare_batch": prepare, "train#extra": []}).error is None


def test_prepare_batch_of_diffusion(both):
    """It draws noise and time steps, and hands the inferer keywords."""
    prepare = {"_target_": "monai.engines.DiffusionPrepareBatch", "num_train_timesteps": 10}
    inferer = "$lambda image, network, noise, timesteps: network(image + noise * timesteps.view(-1, 1, 1, 1))"
    changes = {
        "train#trainer#prepare_batch": prepare,
        "train#inferer": inferer,
        "loss": {"_target_": "torch.nn.MSELoss"},
    }
    assert both({**changes, **PLAIN, "train#extra": []}).error is None


UPDATES = {
    "returns a dictionary": """
def update(engine, batch):
    image, label = engine.prepare_batch(batch, engine.state.device, engine.non_blocking)
    engine.network.train()
    engine.optimizer.zero_grad()
    loss = engine.loss_function(engine.inferer(image, engine.network), label)
    loss.backward()
    engine.optimizer.step()
    return {"image": image, "label": label, "pred": engine.network(image).detach(), "loss": loss.item()}
""",
    "calls the engine's own step": """
def update(engine, batch):
    output = engine._iteration(engine, batch)
    engine.state.seen = getattr(engine.state, "seen", 0) + len(output)
    return output
""",
    "does two steps": """
def update(engine, batch):
    for _ in range(2):
        engine.optimizer.zero_grad()
        loss = engine.loss_function(engine.network(batch["image"]), batch["label"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(engine.network.parameters(), 0.1)
        engine.optimizer.step()
    return loss.item()
""",
}


@pytest.mark.parametrize("source", UPDATES.values(), ids=UPDATES)
def test_iteration_update(both, source):
    scripts = {"steps.py": f"import torch\n{source}"}
    imports = ["$import torch", "$import monai", "$import zoo_parts", "$from scripts.steps import update"]
    changes = {"train#trainer#iteration_update": "$update", "train#key_metric": None, "imports": imports}
    assert both(changes, scripts=scripts).error is None


def test_own_events(both):
    names = "$['half_done', monai.engines.utils.IterationEvents, zoo_parts.Marks]"
    handler = {
        "_target_": "zoo_parts.At",
        "event": "iteration_completed",
        "call": "$lambda engine: [engine.fire_event('half_done'), engine.fire_event(zoo_parts.Marks.MARKED)]",
    }
    changes = {
        "train#trainer#event_names": names,
        "train#trainer#event_to_attr": "$dict([(zoo_parts.Marks.MARKED, 'marks')])",
        "train#extra": [handler],
    }
    reference = both(changes)
    assert {"half_done", "marked"} <= {row["event"] for row in reference.rows}
    assert reference.rows[-1]["state"]["marks"] == "0"


EVALUATOR = [
    pytest.param({"validate#evaluator#mode": "train"}, id="mode train"),
    pytest.param({"validate#evaluator#decollate": False, "validate#key_metric": None,
                  "validate#evaluator#postprocessing": None}, id="decollate false"),
    pytest.param({"validate#evaluator#postprocessing": None}, id="no postprocessing"),
    pytest.param({"validate#evaluator#amp": True}, id="amp"),
    pytest.param({"validate#evaluator#iteration_update": "$lambda engine, batch: {**batch, 'pred': batch['label']}"},
                 id="iteration_update"),
    pytest.param({"validate#dataset#data": "$[{'image': i['image']} for i in zoo_parts.items(3)]",
                  "validate#key_metric": None}, id="no label"),
]  # fmt: skip


@pytest.mark.parametrize("changes", EVALUATOR)
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "in training"])
def test_evaluator_argument(both, changes, alone):
    run = {"run": ["$@validate#evaluator.run()", "$@validate#evaluator.state.metrics"]} if alone else {}
    assert both({**changes, **run}).error is None


@pytest.mark.parametrize("keys", [None, ["one", "two"]], ids=str)
def test_ensemble(both, keys):
    evaluator = {
        "_target_": "EnsembleEvaluator",
        "device": "@device",
        "val_data_loader": "@validate#dataloader",
        "networks": "$[@network, @second]",
        "pred_keys": keys,
        "inferer": "@validate#inferer",
        "postprocessing": {"_target_": "MeanEnsembled", "keys": keys or ["pred_0", "pred_1"], "output_key": "pred"},
        "key_val_metric": "@validate#key_metric",
        "val_handlers": "@validate#handlers",
    }
    run = ["$@validate#evaluator.run()", "$@validate#evaluator.state.metrics"]
    changes = {"second": {"_target_": "zoo_parts.Net"}, "validate#evaluator": evaluator, "run": run}
    assert both(changes).error is None


def test_compile(both):
    compiled = {"train#trainer#compile": True, "train#trainer#compile_kwargs": {"backend": "eager"}}
    assert both({**compiled, "network_def": {"_target_": "zoo_parts.Classifier"}, "loss": {"_target_": "zoo_parts.Square"},
                 "epochs": 1, "train#extra": [], **PLAIN}).error is None  # fmt: skip
