import json
import subprocess
import sys

import pytest

import monai_lighter
from monai_lighter.commands import main as commands
from monai_lighter.commands.main import VERBS, main
from monai_lighter.share.layout import SharingError


@pytest.mark.parametrize("name", VERBS)
def test_help_has_an_example(name, command):
    code, output, shown = command(name, "--help")
    assert code == 0
    assert shown == ""
    assert output.startswith(f"usage: monai-lighter {name} ")
    assert f"    monai-lighter {name} " in output
    assert command(name, "configs/train.yaml", "-h") == (0, output, "")


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_the_verbs_with_a_line_each(words, command):
    code, output, shown = command(*words)
    assert (code, shown) == (0, "")
    lines = [line.split(maxsplit=1) for line in output.splitlines() if line.startswith("  ")]
    assert [verb for verb, _ in lines] == [*VERBS]
    assert all(summary.endswith(".") for _, summary in lines)


def test_the_version(command):
    assert command("--version") == (0, f"monai-lighter {monai_lighter.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pakage",), "pakage: monai-lighter has no such verb. Did you mean 'package'?"),
        (("train", "a.yaml"), "train: monai-lighter has no such verb. Did you mean 'fit'?"),
        (
            ("configs/train.yaml",),
            "configs/train.yaml: monai-lighter has no such verb. The verb comes first: monai-lighter fit",
        ),
        (("init", "b", "--tsk", "segmentation"), "--tsk: init has no such flag. Did you mean 'task'?"),
        (("fit", "no.yaml"), "config_file: Cannot find the config file: no.yaml."),
        (("package", "b"), "bundle: must be the directory of a bundle or a study, there is no 'b'. Mend the path."),
        (
            ("run", "b", "infer"),
            "stage: must be one of fit, validate, test, predict, got 'infer'. Did you mean 'predict'?",
        ),
    ],
)
def test_what_is_wrong_with_a_command(words, message, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, output, shown = command(*words)
    assert (code, output) == (2, "")
    assert shown.startswith(message)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "words", [("inspect", "b", "--json"), ("check", "b.yaml", "--json"), ("check", "--json", "--case", "x")]
)
def test_what_is_wrong_is_json_where_json_is_asked_for(words, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, output, _ = command(*words)
    assert code == 2
    found = json.loads(output)
    assert found["errors"] == len(found["rows"]) == 1
    assert found["rows"][0].keys() == {"level", "id", "problem", "hint"}


def test_an_error_of_a_verb_is_json_too(command, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["monai-lighter", "package", str(tmp_path), "--json"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pytest.raises(SharingError):
        main()
    (row,) = json.loads(capfd.readouterr().out)["rows"]
    assert row["id"] == "bundle"
    assert "a directory without configs/" in row["problem"]


def test_a_name_with_spaces_is_quoted_where_a_command_is_printed(command, tmp_path):
    _, output, _ = command("init", tmp_path / "my lesion", "--dims", 2, "--json")
    assert json.loads(output)["next"] == f"cd '{tmp_path}/my lesion' && monai-lighter fit configs/train.yaml"


def interrupted_by_lightning():
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sys.exit(1)


def interrupted():
    raise KeyboardInterrupt


@pytest.mark.parametrize("ends", [interrupted, interrupted_by_lightning])
@pytest.mark.parametrize("words", [("inspect", "b"), ("fit", "a.yaml")])
def test_an_interrupt_ends_quietly(ends, words, command, monkeypatch):
    monkeypatch.setattr(commands, "_find_verb", lambda name: lambda *arguments: ends())
    assert command(*words) == (130, "", "")


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
@pytest.mark.parametrize(("words", "code"), [(("--version",), 0), (("fit", "--help"), 0), (("fit", "no.yaml"), 2)])
def test_nothing_heavy_is_imported_to_answer(words, code, tmp_path):
    program = (
        "import sys\nfrom monai_lighter.commands.main import main\ntry:\n    main()\nfinally:\n    "
        "print(sorted({'torch', 'monai', 'lightning', 'numpy', 'fire'} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["check", "configs/train.yaml", "--json"]])
def test_a_pipe_that_nobody_reads_ends_quietly(words, created):
    command, pipes = (
        [sys.executable, "-m", "monai_lighter", *words],
        {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
    )
    with subprocess.Popen(command, cwd=created(), text=True, **pipes) as process:
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode in (0, 141)
    assert "Traceback" not in told
    assert "BrokenPipe" not in told


@pytest.mark.slow
def test_errors_are_brief_and_end_with_code_2(verb, tmp_path):
    done = verb("init", tmp_path / "b", "--task", "segmentatoin", code=2)
    assert done.stdout == ""
    assert "Did you mean 'segmentation'?" in done.stderr
    assert "Traceback" not in done.stderr


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_ctrl_c_while_the_command_line_is_imported_says_nothing():
    interrupt = "import os; os.kill(os.getpid(), signal.SIGINT)"
    # a shell has its jobs in the background ignore Ctrl-C, and so what they start
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    done = run_python(
        f"{heed}; import sys; sys.argv = ['/bin/monai-lighter', 'fit']; import monai_lighter; {interrupt}"
    )
    assert (done.returncode, done.stderr) == (130, "")
    done = run_python(f"{heed}; import monai_lighter.commands.main; {interrupt}")  # a program that only imports it
    assert done.stderr.endswith("KeyboardInterrupt\n")
    begin = f"{heed}; import sys; sys.argv = ['/bin/monai-lighter', '--version']; from monai_lighter.commands.main import main"
    done = run_python(f"{begin}\ntry: main()\nexcept SystemExit: {interrupt}")
    assert done.stderr.endswith("KeyboardInterrupt\n")
