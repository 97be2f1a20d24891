"""Postprocessing and training that take the label maps of a `SlidingWindowLabelInferer` for scores of classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY
from monai.transforms import (
    Activations,
    Activationsd,
    AsDiscrete,
    AsDiscreted,
    Compose,
    Invertd,
    MeanEnsemble,
    MeanEnsembled,
)
from monai.utils import ensure_tuple
from monai.utils.enums import CommonKeys

from monai_lighter.check.walk import Walk
from monai_lighter.config.items import is_computed, located
from monai_lighter.config.stages import MODES, SYSTEM_TARGET
from monai_lighter.errors import Finding
from monai_lighter.flip_inferer import FlipInferer
from monai_lighter.label_inferer import SlidingWindowLabelInferer
from monai_lighter.transforms import PredictiveEntropyd

__all__ = ["find_label_misuses", "gives_labels"]

WRONG: list[tuple[tuple[type, ...], str, bool, str, str]] = [
    ((AsDiscrete, AsDiscreted), "argmax", True, "takes the largest channel", "Leave it out; to_onehot stays."),
    ((AsDiscrete, AsDiscreted), "threshold", True, "makes one class of all", "Leave it out; to_onehot stays."),
    ((Activations, Activationsd), "softmax", True, "is for scores", "Leave it out."),
    ((Activations, Activationsd), "sigmoid", True, "is for scores", "Leave it out."),
    ((Invertd,), "nearest_interp", False, "makes classes in between by interpolation", "Write nearest_interp: true."),
]
"""Transforms, an argument, whether it must not be given or must not be false, why, and what to do."""


def find_label_misuses(walk: Walk) -> Iterator[Finding]:
    """Findings about systems and MONAI's engines with such an inferer: all that was walked through."""
    for one in walk.built:
        for inferer, postprocessing, trains in _uses(walk, one.id, one.target):
            if not _is_label_inferer(walk, inferer):
                continue
            if trains:
                problem = "gives label maps, of which there is no gradient, in training"
                yield Finding(
                    inferer, problem, "Train with another inferer, such as SlidingWindowInferer, or with none."
                )
            overlapping = located(walk.needed, f"{inferer}{ID_SEP_KEY}threshold")[1] is not None
            for id, kind in _transforms(walk, postprocessing):
                yield from _judge(walk, id, kind, overlapping)


def gives_labels(walk: Walk, mode: str) -> bool:
    """Whether a System's predictions of a mode are label maps, and so no matter for a loss."""
    id = f"system{ID_SEP_KEY}inferer"
    return _is_label_inferer(walk, f"{id}{ID_SEP_KEY}{mode}") or (mode != "train" and _is_label_inferer(walk, id))


def _is_label_inferer(walk: Walk, id: str) -> bool:
    kind = walk.class_of(id)
    if kind is not None and issubclass(kind, FlipInferer):
        return _is_label_inferer(walk, located(walk.needed, f"{id}{ID_SEP_KEY}inferer")[0])
    return kind is not None and issubclass(kind, SlidingWindowLabelInferer)


def _uses(walk: Walk, id: str, target: str) -> Iterator[tuple[str, str, bool]]:
    """Ids of an inferer of a component and of the postprocessing of what it gives, and whether it is used in training."""
    inferer, postprocessing = f"{id}{ID_SEP_KEY}inferer", f"{id}{ID_SEP_KEY}postprocessing"
    where, given = located(walk.needed, inferer)
    if target != SYSTEM_TARGET:
        yield where, postprocessing, located(walk.needed, f"{id}{ID_SEP_KEY}loss_function")[1] is not None
        return
    by_mode = isinstance(given, dict) and "_target_" not in given
    for mode in given if by_mode else MODES[1:]:
        own = located(walk.needed, f"{inferer}{ID_SEP_KEY}{mode}")[0] if by_mode else where
        yield own, f"{postprocessing}{ID_SEP_KEY}{mode}", mode == "train"


def _transforms(walk: Walk, id: str, trail: tuple[str, ...] = ()) -> Iterator[tuple[str, type]]:
    """Transforms that an item comes to, also within `Compose`, lists and expressions that join them."""
    where, value = located(walk.needed, id)
    if where in trail:
        return
    if isinstance(value, str):
        for reference in ReferenceResolver.match_refs_pattern(value):
            yield from _transforms(walk, reference, (*trail, where))
    elif isinstance(value, list):
        for i in range(len(value)):
            yield from _transforms(walk, f"{where}{ID_SEP_KEY}{i}", (*trail, where))
    elif isinstance(value, dict) and not value.get("_disabled_"):
        kind = walk.class_of(where)
        if kind is not None and issubclass(kind, Compose):
            yield from _transforms(walk, f"{where}{ID_SEP_KEY}transforms", (*trail, where))
        elif kind is not None:
            yield where, kind


def _judge(walk: Walk, id: str, kind: type, overlapping: bool) -> Iterator[Finding]:
    if issubclass(kind, (MeanEnsemble, MeanEnsembled)):
        hint = "Write VoteEnsembled, or give the inferer a list of networks, whose mean it takes."
        yield Finding(id, "averages numbers of classes: the inferer gives label maps", hint)
    if issubclass(kind, PredictiveEntropyd):
        yield Finding(
            id, "is of probabilities: the inferer gives label maps", "Leave it out, or take SlidingWindowInferer."
        )
    for kinds, name, must_not, why, hint in WRONG:
        if not issubclass(kind, kinds) or (name == "threshold" and overlapping):
            continue
        where, value = located(walk.needed, f"{id}{ID_SEP_KEY}{name}")
        value = _of_prediction(walk, id, value)
        wrong = value not in (None, False) if must_not else value is False
        if wrong and not is_computed(value):
            problem = f"{why}, and the inferer gives label maps already, got {name}: {value!r}"
            yield Finding(where, problem, hint)


def _of_prediction(walk: Walk, id: str, value: Any) -> Any:
    """An argument of a dictionary transform as it is for the prediction; None where that is not among its keys."""
    keys = located(walk.needed, f"{id}{ID_SEP_KEY}keys")[1]
    if keys is None or is_computed(keys):  # an array transform, or keys that are not known
        return value[0] if isinstance(value, list) and value else value
    names = [str(key) for key in ensure_tuple(keys)]
    if CommonKeys.PRED not in names:
        return None
    i = names.index(CommonKeys.PRED)
    return (value[i] if i < len(value) else None) if isinstance(value, list) else value
