"""Hostile configs, each with an effect that leaves a marker file when it fires."""

import contextlib
import json
import warnings
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_lighter.inspection import Level, Report, inspect


def touch(marker: Path) -> str:
    return f"touch '{marker}'"


def write(marker: Path) -> str:
    return f"open({str(marker)!r}, 'w').close()"


# name: (config from the marker, id whose evaluation fires it, what the report must name)
CONFIGS = {
    "target": (lambda m: {"a": {"_target_": "os.system", "command": touch(m)}}, "a", "posix.system"),
    "target in a package": (lambda m: {"a": {"_target_": "torch.os.system", "command": touch(m)}}, "a", "posix.system"),
    "target in monai": (
        lambda m: {"a": {"_target_": "monai.config.deviceconfig.os.system", "command": touch(m)}},
        "a",
        "posix.system",
    ),
    "target with dots": (lambda m: {"a": {"_target_": "os..system", "command": touch(m)}}, "a", "posix.system"),
    "target of numpy": (
        lambda m: {"a": {"_target_": "numpy.testing._private.utils.runstring", "astr": write(m), "dict": {}}},
        "a",
        "runstring",
    ),
    "process": (lambda m: {"a": {"_target_": "subprocess.call", "args": ["touch", str(m)]}}, "a", "subprocess.call"),
    "alias of a process": (
        lambda m: {"a": {"_target_": "monai.utils.misc.subprocess.check_output", "args": ["touch", str(m)]}},
        "a",
        "subprocess.check_output",
    ),
    "short name": (lambda m: {"a": {"_target_": "run_cmd", "cmd_list": ["touch", str(m)]}}, "a", "run_cmd"),
    "callable mode": (
        lambda m: {"f": {"_target_": "os.system", "_mode_": "callable", "command": touch(m)}, "a": "$@f()"},
        "a",
        "posix.system",
    ),
    "nested target": (
        lambda m: {
            "a": {
                "_target_": "torch.utils.data.DataLoader",
                "dataset": [{"_target_": "os.system", "command": touch(m)}],
            }
        },
        "a",
        "posix.system",
    ),
    "disabled by expression": (
        lambda m: {"a": {"_target_": "torch.nn.Identity", "_disabled_": f"$__import__('os').system({touch(m)!r})"}},
        "a",
        "__import__",
    ),
    "requires": (
        lambda m: {"a": {"_target_": "torch.nn.Identity", "_requires_": [f"$torch.os.system({touch(m)!r})"]}},
        "a",
        "posix.system",
    ),
    "target by reference": (
        lambda m: {"f": "os.system", "a": {"_target_": "@f", "command": touch(m)}},
        "a",
        "posix.system",
    ),
    "target by macro": (
        lambda m: {"f": "os.system", "a": {"_target_": "%f", "command": touch(m)}},
        "a",
        "posix.system",
    ),
    "target by expression": (
        lambda m: {"a": {"_target_": "$torch.os.system", "command": touch(m)}},
        "a",
        "posix.system",
    ),
    "computed target": (
        lambda m: {"a": {"_target_": "$'.'.join(['os', 'system'])", "command": touch(m)}},
        "a",
        "computed when the config runs",
    ),
    "relative reference": (
        lambda m: {"x": {"f": "os.system", "a": {"_target_": "@##f", "command": touch(m)}}},
        "x::a",
        "posix.system",
    ),
    "reader by name": (
        lambda m: {"a": {"_target_": "LoadImage", "reader": "subprocess.Popen", "args": ["touch", str(m)]}},
        "a",
        "subprocess.Popen",
    ),
    "open": (lambda m: {"a": {"_target_": "open", "file": str(m), "mode": "w"}}, "a", "writes a file"),
    "builtin": (lambda m: {"f": {"_target_": "eval", "_mode_": "callable"}, "a": f"$@f({write(m)!r})"}, "a", "eval"),
    "expression": (lambda m: {"a": f"$__import__('os').system({touch(m)!r})"}, "a", "__import__"),
    "expression by alias": (
        lambda m: {"i": ["$import os as glob"], "a": f"$glob.system({touch(m)!r})"},
        "a",
        "posix.system",
    ),
    "expression by from-import": (
        lambda m: {"i": "$from os import system as sorted", "a": f"$sorted({touch(m)!r})"},
        "a",
        "posix.system",
    ),
    "imported module by reference": (
        lambda m: {"i": ["$import os"], "a": f"$@i#0.system({touch(m)!r})"},
        "a",
        "posix.system",
    ),
    "function by reference": (lambda m: {"f": "$torch.os.system", "a": f"$@f({touch(m)!r})"}, "a", "posix.system"),
    "getattr": (
        lambda m: {"a": f"$getattr(getattr(torch, 'o' + 's'), 'system')({touch(m)!r})"},
        "a",
        "getattr with a computed name",
    ),
    "getattr, constant": (lambda m: {"a": f"$getattr(torch, 'os').system({touch(m)!r})"}, "a", "os"),
    "inner attributes": (
        lambda m: {
            "a": "$[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0]"
            f".__init__.__globals__['system']({touch(m)!r})"
        },
        "a",
        "__subclasses__",
    ),
    "lambda": (lambda m: {"a": f"$(lambda o: o.system({touch(m)!r}))(torch.os)"}, "a", ".system"),
    "methodcaller": (
        lambda m: {"i": "$import operator", "a": f"$operator.methodcaller('system', {touch(m)!r})(torch.os)"},
        "a",
        "methodcaller",
    ),
    "comprehension": (
        lambda m: {"a": f"$[f({touch(m)!r}) for f in [monai.utils.misc.subprocess.getoutput]]"},
        "a",
        "subprocess.getoutput",
    ),
    "hidden by a local name": (
        lambda m: {"a": f"$((lambda eval: 0), eval({write(m)!r}))"},
        "a",
        "eval",
    ),
    "wide letters": (
        lambda m: {"a": f"$torch.\uff4f\uff53.\uff53\uff59\uff53\uff54\uff45\uff4d({touch(m)!r})"},
        "a",
        "posix.system",
    ),
    "hash sign": (
        lambda m: {"a": f"$[torch.os.system({touch(m)!r})][0#]"},
        "a",
        "posix.system",
    ),
    "reference in quotes": (
        lambda m: {"and": 0, "a": f"$'@and' and torch.os.system({touch(m)!r})"},
        "a",
        "posix.system",
    ),
    "import_module": (
        lambda m: {"a": f"$monai.utils.module.import_module('os').system({touch(m)!r})"},
        "a",
        "import_module",
    ),
    "optional_import": (
        lambda m: {"a": f"$monai.utils.optional_import('os')[0].system({touch(m)!r})"},
        "a",
        "optional_import",
    ),
    "instantiate": (
        lambda m: {"a": f"$monai.utils.instantiate('os.system', 'default', command={touch(m)!r})"},
        "a",
        "instantiate",
    ),
    "another config": (
        lambda m: {"a": "$monai.bundle.ConfigParser({'x': '$' + \"" + write(m).replace("'", "\\'") + '"}).x'},
        "a",
        "ConfigParser",
    ),
    "open for writing": (lambda m: {"a": f"$open({str(m)!r}, 'w')"}, "a", "writes a file"),
    "open with a mode that is computed": (lambda m: {"a": f"$open({str(m)!r}, chr(119))"}, "a", "writes a file"),
    "key with a path": (
        lambda m: {"a": {"command": touch(m)}, "a::_target_": "os.system"},
        "a",
        "posix.system",
    ),
    "functools.partial": (
        lambda m: {"i": "$import functools", "a": f"$functools.partial(torch.os.system, {touch(m)!r})()"},
        "a",
        "posix.system",
    ),
    "setattr": (
        lambda m: {"a": f"$(setattr(torch, 'zeros', torch.os.system), torch.zeros({touch(m)!r}))"},
        "a",
        "setattr",
    ),
}


def write_config(root: Path, config: dict, name: str = "configs/inference.json") -> Path:
    """A bundle whose config is the given one."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config))
    return root


def evaluated(root: Path, *ids: str) -> Any:
    """The value of the last of some items under MONAI, if it has one; what is planted in them fires."""
    parser, value = ConfigParser(), None
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        parser.read_config(root / "configs/inference.json")
        for id in ids:
            value = parser.get_parsed_content(id) if id in parser else None
    return value


def checked(bundle: Path, marker: Path, *named: str) -> Report:
    """The report on a bundle, after nothing of it fired and each of the texts stands in a line that says danger."""
    report = inspect(bundle)
    assert not marker.exists()
    found = [f"{entry.kind} {entry.file} {entry.id} {entry.what} {entry.why}" for entry in report.at(Level.DANGER)]
    for name in named:
        assert any(name in text for text in found), str(report)
    assert report.exit_code == 2
    return report
