"""What is said of the globals of a pickle."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import ModuleType
from typing import BinaryIO

from monai_lighter.inspection.judge import home_of, judge, name_of
from monai_lighter.inspection.pickles import PickleScan, named_globals, scan_pickles
from monai_lighter.inspection.policy import LOCATED
from monai_lighter.inspection.report import Entry, Level, Verdict
from monai_lighter.inspection.resolve import STDLIB, Resolver, parameters

__all__ = ["hidden_entries", "pickle_entries", "unread_entry"]

REBUILT = re.compile(
    r"torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_from_type_v2|torch(\.storage)?\.\w*Storage|torch\.serialization\."
    r"_get_layout|torch\.jit\._pickle\.\w+|__torch__\..*|"
    r"numpy\.(_core|core)\.multiarray\.(_reconstruct|scalar|_frombuffer)|numpy\.(_core|core)\.numeric\._frombuffer|"
    r"numpy\.dtypes\.\w+|numpy\.dtype|copyreg\._reconstructor|argparse\.Namespace|_codecs\.encode|decimal\.Decimal|"
    r"builtins\.(object|bool|int|float|complex|str|bytes|bytearray|list|tuple|dict|set|frozenset|slice|range)|"
    r"collections\.(OrderedDict|defaultdict|Counter|deque)|datetime\.(date|time|datetime|timedelta|timezone)|"
    r"fractions\.Fraction|uuid\.UUID|pathlib\.(Pure)?(Posix|Windows)?Path|"
    r"lightning\.fabric\.utilities\.data\.AttributeDict|lightning\.pytorch\.utilities\.parsing\.AttributeDict|"
    r"monai\.data\.meta_tensor\.MetaTensor|monai\.utils\.enums\.\w+|torch\.nn\.parameter\.(Buffer|Parameter)"
)
"""What weights are made of, under the names of the places where it is defined."""
NAME = re.compile(r"\?|[^\W\d]\w*(\.[\w<>]+)+")

NUMBERED = "copyreg.extension_"
"""Globals by a number, which most bytes are: alone, they make no pickle of data."""


def unread_entry(name: str, what: str, why: str) -> Entry:
    """Something that a loader may run, and that is not read to its end."""
    return Entry(Level.DANGER, "pickle", name, what, f"cannot be read whole ({why}), so nothing is known of it")


def pickle_entries(
    name: str, stream: BinaryIO, resolver: Resolver, expected: bool, is_cut: bool = False
) -> Iterator[Entry]:
    """Of a stream of pickles.

    Args:
        name: of the file.
        stream: seekable, read from where it is.
        resolver: of the bundle.
        expected: whether the file should be a pickle; one that only looks like one for a few bytes is else none.
        is_cut: whether the file goes on behind the end of the stream.
    """
    scan = scan_pickles(stream)
    if is_cut and scan.at_end and scan.globals:
        scan = scan._replace(unread=True)
    if not expected and not scan.unread:
        names = [entry.name for entry in scan.globals if NAME.fullmatch(entry.name)]
        levels = [_verdict(name, resolver).level for name in names if scan.complete or not name.startswith(NUMBERED)]
        if not levels or not (scan.complete or Level.DANGER in levels):
            return
    yield from _scanned(name, scan, resolver)


def hidden_entries(name: str, stream: BinaryIO, resolver: Resolver) -> Iterator[Entry]:
    """Dangerous globals in the rest of a stream in which pickles stand between other data."""
    seen: set[str] = set()
    for entry in named_globals(stream):
        if entry.name not in seen and (verdict := _verdict(entry.name, resolver)).level is Level.DANGER:
            yield Entry(verdict.level, "pickle", name, entry.name, verdict.why, f"byte {entry.position}")
        seen.add(entry.name)


def _scanned(name: str, scan: PickleScan, resolver: Resolver) -> Iterator[Entry]:
    fine: list[str] = []
    seen: set[str] = set()
    for entry in scan.globals:
        if entry.name in seen:
            continue
        seen.add(entry.name)
        verdict = _verdict(entry.name, resolver)
        if verdict.level is Level.OK:
            fine.append(entry.name)
        else:
            yield Entry(verdict.level, "pickle", name, entry.name, verdict.why, f"byte {entry.position}")
    if fine or scan.complete:
        yield Entry(Level.OK, "pickle", name, f"{len(fine)} harmless globals", ", ".join(fine))
    if scan.unread:
        yield unread_entry(name, "broken", scan.error)
    elif scan.error:
        level = Level.DANGER if scan.globals else Level.LOOK
        why = f"no whole pickle ({scan.error}): what stands before that would still be run"
        yield Entry(level, "pickle", name, "broken", why)


def _verdict(name: str, resolver: Resolver) -> Verdict:
    if name == "?":
        return Verdict(Level.DANGER, "a global whose name is put together when it is loaded")
    if REBUILT.fullmatch(name) and not name.startswith("torch._utils._rebuild_from"):
        return Verdict(Level.OK)
    found = resolver.dotted(name)
    verdict = judge(found, as_target=True)
    if verdict.level is Level.DANGER or REBUILT.fullmatch(name_of(found)):
        return verdict if verdict.level is Level.DANGER else Verdict(Level.OK)
    if isinstance(found.object, ModuleType):
        return Verdict(Level.DANGER, "a module: what is reached through it is not seen")
    if not LOCATED.isdisjoint(parameters(found.object)):
        return Verdict(Level.DANGER, "looks a text up by its name, and calls it")
    root = (home_of(found.object) if found.kind == "object" else found.name).split(".")[0]
    if root in STDLIB:
        return Verdict(Level.DANGER, "of the standard library, and no part of any weights")
    return verdict
