"""Config files merged as Lighter 0.0.5 and 0.1.0 merge them: sections into sections, lists after lists, ``=key`` and ``~key``.

What these do follows ``sparkwheel.operators`` and ``sparkwheel.preprocessor``, the config package of Lighter since 0.0.5. MONAI
replaces a top-level item of one file by that of the next, and adds with ``+key``.
"""

from __future__ import annotations

import builtins
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY, MACRO_KEY, MERGE_KEY, merge_kv
from monai.utils import ensure_tuple

from monai_lighter.config.files import bundle_folder
from monai_lighter.config.items import at, copied, items
from monai_lighter.config.lighter import names_lighter
from monai_lighter.config.native import has_model_section, is_native
from monai_lighter.config.overrides import open_macros
from monai_lighter.errors import ConfigError, Finding, did_you_mean

__all__ = ["REMOVE", "Composed", "read_composed", "split_operator"]

REPLACE, REMOVE = "=", "~"
OPERATOR = re.compile(rf"[{REPLACE}{REMOVE}][A-Za-z_]\w*({ID_SEP_KEY}\w+)*")
HASHED = re.compile(r"[@%][\w:]*#")
"""An id as MONAI alone writes it, and so Lighter 0.0.4."""
MAX_MACROS = 500
"""Of other files, in all."""


class Composed(NamedTuple):
    """What config files come to.

    Attributes:
        content: the items, where macros (``%file.yaml::item``) of other files have been expanded, and no others.
        read: paths of these other files.
        of_lighter: whether the rules were Lighter's.
    """

    content: dict[str, Any]
    read: list[str]
    of_lighter: bool = True


def read_composed(files: Any) -> Composed | None:
    """Config files that MONAI would not merge, or not in this way; None for those that it does.

    Lighter's rules are those of files that use its operators, that have a ``model`` section together (`has_model_section`), or
    of which there are several and one names something of ``lighter``. Where ids are written with ``#``, or a key with ``+``, the
    rules are MONAI's, which Lighter 0.0.4 had. A native config whose later files lead into what a macro brings in
    (``preprocessing: "%configs/common.yaml::preprocessing"`` and then ``+preprocessing``) has that macro expanded first.

    Args:
        files: a path or several, in order.

    Raises:
        ConfigError: an operator that has nothing to remove, or is given something else than what it removes; macros of files
            that lead to themselves.
    """
    try:
        contents = [ConfigParser.load_config_file(file) for file in ensure_tuple(files or ())]
    except (OSError, ValueError, yaml.YAMLError, RecursionError, json.JSONDecodeError):
        return None  # which MONAI says when it reads them
    if not contents or not all(isinstance(content, dict) for content in contents):
        return None
    operates = any(_operates(content) for content in contents)
    names = len(contents) > 1 and any(names_lighter(content) for content in contents)
    if any(_is_of_monai(content) for content in contents):
        return _merge_through_macros(files, contents)
    known = {str(key).split(ID_SEP_KEY)[0].lstrip(REPLACE) for content in contents for key in content}
    composed = _compose(contents) if operates or names or {"model", "trainer"} <= known else None
    if composed is not None and (operates or names or has_model_section(composed.content)):
        return composed
    return _merge_through_macros(files, contents)


def _merge_through_macros(files: Any, contents: Sequence[dict]) -> Composed | None:
    """A native config merged by MONAI's rules, with macros that later files lead into expanded; None where there are none."""
    parser, bundle, opened = ConfigParser({}), bundle_folder(files), False
    for key, value in ((str(key), value) for content in contents for key, value in content.items()):
        into = f"{key[1:]}{ID_SEP_KEY}" if key.startswith(MERGE_KEY) else key
        before = copied(parser.get())
        open_macros(parser, into, bundle)
        opened = opened or before != parser.get()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what there is to say MONAI says when it reads them
                merge_kv(parser, key, copied(value))
        except (IndexError, KeyError, TypeError, ValueError):
            return None  # which is told as MONAI's own
    return Composed(parser.get(), [], of_lighter=False) if opened and is_native(parser.get()) else None


def _operates(content: dict) -> bool:
    return any(OPERATOR.fullmatch(str(key)) for _, value in items(content) if isinstance(value, dict) for key in value)


def _is_of_monai(content: dict) -> bool:
    keys = [str(key) for key in content]
    texts = (value for _, value in items(content) if isinstance(value, str))
    return any(key.startswith(MERGE_KEY) or "#" in key for key in keys) or any(map(HASHED.search, texts))


def split_operator(key: str) -> tuple[str, str]:
    """The operator that a key begins with, or nothing, and the id that it stands before."""
    return (key[0], key[1:]) if key[:1] in (REPLACE, REMOVE) and len(key) > 1 else ("", key)


def _compose(contents: Sequence[dict]) -> Composed:
    result: dict[str, Any] = {}
    macros = _Files()
    for content in contents:
        for key, value in content.items():
            operator, id = split_operator(str(key))
            *parents, name = id.split(ID_SEP_KEY)
            section = result
            for parent in parents:
                if not isinstance(section.get(parent), dict):
                    section[parent] = {}
                section = section[parent]
            _merge(section, operator + name, value, parents)
        result = macros.expand(result)
    return Composed(result, [*macros.contents])


def _merge(section: dict, key: Any, value: Any, trail: Sequence[str]) -> None:
    """In place: one item of a file into the section that it is of."""
    operator, name = split_operator(key) if isinstance(key, str) else ("", key)
    path = [*trail, str(name)]
    if operator == REMOVE:
        _remove(section, name, value, ID_SEP_KEY.join(path))
        return
    present = None if operator == REPLACE else section.get(name)
    if isinstance(value, dict):
        section[name] = present = copied(present) if isinstance(present, dict) else {}
        for inner, item in value.items():
            _merge(present, inner, item, path)
    elif isinstance(value, list) and isinstance(present, list):
        section[name] = [*present, *copied(value)]
    else:
        section[name] = copied(value)


def _remove(section: dict, name: str, what: Any, id: str) -> None:
    """In place: an item, or those of its own items whose names or indices are given."""
    if name not in section:
        raise ConfigError([Finding(id, f"`{REMOVE}` removes it, and it is not there", did_you_mean(name, section))])
    if what is None or what == "":
        del section[name]
        return
    given = section[name]
    known = range(-len(given), len(given)) if isinstance(given, list) else given
    if not isinstance(what, list) or not what or not isinstance(given, (dict, list)):
        problem = f"`{REMOVE}` removes it, and is given {what!r:.80}"
        raise ConfigError([Finding(id, problem, "Give nothing, or a list of the names or indices of items in it.")])
    lost = [each for each in what if each not in known or isinstance(each, bool)]
    if lost:
        problem = f"`{REMOVE}` removes {', '.join(map(repr, lost))} of it, which is not there"
        raise ConfigError([Finding(id, problem, did_you_mean(str(lost[0]), known))])
    if isinstance(given, list):
        gone = {each % len(given) for each in what}
        section[name] = [item for i, item in enumerate(given) if i not in gone]
    else:
        section[name] = {key: item for key, item in given.items() if key not in what}


class _Files:
    """Expands macros of other files, and in what these bring in theirs of themselves as well.

    One that leads nowhere is left, for the check to say so.

    Raises:
        ConfigError: macros that lead to themselves.
    """

    def __init__(self) -> None:
        self.contents: dict[str, Any] = {}
        self.count = 0

    def expand(self, value: Any, id: str = "", own: Any = None, trail: tuple[tuple[int, str], ...] = ()) -> Any:
        """A copy of a value with its macros expanded.

        Args:
            value: of a config.
            id: of the value.
            own: content of the file that the value is of, where that is one that a macro reads.
            trail: the macros on the way to it: the file's content, and the id in it.
        """
        if isinstance(value, dict):
            pairs = [(key, f"{id}{ID_SEP_KEY}{key}" if id else str(key), item) for key, item in value.items()]
            return {key: self.expand(item, sub_id, own, trail) for key, sub_id, item in pairs}
        if isinstance(value, list):
            return [self.expand(item, f"{id}{ID_SEP_KEY}{i}", own, trail) for i, item in enumerate(value)]
        if not isinstance(value, str) or not value.startswith(MACRO_KEY):
            return value
        try:
            absolute = ConfigParser.resolve_relative_ids(id, value)
            path, target = ConfigParser.split_path_id(absolute[len(MACRO_KEY) :])
            if not path and own is None:
                return value
            content = self._read(str(Path(path))) if path else own
            found = at(content, target) if target else content
        except (OSError, ValueError, KeyError, IndexError, yaml.YAMLError):
            return value
        self.count += 1
        step = (builtins.id(content), target)
        if step in trail or self.count > MAX_MACROS:
            problem = f"macro {value!r} leads to itself, or macros of files to more than {MAX_MACROS} others"
            raise ConfigError([Finding(id, problem, "Mend the macro.")])
        return self.expand(found, target, content, (*trail, step))

    def _read(self, path: str) -> Any:
        if path not in self.contents:
            self.contents[path] = ConfigParser.load_config_file(path)
        return self.contents[path]
