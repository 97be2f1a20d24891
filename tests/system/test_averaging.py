import copy

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging
from parts import classification, classifier, trainer

pytestmark = pytest.mark.slow


class Watch(Callback):
    """The weights at the end of each step, and those that are validated."""

    def __init__(self):
        self.trained, self.validated = [], []

    def on_train_batch_end(self, trainer, module, *_):
        self.trained.append(module.model.weight.detach().clone())

    def on_validation_batch_end(self, trainer, module, *_):
        self.validated.append(module.model.weight.detach().clone())


def averaged(tmp_path, start):
    """Two epochs of two steps, each with one batch of validation."""
    model, watch = classifier(), Watch()
    system = classification(model=model, train=4, val=2)
    average = EMAWeightAveraging(decay=0.5, update_starting_at_step=start)
    run = trainer(tmp_path, max_epochs=2, callbacks=[average, watch])
    run.fit(system)
    checkpoint = torch.load(run.checkpoint_callback.best_model_path, weights_only=True)["state_dict"]["model.weight"]
    last = torch.load(tmp_path / "models" / "model_last.pt", weights_only=True)["weight"]
    return watch, copy.deepcopy(model.weight.detach()), last, checkpoint


def test_an_average_that_never_starts_is_the_network_itself(tmp_path, caplog):
    watch, end, last, checkpoint = averaged(tmp_path, 100)
    assert all(torch.equal(*pair) for pair in zip(watch.validated, watch.trained[1::2], strict=True))
    assert end.equal(watch.trained[-1])
    assert last.equal(watch.trained[-1])
    assert checkpoint.equal(watch.trained[-1])
    assert "EMAWeightAveraging made no update in 4 steps" in caplog.text


def test_an_average_that_starts_later_is_of_the_steps_since_then(tmp_path, caplog):
    watch, end, last, checkpoint = averaged(tmp_path, 2)
    third, fourth = watch.trained[2:]
    expected = 0.5 * third + 0.5 * fourth
    assert watch.validated[0].equal(watch.trained[1])
    for weights in (watch.validated[1], end, last, checkpoint):
        assert torch.allclose(weights, expected)
    assert "no update" not in caplog.text
