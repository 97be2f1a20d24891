"""Values that are not finite: a fit stops before they get into the weights, and the cases are named."""

import csv

import nibabel
import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from monai.data import DataLoader, Dataset
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import Compose, LoadImaged
from parts import classification, classifier, loader, pairs, trainer
from torch import nn

from monai_lighter import System, TableWriter
from monai_lighter.errors import NonFiniteError
from monai_lighter.system.finite import FiniteLoss, _UnjudgedLoss, note_cases

LOAD = Compose([LoadImaged(["image", "label"], ensure_channel_first=True)])


@pytest.fixture
def cases(tmp_path):
    """Four cases with a voxel of NaN in the third."""
    random = np.random.default_rng(0)
    for name in ("a", "b", "bad", "c"):
        image = random.normal(size=(8, 8, 8)).astype("float32")
        label = (image > 0).astype("uint8")
        if name == "bad":
            image[1, 2, 3] = np.nan
        (tmp_path / name).mkdir()
        for what, values in (("image", image), ("label", label)):
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / name / f"{what}.nii.gz")
    return [
        {what: str(tmp_path / name / f"{what}.nii.gz") for what in ("image", "label")}
        for name in ("a", "b", "bad", "c")
    ]


def segmentation(data, optimizers=1, norm="batch", batch_size=1):
    torch.manual_seed(0)
    model = UNet(3, 1, 2, (4, 8), (2,), norm=norm)
    first, second = list(model.parameters())[:4], list(model.parameters())[4:]
    return System(
        model,
        {"train": DataLoader(Dataset(data, LOAD), batch_size=batch_size)},
        torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        if optimizers == 1
        else [torch.optim.SGD(first, 0.1), torch.optim.Adam(second, 0.1)],
        criterion=DiceCELoss(to_onehot_y=True, softmax=True),
    )


def weights(path):
    return torch.load(path, weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("optimizers", [1, 2])
def test_the_last_finite_weights_are_kept(tmp_path, cases, optimizers):
    trainer(tmp_path / "good").fit(segmentation(cases[:2], optimizers, "instance"))
    with pytest.raises(NonFiniteError) as caught:
        trainer(tmp_path / "bad").fit(segmentation(cases, optimizers, "instance"))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("system::criterion: the loss is nan in epoch 1, batch 3.")
    assert lines[1] == f"cases: image={cases[2]['image']}, label={cases[2]['label']}"
    assert lines[2] == f"the input of image={cases[2]['image']} is not finite: NaN in 1 and infinite in 0 of 512 values"
    kept, right = (weights(tmp_path / name / "models" / "model_last.pt") for name in ("bad", "good"))
    assert all(value.equal(right[name]) for name, value in kept.items())
    assert not (tmp_path / "bad" / "models" / "model.pt").exists()


@pytest.mark.slow
def test_statistics_that_the_bad_batch_has_spoilt(tmp_path, cases):
    system = segmentation(cases)
    start = {name: value.clone() for name, value in system.model.state_dict().items()}
    with pytest.raises(NonFiniteError):
        trainer(tmp_path).fit(system)
    kept = weights(tmp_path / "models" / "model_last.pt")
    assert all(value.isfinite().all() for value in kept.values())
    means = [name for name in kept if name.endswith("running_mean")]
    assert means
    assert all(kept[name].equal(start[name]) for name in means)
    assert not any(kept[name].equal(start[name]) for name in kept if name.endswith("conv.weight"))


@pytest.mark.slow
def test_the_best_weights_of_before_stay(tmp_path):
    class Late(nn.Module):
        def forward(self, pred, target):
            return nn.functional.cross_entropy(pred, target) * (torch.nan if system.current_epoch else 1)

    system = classification(criterion=Late())
    with pytest.raises(NonFiniteError, match="epoch 2, batch 1") as caught:
        trainer(tmp_path, max_epochs=2).fit(system)
    assert "input and target are finite: the cause is in the network, the loss or a learning rate" in str(caught.value)
    best, last = (weights(tmp_path / "models" / name) for name in ("model.pt", "model_last.pt"))
    assert best["weight"].equal(last["weight"])


@pytest.mark.slow
def test_gradients_are_accumulated_up_to_the_bad_batch(tmp_path, cases):
    trainer(tmp_path / "good", accumulate_grad_batches=2).fit(segmentation(cases[:2], norm="instance"))
    with pytest.raises(NonFiniteError, match="batch 3"):
        trainer(tmp_path / "bad", accumulate_grad_batches=2).fit(segmentation(cases, norm="instance"))
    kept, right = (weights(tmp_path / name / "models" / "model_last.pt") for name in ("bad", "good"))
    assert all(value.equal(right[name]) for name, value in kept.items())


@pytest.mark.slow
def test_gradients_that_overflow_are_the_scalers(tmp_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    system = classification()
    before = system.model.weight.detach().clone()
    trainer(tmp_path, plugins=[MixedPrecision("16-mixed", "cpu", scaler)], max_epochs=6).fit(system)
    assert scaler.get_scale() < 2.0**24
    assert weights(tmp_path / "models" / "model_last.pt")["weight"].isfinite().all()
    assert not system.model.weight.equal(before)


class Explodes(torch.autograd.Function):
    """A finite loss with a gradient that is not."""

    @staticmethod
    def forward(context, value):
        return value.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * torch.inf


def explode(pred, target):
    return Explodes.apply(nn.functional.cross_entropy(pred, target))


@pytest.mark.slow
def test_on_a_device_the_loss_is_judged_when_the_backward_pass_is_queued(tmp_path, monkeypatch):
    """The answer that is still on its way to the CPU when the step ends; here it has arrived."""
    order = []

    class Copied:
        def synchronize(self):
            order.append("waited")

    def watch(self, loss, batch, given, batch_idx):
        order.append("step")
        loss = loss.detach() * torch.nan
        self._watched = _UnjudgedLoss(loss.isfinite(), Copied(), loss, batch, given, "epoch 0, batch 0")

    monkeypatch.setattr(FiniteLoss, "watch_loss", watch)
    system = classification()
    system.on_before_backward = lambda loss: order.append("backward")
    before = system.model.weight.detach().clone()
    with pytest.raises(NonFiniteError, match="the loss is nan in epoch 0, batch 0"):
        trainer(tmp_path).fit(system)
    assert order == ["step", "backward", "waited"]
    assert system.model.weight.equal(before)


@pytest.mark.slow
def test_weights_that_are_not_finite_at_the_end(tmp_path):
    system = classification(train=2, criterion=explode)
    with pytest.raises(NonFiniteError, match="when the fit ended, bias, weight are not finite: not saved"):
        trainer(tmp_path, limit_val_batches=0).fit(system)
    assert not list((tmp_path / "models").iterdir())


@pytest.mark.slow
def test_weights_that_are_not_finite_are_not_the_best(tmp_path):
    system = classification(train=2, criterion=lambda pred, target: explode(pred.nan_to_num(), target))
    with pytest.raises(NonFiniteError):
        trainer(tmp_path).fit(system)
    assert not list((tmp_path / "models").iterdir())


@pytest.mark.slow
def test_a_buffer_that_is_infinite_on_purpose(tmp_path):
    class Masked(nn.Linear):
        def __init__(self):
            super().__init__(4, 3)
            self.register_buffer("mask", torch.tensor(-torch.inf))

    trainer(tmp_path).fit(classification(model=Masked()))
    assert weights(tmp_path / "models" / "model.pt")["mask"] == -torch.inf


@pytest.mark.slow
def test_cases_of_an_evaluation_are_named(tmp_path, cases, caplog):
    loaders = {"val": DataLoader(Dataset(cases[1:3], LOAD), batch_size=2)}
    system = System(UNet(3, 1, 2, (4, 8), (2,)), loaders, criterion=DiceCELoss(to_onehot_y=True, softmax=True))
    trainer(tmp_path).validate(system)
    assert [r.message for r in caplog.records if "finite" in r.message] == [
        f"val: case {cases[2]['image']}: input and prediction not finite (NaN or infinite)"
    ]


def test_notes(caplog):
    good, bad = torch.zeros(2, 1, 3), torch.tensor([[[0.0, 0, 0]], [[0, 0, torch.inf]]])
    assert note_cases("predict", None, None, good, good) is None
    assert note_cases("predict", None, ["a", "b"], bad, {"head": good}) == ["", "input not finite"]
    assert note_cases("predict", None, None, good, (good, bad)) == ["", "prediction not finite"]
    assert note_cases("predict", None, None, good, [bad.flip(0), bad]) == ["prediction not finite"] * 2
    assert "case 1 of the batch: prediction not finite" in caplog.text


def test_a_list_with_an_entry_for_each_case():
    images = [torch.zeros(1, 4, 5), torch.full((1, 3, 3), torch.nan), torch.zeros(1, 2, 2)]
    boxes = [{"boxes": torch.zeros(2, 4)}, {"boxes": torch.zeros(0, 4)}, {"boxes": torch.full((1, 4), torch.inf)}]
    assert note_cases("test", None, None, images, boxes) == ["", "input not finite", "prediction not finite"]
    rows = torch.tensor([0, 0, torch.nan])  # of no case in particular
    assert note_cases("test", None, None, torch.zeros(2, 1), rows) == ["prediction not finite"] * 2


@pytest.mark.slow
def test_cases_without_names_are_counted(tmp_path):
    data = pairs(5)
    data[2] = (torch.full((4,), torch.nan), 0)
    table = TableWriter(tmp_path / "out.csv", lambda pred: int(pred.argmax()))
    trainer(tmp_path, callbacks=[table]).predict(
        System(classifier(), {"predict": loader(data)}), return_predictions=False
    )
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert [row[2] for row in rows] == ["note", "", "", "input and prediction not finite", "", ""]
