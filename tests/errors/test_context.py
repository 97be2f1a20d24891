"""What a run that failed says of the config, in this process and on the command line."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.exceptions import SIGTERMException
from monai.inferers import SlidingWindowInferer
from parts import classification, classifier, items, loader, pairs, trainer
from torch import nn
from torchmetrics.classification import BinaryAccuracy

from monai_lighter import BatchAdapter, ComponentError, System
from monai_lighter.errors import in_terms_of_config
from monai_lighter.errors.context import explained


class Fails(nn.Linear):
    def forward(self, x):
        raise ArithmeticError("no such vector")


class FailingCallback(Callback):
    def on_train_epoch_end(self, trainer, module):
        raise OSError("no space left")


class FailingData:
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.zeros(index + 1), 0


def fails(*arguments, **keywords):
    raise ArithmeticError("no")


def message(tmp_path, system, **keywords):
    """What the config is told of a fit that fails."""
    fit = trainer(tmp_path, **keywords)
    with pytest.raises(Exception, match=r".") as caught, explained({"system": system, "trainer": fit}, {}):
        fit.fit(system)
    return in_terms_of_config(caught.value) or ""


@pytest.mark.parametrize(
    ("keywords", "start"),
    [
        ({"model": Fails(4, 3)}, "system::model: ArithmeticError: no such vector\nat "),
        ({"model": nn.Linear(5, 3)}, "system::model: RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        ({"criterion": fails}, "system::criterion: ArithmeticError: no\n"),
        ({"criterion": nn.BCEWithLogitsLoss()}, "system::criterion: ValueError: Target size"),
        ({"criterion": lambda pred, target: {"loss": pred.sum()}}, "system::criterion: a dictionary of losses must"),
        ({"metrics": {"train": {"acc": BinaryAccuracy()}}}, "system::metrics::train::acc: "),
        ({"inferer": {"train": SlidingWindowInferer([3, 3])}}, "system::inferer: ValueError: Inputs must have 4"),
        ({"adapters": {"train": {"batch": BatchAdapter("image")}}}, "system::adapters::train::batch: ValueError: acc"),
        ({"adapters": {"train": {"logging": fails}}}, "system::adapters::train::logging: ArithmeticError: no"),
        ({"dataloaders": {"train": loader(FailingData())}}, "system::dataloaders::train: RuntimeError: stack expects"),
        (
            {"dataloaders": {"train": loader(pairs(4), num_workers=1, collate_fn=fails)}},
            "system::dataloaders::train: ArithmeticError: Caught ArithmeticError in DataLoader worker process 0. "
            "ArithmeticError: no\n",
        ),
    ],
)
def test_a_part_of_the_system(tmp_path, keywords, start):
    assert message(tmp_path, classification(**keywords)).startswith(start)


def test_where_and_on_what(tmp_path):
    lines = message(tmp_path, classification(model=Fails(4, 3))).splitlines()
    assert lines[1].startswith(f"at {__file__}:")
    assert lines[2] == "with input (2, 4) float32"


def test_postprocessing_and_a_scheduler(tmp_path):
    system = classification()
    system.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(system.optimizer)
    assert message(tmp_path, system).startswith("system::scheduler: ReduceLROnPlateau needs the name")
    model = nn.Conv2d(1, 1, 1)
    segmentation = System(
        model,
        {"train": loader(items(2))},
        torch.optim.SGD(model.parameters()),
        criterion=nn.MSELoss(),
        postprocessing={"train": fails},
    )
    assert message(tmp_path, segmentation).startswith("system::postprocessing::train: ")


@pytest.mark.parametrize(
    ("keywords", "start"),
    [
        ({"callbacks": [FailingCallback()]}, "trainer::callbacks (FailingCallback): OSError: no space left\nat "),
        ({"callbacks": [EarlyStopping("val/los")]}, "trainer::callbacks (EarlyStopping): RuntimeError: Early stopping"),
        ({"gradient_clip_val": 1.0}, "trainer: MisconfigurationException: Automatic gradient clipping"),
    ],
)
def test_a_part_of_the_trainer(tmp_path, keywords, start):
    system = classification()
    if "gradient_clip_val" in keywords:
        system = classification(optimizer=[system.optimizer, torch.optim.SGD(classifier().parameters())])
    assert message(tmp_path, system, **keywords).startswith(start)


def test_what_has_nothing_to_do_with_the_config_is_left_alone():
    with pytest.raises(KeyError) as caught, explained({}, {}):
        {}["a"]
    assert in_terms_of_config(caught.value) is None
    with pytest.raises(ComponentError, match="mine"), explained({}, {}):
        raise ComponentError("id", "mine")


def test_terminated():
    with pytest.raises(SIGTERMException) as caught, explained({}, {}):
        raise SIGTERMException
    assert caught.value.code == 143


def test_the_command_line(bundle, monai_bundle):
    arguments = ["fit", "--workflow", "monai_lighter.Workflow", "--config_file", "configs/train.yaml"]
    done = monai_bundle("run", *arguments, "--network_def::in_channels", "3", cwd=bundle)
    assert done.returncode == 1
    assert "system::model: RuntimeError: Given groups=1" in done.stderr
    assert "with input (1, 1, 16, 16) float32" in done.stderr
    assert "Traceback" not in done.stderr
    shown = monai_bundle("run", *arguments, "--network_def::in_channels", "3", cwd=bundle, MONAI_DEBUG="true")
    assert "Traceback" in shown.stderr


SLOW = """
import time
from lightning.pytorch import Callback


class Slow(Callback):
    def on_train_batch_end(self, *arguments):
        print("a step", flush=True)
        time.sleep(0.5)
"""


def test_a_fit_that_is_terminated_has_an_exit_code(bundle):
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "slow.py").write_text(SLOW)
    command = [sys.executable, "-m", "monai.bundle", "run", "fit", "--workflow", "monai_lighter.Workflow"]
    changes = ["--trainer::callbacks", "[{'_target_': 'scripts.slow.Slow'}]", "--max_epochs", "100"]
    process = subprocess.Popen(
        [*command, "--config_file", "configs/train.yaml", *changes], cwd=bundle, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    for line in process.stdout:
        if "a step" in line:
            break
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    assert process.wait(60) == 143
