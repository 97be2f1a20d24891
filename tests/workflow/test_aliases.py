"""What code that imports Lighter, or pytorch_lightning for it, is given, and that it ends."""

import importlib
import sys

import lightning.pytorch
import pytest

import monai_lighter
from monai_lighter.callbacks.output_writers import BatchWriter
from monai_lighter.config import lighter
from monai_lighter.config.lighter import MODULES
from monai_lighter.workflow.aliases import Aliases, install_aliases, remove_aliases


@pytest.fixture(autouse=True)
def _restored():
    yield
    remove_aliases()


def test_names_of_lighter_are_this_packages(caplog):
    install_aliases(of_model=False)
    import lighter.adapters  # noqa: PLC0415
    from lighter import LighterModule, System  # noqa: PLC0415
    from lighter.callbacks import FileWriter, Freezer  # noqa: PLC0415
    from lighter.callbacks.writer.base import BaseWriter  # noqa: PLC0415
    from lighter.utils.data import collate_replace_corrupted  # noqa: PLC0415
    from lighter.utils.model import replace_layer_with_identity  # noqa: PLC0415

    assert (System, LighterModule) == (monai_lighter.System, monai_lighter.LighterModule)
    assert (FileWriter, Freezer) == (monai_lighter.FileWriter, monai_lighter.Freezer)
    assert lighter.adapters.BatchAdapter is monai_lighter.BatchAdapter
    assert BaseWriter is importlib.import_module("monai_lighter.callbacks.writers").BaseWriter
    assert replace_layer_with_identity.__module__ == "monai_lighter.models"
    assert collate_replace_corrupted.__module__ == "monai_lighter.collate"
    assert [record.message[:29] for record in caplog.records] == ["Lighter is not installed: cod"]


def test_names_of_lighter_0_1_0():
    install_aliases(of_model=True)
    from lighter.callbacks import CsvWriter, FileWriter  # noqa: PLC0415
    from lighter.callbacks.base_writer import BaseWriter  # noqa: PLC0415

    assert (FileWriter, CsvWriter) == (monai_lighter.OutputWriter, monai_lighter.CsvWriter)
    assert BaseWriter is BatchWriter


def test_every_module_can_be_imported_and_no_other():
    install_aliases(of_model=True)
    assert all(importlib.import_module(name).__name__ == name for name in MODULES)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("lighter.engine")
    with pytest.raises(ImportError, match="Runner"):
        exec("from lighter import Runner", {})


def test_pytorch_lightning_is_the_lightning_of_this_package():
    real = importlib.import_module("pytorch_lightning")
    install_aliases(of_model=False)
    import pytorch_lightning as pl  # noqa: PLC0415
    import pytorch_lightning.callbacks as callbacks  # noqa: PLC0415
    from pytorch_lightning.loggers.csv_logs import CSVLogger  # noqa: PLC0415

    assert pl is lightning.pytorch
    assert callbacks.ModelCheckpoint is lightning.pytorch.callbacks.ModelCheckpoint
    assert CSVLogger is lightning.pytorch.loggers.CSVLogger
    assert lightning.pytorch.__spec__.name == "lightning.pytorch"
    remove_aliases()
    assert importlib.import_module("pytorch_lightning") is real
    assert real.LightningModule is not lightning.pytorch.LightningModule


def test_they_end():
    install_aliases(of_model=False)
    install_aliases(of_model=True)
    assert sum(isinstance(finder, Aliases) for finder in sys.meta_path) == 1
    importlib.import_module("lighter.callbacks.writer.file")
    remove_aliases()
    assert not [name for name in sys.modules if name.partition(".")[0] == "lighter"]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("lighter")


def test_lighter_that_is_installed_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "lighter").mkdir()
    (tmp_path / "lighter" / "__init__.py").write_text("System = 'its own'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert lighter.is_installed()
    install_aliases(of_model=False)
    assert importlib.import_module("lighter").System == "its own"
    del sys.modules["lighter"]  # monkeypatch would put it back
