import copy
import pickle

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LambdaCallback
from monai.data import DataLoader, MetaTensor

from monai_lighter import ModelWeights, System
from monai_lighter.system.hooks import OF_STEP, QuickHooks, leave_out_idle_hooks

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


def make_system(kind=System):
    model = torch.nn.Linear(2, 1)
    loader = DataLoader([{"image": torch.rand(2), "label": torch.rand(1)} for _ in range(4)], batch_size=2)
    return kind(
        model,
        {"train": loader, "val": loader, "test": loader, "predict": loader},
        torch.optim.SGD(model.parameters(), 0.1),
        criterion=torch.nn.MSELoss(),
    )


class Told(Callback):
    """Somebody's callback, which writes down every hook of a step that it has as Lightning's is, and those that it has itself."""

    def __init__(self, order=None):
        self.order = [] if order is None else order

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self.order.append((type(self).__name__, batch_idx, float(outputs["loss"])))


class ToldToo(ModelWeights):
    """A user's subclass of the package's: what it overrides is called, with a ``super()`` that is there."""

    def __init__(self, order):
        super().__init__()
        self.order = order

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self.order.append((type(self).__name__, batch_idx))


@pytest.mark.slow
def test_callbacks_of_others_see_what_they_saw_in_the_same_order(tmp_path):
    order = []
    callbacks = [Told(order), ToldToo(order), EarlyStopping("train/loss/step", strict=False), Told(order)]
    trainer = Trainer(max_epochs=1, callbacks=callbacks, accelerator="cpu", default_root_dir=tmp_path, **QUIET)
    system = make_system()
    losses = []
    system.on_after_backward = lambda: losses.append(float(trainer.callback_metrics.get("train/loss/step", -1)))
    trainer.fit(system)
    assert [each[:2] for each in order] == [(name, batch) for batch in range(2) for name in ("ToldToo", "Told", "Told")]
    assert len(losses) == 2
    assert all(callable(getattr(callbacks[0], name)) for name in OF_STEP)  # nothing of somebody's instance is changed
    for stage in ("validate", "test", "predict"):
        getattr(trainer, stage)(system)


def test_empty_hooks_are_those_of_lightnings_base_class_alone():
    calls = []
    stopping, lambdas = EarlyStopping("x"), LambdaCallback(on_before_zero_grad=lambda *args: calls.append(args))
    for each in (stopping, lambdas):
        leave_out_idle_hooks(each)
    assert stopping.on_train_batch_start is None
    assert callable(stopping.on_validation_end)
    lambdas.on_before_zero_grad(1, 2, 3)
    assert calls == [(1, 2, 3)]
    assert callable(super(EarlyStopping, stopping).on_train_batch_start)
    assert pickle.loads(pickle.dumps(stopping)).on_train_batch_start is None
    assert callable(EarlyStopping("x").on_train_batch_start)


def test_a_hook_that_the_class_is_given_between_two_runs_is_called(monkeypatch):
    """A callback, or a pickled one, of a run before: what is hidden is decided anew for each run."""
    stopping, calls = EarlyStopping("x"), []
    leave_out_idle_hooks(stopping)
    monkeypatch.setattr(EarlyStopping, "on_after_backward", lambda self, *args: calls.append(args), raising=False)
    leave_out_idle_hooks(stopping)
    stopping.on_after_backward(1, 2)
    assert calls == [(1, 2)]
    assert stopping.on_before_backward is None


class Stepping(System):
    """A user's System with hooks of its own."""

    seen = ()

    def on_train_batch_start(self, batch, batch_idx):
        self.seen = (*self.seen, f"start {batch_idx}")
        return super().on_train_batch_start(batch, batch_idx)

    def on_before_optimizer_step(self, optimizer):
        self.seen = (*self.seen, "step")


@pytest.mark.slow
def test_a_module_that_has_hooks_of_its_own_is_asked(tmp_path):
    system = make_system(Stepping)
    Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, **QUIET).fit(system)
    assert system.seen == ("start 0", "step", "start 1", "step")
    assert copy.deepcopy(system).on_before_zero_grad is None
    assert callable(system.on_after_backward)


def test_every_hook_of_a_step_that_is_left_out_is_one_of_lightnings():
    for name in OF_STEP:
        assert callable(getattr(Callback, name))
        assert callable(getattr(LightningModule, name))


CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "batch",
    [
        {"image": torch.rand(2, 1), "label": torch.rand(2, 1)},
        {"image": MetaTensor(torch.rand(2, 1)), "name": ["a", "b"]},
        [torch.rand(2, 1), {"label": torch.rand(2)}],
        (torch.rand(2, 1), 3),
        torch.rand(2, 1),
    ],
)
def test_a_batch_is_moved_as_lightning_moves_it(batch):
    moved, expected = (kind().transfer_batch_to_device(batch, CPU, 0) for kind in (QuickHooks, LightningModule))
    assert type(moved) is type(expected)
    assert str(moved) == str(expected)
    if isinstance(batch, dict):
        assert moved is not batch


def test_a_batch_for_another_device_is_moved():
    moved = QuickHooks().transfer_batch_to_device({"image": torch.rand(2)}, torch.device("meta"), 0)
    assert moved["image"].device.type == "meta"
