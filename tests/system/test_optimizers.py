import copy

import pytest
import torch
from lightning.pytorch.utilities.data import warning_cache
from parts import Memory, classification, classifier, loader, pairs, trainer
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau, StepLR

from monai_lighter.system.optimizers import read_optimizer_stats
from monai_lighter.system.tensors import as_list


def two(model):
    return {
        "weight": torch.optim.SGD([model.weight], lr=0.1, momentum=0.9),
        "bias": torch.optim.Adam([model.bias], lr=0.01),
    }


@pytest.mark.slow
def test_texts_of_the_cases_are_no_size_of_a_batch(tmp_path, recwarn):
    """Lightning looks for one where none is said, and warns of texts in the batch, such as names of subjects."""
    warning_cache.clear()
    data = [{"image": x, "label": y, "subject": f"P{i}"} for i, (x, y) in enumerate(pairs(4))]
    log = Memory()
    trainer(tmp_path, logger=log).fit(classification(dataloaders={"train": loader(data)}))
    assert not [each for each in recwarn if "Trying to infer the `batch_size`" in str(each.message)]
    assert log.values("train/optimizer/SGD/lr") == pytest.approx([0.1])


@pytest.mark.slow
class TestSeveralOptimizers:
    def test_the_weights_are_those_of_a_loop_written_by_hand(self, tmp_path):
        model = classifier()
        by_hand = copy.deepcopy(model)
        trainer(tmp_path, max_epochs=2).fit(classification(model=model, optimizer=two(model)))
        optimizers = two(by_hand).values()
        for _ in range(2):
            for x, y in loader(pairs(6)):
                loss = nn.functional.cross_entropy(by_hand(x), y)
                for optimizer in optimizers:
                    optimizer.zero_grad()
                loss.backward()
                for optimizer in optimizers:
                    optimizer.step()
        assert torch.equal(model.weight, by_hand.weight)
        assert torch.equal(model.bias, by_hand.bias)

    def test_each_has_its_statistics_and_the_loss_is_logged(self, tmp_path):
        log, model = Memory(), classifier()
        system = classification(model=model, optimizer=list(two(model).values()))
        trainer(tmp_path, logger=log).fit(system)
        assert {f"train/optimizer/{name}/{key}" for name in ("SGD", "Adam") for key in ("lr", "momentum")} <= log.keys
        assert len(log.values("train/loss/step")) == 3
        assert not system.automatic_optimization

    def test_schedulers_by_epoch_step_and_plateau(self, tmp_path):
        model = classifier()
        optimizers = two(model)
        schedulers = [
            {"scheduler": ExponentialLR(optimizers["weight"], 0.5), "interval": "step", "frequency": 2},
            StepLR(optimizers["bias"], step_size=1, gamma=0.1),
            {
                "scheduler": ReduceLROnPlateau(optimizers["bias"], patience=0, factor=0.5, threshold=1e9),
                "monitor": "val/loss/epoch",
            },
        ]
        system = classification(model=model, optimizer=optimizers, scheduler=schedulers)
        trainer(tmp_path, max_epochs=2).fit(system)
        assert optimizers["weight"].param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**3)  # 6 batches
        assert optimizers["bias"].param_groups[0]["lr"] == pytest.approx(0.01 * 0.1**2 * 0.5**2)

    def test_a_plateau_may_watch_what_the_same_epoch_logged_of_training(self, tmp_path):
        model = classifier()
        optimizers = two(model)
        plateau = ReduceLROnPlateau(optimizers["bias"])
        config = {"scheduler": plateau, "monitor": "train/loss/epoch"}
        run = trainer(tmp_path)
        run.fit(classification(model=model, optimizer=optimizers, scheduler=config))
        assert plateau.best == pytest.approx(float(run.callback_metrics["train/loss/epoch"]))

    def test_a_monitor_that_is_not_logged(self, tmp_path):
        model = classifier()
        optimizers = two(model)
        config = {"scheduler": ReduceLROnPlateau(optimizers["bias"]), "monitor": "val/dice"}
        with pytest.raises(
            ValueError, match=r"monitor must be a logged value, got 'val/dice'; logged: .*train/loss/epoch"
        ):
            trainer(tmp_path).fit(classification(model=model, optimizer=optimizers, scheduler=config))
        run = trainer(tmp_path)
        run.fit(classification(model=model, optimizer=optimizers, scheduler={**config, "strict": False}))
        assert run.state.finished

    def test_mixed_precision_and_a_dictionary_of_losses(self, tmp_path):
        model = classifier()
        system = classification(
            model=model,
            optimizer=two(model),
            criterion=lambda pred, target: {
                "total": nn.functional.cross_entropy(pred, target),
                "size": pred.abs().mean(),
            },
        )
        run = trainer(tmp_path, precision="bf16-mixed")
        run.fit(system)
        assert run.callback_metrics["train/loss/size/epoch"].isfinite()
        assert torch.load(run.checkpoint_callback.best_model_path, weights_only=True)["epoch"] == 0


@pytest.mark.slow
class TestOneOptimizer:
    def test_a_plateau_follows_the_validation(self, tmp_path):
        model = classifier()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        plateau = ReduceLROnPlateau(optimizer, patience=0, factor=0.5, threshold=1e9)
        config = {"scheduler": plateau, "monitor": "val/loss/epoch"}
        trainer(tmp_path, max_epochs=3).fit(classification(model=model, optimizer=optimizer, scheduler=config))
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**3)

    def test_a_plateau_without_monitor_says_what_to_do(self, tmp_path):
        model = classifier()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with pytest.raises(
            ValueError, match=r"ReduceLROnPlateau needs .* Use \{scheduler: ..., monitor: val/loss/epoch\}"
        ):
            trainer(tmp_path).fit(
                classification(model=model, optimizer=optimizer, scheduler=ReduceLROnPlateau(optimizer))
            )

    @pytest.mark.parametrize("several", [False, True])
    @pytest.mark.parametrize("given", [{}, {"frequency": 2}])
    def test_a_plateau_steps_in_epochs_with_validation(self, tmp_path, several, given):
        model = classifier()
        optimizers = list(two(model).values()) if several else [torch.optim.SGD(model.parameters(), lr=0.01)]
        plateau = ReduceLROnPlateau(optimizers[-1], patience=0, factor=0.5, threshold=1e9)
        config = {"scheduler": plateau, "monitor": "val/loss/epoch", **given}
        system = classification(model=model, optimizer=optimizers, scheduler=config)
        trainer(tmp_path, max_epochs=5, check_val_every_n_epoch=2).fit(system)
        assert plateau.last_epoch == 2
        assert optimizers[-1].param_groups[0]["lr"] == pytest.approx(0.01 * 0.5**2)

    def test_a_plateau_in_epochs_without_validation_is_an_error(self, tmp_path):
        model = classifier()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        config = {"scheduler": ReduceLROnPlateau(optimizer), "monitor": "val/loss/epoch", "frequency": 3}
        with pytest.raises(ValueError, match=r"check_val_every_n_epoch, 2, got 3: .* write frequency: 2\."):
            trainer(tmp_path, check_val_every_n_epoch=2).fit(
                classification(model=model, optimizer=optimizer, scheduler=config)
            )

    @pytest.mark.parametrize(
        ("settings", "given", "words"),
        [
            ({}, {}, "interval must be epoch, got step: val/loss/epoch has no new value after each batch"),
            (
                {"val_check_interval": 2},
                {"frequency": 1},
                r"multiple of trainer::val_check_interval, 2, got 1: .*: 2\.",
            ),
        ],
    )
    def test_a_plateau_that_would_count_one_value_several_times(self, tmp_path, settings, given, words):
        model = classifier()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        config = {"scheduler": ReduceLROnPlateau(optimizer), "monitor": "val/loss/epoch", "interval": "step", **given}
        with pytest.raises(ValueError, match=words):
            trainer(tmp_path, **settings).fit(classification(model=model, optimizer=optimizer, scheduler=config))

    def test_a_plateau_within_epochs_steps_where_its_value_is_new(self, tmp_path):
        def fit(count):
            model = classifier()
            optimizers = [torch.optim.SGD(model.parameters(), lr=0.01) for _ in range(count)]
            plateau = ReduceLROnPlateau(optimizers[-1], patience=0, factor=0.5, threshold=1e9)
            config = {"scheduler": plateau, "monitor": "val/loss/epoch", "interval": "step"}
            system = classification(8, model=model, optimizer=optimizers, scheduler=config)
            trainer(tmp_path, max_epochs=2, val_check_interval=2).fit(system)  # of 4 batches of an epoch
            return plateau.last_epoch

        assert fit(1) == 4
        with pytest.raises(ValueError, match=r"interval must be epoch, got step: .* there are several optimizers"):
            fit(2)

    @pytest.mark.parametrize(("interval", "steps"), [("epoch", 2), ("step", 6)])
    def test_schedulers_step_by_epoch_or_batch(self, tmp_path, interval, steps):
        model = classifier()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        config = {"scheduler": ExponentialLR(optimizer, 0.5), "interval": interval}
        trainer(tmp_path, max_epochs=2).fit(classification(model=model, optimizer=optimizer, scheduler=config))
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**steps)


class TestStatistics:
    def test_names_for_groups_and_for_two_of_a_class(self):
        model = classifier()
        groups = [{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "lr": 0.2}]
        stats = read_optimizer_stats(
            [
                torch.optim.SGD(groups, momentum=0.5),
                torch.optim.Adam(model.parameters()),
                torch.optim.Adam(model.parameters()),
            ]
        )
        assert stats == {
            "optimizer/SGD/lr/group1": 0.1,
            "optimizer/SGD/lr/group2": 0.2,
            "optimizer/SGD/momentum/group1": 0.5,
            "optimizer/SGD/momentum/group2": 0.5,
            "optimizer/Adam/lr": 0.001,
            "optimizer/Adam/momentum": 0.9,
            "optimizer/Adam2/lr": 0.001,
            "optimizer/Adam2/momentum": 0.9,
        }

    def test_an_optimizer_without_momentum_has_none(self):
        assert read_optimizer_stats([torch.optim.Adagrad(classifier().parameters())]) == {"optimizer/Adagrad/lr": 0.01}

    @pytest.mark.parametrize(
        ("value", "expected"),
        [(None, []), (1, [1]), ((1, 2), [1, 2]), ({"a": 1}, [1]), ({"scheduler": 1}, [{"scheduler": 1}])],
    )
    def test_as_list(self, value, expected):
        assert as_list(value, ("scheduler",)) == expected
