"""The checkpoint that a fit goes on from."""

import pytest
import torch

from monai_lighter import ConfigError
from monai_lighter.workflow.resume import choose_checkpoint, find_differences

CONFIG = {
    "bundle_root": "/a",
    "seed": 0,
    "lr": 0.1,
    "max_epochs": 3,
    "workers": 0,
    "unused": 1,
    "net": {"_target_": "UNet", "channels": [4, 8]},
    "system": {
        "model": "@net",
        "optimizer": {"_target_": "Adam", "params": "$@net.parameters()", "lr": "@lr"},
        "dataloaders": {"train": {"_target_": "DataLoader", "num_workers": "@workers", "batch_size": 2}},
    },
    "trainer": {"max_epochs": "@max_epochs"},
}


def changed(**items):
    return {**CONFIG, **items}


def test_what_training_does_not_depend_on_may_differ():
    assert find_differences(CONFIG, changed(bundle_root="/b", max_epochs=9, workers=4, unused=2, trainer={})) == []


def test_what_it_depends_on_is_named():
    assert find_differences(CONFIG, changed(lr=0.2, seed=1)) == [("seed", 0, 1), ("lr", 0.1, 0.2)]
    net = {"_target_": "UNet", "channels": [4, 16]}
    assert find_differences(CONFIG, changed(net=net)) == [("net::channels::1", 8, 16)]
    system = {**CONFIG["system"], "criterion": "@loss"}
    (found, loss) = find_differences(CONFIG, changed(system=system, loss={"_target_": "DiceLoss"}))
    assert found == ("system::criterion", None, "@loss")
    assert loss == ("loss", None, {"_target_": "DiceLoss"})


def save(folder, config):
    path = folder / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"hyper_parameters": config}, path)
    return path


def test_auto_takes_the_newest_or_begins_anew(tmp_path):
    assert choose_checkpoint("auto", CONFIG, tmp_path) is None
    path = save(tmp_path, CONFIG)
    assert choose_checkpoint("auto", CONFIG, tmp_path) == choose_checkpoint(str(path), CONFIG, tmp_path) == str(path)
    assert choose_checkpoint("none", CONFIG, tmp_path) is None


def test_a_checkpoint_of_another_config_is_an_error_that_names_what_differs(tmp_path):
    path = save(tmp_path, CONFIG)
    with pytest.raises(ConfigError) as caught:
        choose_checkpoint("auto", changed(lr=0.2), tmp_path)
    hint = "Set it back, or give --resume force to go on with what the config says now."
    assert str(caught.value) == f"lr: is 0.2, and was 0.1 when {path} was made. {hint}"
    assert choose_checkpoint("force", changed(lr=0.2), tmp_path) == str(path)


def test_a_path_that_is_no_checkpoint(tmp_path):
    with pytest.raises(ConfigError, match=r"resume: must be a checkpoint, 'nowhere\.ckpt' is not there"):
        choose_checkpoint("nowhere.ckpt", CONFIG, tmp_path)
    (tmp_path / "x.ckpt").write_bytes(b"no")
    with pytest.raises(ConfigError, match="cannot be read"):
        choose_checkpoint(str(tmp_path / "x.ckpt"), CONFIG, tmp_path)
