"""Bundles from MONAI's hosting and elsewhere: its names, its sources, its progress bar; unpacked by us."""

from __future__ import annotations

from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse

import monai.bundle.scripts as monai_bundle
import yaml
from monai.apps.utils import HashCheckError, download_url
from monai.bundle import ConfigParser
from monai.utils import optional_import

from monai_lighter.errors import Finding
from monai_lighter.internals import get_github_url, get_monaihosting_url, resolve_large_file
from monai_lighter.share.layout import CONFIG_SUFFIXES, SharingError
from monai_lighter.share.versions import newest
from monai_lighter.trust.archive import extract_zip

__all__ = ["DEFAULT_REPO", "SOURCES", "fetch", "fetch_large_files", "only_bundle"]

SOURCES = ("monaihosting", "github", "ngc", "ngc_private", "huggingface_hub")
DEFAULT_REPO = "Project-MONAI/model-zoo/hosting_storage_v1"
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
    """Downloads a bundle.

    Archives (``url``, ``github``, ``monaihosting``) are unpacked by `extract_zip`; files that come one by one (``ngc``,
    ``huggingface_hub``) and ``ngc_private`` by ``monai.bundle.download``. MONAI's hosting is asked for files on Hugging Face
    where ``huggingface_hub`` is installed, else, as MONAI does after it, for its archives.

    Args:
        name: of the bundle.
        directory: empty, to download to.
        version: of the bundle; default: the latest.
        source: one of `SOURCES`.
        repo: as in ``monai.bundle.download``.
        url: of an archive; ``source`` is not used then.
        progress: show a progress bar.

    Returns:
        The bundle's directory, below ``directory``.

    Raises:
        SharingError: it could not be downloaded.
        ArchiveError: it could not be unpacked safely.
    """
    try:
        if url is None and source in ("ngc", "ngc_private", "huggingface_hub"):
            monai_bundle.download(name, version, directory, source, repo, progress=progress)
            return only_bundle(directory, name)
        if url is None and source == "monaihosting" and _from_hub(name, version, directory, progress):
            return directory / name
        archive = directory / f"{name}.zip"
        _download(name, archive, version, source, repo, url, progress)
    except FAILURES as error:
        if isinstance(error, SharingError):
            raise
        where = url or f"{source}{f' ({repo})' if repo else ''}"
        problem = f"{name}{f' {version}' if version else ''} could not be downloaded from {where}: {error}"
        raise SharingError(Finding("load", problem, "Mend the name, version or source, or try again.")) from error
    unpacked = directory / "unpacked"
    extract_zip(archive, unpacked)
    return only_bundle(unpacked, name)


def _from_hub(name: str, version: str | None, directory: Path, progress: bool) -> bool:
    errors, has_hub = optional_import("huggingface_hub.errors")
    if not has_hub:
        return False
    try:
        monai_bundle.download(name, version, directory, "huggingface_hub", f"MONAI/{name}", progress=progress)
    except (errors.RevisionNotFoundError, errors.RepositoryNotFoundError):
        return False
    return True


def _download(
    name: str, archive: Path, version: str | None, source: str, repo: str | None, url: str | None, progress: bool
) -> None:
    if url is None and source == "github":
        owner, project, tag = (repo or DEFAULT_REPO).split("/")
        version = version or _latest(name, repo=f"{owner}/{project}", tag=tag)
        url = get_github_url(owner, project, tag, f"{name}_v{version}.zip")
    if url is not None:
        _retrieve(url, archive, progress)
        return
    version = version or _latest(name)
    try:
        _retrieve(get_monaihosting_url(name, version), archive, progress)
    except HTTPError:
        _retrieve(monai_bundle.get_bundle_info(name, version)["browser_download_url"], archive, progress)


def _latest(name: str, **where: str) -> str:
    """Of all versions there are: MONAI sorts them as texts."""
    return newest(map(str, monai_bundle.get_bundle_versions(name, **where)["all_versions"]))


def _retrieve(url: str, file: Path, progress: bool) -> None:
    if urlparse(url).scheme not in ("http", "https"):
        raise URLError(f"must be an http or https address, got {url!r}")
    download_url(url, file, progress=progress)
    if not file.is_file():
        raise OSError(f"{file} could not be written")


def only_bundle(directory: Path, name: str) -> Path:
    """The directory with ``configs`` among what came."""
    found = [path.parent for path in [directory / "configs", *sorted(directory.glob("*/configs"))] if path.is_dir()]
    if len(found) != 1:
        problem = f"{name} must be one bundle with a folder configs/, got {len(found)} of them"
        raise SharingError(Finding("load", problem, "It is no MONAI bundle; look at what it is."))
    return found[0]


def fetch_large_files(root: Path, progress: bool = True) -> None:
    """Downloads what ``large_files.yml`` of a bundle names and what is not there yet, by MONAI's function.

    Raises:
        SharingError: the file cannot be read, a download failed, a hash differs, or a path or address is none that a bundle has.
    """
    files = [root / f"large_files{suffix}" for suffix in CONFIG_SUFFIXES if (root / f"large_files{suffix}").is_file()]
    try:
        for file in files:
            for entry in _listed(file):
                target = Path(resolve_large_file(root, entry["path"]))
                if target.is_file():
                    continue
                given = {key: entry[key] for key in ("hash_val", "hash_type") if entry.get(key)}
                if urlparse(entry["url"]).scheme not in ("http", "https"):
                    raise ValueError(f"must be an http or https address, got {entry['url']!r}")
                download_url(entry["url"], target, progress=progress, **given)
    except (*FAILURES, TypeError, AttributeError) as error:
        if isinstance(error, SharingError):
            raise
        raise SharingError(Finding("large_files", f"could not be downloaded: {error}", "Try again.")) from error


def _listed(file: Path) -> list[dict]:
    try:
        content = ConfigParser.load_config_file(str(file))
    except (yaml.YAMLError, ValueError) as error:
        problem = f"{file.name} cannot be read: {' '.join(str(error).split())}"
        raise SharingError(Finding("large_files", problem, "Mend the file.")) from error
    listed = content.get("large_files") or [] if isinstance(content, dict) else None
    if not isinstance(listed, list) or not all(
        isinstance(entry, dict) and {"path", "url"} <= {*entry} for entry in listed
    ):
        problem = f"{file.name} must hold large_files, a list of path and url, got {content!r:.80}"
        raise SharingError(Finding("large_files", problem, "Mend the file, or remove it."))
    return listed
