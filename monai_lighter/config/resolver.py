"""MONAI's reference resolver, which also exchanges items as they are added and names the item that fails."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pydoc import locate
from typing import Any

from monai.bundle.config_item import ComponentLocator, ConfigComponent, ConfigExpression, ConfigItem
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.errors import BundleError, ComponentError, in_short, join_sentences
from monai_lighter.errors.cases import describe_batch, find_case, join_names
from monai_lighter.errors.machine import advise_on_memory, is_out_of_memory
from monai_lighter.errors.marks import find_mark, walk_causes, walk_frames

__all__ = ["ARGS", "CALLABLE", "LOCATOR", "Resolver"]

LOCATOR = ComponentLocator(excludes="monai_lighter")
"""MONAI's map from short class names to modules; short names are MONAI's alone."""
ARGS = "_args_"
"""Key of a component with arguments that have no names."""
CALLABLE = "to be called later, add `_mode_: callable`"
"""What to do where a function is called, and is not to be."""


MOST_OF_DOCSTRING = 300


class PositionalComponent(ConfigComponent):
    """A component with ``_args_``, a list of arguments without names, as configs of Lighter since 0.0.5 have them."""

    non_arg_keys = ConfigComponent.non_arg_keys | {ARGS}

    def instantiate(self, **kwargs: Any) -> object:
        config, target = self.get_config(), self.resolve_module_name()
        found: Any = locate(target) if isinstance(target, str) else target
        if found is None:
            raise ModuleNotFoundError(f"Cannot locate class or function path: {target!r}.")
        self.update_config({**config, "_target_": partial(found, *config[ARGS])})
        return super().instantiate(**kwargs)


class Resolver(ReferenceResolver):
    """`monai.bundle.ReferenceResolver` with three seams.

    Args:
        exchange: called with every ``ConfigItem`` of the config; the item it gives takes its place.
        built: called with the id and the value of every item when it has been resolved, before anything uses it.
        kept: id to the value of items that another resolver has built and this one takes over.
    """

    def __init__(
        self,
        exchange: Callable[[ConfigItem], ConfigItem] | None = None,
        built: Callable[[str, Any], None] | None = None,
        kept: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.exchange = exchange
        self.built = built
        self.kept = dict(kept or {})
        self.resolved_content.update(self.kept)

    def reset(self) -> None:
        super().reset()
        self.resolved_content.update(self.kept)

    def is_resolved(self) -> bool:
        return bool(self.items) and super().is_resolved()

    def add_item(self, item: ConfigItem) -> None:
        if isinstance(item, ConfigComponent) and ARGS in item.get_config():
            item = PositionalComponent(item.get_config(), item.get_id(), locator=item.locator)
        super().add_item(item if self.exchange is None else self.exchange(item))

    def _resolve_one_item(self, id: str, waiting_list: set[str] | None = None, **kwargs: Any) -> Any:
        """Resolves as MONAI does.

        Raises:
            ComponentError: what an item's class, function or expression raised, with the innermost config id.
        """
        id = self.normalize_id(id)
        item = self.items.get(id)
        config = None if item is None else item.get_config()
        fresh = id not in self.resolved_content
        try:
            value = super()._resolve_one_item(id=id, waiting_list=waiting_list, **kwargs)
            if fresh and self.built is not None:
                self.built(id, value)
            return value
        except Exception as error:
            for cause in walk_causes(error):
                if isinstance(cause, BundleError):  # MONAI wraps what an expression raises
                    raise cause  # noqa: B904
            if not isinstance(item, (ConfigComponent, ConfigExpression)):
                raise
            raise ComponentError(id, _message(id, item, config, self._list_given(id, config), error)) from error

    def _list_given(self, id: str, config: Any) -> dict[str, Any]:
        """Arguments of a component, as far as they have been resolved."""
        arguments = config.items() if isinstance(config, dict) else ()
        resolved = self.resolved_content
        return {
            key: resolved.get(f"{id}{ID_SEP_KEY}{key}", value)
            for key, value in arguments
            if key not in ConfigComponent.non_arg_keys
        }


def _message(id: str, item: ConfigItem, config: Any, given: dict[str, Any], error: Exception) -> str:
    *_, cause = walk_causes(error)
    hints: list[str] = []
    if isinstance(item, ConfigComponent):
        what = f"{config.get('_target_')} could not be built"
        hints += _tell_arguments(item, config, given, cause)
    else:
        what = f"{str(config)[:200]!r} failed"
    case = find_case(error)
    known = find_mark(error)
    if case:
        hints.append(f"Case: {case}.")
    elif known is not None and known.place:
        hints.append(f"In {known.place}: {join_names(describe_batch(known.batch), '; ')}.")
    if is_out_of_memory(error):
        advice = advise_on_memory(id)
        hints.append(f"{advice[0].upper()}{advice[1:]}.")
    return join_sentences(f"{id}: {what}: {in_short(cause)}", *hints)


def _tell_arguments(item: ConfigComponent, config: dict, given: dict[str, Any], cause: BaseException) -> Iterator[str]:
    """Values of the arguments that an error speaks of, what the target says of a file that is not there, and whether the
    function itself may be meant."""
    message = str(cause)
    name = item.resolve_module_name()
    target = locate(name) if isinstance(name, str) else name
    if isinstance(cause, FileNotFoundError):
        quoted = re.split("['\"]", message)
        for key in [key for key, value in given.items() if value and str(value) in quoted]:
            described = _describe_argument(target, key)
            if described:
                yield f"What it is, {key}: {described}"
    else:
        named = [key for key in given if re.search(rf"\b{re.escape(key)}\b", message)]
        unsaid = [key for key in named if repr(config[key]) not in message]
        if unsaid:
            yield f"Given: {', '.join(f'{key}: {config[key]!r:.80}' for key in unsaid)}."
    frames = list(walk_frames(cause))
    called = frames and str(frames[-1].f_globals.get("__name__")).startswith("monai.")  # and not begun
    if isinstance(cause, TypeError) and called and inspect.isroutine(target):
        yield f"Where the function itself is meant, {CALLABLE}."


def _describe_argument(target: Any, name: str) -> str:
    """What the docstring of a class or function says of an argument under ``Args:``, in one line."""
    documented = [inspect.getdoc(target) or "", inspect.getdoc(getattr(target, "__init__", None)) or ""]
    entry = re.compile(
        rf"^(?P<indent> +){re.escape(name)}(?: \([^)]*\))?:(?P<text>.*(?:\n(?P=indent) +.*)*)", re.MULTILINE
    )
    found = next((match for text in documented if (match := entry.search(text))), None)
    return " ".join(found["text"].split())[:MOST_OF_DOCSTRING] if found else ""
