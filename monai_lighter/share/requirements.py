"""The packages that a bundle needs, found in its configs and code."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

from monai_lighter.config.items import items

__all__ = ["package_version", "required_packages"]

APART = {"monai", "numpy", "torch"}
"""Packages that metadata name in fields of their own."""
NATIVE = ("monai_lighter", "lightning")
READERS = {"ITKReader": "itk", "PILReader": "pillow", "NrrdReader": "pynrrd", "PydicomReader": "pydicom"}
IMAGES = re.compile(r"(?:Load|Save)Image(?:d|D|Dict)?$")


def package_version(name: str) -> str | None:
    """The installed version of a distribution, without its local part; None where it is not installed."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def required_packages(
    configs: Iterable[dict], code: Iterable[Path], own: Iterable[str], native: bool
) -> dict[str, str]:
    """Distributions that a bundle imports and their installed versions, by name.

    Args:
        configs: as read from the files.
        code: Python files.
        own: names of modules that are the bundle's own.
        native: whether it runs on this package alone; else it needs pytorch-ignite.
    """
    modules: set[str] = set()
    distributions: set[str] = {*NATIVE} if native else {"pytorch-ignite"}
    for config in configs:
        for id, value in items(config):
            if not isinstance(value, str):
                continue
            if id.endswith("_target_"):
                modules.update([value.partition(".")[0]] if "." in value else [])
                if IMAGES.search(value) and not _reader(config, id):
                    distributions.add("nibabel")
                distributions.update(name for reader, name in READERS.items() if value.endswith(reader))
            elif value in READERS:
                distributions.add(READERS[value])
            elif value.startswith("$"):
                modules.update(_imported(value[1:].strip()))
    for file in code:
        modules.update(_imported(file.read_text("utf-8")))
    known = packages_distributions()
    for module in modules - APART - set(own) - sys.stdlib_module_names:
        distributions.update(known.get(module, [module])[:1])
    found = {name: package_version(name) for name in sorted(distributions, key=str.lower)}
    return {name: number for name, number in found.items() if number is not None}


def _reader(config: dict, id: str) -> Any:
    node: Any = config
    for key in id.split("::")[:-1]:
        node = node[key] if isinstance(node, dict) else node[int(key)]
    return node.get("reader")


def _imported(source: str) -> Iterator[str]:
    try:
        tree = ast.parse(re.sub(r"[@%][\w:#]+", "_", source) if source.startswith(("@", "%")) else source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
