"""MONAI's reference resolver, which also exchanges items as they are added and names the item that fails."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pydoc import locate
from typing import Any

from monai.bundle.config_item import ComponentLocator, ConfigComponent, ConfigExpression, ConfigItem
from monai.bundle.reference_resolver import ReferenceResolver

from monai_lighter.errors import BundleError, ComponentError, in_short
from monai_lighter.errors.cases import find_case
from monai_lighter.errors.marks import walk_causes

__all__ = ["ARGS", "CALLABLE", "LOCATOR", "Resolver"]

LOCATOR = ComponentLocator(excludes="monai_lighter")
"""MONAI's map from short class names to modules; short names are MONAI's alone."""
ARGS = "_args_"
"""Key of a component with arguments that have no names."""
CALLABLE = "to be called later, add `_mode_: callable`"
"""What to do where a function is called, and is not to be."""


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
            raise ComponentError(id, _message(id, item, config, error)) from error


def _message(id: str, item: ConfigItem, config: Any, error: Exception) -> str:
    *_, cause = walk_causes(error)
    hint = ""
    if isinstance(item, ConfigComponent):
        what = f"{config.get('_target_')} could not be built"
        if _is_called_function(config):
            hint = f" Where the function itself is meant, {CALLABLE}."
    else:
        what = f"{str(config)[:200]!r} failed"
    case = find_case(error)
    where = f" Case: {case}." if case else ""
    return f"{id}: {what}: {in_short(cause)}{where}{hint}"


def _is_called_function(config: Any) -> bool:
    """Whether a component is a function that is called, which one among transforms is seldom meant to be."""
    target = config.get("_target_")
    found = locate(target) if isinstance(target, str) else target
    return inspect.isroutine(found) and config.get("_mode_", "default") == "default"
