"""What a stranger's bundle would do, found by reading its files.

`inspect` imports nothing of the bundle, evaluates nothing, loads no pickle, follows no link on disk, and extracts no archive.
To tell what a ``_target_`` leads to it imports packages that are installed (`monai_lighter.inspection.policy.PACKAGES`), and
no other.

It is advice, not a sandbox: it reads what is written, and cannot know all that code in ``scripts/`` computes, nor what a
dangerous combination of harmless parts does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from monai_lighter.inspection.archive import open_source
from monai_lighter.inspection.configs import config_entries
from monai_lighter.inspection.digest import RUN_FOLDERS, member_digest, source_digest
from monai_lighter.inspection.documents import DocumentError, read_document
from monai_lighter.inspection.links import linked_files
from monai_lighter.inspection.logging_files import logging_entries
from monai_lighter.inspection.report import Entry, Level, Report
from monai_lighter.inspection.resolve import Resolver
from monai_lighter.inspection.scope import BundleScope
from monai_lighter.inspection.scripts import (
    SHELLS,
    bytecode_entry,
    own_modules,
    python_entries,
    shadow_entries,
    started_by_itself,
)
from monai_lighter.inspection.source import Member, Source, SourceError
from monai_lighter.inspection.weights import binary_entries

__all__ = ["inspect"]

DOCUMENTS = (".json", ".yaml", ".yml")
SETTINGS = (".conf", ".ini", ".cfg")
MAX_READ = 64 << 20
"""Bytes of a text file, and of a file in an archive that are kept in memory."""


def inspect(bundle: str | Path) -> Report:
    """Reads a bundle and reports what it would do when it runs.

    This is advice, not a sandbox.

    Args:
        bundle: a directory, a zip or tar file, or a single file.

    Returns:
        The report: ``str(report)`` is its text, ``report.to_json()`` its JSON, ``report.exit_code`` 0 where nothing dangerous was
        found, 1 where there are things to look at, 2 where something is dangerous or broken.

    Raises:
        FileNotFoundError: there is no such bundle.
    """
    report = Report(str(bundle))
    try:
        with open_source(bundle) as source:
            report.entries += _entries(source)
            _set_digests(source, report)
    except SourceError as error:
        report.entries.append(Entry(Level.DANGER, "archive", "", str(bundle), str(error)))
    report.entries = list(dict.fromkeys(report.entries))
    return report


def _set_digests(source: Source, report: Report) -> None:
    if not source.members():
        return
    try:
        report.digest, report.run_digest = source_digest(source), source_digest(source, RUN_FOLDERS)
    except Exception as error:  # what reading a broken archive raises
        report.entries.append(Entry(Level.DANGER, "archive", "", "broken", f"cannot be read whole: {error}"))


def _entries(source: Source) -> Iterator[Entry]:
    for name, verdict in source.problems:
        yield Entry(verdict.level, "archive", name, name, verdict.why)
    members = source.members()
    files = [*(member for member in members if member.kind == "file"), *linked_files(members)]
    names = {member.name for member in files}
    modules = own_modules(names)
    resolver = Resolver(modules)
    yield from shadow_entries(modules, names)
    documents: dict[str, Any] = {}
    for member in files:
        try:
            yield from _file_entries(source, member, names, resolver, documents)
        except Exception as error:  # whatever a broken file or archive makes its reader raise: the rest is still read
            yield Entry(Level.DANGER, "file", member.name, "broken", f"cannot be read: {type(error).__name__}: {error}")
    yield from config_entries(BundleScope(resolver, documents))


def _file_entries(
    source: Source, member: Member, names: set[str], resolver: Resolver, documents: dict[str, Any]
) -> Iterator[Entry]:
    """One file. The content of configs is put into ``documents``."""
    name = member.name.lower()
    if started_by_itself(member.name):
        yield Entry(
            Level.DANGER, "file", member.name, member.name.split("/")[-1], "started or obeyed without being asked for"
        )
    if name.endswith(DOCUMENTS):
        yield from _document(source, member, documents)
    elif name.endswith((".pyc", ".pyo")):
        yield bytecode_entry(member, _read(source, member, 16), member_digest(source, member), names)
    elif name.endswith((".py", ".pyw", ".pyi")):
        yield from python_entries(member.name, _read(source, member), member_digest(source, member), resolver)
    elif name.endswith(SETTINGS):
        yield from logging_entries(member.name, _read(source, member))
    elif name.endswith(SHELLS):
        why = "a script: read it before you run it"
        yield Entry(Level.LOOK, "script", member.name, f"sha256 {member_digest(source, member)}", why)
    with _seekable(source, member) as stream:
        yield from binary_entries(member.name, stream, resolver)


def _document(source: Source, member: Member, documents: dict[str, Any]) -> Iterator[Entry]:
    try:
        document = read_document(member.name, _read(source, member))
    except DocumentError as error:
        is_refused = error.__cause__ is None  # a loader without limits may read it
        needed = is_refused or "configs/" in f"/{member.name}" or "/" not in member.name
        documents[member.name] = None
        yield Entry(Level.DANGER if needed else Level.LOOK, "config", member.name, "broken", str(error))
        return
    documents[member.name] = document.content
    for verdict in document.problems:
        yield Entry(verdict.level, "config", member.name, member.name, verdict.why)


def _read(source: Source, member: Member, limit: int = MAX_READ) -> bytes:
    with source.open(member) as stream:
        return stream.read(limit)


def _seekable(source: Source, member: Member) -> BinaryIO:
    """A file, or a copy of one in an archive, in memory or without a name in the temporary directory."""
    stream = source.open(member)
    if member.path is not None:
        return stream
    copy = tempfile.SpooledTemporaryFile(max_size=MAX_READ)  # noqa: SIM115
    with stream:
        while block := stream.read(1 << 20):
            copy.write(block)
    copy.seek(0)
    return copy  # type: ignore[return-value]
