"""A forked process against a new interpreter."""

import json
import os
import signal
import sys
from subprocess import PIPE

import preloaded
import pytest

pytestmark = pytest.mark.slow
FACTS = """
import json, os, signal, sys
facts = [sys.argv[1:], sys.orig_argv[1:], os.getcwd(), dict(os.environ, LC_CTYPE=""), os.getppid(), __name__]
facts += [os.getsid(0) == os.getpid(), sys.stdin.read(), os.read(200, 9).decode()]
facts += [signal.getsignal(signal.SIGINT) is signal.default_int_handler]
print(json.dumps(facts))
print("told", file=sys.stderr)
os.kill(os.getpid(), int(sys.argv[1])) if sys.argv[1] != "0" else sys.exit(7)
"""


@pytest.mark.parametrize("number", [0, signal.SIGTERM, signal.SIGINT])
def test_it_is_as_a_new_one(tmp_path, number):
    (tmp_path / "facts.py").write_text(FACTS)
    command = [sys.executable, "-m", "facts", str(int(number))]
    found = []
    for kind in (preloaded.Popen, preloaded.Popen.__base__):
        reading, writing = os.pipe()
        os.write(writing, b"passed")
        os.dup2(reading, 200)
        how = {"cwd": tmp_path, "env": {"A": "b"}, "pass_fds": [200], "start_new_session": True, "text": True}
        with kind(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, **how) as process:
            out, err = process.communicate("given")
        for file in (reading, writing, 200):
            os.close(file)
        found.append((json.loads(out or "null"), err.splitlines()[-1:], process.returncode))
    assert found[0] == found[1]
