"""Other people's bundles, as workflows."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from monai.bundle import ConfigParser

from monai_lighter.config.stages import is_native
from monai_lighter.errors import Finding, did_you_mean
from monai_lighter.share.fetch import SOURCES, fetch, fetch_large_files, only_bundle
from monai_lighter.share.layout import CONFIG_SUFFIXES, Bundle, SharingError
from monai_lighter.share.versions import newest, version_of
from monai_lighter.trust.archive import extract_zip
from monai_lighter.trust.enforce import ALL, DECLARATIVE, default_trust
from monai_lighter.workflow.workflow import STAGE_OF_TYPE, Workflow

__all__ = ["find_bundle", "load_bundle"]

CONFIGS = {"train": ("train",), "eval": ("evaluate", "test", "train"), "infer": ("inference", "infer")}
KINDS = {"training": "train", "evaluation": "eval", "inference": "infer"}
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


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
    """Finds a bundle, downloads it where needed, and gives its initialised workflow.

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
        repo: as in ``monai.bundle.download``.
        progress: show a progress bar.
        trust: as `Workflow` takes it; default: the environment's ``MONAI_LIGHTER_TRUST``, else ``all`` for a directory and
            ``declarative`` for what is fetched or unpacked.
        override: id-value pairs of the config.

    Raises:
        SharingError: it cannot be found or downloaded, or has no config of that type.
        ArchiveError: it cannot be unpacked safely.
        ConfigError: its config is wrong, or is code that ``trust`` does not cover.
    """
    kind = KINDS.get(workflow_type, workflow_type)
    if kind not in CONFIGS:
        hint = did_you_mean(str(workflow_type), CONFIGS)
        raise SharingError(
            Finding("workflow_type", f"must be one of {', '.join(CONFIGS)}, got {workflow_type!r}", hint)
        )
    found = Bundle(find_bundle(bundle, version, bundle_dir, source, repo, progress))
    files = _config_files(found, kind)
    config = ConfigParser.load_config_files(files)
    if "bundle_root" in config:
        override.setdefault("bundle_root", str(found.root))
    run_id = run_id or (STAGE_OF_TYPE.get(kind, "predict") if is_native(config) else "run")
    trust = default_trust(trust, ALL if Path(bundle).is_dir() else DECLARATIVE)
    workflow = Workflow(files, workflow_type=kind, run_id=run_id, trust=trust, **override)
    workflow.initialize()
    return workflow


def _config_files(bundle: Bundle, kind: str) -> list[str]:
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
    """The directory of a bundle, downloaded and unpacked where needed. Runs nothing of it. See `load_bundle`."""
    given = str(bundle)
    version = None if version is None else str(version)
    if Path(given).is_dir():
        return _verified(Path(given).resolve(), version)
    cache = Path(bundle_dir) if bundle_dir else Path(torch.hub.get_dir()) / "bundle"
    if urlparse(given).scheme in ("http", "https"):
        name = Path(urlparse(given).path).stem
        target = cache / f"{name}-{hashlib.sha256(given.encode()).hexdigest()[:12]}"
        if _is_whole(target):
            return _verified(target, version)
        return _downloaded(cache, target, name, version, url=given, progress=progress)
    if Path(given).is_file():
        return _unpacked(Path(given), cache, version)
    source = source or os.environ.get("BUNDLE_DOWNLOAD_SRC", SOURCES[0])
    if not NAME.fullmatch(given):
        problem = f"must be a directory, a zip file, an address or a name, got {given!r}"
        raise SharingError(Finding("bundle", problem, "There is no such file."))
    if source not in SOURCES:
        raise SharingError(
            Finding("source", f"must be a source of MONAI's, got {source!r}", did_you_mean(source, SOURCES))
        )
    present = _cached(cache, given, version)
    if present is not None:
        return present
    return _downloaded(cache, None, given, version=version, source=source, repo=repo, progress=progress)


def _cached(cache: Path, name: str, version: str | None) -> Path | None:
    """The version that is asked for, or the newest."""
    found = {path.name[len(name) + 2 :]: path for path in cache.glob(f"{name}_v*") if _is_whole(path)}
    if version is not None:
        return found.get(version)
    return found[newest(found)] if found else None


def _is_whole(path: Path) -> bool:
    """Whether a directory of the cache is a bundle yet, and not what is left of one."""
    return any(file.suffix in CONFIG_SUFFIXES for file in path.glob("configs/*"))


def _downloaded(cache: Path, target: Path | None, name: str, version: str | None = None, **where: Any) -> Path:
    with _staging(cache) as staging:
        root = _verified(fetch(name, staging, version, **where), version)
        fetch_large_files(root, where["progress"])
        return _moved(root, target or cache / f"{name}_v{version_of(Bundle(root))}")


def _verified(root: Path, version: str | None) -> Path:
    """A bundle that has metadata that can be read, or none, and the version that is asked for."""
    has = Bundle(root).metadata().get("version") if (root / "configs").is_dir() else None
    if version is not None and str(has) != version:
        raise SharingError(Finding("version", f"asked for {version}, got {has}", "Ask for another."))
    return root


def _unpacked(archive: Path, cache: Path, version: str | None) -> Path:
    digest = hashlib.sha256()
    with archive.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    target = cache / f"{archive.stem}-{digest.hexdigest()[:12]}"
    if _is_whole(target):
        return _verified(target, version)
    with _staging(cache) as staging:
        extract_zip(archive, staging / "unpacked")
        found = _verified(only_bundle(staging / "unpacked", archive.name), version)
        fetch_large_files(found)
        return _moved(found, target)


@contextmanager
def _staging(cache: Path) -> Iterator[Path]:
    """A directory in the cache that is gone afterwards, so that only complete bundles are ever in it under their names."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".loading-", dir=cache, ignore_cleanup_errors=True)
    except OSError as error:
        problem = f"must be a directory that can be written, got {str(cache)!r} ({error.strerror})"
        raise SharingError(Finding("bundle_dir", problem, "Name another.")) from error
    with folder as name:
        yield Path(name)


def _moved(root: Path, target: Path) -> Path:
    """Moves a complete bundle to its place; one that another process put there meanwhile stays."""
    for path in root.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            raise SharingError(
                Finding("bundle", f"{path.relative_to(root)} is a link out of the bundle", "Do not load it.")
            )
    if target.is_dir() and not _is_whole(target):
        shutil.rmtree(target)
    try:
        root.rename(target)
    except OSError:
        if not _is_whole(target):
            raise
        shutil.rmtree(root, ignore_errors=True)
    return target
