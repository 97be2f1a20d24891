import os
import subprocess
import sys

import pytest

from monai_lighter.study import locks
from monai_lighter.study.locks import TrialLock


def test_one_has_it_until_it_is_released(tmp_path):
    first, second = TrialLock(tmp_path / "lock"), TrialLock(tmp_path / "lock")
    assert first.take()
    assert not second.take()
    first.release()
    assert second.take()


def test_what_another_machine_has_is_free_when_it_has_been_silent(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    path.write_text("another")  # whose lock this file system does not show
    assert not TrialLock(path).take()
    before = path.stat().st_mtime - locks.STALE - 1
    os.utime(path, (before, before))
    lock = TrialLock(path)
    assert lock.take()
    assert path.read_text() == locks.HOST
    os.utime(path, (before, before))
    lock.beat()
    assert path.stat().st_mtime > before + 1


@pytest.mark.slow
def test_the_process_of_a_trial_has_it_too(tmp_path):
    """A study that is killed leaves its trial running, which nobody may begin a second time."""
    lock = TrialLock(tmp_path / "lock")
    assert lock.take()
    command = [sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, pass_fds=[lock.number], **pipes) as process:
        process.stdout.readline()
        os.close(lock.number)  # as the system does of a process that is killed
        assert not TrialLock(tmp_path / "lock").take()
        process.kill()
        process.wait()
    assert TrialLock(tmp_path / "lock").take()
