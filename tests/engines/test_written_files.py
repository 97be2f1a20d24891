"""What handlers write under Lightning is what they write under Ignite: names and contents of all files."""

import logging

import pytest

pytestmark = pytest.mark.slow

VALIDATION = {"_target_": "ValidationHandler", "validator": "@validate#evaluator", "interval": 1}
LOSS = "$monai.handlers.from_engine(['loss'], first=True)"
NETWORK = {"network": "@network"}


def saver(**arguments):
    return {"_target_": "CheckpointSaver", "save_dir": "@output_dir", "save_dict": NETWORK, **arguments}


def board(**arguments):
    return {"_target_": "TensorBoardStatsHandler", "log_dir": "@output_dir", "output_transform": LOSS, **arguments}


IMAGES = {
    "_target_": "TensorBoardImageHandler",
    "log_dir": "@output_dir",
    "batch_transform": "$monai.handlers.from_engine(['image', 'label'])",
    "output_transform": "$monai.handlers.from_engine(['pred'])",
}
METRICS = {
    "_target_": "MetricsSaver",
    "save_dir": "@output_dir",
    "metrics": "*",
    "metric_details": "*",
    "batch_transform": "$lambda batch: [item['image'].meta for item in batch]",
    "summary_ops": "*",
}
CLASSES = {
    "_target_": "ClassificationSaver",
    "output_dir": "@output_dir",
    "batch_transform": "$lambda batch: [item['image'].meta for item in batch]",
    "output_transform": "$lambda output: [item['pred'].mean().reshape(1) for item in output]",
}
PARAMETER = {
    "_target_": "ParamSchedulerHandler",
    "parameter_setter": "$lambda value: @optimizer.param_groups[0].update(lr=value)",
    "value_calculator": "linear",
    "vc_kwargs": {"initial_value": 0.1, "step_constant": 1, "step_max_value": 5, "max_value": 0.01},
}
LOG = {"_target_": "LogfileHandler", "output_dir": "@output_dir"}

HANDLERS = [
    pytest.param("train", saver(save_final=True), 1, id="final"),
    pytest.param("train", saver(save_final=True, final_filename="last.pt"), 1, id="final by name"),
    pytest.param("train", saver(save_interval=1, n_saved=2), 2, id="every epoch"),
    pytest.param("train", saver(save_interval=2, epoch_level=False), 4, id="every second iteration"),
    pytest.param("train", saver(save_key_metric=True), 1, id="best in training"),
    pytest.param("validate", saver(save_key_metric=True, key_metric_filename="model.pt"), 1, id="best by name"),
    pytest.param(
        "validate", saver(save_key_metric=True, key_metric_n_saved=3, key_metric_save_state=True), 1, id="best three"
    ),
    pytest.param("validate", METRICS, 2, id="MetricsSaver"),
    pytest.param("validate", CLASSES, 1, id="ClassificationSaver"),
    pytest.param("train", board(), 1, id="TensorBoardStatsHandler"),
    pytest.param("validate", board(iteration_log=False), 1, id="TensorBoardStatsHandler of the validator"),
    pytest.param("train", IMAGES, 1, id="TensorBoardImageHandler"),
    pytest.param("train", PARAMETER, 0, id="ParamSchedulerHandler"),
    pytest.param("train", {"_target_": "GarbageCollector", "trigger_event": "iteration"}, 0, id="GarbageCollector"),
    pytest.param("train", LOG, 1, id="LogfileHandler"),
    pytest.param(
        "train", {"_target_": "StatsHandler", "output_transform": LOSS, "name": "trained"}, 0, id="StatsHandler"
    ),
]


@pytest.mark.parametrize(("section", "handler", "files"), HANDLERS)
def test_files(both, section, handler, files):
    handlers = [VALIDATION, handler] if section == "train" else [handler]
    epochs = 4 if section == "train" and handler.get("epoch_level") is not False else 3
    reference = both({f"{section}#extra": handlers, "epochs": epochs})
    assert reference.error is None
    assert len(reference.files) >= files


def test_checkpoint_of_a_run_that_fails(both):
    reference = both({"train#extra": [saver(save_final=True)], "network_def#fails_at": 4}, fails=True)
    assert reference.error == "ArithmeticError: call 4 fails"
    assert reference.files


def test_stats_are_logged_alike(run, caplog):
    handler = {"_target_": "StatsHandler", "output_transform": LOSS, "name": "trained"}
    written = []
    logging.getLogger("trained").addHandler(caplog.handler)
    for engine in ("ignite", "lightning"):
        caplog.clear()
        with caplog.at_level("INFO"):
            run(engine, {"train#extra": [handler, VALIDATION]})
        written.append([record.getMessage() for record in caplog.records if record.name == "trained"])
    assert written[0] == written[1]
    assert len(written[0]) >= 6


def test_logger_of_metrics(both):
    run = ["$@train#trainer.run()", "$@log.loss", "$dict(@log.metrics)"]
    log = {"_target_": "MetricLogger", "loss_transform": "$lambda output: output[0]['loss']",
           "evaluator": "@validate#evaluator"}  # fmt: skip
    assert both({"log": log, "train#extra": ["@log", VALIDATION], "run": run}).error is None


def test_smart_cache(both):
    dataset = {"_target_": "SmartCacheDataset", "data": "$zoo_parts.items(6)", "replace_rate": 0.5, "cache_num": 4,
               "num_init_workers": 1, "num_replace_workers": 1, "progress": False, "shuffle": False}  # fmt: skip
    handler = {"_target_": "SmartCacheHandler", "smartcacher": "@train#dataset"}
    assert both({"train#dataset": dataset, "train#extra": [handler], "recorder#random": False}).error is None


@pytest.mark.parametrize("event", ["MODEL_COMPLETED", "ITERATION_COMPLETED"])
def test_decollate_and_postprocessing_by_handlers(both, event):
    handlers = [{"_target_": "DecollateBatch", "event": event},
                {"_target_": "PostProcessing", "event": event, "transform": "@train#postprocessing"}]  # fmt: skip
    changes = {"train#trainer#decollate": False, "train#trainer#postprocessing": None, "train#key_metric": None}
    assert both({**changes, "train#extra": handlers}).error is None
