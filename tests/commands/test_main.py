import json
import sys

import pytest

from monai_lighter.commands.main import VERBS, main
from monai_lighter.share.layout import SharingError


@pytest.fixture
def command(monkeypatch, capfd):
    """Runs ``monai-lighter ARGUMENTS`` in this process; gives exit code, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["monai-lighter", *map(str, arguments)])
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capfd.readouterr()

    return run


@pytest.mark.parametrize("name", VERBS)
def test_help_has_an_example(name, command):
    code, output, shown = command(name, "--help")
    assert code == 0
    assert output == ""
    assert f"python -m monai_lighter {name} " in shown


def test_unknown_verbs_and_options(command, tmp_path):
    assert command("pakage")[0] == 2
    with pytest.raises(SharingError, match=r"--tsk: init has no such flag\. Did you mean 'task'"):
        command("init", tmp_path / "b", "--tsk", "segmentation")
    assert not (tmp_path / "b").exists()


def test_the_report_alone_is_on_standard_output(command, tmp_path):
    code, output, _ = command("init", tmp_path / "b", "--dims", 2, "--synthetic", "--json")
    assert code == 0
    assert json.loads(output)["bundle"] == str(tmp_path / "b")
    code, output, _ = command("load", tmp_path / "b")
    assert "train.yaml" in output


def test_inspect_ends_with_the_code_of_its_verdict(command, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "train.json").write_text('{"a": {"_target_": "os.system", "command": "true"}}')
    code, output, _ = command("inspect", tmp_path)
    assert code == 1
    assert "os.system" in output


@pytest.mark.slow
def test_errors_are_brief_and_end_with_code_2(verb, tmp_path):
    done = verb("init", tmp_path / "b", "--task", "segmentatoin", code=2)
    assert done.stdout == ""
    assert "Did you mean 'segmentation'?" in done.stderr
    assert "Traceback" not in done.stderr
