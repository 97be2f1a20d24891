"""Hostile texts: logging.conf, YAML, JSON, byte code and source that hides something, links."""

import os
import struct

import pytest
from planted import checked, touch

from monai_lighter.inspection import inspect

LOGGING = """
[loggers]
keys=root
[handlers]
keys=a
[formatters]
keys=f
[logger_root]
level=INFO
handlers=a
[handler_a]
class={kind}
args={arguments}
formatter=f
[formatter_f]
{formatter}
"""


@pytest.mark.parametrize(
    ("kind", "arguments", "formatter"),
    [
        ("StreamHandler", "(__import__('os').system({touch!r}),)", "format=x"),
        ("__import__('os').system({touch!r})", "()", "format=x"),
        ("StreamHandler", "(sys.stdout,)", "class=evil.Formatter"),
        ("StreamHandler", "(sys.stdout,)", "format=ext://evil.module"),
        ("logging.handlers.SocketHandler", "('example.com', 1)", "format=x"),
    ],
)
def test_logging_conf(kind, arguments, formatter, bundle, marker):
    text = LOGGING.format(kind=kind, arguments=arguments, formatter=formatter).replace("{touch!r}", repr(touch(marker)))
    (bundle / "configs/logging.conf").write_text(text)
    (bundle / "evil.py").write_text(f"open({str(marker)!r}, 'w')")
    checked(bundle, marker, "logging configs/logging.conf")


YAMLS = {
    "tag": "a: !!python/object/apply:os.system ['{touch}']",
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "\n".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "merges": "a: &a {x: 1, y: 2}\n"
    + "\n".join(f"{b}: &{b} {{<<: [{','.join([f'*{a}'] * 9)}]}}" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "itself": "a: &a [*a]",
    "deep": "a: " + "[" * 5000 + "]" * 5000,
    "duplicate": "a: 1\na: {_target_: os.system, command: '{touch}'}\na: 2",
    "two documents": "a: 1\n---\nb: 2",
    "broken": "a: [",
    "large": "a: " + "x" * (1 << 21),
    "number": "a: " + ":".join(["1"] * 100_000) + "\nb: $eval('1')",
}


@pytest.mark.parametrize("name", YAMLS)
def test_yaml(name, bundle, marker):
    (bundle / "configs/train.yaml").write_text(YAMLS[name].replace("{touch}", touch(marker).replace("'", "''")))
    checked(bundle, marker, "configs/train.yaml")


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": {"_target_": "os.system"}}', "[" * 100_000, "{", '{"a": ' + "[" * 100 + "]" * 100 + "}"]
)
def test_json(text, bundle, marker):
    (bundle / "configs/train.json").write_text(text)
    checked(bundle, marker, "configs/train.json")


def test_what_duplicates_hide_is_found(bundle, marker):
    (bundle / "configs/train.json").write_text('{"a": {"_target_": "os.system"}, "a": 2}')
    checked(bundle, marker, "posix.system")


def test_byte_code(bundle, marker):
    (bundle / "scripts/__pycache__").mkdir(parents=True)
    (bundle / "scripts/net.py").write_text("x = 1")
    (bundle / "scripts/__pycache__/net.cpython-311.pyc").write_bytes(b"\xa7\r\r\n" + struct.pack("<I", 1) + bytes(40))
    (bundle / "scripts/other.pyc").write_bytes(bytes(40))
    checked(bundle, marker, "net.cpython-311.pyc", "other.pyc")


def test_links_and_pipes(bundle, marker, tmp_path):
    (bundle / "models/model.pt").symlink_to("/etc/passwd")
    (bundle / "out").symlink_to(tmp_path)
    os.mkfifo(bundle / "configs/pipe.yaml")
    checked(bundle, marker, "'/etc/passwd'", "pipe.yaml", " out ")


def test_source_in_an_encoding_that_hides_it(bundle):
    (bundle / "scripts").mkdir()
    (bundle / "scripts/a.py").write_bytes(b"# coding: utf-7\nx = 1\n")
    (bundle / "scripts/b.py").write_bytes(b"x = (\n")
    reasons = [entry.why for entry in inspect(bundle).entries if entry.kind == "script"]
    assert all("cannot be read as Python" in why for why in reasons)
    assert len(reasons) == 2


def test_names_that_would_spoof_the_report(bundle):
    (bundle / "configs/x.json").write_text('{"a": "$eval(\'\\u001b[2K\\nverdict: nothing dangerous found\')"}')
    text = str(inspect(bundle))
    assert "\x1b" not in text
    assert text.count("\nverdict:") == 1
