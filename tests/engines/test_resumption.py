"""``resume`` of a config of engines: a fit that was broken off goes on from the end of its last epoch."""

import signal

import pytest
import torch
from test_checkpoint import PLATEAU, STOP, schedule
from test_trace_run_lists import VALIDATION
from zoo import clear, content, differences, run_bundle, write_bundle

from monai_lighter.system.signals import RunStopped

pytestmark = pytest.mark.slow

LOGS = "lightning_logs/train.trainer"
SAVER = {
    "_target_": "CheckpointSaver",
    "save_dir": "models",
    "save_dict": {"model": "@network"},
    "save_final": True,
    "save_interval": 1,
}


BREAK = {"_target_": "zoo_parts.At", "event": "iteration_completed", "call": "$zoo_parts.break_off"}
"""A handler that ends a run as an error does, after an iteration; it is in each config: one of another is refused."""


def ends(rows, step):
    return [
        row
        for row in rows
        if row["engine"] == "trainer"
        and row["event"] in ("iteration_completed", "epoch_completed")
        and int(row["state"]["iteration"]) > step
    ]


RUNS = [
    pytest.param({}, 2, id="in the first epoch"),
    pytest.param({}, 12, id="in the last epoch"),
    pytest.param({"train#extra": [schedule("CosineAnnealingLR", T_max=4), VALIDATION]}, 7, id="schedule"),
    pytest.param({"train#extra": [PLATEAU, VALIDATION]}, 7, id="plateau"),
    pytest.param({"train#dataloader#num_workers": 1}, 7, id="worker"),
    pytest.param({"train#extra": [VALIDATION, SAVER]}, 7, id="saver"),
]


@pytest.fixture
def broken_off(root, monkeypatch):
    """Outcomes of a whole run, of one that failed after an iteration, and of the one that went on from it."""

    def run(changes, step):
        changes = {"epochs": 4, **changes, "train#extra": [*changes.get("train#extra", [VALIDATION]), BREAK]}
        clear(root)
        write_bundle(root, changes)
        whole = run_bundle(root, "lightning")
        clear(root)
        write_bundle(root, changes)
        monkeypatch.setenv("BROKEN_AT", str(step))
        stopped = run_bundle(root, "lightning", resume="auto")
        monkeypatch.delenv("BROKEN_AT")
        return whole, stopped, run_bundle(root, "lightning", resume="auto")

    return run


@pytest.mark.parametrize(("changes", "step"), RUNS)
def test_a_run_that_failed_goes_on_from_the_end_of_its_last_epoch(root, broken_off, changes, step):
    whole, stopped, rest = broken_off(changes, step)
    assert "broken off" in stopped.error
    assert whole.error is None
    assert rest.error is None
    assert rest.parts == whole.parts
    done = step - 1 - (step - 1) % 3
    assert int(ends(rest.rows, 0)[0]["state"]["iteration"]) == done + 1
    for name in whole.files:
        if name.startswith("models/"):
            assert content(root / name, root)[1] == whole.files[name]


def last(root, version):
    path = root / LOGS / f"version_{version}" / "checkpoints" / "last.ckpt"
    return torch.load(path, weights_only=True) if path.exists() else None


def test_a_run_that_is_through_is_not_run_again(root):
    """Also one that a handler ended: its end is told to handlers once more, which may not have come so far."""
    for changes in ({"epochs": 2}, {"epochs": 9, "train#extra": [VALIDATION, "@stop"], **STOP}):
        clear(root)
        write_bundle(root, changes)
        whole = run_bundle(root, "lightning", resume="none")
        again = run_bundle(root, "lightning", resume="auto")
        assert again.error is None
        assert again.parts == whole.parts
        assert [row["event"] for row in again.rows if row["engine"] == "trainer"][-1] == "completed"
        assert ends(again.rows, 0) == []
        assert last(root, 0) is not None
        assert last(root, 1) is None
    assert int(whole.rows[-1]["state"]["epoch"]) < 9


def test_without_it_nothing_is_kept_and_with_none_it_begins_anew(root):
    clear(root)
    write_bundle(root, {})
    plain = run_bundle(root, "lightning")
    assert not (root / "lightning_logs").exists()
    first, second = (run_bundle(root, "lightning", resume="none") for _ in range(2))
    assert differences(plain, first) == [f"files: {LOGS}/version_0/checkpoints/last.ckpt only on one side"]
    assert second.parts == first.parts
    one, two = last(root, 0), last(root, 1)
    assert len(one["made_with"]["digest"]) == 64
    assert one["made_with"]["config"]["epochs"] == 2
    assert one["state_dict"].keys() == two["state_dict"].keys()


def test_for_more_epochs_and_not_with_another_config(root):
    clear(root)
    write_bundle(root, {"epochs": 4})
    whole = run_bundle(root, "lightning")
    clear(root)
    write_bundle(root, {"epochs": 2})
    run_bundle(root, "lightning", resume="none")
    other = run_bundle(root, "lightning", resume="auto", **{"optimizer#lr": 0.02})
    assert "optimizer::lr: is 0.02, and was 0.01 when" in other.error
    assert "give --resume force" in other.error
    rest = run_bundle(root, "lightning", resume="auto", epochs=4)
    assert rest.parts == whole.parts
    path = f"{LOGS}/version_0/checkpoints/last.ckpt"
    rest = run_bundle(root, "lightning", resume=path, epochs=4)
    assert rest.parts == whole.parts
    forced = run_bundle(root, "lightning", resume="force", epochs=5, **{"optimizer#lr": 0.02})
    assert forced.error is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("place", ["trainer", "evaluator"])
def test_signals(root, number, code, place, monkeypatch):
    send = {"_target_": "zoo_parts.At", "event": "iteration_completed", "count": 4, "call": "$zoo_parts.send_signal"}
    where = {"train#extra": [VALIDATION, send]} if place == "trainer" else {"validate#extra": [send]}
    clear(root)
    write_bundle(root, {"epochs": 4, **where})
    whole = run_bundle(root, "lightning")
    before = signal.getsignal(number)
    monkeypatch.setenv("SIGNAL", str(int(number)))
    with pytest.raises(RunStopped) as stopped:
        run_bundle(root, "lightning", resume="none")
    assert stopped.value.code == code
    assert signal.getsignal(number) == before
    monkeypatch.delenv("SIGNAL")
    done = last(root, 0)["engine"]["engines"][0]["iteration"]
    assert done == (3 if place == "trainer" else 6)
    rest = run_bundle(root, "lightning", resume="auto")
    assert int(ends(rest.rows, 0)[0]["state"]["iteration"]) == done + 1
    assert rest.parts == whole.parts
