"""Accelerators and devices: those there are not are errors; those that this machine does not have keep a run from starting."""

import pytest
from lightning.pytorch.accelerators import CUDAAccelerator

from monai_lighter import ConfigError, Workflow
from monai_lighter.check.devices import find_absent_devices
from monai_lighter.errors import Note
from monai_lighter.workflow.check_config import Check


def found(**trainer):
    return list(find_absent_devices({"trainer": trainer}, "trainer"))


@pytest.fixture
def cuda(monkeypatch):
    """Makes as many CUDA devices appear."""

    def appear(count):
        monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: count > 0))
        monkeypatch.setattr(CUDAAccelerator, "auto_device_count", staticmethod(lambda: count))

    return appear


@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "tpu"])
def test_an_accelerator_that_is_not_on_this_machine(cuda, accelerator):
    cuda(0)
    (note,) = found(accelerator=accelerator)
    assert isinstance(note, Note)
    assert str(note).startswith(f"trainer::accelerator: {accelerator!r} is not on this machine, which has cpu")


@pytest.mark.parametrize(
    ("devices", "wrong"),
    [
        (1, False),
        (2, False),
        (3, True),
        ("3", True),
        ([0, 1], False),
        ([2], True),
        ("auto", False),
        (-1, False),
        (None, False),
    ],
)
def test_more_devices_than_there_are(cuda, devices, wrong):
    cuda(2)
    notes = found(accelerator="cuda", devices=devices)
    assert [note.id for note in notes] == ["trainer::devices"] * wrong


@pytest.mark.parametrize("accelerator", [None, "auto", "cpu", "$'gpu'", "@device", 3])
def test_what_is_there_or_not_known_yet(cuda, accelerator):
    cuda(0)
    assert found(accelerator=accelerator, devices=2) == []


def test_a_name_that_there_is_not():
    (finding,) = found(accelerator="cuda:1")
    assert not isinstance(finding, Note)
    assert finding.hint == "Write accelerator: gpu, devices: [1]."


def test_a_check_goes_on_where_a_run_does_not(bundle, cuda):
    cuda(0)
    file, override = str(bundle / "configs" / "train.yaml"), {"trainer::accelerator": "gpu"}
    check = Check(file, override)
    assert check.errors == []
    assert [note.id for note in check.notes if "machine" in note.problem] == ["trainer::accelerator"]
    with pytest.raises(ConfigError, match="trainer::accelerator: 'gpu' is not on this machine"):
        Workflow(file, run_id="fit", logging_file=False, **override).initialize()
