"""What is found in a config of MONAI's engines before it is run."""

import pytest

from monai_lighter.check import zoo as engines
from monai_lighter.check.zoo import engine_findings, missing_packages

ENGINE = {"_target_": "SupervisedTrainer"}


@pytest.mark.parametrize(
    ("section", "id", "words"),
    [
        ({"device": 2}, "lightning::device", "Did you mean 'devices'?"),
        ({"train#trainer": {"precison": 16}}, "lightning::train#trainer::precison", "Did you mean 'precision'?"),
        ({"train": {"trainer": {"precison": 16}}}, "lightning::train::trainer::precison", "Did you mean 'precision'?"),
        ({"train": {"precision": 16}}, "lightning::train::precision", "no argument 'precision'"),
        ({"_target_": "Trainer"}, "lightning::_target_", "no argument '_target_'"),
        ({"train#traner": {"precision": 16}}, "lightning::train#traner", "Did you mean 'train::trainer'?"),
        (3, "lightning", "must be a section, got 3"),
    ],
)
def test_a_keyword_that_the_trainer_does_not_have_is_found(section, id, words):
    (finding,) = engine_findings({"train": {"trainer": ENGINE}, "lightning": section})
    assert finding.id == id
    assert words in str(finding)


def test_keywords_of_the_trainer_and_of_one_engine_are_fine():
    section = {"devices": 2, "ckpt_path": "a.ckpt", "train::trainer": {"accumulate_grad_batches": 2}}
    assert not list(engine_findings({"train": {"trainer": ENGINE}, "lightning": section}))
    assert not list(engine_findings({"train": {"trainer": ENGINE}, "lightning": "@other"}))
    assert not list(engine_findings({"train": {"trainer": ENGINE}, "lightning": {"_requires_": "@seed"}}))


def test_a_section_elsewhere_is_looked_at_there():
    (finding,) = engine_findings({"lightning": "@other", "other": {"device": 2}})
    assert finding.id == "other::device"


def test_engines_without_ignite_name_the_extra(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    (finding,) = engine_findings({"train": {"trainer": ENGINE}, "network_def": {"_target_": "UNet"}})
    assert finding.id == "train::trainer::_target_"
    assert "monai_lighter[zoo]" in str(finding)


def test_packages_that_the_metadata_asks_for_are_told_where_they_are_missing():
    meta = {"required_packages_version": {"nibabel": "5.0", "pytorch-ignite": "0.4", "no-such-package": "1.2"}}
    (finding,) = missing_packages(meta)
    assert "no-such-package 1.2" in str(finding)
