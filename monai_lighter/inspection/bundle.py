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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from monai_lighter.inspection.archive import open_source
from monai_lighter.inspection.configs import config_entries
from monai_lighter.inspection.digest import RUN_FOLDERS, source_digest, stream_digest
from monai_lighter.inspection.documents import DocumentError, read_document
from monai_lighter.inspection.links import linked_files
from monai_lighter.inspection.logging_files import logging_entries
from monai_lighter.inspection.obeyed import started_by_itself, why_obeyed
from monai_lighter.inspection.report import Entry, Level, Report
from monai_lighter.inspection.resolve import Resolver
from monai_lighter.inspection.scope import BundleScope
from monai_lighter.inspection.scripts import bytecode_entry, own_modules, python_entries, shadow_entries
from monai_lighter.inspection.source import Member, Source, SourceError
from monai_lighter.inspection.weights import binary_entries

__all__ = ["inspect"]

DOCUMENTS = (".json", ".yaml", ".yml")
SETTINGS = (".conf", ".ini", ".cfg")
APPLE_DOUBLE = b"\0\5\x16\7"
"""What files begin with that macOS puts beside others, under their names and ``._``."""
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
    if not files and not source.problems:
        yield Entry(Level.LOOK, "archive", "", "empty", "there is no file in it")
    documents: dict[str, Any] = {}
    found: list[Entry] = []
    for member in files:
        try:
            found += _file_entries(source, member, names, resolver, documents)
        except Exception as error:  # whatever a broken file or archive makes its reader raise: the rest is still read
            why = f"cannot be read: {type(error).__name__}: {error}"
            found.append(Entry(Level.DANGER, "file", member.name, "broken", why))
    scope = BundleScope(resolver, documents)
    configs = _configs(names) | scope.read_by_macro
    for entry in found:
        is_other = entry.kind == "config" and entry.file not in configs
        yield replace(entry, level=min(entry.level, Level.LOOK)) if is_other else entry
    yield from config_entries(scope)


def _configs(names: set[str]) -> set[str]:
    """Files that a run may read as configs, so that one that readers disagree on is dangerous; others are read as data."""
    inside = {name for name in names if "configs/" in f"/{name}"}
    outside = {name for name in names if "/" not in name}
    return inside | {name for name in outside if not inside or name.startswith("large_files")}


def _file_entries(
    source: Source, member: Member, names: set[str], resolver: Resolver, documents: dict[str, Any]
) -> Iterator[Entry]:
    """One file. The content of configs is put into ``documents``."""
    if started_by_itself(member.name):
        yield Entry(Level.DANGER, "file", member.name, member.name, "started or obeyed without being asked for")
    with _seekable(source, member) as stream:
        if not (member.name.split("/")[-1].startswith("._") and _read(stream, len(APPLE_DOUBLE)) == APPLE_DOUBLE):
            yield from _text_entries(member, stream, names, resolver, documents)
        stream.seek(0)
        yield from binary_entries(member.name, stream, resolver)


def _text_entries(
    member: Member, stream: BinaryIO, names: set[str], resolver: Resolver, documents: dict[str, Any]
) -> Iterator[Entry]:
    """What a file is by its name, to those who read it as text."""
    name = member.name.lower()
    if name.endswith(DOCUMENTS):
        yield from _document(member.name, _read(stream), documents)
    elif name.endswith((".pyc", ".pyo")):
        yield bytecode_entry(member, _read(stream, 16), _digest(stream), names)
    elif name.endswith((".py", ".pyw", ".pyi")):
        yield from python_entries(member.name, _read(stream), _digest(stream), resolver)
    elif name.endswith(SETTINGS):
        yield from logging_entries(member.name, _read(stream))
    why = why_obeyed(member.name, partial(_read, stream))
    if why:
        yield Entry(Level.LOOK, "script", member.name, f"sha256 {_digest(stream)}", why)


def _document(name: str, data: bytes, documents: dict[str, Any]) -> Iterator[Entry]:
    try:
        document = read_document(name, data)
    except DocumentError as error:
        documents[name] = None
        yield Entry(Level.DANGER, "config", name, "broken", str(error))
        return
    documents[name] = document.content
    for verdict in document.problems:
        yield Entry(verdict.level, "config", name, name, verdict.why)


def _read(stream: BinaryIO, limit: int = MAX_READ) -> bytes:
    stream.seek(0)
    return stream.read(limit)


def _digest(stream: BinaryIO) -> str:
    stream.seek(0)
    return stream_digest(stream)


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
