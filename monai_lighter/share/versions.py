"""Versions of bundles: which of them may be the name of a directory, and which is the newest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from packaging.version import InvalidVersion, Version

from monai_lighter.errors import Finding
from monai_lighter.share.layout import Bundle, SharingError

__all__ = ["newest", "version_of"]

VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


def newest(versions: Iterable[str]) -> str:
    """The last of versions in their own order (0.10.0 after 0.2.0); what is no version comes before all that are."""
    return max(versions, key=_order)


def _order(version: str) -> tuple[bool, Version, str]:
    try:
        return True, Version(version), version
    except InvalidVersion:
        return False, Version("0"), version


def version_of(bundle: Bundle) -> str:
    """What the metadata says.

    Raises:
        SharingError: it is none, and must not become part of a path.
    """
    version: Any = bundle.metadata().get("version")
    text = str(version) if isinstance(version, (str, int, float)) else ""
    if not VERSION.fullmatch(text):
        problem = f"must be a version of letters, digits and . + - _, got {version!r:.80}"
        raise SharingError(Finding("metadata::version", problem, "Do not load it, or mend configs/metadata.json."))
    return text
