"""Loaders and batches of every kind: the same batches, data events and random numbers as under Ignite."""

import pytest

pytestmark = pytest.mark.slow

LISTS = {"train#key_metric": None, "train#trainer#decollate": False, "train#trainer#postprocessing": None}
ITERATOR = {**LISTS, "validate#evaluator#val_data_loader": "$list(zoo_parts.batches(2))"}


@pytest.fixture(autouse=True)
def _workers_end_at_once(monkeypatch):
    """A worker that is left in the middle of an epoch is waited for: 0.2 instead of 5 seconds."""
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)


def names(reference):
    return [row["event"] for row in reference.rows if row["engine"] == "trainer" and row["place"] == "first"]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"train#dataloader#batch_size": 5}, id="one batch"),
        pytest.param({"train#dataloader#drop_last": True}, id="last batch dropped"),
        pytest.param({"train#trainer#epoch_length": 2}, id="epochs shorter than the loader"),
        pytest.param({"train#trainer#epoch_length": 5}, id="epochs longer than the loader"),
        pytest.param({"train#trainer#epoch_length": 7, "epochs": 1}, id="an epoch of more than two passes"),
        pytest.param({"validate#evaluator#epoch_length": 1}, id="validation shorter than the loader"),
        pytest.param({"validate#evaluator#epoch_length": 3}, id="validation longer than the loader"),
        pytest.param({"train#trainer#epoch_length": 0}, id="nothing to train"),
        pytest.param({"validate#evaluator#epoch_length": 0}, id="nothing to validate"),
        pytest.param({"train#dataloader#num_workers": 2}, id="workers"),
        pytest.param(
            {
                "train#dataloader#num_workers": 2,
                "train#dataloader#persistent_workers": True,
                "train#trainer#epoch_length": 2,
            },
            id="workers that stay",
        ),
        pytest.param({"validate#dataloader#num_workers": 1}, id="validation by a worker"),
        pytest.param({"train#dataset#_target_": "CacheDataset", "train#dataset#progress": False}, id="cached"),
    ],
)
def test_loader(both, changes):
    both(changes)


def test_thread_that_repeats_batches(both):
    loader = {
        "_target_": "ThreadDataLoader",
        "dataset": "@train#dataset",
        "batch_size": 2,
        "num_workers": 0,
        "repeats": 2,
    }
    changes = {"train#dataloader": loader, "network_def#dropout": 0.0, "train#random": [], "recorder#random": False}
    reference = both({**changes, "epochs": 1, "initialize": [], "finalize": ["$torch.manual_seed(0)"]})
    assert names(reference).count("iteration_completed") == 3


@pytest.mark.parametrize(
    ("batches", "changes"),
    [
        pytest.param("$zoo_parts.batches(None)", {"train#trainer#epoch_length": 2}, id="for ever"),
        pytest.param("$zoo_parts.batches(6)", {"train#trainer#epoch_length": 3}, id="as many as needed"),
        pytest.param("$zoo_parts.batches(7)", {"train#trainer#epoch_length": 3}, id="more than needed"),
        pytest.param("$zoo_parts.batches(4)", {"train#trainer#epoch_length": 3}, id="too few"),
        pytest.param("$zoo_parts.batches(3)", {"epochs": 1}, id="of unknown length"),
        pytest.param("$list(zoo_parts.batches(3))", {}, id="a list of batches"),
    ],
)
def test_iterator(both, batches, changes):
    both({**ITERATOR, "train#trainer#train_data_loader": batches, **changes})


def test_dataset_without_length(both):
    stream = {"_target_": "zoo_parts.Stream", "count": 5}
    loader = {"_target_": "torch.utils.data.DataLoader", "dataset": stream, "batch_size": 2}
    loader["collate_fn"] = "$monai.data.list_data_collate"
    both({"train#dataloader": loader})


@pytest.mark.parametrize("decollate", [True, False])
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            {
                "train#dataset": "$zoo_parts.tensors(5)",
                "loss": "$lambda pred, target: pred.square().mean()",
            },
            id="tensors",
        ),
        pytest.param({"train#dataset": "$zoo_parts.pairs(5)"}, id="pairs"),
        pytest.param(
            {
                "train#dataset": "$zoo_parts.pairs(5)",
                "train#dataloader#collate_fn": "$lambda batch: tuple(torch.stack(column) for column in zip(*batch))",
            },
            id="tuples",
        ),
        pytest.param(
            {
                "train#dataset": "$zoo_parts.pairs(5)",
                "train#dataloader#collate_fn": "$lambda batch: [list(pair) for pair in batch]",
                "train#trainer#prepare_batch": "$lambda batch, device, non_blocking: tuple(torch.stack(c) for c in zip(*batch))",
            },
            id="lists of lists",
        ),
    ],
)
def test_batch(both, kind, decollate):
    """MONAI itself cannot decollate some of them: then both fail alike."""
    batches = {"train#dataloader#_target_": "torch.utils.data.DataLoader", "train#trainer#postprocessing": None}
    both({**batches, "train#key_metric": None, "train#trainer#decollate": decollate, **kind})


def test_data_events_where_the_loader_ends_within_an_epoch(both):
    events = names(both({"train#trainer#epoch_length": 5, "epochs": 1, "train#extra": []}))
    assert events.count("dataloader_stop_iteration") == 1
    assert events.count("get_batch_started") == events.count("get_batch_completed") == 5


def test_batches_changed_by_a_handler(both):
    """Ignite hands the step what ``engine.state.batch`` holds after ``ITERATION_STARTED``."""
    call = "$lambda engine: engine.state.batch['image'].mul_(2)"
    replace = "$lambda engine: setattr(engine.state, 'batch', {**engine.state.batch, 'more': 1})"
    handlers = [
        {"_target_": "zoo_parts.At", "event": "iteration_started", "call": call},
        {"_target_": "zoo_parts.At", "event": "get_batch_completed", "call": replace},
    ]
    both({"train#extra": handlers, "train#trainer#decollate": False, "train#trainer#postprocessing": None,
          "train#key_metric": None})  # fmt: skip


def test_loader_set_while_training(both):
    call = "$lambda engine: engine.set_data(list(zoo_parts.batches(2)))"
    handler = {"_target_": "zoo_parts.At", "event": "iteration_completed", "count": 2, "call": call}
    both({"train#extra": [handler]})
