"""Configs, metadata and texts without the paths of the machine they were written on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import yaml

from monai_lighter.errors import Finding
from monai_lighter.share.absolute import absolute_paths, is_absolute

__all__ = ["leaks", "portable_config", "portable_metadata"]


def portable_config(text: str, root: Path) -> tuple[str, list[Finding]]:
    """A config in which no plain value is an absolute path; comments and layout stay.

    A path in the bundle becomes one under ``bundle_root``, any other one under ``data`` there, because what it names stays
    behind.

    Args:
        text: YAML or JSON.
        root: absolute path of the bundle.

    Returns:
        The text, and a finding for each path that led out of the bundle.
    """
    findings = []
    document = yaml.compose(_without_tabs(text), Loader=yaml.SafeLoader)
    for id, node in sorted(_scalars("", document), key=lambda item: -item[1].start_mark.index):
        if not is_absolute(node.value):
            continue
        path = Path(node.value) if node.value.startswith("/") else PureWindowsPath(node.value)
        if path == root:
            new = '"."'
        elif isinstance(path, Path) and path.is_relative_to(root):
            new = f"\"$@bundle_root + '/{path.relative_to(root).as_posix()}'\""
        else:
            new = f"\"$@bundle_root + '{_inside(path)}'\""
            findings.append(Finding(id, f"names a path outside of the bundle, {node.value!r}", f"Packaged as {new}."))
        text = text[: node.start_mark.index] + new + text[node.end_mark.index :]
    return text, findings[::-1]


def _inside(path: PurePath) -> str:
    return f"/data/{path.name}" if path.suffix else "/data"


def _without_tabs(text: str) -> str:
    """JSON may have tabs, which YAML forbids: as space between its tokens alone, since in texts they are escaped."""
    try:
        json.loads(text)
    except ValueError:
        return text
    return text.replace("\t", " ")


def _scalars(id: str, node: yaml.Node | None) -> Iterator[tuple[str, yaml.ScalarNode]]:
    if isinstance(node, yaml.ScalarNode):
        yield id, node
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(f"{id}::{key.value}".lstrip(":"), value)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield from _scalars(f"{id}::{i}", value)


def portable_metadata(metadata: dict[str, Any]) -> tuple[dict[str, Any], list[Finding]]:
    """Metadata without the texts and names that name an absolute path; a finding for each that is left out."""
    findings: list[Finding] = []
    return _without_paths("metadata", metadata, findings), findings


def _without_paths(id: str, value: Any, findings: list[Finding]) -> Any:
    if not isinstance(value, (dict, list)):
        return value
    kept = {}
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        found = next((text for text in (key, item) if isinstance(text, str) and _names_path(text)), None)
        if found is None:
            kept[key] = _without_paths(f"{id}::{key}", item, findings)
        else:
            hint = "Say it in configs/metadata.json without the path."
            findings.append(Finding(f"{id}::{key}", f"names an absolute path and was left out, {found!r:.200}", hint))
    return kept if isinstance(value, dict) else list(kept.values())


def _names_path(text: str) -> bool:
    return is_absolute(text) or any(any(absolute_paths(line)) for line in text.splitlines())


def leaks(directory: Path, root: Path) -> list[Finding]:
    """Where the text files of a directory still name an absolute path, the bundle's or another one.

    Args:
        directory: what is handed on. A path that is one of its own when taken from there (``/configs/train.yaml``) may stay.
        root: absolute path of the bundle.
    """
    findings = []
    for file in sorted(path for path in directory.rglob("*") if path.is_file()):
        try:
            lines = file.read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            own = [str(root)] if f"{root}/" in f"{line}/" else []
            paths = (path for path in absolute_paths(line) if not os.path.exists(directory / path.strip("/.:")))
            found = next(chain(own, paths), None)
            if found:
                place = f"{file.relative_to(directory)}:{number}"
                hint = "Make it relative to the bundle, or take it out."
                findings.append(Finding(place, f"names a path of this machine, {found!r}", hint))
    return findings
