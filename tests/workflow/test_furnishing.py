"""What a Trainer is given beside its own."""

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from parts import Shared, trainer

from monai_lighter.workflow.furnishing import _add_curves


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger])
def test_the_tables_lie_where_the_logger_of_a_function_of_the_user_s_writes(kind, tmp_path):
    """Which makes the Trainer, so that the config says nothing of a logger."""
    if kind is TensorBoardLogger:
        pytest.importorskip("tensorboard")
    run = trainer(tmp_path, logger=kind(tmp_path / "elsewhere", "mine", "first"))
    _add_curves(run)
    for each in run.loggers:
        assert (each.save_dir, each.name, each.version) == (str(tmp_path / "elsewhere"), "mine", "first")
        assert each.log_dir == str(tmp_path / "elsewhere" / "mine" / "first")


def test_other_loggers_stay_as_they_are(tmp_path):
    own = Shared(tmp_path)
    run = trainer(tmp_path, logger=own)
    _add_curves(run)
    assert run.loggers == [own]
