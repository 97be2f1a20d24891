import sys

import pytest

from monai_lighter import autoload

PYTHON = "/usr/bin/python"
RUN = ["run", "fit", "--workflow", "monai_lighter.Workflow"]


@pytest.mark.parametrize(
    "head",
    [
        ["-m", "monai.bundle"],
        ["-u", "-m", "monai.bundle"],
        ["-um", "monai.bundle"],
        ["-mmonai.bundle"],
        ["-X", "dev", "-m", "monai.bundle"],
        ["-W", "ignore", "-Im", "monai.bundle"],
        ["-m", "monai.bundle.__main__"],
    ],
)
def test_a_process_of_monai_bundle_is_known(head):
    assert autoload.is_monai_bundle([PYTHON, *head, *RUN], ["-m", *RUN])
    assert autoload.is_monai_bundle([PYTHON, *head], ["-m"])


@pytest.mark.parametrize(
    ("head", "arguments"),
    [
        (["train.py"], RUN),
        (["-m", "monai.bundles"], RUN),
        (["-m", "torch.distributed.run"], ["-m", "monai.bundle", *RUN]),
        (["/usr/bin/torchrun"], ["-m", "monai.bundle", *RUN]),
        (["train.py"], ["-m", "monai.bundle"]),
        (["-m", "pytest"], ["-m", "monai.bundle"]),
        (["--m", "monai.bundle"], RUN),
        (["monai.bundle"], RUN),
        (["-c", "import torch"], RUN),
        ([], []),
    ],
)
def test_any_other_process_is_not(head, arguments):
    assert not autoload.is_monai_bundle([PYTHON, *head, *arguments], [head[-1] if head else "", *arguments])


def test_arguments_that_a_program_changed_are_left_alone():
    assert not autoload.is_monai_bundle([PYTHON, "-m", "monai.bundle", "run"], ["-m", "something", "else"])


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["--workflow", "monai_lighter.Workflow"], ["--workflow_name", "monai_lighter.Workflow"]),
        (["--workflow=monai_lighter.Workflow"], ["--workflow_name=monai_lighter.Workflow"]),
        (
            ["--workflow", "monai_lighter.workflow.Workflow"],
            ["--workflow_name", "monai_lighter.workflow.Workflow"],
        ),
        (["--workflow", "my.Workflow"], ["--workflow", "my.Workflow"]),
        (["--workflow=my.monai_lighter.Workflow"], ["--workflow=my.monai_lighter.Workflow"]),
        (["--workflow_name", "monai_lighter.Workflow"], ["--workflow_name", "monai_lighter.Workflow"]),
        (["--workflow_type", "train", "--workflow"], ["--workflow_type", "train", "--workflow"]),
        ([], []),
    ],
)
def test_the_flag_is_renamed_for_this_package_alone(given, wanted):
    arguments = ["-m", *given]
    autoload.rename_flag(arguments)
    assert arguments == ["-m", *wanted]


def test_autoload_changes_the_arguments_of_this_process(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["-m", *RUN])
    monkeypatch.setattr(sys, "orig_argv", [PYTHON, "-m", "monai.bundle", *RUN])
    autoload.autoload()
    assert sys.argv == ["-m", "run", "fit", "--workflow_name", "monai_lighter.Workflow"]


@pytest.mark.parametrize(
    ("arguments", "variable", "leaves"),
    [
        (["--trust", "declarative"], "", True),
        (["--trust=declarative", "--x=1"], "all", True),
        ([], "declarative", True),
        (["--trust", "all"], "declarative", False),
        (["--note", "declarative"], "", False),
        (["--trust"], "", False),
    ],
)
def test_a_declarative_run_imports_nothing_from_the_working_directory(
    arguments, variable, leaves, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MONAI_LIGHTER_TRUST", variable)
    path = [str(tmp_path), "/elsewhere"]
    autoload.leave_directory(["-m", *arguments], path)
    assert path == (["/elsewhere"] if leaves else [str(tmp_path), "/elsewhere"])
    autoload.leave_directory(["-m", *arguments], path := ["/elsewhere"])
    assert path == ["/elsewhere"]


def test_a_line_that_monai_would_read_another_way_ends_the_process(monkeypatch, capsys):
    line = ["run", "fit", "--workflow", "monai-lighter.Workflow"]
    monkeypatch.setattr(sys, "argv", ["-m", *line])
    monkeypatch.setattr(sys, "orig_argv", [PYTHON, "-m", "monai.bundle", *line])
    with pytest.raises(SystemExit) as ended:
        autoload.autoload()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("workflow: there is no class 'monai-lighter.Workflow'. Did you mean")


def test_autoload_never_raises(monkeypatch):
    monkeypatch.delattr(sys, "orig_argv")
    autoload.autoload()
    monkeypatch.setattr(sys, "argv", None)
    autoload.autoload()
