"""Python code in a bundle, read as syntax trees, and byte code by name."""

from __future__ import annotations

import ast
import os
import posixpath
import re
import struct
import sys
import warnings
from collections.abc import Collection, Iterator
from functools import lru_cache
from types import ModuleType

from monai_lighter.inspection.judge import judge, module_danger, name_of
from monai_lighter.inspection.policy import FILES, PACKAGES
from monai_lighter.inspection.report import Entry, Level, Verdict
from monai_lighter.inspection.resolve import STDLIB, Found, Resolver
from monai_lighter.inspection.safeguards import call_verdict, safeguard_for
from monai_lighter.inspection.source import Member
from monai_lighter.inspection.strings import SENSITIVE, urls
from monai_lighter.inspection.syntax import constant, dotted_name, imported_names

__all__ = ["bytecode_entry", "own_modules", "python_entries", "shadow_entries"]

USUAL = {
    "yaml",
    "fire",
    "pandas",
    "scipy",
    "sklearn",
    "skimage",
    "nibabel",
    "matplotlib",
    "tqdm",
    "PIL",
    "itk",
    "einops",
}
"""Packages, installed or not, that a bundle has no reason to have a module of the name of."""
FOLDERS = {
    "scripts",
    "configs",
    "models",
    "docs",
    "data",
    "src",
    "tests",
    "test",
    "tools",
    "utils",
    "examples",
    "project",
}
"""Directories of a bundle; that some package installs one of the name too, by mistake, means nothing."""
COMMON_WORDS = {
    "test",
    "code",
    "trace",
    "profile",
    "resource",
    "statistics",
    "calendar",
    "parser",
    "cmd",
    "this",
    "site",
}
MAX_SOURCE = 4 << 20
OWN_ATTRIBUTES = {"builtins.getattr", "builtins.setattr", "builtins.delattr", "builtins.vars", "builtins.locals"}
"""Usual in a class, and no sign of anything."""
TESTING = ("unittest", "doctest")
IMPORTERS = ("importlib.import_module", "monai.utils.module.optional_import")
"""Functions that, with a constant name, do what an import statement does."""
MAX_GIVEN = 3
"""Arguments by position that name no attribute of the module."""


def own_modules(names: Collection[str]) -> set[str]:
    """Names of the modules and packages at the root of a bundle."""
    found = {"project"}
    for name in names:
        first, _, rest = name.partition("/")
        if rest and name.endswith((".py", ".so", ".pyd", ".pyc")):
            found.add(first)
        elif not rest and first.endswith((".py", ".so", ".pyd", ".pyc")):
            found.add(first.split(".")[0])
    return found


def shadow_entries(modules: Collection[str], names: Collection[str]) -> Iterator[Entry]:
    """Modules of the bundle that are found in place of Python's or another package's, as the bundle comes first."""
    taken = {*STDLIB, *PACKAGES, *USUAL, *_installed()} - FOLDERS
    for module in sorted(modules):
        if module in taken:
            file = next((name for name in sorted(names) if re.match(rf"{re.escape(module)}[./]", name)), module)
            why = f"stands in the way of {module!r}: an import of that runs this file instead"
            yield Entry(Level.LOOK if module in COMMON_WORDS else Level.DANGER, "script", file, module, why)


@lru_cache(maxsize=1)
def _installed() -> frozenset[str]:
    """Names of all modules and packages that are installed, taken from the names of files alone."""
    folders = [folder for folder in sys.path if os.path.basename(folder) in ("site-packages", "dist-packages")]
    names = {file.split(".")[0] for folder in folders if os.path.isdir(folder) for file in os.listdir(folder)}
    return frozenset(name for name in names if name.isidentifier())


def python_entries(name: str, data: bytes, digest: str, resolver: Resolver) -> Iterator[Entry]:
    """A Python file: its sha256, and the dangerous objects that it names."""
    what = f"sha256 {digest}"
    if len(data) > MAX_SOURCE:
        yield Entry(Level.LOOK, "script", name, what, f"too large to be read ({len(data)} bytes)")
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data.decode("utf-8-sig"))
        if re.search(rb"coding[=:]\s*(?!utf-?8|ascii|latin-?1|us-ascii)[-\w.]+", b"\n".join(data.split(b"\n")[:2])):
            raise ValueError("another encoding than UTF-8")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        yield Entry(Level.LOOK, "script", name, what, f"cannot be read as Python: {error}")
        return
    dangers = sorted({(v, line) for v, line in _dangers(tree, resolver)}, key=lambda item: item[1])
    yield Entry(Level.LOOK, "script", name, what, "code of the bundle: read it")
    for verdict, line in dangers:
        yield Entry(verdict.level, "script", name, verdict.why.split(":")[0], verdict.why, f"line {line}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for url in urls(node.value):
                yield Entry(Level.LOOK, "url", name, url, "", f"line {node.lineno}")


def _dangers(tree: ast.AST, resolver: Resolver) -> Iterator[tuple[Verdict, int]]:
    names = imported_names(tree)
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and _is_sensitive(node.value):
            yield Verdict(Level.DANGER, f"{node.value!s}: a place that holds secrets or starts things"), node.lineno
        if not isinstance(node, (ast.Name, ast.Attribute)) or id(node) in inner:
            continue
        base, attributes = dotted_name(node)
        if not isinstance(base, ast.Name):
            continue
        dotted = ".".join([names.get(base.id, f"builtins.{base.id}"), *attributes])
        if dotted.startswith(".") or dotted in OWN_ATTRIBUTES:
            continue
        found = resolver.dotted(dotted)
        verdict = _used(found, calls.get(id(node)), resolver)
        if verdict.level:
            yield Verdict(verdict.level, f"{name_of(found)}: {verdict.why}"), node.lineno


def _used(found: Found, call: ast.Call | None, resolver: Resolver) -> Verdict:
    """The verdict on an object that code names; what is only to be looked at is none, as the code itself is."""
    name, verdict = name_of(found), judge(found)
    if verdict.level < Level.DANGER or name.split(".")[0] in TESTING:
        return Verdict(Level.OK)
    if isinstance(found.object, ModuleType) and not module_danger(name):
        return Verdict(Level.OK)
    if verdict.why.startswith(FILES):
        return Verdict(Level.LOOK, verdict.why)
    imported = _imported(call) if call is not None and name in IMPORTERS else ""
    if imported:
        return _used(resolver.dotted(imported), None, resolver)
    guard = safeguard_for(found.object)
    return (guard and call and call_verdict(guard, call)) or verdict


def _imported(call: ast.Call) -> str:
    """Dotted name of what a call of one of `IMPORTERS` imports; empty where that is computed."""
    given = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg in ("name", None))]
    names = [name for name in map(constant, given) if isinstance(name, str)]
    return ".".join(names) if call.args and len(names) == len(given) and len(call.args) <= MAX_GIVEN else ""


def _is_sensitive(text: object) -> bool:
    short = isinstance(text, str) and len(text) < 300 and "\n" not in text
    return short and "/" in str(text) and bool(SENSITIVE.search(str(text)))


def bytecode_entry(member: Member, head: bytes, digest: str, members: Collection[str]) -> Entry:
    """Byte code that Python would run in place of the source beside it, which nobody reads."""
    folder, file = posixpath.split(member.name)
    source = posixpath.join(posixpath.dirname(folder), file.split(".")[0] + ".py")
    what = f"sha256 {digest}"
    if posixpath.basename(folder) != "__pycache__" or source not in members:
        return Entry(Level.DANGER, "script", member.name, what, "byte code without its source: cannot be read")
    flags = struct.unpack("<I", head[4:8])[0] if len(head) >= 8 else 1
    if flags or member.path is None:
        return Entry(Level.DANGER, "script", member.name, what, "byte code that runs in place of the source beside it")
    return Entry(Level.LOOK, "script", member.name, what, "byte code: remove it before you run a stranger's bundle")
