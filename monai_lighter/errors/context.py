"""What a run that failed says: which part of the config it was, on which cases, where in the user's code, on which tensors."""

from __future__ import annotations

import errno
import shlex
import signal
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities.exceptions import SIGTERMException
from monai.bundle import ConfigParser
from torch import Tensor

from monai_lighter.errors.cases import (
    describe_batch,
    find_case,
    join_names,
    list_entries,
    make_case_error,
    make_killed_error,
)
from monai_lighter.errors.diagnosis import describe_shapes, list_facts
from monai_lighter.errors.errors import (
    BundleError,
    CaseError,
    ComponentError,
    Finding,
    explain,
    in_short,
    in_terms_of_config,
    join_sentences,
)
from monai_lighter.errors.machine import advise_on_memory, is_out_of_memory
from monai_lighter.errors.marks import (
    Mark,
    find_first_failure,
    find_mark,
    find_owner,
    mark,
    mark_batch,
    walk_causes,
    walk_frames,
)
from monai_lighter.internals import find_training_batch

__all__ = ["advised", "explained", "missing_file_hint", "missing_file_hints"]

INSTALLED = (
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
    str(Path(__file__).parent.parent),
)
OF_LIBRARY = {"lightning.": "trainer", "pytorch_lightning.": "trainer", "torch.utils.data.": "system::dataloaders"}
"""Modules, and the section of the config that an error belongs to that was raised in one of them and in no part."""
UNWRITABLE = (
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)
"""Of an ``OSError``: a file or folder cannot be written there."""
BENEATH = {*sys.stdlib_module_names, "fsspec"}
"""What the libraries call to write files."""
WEIGHTS = "models"
"""Folder of a bundle to which its training writes."""


@contextmanager
def explained(built: Mapping[str, Any], sources: Mapping[str, Any]) -> Iterator[None]:
    """Within it, what fails is a `CaseError`, or keeps its class and is explained in terms of the config (`explain`).

    A run that SIGTERM ends has the exit code 143, as a shell has it; Lightning lets the step end, and the process with 0.

    Args:
        built: ``system`` and ``trainer`` of the config, as far as they have been built; also ``model``, where that is the system.
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
        first = find_first_failure(error)
        known = make_killed_error(first, built.get("system"), sources) or make_case_error(first, sources)
        known = known or _make_postprocessing_error(first, built)
        if known:
            raise known from error
        message = in_terms_of_config(first) or _tell(first, built)
        if message and not isinstance(error, BundleError):
            explain(error, message)
        raise


def _make_postprocessing_error(error: BaseException, built: Mapping[str, Any]) -> CaseError | None:
    known, case = find_mark(error), find_case(error)
    if known is None or case is None or not known.part.startswith("system::postprocessing::"):
        return None
    *_, cause = walk_causes(error)
    return CaseError(
        "\n".join([f"{known.part}: case {case} failed: {in_short(cause)}", *_tell_more(error, known, built)])
    )


def _tell(error: BaseException, built: Mapping[str, Any]) -> str | None:
    """The part and what happened, and what else is known, a line each; None for an error that no part of the config raised."""
    if is_out_of_memory(error):
        _mark_training(error)
    known = find_mark(error) or Mark()
    if str(error).startswith(("system::", "trainer::")):
        return "\n".join([str(error), *_tell_more(error, known, built)])
    part = known.part or _find_part(error, built)
    if not part:
        return None
    *_, cause = walk_causes(error)
    lines = [f"{part}: {in_short(error)}", *([] if cause is error else [f"caused by {in_short(cause)}"])]
    if part.startswith("trainer") and isinstance(cause, OSError) and cause.errno in UNWRITABLE:
        lines.append(
            "free some space, or have it written elsewhere (trainer::default_root_dir, or the path of that part)"
        )
    return "\n".join([*lines, *_tell_more(error, known, built)])


def _mark_training(error: BaseException) -> None:
    """Of an error after the step of a fit, as in its backward pass, the batch, and the network as what was at work."""
    for frame in walk_frames(error):
        found = find_training_batch(frame)
        known = find_mark(error) or Mark()
        if found is not None and not known.place:
            batch, index = found
            mark(error, "system::model")
            mark_batch(error, batch, f"train batch {index + 1}")
            tensors = (
                {key: each for key, each in batch.items() if isinstance(each, Tensor)}
                if isinstance(batch, Mapping)
                else batch
            )
            known = find_mark(error) or known
            known.given = {**known.given, "batch": tensors}


def _tell_more(error: BaseException, known: Mark, built: Mapping[str, Any]) -> Iterator[str]:
    """What stands out in what the part was given, the cases, the line of the user's code, and the shapes."""
    if is_out_of_memory(error):
        yield advise_on_memory(known.part, known.place.partition(" ")[0], built.get("system"))
    else:
        yield from list_facts(known, built.get("system"))
    if known.place:
        cases = join_names(describe_batch(known.batch), "; ")
        yield f"in {known.place}: {cases}" if cases else f"in {known.place}"
    places = [f"{frame.f_code.co_filename}:{frame.f_lineno}" for frame in walk_frames(error) if _is_users(frame)]
    yield from (f"at {place}" for place in places[-1:])
    tensors = [f"{name} {describe_shapes(value)}" for name, value in known.given.items() if value is not None]
    if tensors:
        yield f"with {', '.join(tensors)}"


def _find_part(error: BaseException, built: Mapping[str, Any]) -> str:
    """Innermost part of the config that Lightning or torch called, and not the package, which marks what it calls itself.

    Such a part (a callback, an optimizer, a dataset) is known by being the object of a method on the way to the error.
    """
    parts = {id(part): name for name, part in _list_parts(built) if part is not None}
    name, module = "", ""
    for frame in walk_frames(error):
        name = parts.get(id(find_owner(frame))) or name
        called = str(frame.f_globals.get("__name__"))
        module = module if called.partition(".")[0] in BENEATH else called
    sections = (section for start, section in OF_LIBRARY.items() if module.startswith(start))
    return name or (next(sections, "") if "trainer" in built else "")


def _list_parts(built: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    system, trainer = built.get("system"), built.get("trainer")
    section, network = ("model", "network") if "model" in built else ("system", "model")
    for name in (network, "criterion"):
        yield f"{section}::{name}", getattr(system, name, None)
    for name in ("optimizer", "scheduler"):
        for place, part in list_entries(getattr(system, name, None)):
            yield f"{section}::{name}{place}", part
    for mode, given in getattr(system, "dataloaders", {}).items():
        for place, loader in list_entries(given):
            yield f"system::dataloaders::{mode}{place}", loader
            yield f"system::dataloaders::{mode}{place}", getattr(loader, "dataset", None)
    for callback in getattr(trainer, "callbacks", ()):
        yield f"trainer::callbacks ({type(callback).__name__})", callback


def _is_users(frame: Any) -> bool:
    name = frame.f_code.co_filename
    return Path(name).is_file() and not name.startswith(INSTALLED)


@contextmanager
def advised(findings: Iterable[Finding]) -> Iterator[None]:
    """Within it, a part that cannot be built comes with what the check had found of it, and left to MONAI.

    Raises:
        ComponentError: the error with the findings.
    """
    try:
        yield
    except ComponentError as error:
        own = [str(one) for one in findings if f"{one.id}::".startswith(f"{error.id}::")]
        known = [text for text in own if text not in str(error)]
        if not known:
            raise
        raise ComponentError(error.id, "\n".join([str(error), *known])) from error


@contextmanager
def missing_file_hints(bundle: Path) -> Iterator[None]:
    """Within it, an error about a file that was not found comes with `missing_file_hint`, where there is one.

    Raises:
        BundleError: the error with the hint.
    """
    try:
        yield
    except Exception as error:
        hint = missing_file_hint(error, bundle)
        if hint is None:
            raise
        raise BundleError(join_sentences(str(error), hint)) from error


def missing_file_hint(error: BaseException, bundle: Path) -> str | None:
    """The command that fetches a file that was not found, where the bundle lists it among its large files, or that makes it,
    where it is one of those that the bundle's training writes.

    Args:
        error: anything; a ``FileNotFoundError`` among its causes is what counts.
        bundle: root of the bundle, which may have ``large_files.yml`` (``.yaml``, ``.json``), as MONAI's
            ``download_large_files`` reads it.
    """
    cause = next((each for each in walk_causes(error) if isinstance(each, FileNotFoundError)), None)
    if cause is None:
        return None
    words = [word.lstrip("'\"([").rstrip("'\",.:;)]") for word in str(cause).split()]
    if any(name in map(_last, words) for name in _large_files(bundle)):
        return f"The bundle lists it among its large files: python -m monai.bundle download_large_files --bundle_path {bundle}"
    if any((bundle / WEIGHTS) in (bundle / word).resolve().parents for word in words if "/" in word):
        return _training_hint(bundle)
    return None


def _last(path: str) -> str:
    return Path(path).name


def _training_hint(bundle: Path) -> str | None:
    """The command that runs the training of a bundle; None without one."""
    for file in sorted((bundle / "configs").glob("train.*")):
        try:
            config = ConfigParser.load_config_file(str(file))
        except (ValueError, yaml.YAMLError):
            continue
        stage = "fit " if isinstance(config, dict) and "system" in config else ""
        command = f"python -m monai.bundle run {stage}--workflow monai_lighter.Workflow --config_file"
        return f"The bundle's training makes it: {command} {shlex.quote(str(file))}"
    return None


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
