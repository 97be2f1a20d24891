"""``inspect``: what a bundle brings that is code, read and never run."""

from __future__ import annotations

import json
import re
import tempfile
import unicodedata
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.config.items import items
from monai_lighter.config.positions import Positions
from monai_lighter.errors import Finding
from monai_lighter.trust.archive import ArchiveError, extract_zip
from monai_lighter.trust.configs import MAX_ITEMS, Code, judge, tree_of
from monai_lighter.trust.contents import CONFIG_SUFFIXES, CodeFile, list_code_files, own_modules
from monai_lighter.trust.digest import run_digest
from monai_lighter.trust.logging_files import find_logging_code

__all__ = ["Inspection", "inspect"]

META = "metadata"
MACRO = re.compile(r"%([^\s\"'%]+?\.(?:json|ya?ml))", re.IGNORECASE)
ESCAPED = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Categories of characters that a terminal does not show, or obeys."""
MAX_CONFIG = 4 << 20
"""Bytes of a config that is read."""
WRITTEN = (
    "output_dir",
    "save_dir",
    "dirpath",
    "default_root_dir",
    "log_dir",
    "cache_dir",
    "ckpt_dir",
    "dirname",
    "path",
    "filename",
)
"""Arguments and items that say where something is written."""


class Line(NamedTuple):
    """An item and where it stands."""

    file: str
    line: int | None
    id: str
    text: str
    own: bool = False

    def __str__(self) -> str:
        return printable(f"{self.file}{'' if self.line is None else f':{self.line}'}  {self.id}  {self.text}")


@dataclass
class Inspection:
    """What `inspect` found.

    Attributes:
        path: the bundle, as given.
        digest: `run_digest` of it.
        configs: names of the configs that were judged.
        code: items of configs that are code.
        files: files that are code.
        writes: items that say where something is written.
        downloads: what ``large_files.yml`` names, with hashes.
        broken: what cannot be read.
    """

    path: str
    digest: str = ""
    configs: list[str] = field(default_factory=list)
    code: list[Line] = field(default_factory=list)
    files: list[CodeFile] = field(default_factory=list)
    writes: list[Line] = field(default_factory=list)
    downloads: list[str] = field(default_factory=list)
    broken: list[Finding] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0: declarative, 1: there is code to read, 2: broken."""
        return 2 if self.broken else 1 if self.code or self.files else 0

    @property
    def verdict(self) -> str:
        """One line."""
        if self.broken:
            return "broken: do not run it"
        if not self.exit_code:
            return "declarative: it brings no code"
        others = [line for line in self.code if not line.own]
        only = "" if others or not self.code else ", all of them names of its own modules"
        return f"code to read: {len(self.code)} items of configs{only}, {len(self.files)} files"

    def __str__(self) -> str:
        parts = [printable(self.path), f"sha256:{self.digest or 'not computed'}  (over configs, models, scripts)"]
        for title, rows in (
            ("broken", self.broken),
            ("code in configs", self.code),
            ("files that are code", [f"{file.file}  sha256:{file.sha256}  {file.what}" for file in self.files]),
            ("written, as far as plain texts say", self.writes),
            ("downloaded", self.downloads),
        ):
            parts += ["", f"{title}:", *(f"  {printable(str(row))}" for row in rows)] if rows else []
        declarative = [name for name in self.configs if not any(line.file == name for line in self.code)]
        parts += ["", f"declarative configs: {printable(', '.join(declarative) or 'none')}", self.verdict]
        return "\n".join(parts)

    def to_json(self) -> str:
        content = {
            "path": self.path,
            "sha256": self.digest,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "configs": self.configs,
            **{name: [row._asdict() for row in getattr(self, name)] for name in ("code", "files", "writes", "broken")},
            "downloads": self.downloads,
        }
        return json.dumps(content, indent=2)


def inspect(path: str | Path) -> Inspection:
    """Reads a bundle and says what of it is code. Imports nothing of it, evaluates nothing, loads no weights.

    Args:
        path: a directory, or a zip file, which is unpacked to a temporary directory.

    Raises:
        FileNotFoundError: there is no such directory or file.
    """
    place, found = Path(path), Inspection(str(path))
    if not place.exists():
        raise FileNotFoundError(f"bundle: no such directory or file, got {str(path)!r}. Mend the path.")
    if place.is_dir():
        _read(place, found)
        return found
    with tempfile.TemporaryDirectory(prefix="inspected-") as folder:
        try:
            extract_zip(place, Path(folder) / "content")
        except ArchiveError as error:
            found.broken += error.findings
            return found
        inside = [entry for entry in (Path(folder) / "content").iterdir() if entry.name != "__MACOSX"]
        is_root = len(inside) != 1 or not inside[0].is_dir() or inside[0].name in ("configs", "scripts", "models")
        _read(Path(folder) / "content" if is_root else inside[0], found)
    return found


def _read(bundle: Path, found: Inspection) -> None:
    documents, places = {}, {}
    for file in _config_files(bundle):
        name = file.relative_to(bundle).as_posix()
        try:
            content = _content(file)
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            found.broken.append(Finding(name, f"cannot be read: {' '.join(str(error).split())}"[:300]))
            continue
        documents[name], places[name] = content, Positions([file])
        found.broken += [Finding(f"{name} {each.id}", each.problem) for each in places[name].doubles()]
        found.downloads += _downloads(content)
    if not documents:
        found.broken.append(Finding("configs", "there is no config in it", "It is no bundle."))
    found.configs = [*documents]
    code = [_line(each, places) for each in judge(documents, own_modules(bundle))]
    found.code = sorted([*code, *_logging(bundle)], key=lambda line: (line.file, line.line or 0, line.id))
    found.files = sorted(list_code_files(bundle))
    found.writes = [_line(each, places) for each in _writes(documents)]
    found.digest = run_digest(bundle)


def _config_files(bundle: Path) -> list[Path]:
    """Configs, and what their macros read."""
    found = [file for file in sorted(bundle.rglob("configs/*")) if file.suffix.lower() in CONFIG_SUFFIXES]
    found += sorted(bundle.glob("large_files.*"))
    for file in found:  # which grows
        if file.is_file() and file.stat().st_size <= MAX_CONFIG:
            named = MACRO.findall(file.read_text(encoding="utf-8", errors="replace"))
            inside = [bundle / name for name in named if ".." not in name.split("/") and not name.startswith("/")]
            found += [path for path in dict.fromkeys(inside) if path.is_file() and path not in found]
    return [file for file in found if file.suffix.lower() in CONFIG_SUFFIXES and not file.is_dir()]


def _content(file: Path) -> dict:
    """The items of a config.

    Raises:
        ValueError: it is no mapping, or larger than any config.
        OSError, RecursionError, yaml.YAMLError: it cannot be read.
    """
    if not file.is_file() or file.stat().st_size > MAX_CONFIG:
        raise ValueError(f"no file of at most {MAX_CONFIG} bytes")
    if file.suffix.lower() != ".json":
        _size(yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader), {}, ())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of keys that stand twice, which are told
        content = ConfigParser.load_config_file(str(file))
    if not isinstance(content, dict):
        raise ValueError("it holds no items")
    return {ConfigParser.meta_key: content} if file.stem.startswith(META) else tree_of(content)


def _size(node: Any, sizes: dict[int, int], above: tuple[int, ...]) -> int:
    """Number of items under a node of YAML, each use of an alias counted."""
    if node is None or isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in above:
        raise ValueError("an alias that holds itself")
    if id(node) not in sizes:
        inner = [item for pair in node.value for item in (pair if isinstance(pair, tuple) else (pair,))]
        sizes[id(node)] = 1 + sum(_size(item, sizes, (*above, id(node))) for item in inner)
    if sizes[id(node)] > MAX_ITEMS:
        raise ValueError(f"more than {MAX_ITEMS} items once its aliases are expanded")
    return sizes[id(node)]


def _downloads(content: dict) -> Iterator[str]:
    """What ``large_files`` names."""
    listed = content.get("large_files")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict):
            hashed = f"{entry.get('hash_type', 'md5')}:{entry['hash_val']}" if entry.get("hash_val") else "no hash"
            yield f"{entry.get('path')}  {entry.get('url')}  {hashed}"


def _logging(bundle: Path) -> Iterator[Line]:
    for file in sorted(bundle.rglob("*logging.conf")):
        name = file.relative_to(bundle).as_posix()
        yield from (Line(name, None, "", text) for text in (find_logging_code(file) if file.is_file() else ()))


def _writes(documents: dict[str, Any]) -> Iterator[Code]:
    for file, content in documents.items():
        for id, value in items(content):
            is_path = isinstance(value, str) and not value.startswith("@") and not id.startswith("large_files")
            if is_path and id.rpartition(ID_SEP_KEY)[2] in WRITTEN:
                yield Code(file, id, value)


def _line(code: Code, places: dict[str, Positions]) -> Line:
    return Line(code.file, places[code.file].place(code.id).line, code.id, code.text, code.own)


def printable(text: str) -> str:
    """One line that a terminal shows as it is: control, format and surrogate characters escaped, long text cut."""
    clean = "".join(char if unicodedata.category(char) not in ESCAPED else _escaped(char) for char in text[:1200])
    return clean if len(text) <= 1200 else f"{clean}… ({len(text)} characters)"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
