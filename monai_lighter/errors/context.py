"""What a run that failed says: which part of the config it was, where in the user's code, and on which tensors."""

from __future__ import annotations

import signal
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities.exceptions import SIGTERMException
from monai.bundle import ConfigParser
from torch import Tensor

from monai_lighter.errors.cases import case_error, frames, loaders
from monai_lighter.errors.errors import BundleError, CaseError, explain, in_short
from monai_lighter.system.tensors import as_list

__all__ = ["explained", "large_file_hint", "large_file_hints"]

STEPS = {"forward": "model", "_losses": "criterion", "configure_optimizers": "optimizer", "optimize": "optimizer"}
"""Methods of `System`, and the part that each calls."""

BY_MODE = {"_postprocess": "postprocessing", "_update_metrics": "metrics"}
TENSORS = ("input", "target", "pred")
INSTALLED = (
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
    str(Path(__file__).parent.parent),
)


@contextmanager
def explained(built: Mapping[str, Any], sources: Mapping[str, Any]) -> Iterator[None]:
    """Within it, what fails is a `CaseError`, or keeps its class and is explained in terms of the config (`explain`).

    A run that SIGTERM ends has the exit code 143, as a shell has it; Lightning lets the step end, and the process with 0.

    Args:
        built: ``system`` and ``trainer`` of the config, as far as they have been built.
        sources: as `name_cases` gives them.
    """
    try:
        yield
    except CaseError:
        raise
    except SIGTERMException as error:
        error.code = 128 + signal.SIGTERM
        raise
    except Exception as error:
        known = case_error(error, sources)
        if known:
            raise known from error
        part, frame = _failed_part(error, built)
        if part and not isinstance(error, BundleError):
            explain(error, _sentence(part, error, frame))
        raise


def _failed_part(error: Exception, built: Mapping[str, Any]) -> tuple[str, Any]:
    """Name of the innermost part of the config on the way to an error, and the frame of the `System` that called it."""
    system, mode, name, step = built.get("system"), "", "", None
    parts = {id(part): name for name, part in _parts(system, built.get("trainer")) if part is not None}
    for frame in frames(error):
        values = frame.f_locals
        owner, method = values.get("self"), frame.f_code.co_name
        if owner is not None and owner is system:
            mode, step = values.get("mode", mode), frame
            name = _of_step(method, mode, values) or name
        read = getattr(owner, "__dict__", {}).get("_dataset")  # by the iterator of a DataLoader
        name = parts.get(id(owner)) or parts.get(id(read)) or name
    if (
        not name
        and "trainer" in built
        and str(frame.f_globals.get("__name__")).startswith(("lightning.", "pytorch_lightning."))
    ):
        name = "trainer"
    return name, step


def _of_step(method: str, mode: str, values: Mapping[str, Any]) -> str:
    if method == "_step":
        return f"system::adapters::{mode}::{'logging' if 'values' in values else 'batch'}"
    if method in BY_MODE:
        return f"system::{BY_MODE[method]}::{mode}"
    return f"system::{STEPS[method]}" if method in STEPS else ""


def _parts(system: Any, trainer: Any) -> Iterator[tuple[str, Any]]:
    for name in ("model", "criterion"):
        yield f"system::{name}", getattr(system, name, None)
    for optimizer in as_list(getattr(system, "optimizer", None)):
        yield "system::optimizer", optimizer
    for inferer in getattr(system, "inferer", {}).values():
        yield "system::inferer", inferer
    for mode, metrics in getattr(system, "metrics", {}).items():
        for name in getattr(metrics, "names", ()):
            yield f"system::metrics::{mode}::{name}", metrics[name]
    for mode, given in getattr(system, "dataloaders", {}).items():
        for place, loader in loaders(given):
            yield f"system::dataloaders::{mode}{place}", getattr(loader, "dataset", None)
    for callback in getattr(trainer, "callbacks", ()):
        yield f"trainer::callbacks ({type(callback).__name__})", callback


def _sentence(part: str, error: Exception, step: Any) -> str:
    text = in_short(error)
    message = str(error) if str(error).startswith(("system::", "trainer::")) else f"{part}: {text}"
    places = [f"{frame.f_code.co_filename}:{frame.f_lineno}" for frame in frames(error) if _is_users(frame)]
    values = step.f_locals if step is not None and part.startswith("system::") else {}
    tensors = [
        f"{name} {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
        for name, value in ((name, values.get(name)) for name in TENSORS)
        if isinstance(value, Tensor)
    ]
    return "\n".join(
        [message, *(f"at {place}" for place in places[-1:]), *([f"with {', '.join(tensors)}"] if tensors else [])]
    )


def _is_users(frame: Any) -> bool:
    name = frame.f_code.co_filename
    return Path(name).is_file() and not name.startswith(INSTALLED)


@contextmanager
def large_file_hints(bundle: Path) -> Iterator[None]:
    """Within it, an error about a file that was not found comes with `large_file_hint`, where there is one.

    Raises:
        BundleError: the error with the hint.
    """
    try:
        yield
    except Exception as error:
        hint = large_file_hint(error, bundle)
        if hint is None:
            raise
        raise BundleError(f"{error} {hint}") from error


def large_file_hint(error: BaseException, bundle: Path) -> str | None:
    """The command that fetches a file that was not found, where the bundle lists it among its large files.

    Args:
        error: anything; a ``FileNotFoundError`` among its causes is what counts.
        bundle: root of the bundle, which may have ``large_files.yml`` (``.yaml``, ``.json``), as MONAI's
            ``download_large_files`` reads it.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, FileNotFoundError):
        cause = cause.__cause__
    if cause is None:
        return None
    words = [Path(word.strip("'\",.:;()[]")).name for word in str(cause).split()]
    if not any(name in words for name in _large_files(bundle)):
        return None
    return (
        f"The bundle lists it among its large files: python -m monai.bundle download_large_files --bundle_path {bundle}"
    )


def _large_files(bundle: Path) -> Iterator[str]:
    """Names of the files in the bundle's lists; a list that cannot be read has none."""
    for path in bundle.glob("large_files*"):
        try:
            lists = ConfigParser.load_config_file(str(path))
        except (ValueError, yaml.YAMLError):
            continue
        listed = lists.get("large_files") if isinstance(lists, dict) else None
        entries = listed if isinstance(listed, list) else ()
        yield from (Path(str(entry["path"])).name for entry in entries if isinstance(entry, dict) and "path" in entry)
