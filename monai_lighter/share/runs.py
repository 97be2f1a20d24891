"""What the run that made the weights of a bundle had otherwise than the bundle's configs say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.config.items import items, plain_config, reached
from monai_lighter.config.lighter import translated
from monai_lighter.config.stages import is_native
from monai_lighter.errors import Finding
from monai_lighter.share.layout import Bundle, SharingError
from monai_lighter.share.plain_weights import read_checkpoint

__all__ = ["PLACES", "compare_with_run", "used_for_predictions"]

ABSENT = "nothing"
PLACES = ("bundle_root",)
"""Items that say where a run was, which a package does not hand on."""
ROOTS = (
    "network_def",
    "system::model",
    "system::dataloaders::predict::dataset::transform",
    "system::dataloaders::val::dataset::transform",
    "system::dataloaders::test::dataset::transform",
)
"""Items of a config that predictions come from, of a training config those that an inference config is derived from."""
SHOWN = 8


class _Difference(NamedTuple):
    """An item that a run had otherwise than a file; ``component`` is the one that it is an argument of, as the file has it."""

    id: str
    run: Any
    file: Any
    component: Any


def compare_with_run(
    bundle: Bundle, checkpoint: Path, applied: tuple[str, dict] | None = None
) -> tuple[list[Finding], list[Finding]]:
    """Compare the training config of a native bundle with the one that a run was made with, overridden or merged.

    Args:
        bundle: with ``configs/train.yaml``.
        checkpoint: Lightning's, of the run; its config is ``config.yaml`` in the log folder, else its hyperparameters.
        applied: file name and content of the config that applies the network; default: the inference config of the bundle.

    Returns:
        What is wrong: values that predictions come from, where the inference config still says what the run did not have; and a
        note on what else was different. Nothing where the config of the run is not known.
    """
    train = bundle.config("train")
    run = _read_run(checkpoint)
    if train is None or run is None or not is_native(content := bundle.read(train)):
        return [], []
    differences = [*_differ(run, plain_config(translated(content)))]
    if applied is None:
        config = bundle.config("inference") or train
        applied = config.name, bundle.read(config)
    name, used = applied[0], used_for_predictions(plain_config(applied[1]))
    wrong = [each for each in differences if _still_says(used, each)]
    others = [each for each in differences if each not in wrong]
    notes = []
    if others:
        listed = ", ".join(
            f"{each.id} {_shorten(each.run)} ({_shorten(each.file)} in the file)" for each in others[:SHOWN]
        )
        more = f", and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        notes.append(Finding(train.name, f"the run of the weights had other values: {listed}{more}"))
    return [_say(each, name) for each in wrong], notes


def _say(each: _Difference, name: str) -> Finding:
    problem = f"the weights were trained with {_shorten(each.run)}, and {name} has {_shorten(each.file)}"
    hint = (
        "Write it into the configs, where training and inference share it, or train again. Are the weights of another run, name "
        "them: --weights models/model.pt."
    )
    return Finding(each.id, problem, hint)


def _read_run(checkpoint: Path) -> dict | None:
    """The config of a run: macros expanded, overridden, merged."""
    config: Any
    saved = checkpoint.parent.parent / "config.yaml"
    if saved.is_file():
        config = ConfigParser.load_config_file(str(saved))
    else:
        try:
            content = read_checkpoint(checkpoint)
        except SharingError:  # of other things than tensors, which staging says
            return None
        config = content.get("hyper_parameters") if isinstance(content, dict) else None
    return config if is_native(config) else None


def _differ(run: Any, file: Any, id: str = "", component: Any = None) -> Iterator[_Difference]:
    """Items with other values, the innermost of nested sections; lists as a whole."""
    if isinstance(run, dict) and isinstance(file, dict) and run.get("_target_") == file.get("_target_"):
        component = file if "_target_" in file else component
        for key in dict.fromkeys([*run, *file]):
            if id or key not in PLACES:
                own = f"{id}{ID_SEP_KEY if id else ''}{key}"
                yield from _differ(run.get(key, ABSENT), file.get(key, ABSENT), own, component)
    elif run != file:
        yield _Difference(id, run, file, component)


def used_for_predictions(config: dict) -> dict[str, Any]:
    """Items that predictions come from: config id to value."""
    return {id: value for root in ROOTS for id, value in reached(config, root)}


def _still_says(used: dict[str, Any], each: _Difference) -> bool:
    """Whether a config has, for predictions, the value of the file: under its id, or in the same section or component."""
    if each.id in used and used[each.id] == each.file:
        return True
    if each.file == ABSENT:  # the run has set an argument that the files leave out
        section = used.get(each.id.rpartition(ID_SEP_KEY)[0])
        if isinstance(section, dict) and each.id.rpartition(ID_SEP_KEY)[2] not in section:
            return True
    is_section = any("_target_" in value for _, value in items(each.file) if isinstance(value, dict))
    sections = [*([each.file] if is_section else []), *([each.component] if each.component is not None else [])]
    return any(value == section for value in used.values() for section in sections)


def _shorten(value: Any) -> str:
    if isinstance(value, dict) and "_target_" in value:
        return f"a {value['_target_']}"
    text = value if value == ABSENT else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
