"""``_target_: monai_lighter.SupervisedTrainer`` and the like, run by stock MONAI with no flag."""

import pytest
from test_trace_run_lists import TRAIN, VALIDATE

CASES = [
    pytest.param({}, id="training"),
    pytest.param({"run": [VALIDATE, "$@validate#evaluator.state.metrics"]}, id="validation"),
    pytest.param({"run": [TRAIN, VALIDATE]}, id="both"),
    pytest.param({"network_def#fails_at": 4}, id="exception"),
    pytest.param({"train#trainer#epoch_length": 5}, id="long epochs"),
]


@pytest.mark.parametrize("changes", CASES)
def test_named(both, changes):
    both(changes, engine="named", fails="network_def#fails_at" in changes)
