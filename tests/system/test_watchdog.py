"""What happens in real runs is in ``tests/workflow/test_several_processes.py``."""

from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from types import SimpleNamespace

import pytest
import torch.distributed as dist

from monai_lighter.errors import NonFiniteError, in_terms_of_config
from monai_lighter.system import watchdog
from monai_lighter.system.signals import RunStopped
from monai_lighter.system.watchdog import Watchdog, _failed_to_exchange, _Watch


@pytest.fixture
def watches(monkeypatch):
    """Those of rank 0 and rank 1, connected, and the codes that they would end the process with."""
    codes = []
    monkeypatch.setattr(watchdog, "GRACE", 0.2)
    monkeypatch.setattr(watchdog.os, "_exit", codes.append)
    listener = Listener(("127.0.0.1", 0), authkey=b"key")
    both = [_Watch(0, 2, listener, listener.address, b"key"), _Watch(1, 2, None, listener.address, b"key")]
    for each in both:
        each.start()
    while not all(each.connections for each in both):
        pass
    return *both, codes


def test_both_are_through(watches):
    first, second, codes = watches
    for each in (second, first):
        each.end(None)
    first.join(5)
    second.join(5)
    assert codes == []
    assert first.lost == second.lost == ""


@pytest.mark.parametrize("rank", [0, 1])
def test_one_fails_and_the_other_is_told_and_ended(watches, rank, capfd):
    failed, other = watches[rank], watches[1 - rank]
    failed.end("ValueError: no")
    other.join(5)
    assert other.lost == f"the process of rank {rank} has ended: ValueError: no"
    failed.join(5)
    assert set(watches[2]) == {1}
    assert capfd.readouterr().err.count("has ended") == 1


def test_one_is_killed(watches):
    first, second, codes = watches
    (connection,) = second.connections
    second.is_through = True
    connection.close()
    first.join(5)
    assert "rank 1 has ended: it was killed" in first.lost
    assert codes == [1]


def test_one_that_is_through_before_it_was_connected_was_not_killed(monkeypatch):
    """A process with no case of its own is through at once, while the other has hours to go."""
    codes = []
    monkeypatch.setattr(watchdog, "GRACE", 0.2)
    monkeypatch.setattr(watchdog.os, "_exit", codes.append)
    listener = Listener(("127.0.0.1", 0), authkey=b"key")
    first, second = _Watch(0, 2, listener, listener.address, b"key"), _Watch(1, 2, None, listener.address, b"key")
    second.end(None)
    for each in (first, second):
        each.start()
    second.join(5)
    for connection in list(second.connections):  # as the end of the process does
        connection.close()
    first.join(5)
    assert first.lost == ""
    assert codes == []


def test_nobody_is_heard_without_the_key():
    listener = Listener(("127.0.0.1", 0), authkey=b"key")
    first = _Watch(0, 2, listener, listener.address, b"key")
    first.start()
    with pytest.raises((AuthenticationError, EOFError, ConnectionError)):
        Client(listener.address, authkey=b"other")
    second = _Watch(1, 2, None, listener.address, b"key")
    second.start()
    while not first.connections:
        pass
    assert list(first.connections.values()) == [1]
    for each in (second, first):
        each.end(None)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (RuntimeError("[…/gloo/transport/tcp/pair.cc:553] Connection closed by peer"), True),
        (dist.DistBackendError("NCCL error"), True),
        (RuntimeError("shapes differ"), False),
        (NonFiniteError("gloo"), False),
    ],
)
def test_an_exchange_that_failed_is_told_from_an_error_of_its_own(error, is_one):
    assert _failed_to_exchange(error) is is_one


def test_an_error_of_its_own_stays_and_a_failed_exchange_is_explained():
    sent = []
    callback = Watchdog()
    callback._watch = SimpleNamespace(wait_for_news=lambda: "rank 1 has ended", end=sent.append)
    own, other = ValueError("mine"), RuntimeError("gloo: Connection closed by peer")
    for error in (own, other, RunStopped(15)):
        callback.on_exception(None, None, error)
    assert in_terms_of_config(own) is None
    assert in_terms_of_config(other) == "rank 1 has ended"
    assert sent == ["ValueError: mine", "", ""]


def test_alone_there_is_no_watch():
    callback = Watchdog()
    callback.setup(SimpleNamespace(world_size=1), None, "fit")
    assert callback._watch is None
