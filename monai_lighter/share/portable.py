"""Configs, metadata and texts without the paths of the machine they were written on."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import yaml

from monai_lighter.errors import Finding

__all__ = ["find_absolute_paths", "find_leaks", "make_config_portable", "make_metadata_portable"]

BEGINS = re.compile(r"~?/\w|[A-Za-z]:[\\/]\w|\\\\\w")
"""A text that is an absolute path as a whole, of one component or more: POSIX, in a home directory, with a drive, UNC."""
ADDRESS = re.compile(r"\b(?:(?!file:)[A-Za-z][\w+.-]+://[^\s'\"<>)]*|data:[\w/+.-]+;base64,[\w+/=]+)")
POSIX = r"(?:(?<=file://)|(?<![\w.~}\])$%*?/<+]))/(?=\w*[^\W\d_])\w[\w.@+%-]*/[^\s'\"`,;)\]|<>/][^\s'\"`,;)\]|<>]*"
HOME = r"(?<![\w.~/])~/\w[\w.@+%-]*/[^\s'\"`,;)\]|<>/][^\s'\"`,;)\]|<>]*"
DRIVE = r"(?<!\w)[A-Za-z]:(?:\\{1,2}|/)(?!/)[^\s'\"\\/:]+(?:\\{1,2}|/)[^\s'\"\\/][^\s'\"`,;)\]]*"
SHARE = r"(?<![\w\\])(?:\\\\){1,2}\w[\w.-]+\\{1,2}\w[^\s'\"`,;)\]]+"
ROOTED = re.compile(f"{POSIX}|{HOME}|{DRIVE}|{SHARE}")
HARMLESS = re.compile(
    r"/(?:(?:dev|proc|sys|bin|sbin|lib|lib64|etc|tmp|your|path/to|absolute/path)/|usr/(?:bin|lib|include|share|local)/)"
)
"""Of any system, of nobody in particular, or an example."""
LITERALS = re.compile(r"(?:(['\"])[^'\"]*\1\s*\+\s*)*[rbfuRBFU]{0,2}['\"]$")
"""The end of a text that opens a literal, with the literals that it is joined to."""
PLACEHOLDER = re.compile(r"<(?!(?:code|pre|td|th|li|p|b|i|em|tt|kbd|samp|br|span|div)>)[^<>/]+>$")


def make_config_portable(text: str, root: Path) -> tuple[str, list[Finding]]:
    """Make the plain values of a config that are absolute paths relative to the bundle; comments and layout stay.

    A path in the bundle becomes one under ``bundle_root``, any other one under ``data`` there, because what it names stays
    behind.

    Args:
        text: YAML or JSON.
        root: absolute path of the bundle.

    Returns:
        The text, and a finding for each path that led out of the bundle.
    """
    findings = []
    document = yaml.compose(_replace_tabs(text), Loader=yaml.SafeLoader)
    for id, node in sorted(_list_scalars("", document), key=lambda item: -item[1].start_mark.index):
        if not _is_absolute(node.value):
            continue
        path = Path(node.value) if node.value.startswith("/") else PureWindowsPath(node.value)
        if path == root:
            new = '"."'
        elif isinstance(path, Path) and path.is_relative_to(root):
            new = f"\"$@bundle_root + '/{path.relative_to(root).as_posix()}'\""
        else:
            new = f"\"$@bundle_root + '{_name_inside(path)}'\""
            findings.append(Finding(id, f"names a path outside of the bundle, {node.value!r}", f"Packaged as {new}."))
        text = text[: node.start_mark.index] + new + text[node.end_mark.index :]
    return text, findings[::-1]


def _name_inside(path: PurePath) -> str:
    return f"/data/{path.name}" if path.suffix else "/data"


def _replace_tabs(text: str) -> str:
    """JSON may have tabs, which YAML forbids: as space between its tokens alone, since in texts they are escaped."""
    try:
        json.loads(text)
    except ValueError:
        return text
    return text.replace("\t", " ")


def _list_scalars(id: str, node: yaml.Node | None) -> Iterator[tuple[str, yaml.ScalarNode]]:
    if isinstance(node, yaml.ScalarNode):
        yield id, node
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _list_scalars(f"{id}::{key.value}".lstrip(":"), value)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield from _list_scalars(f"{id}::{i}", value)


def make_metadata_portable(metadata: dict[str, Any]) -> tuple[dict[str, Any], list[Finding]]:
    """Leave the texts and names that name an absolute path out of metadata; gives a finding for each."""
    findings: list[Finding] = []
    return _drop_paths("metadata", metadata, findings), findings


def _drop_paths(id: str, value: Any, findings: list[Finding]) -> Any:
    if not isinstance(value, (dict, list)):
        return value
    kept = {}
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        found = next((text for text in (key, item) if isinstance(text, str) and _names_path(text)), None)
        if found is None:
            kept[key] = _drop_paths(f"{id}::{key}", item, findings)
        else:
            hint = "Say it in configs/metadata.json without the path."
            findings.append(Finding(f"{id}::{key}", f"names an absolute path and was left out, {found!r:.200}", hint))
    return kept if isinstance(value, dict) else list(kept.values())


def _names_path(text: str) -> bool:
    return _is_absolute(text) or any(any(find_absolute_paths(line)) for line in text.splitlines())


def find_leaks(directory: Path, root: Path) -> list[Finding]:
    """Find where the text files of a directory still name an absolute path, the bundle's or another one.

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
            paths = (path for path in find_absolute_paths(line) if not os.path.exists(directory / path.strip("/.:")))
            found = next(chain(own, paths), None)
            if found:
                place = f"{file.relative_to(directory)}:{number}"
                hint = "Make it relative to the bundle, or take it out."
                findings.append(Finding(place, f"names a path of this machine, {found!r}", hint))
    return findings


def _is_absolute(text: str) -> bool:
    """Whether a text is an absolute path as a whole."""
    return BEGINS.match(text) is not None


def find_absolute_paths(line: str) -> Iterator[str]:
    """Find the absolute paths of two components or more in a line.

    Left alone are addresses, what is joined to something else (``root + '/models/model.pt'``, ``<DIR>/a/b``) and paths that
    every system has, such as ``/usr/bin/env``.
    """
    line = ADDRESS.sub(lambda match: " " * len(match.group()), line).replace("\\/", "/")
    for match in ROOTED.finditer(line):
        before = line[: match.start()]
        opened = LITERALS.search(before)
        joined = opened is not None and before[: opened.start()].rstrip().endswith("+")
        if not (joined or HARMLESS.match(match.group()) or PLACEHOLDER.search(before)):
            yield match.group()
