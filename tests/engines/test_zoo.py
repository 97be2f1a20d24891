"""The comparison itself: it sees what differs, and nothing where nothing does."""

import pytest
from zoo import differences

pytestmark = pytest.mark.slow


def test_the_same_run_does_not_differ(run):
    one, two = run("ignite"), run("ignite")
    assert len(one.rows) > 100
    assert {"network_def", "network", "optimizer"} <= set(one.parts)
    assert differences(one, two) == []


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"optimizer#lr": 0.02}, "rows"),
        ({"optimizer#lr": 0.02}, "parts"),
        ({"epochs": 3}, "rows"),
        ({"train#extra": []}, "rows"),
        ({"run": ["$@train#trainer.run()", "$torch.rand(1).item() * 0"]}, "random"),
        ({"run": ["$@train#trainer.run()", "$torch.save(@network.state_dict(), 'model.pt')"]}, "files"),
        ({"run": ["$1 / 0"]}, "error"),
    ],
)
def test_what_differs_is_found(run, changes, where):
    found = differences(run("ignite"), run("ignite", changes))
    assert any(sentence.startswith(f"{where}:") for sentence in found)
