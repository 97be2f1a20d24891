"""Hostile configs that reach what they run by a detour: each fires under MONAI, never under `inspect`, and is named."""

import pytest
from planted import checked, evaluated, touch, write_config

from monai_lighter.inspection import Level, inspect


def pickled(marker):
    return list(f"cos\nsystem\n(S'touch {marker}'\ntR.".encode())


def located(reader, marker):
    return {"_target_": "LoadImaged", "keys": "x", "reader": reader, "args": ["touch", str(marker)]}


# name: (config from the marker, what the report must name)
CONFIGS = {
    "second alias": (
        lambda m: {"i": ["$import subprocess as s, json as s"], "a": f"$s.run(['touch', {str(m)!r}])"},
        "subprocess",
    ),
    "second statement": (
        lambda m: {"i": ["$import subprocess as s; import json as s"], "a": f"$s.run(['touch', {str(m)!r}])"},
        "subprocess",
    ),
    "relative import": (
        lambda m: {"i": "$from .subprocess import run as s", "a": f"$s(['touch', {str(m)!r}])"},
        "subprocess.run",
    ),
    "modules in a list": (
        lambda m: {
            "mods": ["$import os", "$import builtins"],
            "a": f"$@mods[1].getattr(@mods[0], 'sys' + 'tem')({touch(m)!r})",
        },
        "getattr",
    ),
    "module of a list": (
        lambda m: {"mods": ["$import os"], "a": f"$@mods[-1].close(@mods[-1].open({str(m)!r}, 64))"},
        "module os",
    ),
    "modules handed on": (
        lambda m: {"mods": ["$import os"], "more": {"x": "@mods"}, "a": f"$[o.mkdir({str(m)!r}) for o in @more['x']]"},
        "module os",
    ),
    "reader in an expression": (
        lambda m: {"a": f"$monai.transforms.LoadImage(reader='subprocess.Popen', args=['touch', {str(m)!r}])"},
        "subprocess.Popen",
    ),
    "reader by position": (
        lambda m: {"a": f"$monai.transforms.LoadImage('sub' + 'process.Popen', args=['touch', {str(m)!r}])"},
        "looked up by its name",
    ),
    "reader by keywords": (
        lambda m: {
            "a": "$monai.transforms.LoadImage(**{'rea' + 'der': 'sub' + 'process.Popen', 'args': "
            f"['touch', {str(m)!r}]}})"
        },
        "looked up by its name",
    ),
    "computed reader": (lambda m: {"a": located("$'sub' + 'process.Popen'", m)}, "looked up by its name"),
    "computed reader by reference": (
        lambda m: {"t": "$'sub' + 'process.Popen'", "a": located("@t", m)},
        "looked up by its name",
    ),
    "pickle in a pipe": (
        lambda m: {
            "d": {
                "_target_": "torch.utils.data.datapipes.iter.RoutedDecoder",
                "datapipe": f"$[('x.pickle', bytes({pickled(m)}))]",
            },
            "a": "$list(@d)",
        },
        "decodes pickles",
    ),
    "pickle for a decoder": (
        lambda m: {
            "a": f"$torch.utils.data.datapipes.utils.decoder.basichandlers('pickle', bytes({pickled(m)}))",
        },
        "decodes pickles",
    ),
    "pickle in a tensor": (
        lambda m: {
            "a": "$torch.distributed.distributed_c10d._tensor_to_object("
            f"torch.tensor({pickled(m)}, dtype=torch.uint8), {len(pickled(m))}, None)"
        },
        "loads pickles",
    ),
    "inner function": (
        lambda m: {"i": "$import uuid", "a": f"$uuid._get_command_stdout('touch', {str(m)!r})"},
        "inner function of uuid",
    ),
    "log file": (
        lambda m: {"i": "$import logging", "a": f"$logging.basicConfig(filename={str(m)!r}, force=True)"},
        "logging.basicConfig",
    ),
    "mode by keyword": (lambda m: {"i": "$from pathlib import Path", "a": f"$Path({str(m)!r}).open(mode='w')"}, "open"),
    "starred open": (lambda m: {"a": f"$open(*[{str(m)!r}, 'w'])"}, "open"),
    "open handed on": (lambda m: {"a": f"$list(map(open, [{str(m)!r}], ['w']))"}, "open"),
    "moved file": (
        lambda m: {
            "i": "$from pathlib import Path",
            "a": f"$Path({str(m.parent / 'bundle/victim')!r}).replace({str(m)!r})",
        },
        ".replace(...) with one argument",
    ),
    "moved file, by getattr": (
        lambda m: {
            "i": "$from pathlib import Path",
            "a": f"$getattr(Path({str(m.parent / 'bundle/victim')!r}), 'replace')({str(m)!r})",
        },
        ".replace(...) with one argument",
    ),
    "storage in a file": (
        lambda m: {"a": f"$torch.zeros(4).untyped_storage().from_file({str(m)!r}, True, 16).fill_(65)"},
        "from_file",
    ),
}


def planted(name, tmp_path):
    make, named = CONFIGS[name]
    marker = tmp_path / "marker"
    root = write_config(tmp_path / "bundle", make(marker))
    (root / "victim").write_text("x")
    return root, marker, named


@pytest.mark.parametrize("name", CONFIGS)
def test_found_and_not_fired(name, tmp_path):
    root, marker, named = planted(name, tmp_path)
    checked(root, marker, named)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_planted_effect_is_real(name, tmp_path):
    root, marker, _ = planted(name, tmp_path)
    value = evaluated(root, "i", "a")
    for reader in getattr(value, "readers", getattr(getattr(value, "_loader", None), "readers", ())):
        if hasattr(reader, "wait"):
            reader.wait()
    assert marker.exists()


@pytest.mark.parametrize(
    ("expression", "level"),
    [
        ("$json.run(1)", Level.LOOK),
        ("$json.loads('1')", Level.OK),
        ("$torch.backends.xeon.run_cpu._Launcher()", Level.DANGER),
        ("$uuid.os.getpid()", Level.LOOK),
        ("$uuid.os.system('x')", Level.DANGER),
        ("$[json][0].codecs.sys", Level.DANGER),
        ("$(lambda j: j.os.remove('x'))(json)", Level.DANGER),
        ("$logging.basicConfig(level=10)", Level.OK),
        ("$logging.config.dictConfig({})", Level.DANGER),
        ("$logging.handlers.RotatingFileHandler('x')", Level.DANGER),
        ("$os.environ.update(LD_PRELOAD='x.so')", Level.LOOK),
        ("$os.environ.setdefault('A', 'b')", Level.LOOK),
        ("$os.environ.pop('A')", Level.LOOK),
        ("$os.environ.clear()", Level.LOOK),
        ("$os.environ.__setitem__('A', 'b')", Level.DANGER),
        ("$os.putenv('A', 'b')", Level.DANGER),
        ("$dict.update(os.environ, A='b')", Level.LOOK),
        ("$os.environ.get('A', 'b')", Level.OK),
        ("$'a_b'.replace('_', ' ')", Level.OK),
        ("$@names[0].replace('_', ' ')", Level.OK),
        ("$@mods[0].getcwd()", Level.OK),
        ("$@mods[0].remove('x')", Level.DANGER),
        ("$[x.upper() for x in @names]", Level.OK),
        ("$monai.transforms.LoadImage(reader=monai.data.NibabelReader)", Level.OK),
        ("$monai.transforms.LoadImage(reader=monai.data.NibabelReader())", Level.OK),
        ("$monai.transforms.LoadImage(reader=@readers[0])", Level.OK),
        ("$monai.transforms.LoadImage(reader=@readers[1])", Level.DANGER),
        ("$functools.partial(monai.transforms.LoadImage, @names[0] + '.Popen')", Level.DANGER),
        ("$@loader(reader='sub' + 'process.Popen')", Level.DANGER),
    ],
)
def test_expressions(expression, level, tmp_path):
    config = {
        "imports": [f"$import {name}" for name in ("os", "uuid", "json", "logging", "functools")],
        "mods": ["$import os"],
        "names": ["subprocess", "x"],
        "readers": ["NibabelReader", "subprocess.Popen"],
        "loader": {"_target_": "LoadImage", "_mode_": "callable"},
        "a": expression,
    }
    assert max(entry.level for entry in inspect(write_config(tmp_path, config)).entries if entry.id == "a") == level


def test_a_name_bound_twice_in_a_script(tmp_path):
    root = write_config(tmp_path / "bundle", {"a": 1})
    (root / "scripts.py").write_text("import subprocess as s\ns.run(['touch', 'x'])\nimport json as s\n")
    checked(root, tmp_path / "marker", "subprocess.run")


def test_written_by_an_argument_of_a_call(tmp_path):
    root = write_config(
        tmp_path,
        {
            "a": "$monai.transforms.SaveImage(output_dir='/home/you/thesis')",
            "b": "$monai.transforms.SaveImage('/home/you/thesis')",
            "c": "$glob.glob('/data/in/*')",
        },
    )
    entries = {entry.id: entry for entry in inspect(root).entries if entry.kind == "path"}
    assert {id: entry.why.split()[0] for id, entry in entries.items()} == {"a": "written", "b": "written", "c": "read"}
    assert [entries[id].level for id in "abc"] == [Level.LOOK, Level.LOOK, Level.OK]


@pytest.mark.parametrize(
    ("file", "more", "described"),
    [
        ("configs/metadata.json", {}, True),
        ("configs/metadata_infer.json", {}, False),
        ("configs/metadata.json", {"s": {"_target_": "SaveImage"}}, False),
        ("configs/metadata.json", {"s": "$1"}, False),
    ],
)
def test_only_metadata_that_describes_is_exempt(file, more, described, tmp_path):
    root = write_config(tmp_path, {"output_dir": "/home/you/thesis", "url": "http://example.com/", **more}, file)
    levels = {entry.id: entry.level for entry in inspect(root).entries if entry.id in ("output_dir", "url")}
    assert levels == ({"url": Level.OK} if described else {"output_dir": Level.LOOK, "url": Level.LOOK})
