"""What the configs of a bundle would build, evaluate, import, read and write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from monai_lighter.config.lighter import translated
from monai_lighter.inspection.documents import Pairs
from monai_lighter.inspection.ids import iter_items, macro_parts
from monai_lighter.inspection.judge import judge, name_of
from monai_lighter.inspection.policy import LOCATED
from monai_lighter.inspection.report import Entry, Level, Verdict
from monai_lighter.inspection.safeguards import guarded, safeguard_for, unpickles
from monai_lighter.inspection.scope import BundleScope, TooMuchError
from monai_lighter.inspection.strings import is_written, leaves_bundle, path_verdict, urls

__all__ = ["config_entries"]

TARGET = "_target_"
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def config_entries(scope: BundleScope) -> Iterator[Entry]:
    """All entries of all configs of a bundle."""
    try:
        for file, content in scope.documents.items():
            for id, key, value in iter_items(content):
                yield from _item(scope, file, id, key, value)
            yield from _large_files(file, content)
    except TooMuchError:
        why = "more expressions, or more values of references, than are read: nothing is known of what is not listed"
        yield Entry(Level.DANGER, "config", "", "bomb", why)


def _item(scope: BundleScope, file: str, id: str, key: str, value: Any) -> Iterator[Entry]:
    if unpickles(key, value):
        yield Entry(Level.DANGER, "target", file, f"{key}: {_short(value)}", "loads pickles, which run code", id)
    if isinstance(value, Pairs):
        yield from _component(scope, file, id, value)
    elif isinstance(value, str):
        yield from _text(scope, file, id, key, value)
        if id == "project":
            yield _project(file, value)


def _component(scope: BundleScope, file: str, id: str, config: Pairs) -> Iterator[Entry]:
    """What is odd about a mapping that builds something, beside its target."""
    keys = [key.split("::")[-1].split("#")[-1] for key in config.names()]
    if TARGET not in keys:
        return
    for key, value in config:
        place = f"{id}::{key}" if id else key
        debugs = key == "_mode_" and value not in ("default", "callable")
        if debugs or (key == "_debug_" and value not in (None, False)):
            why = "starts the debugger, which runs .pdbrc"
            yield Entry(Level.DANGER, "target", file, f"{key}: {value}", why, place)
        elif key == "_requires_":
            yield Entry(
                Level.OK, "target", file, f"{key}: {_short(value)}", "evaluated before the target is called", place
            )
        elif key in LOCATED:
            for verdict in dict.fromkeys(scope.looked_up(value, place)):
                yield Entry(verdict.level, "target", file, f"{key}: {_short(value)}", verdict.why, place)


def _short(value: Any) -> str:
    return f"{len(value)} items" if isinstance(value, list) else str(value)


def _text(scope: BundleScope, file: str, id: str, key: str, text: str) -> Iterator[Entry]:
    """All that a text in a config says."""
    module = scope.modules.given_to_component(id)
    if module:
        why = f"module {module} is handed on: what is reached through it is not seen"
        yield Entry(Level.DANGER, "target", file, text, why, id)
    if key == TARGET:
        yield from _target(scope, file, id, text)
    if text.startswith("$"):
        yield from _expression(scope, file, id, key, text)
        return
    if text.startswith("%"):
        yield from _macro(scope, file, id, text)
    elif key != TARGET:
        yield from _named(scope, file, id, text)
    yield from _places(scope, file, id, key, text)


def _named(scope: BundleScope, file: str, id: str, text: str) -> Iterator[Entry]:
    """A text that is the name of something dangerous, wherever it stands."""
    found = scope.resolver.dotted(text) if DOTTED.fullmatch(text) else None
    if found is not None and found.kind == "object" and callable(found.object):
        verdict = judge(found, as_target=True)
        if verdict.level is Level.DANGER:
            yield Entry(Level.DANGER, "target", file, text, f"text that names {name_of(found)}: {verdict.why}", id)


def _target(scope: BundleScope, file: str, id: str, text: str) -> Iterator[Entry]:
    values = list(scope.values(text, id))
    if not values:
        yield Entry(Level.LOOK, "target", file, text, "leads to nothing in this bundle", id)
    for value in values:
        if not isinstance(value, str):
            yield Entry(Level.LOOK, "target", file, text, "calls what another item gives", id)
            continue
        if value.startswith("$"):
            yield from _computed_target(scope, file, id, text, value)
            continue
        name = translated({TARGET: value})[TARGET]
        for found in scope.resolver.target(name):
            verdict = _with_arguments(scope, id, found.object, judge(found, as_target=True))
            yield Entry(verdict.level, "target", file, text, f"{name_of(found)}: {verdict.why}" + _state(scope, id), id)


def _computed_target(scope: BundleScope, file: str, id: str, text: str, expression: str) -> Iterator[Entry]:
    read = scope.read(expression, id, 0)
    for name in read.names:
        found = scope.resolver.dotted(name)
        verdict = judge(found, as_target=True)
        yield Entry(verdict.level, "target", file, text, f"{name_of(found)}: {verdict.why}" + _state(scope, id), id)
    if read.names:
        return
    plain = read.group == "plain" and read.references and not read.texts
    level = Level.LOOK if plain else Level.DANGER
    why = "calls what another item gives" if plain else "the target is computed when the config runs"
    yield Entry(level, "target", file, text, why + _state(scope, id), id)


def _state(scope: BundleScope, id: str) -> str:
    disabled = any(parent.last("_disabled_") not in (None, False) for parent in scope.parents(id))
    return " (disabled, as the config stands)" if disabled else ""


def _with_arguments(scope: BundleScope, id: str, value: Any, verdict: Verdict) -> Verdict:
    """The verdict on a function that one argument makes safe, with the arguments it has."""
    guard, parents = safeguard_for(value), scope.parents(id)
    if value is open and any(set(str(parent.last("mode") or "r")) - set("rbt") for parent in parents):
        return Verdict(Level.DANGER, "writes a file")
    if guard is None or not parents:
        return verdict
    return max((guarded(guard, dict(parent)) or verdict for parent in parents), key=lambda each: each.level)


def _expression(scope: BundleScope, file: str, id: str, key: str, text: str) -> Iterator[Entry]:
    read = scope.read(text, id, 0)
    level = max((verdict.level for verdict in read.verdicts), default=Level.OK)
    why = "; ".join(verdict.why for verdict in read.verdicts) or ", ".join(read.names)
    kind = "import" if read.is_import else "expression"
    yield Entry(level, kind, file, text, why, id, read.group)
    for part, argument in read.texts:
        yield from _named(scope, file, id, part)
        written = argument if is_written(argument) else key
        yield from _places(scope, file, id, written, part, part in read.joined)


def _macro(scope: BundleScope, file: str, id: str, text: str) -> Iterator[Entry]:
    path, wanted = macro_parts(text, id)
    if not path:
        there = bool(scope.items.get(wanted))
        yield Entry(Level.OK if there else Level.LOOK, "macro", file, text, "" if there else "leads to nothing", id)
    elif leaves_bundle(path):
        why = "takes a config from outside of the bundle, which is not seen here"
        yield Entry(Level.DANGER, "macro", file, text, why, id)
    elif scope.own_file(path):
        yield Entry(Level.OK, "macro", file, text, f"reads {scope.own_file(path)}", id)
    else:
        yield Entry(Level.LOOK, "macro", file, text, f"reads {path}, which the bundle does not hold", id)


def _places(scope: BundleScope, file: str, id: str, key: str, text: str, joined: bool = False) -> Iterator[Entry]:
    """URLs and paths in a text, which may be the end of a longer one."""
    described = file in scope.described
    for url in urls(text):
        yield Entry(Level.OK if described else Level.LOOK, "url", file, url, "" if described else "network", id)
    if described:
        return
    for value in scope.values(text, id) if not joined else [text]:
        usable = isinstance(value, str) and not value.startswith("$")
        verdict = path_verdict(value, is_written(key), joined) if usable else None
        if verdict is not None:
            yield Entry(verdict.level, "path", file, value, verdict.why, id)


def _project(file: str, project: str) -> Entry:
    outside = leaves_bundle(project) or project.startswith(("$", "@", "%"))
    why = "imports a directory outside of the bundle" if outside else "imports a directory of the bundle, which runs it"
    return Entry(Level.DANGER if outside else Level.LOOK, "import", file, project, why, "project")


def _large_files(file: str, content: Any) -> Iterator[Entry]:
    """Entries of ``large_files``, which ``monai.bundle.download_large_files`` writes to ``path``."""
    listed = content.last("large_files") if isinstance(content, Pairs) else None
    for i, entry in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(entry, Pairs):
            continue
        path, hashed, id = str(entry.last("path")), entry.last("hash_val"), f"large_files::{i}"
        if leaves_bundle(path):
            yield Entry(Level.DANGER, "path", file, path, "a download is written outside of the bundle", id)
        why = f"downloaded to {path}" + (
            f", {entry.last('hash_type') or 'hash'} {hashed}" if hashed else ", with no hash"
        )
        yield Entry(Level.LOOK, "url", file, str(entry.last("url")), why, id)
