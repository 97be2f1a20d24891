"""All that a run would resolve of a config, item by item, and what is wrong with it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

from monai.bundle import ConfigParser
from monai.bundle.config_item import ComponentLocator, ConfigComponent, ConfigExpression
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.config.expressions import Expressions, copied_from
from monai_lighter.config.overrides import items
from monai_lighter.config.sections import locate
from monai_lighter.config.targets import component, misspelt_target, target_of
from monai_lighter.config.texts import half_references
from monai_lighter.errors import Finding, did_you_mean

__all__ = ["Built", "Walk", "at", "located"]

REFERENCE = ReferenceResolver()
GLOBALS = ConfigParser().globals
"""Modules that every expression knows."""


class Built(NamedTuple):
    """A component that would be built: its config id and its ``_target_``."""

    id: str
    target: str


def at(config: Any, id: str) -> Any:
    """The item of a config with an id.

    Raises:
        KeyError, IndexError, ValueError: no such item.
    """
    for key in id.split(ID_SEP_KEY):
        if not isinstance(config, (dict, list)):
            raise KeyError(id)
        if isinstance(config, dict):  # its keys may be numbers, which are text in an id
            config = {str(name): value for name, value in config.items()}[key]
        else:
            config = config[int(key)]
    return config


def located(config: Any, id: str) -> tuple[str, Any]:
    """Where an item really stands (`locate`), and its value; None where there is none."""
    where = locate(config, id)
    return (id, None) if where is None else (where, at(config, where))


class Walk:
    """Checks an item and everything it leads to, each once.

    Args:
        full: the whole config, macros expanded.
        needed: what of it a stage builds; the same as ``full`` where the run is an expression.
        stage: for messages.
        locator: MONAI's map from short class names to modules.
        written_for: as for `component`.

    Attributes:
        built: the components met, each after those that it is built from.
    """

    def __init__(
        self, full: dict, needed: dict, stage: str | None, locator: ComponentLocator, written_for: str | None = None
    ) -> None:
        self.full, self.needed, self.stage, self.locator = full, needed, stage, locator
        self.written_for = written_for
        self.built: list[Built] = []
        self.visited: set[str] = set()
        self.expressions = Expressions(full, GLOBALS, self._class_of)

    def item(self, id: str, trail: tuple[str, ...] = ()) -> Iterator[Finding]:
        """Findings in an item and in all it leads to that was not met before."""
        if id in trail:
            yield Finding(id, f"refers to itself ({' -> '.join([*trail[trail.index(id) :], id])})", "Break the circle.")
            return
        if id in self.visited:
            return
        self.visited.add(id)
        config = at(self.needed, id)
        is_component = ConfigComponent.is_instantiable(config)
        if is_component:
            if ConfigComponent(config, locator=self.locator).is_disabled():
                return
            yield from component(id, config, self._target(config), self.locator, self.written_for)
        elif isinstance(config, str):
            yield from self._text(id, config, (*trail, id))
        elif isinstance(config, dict):
            yield from misspelt_target(id, config, self.locator)
        if isinstance(config, (dict, list)):
            for _, sub_id, _ in REFERENCE.iter_subconfigs(id, config):
                yield from self.item(sub_id, (*trail, id))
        if is_component:
            self.built.append(Built(id, str(self._target(config))))

    def _text(self, id: str, config: str, trail: tuple[str, ...]) -> Iterator[Finding]:
        is_expression = ConfigExpression.is_expression(config)
        if is_expression:
            yield from self.expressions.findings(id, config)
        references = REFERENCE.match_refs_pattern(config)
        for reference in references:
            yield from self._reference(id, config, reference, trail)
        if not references and not is_expression:
            yield from half_references(id, config, self.full)

    def _target(self, config: dict) -> Any:
        """The target of a component; where it refers to a text in the config, that text."""
        name = config["_target_"]
        id = name[1:].replace("#", ID_SEP_KEY) if isinstance(name, str) and name.startswith("@") else None
        where = None if id is None else locate(self.needed, id)
        value = name if where is None else at(self.needed, where)
        return value if isinstance(value, str) and not value.startswith(("$", "@")) else name

    def _class_of(self, id: str, steps: int = 0) -> type | None:
        _, config = located(self.needed, id)
        if isinstance(config, str) and config.startswith("$") and steps < 20:
            origin = copied_from(config)
            return None if origin is None else self._class_of(origin, steps + 1)
        if not ConfigComponent.is_instantiable(config) or config.get("_mode_", "default") != "default":
            return None
        name = self._target(config)
        target = target_of(name, self.locator) if isinstance(name, str) and not name.startswith(("$", "@")) else None
        return target if inspect.isclass(target) else None

    def _reference(self, id: str, config: str, reference: str, trail: tuple[str, ...]) -> Iterator[Finding]:
        if not reference:
            hint = "Write chr(64) for the character, torch.matmul for the product."
            yield Finding(id, f"has an `@` that is no reference, in {config[:120]!r}", hint)
            return
        try:
            at(self.needed, reference)
        except (KeyError, IndexError, ValueError):
            ids = [known for known, _ in items(self.needed) if known]
            if locate(self.full, reference) is not None and self.stage:
                hint = f"Stage {self.stage!r} does not build it."
            else:
                hint = did_you_mean(reference, ids) if len(ids) < 2000 else ""
                hint = hint if hint.startswith("Did") else "Define it, or mend the name."
            yield Finding(id, f"refers to `@{reference}`, which is not in the config, in {config[:120]!r}", hint)
            return
        yield from self.item(reference, trail)
