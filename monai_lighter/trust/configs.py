"""The judgement: what in configs is code, item by item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from monai.bundle import ConfigParser
from monai.bundle.config_item import ComponentLocator
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import EXPR_KEY, ID_REF_KEY, ID_SEP_KEY, MACRO_KEY, MERGE_KEY

from monai_lighter.trust.grammar import GLOBALS, UNKNOWN, Expression, import_of, is_one_of, permits
from monai_lighter.trust.listed import BY_NAME, FIXED
from monai_lighter.trust.objects import Found, builtin, find, is_class, is_direct, is_function, is_value, texts_of

__all__ = ["MAX_ITEMS", "Code", "judge", "texts", "tree_of"]

TARGET, MODE, PROJECT = "_target_", "_mode_", "project"
ARGS, MERGED = "_args_", ("=", "~")
"""Arguments without names, and what Lighter's keys begin with that say how files are merged: the judgement is by names."""
MAX_ITEMS = 50_000
"""Of a config, each use of a YAML alias counted; the usual ones have some hundreds."""
MAX_DEPTH = 60


class Code(NamedTuple):
    """An item that is code.

    Attributes:
        file: of the config, as it is named in ``documents``.
        id: config id.
        text: what stands there.
        own: whether all that keeps it from being declarative are names of the bundle's own modules.
    """

    file: str
    id: str
    text: str
    own: bool = False


def judge(
    documents: Mapping[str, Any],
    own: frozenset[str] = frozenset(),
    locator: ComponentLocator | None = None,
    expanded: bool = False,
) -> list[Code]:
    """All code in configs that are used together, sorted by file and id; none where they are declarative.

    Imports modules that are listed and no others; evaluates nothing.

    Args:
        documents: contents of configs by name: dictionaries, lists, texts and numbers.
        own: first parts of the names of the bundle's own modules.
        locator: of the parser that will build the components, so that a short name is judged as what it will lead to.
        expanded: whether macros have been expanded, so that one that still stands there would change what was judged.
    """
    locator = locator or ComponentLocator(excludes="monai_lighter")
    return sorted(set(_Judge(documents, own, locator, expanded).code()))


def tree_of(content: dict) -> dict:
    """The items of one config file where they will stand, also those that it sets or adds to in other files' sections."""
    parser = ConfigParser({})
    for key, value in content.items():
        parser.set(value, str(key).removeprefix(MERGE_KEY))
    return parser.get()


def texts(config: Any, depth: int = 0) -> Iterator[str]:
    """All texts of a config, up to `MAX_DEPTH`."""
    if isinstance(config, str):
        yield config
    elif isinstance(config, (dict, list)) and depth < MAX_DEPTH:
        for value in config.values() if isinstance(config, dict) else config:
            yield from texts(value, depth + 1)


class _Judge:
    def __init__(
        self, documents: Mapping[str, Any], own: frozenset[str], locator: ComponentLocator, expanded: bool
    ) -> None:
        self.documents, self.own, self.locator, self.expanded = documents, own, locator, expanded
        self.names: dict[str, str] = {}
        self.found: list[Code] = []
        self.holders: set[str] = set()  # items that are modules, and all around them
        self.file, self.count = "", 0
        for file, content in documents.items():
            self.file, self.count = file, 0
            self._collect(content, "")

    def code(self) -> Iterator[Code]:
        for file, content in self.documents.items():
            self.file, self.count = file, 0
            self._item(content, "", "", inside=False, depth=0)
        yield from self.found

    def _add(self, id: str, value: Any, own: bool = False) -> None:
        self.found.append(Code(self.file, id, " ".join(str(value).split()), own))

    def _too_much(self, id: str, depth: int) -> bool:
        self.count += 1
        if self.count == MAX_ITEMS or depth == MAX_DEPTH:
            self._add(id, f"more than {MAX_ITEMS} items, or deeper than {MAX_DEPTH}")
        return self.count >= MAX_ITEMS or depth >= MAX_DEPTH

    def _collect(self, value: Any, id: str, depth: int = 0) -> None:
        """Names that import statements bind, which MONAI evaluates before anything else, wherever they stand."""
        self.count += 1
        if self.count >= MAX_ITEMS or depth >= MAX_DEPTH:
            return
        if isinstance(value, (dict, list)):
            for _, sub_id, item in ReferenceResolver.iter_subconfigs(id, value):
                self._collect(item, sub_id, depth + 1)
        elif isinstance(value, str) and value.startswith(EXPR_KEY) and "import" in value:
            try:
                bound = import_of(value)
            except SyntaxError:
                return
            if bound is not None:
                self._bind(id, value, *bound)

    def _bind(self, id: str, text: str, name: str, path: str) -> None:
        parts = id.split(ID_SEP_KEY)
        self.holders |= {ID_SEP_KEY.join(parts[:i]) for i in range(len(parts) + 1)}
        known = GLOBALS.get(name) or getattr(builtin(name), "name", None)
        if self.names.setdefault(name, path) != path or (known is not None and known.removeprefix("builtins.") != path):
            self._add(id, text)  # one name for two things
        elif path.split(".", maxsplit=1)[0] in self.own:
            self._add(id, text, own=True)
        else:
            found = find(path)
            if found is None or not (_is_module(found) or _is_listed(found)):
                self._add(id, text)

    def _item(self, value: Any, id: str, key: str, inside: bool, depth: int) -> None:
        """An item and all in it.

        Args:
            inside: whether it is, or is in, an argument of a component.
        """
        if self._too_much(id, depth):
            return
        if isinstance(value, str):
            self._text(value, id, key, inside)
        elif isinstance(value, dict):
            self._mapping(value, id)
            inside = inside or TARGET in value
        if isinstance(value, (dict, list)):
            for name, sub_id, item in ReferenceResolver.iter_subconfigs(id, value):
                self._item(item, sub_id, str(name), inside, depth + 1)

    def _mapping(self, config: dict, id: str) -> None:
        keys = [str(key) for key in config]
        if len({*keys}) < len(keys) or any(ID_SEP_KEY in key or "#" in key for key in keys):
            self._add(id, f"keys that are one to MONAI: {', '.join(sorted(keys))}"[:200])
        for key in keys:
            if key.startswith(MERGED) or key == ARGS:  # would be another key, or an argument whose name is not known
                self._add(f"{id}{ID_SEP_KEY}{key}" if id else key, f"{key}: {config.get(key)}")
        found = [self._target(name) for name in self._followed(config[TARGET], id)] if TARGET in config else []
        if TARGET in config and not found:
            self._add(id, config[TARGET])
        for target in found:
            if target is None or not self._is_built(target, config):
                self._add(f"{id}{ID_SEP_KEY}{TARGET}" if id else TARGET, config[TARGET], self._is_own(config[TARGET]))
        classes = [target.object for target in found if target is not None]
        for key, value in config.items():
            sub_id = f"{id}{ID_SEP_KEY}{key}" if id else str(key)
            if key in FIXED and (key != PROJECT or not id) and not is_one_of(value, FIXED[key]):
                self._add(sub_id, f"{key}: {value}", own=key == PROJECT)
            texts = [texts_of(each, str(key)) for each in classes] if found else [BY_NAME.get(str(key))]
            if not all(each is None or self._names_listed(value, each, sub_id) for each in texts):
                self._add(sub_id, f"{key}: {value}")

    def _is_own(self, target: Any) -> bool:
        return isinstance(target, str) and target.split(".")[0] in self.own

    def _target(self, name: Any) -> Found | None:
        if not isinstance(name, str) or name.startswith((EXPR_KEY, ID_REF_KEY, MACRO_KEY)) or self._is_own(name):
            return None
        module = self.locator.get_component_module_name(name)
        module = module[0] if isinstance(module, list) else module
        if module:
            return find(f"{module}.{name}")
        return find(name) if "." in name else builtin(name)

    def _is_built(self, target: Found, config: dict) -> bool:
        if config.get(MODE, "default") != "default":
            return is_value(target)
        direct = is_direct(target)
        if direct is not None:
            arguments = {key: value for key, value in config.items() if not _is_special(key)}
            return permits(direct, {key: UNKNOWN if _is_computed(value) else value for key, value in arguments.items()})
        return is_function(target) or is_class(target.object)

    def _names_listed(self, value: Any, texts: set, id: str) -> bool:
        """Whether an argument that is imported by its name is a listed text, or no text at all."""
        if isinstance(value, (list, tuple)):
            return all(self._names_listed(item, texts, id) for item in value)
        if isinstance(value, dict):
            return TARGET in value
        if isinstance(value, str) and value.startswith(EXPR_KEY):
            expression = self._expression(value, id)
            return expression.makes_object(expression.node)
        if isinstance(value, str) and value.startswith((ID_REF_KEY, MACRO_KEY)):
            followed = self._followed(value, id)
            return bool(followed) and all(self._names_listed(each, texts, id) for each in followed)
        return is_one_of(value, texts)

    def _followed(self, value: Any, id: str) -> list[Any]:
        """What a value is in the end where it refers to another item; itself where it does not; none where it is lost."""
        found, waiting, seen = [], [(value, id)], set()
        while waiting:
            value, id = waiting.pop()
            if not isinstance(value, str) or not value.startswith((ID_REF_KEY, MACRO_KEY)):
                found.append(value)
                continue
            target = self._referred(value, id)
            if target and target not in seen:
                seen.add(target)
                waiting += [(there, target) for each in self.documents.values() for there in _at(each, target)]
        return found

    def _referred(self, text: str, id: str) -> str:
        """The id in a reference or macro; empty where it cannot be told."""
        try:
            absolute = ConfigParser.resolve_relative_ids(id, text)
        except ValueError:
            return ""
        if absolute.startswith(MACRO_KEY):
            return ConfigParser.split_path_id(absolute[1:])[1]
        return absolute[1:]

    def _text(self, text: str, id: str, key: str, inside: bool) -> None:
        if text.startswith(EXPR_KEY):
            self._evaluated(text, id, inside)
        elif key != TARGET and text.startswith(MACRO_KEY):
            path, _ = ConfigParser.split_path_id(text[1:])
            known = not path or path.removeprefix("./") in self.documents
            if self.expanded or not known or not self._may_refer(self._referred(text, id)):
                self._add(id, text)
        elif key != TARGET and text.startswith(ID_REF_KEY):
            referred = self._referred(text, id)
            if ReferenceResolver.match_refs_pattern(f"{ID_REF_KEY}{referred}") and not self._may_refer(referred):
                self._add(id, text)

    def _evaluated(self, text: str, id: str, inside: bool) -> None:
        try:
            if import_of(text) is not None:
                if inside:  # a module that is handed on
                    self._add(id, text)
                return
        except SyntaxError:
            self._add(id, text)
            return
        problems = self._expression(text, id).problems
        if problems:
            self._add(id, text, own=all(problems))

    def _expression(self, text: str, id: str) -> Expression:
        try:
            text = ConfigParser.resolve_relative_ids(id, text)
        except ValueError:
            text = EXPR_KEY
        return Expression(text, self.names, self.own, self._may_refer)

    def _may_refer(self, id: str) -> bool:
        """Whether no module is handed on by a reference to an item."""
        return bool(id) and id not in self.holders


def _at(content: Any, id: str) -> Iterator[Any]:
    """The item of a config with an id, if there is one."""
    for key in id.split(ID_SEP_KEY):
        if isinstance(content, list) and key.isdecimal() and int(key) < len(content):
            content = content[int(key)]
        elif isinstance(content, dict) and key in (named := {str(name): value for name, value in content.items()}):
            content = named[key]
        else:
            return
    yield content


def _is_module(found: Found) -> bool:
    return found.object is None or isinstance(found.object, ModuleType)


def _is_listed(found: Found) -> bool:
    return is_value(found) or is_class(found.object) or is_direct(found) is not None


def _is_special(key: Any) -> bool:
    return key in ("_target_", "_disabled_", "_requires_", "_desc_", "_mode_", "_debug_")


def _is_computed(value: Any) -> bool:
    return isinstance(value, (dict, list)) or (
        isinstance(value, str) and value[:1] in (EXPR_KEY, ID_REF_KEY, MACRO_KEY)
    )
