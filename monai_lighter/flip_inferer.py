"""Test-time augmentation by flips: `FlipInferer`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import combinations
from typing import Any

from lightning_utilities.core.apply_func import apply_to_collection
from monai.data import MetaTensor
from monai.inferers import DiffusionInferer, Inferer, SaliencyInferer, SimpleInferer, VQVAETransformerInferer
from monai.utils import ensure_tuple
from torch import Tensor

from monai_lighter.ensemble import Ensemble, Member, activate, average, check_activation, list_turns
from monai_lighter.label_inferer import SlidingWindowLabelInferer

__all__ = ["FlipInferer", "find_inner", "gives_label_maps"]

MODULES = (SaliencyInferer, DiffusionInferer, VQVAETransformerInferer)
"""Inferers that look into the network, or call it with more than an image."""


class FlipInferer(Inferer):
    """Test-time augmentation: the mean of what a network says of an image and of its mirror images, each flipped back.

    What is flipped is what the network sees: with a sliding window each window, as in nnU-Net (``nnUNetPredictor``,
    ``_internal_maybe_mirror_and_predict``), so that memory is that of the inferer within, any inferer of images can be within,
    and the mean is there before a `SlidingWindowLabelInferer` takes the largest channel. Three axes take eight times as long.
    Outputs are flipped back as images of scores are: vectors (displacements, flows), whose components would turn, are none.

    Args:
        axes: spatial axes that are flipped, from 0, as the network sees them (H, W[, D]); those by which images were flipped in
            training.
        inferer: how the network is applied to an image. Default: MONAI's ``SimpleInferer``.
        combine: whether axes are also flipped together, as in nnU-Net: 2, 4 or 8 images for 1, 2 or 3 axes; else each by itself,
            2, 3 or 4 images.
        activation: of the outputs, before the mean: ``none``, ``softmax`` over C, or ``sigmoid``, so that it is the mean of
            probabilities.

    Raises:
        ValueError: axes that are none; an unknown activation; an inferer that looks into the network or calls it with more than
            an image (saliency, diffusion); in a call, an axis that the image does not have, a network that is called with other
            tensors beside the image, or whose output is neither of the image's dimensions nor ``(B, K)``, an activation where it
            is an `Ensemble`, which has its own.
    """

    def __init__(
        self,
        axes: Sequence[int] | int,
        inferer: Callable | None = None,
        combine: bool = True,
        activation: str = "none",
    ) -> None:
        super().__init__()
        self.axes = ensure_tuple(axes)
        wrong = [
            axis for axis in self.axes if isinstance(axis, bool) or not isinstance(axis, int) or not 0 <= axis <= 2
        ]
        if wrong or not self.axes or len({*self.axes}) < len(self.axes):
            raise ValueError(f"axes must be spatial axes, each once: 0, 1 or 2, got {axes}.")
        check_activation(activation)
        if isinstance(inferer, MODULES):
            raise ValueError(
                f"inferer must be one of images, got {type(inferer).__name__}: its maps cannot be flipped back."
            )
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.activation = activation
        sizes = range(2, len(self.axes) + 1) if combine else ()
        alone = [(), *((axis,) for axis in self.axes)]
        self.flips = [*alone, *(flip for size in sizes for flip in combinations(self.axes, size))]

    def __call__(self, inputs: Tensor, network: Callable, *args: Any, **kwargs: Any) -> Any:
        """Mean over the flips, of what the inferer gives: ``(B, C, H, W[, D])``, also in dicts, lists and tuples of heads; a
        label map of a `SlidingWindowLabelInferer`.

        Args:
            inputs: ``(B, C, H, W[, D])``.
            network: called as ``network(image, **kwargs)``.
            args, kwargs: as the inferer takes them; those for the network must not be tensors.
        """
        if self.activation != "none" and isinstance(network, (Ensemble, Member)):
            raise ValueError(
                f"activation must be none for an Ensemble, got {self.activation}: give it to the Ensemble."
            )
        return self.inferer(inputs, _Flipping(network, self.flips, self.activation), *args, **kwargs)


class _Flipping:
    """A network that says the mean of what another one says of mirror images.

    Args:
        network: the other one.
        flips: axes that are flipped at once, for each of the images.
        activation: of its outputs.
    """

    def __init__(self, network: Callable, flips: list[tuple[int, ...]], activation: str) -> None:
        self.network, self.flips, self.activation = network, flips, activation
        self.training = getattr(network, "training", False)
        self.cpu_offload = getattr(network, "cpu_offload", False)

    def __call__(self, image: Tensor, *args: Any, **kwargs: Any) -> Any:
        if args or any(isinstance(value, Tensor) for value in kwargs.values()):
            raise ValueError(
                "the network must be called with the image alone: what else it is given cannot be flipped."
            )
        missing = [axis for flip in self.flips for axis in flip if axis >= image.ndim - 2]
        if missing:
            raise ValueError(f"axes must be of the {image.ndim - 2} that the network sees, got {missing[0]}.")
        image = image.as_tensor() if isinstance(image, MetaTensor) else image
        return average(self._say(image, [axis + 2 for axis in flip], kwargs) for flip in self.flips)

    def _say(self, image: Tensor, dims: list[int], kwargs: dict[str, Any]) -> Any:
        output = activate(self.network(image.flip(dims), **kwargs), self.activation)

        def flip_back(tensor: Tensor) -> Tensor:
            if tensor.ndim not in (image.ndim, 2):
                shapes = f"{tuple(tensor.shape)} for {tuple(image.shape)}"
                raise ValueError(f"outputs must have the dimensions of the image, or be (B, K), got {shapes}.")
            return tensor.flip(dims) if tensor.ndim == image.ndim else tensor

        return apply_to_collection(output, Tensor, flip_back)

    def turns(self) -> list[AbstractContextManager[Callable]]:
        """As `Ensemble.turns`, of the members with their flips."""
        return [self._turn(turn) for turn in list_turns(self.network)]

    @contextmanager
    def _turn(self, turn: AbstractContextManager[Callable]) -> Iterator[Callable]:
        with turn as member:
            yield _Flipping(member, self.flips, self.activation)


def find_inner(inferer: Any) -> Any:
    """The inferer that makes what an image comes to: that within a `FlipInferer`, else itself."""
    return find_inner(inferer.inferer) if isinstance(inferer, FlipInferer) else inferer


def gives_label_maps(inferer: Any) -> bool:
    """Whether an inferer gives label maps, of which there is no loss and no mean."""
    return isinstance(find_inner(inferer), SlidingWindowLabelInferer)
