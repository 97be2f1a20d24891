"""Whether an object is harmless, by what it is and where it is defined, not by the name it was reached by."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import ModuleType
from typing import Any

from monai_lighter.inspection import policy
from monai_lighter.inspection.attributes import DANGEROUS_ATTRIBUTES, MUTATORS
from monai_lighter.inspection.report import Level, Verdict
from monai_lighter.inspection.resolve import MISSING, STDLIB, Found, Resolver, look_up

__all__ = ["home_of", "judge", "judge_import", "judge_located", "module_danger", "name_of"]

REACHING = {"functools", *(name.split(".")[0] for name in policy.DANGEROUS)} & STDLIB
"""Modules of the standard library that hold dangerous objects."""
QUALIFIER = ", by its name alone: it is not imported here"


class _Lists:
    """The lists of `policy` as objects. Holds on to the objects, so that no other gets their identity."""

    def __init__(self) -> None:
        find = Resolver().dotted
        self.dangerous = {
            id(found.object): (found.object, why) for found, why in self._found(policy.DANGEROUS.items(), find)
        }
        harmless = [(found.object, "") for found, _ in self._found(((name, "") for name in policy.HARMLESS), find)]
        self.harmless = {id(value): value for value, _ in harmless}
        bases = [find(name).object for name in policy.HARMLESS_BASES]
        self.bases = tuple(base for base in bases if inspect.isclass(base))

    @staticmethod
    def _found(items: Iterable[tuple[str, str]], find: Any) -> list[tuple[Found, str]]:
        return [(found, why) for found, why in ((find(name), why) for name, why in items) if found.kind == "object"]


@lru_cache(maxsize=1)
def _lists() -> _Lists:
    return _Lists()


def judge(found: Found, as_target: bool = False) -> Verdict:
    """The verdict on what a name leads to, were it called with arguments that are harmless themselves.

    Args:
        found: what the name leads to.
        as_target: whether it is a ``_target_``, called with what the config says.
    """
    if found.kind == "bundle":
        return Verdict(Level.LOOK, "the bundle's own code")
    if found.kind != "object":
        return _by_name(found)
    try:
        if as_target and any(found.object is look_up(name) for name in policy.CALLERS):
            return Verdict(Level.DANGER, "calls what it is given")
        return _by_object(found)
    except Exception as error:  # odd objects raise from hash, ==, or attributes
        return Verdict(Level.LOOK, f"cannot be judged ({type(error).__name__})")


def judge_import(found: Found) -> Verdict:
    """The verdict on an import. What is then done with the module is judged where it is done."""
    if found.kind == "bundle":
        return Verdict(Level.LOOK, "the bundle's own code, which runs when it is imported")
    if found.kind == "object" and not isinstance(found.object, ModuleType):
        return judge(found)
    danger = module_danger(name_of(found))
    if danger or found.kind != "object":
        return Verdict(Level.DANGER, danger) if danger else _by_name(found)
    return Verdict(Level.OK, "a module of the standard library or of an inspected package")


def judge_located(name: str, resolver: Resolver) -> Iterator[Verdict]:
    """What is not harmless, were a text looked up by MONAI's classes (`policy.LOCATED`) and called."""
    for found in resolver.target(name):
        verdict = judge(found, as_target=True)
        if verdict.level and not (found.kind in ("missing", "foreign") and "." not in name):
            yield Verdict(verdict.level, f"{name_of(found)}: {verdict.why}")


def _by_name(found: Found) -> Verdict:
    root, _, rest = found.name.partition(".")
    name = f"os.{rest}" if root in ("nt", "posix") else found.name
    why = module_danger(name) or policy.DANGEROUS.get(name)
    if why:
        return Verdict(Level.DANGER, why + QUALIFIER)
    if found.name.rpartition(".")[2] in DANGEROUS_ATTRIBUTES:
        return Verdict(Level.DANGER, f"attribute .{found.name.rpartition('.')[2]}{QUALIFIER}")
    if found.kind == "missing":
        return Verdict(Level.LOOK, "not found: nothing of that name is installed here")
    return Verdict(Level.LOOK, f"package {root!r} is not known to this inspection, and not imported by it")


def _by_object(found: Found) -> Verdict:
    value = found.object
    lists = _lists()
    home = home_of(value)
    if id(value) in lists.dangerous:
        return Verdict(Level.DANGER, lists.dangerous[id(value)][1])
    if id(value) in lists.harmless:
        return Verdict(Level.OK, "on the list of harmless objects")
    inherited = _of_dangerous_class(value, name_of(found), lists)
    if inherited:
        return Verdict(Level.DANGER, inherited)
    if isinstance(value, ModuleType):
        return _module(value)
    if isinstance(value, (int, float, str, bytes, bool, tuple, frozenset, type(None))) and not callable(value):
        return Verdict(Level.OK, "a value")
    why = module_danger(home)
    if why:
        return Verdict(Level.DANGER, why)
    looked_at = next((why for module, why in policy.LOOKED_AT.items() if f"{home}.".startswith(f"{module}.")), "")
    if looked_at:
        return Verdict(Level.LOOK, looked_at)
    if not _genuine(home):
        return Verdict(Level.LOOK, f"defined in {home or 'no module'}, which is not known to this inspection")
    return _kind(value, home, lists)


def _of_dangerous_class(value: Any, name: str, lists: _Lists) -> str:
    """Why a method of a dangerous class, or a subclass of one, is dangerous; empty where it is none."""
    parts = name.split(".")
    prefixes = (".".join(parts[:i]) for i in range(len(parts), 1, -1))
    listed = next((policy.DANGEROUS[prefix] for prefix in prefixes if prefix in policy.DANGEROUS), "")
    bases = value.__mro__[1:] if inspect.isclass(value) else ()
    return listed or next((lists.dangerous[id(base)][1] for base in bases if id(base) in lists.dangerous), "")


def _kind(value: Any, home: str, lists: _Lists) -> Verdict:
    name = getattr(value, "__name__", "")
    if home in policy.HARMLESS_STDLIB and callable(value) and _is_private(name):
        return Verdict(Level.DANGER, f"an inner function of {home}, not made to be called from outside")
    if _changes_an_object(value):
        return Verdict(Level.LOOK, "changes an object of a package")
    if inspect.isclass(value) and issubclass(value, lists.bases):
        bases = [base.__name__ for base in lists.bases if issubclass(value, base)]
        return Verdict(Level.OK, f"a {bases[0]}")
    if home in policy.HARMLESS_STDLIB:
        return Verdict(Level.OK, "standard library")
    if not _is_private(name) and any(f"{home}.".startswith(f"{known}.") for known in policy.HARMLESS_HOMES):
        return Verdict(Level.OK, f"defined in {home}")
    if home.split(".", maxsplit=1)[0] == "numpy" and (type(value).__name__ == "ufunc" or _is_numpy_type(value)):
        return Verdict(Level.OK, "a numpy function or type")
    if _is_tensor_function(value):
        return Verdict(Level.OK, "a function on tensors")
    if not callable(value):
        return (
            Verdict(Level.OK, f"a {type(value).__name__}, no function")
            if _is_plain(value)
            else Verdict(Level.LOOK, "an object")
        )
    if name in DANGEROUS_ATTRIBUTES:
        return Verdict(Level.DANGER, f"attribute .{name}")
    what = "class" if inspect.isclass(value) else "function"
    return Verdict(Level.LOOK, f"a {what} of {home} that is on no list")


def _module(value: ModuleType) -> Verdict:
    why = module_danger(value.__name__)
    if why:
        return Verdict(Level.DANGER, f"a module: {why}")
    if value.__name__ in REACHING:
        return Verdict(Level.DANGER, "a module whose functions run programs or reach any object")
    if value.__name__ in policy.HARMLESS_STDLIB or value.__name__.startswith("torch.backends"):
        return Verdict(Level.OK, "a module")
    return Verdict(Level.LOOK, "a module, no class or function")


def module_danger(name: str) -> str:
    """Why a module, or one that it is part of, is dangerous; empty where it is not."""
    parts = name.split(".")
    for i in range(1, len(parts) + 1):
        prefix = ".".join(parts[:i])
        if prefix in policy.DANGEROUS_MODULES and prefix != "builtins":
            return policy.DANGEROUS_MODULES[prefix]
    return ""


def _genuine(home: str) -> bool:
    """Whether an object's module is a loaded one of the inspected packages or of the standard library."""
    return home in sys.modules and home.split(".", maxsplit=1)[0] in {*policy.PACKAGES, *STDLIB}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _changes_an_object(value: Any) -> bool:
    """Whether it is a method, bound to something that a package holds, which changes that."""
    owner = getattr(value, "__self__", None)
    bound = owner is not None and not isinstance(owner, (ModuleType, type))
    return bound and getattr(value, "__name__", "") in MUTATORS


def _is_numpy_type(value: Any) -> bool:
    generic = look_up("numpy.generic")
    return inspect.isclass(value) and inspect.isclass(generic) and issubclass(value, generic)


def _is_tensor_function(value: Any) -> bool:
    home = look_up("torch._C._VariableFunctions")
    name = getattr(value, "__name__", "")
    return home is not MISSING and name != "from_file" and bool(name) and getattr(home, name, None) is value


def _is_plain(value: Any) -> bool:
    return type(value).__module__.split(".")[0] in {"torch", "numpy", "enum", "monai", "builtins", "ignite"}


def home_of(value: Any) -> str:
    """Name of the module that defines an object."""
    if isinstance(value, ModuleType):
        return value.__name__
    home = getattr(value, "__module__", None)
    if not isinstance(home, str):
        owner = getattr(value, "__self__", None) or getattr(value, "__objclass__", None) or type(value)
        home = owner.__name__ if isinstance(owner, ModuleType) else getattr(owner, "__module__", "")
    return home if isinstance(home, str) else ""


def name_of(found: Found) -> str:
    """What a name leads to, under the name of the place where it is defined."""
    value = found.object
    if found.kind != "object":
        return found.name
    if isinstance(value, ModuleType):
        return value.__name__
    name = getattr(value, "__qualname__", None)
    return f"{home_of(value)}.{name}" if isinstance(name, str) and home_of(value) else found.name
