"""A bundle's logging.conf: the same effect as `fileConfig` where it is harmless, and left out where it is not."""

import io
import logging
import logging.config
import sys
from contextlib import suppress

import pytest
from monai.bundle.workflows import _reject_executable_logging_config

from monai_lighter import Workflow
from monai_lighter.workflow.logging_conf import apply_logging_conf

ZOO = """
[loggers]
keys=root

[handlers]
keys=consoleHandler

[formatters]
keys=fullFormatter

[logger_root]
level=INFO
handlers=consoleHandler

[handler_consoleHandler]
class=StreamHandler
level=INFO
formatter=fullFormatter
args=(sys.stdout,)

[formatter_fullFormatter]
format=%(asctime)s - %(name)s - %(levelname)s - %(message)s
"""
MORE = """
[loggers]
keys=root,net
[handlers]
keys=out,file,null
[formatters]
keys=short
[logger_root]
level=WARNING
handlers=out
[logger_net]
qualname=net.train
level=DEBUG
handlers=out,file,null
propagate=0
[handler_out]
class=logging.StreamHandler
args=()
formatter=short
[handler_file]
class=handlers.RotatingFileHandler
level=ERROR
args=('run.log', 'a')
kwargs={'maxBytes': 1000, 'backupCount': 2, 'delay': True}
[handler_null]
class=NullHandler
args=()
[formatter_short]
format={levelname} {message}
datefmt=%H:%M
style={
"""


HANDLER = "class=StreamHandler\nlevel=INFO\nformatter=fullFormatter\nargs=(sys.stdout,)"


@pytest.fixture(autouse=True)
def _restored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    logging.getLogger("net.train").handlers.clear()


def effect(names):
    def one(handler):
        formatter = handler.formatter
        form = formatter and (formatter._fmt, formatter.datefmt, type(formatter._style))
        target = getattr(handler, "stream", None) or getattr(handler, "baseFilename", None)
        more = (
            getattr(handler, "maxBytes", None),
            getattr(handler, "backupCount", None),
            getattr(handler, "mode", None),
        )
        return type(handler), handler.level, handler.name, form, target, more

    loggers = [logging.getLogger(name) for name in names]
    return [(log.level, log.propagate, log.disabled, [one(handler) for handler in log.handlers]) for log in loggers]


@pytest.mark.parametrize("text", [ZOO, MORE])
def test_the_same_effect_as_file_config(text, tmp_path):
    path = tmp_path / "logging.conf"
    path.write_text(text)
    names = (None, "net.train", "monai")
    logging.config.fileConfig(io.StringIO(text), disable_existing_loggers=False)
    expected = effect(names)
    assert expected[0][3]
    assert apply_logging_conf(path) == []
    assert effect(names) == expected


def test_what_is_logged(tmp_path, capsys):
    (tmp_path / "logging.conf").write_text(ZOO)
    apply_logging_conf(tmp_path / "logging.conf")
    logging.getLogger("some.module").info("hello")
    assert capsys.readouterr().out.endswith(" - some.module - INFO - hello\n")
    assert logging.getLogger().handlers[0].stream is sys.stdout


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("args=(sys.stdout,)", "args=(open('marker', 'w'),)", "open('marker', 'w')"),
        ("args=(sys.stdout,)", "args=(sys.modules['os'].system('touch marker'),)", "no literal"),
        ("args=(sys.stdout,)", "kwargs={'stream': open('marker', 'w')}", "no literal"),
        ("class=StreamHandler", "class=__import__('os').system", "only StreamHandler"),
        ("class=StreamHandler", "class=eval", "class = eval"),
        ("class=StreamHandler\nlevel=INFO", "class=handlers.SocketHandler", "SocketHandler"),
        ("class=StreamHandler", "class=FileHandler", "the file name must be a printable text"),
        (
            HANDLER,
            "class=FileHandler\nargs=('/x/y',)",
            "/x/y",
        ),
        (
            HANDLER,
            "class=FileHandler\nargs=('../y',)",
            "../y",
        ),
        (
            HANDLER,
            "class=FileHandler\nargs=('cfg://a',)",
            "cfg://a",
        ),
        ("format=%(asctime)s", "class=marker.F\nformat=%(asctime)s", "marker.F"),
        ("level=INFO\nhandlers", "level=LOUD\nhandlers", "LOUD"),
        ("keys=root", "keys=root,none", "there is no such section"),
    ],
)
def test_left_out(old, new, named, tmp_path, caplog):
    assert old in ZOO
    text = ZOO.replace(old, new, 1)
    (tmp_path / "logging.conf").write_text(text)
    (tmp_path / "marker.py").write_text("open('marker', 'w')")
    left_out = apply_logging_conf(tmp_path / "logging.conf")
    assert any(named in what for what in left_out), left_out
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("handler", "named"),
    [
        ("class=FileHandler\nargs=('logs/x.log',)", "'logs/x.log' is in no directory"),
        ("class=FileHandler\nargs=('logs/x.log', 'a', None, True)", "'logs/x.log' is in no directory"),
        ("class=FileHandler\nargs=('elsewhere.log',)", "is in no directory below"),
        ("class=FileHandler\nargs=('fire.py', 'w')", "not named as a log file is"),
        ("class=FileHandler\nargs=('.bashrc', 'a')", "not named as a log file is"),
        ("class=FileHandler\nargs=('a\\x00.log',)", "must be a printable text"),
        ("class=FileHandler\nargs=('x.log', 'q')", "the mode must be a or w"),
        ("class=FileHandler\nargs=('x.log', 'a', 'none')", "unknown encoding"),
        ("class=FileHandler\nargs=('taken.log',)", "Is a directory"),
        ("class=handlers.RotatingFileHandler\nargs=('x.log', 'a', 'much')", "[handler_consoleHandler]"),
        ("class=handlers.TimedRotatingFileHandler\nargs=('x.log', 'q')", "rollover interval"),
    ],
)
def test_a_log_file_that_cannot_be_written_is_left_out_and_the_rest_applied(handler, named, tmp_path, caplog):
    (tmp_path / "taken.log").mkdir()
    (tmp_path.parent / "outside.log").write_text("")
    (tmp_path / "elsewhere.log").symlink_to("../outside.log")
    text = ZOO.replace(HANDLER, handler).replace("level=INFO\nhandlers", "level=ERROR\nhandlers")
    (tmp_path / "logging.conf").write_text(text)
    left_out = apply_logging_conf(tmp_path / "logging.conf")
    assert any(named in what for what in left_out), left_out
    assert named in caplog.text
    assert logging.getLogger().level == logging.ERROR
    assert not (tmp_path / "fire.py").exists()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"no section", b"[a]\n[a]", b"x" * (2 << 20)])
def test_unreadable(content, tmp_path):
    before = logging.getLogger().handlers[:]
    (tmp_path / "logging.conf").write_bytes(content)
    assert "the whole file" in apply_logging_conf(tmp_path / "logging.conf")[0]
    assert logging.getLogger().handlers == before


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        apply_logging_conf(tmp_path / "logging.conf")


MARKED = "open('marker', 'w')"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("args=(sys.stdout,)", f"args=('%(more)s',)\nmore=x', {MARKED}, '"),
        ("args=(sys.stdout,)", f"class=FileHandler\nargs=('%(more)s.log',)\nmore=x' + str({MARKED}) + '"),
        ("[loggers]", f"[DEFAULT]\nmore=x', {MARKED}, '\n[loggers]"),
        ("format=%(asctime)s", f"defaults={MARKED}\nformat=%(asctime)s"),
        ("[loggers]", f"[DEFAULT]\ndefaults={MARKED}\n[loggers]"),
    ],
)
def test_what_monai_passes_and_file_config_would_evaluate_is_not(old, new, tmp_path, monkeypatch):
    text = ZOO.replace(old, new, 1).replace("(sys.stdout,)", "('%(more)s',)" if "more=" in new else "(sys.stdout,)")
    text = text.replace("class=StreamHandler\n", "" if "class=" in new else "class=StreamHandler\n")
    (tmp_path / "logging.conf").write_text(text)
    _reject_executable_logging_config(str(tmp_path / "logging.conf"))  # passes
    apply_logging_conf(tmp_path / "logging.conf")
    assert not (tmp_path / "marker").exists()
    if "more=" in new or sys.version_info >= (3, 12):
        with suppress(Exception):
            logging.config.fileConfig(tmp_path / "logging.conf")
        assert (tmp_path / "marker").exists()


def test_texts_are_texts(tmp_path):
    (tmp_path / "logging.conf").write_text(ZOO.replace("format=%(asctime)s", "format=ext://marker.x"))
    (tmp_path / "marker.py").write_text("open('marker', 'w')")
    assert apply_logging_conf(tmp_path / "logging.conf") == []
    assert logging.getLogger().handlers[0].formatter._fmt.startswith("ext://marker.x")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("style", ["", "style={\n"])
def test_a_format_that_looks_into_attributes_is_left_out(style, tmp_path):
    text = ZOO.replace("format=%(asctime)s", style + "format={msg.__class__}", 1)
    (tmp_path / "logging.conf").write_text(text)
    assert bool(apply_logging_conf(tmp_path / "logging.conf")) == bool(style)
    assert logging.getLogger().level == logging.INFO


def test_a_workflow_applies_the_logging_file_of_its_bundle_without_evaluating_it(tmp_path, caplog):
    marker = tmp_path / "fired"
    (tmp_path / "train.yaml").write_text("run: $1 + 1\n")
    (tmp_path / "logging.conf").write_text(
        "[loggers]\nkeys=root,mine\n[handlers]\nkeys=out\n[formatters]\nkeys=\n"
        "[logger_root]\nlevel=INFO\nhandlers=\n[logger_mine]\nlevel=ERROR\nqualname=mine.logger\nhandlers=\n"
        f"[handler_out]\nclass=StreamHandler\nargs=(open({str(marker)!r}, 'w'),)\n"
    )
    workflow = Workflow(str(tmp_path / "train.yaml"))
    workflow.initialize()
    assert workflow.run() == [2]
    assert logging.getLogger("mine.logger").level == logging.ERROR
    assert not marker.exists()
    assert "skipping logging" not in caplog.text
