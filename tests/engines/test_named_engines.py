"""``_target_: monai_lighter.SupervisedTrainer`` and the like, run by stock MONAI with no flag."""

import pytest
from test_settings import started
from test_trace_run_lists import TRAIN, VALIDATE
from zoo import clear, run_bundle, write_bundle

CASES = [
    pytest.param({}, id="training"),
    pytest.param({"run": [VALIDATE, "$@validate#evaluator.state.metrics"]}, id="validation"),
    pytest.param({"run": [TRAIN, VALIDATE]}, id="both"),
    pytest.param({"network_def#fails_at": 4}, id="exception"),
    pytest.param({"train#trainer#epoch_length": 5}, id="long epochs"),
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", CASES)
def test_named(both, changes):
    both(changes, engine="named", fails="network_def#fails_at" in changes)


STEPS = "train#trainer#lightning"


@pytest.mark.slow
def test_keywords_with_no_flag_are_those_of_the_section(run):
    keywords = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.01}
    weights = run("named", {STEPS: keywords}).parts["network"]
    assert weights == run("lightning", {"lightning": keywords}).parts["network"]
    assert weights != run("named").parts["network"]


@pytest.mark.slow
def test_the_section_goes_over_the_argument(root):
    clear(root)
    write_bundle(root, {STEPS: {"max_epochs": 1, "limit_train_batches": 2}}, named=True)
    outcome = run_bundle(root, "lightning", **{"lightning::limit_train_batches": 1})
    assert outcome.error is None
    assert started(outcome) == started(outcome, "iteration_completed") == 1


def test_unknown_keyword(run):
    error = run("named", {STEPS: {"precison": 16}}).error
    assert "SupervisedTrainer::lightning::precison" in error
    assert "Did you mean 'precision'?" in error


def test_unknown_keyword_is_seen_before_anything_is_built(root):
    clear(root)
    write_bundle(root, {STEPS: {"precison": 16}}, named=True)
    error = run_bundle(root, "lightning").error
    assert "train::trainer::lightning::precison: lightning.pytorch.Trainer has no argument 'precison', got 16" in error
    assert not list(root.rglob("*.pt"))
