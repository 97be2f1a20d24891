"""How sure a prediction is, voxel by voxel."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor
from torch import Tensor

__all__ = ["PredictiveEntropyd"]

TOLERANCE = 1e-2
"""By how much probabilities may lie outside of 0 to 1, or their sum beside 1: what half precision and windows round."""


class PredictiveEntropyd(MapTransform):
    """Adds the predictive entropy of probabilities, in nats: 0 where a prediction is sure, ln C where it says C classes alike.

    Of the mean of what several say (an `Ensemble` or a `FlipInferer`, with an ``activation``) it is the larger, the less sure
    each is and the more they differ: Gal, Islam, Ghahramani, "Deep Bayesian Active Learning with Image Data", 2017. Values are
    those of ``torch.distributions.Categorical.entropy``, with ``sigmoid`` the sum over channels of ``Bernoulli.entropy``. It
    stands before ``Invertd``, which then has both keys, and before ``AsDiscreted``.

    Args:
        keys: of probabilities ``(C, H, W[, D])``, or ``(C,)``.
        output_postfix: of the key of ``(1, H, W[, D])``, or ``(1,)``, float32, with the metadata of the probabilities: that of
            ``pred`` is ``pred_entropy``.
        sigmoid: whether each channel is a class of its own, which may overlap.
        allow_missing_keys: whether an item need not have the keys.

    Raises:
        ValueError: values that are no probabilities; one channel, without ``sigmoid``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_postfix: str = "entropy",
        sigmoid: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_postfix, self.sigmoid = output_postfix, sigmoid

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            given = item[key]
            values = convert_to_tensor(given, track_meta=False)
            problem = self._find_problem(values)
            if problem:
                raise ValueError(f"PredictiveEntropyd: {key} must be probabilities, {problem}")
            entropy = self._measure(values)
            item[f"{key}_{self.output_postfix}"] = (
                MetaTensor(entropy).copy_meta_from(given, copy_attr=False) if isinstance(given, MetaTensor) else entropy
            )
        return item

    def _find_problem(self, values: Tensor) -> str:
        """Why values are no probabilities; empty where they are. NaN is left to what looks for it."""
        if not values.is_floating_point():
            return f"got {values.dtype}: label maps have no entropy; with an inferer of label maps there are no probabilities."
        if len(values) < 2 and not self.sigmoid:
            return "and one channel has sigmoid: true, got false."
        low, high = torch.aminmax(values) if values.numel() else (torch.zeros(()), torch.zeros(()))
        if low < -TOLERANCE or high > 1 + TOLERANCE:
            hint = "Put Activationsd before it, or give the Ensemble or FlipInferer an activation."
            return f"got {float(low):.4g} to {float(high):.4g}. {hint}"
        if not self.sigmoid and (values.sum(0, dtype=torch.float32) - 1).abs().gt(TOLERANCE).any():
            return "whose channels sum to 1. Put it before Invertd; for classes that overlap write sigmoid: true."
        return ""

    def _measure(self, values: Tensor) -> Tensor:
        """``(1, …)``, channel by channel, so that all of them are not there a second time."""
        entropy = torch.zeros(1, *values.shape[1:], dtype=torch.float32, device=values.device)
        for channel in values:
            probability = channel.float().clamp(0, 1)
            entropy += torch.special.entr(probability)
            if self.sigmoid:
                entropy += torch.special.entr(1 - probability)
        return entropy
