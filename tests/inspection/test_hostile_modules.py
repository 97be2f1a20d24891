"""Harmless modules through which anything is reached, and other objects that are dangerous by what they lead to."""

import pytest
from planted import checked, evaluated, touch, write_config

from monai_lighter.inspection import Level, inspect

LOADER = {"_target_": "DataLoader", "dataset": [1], "num_workers": 1, "multiprocessing_context": "spawn"}


def through(expression, module="enum", **more):
    """A config with an expression that gives ``eval``, and what is planted for it."""
    return lambda m: {"i": f"$import {module}", **more, "a": f"${expression}(\"open({str(m)!r}, 'w')\")"}


def graph(marker):
    placeholder = f'$[@g.placeholder(\'x=open("{marker}", "w")\'), @g.output(None)]'
    module = "torch.ao.quantization.fx.graph_module.FusedGraphModule"
    network = {"_target_": "torch.nn.Identity"}
    made = {"_target_": module, "root": network, "graph": "@g", "preserved_attr_names": "$set(@h[:0])"}
    return {"g": {"_target_": "torch.fx.Graph"}, "h": placeholder, "a": made}


def formatter(called, m):
    return f"${called}.get_field('0.os.system', (glob,), {{}})[0]({touch(m)!r})"


HANDED_ON = "is handed on"
# name: (config from the marker, what the report must name)
CONFIGS = {
    "lambda": (through("(lambda m: m.bltns.vars(m.bltns)['ev' + 'al'])(enum)"), HANDED_ON),
    "default argument": (through("(lambda m=enum: m.bltns.vars(m.bltns)['ev' + 'al'])()"), HANDED_ON),
    "comprehension": (through("[m.bltns.vars(m.bltns)['ev' + 'al'] for m in [enum]][0]"), HANDED_ON),
    "walrus": (through("((m := enum), m.bltns.vars(m.bltns)['ev' + 'al'])[1]"), HANDED_ON),
    "item of a list": (through("[enum][0].bltns.vars([enum][0].bltns)['ev' + 'al']"), HANDED_ON),
    "item of a dictionary": (through("{1: enum}[1].bltns.vars({1: enum}[1].bltns)['ev' + 'al']"), HANDED_ON),
    "condition": (through("(enum if 1 else 0).bltns.vars((enum if 1 else 0).bltns)['ev' + 'al']"), HANDED_ON),
    "map": (through("[b.vars(b)['ev' + 'al'] for b in map(lambda m: m.bltns, [enum])][0]"), HANDED_ON),
    "module of a module": (through("(lambda m: m.enum.bltns.vars(m.enum.bltns)['ev' + 'al'])(re)", "re"), HANDED_ON),
    "list of another item": (through("@e[0].bltns.vars(@e[0].bltns)['ev' + 'al']", e="$[enum]"), HANDED_ON),
    "list of imports": (
        through("[m.bltns.vars(m.bltns)['ev' + 'al'] for m in @e][0]", e=["$import enum"]),
        HANDED_ON,
    ),
    "default of getattr": (through("getattr(1, 'none', eval)"), "builtins.eval"),
    "dataset of modules": (
        lambda m: {
            "f": {
                "_target_": "Lambda",
                "func": f"$lambda m: m.bltns.vars(m.bltns)['ev' + 'al'](\"open({str(m)!r}, 'w')\")",
            },
            "d": {"_target_": "Dataset", "data": ["$import enum"], "transform": "@f"},
            "a": "$@d[0]",
        },
        "d::data::0",
    ),
    "inner module": (
        lambda m: {
            "i": "$import pprint",
            "a": f"$(lambda m: m._dataclasses._create_fn('f', [], [\"open({str(m)!r}, 'w')\"]))(pprint)()",
        },
        "attribute ._dataclasses",
    ),
    "inner function": (
        lambda m: {"i": "$import uuid", "a": f"$(lambda m: m._get_command_stdout('touch', {str(m)!r}))(uuid)"},
        "attribute ._get_command_stdout",
    ),
    "formatter": (
        lambda m: {"i": "$import string", "g": "$import glob", "a": formatter("string.Formatter()", m)},
        "string.Formatter",
    ),
    "formatter as a target": (
        lambda m: {"g": "$import glob", "f": {"_target_": "string.Formatter"}, "a": formatter("@f", m)},
        "string.Formatter",
    ),
    "method of a formatter": (
        lambda m: {
            "i": "$import string",
            "g": "$import glob",
            "a": f"$string.Formatter.get_field(string.Formatter(), '0.os.system', (glob,), {{}})[0]({touch(m)!r})",
        },
        "string.Formatter.get_field",
    ),
    "bytes that are a pickle": (
        lambda m: {
            "l": LOADER,
            "a": f"$@l.multiprocessing_context.reducer.ForkingPickler.loads(b'cos\\nsystem\\n(S\"touch {m}\"\\ntR.')",
        },
        "a pickle: os.system",
    ),
    "subclass": (graph, "FusedGraphModule"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_found_and_not_fired(name, tmp_path):
    make, named = CONFIGS[name]
    checked(write_config(tmp_path / "bundle", make(tmp_path / "marker")), tmp_path / "marker", named)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_planted_effect_is_real(name, tmp_path):
    root = write_config(tmp_path / "bundle", CONFIGS[name][0](tmp_path / "marker"))
    evaluated(root, "i", "g", "h", "a")
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("expression", "level"),
    [
        ("$enum.Enum", Level.OK),
        ("$@m.Enum", Level.OK),
        ("$@mods[0].Enum", Level.OK),
        ("$@m", Level.OK),
        ("$hasattr(torch, 'compile')", Level.OK),
        ("$getattr(monai.losses, 'DiceLoss')()", Level.OK),
        ("$setattr(torch.backends.cudnn, 'benchmark', True)", Level.OK),
        ("$(lambda b: b)(torch.backends.cudnn)", Level.DANGER),
        ("$len(@mods)", Level.DANGER),
        ("$'%s' % torch", Level.DANGER),
        ("$@network._modules", Level.DANGER),
        ("$@network.loads(1)", Level.DANGER),
        ("$@l.multiprocessing_context.Pool()", Level.DANGER),
        ("$@network(1)(2)", Level.OK),
        ("$@fs[0](1)", Level.OK),
        ("$@fs[-1](1)", Level.OK),
        ("$list(@fs)[0](1)", Level.LOOK),
        ("$[f for f in [1]][0](1)", Level.LOOK),
        ("$[b'cos\\n', b'\\x80\\x04', b'abc']", Level.OK),
        ("$[0 for os.environ['LD_PRELOAD'] in ['./x']]", Level.DANGER),
        ("$[0 for glob.glob in [print]]", Level.DANGER),
        ("$[0 for (a, [*@network.x]) in []]", Level.DANGER),
        ("$[0 for x in [1]]", Level.OK),
        ("$(x := 1)", Level.OK),
    ],
)
def test_expressions(expression, level, tmp_path):
    config = {
        "imports": [f"$import {name}" for name in ("os", "glob", "enum")],
        "m": "$enum",
        "mods": ["$import enum"],
        "fs": [1],
        "network": {"_target_": "UNet"},
        "l": LOADER,
        "a": expression,
    }
    assert max(entry.level for entry in inspect(write_config(tmp_path, config)).entries if entry.id == "a") == level


@pytest.mark.parametrize(
    "given",
    [
        "$enum",
        "$import enum",
        "@imports",
        "@imports::0",
        "%imports",
        "$@imports",
        ["$enum"],
        {"x": "@c::_requires_::0"},
    ],
)
def test_modules_that_are_given_to_a_component(given, tmp_path):
    component = {"_target_": "torch.nn.Identity", "_requires_": ["$import glob"]}
    config = {"imports": ["$import enum"], "c": component, "d": {"_target_": "Dataset", "data": given}}
    report = inspect(write_config(tmp_path, config))
    assert {entry.id.split("::")[0] for entry in report.at(Level.DANGER)} == {"d"}, str(report)


def test_imports_beside_a_component_that_is_written_by_its_path(tmp_path):
    config = {"imports": ["$import enum"], "d": {"data": [1]}, "d::_target_": "Dataset"}
    assert inspect(write_config(tmp_path, config)).level is Level.OK
    assert inspect(write_config(tmp_path, {**config, "d::data": ["$enum"]})).level is Level.DANGER


def test_a_list_of_modules_in_one_file_and_a_function_in_another(tmp_path):
    root = write_config(tmp_path, {"i": "$import glob", "x": "$glob.glob"}, "configs/a.json")
    write_config(root, {"x": ["$import enum"], "a": "$[m for m in @x]"}, "configs/b.json")
    assert any("enum is handed on" in entry.why for entry in inspect(root).at(Level.DANGER))
