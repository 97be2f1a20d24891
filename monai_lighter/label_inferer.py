"""Label maps from windows, without the scores of the whole volume: `SlidingWindowLabelInferer`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import SlidingWindowInferer
from monai.utils import BlendMode, PytorchPadMode, ensure_tuple_rep, fall_back_tuple, look_up_option
from torch import Tensor
from tqdm import tqdm

from monai_lighter.ensemble import list_turns
from monai_lighter.internals import get_scan_interval
from monai_lighter.window_sums import WindowSums

__all__ = ["SlidingWindowLabelInferer"]


class SlidingWindowLabelInferer(SlidingWindowInferer):
    """Label maps by a sliding window, whose memory does not grow with classes times volume.

    A label map is, voxel for voxel, the largest channel of what MONAI's `SlidingWindowInferer` gives for the same arguments
    (the first of several that are equal): windows go through the network in its order and batches, and what overlaps is
    summed in its order, weighted, and divided by the sum of weights. But a part of the volume is held only from the first
    window over it to the last; then it becomes labels. Follows ``monai.inferers.utils.sliding_window_inference``.

    Of an `Ensemble` it is the largest channel of the mean of its members. With its ``cpu_offload`` each member in turn sees a row
    of windows along the first axis, of which the scores are held until the last one has.

    Args:
        roi_size: of a window, one for each axis; of an axis with -1, the image's.
        sw_batch_size: windows that go through the network at once.
        overlap: of windows, from 0 to below 1, one or one for each axis.
        mode: ``constant`` or ``gaussian``: weights within a window.
        sigma_scale: of the Gaussian, relative to the window.
        padding_mode, cval: of images that are smaller than the window.
        sw_device: where windows go through the network; the input's by default.
        device: where they are summed, and of the label map; the input's by default.
        progress: whether to draw a bar.
        cache_roi_weight_map: whether to compute the weights of a window once.
        cpu_thresh: voxels of an image above which ``device`` is the CPU, where it is not given.
        with_coord: whether the network's second argument is the places of the windows.
        roi_weight_map: weights of a window, ``(H, W[, D])`` of ``roi_size``, in the place of those of ``mode``.
        threshold: for classes that overlap, each a channel: 1 where a channel is not below it; one number or one for each.
        sigmoid: whether ``threshold`` is of the sigmoid of the outputs.

    Raises:
        ValueError: arguments that cannot be; in a call, an input that is not ``(B, C, H, W[, D])`` of floating-point numbers, a
            network with several outputs, an output of another size than its window or of one channel without ``threshold``,
            a network that is being trained.
    """

    def __init__(
        self,
        roi_size: Sequence[int] | int,
        sw_batch_size: int = 1,
        overlap: Sequence[float] | float = 0.25,
        mode: BlendMode | str = BlendMode.CONSTANT,
        sigma_scale: Sequence[float] | float = 0.125,
        padding_mode: PytorchPadMode | str = PytorchPadMode.CONSTANT,
        cval: float = 0.0,
        sw_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        progress: bool = False,
        cache_roi_weight_map: bool = False,
        cpu_thresh: int | None = None,
        with_coord: bool = False,
        roi_weight_map: Tensor | None = None,
        threshold: float | Sequence[float] | None = None,
        sigmoid: bool = False,
    ) -> None:
        super().__init__(
            roi_size=roi_size,
            sw_batch_size=sw_batch_size,
            overlap=overlap,
            mode=mode,
            sigma_scale=sigma_scale,
            padding_mode=padding_mode,
            cval=cval,
            sw_device=sw_device,
            device=device,
            progress=progress,
            cache_roi_weight_map=cache_roi_weight_map,
            cpu_thresh=cpu_thresh,
            with_coord=with_coord,
        )
        if roi_weight_map is not None:
            self.roi_weight_map = roi_weight_map
        if sigmoid and threshold is None:
            raise ValueError("sigmoid is for a threshold, got none: the largest channel is the same without.")
        self.threshold, self.sigmoid = threshold, sigmoid

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Labels ``(B, 1, H, W[, D])``, of the smallest of uint8, int16 and int32 that holds all classes; with ``threshold``
        ``(B, C, H, W[, D])`` of 0 and 1. A `MetaTensor` gives one, with its metadata and applied operations.

        Args:
            inputs: ``(B, C, H, W[, D])``.
            network: called as ``network(windows, *args, **kwargs)``.
            args, kwargs: for the network; ``device`` is this inferer's own.
        """
        _check_call(inputs, network, kwargs)
        device = kwargs.pop("device", self.device)
        if device is None and self.cpu_thresh is not None and inputs.shape[2:].numel() > self.cpu_thresh:
            device = "cpu"
        with torch.no_grad():
            labels = self._label(inputs, network, device or inputs.device, args, kwargs)
        return MetaTensor(labels).copy_meta_from(inputs, copy_attr=False) if isinstance(inputs, MetaTensor) else labels

    def _label(self, inputs: Tensor, network: Callable, device: Any, args: Any, kwargs: Any) -> Tensor:
        roi = fall_back_tuple(self.roi_size, inputs.shape[2:])
        image, inside = self._pad(_plain(inputs), roi)
        overlap = ensure_tuple_rep(self.overlap, len(roi))
        if not all(0 <= each < 1 for each in overlap):
            raise ValueError(f"overlap must be from 0 to below 1, got {self.overlap}.")
        windows = dense_patch_slices(image.shape[2:], roi, get_scan_interval(image.shape[2:], roi, overlap))
        weights = self._find_weights(roi, inputs.dtype, self.sw_device or inputs.device)
        # MONAI's result for a MetaTensor is of torch's default type, to which it is rounded
        dtypes = (inputs.dtype, torch.get_default_dtype() if isinstance(inputs, MetaTensor) else inputs.dtype)
        turns = len(list_turns(network))
        sums = WindowSums(image.shape, windows, weights, device, dtypes, self._decide, turns)
        places = [(i, window) for i in range(len(image)) for window in windows]
        batches = [places[i : i + self.sw_batch_size] for i in range(0, len(places), self.sw_batch_size)]
        # members that take turns see a row of windows each; a network alone has each batch as a row of its own
        rows = groupby(enumerate(batches), lambda each: _row(each[1]) if turns > 1 else each[0])
        with tqdm(total=len(batches) * turns, disable=not self.progress) as bar:
            for row in [[batch for _, batch in group] for _, group in rows]:
                for turn in list_turns(network):
                    with turn as member:
                        for batch in row:
                            self._run_batch(image, batch, member, weights, sums, args, kwargs)
                            bar.update()
        assert sums.labels is not None
        place = (slice(None), slice(None), *inside)
        return sums.labels[place]

    def _run_batch(
        self,
        image: Tensor,
        places: list[tuple[int, tuple[slice, ...]]],
        network: Callable,
        weights: Tensor | None,
        sums: WindowSums,
        args: Any,
        kwargs: Any,
    ) -> None:
        """Sends the windows at some places (number of the image, slices in it) through the network, and adds them."""
        coords = [[slice(i, i + 1), slice(None), *window] for i, window in places]
        data = torch.cat([image[tuple(coord)] for coord in coords]).to(self.sw_device or image.device)
        args = (coords, *args) if self.with_coord else args
        scores = self._score(network, data, *args, **kwargs)
        if weights is not None:
            scores *= weights  # in place as in MONAI, which makes a difference to how halves are rounded
        for (i, window), score in zip(places, scores, strict=True):
            sums.add(i, window, score)

    def _pad(self, image: Tensor, roi: Sequence[int]) -> tuple[Tensor, list[slice]]:
        """The image, as large as a window at least, and where in it the image was."""
        missing = [max(wanted - size, 0) for wanted, size in zip(roi, image.shape[2:], strict=True)]
        inside = [slice(more // 2, more // 2 + size) for more, size in zip(missing, image.shape[2:], strict=True)]
        if any(missing):
            pad = [side for more in reversed(missing) for side in (more // 2, more - more // 2)]
            image = F.pad(image, pad, mode=look_up_option(self.padding_mode, PytorchPadMode), value=self.cval)
        return image, inside

    def _find_weights(self, roi: Sequence[int], dtype: torch.dtype, device: Any) -> Tensor | None:
        """``(H, W[, D])``; None where all are 1."""
        weights = self.roi_weight_map
        if weights is None and self.mode == BlendMode.CONSTANT:
            return None
        if weights is None:
            weights = compute_importance_map(
                tuple(roi), mode=self.mode, sigma_scale=self.sigma_scale, device=device, dtype=dtype
            )
        weights = _plain(torch.as_tensor(weights)).to(device=device, dtype=dtype)
        if math.prod(weights.shape) != math.prod(roi) or tuple(weights.shape[-len(roi) :]) != tuple(roi):
            raise ValueError(f"roi_weight_map must be of roi_size {tuple(roi)}, got {tuple(weights.shape)}.")
        return weights.reshape(roi)

    def _score(self, network: Callable, data: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Output of a network for windows, ``(N, K, H, W[, D])``."""
        score = _plain(network(data, *args, **kwargs))
        if not isinstance(score, Tensor):
            raise ValueError(f"the network must give one tensor, got {type(score).__name__}: take one of its outputs.")
        if score.shape[:1] + score.shape[2:] != data.shape[:1] + data.shape[2:] or not score.is_floating_point():
            got = f"{tuple(score.shape)} of {score.dtype}"
            wanted = (
                f"(N, K, …) = {(len(data), 'K', *data.shape[2:])} of floating-point numbers for windows of this size"
            )
            raise ValueError(f"the network must give {wanted}, got {got}.")
        channels = score.shape[1]
        if self.threshold is None and channels < 2:
            raise ValueError(f"the largest of {channels} channels is always the first: give a threshold, got None.")
        if isinstance(self.threshold, Sequence) and len(self.threshold) != channels:
            raise ValueError(f"threshold must be one for each of {channels} channels, got {self.threshold}.")
        return score

    def _decide(self, values: Tensor) -> Tensor:
        """Labels ``(1, …)`` or ``(K, …)`` of final values ``(K, …)``, which it may overwrite."""
        if self.threshold is None:
            return values.max(0).indices[None]  # the same as argmax, in a fraction of its time
        values = values.sigmoid() if self.sigmoid else values
        limits = self.threshold if isinstance(self.threshold, Sequence) else [self.threshold] * len(values)
        return torch.stack([value >= limit for value, limit in zip(values, limits, strict=True)])


def _check_call(inputs: Tensor, network: Callable, kwargs: dict) -> None:
    if inputs.ndim not in (4, 5) or not inputs.is_floating_point():
        got = f"{tuple(inputs.shape)} of {inputs.dtype}"
        raise ValueError(f"the input must be (B, C, H, W[, D]) of floating-point numbers, got {got}.")
    if kwargs.pop("condition", None) is not None:
        raise ValueError("condition is not known to SlidingWindowLabelInferer: take SlidingWindowInferer.")
    if torch.is_grad_enabled() and getattr(network, "training", False):
        hint = "train with SlidingWindowInferer or with none; to predict, call network.eval() or use torch.no_grad()"
        raise ValueError(f"SlidingWindowLabelInferer gives label maps, which have no gradient: {hint}.")


def _row(batch: list[tuple[int, tuple[slice, ...]]]) -> tuple[int, int]:
    """Image and place along the first axis of the first window of a batch."""
    i, window = batch[0]
    return i, window[0].start


def _plain(value: Any) -> Any:
    return value.as_tensor() if isinstance(value, MetaTensor) else value
