"""Values of sections that are of the wrong kind: told by the check, beside everything else, and no crash of it."""

import pytest
import yaml

from monai_lighter import ConfigError, Workflow


def errors(bundle, stage="fit", **override):
    run = Workflow(str(bundle / "configs" / "train.yaml"), logging_file=False, run_id=stage, **override)
    with pytest.raises(ConfigError) as caught:
        run.initialize()
    return str(caught.value)


@pytest.mark.parametrize(
    ("id", "value", "said"),
    [
        ("system::dataloaders", [{"_target_": "DataLoader"}], "system::dataloaders: must be a section, got [{"),
        ("args", {"fit": 3}, "args::fit: must be a section, got 3"),
        ("seed", "abc", "seed: must be a whole number from 0 to 4294967295, got 'abc'"),
        ("seed", -1, "seed: must be a whole number from 0 to 4294967295, got -1"),
        ("seed", 2**32, "seed: must be a whole number from 0 to 4294967295, got 4294967296"),
        ("trainer::max_epochs", "abc", "trainer::max_epochs: must be a whole number or null, got the text 'abc'"),
        ("args", {"fit": {"ckpt_path": "no.ckpt"}}, "args::fit::ckpt_path: there is no checkpoint 'no.ckpt'"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_beside_what_else_is_wrong(bundle, id, value, said):
    message = errors(bundle, **{id: value, "system::modle": 1})
    assert said in message
    assert "system::modle" in message


SGD = {"_target_": "torch.optim.SGD", "params": "$@network_def.parameters()", "lr": 0.1}


@pytest.mark.parametrize(("key", "value"), [("gradient_clip_val", 1.0), ("accumulate_grad_batches", 2)])
@pytest.mark.parametrize("optimizers", [[SGD, SGD], {"a": SGD, "b": SGD}])
def test_what_lightning_does_for_one_optimizer_alone(bundle, key, value, optimizers):
    message = errors(bundle, **{f"trainer::{key}": value, "system::optimizer": optimizers})
    assert message.startswith(
        f"trainer::{key}: is for one optimizer, and system::optimizer has 2, got {value}. Leave it out"
    )


@pytest.mark.parametrize(
    ("optimizers", "clipped", "stage"), [([SGD], 1.0, "fit"), ([SGD, SGD], 0.0, "fit"), ([SGD, SGD], 1.0, "validate")]
)
def test_one_optimizer_and_stages_without_any_may_be_clipped(bundle, optimizers, clipped, stage):
    changes = {"trainer::gradient_clip_val": clipped, "system::optimizer": optimizers}
    Workflow(str(bundle / "configs" / "train.yaml"), logging_file=False, run_id=stage, **changes).initialize()


@pytest.mark.parametrize("seed", [0, "42", "$40 + 2", None])
def test_seeds_that_are_numbers(bundle, seed):
    Workflow(str(bundle / "configs" / "train.yaml"), logging_file=False, run_id="fit", seed=seed).initialize()


@pytest.mark.slow
def test_weights_are_no_checkpoint(bundle):
    config = str(bundle / "configs" / "train.yaml")
    Workflow(config, logging_file=False, run_id="fit").run()
    weights = str(bundle / "models" / "model.pt")
    with pytest.raises(ConfigError, match=r"args::fit::ckpt_path: must be a checkpoint of Lightning, .*model\.pt"):
        Workflow(config, logging_file=False, run_id="fit", args={"fit": {"ckpt_path": weights}}).run()


@pytest.mark.slow
def test_a_stage_builds_nothing_of_the_others_through_references(bundle):
    config = yaml.safe_load((bundle / "configs" / "inference.yaml").read_text())
    loaders = {**config["system"]["dataloaders"], "train": {"_target_": "DataLoader", "dataset": "$1 / 0"}}
    config |= {"loaders": loaders, "sys": {**config["system"], "dataloaders": "@loaders", "optimizer": "$1 / 0"}}
    config["system"] = "@sys"
    (bundle / "configs" / "inference.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    Workflow(str(bundle / "configs" / "inference.yaml"), logging_file=False, run_id="predict").run()
    assert len(list((bundle / "eval").glob("*.nii.gz"))) == 2
