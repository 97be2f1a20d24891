import inspect

import pytest
from lightning.pytorch import Trainer
from torch import nn

from monai_lighter.check.former import FORMER, suggest_former


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("gpus", 2, "Write accelerator: gpu, devices: 2."),
        ("gpus", 0, "Write accelerator: cpu."),
        ("resume_from_checkpoint", "last.ckpt", "Write args::fit::ckpt_path: last.ckpt."),
        ("auto_lr_find", True, "Write {_target_: lightning.pytorch.callbacks.LearningRateFinder} in callbacks."),
        ("max_epoch", 2, None),
    ],
)
def test_what_to_write_for_an_argument_of_an_older_trainer(key, value, hint):
    assert suggest_former(Trainer, key, value) == hint
    assert suggest_former(nn.Linear, key, value) is None


def test_none_of_them_has_come_back():
    assert not FORMER.keys() & inspect.signature(Trainer).parameters.keys()
