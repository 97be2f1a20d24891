"""What is found in a config of MONAI's engines before it is run."""

import json

import pytest
from monai.bundle import ConfigParser

from monai_lighter.check import engine_config as engines
from monai_lighter.check.engine_config import check_engines, find_missing_packages
from monai_lighter.workflow.check_config import Check
from monai_lighter.workflow.prepare import Asked

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
    (finding,) = check_engines({"train": {"trainer": ENGINE}, "lightning": section})
    assert finding.id == id
    assert words in str(finding)


def test_keywords_of_the_trainer_and_of_one_engine_are_fine():
    section = {"devices": 2, "ckpt_path": "a.ckpt", "train::trainer": {"accumulate_grad_batches": 2}}
    assert not list(check_engines({"train": {"trainer": ENGINE}, "lightning": section}))
    assert not list(check_engines({"train": {"trainer": ENGINE}, "lightning": "@other"}))
    assert not list(check_engines({"train": {"trainer": ENGINE}, "lightning": {"_requires_": "@seed"}}))


def test_a_section_elsewhere_is_looked_at_there():
    (finding,) = check_engines({"lightning": "@other", "other": {"device": 2}})
    assert finding.id == "other::device"


def test_engines_without_ignite_name_the_extra(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    (finding,) = check_engines({"train": {"trainer": ENGINE}, "network_def": {"_target_": "UNet"}})
    assert finding.id == "train::trainer::_target_"
    assert "monai_lighter[zoo]" in str(finding)


def test_packages_that_the_metadata_asks_for_are_told_where_they_are_missing():
    meta = {"required_packages_version": {"nibabel": "5.0", "pytorch-ignite": "0.4", "no-such-package": "1.2"}}
    (finding,) = find_missing_packages(meta)
    assert "no-such-package 1.2" in str(finding)


def check(folder, script="", **items):
    (folder / "configs").mkdir()
    if script:
        (folder / "scripts").mkdir()
        (folder / "scripts" / "__init__.py").write_text(script)
    file = folder / "configs" / "train.json"
    file.write_text(json.dumps(items))
    found = Check(str(file), asked=Asked("run"))
    return [str(error) for error in found.errors], " ".join(map(str, found.notes))


WRAPPED = """
from functools import wraps

def with_seed(function):
    @wraps(function)
    def outer(*args, seed=None, **kwargs):
        return function(*args, **kwargs)
    return outer

@with_seed
def make(size):
    return size
"""


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ({"imports": "$import monay", "run": "$1"}, "no package 'monay'"),
        ({"imports": "$import monai.nothing", "run": "$1"}, "no module 'monai.nothing'"),
        ({"imports": "$from monai.data import Nothing", "run": "$1"}, "no attribute 'Nothing'"),
        ({"run": "$absent.value if False else 1"}, "the name 'absent'"),
        ({"run": "$True or absent"}, "the name 'absent'"),
        ({"run": "$[absent for i in []]"}, "the name 'absent'"),
        ({"run": "$(lambda: torch.absent) and 1", "imports": "$import torch"}, "no attribute 'absent'"),
        ({"runn": "$1", "run": "$1", "intialize": "$1"}, "Did you mean 'initialize'?"),
        ({"run": {"_target_": "math.pi"}}, "must be a class or function, got the float math.pi"),
    ],
)
def test_what_monai_runs_is_no_error(tmp_path, items, words):
    errors, notes = check(tmp_path, **items)
    assert not errors
    assert words in notes
    ConfigParser(items).get_parsed_content("run")


def test_a_class_that_nothing_adds(tmp_path):
    errors, _ = check(tmp_path, run={"_target_": "monai.networks.nets.Patched"})
    assert "'monai.networks.nets.Patched' cannot be found" in errors[0]


def test_a_class_that_a_script_may_add(tmp_path):
    errors, notes = check(tmp_path, "import monai", run={"_target_": "monai.networks.nets.Patched"})
    assert not errors
    assert "'monai.networks.nets.Patched' cannot be found" in notes


def test_a_keyword_that_a_wrapper_takes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "wrapping_9.py").write_text(WRAPPED)
    errors, notes = check(tmp_path, run={"_target_": "wrapping_9.make", "size": 1, "seed": 2})
    assert not errors
    assert "has no argument 'seed'" in notes


@pytest.mark.parametrize("text", ["$absent.value", "$torch.absent", "$@absent", "$[i for i in absent]"])
def test_what_is_bound_to_fail_is_one(tmp_path, text):
    errors, _ = check(tmp_path, imports="$import torch", run=text)
    assert len(errors) == 1
    assert "absent" in errors[0]


@pytest.mark.parametrize("text", ["$ 1 + 1", "$\t1", "$ @seed", "$ import math", "$\n 1"])
def test_an_expression_that_begins_with_a_space(tmp_path, text):
    errors, _ = check(tmp_path, seed=1, run=text)
    assert "run: begins with a space, at which MONAI ends (IndentationError)" in errors[0]
    assert f"Write {'$' + text[1:].strip()!r}." in errors[0]
    with pytest.raises(IndentationError):
        ConfigParser({"seed": 1, "run": text}).get_parsed_content("run")


def test_a_line_break_is_no_space(tmp_path):
    items = {"run": "$\n1 +\\\n  1"}
    errors, _ = check(tmp_path, **items)
    assert not errors
    assert ConfigParser(items).get_parsed_content("run") == 2
