"""Engines that bring their own iteration: MONAI's GAN trainers, and trainers and evaluators of a bundle's own."""

import pytest

pytestmark = pytest.mark.slow

NETWORKS = {
    "generator": "$torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Unflatten(1, (1, 8, 8)))",
    "discriminator": {"_target_": "zoo_parts.Classifier", "classes": 1},
    "g_optimizer": {"_target_": "torch.optim.Adam", "params": "$@generator.parameters()", "lr": 0.01},
    "d_optimizer": {"_target_": "torch.optim.Adam", "params": "$@discriminator.parameters()", "lr": 0.02},
}


def gan(**changes):
    return {
        **NETWORKS,
        "train#dataset#data": "$[{'reals': item['image'].as_tensor()} for item in zoo_parts.items(5)]",
        "train#random": [{"_target_": "RandFlipd", "keys": "reals", "prob": 0.5}],
        "train#extra": [],
        "train#trainer": {
            "_target_": "GanTrainer",
            "device": "@device",
            "max_epochs": "@epochs",
            "train_data_loader": "@train#dataloader",
            "g_network": "@generator",
            "g_optimizer": "@g_optimizer",
            "g_loss_function": "$lambda fakes: @discriminator(fakes).mean()",
            "d_network": "@discriminator",
            "d_optimizer": "@d_optimizer",
            "d_loss_function": "$lambda fakes, reals: @discriminator(reals).mean() - @discriminator(fakes.detach()).mean()",
            "d_train_steps": 2,
            "latent_shape": 4,
            "train_handlers": "@train#handlers",
            **changes,
        },
    }


@pytest.mark.parametrize(
    "changes", [{}, {"g_update_latents": False}, {"optim_set_to_none": True, "epoch_length": 4}], ids=str
)
def test_gan(both, changes):
    reference = both(gan(**changes))
    assert reference.error is None
    assert {"generator", "discriminator"} <= set(reference.parts)


@pytest.mark.parametrize("changes", [{}, {"amp": True}, {"decollate": False}, {"epoch_length": 2}], ids=str)
def test_adversarial(both, changes):
    trainer = {
        "_target_": "AdversarialTrainer",
        "device": "@device",
        "max_epochs": "@epochs",
        "train_data_loader": "@train#dataloader",
        "g_network": "@network",
        "g_optimizer": "@optimizer",
        "g_loss_function": "$lambda fake: -fake.mean()",
        "recon_loss_function": "@loss",
        "d_network": "@discriminator",
        "d_optimizer": "@d_optimizer",
        "d_loss_function": "$lambda real, fake: fake.mean() - real.mean()",
        "train_handlers": "@train#handlers",
        **changes,
    }
    parts = {key: value for key, value in NETWORKS.items() if key[0] == "d"}
    assert both({**parts, "train#trainer": trainer}).error is None


TRAINER = """
import torch
from ignite.engine import Events, EventEnum
from monai.data import decollate_batch
from monai.engines import Evaluator, SupervisedEvaluator, SupervisedTrainer, Trainer
from monai.engines.utils import IterationEvents, default_prepare_batch


class Phases(EventEnum):
    FIRST_DONE = "first_done"
    SECOND_DONE = "second_done"


class TwoStage(Trainer):
    def __init__(self, device, max_epochs, train_data_loader, network, helper, optimizers, loss_function, clip=None,
                 train_handlers=None, key_train_metric=None, decollate=True, epoch_length=None):
        super().__init__(
            device=device, max_epochs=max_epochs, data_loader=train_data_loader, epoch_length=epoch_length,
            prepare_batch=default_prepare_batch, key_metric=key_train_metric, handlers=train_handlers, decollate=decollate,
        )
        self.network, self.helper, self.optimizers = network, helper, optimizers
        self.loss_function, self.clip = loss_function, clip
        self.register_events(*Phases)
        self.add_event_handler(Events.EPOCH_STARTED, self.begin)
        self.scale = torch.amp.GradScaler("cpu", enabled=False)

    def begin(self, engine):
        self.state.losses = []

    def _iteration(self, engine, batchdata):
        if batchdata is None:
            raise ValueError("no batch")
        image, label = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)
        engine.network.train()
        first, second = engine.optimizers
        first.zero_grad()
        pred = engine.network(image)
        loss = engine.loss_function(pred, label)
        engine.scale.scale(loss).backward()
        if engine.clip:
            torch.nn.utils.clip_grad_norm_(engine.network.parameters(), engine.clip)
        engine.scale.step(first)
        engine.scale.update()
        engine.fire_event(Phases.FIRST_DONE)
        second.zero_grad()
        helped = engine.helper(pred.detach())
        other = (helped - label.mean()).square().mean()
        other.backward()
        second.step()
        engine.fire_event(Phases.SECOND_DONE)
        engine.state.losses.append(loss.item())
        engine.state.output = {"image": image, "label": label, "pred": pred, "losses": [loss.item(), other.item()],
                               "parts": {"first": loss.item()}, "loss": loss.item()}
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output


class Unsupervised(SupervisedTrainer):
    def _iteration(self, engine, batchdata):
        image, _ = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking)
        engine.optimizer.zero_grad(set_to_none=engine.optim_set_to_none)
        loss = engine.loss_function(engine.inferer(image, engine.network), image)
        loss.backward()
        engine.optimizer.step()
        return {"image": image, "loss": loss}


class Renamed(SupervisedTrainer):
    def run(self):
        self.state.begun = True
        super().run()


class CaseEvaluator(Evaluator):
    def __init__(self, network, **arguments):
        super().__init__(decollate=False, **arguments)
        self.network = network

    def _register_decollate(self):
        raise AssertionError("decollates in its own way")

    def _iteration(self, engine, batchdata):
        image, label = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking)
        with engine.mode(engine.network):
            pred = engine.network(image)
        engine.state.batch = decollate_batch(batchdata)
        engine.state.output = decollate_batch({"pred": pred, "label": label})
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output


class Adapting(SupervisedEvaluator):
    def _iteration(self, engine, batchdata):
        image = batchdata["image"].clone().requires_grad_(True)
        with torch.enable_grad():
            engine.network(image).mean().backward()
        batchdata["image"] = (image - image.grad).detach()
        return super()._iteration(engine, batchdata)


class GradientsOutside(SupervisedEvaluator):
    def _iteration(self, engine, batchdata):
        image = batchdata["image"].clone().requires_grad_(True)
        engine.network(image).mean().backward()
        batchdata["image"] = (image - image.grad).detach()
        return super()._iteration(engine, batchdata)
"""

TWO_STAGE = {
    "_target_": "scripts.engines.TwoStage",
    "device": "@device",
    "max_epochs": "@epochs",
    "train_data_loader": "@train#dataloader",
    "network": "@network",
    "helper": "@helper",
    "optimizers": "$[@optimizer, @h_optimizer]",
    "loss_function": "@loss",
    "train_handlers": "@train#handlers",
}
HELPER = {
    "helper": {"_target_": "zoo_parts.Classifier"},
    "h_optimizer": {"_target_": "torch.optim.SGD", "params": "$@helper.parameters()", "lr": 0.1},
}
SCRIPTS = {"engines.py": TRAINER}


@pytest.mark.parametrize("changes", [{}, {"clip": 0.1}, {"decollate": False}, {"epoch_length": 4}], ids=str)
def test_trainer_with_two_optimizers(both, changes):
    reference = both({**HELPER, "train#trainer": {**TWO_STAGE, **changes}}, scripts=SCRIPTS)
    assert reference.error is None
    assert {"first_done", "second_done"} <= {row["event"] for row in reference.rows}


@pytest.mark.parametrize("stop", ["terminate", "terminate_epoch", "interrupt", "no_such_method"])
def test_own_trainer_is_stopped(both, stop):
    handler = {
        "_target_": "zoo_parts.At",
        "event": "iteration_completed",
        "count": 2,
        "call": f"$lambda engine: engine.{stop}()",
    }
    both(
        {**HELPER, "train#trainer": TWO_STAGE, "train#extra": [handler]},
        scripts=SCRIPTS,
        fails=stop == "no_such_method",
    )


@pytest.mark.parametrize("name", ["Unsupervised", "Renamed"])
def test_subclass_of_supervised_trainer(both, name):
    changes = {"train#trainer#_target_": f"scripts.engines.{name}", "train#key_metric": None}
    changes |= {"train#trainer#postprocessing": None, "train#extra": []} if name == "Unsupervised" else {}
    assert both(changes, scripts=SCRIPTS).error is None


def test_class_built_in_an_expression(both):
    arguments = "device=@device, max_epochs=2, train_data_loader=@train#dataloader, network=@network, helper=@helper"
    rest = "optimizers=[@optimizer, @h_optimizer], loss_function=@loss, train_handlers=@train#handlers"
    trainer = f"$scripts.engines.TwoStage({arguments}, {rest})"
    imports = ["$import torch", "$import monai", "$import zoo_parts", "$import scripts", "$import scripts.engines"]
    assert both({**HELPER, "train#trainer": trainer, "imports": imports}, scripts=SCRIPTS).error is None


def test_class_named_by_reference(both):
    changes = {"kind": "$monai.engines.SupervisedTrainer", "train#trainer#_target_": "@kind"}
    both(changes)


@pytest.mark.parametrize("target", ["monai.engines.SupervisedTrainer", "monai.engines.trainer.SupervisedTrainer"])
def test_class_named_by_its_path(both, target):
    assert both({"train#trainer#_target_": target}).error is None


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "in training"])
def test_own_evaluator(both, alone):
    evaluator = {
        "_target_": "scripts.engines.CaseEvaluator",
        "network": "@network",
        "device": "@device",
        "val_data_loader": "@validate#dataloader",
        "postprocessing": "@validate#postprocessing",
        "key_val_metric": "@validate#key_metric",
        "val_handlers": "@validate#handlers",
    }
    run = {"run": ["$@validate#evaluator.run()", "$@validate#evaluator.state.metrics"]} if alone else {}
    assert both({"validate#evaluator": evaluator, **run}, scripts=SCRIPTS).error is None


@pytest.mark.parametrize("name", ["Adapting", "GradientsOutside"])
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "in training"])
def test_evaluator_that_uses_gradients(both, name, alone):
    run = {"run": ["$@validate#evaluator.run()", "$@validate#evaluator.state.metrics"]} if alone else {}
    assert both({"validate#evaluator#_target_": f"scripts.engines.{name}", **run}, scripts=SCRIPTS).error is None
