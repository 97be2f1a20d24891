"""Bundles that would keep `inspect` busy: read in time, or refused with a finding."""

import json
import time

import pytest

from monai_lighter.inspection import Level, inspect
from monai_lighter.inspection.ids import joined
from monai_lighter.inspection.strings import is_written
from monai_lighter.inspection.syntax import REFERENCE, REFERENCES, parse_expression

SECONDS = 30
"""Far more than each takes, and far less than it took."""


def configs(count, of):
    return {f"f{i}.json": json.dumps(of(i)) for i in range(count)}


# name: (files, whether they are refused)
FILES = {
    "chain in many files": (
        configs(8, lambda i: {**{f"a{j}": f"@a{j + 1}" for j in range(12)}, "a12": "$1", "x": "$@a0"}),
        False,
    ),
    "duplicate among many keys": (
        {"a.json": "{" + ",".join(f'"k{i}": 1' for i in range(32_000)) + ', "k0": 2}'},
        True,
    ),
    "long key": ({"a.json": json.dumps({"out" * 40_000 + "!": "x/y"})}, False),
    "many references": ({"a.json": json.dumps({"a": "$[" + ",".join(f"@r{i}" for i in range(60_000)) + "]"})}, False),
    "long chain": ({"a.json": json.dumps({f"a{i}": f"@a{i + 1}" for i in range(20_000)})}, True),
    "long chain of expressions": ({"a.json": json.dumps({f"a{i}": f"$@a{i + 1}" for i in range(20_000)})}, True),
    "one component many times": ({"a.json": "{" + ",".join(['"a": {"_target_": "UNet"}'] * 30_000) + "}"}, True),
    "lists of macros": (
        configs(1, lambda _: {**{f"a{j}": [f"%a{j + 1}"] * 10 for j in range(12)}, "x::reader": "@a0"}),
        False,
    ),
    "long key around many items": ({"a.json": json.dumps({"k" * 100_000: [1] * 10_000})}, True),
    "many items": ({"a.json": json.dumps([1] * 1_100_000)}, True),
}


@pytest.mark.parametrize("name", FILES)
def test_read_in_time_or_refused(name, tmp_path):
    files, refused = FILES[name]
    (tmp_path / "configs").mkdir()
    for file, text in files.items():
        (tmp_path / "configs" / file).write_text(text)
    start = time.monotonic()
    report = inspect(tmp_path)
    assert time.monotonic() - start < SECONDS
    assert (report.level is Level.DANGER) == refused, str(report)[:2000]


def test_references_are_put_in_as_monai_puts_them_in():
    """MONAI replaces one after the other, the longest first."""
    for text in ("@a+@ab + @a::b@a", "x @ y", "@a::@b", "'@a'[@ab::c::0]", "@a@ab@abc"):
        value = text
        for item in sorted(REFERENCE.findall(text), key=len, reverse=True):
            value = value.replace(item, f"{REFERENCES}['{item[1:]}']")
        try:
            expected = compile(value, "", "exec", 0x400)
        except SyntaxError:
            with pytest.raises(SyntaxError):
                parse_expression(f"${text}")
            continue
        assert parse_expression(f"${text}").body[0].col_offset == expected.body[0].col_offset
        assert parse_expression(f"${text}").body[0].end_col_offset == expected.body[0].end_col_offset


@pytest.mark.parametrize("name", ["output_dir", "out_path", "default_root_dir", "dirname", "results_folder", "logfile"])
def test_names_of_what_is_written(name):
    assert is_written(name)


@pytest.mark.parametrize("name", ["dataset_dir", "image", "out", "dirout", "output dir", joined("x", "log_level")])
def test_names_of_what_is_read(name):
    assert not is_written(name)
