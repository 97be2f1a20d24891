"""Predictive entropy: values of SciPy, metadata kept, and what is no probability refused."""

import numpy as np
import pytest
import scipy.stats
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, LoadImaged, Spacingd
from torch.distributions import Bernoulli, Categorical

from monai_lighter.share.synthetic import write_nifti
from monai_lighter.transforms import PredictiveEntropyd


def scores(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (2, 7), (5,)])
def test_values_of_scipy(shape):
    pred = scores(*shape).softmax(0)
    entropy = PredictiveEntropyd("pred")({"pred": pred})["pred_entropy"]
    assert entropy.shape == (1, *shape[1:])
    assert np.allclose(entropy[0], scipy.stats.entropy(pred.numpy(), axis=0), atol=1e-6)
    assert torch.allclose(entropy[0], Categorical(probs=pred.movedim(0, -1)).entropy(), atol=1e-6)


def test_classes_that_overlap():
    pred = scores(3, 4, 5).sigmoid()
    entropy = PredictiveEntropyd("pred", sigmoid=True)({"pred": pred})["pred_entropy"]
    assert torch.allclose(entropy[0], Bernoulli(probs=pred).entropy().sum(0), atol=1e-6)


def test_the_sure_the_undecided_and_the_unknown():
    pred = torch.tensor([[1.0, 0.25, float("nan")], [0.0, 0.25, 0.5], [0.0, 0.25, 0.5], [0.0, 0.25, 0.0]])
    entropy = PredictiveEntropyd("pred")({"pred": pred.half()})["pred_entropy"]
    assert entropy.dtype is torch.float32
    assert entropy[0, :2].tolist() == [0.0, pytest.approx(np.log(4))]
    assert entropy[0, 2].isnan()


def test_it_goes_back_to_the_grid_of_the_source_with_the_prediction(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).random((8, 6, 4)))
    preprocessing = Compose(
        [LoadImaged("image"), EnsureChannelFirstd("image"), Spacingd("image", pixdim=(2.0, 1.0, 1.0))]
    )
    item = preprocessing({"image": tmp_path / "a.nii.gz"})
    pred = MetaTensor(scores(2, *item["image"].shape[1:]).softmax(0)).copy_meta_from(item["image"])
    invert = Invertd(["pred", "pred_entropy"], transform=preprocessing, orig_keys="image", nearest_interp=False)
    result = Compose([PredictiveEntropyd("pred"), invert])({**item, "pred": pred})
    assert result["pred_entropy"].shape == (1, 8, 6, 4)
    assert torch.equal(result["pred_entropy"].affine, result["pred"].affine)


@pytest.mark.parametrize(
    ("pred", "message"),
    [
        (
            torch.zeros(2, 3, dtype=torch.uint8),
            "pred must be probabilities, got torch.uint8: label maps have no entropy",
        ),
        (torch.tensor([[-2.0], [3.0]]), "got -2 to 3. Put Activationsd before it, or give the Ensemble"),
        (torch.tensor([[0.9], [0.9]]), "whose channels sum to 1. Put it before Invertd; for classes that overlap"),
        (torch.tensor([[0.5, 0.0], [0.5, 0.0]]), "whose channels sum to 1"),
        (torch.rand(1, 3), "one channel has sigmoid: true"),
    ],
)
def test_what_is_no_probability(pred, message):
    with pytest.raises(ValueError, match=message):
        PredictiveEntropyd("pred")({"pred": pred})
