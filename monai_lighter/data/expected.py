"""What a config says of the cases it expects: channels, classes and their names, and which entry is the label."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY
from monai.transforms import AsDiscreted, ConcatItemsd, MapTransform, SelectItemsd
from monai.utils import CommonKeys, ensure_tuple

from monai_lighter.config.items import items, located

__all__ = ["Expected", "changing", "expect", "find_label_keys"]

LABELS = (CommonKeys.LABEL, "labels", "seg", "segmentation", "mask", "gt", "target")
"""Keys that a label map has in most configs."""
CLASSES = ("out_channels", "num_classes", "classes")
"""Arguments of networks that number their classes."""
NETWORKS = ("network_def", "network", "net", f"system{ID_SEP_KEY}model")
JUDGED = re.compile(
    r"Dice|CrossEntropy|CELoss|Focal|Tversky|NLLLoss|BCE|Jaccard|MeanIoU|Hausdorff|SurfaceD|Accuracy|F1|AUC|ROC"
)
"""Losses and metrics of classes."""
KEEPING = ("spatial", "croppad", "smooth_field", "lazy", "signal")
"""Modules of ``monai.transforms`` whose transforms leave the values of a label map what they are."""
KEEPING_UTILITY = re.compile(
    r"^(Ensure\w*|ToTensor|ToNumpy|ToDevice|CastToType|Identity|DataStats|SimulateDelay|DeleteItems|SelectItems|CopyItems|"
    r"SqueezeDim|Transpose|AsChannelLast|SplitDim|FgBgToIndices|ClassesToIndices|ApplyTransformToPoints|FlattenSubKeys)d?(ict|D)?$"
)


class Expected(NamedTuple):
    """What a config says of its cases.

    Attributes:
        classes: number of classes with the background, or None where nothing says so.
        named_by: config id or file that says so.
        several: whether each class has a channel of its own (``sigmoid``), so that a map has the values 0 and 1.
        names: class to its name, from ``channel_def`` of the metadata.
        channels: input channels of the network, or None.
        axes: spatial axes of the network, 2 or 3, or None.
        labels: mode to the key of its target, from the adapters of a native config.
        ignored: values that a loss leaves out (``ignore_index``).
        judged: whether losses, metrics or the metadata are about classes at all.
    """

    classes: int | None
    named_by: str
    several: bool
    names: dict[int, str]
    channels: int | None
    axes: int | None
    labels: dict[str, str]
    ignored: tuple[int, ...]
    judged: bool

    @property
    def values(self) -> range | None:
        """Values that a label map may have; None where nothing says so."""
        if self.classes is None:
            return None
        return range(2) if self.several or self.classes == 1 else range(self.classes)

    def name(self, value: int) -> str:
        """``class 2 (white matter)``."""
        return f"class {value} ({self.names[value]})" if value in self.names else f"class {value}"


def expect(config: dict) -> Expected:
    """Reads from a config, with nothing built, what it says of its cases. Values that are computed say nothing.

    Args:
        config: with its macros expanded, and its metadata.
    """
    network_id, network = _network(config)
    output = _output(config.get(ConfigParser.meta_key) or {})
    onehot = [(id, count) for id, count in _numbers(config, "to_onehot") if count > 1]
    named = [(f"{network_id}{ID_SEP_KEY}{key}", n) for key in CLASSES for n in [_number(config, network.get(key))] if n]
    channels = output.get("num_channels")
    if output.get("format") in ("segmentation", "classes") and isinstance(channels, int):
        named.append(("metadata.json", channels))
    flags = [(key, value) for id, value in items(config) for key in [id.rpartition(ID_SEP_KEY)[2]] if value is True]
    loss_sigmoid = ("sigmoid", True) in flags and ("to_onehot_y", True) not in flags
    about_classes = bool(onehot) or ("to_onehot_y", True) in flags or output.get("format") == "segmentation"
    about_classes = about_classes or any(JUDGED.search(name) for name in _targets(config))
    chosen = (onehot or named or [("", 0)])[0] if about_classes else ("", 0)
    definitions = output.get("channel_def")
    return Expected(
        chosen[1] or None,
        chosen[0],
        loss_sigmoid,
        {int(k): str(v) for k, v in definitions.items() if str(k).isdigit()} if isinstance(definitions, dict) else {},
        _number(config, network.get("in_channels")),
        _number(config, network.get("spatial_dims")),
        dict(_targets_of_adapters(config)),
        tuple(number for _, number in _numbers(config, "ignore_index")),
        about_classes,
    )


def _network(config: dict) -> tuple[str, dict]:
    """The network's section: within ``load_weights`` and the like, the one that they are given."""
    for id in NETWORKS:
        where, value = located(config, id)
        for _ in range(5):
            inner = value.get("model") if isinstance(value, dict) and "_target_" in value else None
            if inner is None:
                break
            where, value = located(config, f"{where}{ID_SEP_KEY}model")
        if isinstance(value, dict) and "_target_" in value:
            return where, value
    return "", {}


def _output(metadata: dict) -> dict:
    outputs = (metadata.get("network_data_format") or {}).get("outputs") or {}
    return next((each for each in outputs.values() if isinstance(each, dict)), {})


def _targets(config: dict) -> Iterator[str]:
    return (
        value["_target_"]
        for _, value in items(config)
        if isinstance(value, dict) and isinstance(value.get("_target_"), str)
    )


def _numbers(config: dict, key: str) -> Iterator[tuple[str, int]]:
    for id, value in items(config):
        if id.rpartition(ID_SEP_KEY)[2] == key:
            for each in ensure_tuple(value):
                number = _number(config, each)
                if number is not None:
                    yield id, number


def _number(config: dict, value: Any) -> int | None:
    if isinstance(value, str) and value.startswith("@"):
        value = located(config, value[1:].replace("#", ID_SEP_KEY))[1]
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _targets_of_adapters(config: dict) -> Iterator[tuple[str, str]]:
    for mode in ("train", "val", "test", "predict"):
        parts = ("system", "adapters", mode, "batch", "target_accessor")
        _, value = located(config, ID_SEP_KEY.join(parts))
        if isinstance(value, str) and not value.startswith(("$", "@")):
            yield mode, value


def find_label_keys(expected: Expected, mode: str, keys: Iterable[str]) -> tuple[str, ...]:
    """Keys of the entries that are labels: what the adapter takes as target, else the usual names."""
    own = expected.labels.get(mode)
    return tuple(key for key in keys if (key == own if own is not None else key.lower() in LABELS))


def changing(rest: Iterable[Any], key: str, channels: bool = False) -> str:
    """The first transform after the loading that may give the values of an entry another meaning; empty for none.

    Args:
        rest: transforms after those that load.
        key: of the entry.
        channels: of an image: whether its channels are changed; else, of a label, its values.
    """
    for transform in rest:
        reaches = key in map(str, transform.keys) if isinstance(transform, MapTransform) else True
        if isinstance(transform, SelectItemsd) or not reaches:
            continue
        module = type(transform).__module__.split(".")
        name = type(transform).__name__
        if module[:2] == ["monai", "transforms"]:
            utility = module[2] == "utility" and KEEPING_UTILITY.match(name)
            if module[2] in KEEPING or utility or name.startswith("RandCrop"):
                continue
            if channels and module[2] == "intensity" and not isinstance(transform, ConcatItemsd):
                continue
            if isinstance(transform, AsDiscreted) and _keeps(transform):
                continue
        return name
    return ""


def _keeps(transform: AsDiscreted) -> bool:
    settings: Mapping[str, Any] = vars(transform)
    return not any(any(ensure_tuple(settings.get(name))) for name in ("argmax", "threshold", "rounding"))
