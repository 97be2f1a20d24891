"""Several networks as one."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from os import PathLike
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, ModuleList

from monai_lighter.models import load_weights

__all__ = ["Ensemble"]

ACTIVATIONS = ("softmax", "sigmoid", "none")


class Ensemble(Module):
    """The mean of what several networks say, or their vote, as ``system::model`` of any config that does not train it.

    By default it gives the mean of their outputs (as nnU-Net has it), and stands in the place of one of them. With an
    ``activation`` it gives the mean of probabilities, ``(B, C, …)`` from 0 to 1, and none is to come after it. MONAI's
    ``MeanEnsembled`` and ``VoteEnsembled`` do the same to predictions that all lie in memory.

    Args:
        networks: the members; or one network, of which there is a copy for each file of weights.
        weights: files for `load_weights`, one for each member.
        activation: of each member, before the mean: ``none``, ``softmax`` over C, or ``sigmoid``.
        vote: each member counts with its largest channel alone (``sigmoid``: with each one above 0.5), so that the result is
            the share of the members, from 0 to 1.

    Raises:
        ValueError: no members, weights for another number of them, an unknown activation; in a step, a softmax over one channel.
        FileNotFoundError, RuntimeError: as of `load_weights`.
    """

    def __init__(
        self,
        networks: Module | Sequence[Module],
        weights: Sequence[str | PathLike] | None = None,
        activation: str = "none",
        vote: bool = False,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}.")
        if isinstance(networks, Module):
            if not weights:
                raise ValueError("weights must name a file for each member where networks is one network, got none.")
            networks = [deepcopy(networks) for _ in weights]
        if not networks or (weights is not None and len(weights) != len(networks)):
            raise ValueError(f"networks, weights must be as many, got {len(networks)}, {len(weights or ())}.")
        for network, file in zip(networks, weights or (), strict=False):
            load_weights(network, file)
        self.members = ModuleList(networks)
        self.activation, self.vote = activation, vote

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Mean over the members ``(B, C, …)``; members are called with what it is called with."""
        total: Tensor | None = None
        for member in self.members:
            said = self._read(member(*args, **kwargs))
            total = said if total is None else total.add_(said)
        assert total is not None
        return total.div_(len(self.members))

    def _read(self, output: Tensor) -> Tensor:
        """What a member says, as a tensor of its own."""
        if self.activation == "softmax" and output.shape[1] == 1:
            raise ValueError(f"activation must be sigmoid for one channel, got softmax for {tuple(output.shape)}.")
        if self.vote and self.activation != "sigmoid":
            return torch.zeros_like(output).scatter_(1, output.argmax(1, keepdim=True), 1)
        if self.activation == "none":
            return output.clone()
        said = output.softmax(1) if self.activation == "softmax" else output.sigmoid()
        return (said > 0.5).to(said.dtype) if self.vote else said
