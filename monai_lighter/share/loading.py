"""Other people's bundles, as workflows."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from monai.bundle import ConfigParser

from monai_lighter.config.stages import is_native
from monai_lighter.errors import did_you_mean
from monai_lighter.share.fetch import SOURCES, fetch, fetch_large_files, find_newest, unpack
from monai_lighter.share.layout import CONFIG_SUFFIXES, Bundle, SharingError
from monai_lighter.trust.digest import hash_file
from monai_lighter.trust.enforce import ALL, DECLARATIVE, default_trust
from monai_lighter.workflow.workflow import STAGE_OF_TYPE, Workflow

__all__ = ["find_bundle", "load_bundle"]

CONFIGS = {"train": ("train",), "eval": ("evaluate", "test", "train"), "infer": ("inference", "infer")}
KINDS = {"training": "train", "evaluation": "eval", "inference": "infer"}
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
FILE = re.compile(r"\.(zip|tar|gz|tgz|7z|ya?ml|json|pt|pth|ckpt|ts)$", re.IGNORECASE)
"""What ends as a file does is the path of one, and not the name of a bundle."""
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
"""What of metadata may become part of a path."""


def load_bundle(
    bundle: str | Path,
    version: str | None = None,
    workflow_type: str = "infer",
    run_id: str | None = None,
    bundle_dir: str | Path | None = None,
    source: str | None = None,
    repo: str | None = None,
    progress: bool = True,
    trust: str | None = None,
    **override: Any,
) -> Workflow:
    """Find a bundle, download it where needed, and give its initialised workflow.

    What is fetched, or comes as a zip file, may by default bring no code; the error then says how to go on.

    Args:
        bundle: directory, zip file, address of a zip file, or the name of a bundle at ``source``.
        version: what the metadata must say; default: by name, the newest that was downloaded before, else the latest there
            is, and else any.
        workflow_type: ``train``, ``eval`` or ``infer``.
        run_id: a stage or an item of the config; default: the stage of the workflow type, or ``run`` where there are no stages.
        bundle_dir: where downloaded bundles are kept; default: ``bundle`` in ``torch.hub.get_dir()``, as MONAI's.
        source: ``monaihosting``, ``github``, ``ngc``, ``ngc_private`` or ``huggingface_hub``; default: the environment's
            ``BUNDLE_DOWNLOAD_SRC``, else ``monaihosting``.
        repo: ``OWNER/REPOSITORY/RELEASE_TAG`` for ``github``, ``OWNER/REPOSITORY`` for ``huggingface_hub``,
            ``org/NAME[/team/NAME]`` for ``ngc_private``.
        progress: show a progress bar.
        trust: what the bundle may do, ``all``, ``declarative`` or ``sha256:NUMBER``. Default: the environment's
            ``MONAI_LIGHTER_TRUST``, else ``all`` for a directory and ``declarative`` for what is or was fetched or unpacked.
        override: id-value pairs of the config.

    Raises:
        SharingError: it cannot be found, downloaded, or unpacked safely, or has no config of that type.
        ConfigError: its config is wrong, or is code that ``trust`` does not cover.
    """
    kind = KINDS.get(workflow_type, workflow_type)
    if kind not in CONFIGS:
        problem = f"must be one of {', '.join(CONFIGS)}, got {workflow_type!r}"
        raise SharingError.of("workflow_type", problem, did_you_mean(str(workflow_type), CONFIGS))
    found = Bundle(find_bundle(bundle, version, bundle_dir, source, repo, progress))
    files = _choose_configs(found, kind)
    config = ConfigParser.load_config_files(files)
    if "bundle_root" in config:
        override.setdefault("bundle_root", str(found.root))
    run_id = run_id or (STAGE_OF_TYPE.get(kind, "predict") if is_native(config) else "run")
    is_own = Path(bundle).is_dir() and not Path(bundle).resolve().is_relative_to(_find_cache(bundle_dir).resolve())
    trust = default_trust(trust, ALL if is_own else DECLARATIVE)
    workflow = Workflow(files, workflow_type=kind, run_id=run_id, trust=trust, **override)
    workflow.initialize()
    return workflow


def _find_cache(bundle_dir: str | Path | None) -> Path:
    """Where downloaded bundles are kept."""
    return Path(bundle_dir) if bundle_dir else Path(torch.hub.get_dir()) / "bundle"


def _choose_configs(bundle: Bundle, kind: str) -> list[str]:
    """One config; an evaluation config of a bundle for MONAI's engines is written to be read over its training config."""
    file = bundle.require(*CONFIGS[kind])
    train = bundle.config("train")
    if kind == "eval" and train not in (None, file) and "system" not in ConfigParser.load_config_file(str(file)):
        return [str(train), str(file)]
    return [str(file)]


def find_bundle(
    bundle: str | Path,
    version: str | None = None,
    bundle_dir: str | Path | None = None,
    source: str | None = None,
    repo: str | None = None,
    progress: bool = True,
) -> Path:
    """Find the directory of a bundle, downloaded and unpacked where needed. Nothing of it is run.

    Args:
        bundle: directory, zip file, address of a zip file, or the name of a bundle at ``source``.
        version: what the metadata must say; default: the newest that was downloaded before, else the latest there is.
        bundle_dir: where downloaded bundles are kept; default: ``bundle`` in ``torch.hub.get_dir()``.
        source: one of `SOURCES`; default: the environment's ``BUNDLE_DOWNLOAD_SRC``, else ``monaihosting``.
        repo: see `fetch`.
        progress: show a progress bar.

    Raises:
        SharingError: it cannot be found, downloaded or unpacked safely, or has another version.
    """
    given = str(bundle)
    version = None if version is None else str(version)
    if Path(given).is_dir():
        return _verify(Path(given).resolve(), version)
    cache = _find_cache(bundle_dir)
    target: Path | None
    obtain: Callable[[Path], Path]
    if urlparse(given).scheme in ("http", "https"):
        name, digest = Path(urlparse(given).path).stem, hashlib.sha256(given.encode()).hexdigest()
        target, obtain = (
            cache / f"{name}-{digest[:12]}",
            partial(fetch, name, version=version, url=given, progress=progress),
        )
    elif Path(given).is_file():
        target = cache / f"{Path(given).stem}-{hash_file(Path(given))[:12]}"
        obtain = partial(unpack, Path(given))
    else:
        source = source or os.environ.get("BUNDLE_DOWNLOAD_SRC", SOURCES[0])
        if not NAME.fullmatch(given) or FILE.search(given):
            problem = f"must be a directory, a zip file, an address or a name, got {given!r}"
            raise SharingError.of("bundle", problem, f"There is no such file. {_find_near(given)}".strip())
        if source not in SOURCES:
            problem = f"must be a source of MONAI's, got {source!r}"
            raise SharingError.of("source", problem, did_you_mean(source, SOURCES))
        target = _find_kept(cache, given, version)
        obtain = partial(_fetch_named, given, version=version, source=source, repo=repo, progress=progress)
    if target is not None and _is_whole(target):
        return _verify(target, version)
    with _stage(cache) as staging:
        root = _verify(obtain(staging), version)
        fetch_large_files(root, progress)
        return _move(root, target or cache / f"{given}_v{_read_version(Bundle(root))}")


def _fetch_named(name: str, directory: Path, **given: Any) -> Path:
    try:
        return fetch(name, directory, **given)
    except SharingError as error:
        hint = f"There is no directory or file {name!r} here. {_find_near(name)}".strip()
        raise SharingError(*(one._replace(hint=f"{one.hint} {hint}") for one in error.findings)) from error


def _find_near(given: str) -> str:
    """A bundle or zip file with nearly the name of one that is not there, in the same folder."""
    folder = Path(given).parent
    entries = [*folder.glob("*")] if folder.is_dir() else []
    names = [str(path) for path in entries if path.suffix.lower() == ".zip" or (path / "configs").is_dir()]
    close = get_close_matches(str(Path(given)), names, 1)
    return f"Did you mean {close[0]!r}?" if close else ""


def _find_kept(cache: Path, name: str, version: str | None) -> Path | None:
    """Where the version that is asked for is kept, or the newest."""
    kept = {path.name[len(name) + 2 :]: path for path in cache.glob(f"{name}_v*") if _is_whole(path)}
    return kept.get(version or find_newest(kept)) if kept else None


def _is_whole(path: Path) -> bool:
    """Whether a directory of the cache is a bundle yet, and not what is left of one."""
    return any(file.suffix in CONFIG_SUFFIXES for file in path.glob("configs/*"))


def _verify(root: Path, version: str | None) -> Path:
    """A bundle that has metadata that can be read, or none, and the version that is asked for."""
    has = Bundle(root).metadata().get("version") if (root / "configs").is_dir() else None
    if version is not None and str(has) != version:
        raise SharingError.of("version", f"asked for {version}, got {has}", "Ask for another.")
    return root


def _read_version(bundle: Bundle) -> str:
    version: Any = bundle.metadata().get("version")
    text = str(version) if isinstance(version, (str, int, float)) else ""
    if not VERSION.fullmatch(text):
        problem = f"must be a version of letters, digits and . + - _, got {version!r:.80}"
        raise SharingError.of("metadata::version", problem, "Do not load it, or mend configs/metadata.json.")
    return text


@contextmanager
def _stage(cache: Path) -> Iterator[Path]:
    """A directory in the cache that is gone afterwards, so that only complete bundles are ever in it under their names."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".loading-", dir=cache, ignore_cleanup_errors=True)
    except OSError as error:
        problem = f"must be a directory that can be written, got {str(cache)!r} ({error.strerror})"
        raise SharingError.of("bundle_dir", problem, "Name another.") from error
    with folder as name:
        yield Path(name)


def _move(root: Path, target: Path) -> Path:
    """Moves a complete bundle to its place; one that another process put there meanwhile stays."""
    for path in root.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            raise SharingError.of("bundle", f"{path.relative_to(root)} is a link out of the bundle", "Do not load it.")
    if target.is_dir() and not _is_whole(target):
        shutil.rmtree(target)
    try:
        root.rename(target)
    except OSError:
        if not _is_whole(target):
            raise
        shutil.rmtree(root, ignore_errors=True)
    return target
