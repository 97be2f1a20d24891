import pytest
import torch
from torch.nn import Identity, Linear, Sequential

from monai_lighter.models import (
    adjust_prefix_and_load_state_dict,
    load_weights,
    network_state_dict,
    remove_n_last_layers_sequentially,
    replace_layer_with,
    replace_layer_with_identity,
)


def network():
    return Sequential(Linear(2, 3), Sequential(Linear(3, 1)))


def equal(a, b):
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


@pytest.fixture
def saved(tmp_path):
    def save(content):
        torch.save(content, tmp_path / "weights.pt")
        return tmp_path / "weights.pt"

    return save


def checkpoints(net):
    state = net.state_dict()
    lightning = {f"model.{name}": value for name, value in state.items()} | {"criterion.weight": torch.ones(1)}
    return {
        "plain": state,
        "lightning": {"state_dict": lightning, "epoch": 3, "hyper_parameters": {"a": 1}},
        "a module of its own": {"state_dict": state},
        "monai": {"model": state, "optimizer": {}},
        "net": {"net": state},
    }


@pytest.mark.parametrize("kind", checkpoints(network()))
def test_weights_of_every_kind_of_checkpoint(saved, kind):
    trained, net = network(), network()
    assert load_weights(net, saved(checkpoints(trained)[kind])) is net
    assert equal(net, trained)


def test_a_leading_model_is_taken_away_and_no_other():
    state = {"model.model.0.weight": 1, "model.backbone.model.1": 2, "criterion.model.w": 3}
    assert network_state_dict({"state_dict": state}) == {"model.0.weight": 1, "backbone.model.1": 2}


def test_weights_must_fit(saved):
    state = network().state_dict()
    del state["1.0.bias"]
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"1\.0\.bias\""):
        load_weights(network(), saved(state))
    assert load_weights(network(), saved(state), strict=False)


def test_weights_of_something_else_are_told(saved):
    path = saved({"encoder.weight": torch.ones(1)})
    message = (
        f"{path} must hold weights of Sequential, but shares no name with it: "
        "it holds encoder.weight, …; the network has 0.weight, 0.bias, 1.0.weight, …."
    )
    with pytest.raises(ValueError) as caught:
        load_weights(network(), path, strict=False)
    assert str(caught.value) == message


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_weights(network(), tmp_path / "none.pt")


def test_prefixes_are_renamed_whole(saved, caplog):
    trained, net = network(), network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = {f"encoder.{name}": value for name, value in trained[0].state_dict().items()}
    state |= {"encoder2.weight": torch.zeros(3, 2), "head.weight": torch.zeros(1, 3)}
    caplog.set_level("INFO", logger="monai_lighter.models")
    load_weights(net, saved({"state_dict": state}), {"encoder": "0"})
    assert equal(net[0], trained[0])
    assert torch.equal(net[1][0].weight, before["1.0.weight"])
    assert "left as they were ['1.0.weight', '1.0.bias']" in caplog.text


def test_an_empty_prefix_puts_a_network_into_another(saved):
    trained, net = Linear(3, 1), network()
    load_weights(net, saved(trained.state_dict()), {"": "1.0"})
    assert equal(net[1][0], trained)


def test_layers_can_be_left_out(saved):
    trained, net = network(), network()
    before = net[1][0].weight.detach().clone()
    adjust_prefix_and_load_state_dict(net, saved(trained.state_dict()), layers_to_ignore=["1.0.weight", "1.0.bias"])
    assert equal(net[0], trained[0])
    assert torch.equal(net[1][0].weight, before)
    with pytest.raises(ValueError, match=r"layers_to_ignore must be names in .*, got 'nope'"):
        load_weights(network(), saved(trained.state_dict()), layers_to_ignore=["nope"])


def test_layers_can_be_replaced_and_removed():
    net, layer = network(), Linear(3, 2)
    assert replace_layer_with(net, "1.0", layer) is net
    assert net[1][0] is layer
    assert isinstance(replace_layer_with_identity(net, "1")[1], Identity)
    with pytest.raises(AttributeError):
        replace_layer_with(net, "2.fc", layer)
    assert len(remove_n_last_layers_sequentially(network())) == 1
    assert len(remove_n_last_layers_sequentially(network(), 2)) == 0
