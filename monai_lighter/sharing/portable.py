"""Configs and texts without the paths of the machine they were written on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from monai_lighter.errors import Finding

__all__ = ["leaks", "portable_config"]

HOME = re.compile(r"(?:/home/|/Users/|/root/|[A-Za-z]:\\Users\\)[\w.-]+[^\s'\"`),\]]*")


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
    document = yaml.compose(text, Loader=yaml.SafeLoader)
    for id, node in sorted(_scalars("", document), key=lambda item: -item[1].start_mark.index):
        if not re.match(r"/\w|[A-Za-z]:\\", node.value):
            continue
        path = Path(node.value)
        if path == root:
            new = '"."'
        elif path.is_relative_to(root):
            new = f"\"$@bundle_root + '/{path.relative_to(root).as_posix()}'\""
        else:
            inside = f"/data/{path.name}" if path.suffix else "/data"
            new = f"\"$@bundle_root + '{inside}'\""
            findings.append(Finding(id, f"names a path outside of the bundle, {node.value!r}", f"Packaged as {new}."))
        text = text[: node.start_mark.index] + new + text[node.end_mark.index :]
    return text, findings[::-1]


def _scalars(id: str, node: yaml.Node | None) -> Iterator[tuple[str, yaml.ScalarNode]]:
    if isinstance(node, yaml.ScalarNode):
        yield id, node
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(f"{id}::{key.value}".lstrip(":"), value)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield from _scalars(f"{id}::{i}", value)


def leaks(directory: Path, root: Path) -> list[Finding]:
    """Where the text files of a directory still name the bundle's absolute path or somebody's home."""
    findings = []
    for file in sorted(path for path in directory.rglob("*") if path.is_file()):
        try:
            lines = file.read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            match = HOME.search(line)
            found = match.group() if match else str(root) if f"{root}/" in f"{line}/" else None
            if found:
                place = f"{file.relative_to(directory)}:{number}"
                findings.append(Finding(place, f"names a path of this machine, {found!r}", "Make it relative."))
    return findings
