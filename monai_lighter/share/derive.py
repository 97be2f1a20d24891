"""An inference config from a training config."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.config.items import items, located
from monai_lighter.share.layout import SharingError

__all__ = ["derive_inference", "write_inference"]

PARALLEL = ("mode", "padding_mode", "align_corners", "argmax", "threshold", "to_onehot", "sigmoid", "softmax", "dtype")
"""Arguments of dictionary transforms that may have a value for each key."""
HEADER = """# Applies the trained network; derived from {source} when the bundle was packaged.
#   python -m monai.bundle run predict --workflow monai_lighter.Workflow --config_file configs/inference.yaml

# What to predict, by default every NIfTI file of dataset_dir. Your own: --predict_data "[{{'image': 'scan.nii.gz'}}]"
"""


def write_inference(config: dict, source: str, spatial: bool) -> str:
    """Write the config of `derive_inference` as YAML with a heading that says how to run it.

    Args:
        config: training config.
        source: file name of the training config.
        spatial: whether the network gives an image.
    """
    derived = derive_inference(config, spatial)
    return HEADER.format(source=source) + yaml.safe_dump(derived, sort_keys=False, width=120, default_flow_style=None)


def derive_inference(config: dict, spatial: bool) -> dict:
    """Derive an inference config with the network, preprocessing and inferer that a native training config validates with.

    Random transforms are left out, and so is everything about the label. Predictions that are images are brought back to
    the space of their input and saved; others go to a table.

    Args:
        config: training config as read from its file.
        spatial: whether the network gives an image.

    Raises:
        SharingError: the config computes its transforms in a way that cannot be read off, or reads no image files.
    """
    system = config["system"]
    label = _find_target_key(config)
    datasets = [f"system::dataloaders::{mode}::dataset::transform" for mode in ("val", "train")]
    preprocessing = [item for item in _find_transforms(config, label, *datasets) if not _is_random(item)]
    loaded = [key for item in preprocessing if "LoadImage" in str(item.get("_target_")) for key in _keys(item)]
    if not loaded:
        raise _unreadable("the preprocessing loads no image files")
    model = system["model"]
    if isinstance(model, dict) and model.get("_target_", "").endswith("load_weights"):
        model = model["model"]
    derived: dict[str, Any] = {
        "imports": ["$import pathlib"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/eval'",
        "weights": "$@bundle_root + '/models/model.pt'",
    }
    image = f"$[{{'{loaded[0]}': str(f)}} for f in sorted(pathlib.Path(@dataset_dir).glob('*.nii*'))]"
    parts: dict[str, Any] = {
        "predict_data": image,
        "preprocessing": {"_target_": "Compose", "transforms": preprocessing},
        "system": _derive_system(config, model, loaded[0], spatial, label),
        "trainer": {"_target_": "lightning.pytorch.Trainer", "default_root_dir": "@bundle_root", "logger": False},
        "run": "$@trainer.predict(@system, return_predictions=False)",
    }
    if not spatial:
        table = {"_target_": "monai_lighter.TableWriter", "path": "$@output_dir + '/predictions.csv'"}
        parts["trainer"]["callbacks"] = [table]
    return {**_add_needed(config, parts, derived), **parts}


def _derive_system(config: dict, model: Any, image: str, spatial: bool, label: str) -> dict:
    system = {
        "_target_": "monai_lighter.System",
        "model": {"_target_": "monai_lighter.load_weights", "model": model, "ckpt_path": "@weights"},
    }
    inferer = config["system"].get("inferer")
    if isinstance(inferer, dict) and "_target_" not in inferer:
        inferer = inferer.get("predict", inferer.get("val"))
    if inferer is not None:
        system["inferer"] = inferer
    _, adapter = located(config, "system::adapters::val::batch")
    if adapter is not None:
        system["adapters"] = {"predict": {"batch": adapter}}
    steps = _find_transforms(config, label, "system::postprocessing::val")
    for step in steps:
        step.pop("to_onehot", None)
    if spatial:
        steps = _insert_inverse(steps, image)
    if steps:
        system["postprocessing"] = {"predict": {"_target_": "Compose", "transforms": steps}}
    dataset = {"_target_": "Dataset", "data": "@predict_data", "transform": "@preprocessing"}
    system["dataloaders"] = {"predict": {"_target_": "DataLoader", "batch_size": 1, "dataset": dataset}}
    return system


def _insert_inverse(steps: list[dict], image: str) -> list[dict]:
    """The inverse where values are continuous, so that interpolation is sound; then what makes them discrete, and saving."""
    discrete = next((i for i, step in enumerate(steps) if "AsDiscrete" in step["_target_"]), len(steps))
    before, after = steps[:discrete], steps[discrete:]
    if after and after[0].get("argmax") and not any("Activations" in step["_target_"] for step in before):
        before = [*before, {"_target_": "Activationsd", "keys": "pred", "softmax": True}]
    invert: dict[str, Any] = {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": image}
    invert["nearest_interp"] = False
    save: dict[str, Any] = {
        "_target_": "SaveImaged",
        "keys": "pred",
        "output_dir": "@output_dir",
        "output_postfix": "pred",
    }
    save["data_root_dir"] = {"_target_": "monai_lighter.find_common_folder", "data": "@predict_data", "key": image}
    if any(step.get("argmax") for step in after):
        save["output_dtype"] = "uint16"  # the number of classes is not known here
    elif any(step.get("threshold") is not None for step in after):
        save["output_dtype"] = "uint8"
    return [*before, invert, *after, {**save, "separate_folder": False}]


def _find_target_key(config: dict) -> str:
    _, adapter = located(config, "system::adapters::val::batch")
    given = adapter.get("target_key") if adapter else None
    return given if isinstance(given, str) else "label"


def _find_transforms(config: dict, label: str, *ids: str) -> list[dict]:
    """The transforms of the first of several items that there is, without the label; none where there is none."""
    found: Any = next((value for id in ids if (value := located(config, id)[1]) is not None), [])
    return [kept for item in _list_transforms(config, found) if (kept := _drop_key(item, label)) is not None]


def _list_transforms(config: dict, value: Any) -> list[dict]:
    """The transforms of a Compose, a list, a reference to one, or a sum of references, each as a dict of its own."""
    if isinstance(value, str) and re.fullmatch(r"\$?\s*@[\w:#]+(\s*\+\s*@[\w:#]+)*", value):
        referred = [located(config, id.replace("#", ID_SEP_KEY))[1] for id in re.findall(r"@([\w:#]+)", value)]
        if None not in referred:
            return [item for part in referred for item in _list_transforms(config, part)]
    if isinstance(value, dict) and str(value.get("_target_", "")).rpartition(".")[2] == "Compose":
        return _list_transforms(config, value.get("transforms") or [])
    if isinstance(value, dict) and "_target_" in value:
        given = {
            name: located({**config, "_it": value[name]}, "_it")[1] for name in ("keys", *PARALLEL) if name in value
        }
        by_key = {name: item for name, item in given.items() if name == "keys" or isinstance(item, list)}
        return [{**value, **{name: item for name, item in by_key.items() if item is not None}}]
    if isinstance(value, list):
        return [item for part in value for item in _list_transforms(config, part)]
    raise _unreadable(f"transforms cannot be read off {value!r:.100}")


def _is_random(item: dict) -> bool:
    return item["_target_"].rpartition(".")[2].startswith("Rand")


def _keys(item: dict) -> list:
    keys = item.get("keys", [])
    return list(keys) if isinstance(keys, list) else [keys]


def _drop_key(item: dict, label: str) -> dict | None:
    """A transform without one of its keys, and without the values that went with that key; None where no key is left."""
    keys = _keys(item)
    kept = [i for i, key in enumerate(keys) if key != label]
    if not keys or len(kept) == len(keys):
        return item
    if not kept:
        return None
    result = {**item, "keys": [keys[i] for i in kept] if len(kept) > 1 else keys[kept[0]]}
    for name in PARALLEL:
        value = item.get(name)
        if isinstance(value, list) and len(value) == len(keys):
            result[name] = [value[i] for i in kept] if len(kept) > 1 else value[kept[0]]
    return {name: value for name, value in result.items() if value is not False or name not in ("argmax", "softmax")}


def _add_needed(config: dict, parts: dict, derived: dict) -> dict:
    """Top-level items of the training config that the parts lead to, beside those that are given."""
    found: dict[str, Any] = {name: config[name] for name in ("project",) if name in config}
    waiting = list(_find_references(parts))
    while waiting:
        name = waiting.pop()
        if name in found or name in parts or name in derived or name not in config:
            continue
        found[name] = config[name]
        waiting += _find_references(config[name])
    imports = [line for line in config.get("imports") or [] if line not in derived["imports"]]
    ordered = {name: found[name] for name in config if name in found}
    return {**derived, "imports": [*derived["imports"], *imports], **ordered}


def _find_references(value: Any) -> Iterator[str]:
    for _, item in items(value):
        if isinstance(item, str):
            yield from re.findall(r"@(\w+)", item)


def _unreadable(what: str) -> SharingError:
    return SharingError.of("inference", f"cannot be derived: {what}", "Write configs/inference.yaml by hand.")
