"""Stages called from Python."""

import nibabel
import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from monai.data import MetaTensor
from monai.engines import SupervisedTrainer

from monai_lighter import ConfigError, System, Workflow

PREDICT = {
    "system::dataloaders::predict": {
        "_target_": "DataLoader",
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': each} for each in @files]",
            "transform": {
                "_target_": "Compose",
                "transforms": "$[@preprocessing[0].__class__('image', ensure_channel_first=True)]",
            },
        },
    }
}

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("impatient_workers")]


def workflow(bundle, *names, **override):
    files = [str(bundle / "configs" / f"{name}.yaml") for name in names or ("train",)]
    return Workflow(files, logging_file=False, **override)


def test_fit_gives_what_was_logged(bundle):
    run = workflow(bundle)
    metrics = run.fit()
    assert metrics == {name: float(value) for name, value in run.trainer.callback_metrics.items()} == run.metrics
    assert {"train/loss/epoch", "val/loss/epoch"} <= metrics.keys()
    assert isinstance(run.trainer, Trainer)
    assert isinstance(run.system, System)


def test_stages_share_the_network_and_the_trainer(bundle):
    run = workflow(bundle, **PREDICT)
    before = {name: each.clone() for name, each in run.system.model.state_dict().items()}
    run.fit()
    network, trainer = run.system.model, run.trainer
    trained = {name: each.clone() for name, each in network.state_dict().items()}
    assert any(not torch.equal(before[name], each) for name, each in trained.items())
    items = run.predict()
    assert run.system.model is network
    assert run.trainer is trainer
    assert all(torch.equal(trained[name], each) for name, each in network.state_dict().items())
    assert len(items) == 6
    with torch.no_grad():
        expected = [network.eval()(batch["image"])[0] for batch in run.system.dataloaders["predict"]]
    for item, each in zip(items, expected, strict=True):
        torch.testing.assert_close(item["pred"].as_tensor(), each.as_tensor())


def test_a_stage_that_comes_again_keeps_its_optimizer(bundle, caplog):
    run = workflow(bundle, **{"trainer::max_epochs": 1})
    run.fit()
    optimizer, step = run.system.optimizer, run.trainer.global_step
    run.validate()
    with caplog.at_level("INFO"):
        run.fit()
    assert run.trainer.global_step == step
    assert "nothing is left to do" in caplog.text
    run.trainer.fit_loop.max_epochs = 2
    with caplog.at_level("INFO"):
        run.fit()
    assert run.system.optimizer is optimizer
    assert run.trainer.global_step == 2 * step
    assert "goes on with epoch 2" in caplog.text


def test_predictions_are_items_with_identifier_and_geometry(bundle):
    run = workflow(bundle, "inference")
    items = run.predict()
    written = sorted((bundle / "eval").glob("*.nii.gz"))
    assert len(items) == len(written) == 2
    for item, path in zip(sorted(items, key=lambda one: str(one["identifier"])), written, strict=True):
        image = nibabel.load(path)
        assert isinstance(item["pred"], MetaTensor)
        np.testing.assert_array_equal(
            item["pred"].numpy(), np.moveaxis(np.asarray(image.dataobj).reshape(16, 16, -1), -1, 0)
        )
        assert str(item["identifier"]).split("/")[-1].split(".")[0] in path.name
    assert not any(type(each).__name__ == "Predictions" for each in run.trainer.callbacks)
    assert run.predict(return_predictions=False) == []


def test_a_property_that_is_set_reaches_stages_that_come_later_and_keeps_the_weights(bundle):
    run = workflow(bundle)
    run.fit()
    network = run.system.model
    run.val_dataset_data = run.val_dataset_data[:1]
    run.validate()
    assert len(run.system.dataloaders["val"].dataset) == 1
    assert run.system.model is network


def test_keywords_of_the_trainers_method(bundle):
    run = workflow(bundle)
    run.fit()
    best = run.test if "test" in run.config["system"]["dataloaders"] else run.validate
    with pytest.raises(FileNotFoundError):
        best(ckpt_path="nowhere.ckpt")


def test_monais_protocol_gets_an_engine(bundle):
    run = workflow(bundle)
    run.initialize()
    assert isinstance(run.trainer, SupervisedTrainer)
    by_hand = workflow(bundle)
    assert isinstance(by_hand.trainer, Trainer)
    assert isinstance(by_hand.system, LightningModule)


def test_a_config_of_engines_has_no_stages(tmp_path):
    (tmp_path / "train.yaml").write_text("run: $1\n")
    run = Workflow(str(tmp_path / "train.yaml"), logging_file=False)
    with pytest.raises(ConfigError, match="needs a `system` section"):
        run.fit()
    with pytest.raises(AttributeError, match="native"):
        run.system  # noqa: B018


def test_an_error_of_a_step_names_its_part(bundle):
    run = workflow(bundle, **{"system::criterion": {"_target_": "torch.nn.CTCLoss"}})
    with pytest.raises(TypeError) as caught:
        run.fit()
    assert any(note.startswith("system::criterion: TypeError: CTCLoss") for note in caught.value.__notes__)
