"""Hostile configs: what they plant fires under MONAI, never under `inspect`, and is named in the report."""

import pytest
from planted import CONFIGS, evaluated, touch, write_config

from monai_lighter.inspection import Level, inspect


def config_of(name, tmp_path):
    make, id, named = CONFIGS[name]
    marker = tmp_path / "marker"
    return write_config(tmp_path / "bundle", make(marker)), marker, id, named


@pytest.mark.parametrize("name", CONFIGS)
def test_found_and_not_fired(name, tmp_path):
    bundle, marker, _, named = config_of(name, tmp_path)
    report = inspect(bundle)
    assert not marker.exists()
    assert report.exit_code == 2, str(report)
    assert any(named in f"{entry.what} {entry.why}" for entry in report.at(Level.DANGER)), str(report)


UNABLE = {"setattr"}
"""Would change this process."""


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - UNABLE))
def test_the_planted_effect_is_real(name, tmp_path):
    bundle, marker, id, _ = config_of(name, tmp_path)
    value = evaluated(bundle, id)
    if hasattr(value, "wait"):
        value.wait()
    assert marker.exists() or name == "reader by name"


def dangers(report):
    return [f"{entry.kind} {entry.file} {entry.id} {entry.what} {entry.why}" for entry in report.at(Level.DANGER)]


def test_imports_of_the_bundle_are_named_and_not_done(tmp_path):
    marker = tmp_path / "marker"
    root = write_config(tmp_path / "bundle", {"imports": ["$import evil", "$from scripts import more"]})
    (root / "evil.py").write_text(f"import os\nos.system({touch(marker)!r})\n")
    (root / "scripts").mkdir()
    (root / "scripts/more.py").write_text(f"import subprocess as s\ns.run(['touch', {str(marker)!r}])\n")
    report = inspect(root)
    assert not marker.exists()
    assert [e.group for e in report.entries if e.kind == "import"] == ["import", "import"]
    assert any("evil.py" in text and "posix.system" in text for text in dangers(report))
    assert any("scripts/more.py" in text and "subprocess.run" in text for text in dangers(report))


def test_metadata_is_a_config(tmp_path):
    root = write_config(tmp_path, {"version": "1", "task": "$torch.os.system('x')"}, "configs/metadata.json")
    assert any("configs/metadata.json task" in text for text in dangers(inspect(root)))


def test_modules_that_stand_in_the_way(tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    root = write_config(tmp_path / "bundle", {"imports": ["$import glob"]})
    for name in ("glob.py", "sitecustomize.py", "torchmetrics/__init__.py", "ignite/__init__.py"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(f"open({str(marker)!r}, 'w').close()")
    monkeypatch.chdir(root)
    found = dangers(inspect("."))
    assert not marker.exists()
    for name in ("'glob'", "sitecustomize.py", "'torchmetrics'", "'ignite'"):
        assert any(name in text for text in found)


def test_macros_that_read_other_files(tmp_path):
    config = {
        "a": "%/etc/hosts.json::x",
        "b": "%../other.yaml::y",
        "c": "%~/c.yml",
        "d": "%parts.json::net",
        "e": "%no.json::x",
    }
    root = write_config(tmp_path / "bundle", config)
    write_config(root, {"net": "os.system"}, "parts.json")
    report = inspect(root)
    by_id = {entry.id: entry for entry in report.entries if entry.kind == "macro"}
    assert [by_id[id].level for id in "abcde"] == [Level.DANGER] * 3 + [Level.OK, Level.LOOK]


def test_a_target_in_another_file(tmp_path):
    root = write_config(tmp_path, {"a": {"_target_": "%parts.json::net", "command": "true"}})
    write_config(root, {"net": "os.system"}, "parts.json")
    assert any("posix.system" in text for text in dangers(inspect(root)))


def test_debugger(tmp_path):
    root = write_config(
        tmp_path, {"a": {"_target_": "UNet", "_mode_": "debug"}, "b": {"_target_": "UNet", "_debug_": True}}
    )
    (root / ".pdbrc").write_text("import os")
    assert len([text for text in dangers(inspect(root)) if "pdbrc" in text]) == 3


@pytest.mark.parametrize(
    ("arguments", "level"),
    [
        ({"_target_": "torch.load", "f": "x.pt"}, Level.LOOK),
        ({"_target_": "torch.load", "f": "x.pt", "pickle_module": "x"}, Level.DANGER),
        ({"_target_": "torch.load", "f": "x.pt", "weights_only": False}, Level.DANGER),
        ({"_target_": "torch.load", "f": "x.pt", "weights_only": "$1 > 2"}, Level.DANGER),
        ({"_target_": "torch.load", "f": "x.pt", "weights_only": True}, Level.OK),
        ({"_target_": "numpy.load", "file": "x.npy"}, Level.OK),
        ({"_target_": "numpy.load", "file": "x.npy", "allow_pickle": True}, Level.DANGER),
        ({"_target_": "NumpyReader", "allow_pickle": True}, Level.DANGER),
        ({"_target_": "PersistentDataset", "data": [], "transform": None, "weights_only": False}, Level.DANGER),
    ],
)
def test_what_makes_loading_safe(arguments, level, tmp_path):
    root = write_config(tmp_path, {"a": arguments})
    entries = [entry for entry in inspect(root).entries if entry.kind == "target"]
    assert max(entry.level for entry in entries) == level


@pytest.mark.parametrize(
    ("expression", "level"),
    [
        ("$torch.load('x.pt')", Level.LOOK),
        ("$torch.load('x.pt', None, @x)", Level.DANGER),
        ("$torch.load('x.pt', pickle_module=@x)", Level.DANGER),
        ("$torch.load('x.pt', **@x)", Level.DANGER),
        ("$list(map(torch.load, ['x.pt']))", Level.DANGER),
        ("$torch.load('x.pt', weights_only=True)", Level.OK),
        ("$torch.load('x.pt', **{'weights_only': False})", Level.DANGER),
        ("$np.load('x.npy')", Level.OK),
        ("$np.load('x.npy', None, True)", Level.DANGER),
        ("$np.load('x.npy', allow_pickle=True)", Level.DANGER),
        ("$@network.eval()", Level.OK),
        ("$@table.eval('x')", Level.DANGER),
        ("$setattr(torch.backends.cudnn, 'benchmark', True)", Level.OK),
        ("$setattr(torch.serialization, 'x', True)", Level.DANGER),
        ("$type('x', (), {})", Level.DANGER),
        ("$type(@x)", Level.OK),
        ("$open('x')", Level.LOOK),
        ("$os.path.join('a', 'b')", Level.OK),
        ("$os.environ['RANK']", Level.OK),
        ("$[os]", Level.DANGER),
        ("$1 +", Level.LOOK),
        ("$" + "(" * 500 + ")" * 500, Level.LOOK),
        ("$x = 1", Level.LOOK),
        ("$'{0.__class__}'.format(1)", Level.DANGER),
        ("$torch.hub.load('a', 'b')", Level.DANGER),
        ("$monai.bundle.run('x')", Level.DANGER),
        ("$monai.utils.set_determinism(seed=1)", Level.OK),
    ],
)
def test_expressions(expression, level, tmp_path):
    root = write_config(tmp_path, {"imports": ["$import os"], "x": 1, "network": {}, "table": {}, "a": expression})
    assert max(entry.level for entry in inspect(root).entries if entry.id == "a") == level


@pytest.mark.parametrize(
    "target", ["pandas.read_pickle", "yaml.unsafe_load", "codecs.open", "io.FileIO", "stranger.run_module"]
)
def test_packages_that_are_not_inspected_by_name(target, tmp_path):
    root = write_config(
        tmp_path,
        {"a": {"_target_": target}, "b": f"$import {target.split('.')[0]} as x", "c": f"$x.{target.split('.')[1]}"},
    )
    assert {entry.id: entry.level for entry in inspect(root).at(Level.DANGER)}.keys() == {"a::_target_", "c"}


def test_groups(tmp_path):
    config = {"a": "$@b + 1", "b": "$len('x')", "c": "$import glob", "d": "$eval('1')", "e": "$import subprocess"}
    report = inspect(write_config(tmp_path, config))
    assert [entry.group for entry in report.entries] == ["plain", "call", "import", "dangerous", "dangerous"]
    assert [entry.kind for entry in report.entries][2::2] == ["import", "import"]


def test_places(tmp_path):
    config = {
        "output_dir": "/data/out",
        "handlers": [{"_target_": "CheckpointSaver", "save_dir": "../../elsewhere"}],
        "dataset_dir": "/data/in",
        "key": "/home/me/.ssh/id_rsa",
        "startup": "$@bundle_root + '/../../.bashrc'",
        "server": "http://example.com/upload",
        "project": "../stranger",
    }
    report = inspect(write_config(tmp_path, config))
    by_id = {entry.id: entry.level for entry in report.entries if entry.kind in ("path", "url", "import")}
    assert by_id == {
        "output_dir": Level.LOOK,
        "handlers::0::save_dir": Level.LOOK,
        "dataset_dir": Level.OK,
        "key": Level.DANGER,
        "startup": Level.DANGER,
        "server": Level.LOOK,
        "project": Level.DANGER,
    }


def test_large_files(tmp_path):
    entries = [
        {"path": "../../x.py", "url": "https://e.org/x"},
        {"path": "models/m.pt", "url": "https://e.org/m", "hash_val": "1"},
    ]
    report = inspect(write_config(tmp_path, {"large_files": entries}, "large_files.json"))
    assert any("../../x.py" in text for text in dangers(report))
    assert {
        "no hash" in e.why
        for e in report.entries
        if e.kind == "url" and e.id.startswith("large_files::") and e.why != "network"
    } == {
        True,
        False,
    }
