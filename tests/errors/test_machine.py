"""Memory that is not there, and workers that are killed, in real loaders."""

import errno
import os
import signal

import numpy as np
import pytest
import torch
from monai.data import Dataset
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, Lambdad
from parts import trainer
from torch import nn
from torch.utils.data import DataLoader, Subset

from monai_lighter import System
from monai_lighter.errors import CaseError, in_terms_of_config
from monai_lighter.errors.cases import name_cases
from monai_lighter.errors.context import explained
from monai_lighter.errors.machine import AtWork, advise_on_memory, is_of_machine, is_out_of_memory

pytestmark = pytest.mark.usefixtures("impatient_workers")
HUGE = 2**50


def real_error(call):
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("call", "memory", "machine"),
    [
        (lambda: torch.empty(HUGE), True, True),
        (lambda: np.empty(HUGE), True, True),
        (lambda: bytearray(HUGE), True, True),
        (lambda: os.stat("/nowhere/at/all"), False, False),
        (lambda: torch.zeros(2) + torch.zeros(3), False, False),
    ],
)
def test_what_the_machine_lacks_is_known(call, memory, machine):
    error = real_error(call)
    assert is_out_of_memory(error) == memory
    assert is_of_machine(error) == machine


def test_of_accelerators_files_and_workers():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_of_machine(OSError(errno.EMFILE, "Too many open files"))
    assert is_of_machine(RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "))
    assert not is_of_machine(OSError(errno.EIO, "Input/output error"))


def test_what_to_change_has_the_value_that_it_has():
    system = System(nn.Identity(), {"val": DataLoader([1, 2], batch_size=4)}, inferer=SlidingWindowInferer((64, 64), 8))
    advice = advise_on_memory("system::inferer", "val", system)
    assert "lower system::dataloaders::val::batch_size (now 4)" in advice
    assert "lower system::inferer::sw_batch_size (now 8), lower system::inferer::roi_size (now (64, 64))" in advice
    assert "num_workers" in advise_on_memory("system::dataloaders::val", "val", system)
    assert "trainer::precision" in advise_on_memory("system::model", "train", System(nn.Identity()))
    assert "argmax" in advise_on_memory("system::postprocessing::val", "val", system)


class Hungry(torch.autograd.Function):
    """Lacks memory in the backward pass."""

    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        return torch.empty(HUGE)


class Net(nn.Conv2d):
    def __init__(self, forward):
        super().__init__(1, 1, 1)
        self.hungry = forward

    def forward(self, input):
        return super().forward(
            input.expand(-1, 1, HUGE, -1).clone() if self.hungry else Hungry.apply(input * self.weight)
        )


@pytest.mark.slow
@pytest.mark.parametrize("forward", [True, False])
def test_a_step_that_lacks_memory_names_cases_shape_and_setting(tmp_path, forward):
    model = Net(forward)
    data = [{"image": torch.zeros(1, 1, 4), "label": torch.zeros(1, 1, 4), "name": f"case_{i}"} for i in range(2)]
    system = System(
        model,
        {"train": DataLoader(data, batch_size=2)},
        torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=nn.MSELoss(),
    )
    running = trainer(tmp_path)
    with pytest.raises(RuntimeError) as caught, explained({"system": system, "trainer": running}, name_cases(system)):
        running.fit(system)
    message = in_terms_of_config(caught.value)
    assert message.startswith("system::model")
    assert "can't allocate memory" in message
    assert "lower system::dataloaders::train::batch_size (now 2)" in message
    assert "in train batch 1: name=case_0; name=case_1" in message
    assert "(2, 1, 1, 4) float32" in message


def lack(value):
    return np.zeros((HUGE, 2))


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_case_that_lacks_memory_names_its_shape_and_the_setting(workers):
    data = Dataset([{"image": np.zeros((1, 5, 6)), "name": "a"}], Compose([Lambdad("image", lack)]))
    system = System(nn.Identity(), {"val": DataLoader(data, num_workers=workers)})
    sources = name_cases(system)
    with pytest.raises(CaseError) as caught, explained({"system": system}, sources):
        list(system.dataloaders["val"])
    first, shapes, advice = str(caught.value).splitlines()
    assert first.startswith("system::dataloaders::val: case name=a failed: ")
    assert "Unable to allocate" in first
    assert shapes == "with image (1, 5, 6) in Lambdad"
    assert "lower num_workers" in advice


def die(value):
    if value == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("subset", "case"), [(None, "image=3, name=d"), ([5, 3, 1], "image=3, name=d")], ids=["dataset", "subset"]
)
def test_a_worker_that_is_killed_is_named_with_its_case(subset, case):
    data = Dataset([{"image": i, "name": "abcdef"[i]} for i in range(6)], Compose([Lambdad("image", die)]))
    data = data if subset is None else Subset(data, subset)
    loader = DataLoader(data, batch_size=1, num_workers=2)
    system = System(nn.Identity(), {"val": DataLoader([1, 2], num_workers=1), "train": loader})
    sources = name_cases(system)
    with pytest.raises(CaseError) as caught, explained({"system": system}, sources):
        list(loader)
    message = str(caught.value)
    assert message.startswith("system::dataloaders::train: worker ")
    # torch learns of the signal only where nobody has taken its handler of SIGCHLD away
    assert "was killed by a signal (Killed)" in message or "exited unexpectedly" in message
    assert f", at work on case {case}. " in message
    assert "lower num_workers" in message


def test_what_a_worker_is_at_work_on():
    at_work = AtWork(3)
    at_work.start(1)
    at_work.begin((4, 17))
    assert at_work.find(os.getpid()) == ([17], False)
    at_work.begin([2, 3, *range(20)])
    assert at_work.find(os.getpid()) == ([2, 3, 0, 1, 2, 3, 4, 5], False)
    at_work.end()
    assert at_work.find(os.getpid()) == ([2, 3, 0, 1, 2, 3, 4, 5], True)
    assert at_work.find(-1) is None
    at_work.begin("a key")
