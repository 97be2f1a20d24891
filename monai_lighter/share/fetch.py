"""Bundles from MONAI's hosting and elsewhere: its names, its sources, its progress bar; unpacked by us."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse

import monai.bundle.scripts as monai_bundle
import yaml
from monai.apps.utils import HashCheckError, download_url
from monai.bundle import ConfigParser
from packaging.version import InvalidVersion, Version

from monai_lighter.errors import in_short
from monai_lighter.errors.packages import install_hint_of
from monai_lighter.share.layout import CONFIG_SUFFIXES, SharingError
from monai_lighter.trust.archive import ArchiveError, extract_zip

__all__ = ["DEFAULT_REPO", "SOURCES", "fetch", "fetch_large_files", "find_newest", "list_large_files", "unpack"]

logger = logging.getLogger(__name__)

SOURCES = ("monaihosting", "github", "ngc", "ngc_private", "huggingface_hub")
DEFAULT_REPO = "Project-MONAI/model-zoo/hosting_storage_v1"
GITHUB = "https://github.com"
FAILURES = (OSError, RuntimeError, ValueError, KeyError, ImportError, HashCheckError)
"""What MONAI's downloads raise: no connection (URLError is an OSError), another answer, a name that is not there."""


def fetch(
    name: str,
    directory: Path,
    version: str | None = None,
    source: str = "monaihosting",
    repo: str | None = None,
    url: str | None = None,
    progress: bool = True,
) -> Path:
    """Download a bundle.

    Archives (``url``, ``github``, ``monaihosting``) are unpacked by `extract_zip`; files that come one by one (``ngc``,
    ``huggingface_hub``) and ``ngc_private`` by ``monai.bundle.download``. MONAI's hosting is asked for files on Hugging Face,
    then, as by MONAI, for its archives, also where Hugging Face cannot be reached.

    Args:
        name: of the bundle.
        directory: empty, to download to.
        version: of the bundle; default: the latest.
        source: one of `SOURCES`.
        repo: ``OWNER/REPOSITORY/RELEASE_TAG`` for ``github``, ``OWNER/REPOSITORY`` for ``huggingface_hub``,
            ``org/NAME[/team/NAME]`` for ``ngc_private``.
        url: of an archive; ``source`` is not used then.
        progress: show a progress bar.

    Returns:
        The bundle's directory, below ``directory``.

    Raises:
        SharingError: it could not be downloaded or unpacked.
    """
    archive = directory / f"{name}.zip"
    try:
        if url is None and source in ("ngc", "ngc_private", "huggingface_hub"):
            monai_bundle.download(name, version, directory, source, repo, progress=progress)
            return _find_bundle(directory, name)
        if url is None and source == "monaihosting" and _fetch_from_hub(name, version, directory, progress):
            return directory / name
        _fetch_archive(name, archive, version, source, repo, url, progress)
    except FAILURES as error:
        if isinstance(error, SharingError):
            raise
        where = url or f"{source}{f' ({repo})' if repo else ''}"
        problem = f"{name}{f' {version}' if version else ''} could not be downloaded from {where}: {error}"
        hint = install_hint_of(error) or "Mend the name, version or source, or try again."
        raise SharingError.of("load", problem, hint) from error
    return unpack(archive, directory)


def _fetch_from_hub(name: str, version: str | None, directory: Path, progress: bool) -> bool:
    """Whether MONAI's hosting has the bundle on Hugging Face, and that can be reached; then it is downloaded."""
    try:
        monai_bundle.download(name, version, directory, "huggingface_hub", f"MONAI/{name}", progress=progress)
    except Exception as error:  # of its HTTP library, which is one or another by version
        logger.info(f"{name}: not from Hugging Face ({in_short(error)}), MONAI's archives are asked")
        shutil.rmtree(directory / name, ignore_errors=True)
        return False
    return True


def _fetch_archive(
    name: str, archive: Path, version: str | None, source: str, repo: str | None, url: str | None, progress: bool
) -> None:
    if url is None and source == "github":
        owner, project, tag = (repo or DEFAULT_REPO).split("/")
        version = version or _find_latest(name, repo=f"{owner}/{project}", tag=tag)
        url = f"{GITHUB}/{owner}/{project}/releases/download/{tag}/{name}_v{version}.zip"
    if url is not None:
        _download(url, archive, progress=progress)
        return
    version = version or _find_latest(name)
    files = f"{monai_bundle.MONAI_HOSTING_BASE_URL}/{name.lower()}/versions/{version}/files"
    try:
        _download(f"{files}/{name}_v{version}.zip", archive, progress=progress)
    except HTTPError:
        _download(monai_bundle.get_bundle_info(name, version)["browser_download_url"], archive, progress=progress)


def _find_latest(name: str, **where: str) -> str:
    """Of all versions there are: MONAI sorts them as texts."""
    return find_newest(map(str, monai_bundle.get_bundle_versions(name, **where)["all_versions"]))


def find_newest(versions: Iterable[str]) -> str:
    """Find the last of versions in their own order (0.10.0 after 0.2.0); what is no version comes before all that are."""

    def order(version: str) -> tuple[bool, Version, str]:
        try:
            return True, Version(version), version
        except InvalidVersion:
            return False, Version("0"), version

    return max(versions, key=order)


def _download(url: str, file: Path, **given: Any) -> None:
    """MONAI's ``download_url``, from http and https alone: it would also read ``file:``."""
    if urlparse(url).scheme not in ("http", "https"):
        raise URLError(f"must be an http or https address, got {url!r}")
    download_url(url, file, **given)
    if not file.is_file():
        raise OSError(f"{file} could not be written")


def unpack(archive: Path, directory: Path) -> Path:
    """Unpack the archive of a bundle below a directory.

    Returns:
        The bundle's directory in it.

    Raises:
        SharingError: the archive is broken or hostile (`extract_zip`), or not one bundle.
    """
    try:
        extract_zip(archive, directory / "unpacked")
    except ArchiveError as error:
        raise SharingError(*error.findings) from error
    return _find_bundle(directory / "unpacked", archive.name)


def _find_bundle(directory: Path, name: str) -> Path:
    """The directory with ``configs`` among what came."""
    found = [path.parent for path in [directory / "configs", *sorted(directory.glob("*/configs"))] if path.is_dir()]
    if len(found) != 1:
        problem = f"{name} must be one bundle with a folder configs/, got {len(found)} of them"
        raise SharingError.of("load", problem, "It is no MONAI bundle; look at what it is.")
    return found[0]


def fetch_large_files(root: Path, progress: bool = True) -> None:
    """Download what ``large_files.yml`` of a bundle names and what is not there yet.

    Not by MONAI's ``download_large_files``, which has no ``progress``, reads ``file:`` addresses, and hands whatever an entry
    holds to ``download_url``.

    Args:
        root: directory of the bundle.
        progress: show a progress bar.

    Raises:
        SharingError: the file cannot be read, a download failed, a hash differs, or a path or address is none that a bundle has.
    """
    try:
        for entry in list_large_files(root):
            target = root / entry["path"]
            if not target.resolve().is_relative_to(root.resolve()):
                raise ValueError(f"{entry['path']!r} leads out of the bundle")
            if not target.is_file():
                given = {key: entry[key] for key in ("hash_val", "hash_type") if entry.get(key)}
                _download(entry["url"], target, progress=progress, **given)
    except (*FAILURES, TypeError, AttributeError) as error:
        if isinstance(error, SharingError):
            raise
        raise SharingError.of("large_files", f"could not be downloaded: {error}", "Try again.") from error


def list_large_files(root: Path) -> list[dict]:
    """List what ``large_files.yml`` (``.yaml``, ``.json``) of a bundle names: mappings with ``path`` and ``url``, perhaps a hash.

    Raises:
        SharingError: the file cannot be read, or holds something else.
    """
    files = [root / f"large_files{suffix}" for suffix in CONFIG_SUFFIXES]
    return [entry for file in files if file.is_file() for entry in _read_large_files(file)]


def _read_large_files(file: Path) -> list[dict]:
    try:
        content = ConfigParser.load_config_file(str(file))
    except (yaml.YAMLError, ValueError) as error:
        problem = f"{file.name} cannot be read: {' '.join(str(error).split())}"
        raise SharingError.of("large_files", problem, "Mend the file.") from error
    listed = content.get("large_files") or [] if isinstance(content, dict) else None
    if not isinstance(listed, list) or not all(isinstance(e, dict) and {"path", "url"} <= {*e} for e in listed):
        problem = f"{file.name} must hold large_files, a list of path and url, got {content!r:.80}"
        raise SharingError.of("large_files", problem, "Mend the file, or remove it.")
    return listed
