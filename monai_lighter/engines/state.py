"""The state of an engine in Lightning's checkpoints, so that ``lightning::ckpt_path`` goes on as if the run had not ended."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine
from ignite.metrics import Metric
from torch import nn
from torch.optim import Optimizer

from monai_lighter.engines.replicas import find_handler_owners
from monai_lighter.internals import begin_data_iterator, get_data_iterator, set_first_batch
from monai_lighter.system.randomness import (
    collect_random_numbers,
    find_random_sources,
    load_numpy_state,
    restore_random_numbers,
    save_numpy_state,
)

__all__ = ["collect_random_state", "collect_state", "restore_engine", "restore_loop"]

COUNTS = ("iteration", "epoch", "epoch_length", "max_epochs", "best_metric", "best_metric_epoch", "metrics")


def collect_state(engine: Engine) -> dict[str, Any]:
    """Collects, as plain values and tensors, all that a run depends on beside networks and optimizers.

    These are the counts of the engine and of the engines its handlers run, the state of its handlers and of what they hold
    (schedulers, early stopping), where all random numbers stand (torch, numpy, Python, the transforms of its data), and where
    they stood when the iterator over its data began.
    """
    run: Any = getattr(engine, "lightning_run", None)
    return {
        "engines": [_collect_counts(each) for each in _find_engines(engine)],
        "handlers": [part.state_dict() for part in _find_stateful(engine)],
        "random": collect_random_state(engine),
        "begun": getattr(engine, "data_begun", None),
        "batches": 0 if run is None else run.batches_of_epoch,
        "terminated": engine.should_terminate,
    }


def restore_engine(engine: Any, saved: dict[str, Any]) -> None:
    """Puts back what `collect_state` gave; ``max_epochs`` stays, so that a run may go on for longer.

    Where the iterator over the data had not come to its end, it is begun again with the random numbers of then, and the batches
    that it gave are drawn once more, to be left.

    Args:
        engine: that has come to ``STARTED``.
        saved: from the same engine of the same config.
    """
    for each, counts in zip(_find_engines(engine), saved["engines"], strict=False):
        for name, value in counts.items():
            if name != "max_epochs":
                setattr(each.state, name, value)
    for part, state in zip(_find_stateful(engine), saved["handlers"], strict=False):
        part.load_state_dict(state)
    if saved["batches"]:
        engine.state.epoch -= 1  # it begins again, where it was left
    set_first_batch(engine, saved["batches"])
    if saved.get("terminated"):  # by a handler: a run that had come to its end does not go on
        engine.terminate()
    _draw_again(engine, saved["begun"])
    _set_random_numbers(engine, saved["random"])


def restore_loop(loop: Any, batches: int) -> None:
    """Begins Lightning's fit loop at an epoch, or after some batches of it: it would go on from its own counts within one."""
    loop.reset_restart_stage()
    loop.epoch_loop.restarting = batches > 0


def _draw_again(engine: Any, begun: dict[str, Any] | None) -> None:
    if begun is None:
        return
    drawn = engine.state.iteration - begun["iteration"]
    if _get_length(engine.state.dataloader) == drawn:
        return
    _set_random_numbers(engine, begun["random"])
    begin_data_iterator(engine)
    engine.data_begun["iteration"] -= drawn
    iterator: Any = get_data_iterator(engine)
    for _ in range(drawn):
        next(iterator, None)


def _get_length(data: Any) -> int | None:
    try:
        return len(data)
    except (TypeError, AttributeError):
        return None


def collect_random_state(engine: Engine) -> dict[str, Any]:
    """Where the random numbers that the data of an engine depend on stand."""
    sources = find_random_sources(_get_loader(engine))
    return {**collect_random_numbers(), "transforms": [save_numpy_state(source.R.get_state()) for source in sources]}


def _set_random_numbers(engine: Engine, numbers: dict[str, Any]) -> None:
    restore_random_numbers(numbers)
    for source, state in zip(find_random_sources(_get_loader(engine)), numbers["transforms"], strict=False):
        source.R.set_state(load_numpy_state(state))


def _collect_counts(engine: Engine) -> dict[str, Any]:
    return {name: getattr(engine.state, name) for name in COUNTS if hasattr(engine.state, name)}


def _find_engines(engine: Engine) -> list[Engine]:
    """The engine, and those that its handlers hold."""
    held = [
        value for owner in find_handler_owners(engine) for value in _list_attributes(owner) if isinstance(value, Engine)
    ]
    return list({id(each): each for each in (engine, *held)}.values())


def _find_stateful(engine: Engine) -> list[Any]:
    """What handlers are or hold that has a state of its own, in the order of the handlers, each once."""
    found: dict[int, Any] = {}
    for each in _find_engines(engine):
        for owner in find_handler_owners(each):
            parts = [owner] if _has_state(owner) else [value for value in _list_attributes(owner) if _has_state(value)]
            found.update((id(part), part) for part in parts)
    return list(found.values())


def _has_state(value: Any) -> bool:
    if isinstance(value, (type, Engine, Metric, nn.Module, Optimizer)):
        return False
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


def _list_attributes(owner: Any) -> list[Any]:
    return list(getattr(owner, "__dict__", {}).values())


def _get_loader(engine: Engine) -> Any:
    return getattr(engine, "data_loader", engine.state.dataloader)
