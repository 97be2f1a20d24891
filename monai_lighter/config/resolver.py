"""MONAI's reference resolver, which also exchanges items as they are added and names the item that fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from monai.bundle.config_item import ComponentLocator, ConfigComponent, ConfigExpression, ConfigItem
from monai.bundle.reference_resolver import ReferenceResolver

from monai_lighter.errors import BundleError, ComponentError, in_short
from monai_lighter.errors.cases import find_case
from monai_lighter.errors.marks import walk_causes

__all__ = ["LOCATOR", "Resolver"]

LOCATOR = ComponentLocator(excludes="monai_lighter")
"""MONAI's map from short class names to modules; short names are MONAI's alone."""


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
    if isinstance(item, ConfigComponent):
        what = f"{config.get('_target_')} could not be built"
    else:
        what = f"{str(config)[:200]!r} failed"
    case = find_case(error)
    where = f" Case: {case}." if case else ""
    return f"{id}: {what}: {in_short(cause)}{where}"
