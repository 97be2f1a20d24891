import pkgutil
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import monai_lighter

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_importing_the_package_costs_next_to_nothing():
    code = "import sys, monai_lighter; print(sorted({'torch', 'monai', 'lightning', 'numpy'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names():
    assert monai_lighter.__all__ == sorted(monai_lighter.__all__)
    for name in monai_lighter.__all__:
        value = getattr(monai_lighter, name)
        assert value.__name__ == name
        assert value.__module__.startswith("monai_lighter.")
        assert value.__doc__
    with pytest.raises(AttributeError, match="has no attribute 'Sytem'"):
        _ = monai_lighter.Sytem


@pytest.mark.slow
def test_programs_with_monai_look_up_classes_as_ever():
    """``torch`` loads this package with it, and MONAI scans every module whose name begins with ``monai``."""
    code = (
        "import sys, monai.networks.nets\n"
        "from monai.bundle.config_item import ComponentLocator\n"
        "locator = ComponentLocator()\n"
        "print(locator.get_component_module_name('UNet'), 'monai_lighter' in sys.modules, 'lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["monai.networks.nets.unet", "True", "False"]


def test_every_callback_adapter_and_error_is_public():
    for info in pkgutil.iter_modules(monai_lighter.__path__):
        if info.name not in ("adapters", "errors"):
            continue
        module = __import__(f"monai_lighter.{info.name}", fromlist=["*"])
        names = {
            name for name in module.__all__ if name[0].isupper() and name not in ("Finding", "Note", "ConfigFileError")
        }
        assert names <= set(monai_lighter.__all__)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "monai_lighter", source / "monai_lighter", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", source]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        yield archive


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = set(wheel.namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "monai_lighter").rglob("*.py")}
    assert modules <= names
    assert "monai_lighter/py.typed" in names
    assert {name.partition("/")[0] for name in names} == {
        "monai_lighter",
        f"monai_lighter-{monai_lighter.__version__}.dist-info",
    }


@pytest.mark.slow
def test_the_wheel_says_who_it_is_and_loads_with_torch(wheel):
    (information,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    entry_points = wheel.read(f"{information}/entry_points.txt").decode()
    assert "[torch.backends]\nmonai_lighter = monai_lighter.autoload:autoload" in entry_points
    metadata = wheel.read(f"{information}/METADATA").decode()
    assert f"Version: {monai_lighter.__version__}" in metadata
    bounds = (
        "torch>=2.8",
        "monai<1.7,>=1.6.1",
        "lightning<2.7,>=2.6.6",
        "torchmetrics<2,>=1.8.2",
        "pyyaml",
        "fire",
        "nibabel",
    )
    for requirement in bounds:
        assert f"Requires-Dist: {requirement}" in metadata
    assert f"{information}/licenses/LICENSE" in wheel.namelist()
