"""Folders beside outputs: gone when their process is, and never while it lives."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from monai_lighter.safe_files import folder_beside, sweep, written_beside
from monai_lighter.system.ledger import Ledger, Output


def start_writer(path):
    """A process that has a folder beside a path with a file in it; gives its id when that is there."""
    ready, told = os.pipe()
    pid = os.fork()
    if not pid:
        with folder_beside(path) as folder:
            (folder / "half.bin").write_bytes(b"half")
            os.write(told, b"x")
            time.sleep(60)
        os._exit(1)
    os.read(ready, 1)
    return pid


def stop(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.slow
def test_what_a_killed_process_leaves_goes_and_that_of_a_living_one_stays(tmp_path):
    pytest.importorskip("fcntl")
    killed, living = start_writer(tmp_path / "a.bin"), start_writer(tmp_path / "b.bin")
    try:
        stop(killed)
        with folder_beside(tmp_path / "c.bin") as own:
            assert len([*tmp_path.glob(".part-*")]) == 3
            sweep(tmp_path)
            left = [*tmp_path.glob(".part-*")]
            assert len(left) == 2
            assert own in left
        assert len([*tmp_path.glob(".part-*/half.bin")]) == 1
    finally:
        stop(living)
    sweep(tmp_path)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
def test_a_run_that_writes_takes_away_what_a_killed_one_left(tmp_path):
    pytest.importorskip("fcntl")
    stop(start_writer(tmp_path / "a.bin"))
    ledger = Ledger()
    output = Output(tmp_path / "a.bin", tmp_path, None, "case 0", "writer", "path")
    with ledger.write(output) as path:
        path.write_bytes(b"whole")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.bin", "manifest.csv"]
    assert (tmp_path / "a.bin").read_bytes() == b"whole"


@pytest.mark.slow
def test_writers_that_sweep_at_once_lose_nothing(tmp_path):
    pids = []
    for i in range(4):
        pid = os.fork()
        if not pid:
            for j in range(100):
                sweep(tmp_path)
                with folder_beside(tmp_path / "x") as folder:
                    (folder / "x").write_bytes(b"x")
                    (folder / "x").replace(tmp_path / f"{i}_{j}")
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    assert len([*tmp_path.iterdir()]) == 400


def test_several_that_write_one_file_at_once_leave_a_whole_one(tmp_path):
    """As two fits of one bundle do, with its weights and its file of splits."""
    file = tmp_path / "model.pt"

    def write(i):
        with written_beside(file) as temporary, open(temporary, "wb") as opened:
            for _ in range(20):
                opened.write(bytes([i]) * 1000)
        content = file.read_bytes()
        return len(content) == 20_000 and len({*content}) == 1

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(write, range(200)))
    assert [*tmp_path.iterdir()] == [file]


def test_what_fails_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / "model.pt"
    file.write_bytes(b"whole")

    def fail():
        with written_beside(file) as temporary:
            temporary.write_bytes(b"half")
            raise ValueError("no space")

    with pytest.raises(ValueError, match="no space"):
        fail()
    assert [*tmp_path.iterdir()] == [file]
    assert file.read_bytes() == b"whole"
