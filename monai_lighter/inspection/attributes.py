"""Attributes and methods that say something of themselves, whatever the object is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from monai_lighter.inspection.policy import DANGEROUS
from monai_lighter.inspection.report import Level, Verdict

__all__ = [
    "CALLED",
    "DANGEROUS_ATTRIBUTES",
    "HARMLESS_DUNDERS",
    "MUTATORS",
    "WRITING",
    "method_verdicts",
    "open_verdict",
]


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


HARMLESS_DUNDERS = _words("__version__ __name__ __len__ __doc__ __main__ __init__ __call__ __getitem__")
ORDINARY = _words(
    "abort call compile copy eval exec instantiate kill link load load_state_dict locate move open remove rename replace stack",
    "touch truncate write",
)
"""Methods of usual objects that have the name of something dangerous."""
DANGEROUS_ATTRIBUTES = (
    _words(
        "Popen check_output check_call getoutput getstatusoutput load_module exec_module run_path run_module urlopen urlretrieve",
        "f_globals f_locals f_builtins f_back gi_frame cr_frame ag_frame tb_frame gi_code cr_code ag_code co_code",
        "func_globals to_pickle loads",
        "_set_from_file _write_file _load_from_bytes reducer ForkingPickler Unpickler os posix sys builtins bltns subprocess",
        "importlib shutil pickle ctypes socket runpy pty",
    )
    | {name.rpartition(".")[2] for name in DANGEROUS}
) - ORDINARY
"""Attributes that are dangerous on an object that is not known: among them modules that others import for themselves."""
WRITING = re.compile(
    r"save(fig|txt|z\w*|_(checkpoint|model|weights|pretrained|state|image|to\w*|as|file))?|write(lines|_\w+)?|dump(_\w+)?|export(_\w+)?|touch|"
    r"mkdir|makedirs|tofile|rename|truncate|to_(csv|json|html|xml|excel|parquet|hdf|sql|feather|latex|markdown|onnx|torchscript|"
    r"filename|tensorrt)"
)
"""Attributes of an object that is not known that may write a file."""
MUTATORS = _words("update setdefault pop popitem clear append extend insert remove add discard __setitem__ __delitem__")
"""Methods that change a dictionary, a list or a set."""
WITH_TEXT = _words("eval query exec")
"""Methods that run the text they are given, and are harmless without (``network.eval()``)."""
MOVING = {"replace": "target", "rename": "target"}
"""Methods that move a file with one argument, of that name; with two, or a mapping, they are others (``str.replace``)."""
CALLED = frozenset({*WITH_TEXT, *MOVING, "open"})
"""Methods whose arguments say whether they are dangerous."""


def method_verdicts(call: ast.Call) -> Iterator[Verdict]:
    """What a call does that is a method of an object that is not known."""
    if not isinstance(call.func, ast.Attribute):
        return
    name = call.func.attr
    call = ast.Call(call.func, list(_spread(call.args)), call.keywords)
    given = [*call.args, *call.keywords]
    if name in WITH_TEXT and given:
        yield Verdict(Level.DANGER, f".{name}(...): runs code given as text")
    elif name in MOVING and _is_one(call, MOVING[name]):
        yield Verdict(Level.DANGER, f".{name}(...) with one argument: moves a file, and overwrites another")
    elif name == "open" and given:
        yield open_verdict(ast.Call(call.func, [call.func, *call.args], call.keywords))


def _spread(arguments: list[ast.expr]) -> Iterator[ast.expr]:
    """The arguments of a call, those of a starred literal one by one."""
    for argument in arguments:
        if isinstance(argument, ast.Starred) and isinstance(argument.value, (ast.Tuple, ast.List)):
            yield from _spread(argument.value.elts)
        else:
            yield argument


def _is_one(call: ast.Call, argument: str) -> bool:
    if any(isinstance(given, ast.Starred) for given in call.args):
        return True
    if len(call.args) + len(call.keywords) != 1:
        return False
    if call.keywords:
        return call.keywords[0].arg in (argument, None)
    given = call.args[0]
    is_none = isinstance(given, ast.Constant) and given.value is None
    return not is_none and not isinstance(given, (ast.Dict, ast.DictComp, ast.Lambda))


def open_verdict(call: ast.Call) -> Verdict:
    """What a call of ``open`` does, by its mode."""
    starred = any(isinstance(argument, ast.Starred) for argument in call.args)
    modes = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg in ("mode", None))]
    if not starred and all(isinstance(mode, ast.Constant) and set(str(mode.value)) <= set("rbt") for mode in modes):
        return Verdict(Level.LOOK, "open: reads a file")
    return Verdict(Level.DANGER, "open: writes a file, or may")
