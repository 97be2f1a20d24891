import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

from monai_lighter import ConfigError, Workflow
from monai_lighter.callbacks.curves import CurvesLogger
from monai_lighter.workflow.tracking import add_tracking, claim_log_folders, read_tracking_settings, save_executed


def fit(bundle, **arguments):
    run = Workflow(str(bundle / "configs" / "train.yaml"), logging_file=False, run_id="fit", **arguments)
    run.run()
    return run


def rows(database, query):
    with sqlite3.connect(database) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.slow
def test_a_run_is_tracked_where_monai_would_track_it(bundle, caplog):
    pytest.importorskip("mlflow")
    fit(bundle, tracking="mlflow", run_name="mine", save_execute_config=True)
    database = bundle / "eval" / "mlruns.db"
    assert ("monai_experiment",) in rows(database, "select name from experiments")
    assert rows(database, "select name from runs") == [("mine",)]
    metrics = {key for (key,) in rows(database, "select distinct key from metrics")}
    assert {"train/loss/epoch", "val/loss/epoch", "val/metrics/dice/epoch"} <= metrics
    parameters = dict(rows(database, "select key, value from params"))
    assert parameters["network_def/_target_"] == "UNet"
    (file,) = (bundle / "eval").glob("config_*.json")
    assert json.loads(file.read_text())["max_epochs"] == 1
    assert not [record for record in caplog.records if "nothing in the config" in record.getMessage()]


@pytest.mark.slow
def test_settings_may_be_a_dictionary_or_a_file(bundle, tmp_path):
    pytest.importorskip("mlflow")
    settings = {"configs": {"experiment_name": "theirs", "output_dir": str(tmp_path / "out")}}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    run = fit(bundle, tracking=str(tmp_path / "settings.yaml"), save_execute_config=False)
    assert run.trainer.loggers[0].experiment.get_experiment_by_name("theirs") is not None
    assert not list((tmp_path / "out").glob("config_*.json"))
    run = Workflow(str(bundle / "configs" / "train.yaml"), logging_file=False, run_id="fit", tracking=settings)
    assert run.parser["experiment_name"] == "theirs"


def test_a_wrong_name_is_told(bundle):
    with pytest.raises(ConfigError) as caught:
        fit(bundle, tracking="mlflwo")
    message = "tracking: must be 'mlflow' or a settings file, got 'mlflwo'. Did you mean 'mlflow'?"
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, []),
        (False, []),
        (True, []),
        ([], []),
        (["a"], ["a"]),
        ("@mine", ["@mine"]),
        ({"_target_": "X"}, [{"_target_": "X"}]),
    ],
)
def test_loggers_that_are_there_stay(given, kept):
    config = {"trainer": {"logger": given}}
    add_tracking(config, "mlflow")
    *others, added = config["trainer"]["logger"]
    assert others == kept
    assert added["_target_"] == "lightning.pytorch.loggers.MLFlowLogger"


@pytest.mark.parametrize("config", [{}, {"trainer": None}])
def test_a_trainer_is_begun_where_there_is_none(config):
    add_tracking(config, "mlflow")
    assert len(config["trainer"]["logger"]) == 1
    assert config["tracking_uri"] == DEFAULT_MLFLOW_SETTINGS["configs"]["tracking_uri"]


def test_a_trainer_that_is_no_section():
    with pytest.raises(ConfigError, match=r"trainer: must be a section to be tracked, got '@other'\. Write it out\."):
        add_tracking({"trainer": "@other"}, "mlflow")


def test_items_of_the_config_are_kept():
    config = {"experiment_name": "mine", "trainer": {}}
    add_tracking(config, {"configs": {"experiment_name": "theirs", "run_name": "r"}})
    assert (config["experiment_name"], config["run_name"]) == ("mine", "r")


def test_settings():
    assert read_tracking_settings("mlflow") is DEFAULT_MLFLOW_SETTINGS
    assert read_tracking_settings({"configs": {}}) == {"configs": {}}


def test_the_executed_config_is_written_where_it_is_wanted(tmp_path):
    path = tmp_path / "a" / "config.json"
    save_executed(ConfigParser({"save_execute_config": str(path)}), {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}
    save_executed(ConfigParser({"save_execute_config": False, "output_dir": str(tmp_path / "b")}), {})
    assert not (tmp_path / "b").exists()
    save_executed(ConfigParser({"output_dir": str(tmp_path / "b")}), {})
    assert len(list((tmp_path / "b").iterdir())) == 1


def test_a_zoo_style_config_is_tracked_as_under_config_workflow(bundle, extra):
    config = {"bundle_root": str(bundle), "trainer": {"max_epochs": 1}, "run": "$@experiment_name"}
    settings = {"handlers_id": {}, "configs": {"experiment_name": "theirs"}}
    run = Workflow(extra(config, "zoo.yaml"), logging_file=False, tracking=settings)
    assert run.run() == ["theirs"]
    assert len(list((bundle / "eval").glob("config_*.json"))) == 1


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger, CurvesLogger])
def test_runs_that_begin_at_once_have_a_folder_each(kind, tmp_path):
    first = kind(tmp_path, "lightning_logs")
    claim_log_folders([first])
    loggers = [kind(tmp_path, "lightning_logs") for _ in range(8)]
    assert {logger.version for logger in loggers[:2]} == {1}  # as Lightning numbers those of two runs
    loggers = [kind(tmp_path, "lightning_logs") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        [*pool.map(lambda logger: claim_log_folders([logger]), loggers)]
    assert sorted(logger.version for logger in [first, *loggers]) == [*range(9)]
    assert sorted(path.name for path in (tmp_path / "lightning_logs").iterdir()) == [f"version_{i}" for i in range(9)]


def test_tables_lie_beside_what_tensorboard_writes(tmp_path):
    named, beside = CSVLogger(tmp_path, "lightning_logs", "mine"), TensorBoardLogger(tmp_path, "lightning_logs")
    tables = CurvesLogger(tmp_path, beside=beside)
    claim_log_folders([beside, tables, named])
    assert (tables.log_dir, named.version) == (beside.log_dir, "mine")
    assert [path.name for path in (tmp_path / "lightning_logs").iterdir()] == ["version_0"]
