"""Expressions in a logging.conf that are reached in an unusual way, or stand where nobody looks."""

import subprocess
import sys

import pytest
from planted import checked, touch

from monai_lighter.inspection import inspect

TEXT = """{extra}[loggers]
keys=root
[handlers]
keys={keys}
[formatters]
keys=f
[logger_root]
level=INFO
handlers={keys}
[handler_{handler}]
class=StreamHandler
args={args}
[formatter_f]
format=%(message)s
"""


def written(bundle, marker, end="", **changes):
    evil = f"""(__import__('os').system("{touch(marker)}"),)"""
    settings = {"extra": "", "keys": "evil", "handler": "evil", "args": evil, **changes}
    (bundle / "configs/logging.conf").write_bytes((TEXT.format(**settings).replace("EVIL", evil) + end).encode())


def fires(bundle, marker, name="configs/logging.conf"):
    code = "import logging.config, sys; logging.config.fileConfig(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, name], cwd=bundle, capture_output=True, check=False)
    assert marker.exists()
    marker.unlink()


@pytest.mark.parametrize(
    "changes",
    [
        {"keys": "a b", "handler": "a b"},
        {"keys": "%(k)s", "extra": "[DEFAULT]\nk=evil\n"},
        {"args": "%(k)s", "extra": "[DEFAULT]\nk=EVIL\n"},
        {"args": "()\nkwargs={'stream': EVIL}"},
        {"args": "()\nlevel=INFO", "extra": "[DEFAULT]\nkwargs={'stream': EVIL}\n"},
        {"args": "()\n# a comment\rkwargs={'stream': EVIL}"},  # a line ends here in a text file
        {"end": ("# " + "x" * 100 + "\n") * 11_000},
    ],
)
def test_expression(changes, bundle, marker):
    written(bundle, marker, **changes)
    fires(bundle, marker)
    checked(bundle, marker, "__import__('os').system")


def test_section_that_no_list_names(bundle, marker):
    written(bundle, marker, keys="other")
    checked(bundle, marker, "[handler_evil] args = (__import__('os').system")


def test_level_that_is_an_expression(bundle, marker):
    written(bundle, marker, args="()\nlevel=__import__('os')")
    checked(bundle, marker, "level = __import__('os')")


@pytest.mark.parametrize("kind", ["evilmod.F", "Formatter"])
def test_formatters_alone(kind, bundle, marker):
    (bundle / f"{kind.split('.')[0]}.py").write_text(f"open({str(marker)!r}, 'w')\nclass F: pass\n")
    (bundle / "configs/log.cfg").write_text(f"[formatters]\nkeys=f\n[formatter_f]\nclass={kind}\n")
    fires(bundle, marker, "configs/log.cfg")
    checked(bundle, marker, f"class = {kind}")


def test_file_that_is_too_large_to_be_read(bundle, marker):
    written(bundle, marker, end=("# " + "x" * 100 + "\n") * 50_000)
    checked(bundle, marker, "cannot be read whole")


def test_harmless_settings(bundle, marker):
    written(bundle, marker, args="(sys.stdout,)")
    (bundle / "setup.cfg").write_text("[metadata]\nname = x\n[tool]\nargs = f()\nclass = y\n")
    report = inspect(bundle)
    assert report.exit_code == 0, str(report)


@pytest.mark.parametrize("name", ["fire.py", ".bashrc", "a/.hidden/x.log", "x.log.py", "requirements.txt"])
def test_log_file_that_is_a_program_or_settings(name, bundle, marker):
    written(bundle, marker, args=f"({name!r},)")
    path = bundle / "configs/logging.conf"
    path.write_text(path.read_text().replace("StreamHandler", "FileHandler"))
    checked(bundle, marker, f"{name!r} is not named as a log file is")


@pytest.mark.parametrize("name", ["x.log", "logs/train.log.1", "log.txt"])
def test_log_files(name, bundle, marker):
    written(bundle, marker, args=f"({name!r}, 'w')")
    path = bundle / "configs/logging.conf"
    path.write_text(path.read_text().replace("StreamHandler", "FileHandler"))
    assert inspect(bundle).exit_code == 0
