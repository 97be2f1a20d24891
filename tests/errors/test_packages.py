"""An import that finds nothing says what to install."""

import importlib.abc
import sys

import pytest
from monai.utils import optional_import

from monai_lighter.errors import in_short
from monai_lighter.errors.packages import find_install_command, install_hint_of


class Absent(importlib.abc.MetaPathFinder):
    """Finds none of the modules of a package."""

    def __init__(self, name):
        self.name = name

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def without(monkeypatch):
    """Makes a package one that is not installed."""

    def hide(package):
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "meta_path", [Absent(package), *sys.meta_path])

    return hide


@pytest.mark.parametrize(
    ("module", "installed"),
    [
        ("PIL.Image", "pillow"),
        ("onnx", "onnx"),
        ("requests", "requests"),
        ("ignite.engine", "'monai_lighter[zoo]'"),
        ("jsonschema", "'monai_lighter[share]'"),
        ("mlflow", "'monai_lighter[mlflow]'"),
    ],
)
def test_the_extra_or_the_distribution(module, installed):
    assert find_install_command(module) == f"pip install {installed}"


@pytest.mark.parametrize(("package", "installed"), [("jsonschema", "'monai_lighter[share]'"), ("nrrd", "pynrrd")])
def test_an_import_of_python_and_one_of_monai(without, package, installed):
    without(package)
    with pytest.raises(ImportError) as caught:
        __import__(package)
    assert in_short(caught.value).endswith(f"Install it: pip install {installed}.")
    module, _ = optional_import(package)
    with pytest.raises(ImportError) as caught:
        module.anything  # noqa: B018
    assert in_short(caught.value).endswith(f"(No module named '{package}'). Install it: pip install {installed}.")


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'scripts'"),
        ModuleNotFoundError("No module named 'torch.nosuch'"),
        ImportError("cannot import name 'x' from 'torch'"),
        ValueError("No module named 'PIL'"),
    ],
)
def test_what_no_package_would_mend(error):
    assert install_hint_of(error) == ""
