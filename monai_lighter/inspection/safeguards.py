"""Arguments that decide whether a call is safe: of some functions alone, and of whatever is called."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from monai_lighter.inspection.report import Level, Verdict
from monai_lighter.inspection.resolve import look_up
from monai_lighter.inspection.syntax import constant

__all__ = ["Safeguard", "call_verdict", "guarded", "safeguard_for", "unpickles"]


class Safeguard(NamedTuple):
    """An argument that makes a dangerous function safe.

    Attributes:
        argument: its name.
        wanted: the value that it must have.
        left_out: how bad the function is without it.
        undone_by: an argument that makes leaving it out dangerous, also as the third one by position.
    """

    argument: str
    wanted: bool | None
    left_out: Level
    undone_by: str


SAFEGUARDS = {
    "torch.load": Safeguard("weights_only", True, Level.LOOK, "pickle_module"),
    "numpy.load": Safeguard("allow_pickle", False, Level.OK, "allow_pickle"),
    "logging.basicConfig": Safeguard("filename", None, Level.OK, "filename"),
}
POSITIONAL = 2
"""Arguments that each of them may be given by position."""


def safeguard_for(value: Any) -> Safeguard | None:
    """Of a function, by its identity."""
    return next((guard for name, guard in SAFEGUARDS.items() if look_up(name) is value), None)


def guarded(guard: Safeguard, given: Mapping[str, object], positional: Collection[object] = ()) -> Verdict | None:
    """The verdict on a call with arguments of these names; None where it is not made safe.

    Args:
        guard: of the function.
        given: values by name; what is no constant is any object.
        positional: values by position.
    """
    if guard.argument in given:
        is_safe = given[guard.argument] is guard.wanted
        return Verdict(Level.OK, f"safe with {guard.argument}: {guard.wanted}") if is_safe else None
    if guard.undone_by in given or len(positional) > POSITIONAL:
        return None
    why = f"without {guard.argument}, which is not safe in every version" if guard.left_out else ""
    return Verdict(guard.left_out, why)


def call_verdict(guard: Safeguard, call: ast.Call) -> Verdict | None:
    """As `guarded`, of a call in source code."""
    is_open = any(isinstance(argument, ast.Starred) for argument in call.args)
    if is_open or any(keyword.arg is None for keyword in call.keywords):
        return None
    given = {keyword.arg: constant(keyword.value) for keyword in call.keywords if keyword.arg}
    return guarded(guard, given, call.args)


def unpickles(name: str, value: object) -> bool:
    """Whether an argument, of whatever is called, asks for pickles to be loaded that run code."""
    return (name == "weights_only" and value is not True) or (name == "allow_pickle" and value not in (None, False))
