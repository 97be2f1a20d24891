"""`find_log_folder`: a folder of one run alone, whichever logger comes first."""

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from parts import Memory, Shared, trainer

from monai_lighter.system.logging import find_log_folder

LOGGERS = {
    "csv": (lambda path: CSVLogger(path / "logs", "mine", "first"), "logs/mine/first"),
    "TensorBoard": (lambda path: TensorBoardLogger(path / "logs", "mine", 3), "logs/mine/version_3"),
    "a folder that all runs share": (Shared, "project/7"),
    "in a network": (lambda path: Shared("s3://bucket"), None),
    "csv in a network": (lambda path: CSVLogger("memory://bucket"), None),
    "nowhere": (lambda path: Memory(), None),
}


@pytest.mark.parametrize(("make", "expected"), LOGGERS.values(), ids=LOGGERS)
def test_the_folder_is_of_one_run(make, expected, tmp_path):
    if expected == "logs/mine/version_3":
        pytest.importorskip("tensorboard")
    run = trainer(tmp_path, logger=make(tmp_path))
    assert find_log_folder(run) == (None if expected is None else tmp_path / expected)


def test_the_first_logger_decides_and_a_run_that_keeps_nothing_has_none(tmp_path):
    loggers = [CSVLogger(tmp_path, version=4), Shared(tmp_path)]
    assert find_log_folder(trainer(tmp_path, logger=loggers)) == tmp_path / "lightning_logs" / "version_4"
    assert find_log_folder(trainer(tmp_path)) is None
    assert find_log_folder(trainer(tmp_path, logger=loggers, fast_dev_run=True)) is None
