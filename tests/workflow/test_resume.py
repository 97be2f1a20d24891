"""The checkpoint that a fit goes on from."""

import pytest
import torch

from monai_lighter import ConfigError, Workflow
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


def test_a_fit_that_a_bad_case_ended_may_go_on_without_it():
    system = {**CONFIG["system"], "on_bad_case": "skip", "max_bad_cases": 3}
    assert find_differences(CONFIG, changed(system=system)) == []


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
    assert choose_checkpoint("auto", CONFIG, []) is None
    path = save(tmp_path, CONFIG)
    assert choose_checkpoint("auto", CONFIG, [path]) == choose_checkpoint(str(path), CONFIG, []) == str(path)
    assert choose_checkpoint("none", CONFIG, [path]) is None


def test_a_checkpoint_of_another_config_is_an_error_that_names_what_differs(tmp_path):
    path = save(tmp_path, CONFIG)
    with pytest.raises(ConfigError) as caught:
        choose_checkpoint("auto", changed(lr=0.2), [path])
    hint = "Set it back, or give --resume force to go on with what the config says now."
    assert str(caught.value) == f"lr: is 0.2, and was 0.1 when {path} was made. {hint}"
    assert choose_checkpoint("force", changed(lr=0.2), [path]) == str(path)


def test_a_path_that_is_no_checkpoint(tmp_path):
    with pytest.raises(ConfigError, match=r"resume: must be a checkpoint, 'nowhere\.ckpt' is not there"):
        choose_checkpoint("nowhere.ckpt", CONFIG, [])
    (tmp_path / "x.ckpt").write_bytes(b"no")
    with pytest.raises(ConfigError, match="cannot be read"):
        choose_checkpoint(str(tmp_path / "x.ckpt"), CONFIG, [])


LOGGED = {"seed": 5, "trainer::logger": True}


def run(bundle, **override):
    made = Workflow(str(bundle / "configs" / "train.yaml"), logging_file=False, run_id="fit", **{**LOGGED, **override})
    made.run()
    return made


@pytest.mark.slow
def test_a_fit_that_is_resumed_comes_to_the_weights_of_the_one_not_stopped(bundle, caplog):
    whole = run(bundle, **{"trainer::max_epochs": 3, "trainer::default_root_dir": str(bundle / "whole")})
    with caplog.at_level("INFO"):
        run(bundle, **{"trainer::max_epochs": 2}, resume="auto")
        assert "it begins anew" in caplog.text
        again = run(bundle, **{"trainer::max_epochs": 3}, resume="auto")
    checkpoint = bundle / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"
    assert f"the fit goes on from {checkpoint}" in caplog.text
    pairs = zip(whole.system.model.parameters(), again.system.model.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    with pytest.raises(ConfigError, match=r"seed: is 6, and was 5 when .*last\.ckpt was made"):
        run(bundle, seed=6, resume="auto")
    other = run(bundle, seed=6, **{"args::fit::ckpt_path": str(checkpoint), "trainer::max_epochs": 3})
    assert "seed: is 6, and was 5" in caplog.text
    assert other.trainer.current_epoch == 3


def test_what_resume_may_be(bundle):
    with pytest.raises(ConfigError, match="resume: must be a checkpoint, auto, force or none, got True"):
        Workflow(str(bundle / "configs" / "train.yaml"), run_id="fit", logging_file=False, resume=True).initialize()
