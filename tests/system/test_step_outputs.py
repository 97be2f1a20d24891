import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from monai_lighter.system.step_outputs import LATE, CaseJob, StepOutputs, when_ready

KNOWN = {"identifier": ["a"], "input": None, "target": None, "pred": None, "loss": 1, "metrics": {}, "notes": None}
VALUES = {"input": 2, "target": 3, "pred": 4, "metrics": {"dice": 5}}
WHOLE = {**KNOWN, **VALUES}


class Pool:
    """Counts who waits."""

    def __init__(self):
        self.waited = 0

    def wait(self, job):
        self.waited += 1
        return VALUES


@pytest.fixture
def pool():
    return Pool()


@pytest.fixture
def outputs(pool):
    return StepOutputs(KNOWN, CaseJob(KNOWN, tuple, dict, None, ""), pool)


@pytest.mark.parametrize(
    "look",
    [
        lambda outputs: outputs["identifier"] == ["a"],
        lambda outputs: outputs.get("loss") == 1,
        bool,
        lambda outputs: "pred" in outputs and isinstance(outputs, dict),
    ],
)
def test_what_is_there_is_not_waited_for(outputs, pool, look):
    assert look(outputs)
    assert pool.waited == 0


@pytest.mark.parametrize(
    "read",
    [
        dict,
        lambda outputs: {**outputs},
        lambda outputs: dict(outputs.items()),
        lambda outputs: dict(zip(outputs, outputs.values(), strict=True)),
        lambda outputs: {key: outputs[key] for key in outputs},
        lambda outputs: {key: outputs.get(key) for key in outputs},
        lambda outputs: outputs | {},
        lambda outputs: {} | outputs,
        lambda outputs: outputs.copy(),
        lambda outputs: {key: outputs[key] for key in list(outputs)[: len(outputs)]},
        lambda outputs: dict.fromkeys((), 0) or dict(**outputs),
        copy.copy,
        copy.deepcopy,
        lambda outputs: pickle.loads(pickle.dumps(outputs)),
        lambda outputs: eval(repr(outputs)),
        lambda outputs: (into := {}, into.update(outputs))[0],
        lambda outputs: {key: outputs.pop(key) for key in list(outputs)},
    ],
)
def test_every_way_to_read_it_waits_once(outputs, pool, read):
    assert read(outputs) == WHOLE
    assert pool.waited == 1


def test_it_is_equal_to_what_it_comes_to(outputs):
    assert outputs == WHOLE
    assert outputs == WHOLE


def test_what_is_set_stays(outputs):
    outputs["pred"] = 9
    outputs.update(metrics={})
    assert outputs == {**WHOLE, "pred": 9, "metrics": {}}


def test_an_error_comes_at_each_reading(outputs, pool, monkeypatch):
    def fail(job):
        raise ValueError("bad case")

    monkeypatch.setattr(pool, "wait", fail)
    for key in LATE:
        with pytest.raises(ValueError, match="bad case"):
            outputs[key]


def test_a_function_is_called_at_once_unless_entries_are_on_their_way(outputs):
    called = []
    when_ready(None, called.append)
    when_ready(WHOLE, called.append)
    assert called == [None, WHOLE]
    when_ready(outputs, called.append)
    assert called[2:] == []
    assert outputs.job.then == [called.append]
    release = Event()
    with ThreadPoolExecutor(1) as executor:
        outputs.job.future = executor.submit(release.wait)
        release.set()
    when_ready(outputs, called.append)  # it has begun: nobody would call it later
    assert called[2:] == [WHOLE]


def test_keys_that_postprocessing_adds_are_waited_for(pool):
    job = CaseJob(KNOWN, tuple, dict, None, "")
    for look in (
        lambda each: each["added"],
        lambda each: each.get("added"),
        lambda each: "added" in each and each["added"],
    ):
        more = Pool()
        more.wait = lambda job: {**VALUES, "added": 6}
        assert look(StepOutputs(KNOWN, job, more)) == 6
    outputs = StepOutputs(KNOWN, job, pool)
    assert "none" not in outputs
    assert pool.waited == 1
    with pytest.raises(KeyError, match="none"):
        _ = outputs["none"]
    assert outputs.get("none", 7) == 7
    more = StepOutputs(KNOWN, job, type("", (), {"wait": lambda self, job: {**VALUES, "added": 6}})())
    assert {key: more[key] for key in more} == {**WHOLE, "added": 6}
