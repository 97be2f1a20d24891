import importlib
import sys

import pytest

from monai_lighter import Workflow
from monai_lighter.workflow.project import import_project, make_importable


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("project", "scripts")]:
        del sys.modules[name]


def package(path, init="", **modules):
    path.mkdir()
    for name, text in {"__init__": init, **modules}.items():
        (path / f"{name}.py").write_text(text)
    return path


def test_modules_of_the_project_can_be_imported(tmp_path):
    assert import_project(package(tmp_path / "mine", "from . import nets", nets="class Net:\n    pass\n")) == []
    import project.nets  # noqa: PLC0415

    assert project.nets.Net is sys.modules["project"].nets.Net


def test_a_second_call_does_nothing(tmp_path):
    path = package(tmp_path / "mine")
    import_project(path)
    module = sys.modules["project"]
    assert import_project(str(path)) == []
    assert sys.modules["project"] is module


def test_a_directory_that_is_no_package(tmp_path):
    (finding,) = import_project(tmp_path)
    assert str(finding) == f"project: must be a directory with an __init__.py, got {str(tmp_path)!r}. Add the file."


def test_another_project_in_the_same_process(tmp_path):
    first, second = package(tmp_path / "a"), package(tmp_path / "b")
    import_project(first)
    (finding,) = import_project(second)
    assert finding.id == "project"
    assert finding.problem == f"{str(second)!r} cannot be imported beside {str(first / '__init__.py')!r}"


def test_a_project_that_raises_is_not_left_half_imported(tmp_path):
    path = package(tmp_path / "mine", "import no_such_module")
    (finding,) = import_project(path)
    message = "cannot be imported (ModuleNotFoundError: No module named 'no_such_module'). Mend it."
    assert str(finding) == f"project: {str(path)!r} {message}"
    assert "project" not in sys.modules


def test_two_bundles_in_one_process_have_each_their_own_scripts(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "scripts").mkdir(parents=True)
        if name == "one":
            (tmp_path / name / "scripts" / "__init__.py").write_text("")
        (tmp_path / name / "scripts" / "who.py").write_text(f"def who(): return {name!r}\n")
        (tmp_path / name / "configs").mkdir()
        (tmp_path / name / "configs" / "train.yaml").write_text("run: {_target_: scripts.who.who}\n")
    for name in ("one", "two", "one"):
        workflow = Workflow(str(tmp_path / name / "configs" / "train.yaml"))
        workflow.initialize()
        assert workflow.run() == [name]


def test_a_folder_of_that_name_elsewhere_does_not_hide_the_bundles_package(tmp_path, monkeypatch):
    (tmp_path / "elsewhere" / "helpers_of_mine").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    importlib.import_module("helpers_of_mine")
    bundle = tmp_path / "bundle"
    (bundle / "helpers_of_mine").mkdir(parents=True)
    (bundle / "helpers_of_mine" / "__init__.py").write_text("own = 1\n")
    make_importable(bundle)
    assert importlib.import_module("helpers_of_mine").own == 1
