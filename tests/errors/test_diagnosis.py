"""What is told of the values and shapes that a part of a step was given."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.networks.nets import SegResNet, UNet, VNet
from torch import nn

from monai_lighter.errors.diagnosis import describe_shapes, describe_values, find_non_finite_rows, list_facts, name_rows
from monai_lighter.errors.marks import Mark


def named(values, *names):
    return MetaTensor(values, meta={"filename_or_obj": list(names)})


def facts(part, batch=None, system=None, **given):
    return list_facts(Mark(part, given, batch, "train batch 0"), system or SimpleNamespace(criterion=None))


@pytest.mark.parametrize("index_map", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_label_outside_of_the_classes(index_map, dtype):
    labels = torch.zeros(2, 1, 4, 4)
    labels[1, 0, 2, 2], labels[1, 0, 3, 3] = 5, 7
    label = named(labels.to(dtype), "a/label.nii.gz", "b/label.nii.gz")
    target = label.as_tensor()[:, 0] if index_map else label.as_tensor()
    batch = {"image": named(torch.zeros(2, 1, 4, 4), "a/image.nii.gz", "b/image.nii.gz"), "label": label}
    (fact,) = facts("system::criterion", batch, target=target, pred=torch.zeros(2, 3, 4, 4))
    assert fact.startswith("label=b/label.nii.gz has the value 5, 7: with 3 classes, 0 to 2 are allowed.")


def test_labels_that_are_allowed():
    target = torch.tensor([[0, 1], [255, 2]])
    system = SimpleNamespace(criterion=nn.CrossEntropyLoss(ignore_index=255))
    assert facts("system::criterion", system=system, target=target, pred=torch.zeros(2, 3, 2)) == []
    assert facts("system::criterion", target=target[:, None].float(), pred=torch.zeros(2, 1, 2)) == []
    assert facts("system::metrics::val::mae", target=torch.tensor([3.5, 9.0]), pred=torch.zeros(2)) == []
    assert facts("system::criterion", target="text", pred=torch.zeros(2, 3)) == []


def test_a_label_that_is_no_integer_and_one_that_is_blank():
    lines = facts(
        "system::criterion", target=torch.tensor([0.5, torch.nan]), pred=torch.zeros(2, 3), batch=[["a", "b"]]
    )
    assert lines[0].startswith("a has the value 0.5: with 3 classes")
    assert lines[1] == "the target of b is not finite: NaN in 1 and infinite in 0 of 1 values"


def of_model(model, shape, **more):
    return facts("system::model", system=SimpleNamespace(model=model, **more), input=torch.zeros(shape))


@pytest.mark.parametrize(
    ("model", "divisor"),
    [
        (UNet(3, 1, 2, (4, 8, 16), (2, 2)), 4),
        (UNet(3, 1, 2, (4, 8, 16, 16), (2, 2, 2)), 8),
        (SegResNet(init_filters=8, blocks_down=(1, 1, 1), blocks_up=(1, 1)), 4),
        (VNet(), 16),
    ],
)
def test_a_size_that_the_strides_do_not_divide(model, divisor):
    size = (divisor * 2 + 1, divisor * 2, divisor * 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    (fact,) = of_model(model, (1, 1, *size))
    needed = (divisor * 3, divisor * 2, divisor * 2)
    assert fact.startswith(f"the network does not take the input {size}, it takes {needed}: multiples of {divisor}.")
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    with pytest.raises((RuntimeError, ValueError)):
        model(torch.zeros(1, 1, *size))
    model(torch.zeros(1, 1, *needed))


def test_windows_of_a_size_that_the_strides_do_not_divide():
    inferer = {"train": SimpleNamespace(roi_size=(6, 8))}
    (fact,) = of_model(UNet(2, 1, 2, (4, 8, 16), (2, 2)), (1, 1, 16, 16), inferer=inferer)
    assert "does not take the roi_size (6, 8), it takes (8, 8): multiples of 4" in fact
    (fact,) = of_model(
        UNet(2, 1, 2, (4, 8, 16), (2, 2)), (1, 1, 6, 8), inferer={"val": SimpleNamespace(roi_size=(8, 8))}
    )
    assert "does not take the input (6, 8), it takes (8, 8): multiples of 4" in fact


def test_a_network_that_rounds_the_size():
    system = SimpleNamespace(criterion=None, model=UNet(2, 1, 2, (4, 8, 16), (2, 2)))
    image = torch.zeros(1, 1, 7, 8)
    pred = system.model(image)
    assert pred.shape[2:] == (8, 8)
    (fact,) = facts("system::criterion", system=system, input=image, target=image, pred=pred)
    assert "does not take the input (7, 8), it takes (8, 8): multiples of 2" in fact


def test_nothing_is_said_of_a_size_that_is_taken():
    assert of_model(UNet(2, 1, 2, (4, 8), (2,)), (1, 1, 8, 8)) == []
    assert of_model(nn.Linear(3, 1), (2, 4)) == []


def test_a_series_among_volumes():
    (fact,) = of_model(UNet(3, 1, 2, (4, 8), (2,)), (1, 1, 8, 8, 8, 3))
    assert fact.startswith("the network takes (B, C, H, W, D), the input has 6 dimensions: (1, 1, 8, 8, 8, 3)")


def test_an_accelerator_that_has_failed_gives_no_values():
    class Lost(torch.Tensor):
        def unique(self, *arguments):
            raise RuntimeError("CUDA error: device-side assert triggered")

    target = torch.zeros(1, 1, 2).as_subclass(Lost)
    assert facts("system::criterion", target=target, pred=torch.zeros(1, 2, 2)) == []


def test_rows_are_named_by_the_entry_whose_data_they_are():
    image, label = named(torch.zeros(1, 2), "i.nii"), named(torch.ones(1, 2), "l.nii")
    assert name_rows({"image": image, "label": label}, label.as_tensor()) == ["label=l.nii"]
    assert name_rows((image, label), label.as_tensor()) == ["l.nii"]
    assert name_rows({"image": image, "label": label}, torch.ones(1, 2)) == ["image=i.nii, label=l.nii"]


def test_rows_that_are_not_finite():
    values = np.random.default_rng(0).normal(size=(6, 2, 3, 4)).astype("float32")
    values[1, 0, 1, 1], values[4, 1, 2, 3] = np.nan, -np.inf
    values[2] = 3e38  # too large to be summed, and finite
    wrong = [i for i, row in enumerate(values) if not np.isfinite(row).all()]
    assert find_non_finite_rows(torch.tensor(values)) == wrong == [1, 4]
    assert find_non_finite_rows({"a": torch.tensor(values), "b": [torch.full((6,), torch.inf)]}) == list(range(6))
    assert find_non_finite_rows(torch.zeros(3, dtype=torch.uint8)) == find_non_finite_rows(torch.zeros(0)) == []
    assert find_non_finite_rows("text") == []
    assert describe_values(["abcdef"], {"input": torch.tensor(values), "more": None}) == [
        "the input of item 1 of the batch is not finite: NaN in 1 and infinite in 0 of 24 values",
        "the input of item 4 of the batch is not finite: NaN in 0 and infinite in 1 of 24 values",
    ]


def test_shapes():
    a, b = torch.zeros(1, 2), torch.zeros(3, dtype=torch.int64)
    assert describe_shapes({"a": a, "b": [b, 3]}) == "{a: (1, 2) float32, b: [(3,) int64, int]}"
    assert describe_shapes([b] * 9) == "[(3,) int64, (3,) int64, (3,) int64, (3,) int64, …]"
