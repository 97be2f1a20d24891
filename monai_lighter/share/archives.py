"""Zip files of bundles: the same bytes from the same files."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

__all__ = ["write_zip"]

EPOCH = (1980, 1, 1, 0, 0, 0)


def write_zip(directory: Path, file: Path) -> None:
    """Packs a directory under its own name. The same content gives the same bytes: names sorted, no times, one mode."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path in sorted(directory.rglob("*"), key=lambda path: path.relative_to(directory).as_posix()):
            if path.is_dir():
                continue
            name = PurePosixPath(directory.name, path.relative_to(directory).as_posix())
            member = zipfile.ZipInfo(str(name), EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            member.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(member, "w") as target:
                shutil.copyfileobj(source, target, 2**20)
