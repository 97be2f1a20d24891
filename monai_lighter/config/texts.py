"""Texts that were meant to be references or expressions and that MONAI leaves as they are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.config.sections import locate
from monai_lighter.errors import Finding, Note

__all__ = ["half_references"]

MENTION = re.compile(rf"(?<![\w.])@(\w+(?:{ID_SEP_KEY}\w+)*)")
GOES_ON = re.compile(r"\s*[.:/\\\[(+*%-]\S*")
"""After a reference at the beginning of a text: a path, an attribute, a call, something to compute."""
DESCRIPTION = "_desc_"


def half_references(id: str, text: str, config: dict) -> Iterator[Finding]:
    """A text in which an item of the config is mentioned with an ``@`` that MONAI does not replace.

    It replaces references in ``$`` expressions and where they are the whole text. A text that begins with one is a finding;
    where it comes later, as it may in any text, a `Note`. Addresses (``a@b.org``) and names of no item are left alone.
    """
    normal = ReferenceResolver.normalize_id(text)
    mentions = [match for match in MENTION.finditer(normal) if locate(config, match[1]) is not None]
    if not mentions or id.endswith(f"{ID_SEP_KEY}{DESCRIPTION}"):
        return
    first = mentions[0]
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
