"""A stage that does not train says where nothing loads weights into its network."""

import logging

import pytest
import torch

from monai_lighter import Workflow
from monai_lighter.workflow.check_config import Check
from monai_lighter.workflow.prepare import Asked


def said(bundle, name="inference", stage="predict", **override):
    check = Check(str(bundle / "configs" / f"{name}.yaml"), override, Asked(run_id=stage))
    return [str(note) for note in check.notes if "untrained" in note.problem]


@pytest.mark.parametrize(
    "model",
    [
        "@network_def",
        "$torch.nn.Sequential(@network_def)",
        {"_target_": "monai.networks.nets.resnet10", "pretrained": False},
    ],
)
def test_networks_that_nothing_loads(bundle, model):
    (note,) = said(bundle, **{"system::model": model})
    assert note.startswith(
        "system::model: the network is untrained in stage 'predict': the config loads no weights. Write"
    )
    assert "--args::predict::ckpt_path PATH" in note


@pytest.mark.parametrize(
    "override",
    [
        {
            "system::model": {
                "_target_": "monai_lighter.load_weights",
                "model": "@network_def",
                "ckpt_path": "models/model.pt",
            }
        },
        {"args": {"predict": {"ckpt_path": "last"}}},
        {"initialize": ["$@network_def.load_state_dict(torch.load('model.pt'))"]},
        {"system::model": {"_target_": "monai.networks.nets.resnet10", "pretrained": True}},
        {"system::model": "$torch.jit.load('models/model.ts')"},
        {"system::model": "$scripts.network(2)"},
        {"system::model": {"_target_": "scripts.network"}},
    ],
)
def test_networks_that_have_weights_or_may_have(bundle, override):
    assert not said(bundle, **override)


IDLE = [
    "$@network_def.load_state_dict(torch.load('models/model.pt'))",
    {"_target_": "monai_lighter.load_weights", "model": "@network_def", "ckpt_path": "models/model.pt"},
]


@pytest.mark.parametrize("item", IDLE)
def test_weights_that_nothing_asks_for(bundle, item):
    (note,) = said(bundle, net_loaded=item)
    assert "untrained in stage 'predict': 'net_loaded' would load weights, but nothing refers to it" in note
    assert note.endswith("Write initialize: ['$@net_loaded'].")
    assert not said(bundle, net_loaded=item, initialize=["$@net_loaded"])


def test_weights_that_a_fit_does_not_begin_with(bundle):
    file = str(bundle / "configs" / "train.yaml")
    check = Check(file, {"net_loaded": IDLE[0]}, Asked(run_id="fit"))
    assert [note.id for note in check.prepared.warnings if "would load weights" in note.problem] == ["net_loaded"]
    check = Check(file, {"net_loaded": IDLE[0], "initialize": ["$@net_loaded"]}, Asked(run_id="fit"))
    assert not check.prepared.warnings


def test_weights_that_are_taken_as_far_as_they_fit(bundle):
    loaded = {"_target_": "monai_lighter.load_weights", "model": "@network_def", "ckpt_path": "m.pt", "strict": "fit"}
    (note,) = said(bundle, **{"system::model": loaded})
    assert note.startswith(
        "system::model: strict: fit may leave parts of the network untrained, with which stage 'predict'"
    )
    assert not said(bundle, "train", "fit", **{"system::model": loaded})
    assert not said(bundle, **{"system::model": {**loaded, "strict": False}})


def test_a_config_that_trains(bundle):
    assert not said(bundle, "train", "run")
    assert not said(bundle, "train", "fit")
    assert said(bundle, "train", "validate")


@pytest.mark.slow
def test_a_run_says_so_unless_weights_were_set_from_python(bundle, caplog):
    file = str(bundle / "configs" / "train.yaml")
    caplog.set_level(logging.WARNING)
    Workflow(file, run_id="validate", logging_file=False).run()
    assert "the network is untrained in stage 'validate'" in caplog.text
    caplog.clear()
    run = Workflow(file, run_id="validate", logging_file=False)
    run.initialize()
    run.network_def.load_state_dict(
        {name: torch.zeros_like(value) for name, value in run.network_def.state_dict().items()}
    )
    run.run()
    Workflow(file, run_id="fit", logging_file=False).run()
    assert "untrained" not in caplog.text
