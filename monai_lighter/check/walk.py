"""All that a run would resolve of a config, item by item, and what is wrong with it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from monai.bundle import ConfigParser
from monai.bundle.config_item import ComponentLocator, ConfigComponent, ConfigExpression
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.check.expressions import UNKNOWN, Expressions, copied_from
from monai_lighter.check.parameters import Parameter, read_text
from monai_lighter.check.targets import component, find_misspelt_target, target_of
from monai_lighter.config.items import (
    REFERENCE,
    at,
    is_computed,
    is_text,
    items,
    locate,
    located,
    normalize,
    referenced,
)
from monai_lighter.errors import Finding, Note, did_you_mean

__all__ = ["Built", "Walk", "find_half_references"]

GLOBALS = ConfigParser().globals
"""Modules that every expression knows."""


class Built(NamedTuple):
    """A component that would be built: its config id and its ``_target_``."""

    id: str
    target: str


class Walk:
    """Checks an item and everything it leads to, each once.

    Args:
        full: the whole config, macros expanded.
        needed: what of it a stage builds; the same as ``full`` where the run is an expression.
        stage: for messages.
        locator: MONAI's map from short class names to modules.
        written_for: the version of MONAI that the config is written for, where that is older than the one installed.
        lenient: whether what need not fail is a `Note`, as in configs of MONAI's engines, which Ignite would run.
        scripted: whether there is code of the bundle that may add classes which are not there yet.

    Attributes:
        built: the components met, each after those that it is built from.
        read: id to the number, truth value or None that a text there was meant to be, since a parameter is one.
        misread: findings about texts that are no such value.
    """

    def __init__(
        self,
        full: dict,
        needed: dict,
        stage: str | None,
        locator: ComponentLocator,
        written_for: str | None = None,
        lenient: bool = False,
        scripted: bool = False,
    ) -> None:
        self.full, self.needed, self.stage, self.locator = full, needed, stage, locator
        self.written_for, self.lenient, self.scripted = written_for, lenient, scripted
        self.built: list[Built] = []
        self.visited: set[str] = set()
        self.read: dict[str, Any] = {}
        self.misread: list[Finding] = []
        self.expressions = Expressions(full, GLOBALS, self.class_of, lenient)

    def item(self, id: str, trail: tuple[str, ...] = (), config: Any = UNKNOWN) -> Iterator[Finding]:
        """Findings in an item and in all it leads to that was not met before.

        Args:
            id: of the item.
            trail: ids on the way to it.
            config: the item itself, where it is at hand: its id does not lead to it where a key has a separator in it.
        """
        if id in trail:
            yield Finding(id, f"refers to itself ({' -> '.join([*trail[trail.index(id) :], id])})", "Break the circle.")
            return
        if id in self.visited:
            return
        self.visited.add(id)
        config = at(self.needed, id) if config is UNKNOWN else config
        is_component = ConfigComponent.is_instantiable(config)
        if is_component:
            yield from self._component(id, config)
        elif isinstance(config, str):
            yield from self._text(id, config, (*trail, id))
        elif isinstance(config, dict):
            yield from find_misspelt_target(id, config, self.locator)
        if isinstance(config, (dict, list)):
            for _, sub_id, value in ReferenceResolver.iter_subconfigs(id, config):
                yield from self.item(sub_id, (*trail, id), value)
        if is_component and not self._is_disabled(config):
            self.built.append(Built(id, str(self._target(config))))

    def _is_disabled(self, config: dict) -> bool:
        return ConfigComponent(config, locator=self.locator).is_disabled()

    def _component(self, id: str, config: dict) -> Iterator[Finding]:
        """Findings in a component itself; notes where it may yet be disabled. What it is given is resolved in any case."""
        if self._is_disabled(config):
            return
        how = (self.written_for, self._read, self.lenient, self.scripted)
        found = component(id, config, self._target(config), self.locator, *how)
        may_be = is_computed(config.get("_disabled_"))
        yield from (Note(*finding) if may_be else finding for finding in found)

    def _text(self, id: str, config: str, trail: tuple[str, ...]) -> Iterator[Finding]:
        is_expression = ConfigExpression.is_expression(config)
        if is_expression:
            yield from self.expressions.findings(id, config)
        references = ReferenceResolver.match_refs_pattern(config)
        for reference in references:
            yield from self._reference(id, config, reference, trail)
        if not references and not is_expression:
            yield from find_half_references(id, config, self.full)

    def _target(self, config: dict) -> Any:
        """The target of a component; where it refers to a text in the config, that text."""
        name = config["_target_"]
        id = referenced(name)
        where = None if id is None else locate(self.needed, id)
        value = name if where is None else at(self.needed, where)
        return value if is_text(value) else name

    def class_of(self, id: str, steps: int = 0) -> type | None:
        """The class of what an item will be; None where that is not known."""
        _, config = located(self.needed, id)
        if isinstance(config, str) and config.startswith("$") and steps < 20:
            origin = copied_from(config)
            return None if origin is None else self.class_of(origin, steps + 1)
        if not ConfigComponent.is_instantiable(config) or config.get("_mode_", "default") != "default":
            return None
        name = self._target(config)
        target = target_of(name, self.locator) if is_text(name) else None
        return target if inspect.isclass(target) else None

    def parts(self, id: str) -> Iterator[tuple[str, Any]]:
        """A component, an expression or a value, or those of a list or section of several, each where it stands."""
        where, value = located(self.needed, id)
        if isinstance(value, (dict, list)) and "_target_" not in value:
            for key in range(len(value)) if isinstance(value, list) else value:
                yield located(self.needed, f"{where}{ID_SEP_KEY}{key}")
        elif value is not None:
            yield where, value

    def _read(self, id: str, parameter: Parameter) -> None:
        """Reads the text, or the texts in the list, that an argument is, for it alone: another may want a text."""
        where, value = located(self.needed, id)
        texts = [(value, parameter)]
        if isinstance(value, list):
            texts = [(item, Parameter(parameter.several, certain=parameter.certain)) for item in value]
        values = [item for item, _ in texts]
        for i, (text, expected) in enumerate(texts):
            if not is_text(text) or expected.is_open:
                continue
            try:
                values[i] = read_text(text, expected)
            except ValueError:
                if expected.certain:
                    place = f"{where}{ID_SEP_KEY}{i}" if isinstance(value, list) else where
                    self.misread.append(
                        Finding(place, f"must be {expected.wanted}, got the text {text!r:.80}", "Give one.")
                    )
        if values != [item for item, _ in texts]:
            self.read[id] = values if isinstance(value, list) else values[0]

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


MENTION = re.compile(rf"(?<![\w.]){REFERENCE.pattern}")
"""A reference that is no part of an address (``a@b.org``)."""
GOES_ON = re.compile(r"\s*[.:/\\\[(+*%-]\S*")
"""After a reference at the beginning of a text: a path, an attribute, a call, something to compute."""
DESCRIPTION = "_desc_"


def find_half_references(id: str, text: str, config: dict) -> Iterator[Finding]:
    """A text in which an item of the config is mentioned with an ``@`` that MONAI does not replace.

    It replaces references in ``$`` expressions and where they are the whole text. A text that begins with one is a finding;
    where it comes later, as it may in any text, a `Note`. Addresses (``a@b.org``) and names of no item are left alone.
    """
    normal = normalize(text)
    known = [match for match in MENTION.finditer(normal) if locate(config, match[0][1:]) is not None]
    if not known or id.endswith(f"{ID_SEP_KEY}{DESCRIPTION}"):
        return
    first = known[0]
    problem = f"MONAI replaces no `{first[0]}` inside a text without $, got {text[:120]!r}"
    if first.start() == 0 and GOES_ON.match(normal, first.end()):
        yield Finding(id, problem, _hint(normal, first[0], normal[first.end() :], config))
    else:
        yield Note(id, problem, "If it is meant to be replaced, begin the text with $ and quote the rest.")


def _hint(text: str, reference: str, rest: str, config: dict) -> str:
    whole = re.sub(r"[.:]+", ID_SEP_KEY, text)
    if MENTION.fullmatch(whole) and locate(config, whole[1:]) is not None:
        return f"Write {whole!r}."
    is_path = rest.startswith(("/", "\\")) and not rest[1:].strip().isdigit()
    if not is_path and _is_python(text):
        return f"Write '${text}'."
    return f"Write \"${reference} + '{rest}'\"."


def _is_python(text: str) -> bool:
    try:
        ast.parse(text.replace("@", "").replace(ID_SEP_KEY, "_"), mode="eval")
    except SyntaxError:
        return False
    return True
