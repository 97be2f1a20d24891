"""Several networks as one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection, apply_to_collections
from torch import Tensor
from torch.nn import Module, ModuleList

from monai_lighter.models import load_weights

__all__ = ["Ensemble", "Member", "activate", "average", "average_members", "check_activation", "list_turns"]

HALVES = (torch.bfloat16, torch.float16)
ACTIVATIONS = ("softmax", "sigmoid", "none")


class Ensemble(Module):
    """The mean of what several networks say, or their vote, as ``system::model`` of any config that does not train it.

    By default it gives the mean of their outputs (as nnU-Net has it), and stands in the place of one of them. With an
    ``activation`` it gives the mean of probabilities, ``(B, C, …)`` from 0 to 1, and none is to come after it. MONAI's
    ``MeanEnsembled`` and ``VoteEnsembled`` do the same to predictions that all lie in memory.

    With ``cpu_offload`` one member at a time is on the device; the others wait on the CPU, or, where one network has several
    files of weights, in these files, so that one network is all there is. What that costs: each member comes to the device once
    for each batch of the loader, as `System` sends the whole of it through the inferer for one member after the other, and the
    mean of what they have said so far is held beside what one says (two volumes of scores). A `SlidingWindowLabelInferer` has
    the members take turns row by row of its windows along the first axis, and holds the scores of one row. Called in any other
    way, such as by an inferer of MONAI's engines, they take turns in each call.

    Args:
        networks: the members; or one network, of which there is a copy for each file of weights.
        weights: files for `load_weights`, one for each member.
        activation: of each member, before the mean: ``none``, ``softmax`` over C, or ``sigmoid``.
        vote: each member counts with its largest channel alone (``sigmoid``: with each one above 0.5), so that the result is
            the share of the members, from 0 to 1.
        cpu_offload: whether members are on the device one at a time.

    Raises:
        ValueError: no members, weights for another number of them, an unknown activation; in a step, a softmax or a vote over one
            channel, several outputs with an activation or a vote, outputs of which there is no mean (`average`).
        FileNotFoundError, RuntimeError: as of `load_weights`.
    """

    _place: Tensor
    """Nothing, on the device that members come to."""

    def __init__(
        self,
        networks: Module | Sequence[Module],
        weights: Sequence[str | PathLike] | None = None,
        activation: str = "none",
        vote: bool = False,
        cpu_offload: bool = False,
    ) -> None:
        super().__init__()
        check_activation(activation)
        files = [Path(file).resolve() for file in weights or ()]
        self.files: list[Path] = []
        if isinstance(networks, Module):
            if not files:
                raise ValueError("weights must name a file for each member where networks is one network, got none.")
            self.files = files if cpu_offload else []
            networks = [networks] * len(files) if cpu_offload else [deepcopy(networks) for _ in files]
        if not networks or (weights is not None and len(files) != len(networks)):
            raise ValueError(f"networks, weights must be as many, got {len(networks)}, {len(files)}.")
        for network, file in zip(networks, files, strict=False):
            load_weights(network, file)
        self.members = ModuleList(networks[:1] if self.files else networks)
        self.activation, self.vote, self.cpu_offload = activation, vote, cpu_offload
        if self.files:  # in place of the weights, by which a prediction is known to be of this ensemble
            self.register_buffer(
                "weights_digest", torch.tensor([list(_hash(file)) for file in files], dtype=torch.uint8)
            )
        self.register_buffer("_place", torch.empty(0), persistent=False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Mean over the members ``(B, C, …)``, of each of several outputs; members are called with what it is called with."""
        return average(_take_turns(self.turns(), lambda member: member(*args, **kwargs)))

    def turns(self) -> list[AbstractContextManager[Callable]]:
        """A turn for each member: a function of what the member is called with, which can be called while the turn lasts."""
        return [self._turn(i) for i in range(len(self.files or self.members))]

    @contextmanager
    def _turn(self, i: int) -> Iterator[Callable]:
        member = self.members[0 if self.files else i]
        if self.files:
            with torch.inference_mode(False):
                load_weights(member, self.files[i])
        elif self.cpu_offload:
            _move(member, self._place.device)
        try:
            yield Member(member, self.activation, self.vote)
        finally:
            if self.cpu_offload and not self.files:
                _move(member, "cpu")

    def _apply(self, fn: Callable, recurse: bool = True) -> Ensemble:
        """As ``to``, ``half`` and the like have it, but that members that wait stay on the CPU."""
        if self.files or not self.cpu_offload:
            return super()._apply(fn, recurse)
        before = self._place.dtype
        super()._apply(fn, recurse=False)
        if self._place.dtype != before:
            self.members.to(self._place.dtype)
        return self


class Member:
    """What a member of an ensemble says, as a function.

    Args:
        network: the member.
        activation, vote: of the ensemble.
    """

    def __init__(self, network: Module, activation: str, vote: bool) -> None:
        self.network, self.activation, self.vote = network, activation, vote
        self.training = network.training

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self.network(*args, **kwargs)
        if not self.vote or self.activation == "sigmoid":
            output = activate(output, self.activation)
        if not self.vote:
            return output
        if not isinstance(output, Tensor):
            raise ValueError(f"vote must be false for a network with several outputs, got {type(output).__name__}.")
        if self.activation == "sigmoid":
            return (output > 0.5).to(output.dtype)
        _check_channels(output, "vote")
        return torch.zeros_like(output).scatter_(1, output.argmax(1, keepdim=True), 1)


def _hash(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()


def _move(member: Module, device: torch.device | str) -> None:
    with torch.inference_mode(False):  # parameters that are made in it could not be used outside of it
        member.to(device)


def check_activation(activation: str) -> None:
    """Raises:
    ValueError: an activation that `activate` does not know.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}.")


def activate(output: Any, activation: str) -> Any:
    """Probabilities of an output ``(B, C, …)``: its ``softmax`` over C or its ``sigmoid``, of halves in float32; with ``none``
    any output as it is.

    Raises:
        ValueError: several outputs, or a softmax over one channel.
    """
    if activation == "none":
        return output
    if not isinstance(output, Tensor):
        raise ValueError(
            f"activation must be none for a network with several outputs, got {activation} for {type(output).__name__}."
        )
    output = output.float() if output.dtype in HALVES else output
    if activation == "sigmoid":
        return output.sigmoid()
    _check_channels(output, activation)
    return output.softmax(1)


def _check_channels(output: Tensor, what: str) -> None:
    if output.shape[1] == 1:
        raise ValueError(f"activation must be sigmoid for one channel, got {what} for {tuple(output.shape)}.")


def average(outputs: Iterable[Any]) -> Any:
    """Mean of outputs, taken as they come: of tensors, or of each tensor in dicts, lists and tuples. Outputs stay as they are.

    That of halves is in float32: a sum of five of them is off by three times what one is rounded by.

    Raises:
        ValueError: none of them; tensors of whole numbers, such as label maps; tensors of several shapes; a list with a dict for
            each case, as detection networks have it.
    """
    total, count = None, 0
    for count, output in enumerate(outputs, 1):
        if count == 1:
            total = apply_to_collection(_check(output), Tensor, _copy)
        else:
            apply_to_collections(total, _check(output), Tensor, _add)
    if not count:
        raise ValueError("outputs must be one or more to have a mean, got none.")
    return apply_to_collection(total, Tensor, lambda each: each.div_(count))


def _check(output: Any) -> Any:
    if isinstance(output, list) and any(isinstance(case, Mapping) for case in output):
        raise ValueError("boxes of several detections have no mean, got a list with a dict for each case.")
    return output


def _copy(tensor: Tensor) -> Tensor:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        raise ValueError(f"outputs must be scores to have a mean, got {tensor.dtype}: label maps have none.")
    return tensor.float() if tensor.dtype in HALVES else tensor.clone()


def _add(total: Tensor, tensor: Tensor) -> Tensor:
    if total.shape != tensor.shape:
        raise ValueError(
            f"outputs must be of one shape to have a mean, got {tuple(total.shape)}, {tuple(tensor.shape)}."
        )
    return total.add_(tensor)


def list_turns(network: Any) -> list[AbstractContextManager[Callable]]:
    """The turns of an `Ensemble` whose members take turns; else one, of the network itself."""
    return network.turns() if getattr(network, "cpu_offload", False) is True else [nullcontext(network)]


def average_members(network: Any, call: Callable[[Callable], Any]) -> Any:
    """Mean of ``call(member)`` over the members of a network in their turns (`list_turns`)."""
    turns = list_turns(network)
    if len(turns) > 1:
        return average(_take_turns(turns, call))
    with turns[0] as member:
        return call(member)


def _take_turns(turns: Iterable[AbstractContextManager[Callable]], call: Callable[[Callable], Any]) -> Iterator[Any]:
    for turn in turns:
        with turn as member:
            yield call(member)
