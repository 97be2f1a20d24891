import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets import DynUNet
from step_process import LOSS

from monai_lighter.share.layout import SharingError
from monai_lighter.share.network_plan import SHARE, plan_classifier, plan_segmenter
from monai_lighter.share.step_memory import estimate_step_memory

GIB = 1 << 30
CASES = [
    ((48, 40, 44), (1, 1, 1), 2),
    ((300, 300, 90), (0.8, 0.8, 2), 8),
    ((180, 170, 14), (0.9, 0.9, 6), 4),
    ((512, 400), (0.5, 0.5), 2),
    ((9, 11, 10), (1, 1, 1), 2),
    ((100, 3, 64), (1, 1, 1), 2),
]


def plan(size, spacing, memory, count=20, given=None):
    return plan_segmenter(np.array([size] * count, float), spacing, 1, 2, memory * GIB, given)


@pytest.mark.parametrize(("size", "spacing", "memory"), CASES)
def test_the_network_takes_the_patch_that_is_planned(size, spacing, memory):
    made = plan(size, spacing, memory)
    network = DynUNet(
        len(size), 1, 2, **{key: made.network[key] for key in ("kernel_size", "strides", "upsample_kernel_size")}
    )
    with torch.device("meta"):
        network = network.to("meta").train()
        output = network(torch.empty(2, 1, *made.size))
    assert output.shape[2:] == tuple(made.size)
    assert made.memory <= SHARE * memory * GIB
    assert made.batch >= 2


def test_more_memory_is_a_larger_patch_until_the_median_case():
    small, large, all_of_it = (plan((300, 300, 90), (0.8, 0.8, 2), memory) for memory in (4, 8, 1000))
    volumes = [np.prod(each.size) for each in (small, large, all_of_it)]
    assert volumes == sorted(volumes)
    assert len({*volumes}) == 3
    assert all(size >= usual for size, usual in zip(all_of_it.size, (256, 256, 90), strict=True))


def test_a_coarse_axis_has_flat_kernels_and_no_strides_first():
    """nnU-Net's plan for 0.9 x 0.9 x 6 mm."""
    made = plan((180, 170, 14), (0.9, 0.9, 6), 8)
    assert made.network["kernel_size"][:3] == [[3, 3, 1], [3, 3, 1], [3, 3, 3]]
    assert made.network["strides"][:3] == [[1, 1, 1], [2, 2, 1], [2, 2, 1]]


def test_a_patch_that_is_wanted_is_kept_or_refused():
    assert plan((100, 100, 100), (1, 1, 1), 8, given=[64, 64, 32]).size == [64, 64, 32]
    with pytest.raises(
        SharingError, match=r'patch_size: must be multiples .* got \[60, 64, 50\]. Use --patch_size "\[64, 64, 56\]"'
    ):
        plan((100, 100, 100), (1, 1, 1), 8, given=[60, 64, 50])


def test_memory_that_is_not_enough_says_how_much_is():
    with pytest.raises(SharingError, match=r"memory: 10 MB are not enough .* Give 0\.\dGB or more") as raised:
        plan((100, 100, 100), (1, 1, 1), 0.01)
    enough = float(str(raised.value).rpartition("Give ")[2].partition("GB")[0])
    assert plan((100, 100, 100), (1, 1, 1), enough).memory <= SHARE * enough * GIB


def test_images_that_do_not_fit_are_coarser_and_whole():
    sizes = np.array([[200.0, 180, 160]] * 10)
    made = plan_classifier("classification", sizes, (1.0, 1.0, 1.0), 1, 3, 1 * GIB, None)
    assert made.memory <= SHARE * GIB
    assert made.spacing[0] > 1
    assert (np.array(made.size) * made.spacing >= sizes[0]).all()


def test_a_step_is_estimated_as_torch_counts_it():
    """Of a linear network all of it can be said by hand: weights, their gradients and moments, input, hidden, outputs."""

    def build():
        return torch.nn.Sequential(*(torch.nn.Linear(1000, 1000, bias=False) for _ in range(2)))

    weights, activation = 2 * 1000 * 1000 * 4, 64 * 1000 * 4
    found = estimate_step_memory(build, torch.nn.MSELoss(), (64, 1000), (64, 1000))
    assert 4 * weights + 3 * activation <= found <= 4 * weights + 8 * activation


@pytest.mark.slow
@pytest.mark.parametrize(("patch", "batch"), [((48, 48, 48), 2), ((256, 256), 4)])
def test_the_estimate_is_near_what_a_process_takes(patch, batch, python_module):
    """Peak of the resident memory over that before the network was made, within a third."""
    network = plan(patch, (1.0,) * len(patch), 8).network
    layers = {key: network[key] for key in ("kernel_size", "strides", "upsample_kernel_size")}
    shape = (batch, 1, *patch)
    expected = estimate_step_memory(partial(DynUNet, len(patch), 1, 2, **layers), LOSS, shape, shape) / (1 << 20)
    # in a process of its own: others leave memory behind that counts
    done = python_module("step_process", json.dumps([layers, shape]), PYTHONPATH=str(Path(__file__).parent))
    assert done.returncode == 0, done.stderr
    print(f"taken {done.stdout} MiB, estimated {expected:.0f}")
    assert 0.67 < int(done.stdout) / expected < 1.5
