"""What the small bundles of these tests instantiate by ``_target_: zoo_parts.NAME``."""

import functools
import json
import os
import random
import re
import zlib
from pathlib import Path

import numpy as np
import torch
from ignite.engine import EventEnum, Events
from monai.data import MetaTensor
from monai.engines import Trainer
from torch import nn
from torch.utils.data import IterableDataset

HIDDEN = {"dataloader", "times"}
"""Entries of ``engine.state`` that are compared in another way, or are seconds."""


class Net(nn.Module):
    """Image ``(B, 1, H, W)`` to logits of the same shape; draws random numbers and has buffers, so that modes show."""

    def __init__(self, dropout=0.1, fails_at=0):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.norm = nn.BatchNorm2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fails_at, self.calls = fails_at, 0

    def forward(self, image, scale=1.0, shift=0.0):
        self.calls += 1
        if self.calls == self.fails_at:
            raise ArithmeticError(f"call {self.calls} fails")
        return self.dropout(self.norm(self.conv(image))) * scale + shift


class Classifier(nn.Module):
    """Image ``(B, 1, H, W)`` to scores ``(B, classes)``."""

    def __init__(self, classes=2):
        super().__init__()
        self.head = nn.Linear(64, classes)

    def forward(self, image):
        return self.head(image.flatten(1))


def items(count, seed=0):
    """Dictionaries with image and label ``(1, 8, 8)``, named as files are, and a number."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "image": MetaTensor(torch.rand(1, 8, 8, generator=generator), meta={"filename_or_obj": f"case_{i}.nii"}),
            "label": MetaTensor((torch.rand(1, 8, 8, generator=generator) > 0.5).float()),
            "grade": i % 2,
        }
        for i in range(count)
    ]


def tensors(count, seed=0):
    return [item["image"].as_tensor() for item in items(count, seed)]


def pairs(count, seed=0):
    return [(item["image"].as_tensor(), item["label"].as_tensor()) for item in items(count, seed)]


def batches(count, size=2):
    """One-shot iterator over batches; for ever with ``count`` None."""
    data = items(8)
    number = 0
    while count is None or number < count:
        chosen = [data[(number * size + i) % len(data)] for i in range(size)]
        yield {key: torch.stack([item[key] for item in chosen]) for key in ("image", "label")}
        number += 1


class Stream(IterableDataset):
    """Items with no length."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return iter(items(self.count))


class Failing:
    """Dataset whose item ``at`` cannot be read."""

    def __init__(self, count, at):
        self.data, self.at = items(count), at

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        if index == self.at:
            raise OSError(f"item {index} cannot be read")
        return self.data[index]


class At:
    """Handler that calls ``call(engine)`` at every event ``event``, or at the ``count``-th alone.

    With `set_trainer`, it calls ``call(trainer)`` instead.
    """

    def __init__(self, event, call, count=None):
        self.event, self.call, self.count, self.trainer = event, call, count, None
        self.seen = 0

    def set_trainer(self, trainer):
        self.trainer = trainer

    def attach(self, engine):
        engine.add_event_handler(engine_event(engine, self.event), self)

    def __call__(self, engine):
        self.seen += 1
        if self.count in (None, self.seen):
            self.call(engine if self.trainer is None else self.trainer)


def break_off(engine):
    """Fails after the iteration that the environment names: one config is that of a run that fails and of one that does not."""
    if str(engine.state.iteration) == os.environ.get("BROKEN_AT"):
        raise RuntimeError("broken off")


def send_signal(engine):
    """Sends this process the signal that the environment names."""
    if "SIGNAL" in os.environ:
        os.kill(os.getpid(), int(os.environ["SIGNAL"]))


def engine_event(engine, name):
    """The event of an engine with this value, its own events among them."""
    return next(event for event in engine._allowed_events if getattr(event, "value", event) == name)


def summary(value):
    """A value that can be compared: type, shape, bits and gradient flag of tensors; containers are walked."""
    if isinstance(value, torch.Tensor):
        with torch._C.DisableTorchFunctionSubclass():  # a MetaTensor copies its metadata at each access
            kind = type(value).__name__
            return f"{kind}{tuple(value.shape)} {value.dtype} {value.requires_grad} {bits(value)}"
    if isinstance(value, np.ndarray):
        return f"array{value.shape} {value.dtype} {zlib.crc32(np.ascontiguousarray(value).tobytes())}"
    if isinstance(value, dict):
        return {str(key): summary(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *map(summary, value)]
    if isinstance(value, (str, int, float, bool, torch.device, type(None))):
        return repr(value)
    return type(value).__name__


def named(error):
    """An exception in words that do not tell where objects lie."""
    return re.sub(r"0x[0-9a-f]+", "0x", f"{type(error).__name__}: {error}")


def bits(tensor):
    with torch._C.DisableTorchFunctionSubclass():
        return zlib.crc32(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def random_state():
    """Where torch's, numpy's and Python's random numbers stand."""
    numbers = np.random.get_state()
    return [
        bits(torch.get_rng_state()),
        zlib.crc32(numbers[1].tobytes()) + int(numbers[2]),
        zlib.crc32(repr(random.getstate()).encode()),
    ]


class Recorder:
    """Handler of every engine: writes down each event with all that an engine's handlers can see.

    Attached twice, before and after the other handlers, it writes each event twice. When it is attached last it raises what
    ``EXCEPTION_RAISED`` brings, unless ``swallow``.

    Args:
        swallow: exceptions end with this handler.
        random: the state of the random generators is part of a row.
    """

    def __init__(self, swallow=False, random=True):
        self.swallow, self.random = swallow, random
        self.rows, self.engines, self.names, self.attached = [], [], [], []

    def attach(self, engine):
        known = any(engine is other for other in self.engines)
        if not known:
            role = "trainer" if isinstance(engine, Trainer) else "evaluator"
            alike = sum(name.startswith(role) for name in self.names)
            self.engines.append(engine)
            self.names.append(f"{role}{alike + 1}" if alike else role)
        place = "last" if known else "first"
        for event in engine._allowed_events:
            self._listen(engine, event, place)
        engine.add_event_handler(Events.STARTED, self._listen_to_later, place)

    def _listen(self, engine, event, place):
        key = (id(engine), str(event), place)
        if key not in self.attached:
            self.attached.append(key)
            name = getattr(event, "value", event)
            engine.add_event_handler(event, functools.partial(self.record, name, place))

    def _listen_to_later(self, engine, place):
        """Events that an engine registers after its handlers."""
        for event in engine._allowed_events:
            self._listen(engine, event, place)

    def record(self, event, place, engine, *arguments, **keywords):
        self.rows.append(
            {
                "engine": self.names[[other is engine for other in self.engines].index(True)],
                "event": event,
                "place": place,
                "arguments": [named(a) for a in arguments] + [f"{key}={value}" for key, value in keywords.items()],
                "state": self.state(engine),
                "stopping": [
                    str(getattr(engine, name))
                    for name in ("should_terminate", "should_terminate_single_epoch", "should_interrupt")
                ],
                "dataloader": engine.state.dataloader is engine.data_loader,
                "parts": self.parts(engine),
                "autograd": [
                    torch.is_grad_enabled(),
                    torch.is_inference_mode_enabled(),
                    torch.is_autocast_enabled("cpu"),
                ],
                "random": random_state() if self.random else None,
            }
        )
        if place == "last" and arguments and isinstance(arguments[0], BaseException) and not self.swallow:
            raise arguments[0]

    @staticmethod
    def state(engine):
        entries = vars(engine.state).items()
        return {key: summary(value) for key, value in entries if key not in HIDDEN and not key.startswith("_")}

    @staticmethod
    def parts(engine):
        """Networks with their mode, weights and gradients, and optimizers with their settings."""
        seen = {}
        for name, part in vars(engine).items():
            if isinstance(part, nn.Module) and not name.startswith("_"):
                tensors = [*part.parameters(), *part.buffers()]
                seen[name] = [
                    part.training,
                    [bits(t) for t in tensors],
                    [t.grad is None or bits(t.grad) for t in tensors],
                ]
            elif isinstance(part, torch.optim.Optimizer):
                seen[name] = [summary({k: v for k, v in group.items() if k != "params"}) for group in part.param_groups]
        return seen


class Marks(EventEnum):
    """Events of a bundle."""

    MARKED = "marked"


class Square(nn.Module):
    """Mean square of scores; takes a target and does not use it."""

    def forward(self, scores, target):
        return scores.square().mean()


def leave(name, network, trainer, evaluator):
    """Writes what a process came to: the weights of the network, and counts and metrics of the engines."""
    rank = os.environ.get("LOCAL_RANK", "0")
    torch.save(getattr(network, "module", network).state_dict(), f"{name}_{rank}.pt")
    state = {
        "iterations": trainer.state.iteration,
        "epoch_length": [trainer.state.epoch_length, evaluator.state.epoch_length],
        "rank": trainer.state.rank,
        "bases": [base.__name__ for base in type(trainer).__mro__],
        "trainer": trainer.state.metrics,
        "evaluator": evaluator.state.metrics,
    }
    Path(f"{name}_{rank}.json").write_text(json.dumps(state, default=float))
