"""Overrides and macros, and everything that is wrong in them."""

from __future__ import annotations

import inspect
import logging
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import monai.bundle
import yaml
from monai.bundle import ConfigParser
from monai.bundle.utils import ID_REF_KEY, ID_SEP_KEY, MACRO_KEY

from monai_lighter.config.files import find_macro_file
from monai_lighter.config.items import at, items, locate, mentions, normalize
from monai_lighter.config.native import is_native
from monai_lighter.errors import Finding, did_you_mean, is_command

__all__ = [
    "LITERALS",
    "Overridden",
    "apply_overrides",
    "expand_macros",
    "find_lost",
    "find_unused_overrides",
    "open_macros",
    "recover_lost",
]

logger = logging.getLogger(__name__)

LITERALS = {"null": None, "~": None, "true": True, "false": False}
CREATED = ("args", "lightning", "system", "trainer")
"""Sections that an override may begin."""
MAX_LEVELS, MAX_MACROS = 20, 10_000
"""How often a macro may bring in macros, and how many may be left to be expanded."""
OPTIONS = (
    "args_file",
    "config_file",
    "init_id",
    "logging_file",
    "meta_file",
    "run_id",
    "tracking",
    "trust",
    "workflow_type",
)
"""Options of the command that an override may be a slip of."""
MOST_OF_HINT = 200


def find_lost(arguments: Sequence[str], overrides: Collection[str]) -> list[str]:
    """Ids that a command line sets to None: ``monai.bundle`` drops them, and the config's own value would stay.

    Args:
        arguments: of the command line: ``--id None`` or ``--id=None``.
        overrides: ids that did arrive, and names that are no ids.
    """
    pairs = [(one, *after.split()[:1]) for one, after in zip(arguments, [*arguments[1:], ""], strict=True)]
    found = [one[2:] for one, *after in pairs if one.startswith("--") and after == ["None"]]
    found += [one[2 : -len("=None")] for one in arguments if one.startswith("--") and one.endswith("=None")]
    return [id for id in found if id not in overrides]


def recover_lost(override: dict[str, Any], native: bool) -> dict[str, None]:
    """Overrides that the command line sets to None, which ``monai.bundle`` leaves out.

    Args:
        override: those that did arrive.
        native: whether the config is one; of a config of engines those that are lost are named in the log and not returned.
    """
    own = inspect.signature(monai.bundle.run).parameters
    lost = find_lost(sys.argv[1:], {*own, *override}) if is_command() else []
    for id in () if native else lost:
        logger.warning(f"{id}: monai.bundle leaves out an override that is None, so the config's own value stays.")
    return dict.fromkeys(lost) if native else {}


class Overridden(NamedTuple):
    """What overrides did to a config.

    Attributes:
        ids: of the items that were to be set, as they were given.
        added: those of them that the config did not have.
        findings: one for each id whose parent does not exist; it was not set.
    """

    ids: list[str]
    added: list[str]
    findings: list[Finding]


def apply_overrides(parser: ConfigParser, overrides: Mapping[str, Any], bundle: Path) -> Overridden:
    """Sets config items by id, in order, as ``ConfigParser.update`` does.

    A command line makes texts of what YAML has for nothing, true and false: in a native config they are these. There, an id may
    lead into what a macro brings in (``network_def::channels`` where ``network_def`` is a macro), which is then expanded.

    Args:
        parser: with the config files read.
        overrides: id to value.
        bundle: absolute path of the bundle, for the files of macros.
    """
    native = is_native(parser.get())
    if native:
        overrides = {
            id: LITERALS.get(value, value) if isinstance(value, str) else value for id, value in overrides.items()
        }
    added = [id for id in overrides if id not in parser]
    findings: list[Finding] = []
    for given, value in overrides.items():
        id = normalize(given)
        if native:
            open_macros(parser, id, bundle)
        misplaced = list(_misplaced(parser, id))
        findings += misplaced
        if not misplaced:
            parser.set(value, id)
    return Overridden(list(overrides), added, findings)


def _misplaced(parser: ConfigParser, id: str) -> Iterator[Finding]:
    parent, _, key = id.rpartition(ID_SEP_KEY)
    first = id.split(ID_SEP_KEY, maxsplit=1)[0]
    if not parent or (first in CREATED and first not in parser):
        return
    if parent not in parser and first in CREATED and _creatable(parser, parent):
        return
    node = parser.get(parent)
    if isinstance(node, dict) or (isinstance(node, list) and key in map(str, range(-len(node), len(node)))):
        return
    if isinstance(node, list):
        yield Finding(id, f"override of item {key} of a list of {len(node)}", f"Use an index below {len(node)}.")
    elif parent in parser:
        yield Finding(
            id, f"override inside {parent!r}, which is no section but {node!r}", f"Override {parent!r} itself."
        )
    else:
        sections = [known for known, value in items(parser.get()) if known and isinstance(value, (dict, list))]
        yield Finding(id, f"override whose parent {parent!r} does not exist", did_you_mean(parent, sections)[:200])


def _creatable(parser: ConfigParser, id: str) -> bool:
    """Whether everything on the way to an id that exists is a dict, in ``args`` and ``lightning`` alone."""
    if id.split(ID_SEP_KEY, maxsplit=1)[0] not in ("args", "lightning"):
        return False
    parts = id.split(ID_SEP_KEY)
    known = [parser.get(ID_SEP_KEY.join(parts[:n])) for n in range(1, len(parts) + 1)]
    return all(node is None or isinstance(node, dict) for node in known)


def find_unused_overrides(configs: Sequence[dict], added: Iterable[str], known: Collection[str]) -> Iterator[Finding]:
    """Overrides that added an item to which nothing refers: on its own, or in a section that is no component.

    Args:
        configs: the config before and after its macros are expanded.
        added: ids of the items that overrides added.
        known: items that are used with nothing in the config referring to them.
    """
    texts = [value for _, value in items(list(configs)) if isinstance(value, str)]
    for given in added:
        id = normalize(given)
        sections = [id.rsplit(ID_SEP_KEY, n)[0] for n in range(1, id.count(ID_SEP_KEY) + 1)]
        used = id in known or any(mentions(text, id) for text in texts)
        if not used and not any(_uses_whole(section, configs[-1], known, texts) for section in sections):
            yield Finding(id, f"override adds {id!r}, which nothing in the config refers to", _meant(id, configs[-1]))


def _uses_whole(section: str, config: dict, known: Collection[str], texts: Iterable[str]) -> bool:
    """Whether what stands in a section is used with it: by the component that it is, or by what refers to the whole of it."""
    value = at(config, section) if locate(config, section) == section else None
    if not isinstance(value, dict) or "_target_" in value or section in known:
        return True
    whole = re.compile(rf"[{ID_REF_KEY}{MACRO_KEY}]{re.escape(section)}(?!\w|{ID_SEP_KEY})")
    return any(whole.search(normalize(text)) for text in texts)


def _meant(id: str, config: dict) -> str:
    """What an override may have been meant to set: the ``::`` form of a dotted id, an item of that name, or one nearly so."""
    ids = [known for known, _ in items(config) if known not in ("", id, ConfigParser.meta_key)]
    dotted = id.replace(".", ID_SEP_KEY)
    if dotted != id and dotted.rpartition(ID_SEP_KEY)[0] in ids:
        return f"Did you mean {dotted!r}? Ids have {ID_SEP_KEY} between their parts."
    inner = [known for known in ids if known.endswith(f"{ID_SEP_KEY}{id}")]
    if inner:
        return did_you_mean(inner[0], inner[:1])
    parent = id.rpartition(ID_SEP_KEY)[0]
    siblings = [known for known in ids if known.rpartition(ID_SEP_KEY)[0] == parent]
    return did_you_mean(id, siblings if parent else [*siblings, *OPTIONS])[:MOST_OF_HINT]


def expand_macros(
    parser: ConfigParser, bundle: Path | None = None, allow: Callable[[Any], None] = lambda config: None
) -> list[Finding]:
    """Expands ``%`` macros and relative ids in place, as ``ConfigParser.resolve_macro_and_relative_ids``, and those that a macro
    brings in, which MONAI does when it parses the config.

    Args:
        parser: holds the config.
        bundle: absolute path of the bundle, in which a macro's file is looked for before the working directory
            (`find_macro_file`); None: as MONAI, in the working directory alone.
        allow: called with the config each time before macros of it are expanded, and may raise.

    Returns:
        A finding for each macro that names no file or no item, or leads to itself, and each relative id that leads out of the
        config. Such an item becomes None, so that the rest can be looked at.
    """
    found: list[Finding] = []
    left: list[str] = []
    for _ in range(MAX_LEVELS):
        allow(parser.get())
        bad, brought = _expand_files(parser, bundle)
        found += bad
        if not brought:  # else there may be macros in what was brought in
            parser.resolve_macro_and_relative_ids()
        left = [id for id, value in items(parser.get()) if isinstance(value, str) and value.startswith(MACRO_KEY)]
        if (not left and not brought) or len(left) > MAX_MACROS:
            break
    for id in left:
        parser.set(None, id)
        found.append(Finding(id, "its macro leads to ever more of them", "Mend the macro."))
    return found


def _expand_files(parser: ConfigParser, bundle: Path | None) -> tuple[list[Finding], bool]:
    """Makes None of bad macros, which are found, and brings in those that name a file of a bundle, if there are any."""
    found, brought = [], False
    for id, text in [(id, value) for id, value in items(parser.get()) if isinstance(value, str)]:
        bad = [*_bad_macro(parser, id, text, bundle)]
        if bad:
            parser.set(None, id)
        elif bundle is not None and _file_of(id, text):
            _bring_in(parser, id, text, bundle)
            brought = True
        found += bad
    return found, brought


def _file_of(id: str, text: str) -> str:
    """The file of a macro; empty for a macro without one, and for what is none."""
    absolute = ConfigParser.resolve_relative_ids(id, text)
    return ConfigParser.split_path_id(absolute[len(MACRO_KEY) :])[0] if absolute.startswith(MACRO_KEY) else ""


def _bring_in(parser: ConfigParser, id: str, text: str, bundle: Path) -> None:
    """Puts what a sound macro with a file stands for in its place."""
    path, target = ConfigParser.split_path_id(normalize(text)[len(MACRO_KEY) :])
    parser.set(deepcopy(ConfigParser(_read_file(find_macro_file(path, bundle)))[target]), id)


def _read_file(file: Path) -> dict[str, Any]:
    """The config in a file, which is not to be changed: read once for all macros that name it."""
    status = file.stat()
    return _load(file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _load(file: Path, changed: int, size: int) -> dict[str, Any]:
    return ConfigParser.load_config_file(file)


def open_macros(parser: ConfigParser, id: str, bundle: Path) -> None:
    """Expands the macros on the way to an id, and no others; what is wrong with one is said by `expand_macros`."""
    parts = id.split(ID_SEP_KEY)
    for n in range(1, len(parts)):
        outer = ID_SEP_KEY.join(parts[:n])
        text = parser.get(outer)
        if not isinstance(text, str) or not text.startswith(MACRO_KEY) or [*_bad_macro(parser, outer, text, bundle)]:
            continue
        if _file_of(outer, text):
            _bring_in(parser, outer, text, bundle)
        else:
            parser.set(deepcopy(parser[ConfigParser.resolve_relative_ids(outer, text)[len(MACRO_KEY) :]]), outer)


def _bad_macro(parser: ConfigParser, id: str, text: str, bundle: Path | None) -> Iterator[Finding]:
    try:
        absolute = ConfigParser.resolve_relative_ids(id, text)
    except ValueError:
        yield Finding(id, f"relative ID leads out of the config, in {text[:120]!r}", "Remove a separator.")
        return
    if not absolute.startswith(MACRO_KEY):
        return
    path, target = ConfigParser.split_path_id(absolute[len(MACRO_KEY) :])
    if not path and f"{id}{ID_SEP_KEY}".startswith(f"{normalize(target)}{ID_SEP_KEY}"):
        yield Finding(id, f"macro {text!r} leads to itself", "Mend the macro.")
        return
    file = find_macro_file(path, bundle)
    if path and not file.is_file():
        where = f" in {bundle} or the working directory" if bundle else ""
        yield Finding(id, f"macro {text!r} names a file that does not exist{where}", "Mend the path.")
        return
    try:
        source = ConfigParser(_read_file(file)) if path else parser
    except (yaml.YAMLError, ValueError) as error:
        yield Finding(id, f"macro {text!r} names a file that cannot be read: {error}", "Mend the file.")
        return
    if target and target not in source:
        ids = [known for known, _ in items(source.get()) if known]
        yield Finding(id, f"macro {text!r} names an item that does not exist", did_you_mean(target, ids)[:200])
