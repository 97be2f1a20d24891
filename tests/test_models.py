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
    with pytest.raises(
        RuntimeError, match=r"weights\.pt does not fit Sequential: 1 not in the file: 1\.0\.bias\. With strict: fit"
    ):
        load_weights(network(), saved(state))
    assert load_weights(network(), saved(state), strict=False)


def test_a_wall_of_names_becomes_numbers_and_three_examples(saved):
    class Deep(Sequential):
        pass

    path = saved(Deep(*(Linear(2, 2) for _ in range(40))).state_dict())
    message = (
        f"{path} does not fit Deep: 2 not in the file: 40.weight, 40.bias; 76 not in the network: 2.weight, 2.bias, 3.weight, …; "
        "1 of another shape: 0.weight (2, 2) for (2, 3). With strict: fit what fits is loaded, to train on."
    )
    net = Deep(Linear(3, 2), Linear(2, 2))
    net.add_module("40", Linear(1, 1))
    with pytest.raises(RuntimeError) as caught:
        load_weights(net, path)
    assert str(caught.value) == message
    with pytest.raises(RuntimeError, match=r"1 of another shape: 0\.weight"):  # also where names may differ
        load_weights(net, path, strict=False)


class TestFit:
    """Training on for other classes and channels."""

    def test_what_fits_is_loaded_and_the_rest_is_named(self, saved, caplog):
        trained, net = network(), Sequential(Linear(2, 3), Sequential(Linear(3, 4)))
        before = {name: value.clone() for name, value in net.state_dict().items()}
        state = trained.state_dict() | {"2.weight": torch.ones(1)}
        path = saved({"state_dict": {f"model.{name}": value for name, value in state.items()}})
        assert load_weights(net, path, strict="fit") is net
        assert equal(net[0], trained[0])
        assert all(torch.equal(net.state_dict()[name], before[name]) for name in ("1.0.weight", "1.0.bias"))
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert record.message == (
            f"{path}: 2 of 4 tensors of Sequential loaded, 36.0 % of its parameters; left: 1 not in the network: 2.weight; "
            "2 of another shape: 1.0.weight (1, 3) for (4, 3), 1.0.bias (1,) for (4,)"
        )  # 9 parameters of 25

    def test_it_goes_with_prefixes(self, saved):
        trained, net = network(), Sequential(network(), Linear(1, 5))
        load_weights(net, saved(trained.state_dict()), {"": "0"}, strict="fit")
        assert equal(net[0], trained)

    @pytest.mark.parametrize("shape", [(5, 5), ()])
    def test_nothing_that_fits_is_an_error(self, saved, shape):
        net = Sequential(torch.nn.BatchNorm1d(3))
        state = {name: value if "num" in name else torch.ones(shape) for name, value in net.state_dict().items()}
        with pytest.raises(
            ValueError, match=r"weights\.pt has nothing that fits Sequential: 4 of another shape: 0\.weight"
        ):
            load_weights(net, saved(state), strict="fit")

    def test_another_word_is_an_error(self, saved):
        with pytest.raises(ValueError, match="strict must be true, false or fit, got 'fits'"):
            load_weights(network(), saved(network().state_dict()), strict="fits")


def test_weights_of_something_else_are_told(saved):
    path = saved({"encoder.weight": torch.ones(1)})
    message = (
        f"{path} must hold weights of Sequential, but shares no name with it: "
        "it holds encoder.weight; the network has 0.weight, 0.bias, 1.0.weight, …."
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
    assert "2 not in the file: 1.0.weight, 1.0.bias" in caplog.text


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
