"""What usual bundles hold, and is not dangerous."""

import gzip
import json
import zipfile

import pytest
from planted import write_config

from monai_lighter.inspection import Level, inspect

UNIT_TEST = "import unittest\nclass T(unittest.TestCase):\n    def test(self): pass\nunittest.main()\n"
TAGGED = "a: !!python/name:material.emoji x\n"
APPLE = b"\0\5\x16\7" + bytes(50)


def test_zip_file_made_on_macos(tmp_path):
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("b/configs/train.json", json.dumps({"a": {"_target_": "scripts.net.Net"}}))
        archive.writestr("b/scripts/net.py", "x = 1")
        for name in ("b/configs/._train.json", "b/scripts/._net.py", "._b"):
            archive.writestr(f"__MACOSX/{name}", APPLE)
    report = inspect(tmp_path / "b.zip")
    assert report.exit_code == 1, str(report)
    assert sorted(entry.file for entry in report.at(Level.LOOK)) == ["configs/train.json", "scripts/net.py"]
    assert "the bundle's own code" in str(report)


def test_directories_in_a_zip_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for name in ("b/", "b/configs/", "b/docs/"):
            archive.writestr(name, "")
        archive.writestr("b/configs/train.json", "{}")
    assert inspect(tmp_path / "b.zip").exit_code == 0
    with zipfile.ZipFile(tmp_path / "b.zip", "a") as archive:
        archive.writestr("b/docs/x. ", "")
    assert "another meaning on Windows" in str(inspect(tmp_path / "b.zip"))


@pytest.mark.parametrize(
    ("code", "level"),
    [
        (UNIT_TEST, Level.LOOK),
        ("import doctest\ndoctest.testmod()", Level.LOOK),
        ("from monai.utils import optional_import\nnib, _ = optional_import('nibabel')", Level.LOOK),
        ("import importlib\nnib = importlib.import_module('nibabel')", Level.LOOK),
        ("from monai.utils import optional_import\nrun, _ = optional_import('subprocess')", Level.DANGER),
        ("from monai.utils import optional_import\nrun, _ = optional_import('a' + 'b')", Level.DANGER),
        ("from monai.utils import optional_import\nf = optional_import", Level.DANGER),
        ("from monai.utils import optional_import\noptional_import('nibabel', name='load')", Level.LOOK),
        ("from monai.utils import optional_import\noptional_import('os', name='system')", Level.DANGER),
        ("from monai.utils import optional_import\noptional_import('os', name='sys' + 'tem')", Level.DANGER),
        ("import torch\ntorch.load('x')", Level.LOOK),
        ("import torch\ntorch.load('x', weights_only=True)", Level.LOOK),
        ("import torch\ntorch.load('x', weights_only=False)", Level.DANGER),
        ("import torch, pickle\ntorch.load('x', pickle_module=pickle)", Level.DANGER),
        ("import torch, numpy\nprint(torch, numpy)", Level.LOOK),
        ("import subprocess\nprint(subprocess)", Level.DANGER),
    ],
)
def test_scripts(code, level, bundle):
    (bundle / "tests").mkdir()
    (bundle / "tests/test_x.py").write_text(code)
    assert inspect(bundle).level is level, str(inspect(bundle))


@pytest.mark.parametrize(
    ("expression", "level"),
    [
        ("$'a'.replace(*('a', 'b'))", Level.OK),
        ("$'a'.replace(*['a', *('b',)])", Level.OK),
        ("$@x.replace(*('a',))", Level.DANGER),
        ("$@x.replace(*@y)", Level.DANGER),
        ("$@x.replace(*@y, *@y)", Level.DANGER),
    ],
)
def test_replace(expression, level, tmp_path):
    assert inspect(write_config(tmp_path, {"x": 1, "y": ["a"], "a": expression})).level is level


@pytest.mark.parametrize(
    ("name", "text", "level"),
    [
        ("data/labels.json", '{"a": 1, "a": 2}', Level.LOOK),
        ("k8s.yaml", "a: 1\n---\nb: 2\n", Level.LOOK),
        ("mkdocs.yml", TAGGED, Level.LOOK),
        ("tsconfig.json", "{ // c\n}", Level.LOOK),
        ("configs/train.json", '{"a": 1, "a": 2}', Level.DANGER),
        ("more/configs/train.yaml", TAGGED, Level.DANGER),
        ("large_files.yml", "a: 1\na: 2\n", Level.DANGER),
        ("parts.yaml", "a: 1\na: 2\n", Level.DANGER),
    ],
)
def test_files_that_are_odd_matter_where_a_run_reads_them_as_configs(name, text, level, tmp_path):
    root = write_config(tmp_path, {"x": "%parts.yaml::a"})
    write_config(root, {"a": 1}, "parts.yaml")
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    entries = [entry.level for entry in inspect(root).entries if entry.file == name and entry.kind == "config"]
    assert entries == [level]


def test_a_config_alone_is_one(tmp_path):
    (tmp_path / "train.yaml").write_text("a: 1\na: 2\n")
    assert inspect(tmp_path / "train.yaml").exit_code == 2
    assert inspect(tmp_path).exit_code == 2


def test_data_in_compressed_files(bundle):
    (bundle / "data").mkdir()
    (bundle / "data/x.nii.gz").write_bytes(gzip.compress(b"\x5c\x01\0\0" + bytes(400)))
    assert inspect(bundle).exit_code == 0


@pytest.mark.parametrize("start", [b"\x82\xa9", b"\x83\xfd\x2c", b"\x84\1\2\3\4"])
def test_data_that_begins_as_a_global_by_number(start, bundle):
    (bundle / "x.raw").write_bytes(start + b"A\xd1\xfb" * 100)
    assert inspect(bundle).exit_code == 0
