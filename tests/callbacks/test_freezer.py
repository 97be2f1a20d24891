from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from parts import classification, trainer
from torch import nn

from monai_lighter import Freezer, LighterModule


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3))


class Watch(Callback):
    """Which layers changed in each epoch."""

    def __init__(self):
        self.changed = []

    def on_train_epoch_start(self, trainer, module):
        self.before = [p.detach().clone() for p in module.model.parameters()]

    def on_train_epoch_end(self, trainer, module):
        names = [name for name, _ in module.model.named_parameters()]
        pairs = zip(names, self.before, module.model.parameters(), strict=True)
        self.changed.append({name for name, old, new in pairs if not torch.equal(old, new)})


ALL = {f"{i}.{name}" for i in range(3) for name in ("weight", "bias")}


def changes(tmp_path, *freezers, epochs=3, model=None, **kwargs):
    watch, model = Watch(), model or network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    system = classification(train=4, val=2, model=model, optimizer=optimizer)
    trainer(tmp_path, max_epochs=epochs, callbacks=[watch, *freezers], **kwargs).fit(system)
    assert all(p.requires_grad for p in model.parameters())  # as before the fit
    return watch.changed


class TestWhat:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("arguments", "frozen"),
        [
            ({"names": "0.weight"}, {"0.weight"}),
            ({"names": ["0.weight", "2.bias"]}, {"0.weight", "2.bias"}),
            ({"name_starts_with": "0"}, {"0.weight", "0.bias"}),
            ({"name_starts_with": ["0", "1."]}, {"0.weight", "0.bias", "1.weight", "1.bias"}),
            ({"name_starts_with": ["0", "1"], "except_names": "1.bias"}, {"0.weight", "0.bias", "1.weight"}),
            ({"name_starts_with": [""], "except_name_starts_with": "2"}, ALL - {"2.weight", "2.bias"}),
        ],
    )
    def test_names_beginnings_and_exceptions(self, tmp_path, arguments, frozen):
        assert changes(tmp_path, Freezer(**arguments), epochs=1) == [ALL - frozen]

    def test_arguments(self):
        with pytest.raises(ValueError, match="at least one of names and name_starts_with must be given"):
            Freezer()
        with pytest.raises(ValueError, match="only one of until_step and until_epoch may be given, got 1 and 2"):
            Freezer("a", until_step=1, until_epoch=2)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"names": "0.wieght"},
                r"names must be of parameters of the model, got '0\.wieght'\. Did you mean '0\.weight'\?",
            ),
            ({"name_starts_with": "0", "except_names": "7.bias"}, "got '7.bias'"),
            ({"name_starts_with": "encoder"}, r"must start with 'encoder'\."),
            ({"name_starts_with": "0", "except_name_starts_with": "0.wieght"}, r"Did you mean '0\.weight'\?"),
        ],
    )
    def test_unknown_names_are_errors_before_training(self, tmp_path, arguments, message):
        with pytest.raises(ValueError, match=message):
            changes(tmp_path, Freezer(**arguments))


@pytest.mark.slow
class TestUntil:
    def test_an_epoch(self, tmp_path):
        assert changes(tmp_path, Freezer(name_starts_with="0", until_epoch=2)) == [ALL - {"0.weight", "0.bias"}] * 2 + [
            ALL
        ]

    def test_a_step(self, tmp_path):
        frozen = {"0.weight", "0.bias"}
        assert changes(tmp_path, Freezer(name_starts_with="0", until_step=2)) == [ALL - frozen, ALL, ALL]
        assert changes(tmp_path, Freezer(name_starts_with="0", until_step=1))[0] == ALL  # the second batch of the epoch

    @pytest.mark.parametrize("argument", ["until_epoch", "until_step"])
    def test_zero_freezes_nothing(self, tmp_path, argument):
        assert changes(tmp_path, Freezer("0.weight", **{argument: 0}), epochs=1) == [ALL]

    def test_a_resumed_run_that_is_past_it_freezes_nothing(self, tmp_path):
        model = network()
        system = classification(model=model)
        run = trainer(tmp_path, max_epochs=2, callbacks=[Freezer("0.weight", until_epoch=1)])
        run.fit(system)
        watch, again = Watch(), network()
        trainer(tmp_path, max_epochs=3, callbacks=[watch, Freezer("0.weight", until_epoch=1)]).fit(
            classification(model=again), ckpt_path=run.checkpoint_callback.best_model_path
        )
        assert watch.changed == [ALL]


@pytest.mark.slow
class TestSeveral:
    @pytest.mark.parametrize("order", [1, -1])
    def test_two_of_the_same_layer_do_not_undo_each_other(self, tmp_path, order):
        early, late = Freezer(name_starts_with="0", until_epoch=1), Freezer("0.weight", until_epoch=2)
        assert changes(tmp_path, *[early, late][::order]) == [
            ALL - {"0.weight", "0.bias"},
            ALL - {"0.weight"},
            ALL,
        ]

    @pytest.mark.parametrize("order", [1, -1])
    def test_one_for_good_and_one_for_a_while(self, tmp_path, order):
        good, early = Freezer("0.weight"), Freezer(name_starts_with=["0", "1"], until_step=2)
        frozen = {"0.weight", "0.bias", "1.weight", "1.bias"}
        assert changes(tmp_path, *[good, early][::order], epochs=2) == [ALL - frozen, ALL - {"0.weight"}]

    def test_what_was_frozen_elsewhere_stays_so(self, tmp_path):
        model = network()
        model[0].weight.requires_grad = False
        watch = Watch()
        system = classification(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
        trainer(tmp_path, max_epochs=2, callbacks=[watch, Freezer(name_starts_with="0", until_epoch=1)]).fit(system)
        assert watch.changed == [ALL - {"0.weight", "0.bias"}, ALL - {"0.weight"}]
        assert not model[0].weight.requires_grad

    def test_a_fit_that_fails_thaws(self, tmp_path):
        model = network()

        class Break(Callback):
            def on_train_batch_end(self, *args):
                raise RuntimeError("broken off")

        with pytest.raises(RuntimeError, match="broken off"):
            trainer(tmp_path, callbacks=[Break(), Freezer("0.weight")]).fit(classification(model=model))
        assert model[0].weight.requires_grad

    def test_other_stages_freeze_nothing(self, tmp_path):
        system = classification(model=network())
        trainer(tmp_path, callbacks=[Freezer("no such name")]).validate(system, verbose=False)
        assert all(p.requires_grad for p in system.model.parameters())


class Statistics(Callback):
    """Running means of the normalising layers at the end of each epoch."""

    def __init__(self):
        self.of = []

    def on_train_epoch_end(self, trainer, module):
        self.of.append([module.model[i].running_mean.clone() for i in (1, 3)])


@pytest.mark.slow
class TestRunningStatistics:
    @pytest.mark.parametrize(
        ("affine", "freezer", "kept"),
        [
            (True, Freezer(name_starts_with="1"), [True, False]),
            (True, Freezer("1.weight"), [False, False]),  # its bias is trained
            (False, Freezer(name_starts_with="", except_name_starts_with="4"), [True, True]),
        ],
    )
    def test_those_of_a_frozen_layer_are_kept(self, tmp_path, affine, freezer, kept):
        norms = [nn.BatchNorm1d(4, affine=affine) for _ in range(2)]
        model = nn.Sequential(nn.Linear(4, 4), norms[0], nn.Linear(4, 4), norms[1], nn.Linear(4, 3))
        seen = Statistics()
        changes(tmp_path, freezer, seen, model=model)
        assert [bool((mean == 0).all()) for mean in seen.of[-1]] == kept
        assert all(layer.training for layer in model)

    def test_until_an_epoch_and_never_while_another_holds_it(self, tmp_path):
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
        seen = Statistics()
        short, long = Freezer(name_starts_with="1", until_epoch=1), Freezer(name_starts_with=["1", "2"], until_epoch=2)
        changes(tmp_path, seen, short, long, model=model)
        assert [bool((first == 0).all()) for first, _ in seen.of] == [True, True, False]
        assert all(layer.training for layer in model)


class TestOtherModules:
    @pytest.mark.parametrize("names", [["1.weight"], ["network.1.weight"]])
    def test_the_network_of_a_lighter_module(self, names):
        module = LighterModule(network())
        freezer = Freezer(names=names)
        freezer.setup(SimpleNamespace(callbacks=[freezer]), module, "fit")
        assert {name for name, p in module.network.named_parameters() if not p.requires_grad} == {"1.weight"}

    @pytest.mark.parametrize("start", ["1.", "model.1."])
    def test_the_model_of_a_module_of_ones_own(self, start):
        module = LightningModule()
        module.model, module.head = network(), nn.Linear(3, 3)
        freezer = Freezer(name_starts_with=start, except_names="model.1.bias")
        freezer.setup(SimpleNamespace(callbacks=[freezer]), module, "fit")
        assert {name for name, p in module.named_parameters() if not p.requires_grad} == {"model.1.weight"}

    def test_a_module_that_is_its_own_network(self):
        module = LightningModule()
        module.head = nn.Linear(3, 3)
        freezer = Freezer(names="head.bias")
        freezer.setup(SimpleNamespace(callbacks=[freezer]), module, "fit")
        assert not module.head.bias.requires_grad
        with pytest.raises(ValueError, match=r"got 'bias'\. Did you mean"):
            Freezer(names="bias").setup(SimpleNamespace(callbacks=[]), module, "fit")
