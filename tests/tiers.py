"""Two tiers of tests: those marked ``slow`` start processes, Trainers or engines, or take long; all others must not.

``pytest -m "not slow"`` leaves out the first tier. That the marks are true is checked in every run: a test without the mark
fails at the place where it starts something. ``conftest.py`` loads this module as a plugin.
"""

import functools
import gc
import sys

import lightning.pytorch
import pytest
from ignite.engine import Engine
from xdist.scheduler import LoadScopeScheduling

WHOLE = ("test_bundles.py", "test_engines_distributed.py", "test_export.py", "test_package.py", "test_pages.py",
         "test_processes.py", "test_several_processes.py")  # fmt: skip
"""Files whose tests share what takes long to make: they stay in one worker."""

PROCESSES = ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen")
"""Audit events of Python. Workers of a ``DataLoader`` are forked."""

RUNS = [(lightning.pytorch.Trainer, ("fit", "validate", "test", "predict")), (Engine, ("run",))]
"""What runs over data, by class."""


class Guard:
    """What the test that runs at the moment may start.

    Attributes:
        item: test that runs, None between tests.
        setups: fixtures that are being set up, the innermost last.
        shared: fixtures of more than one test that have started something: node that may ask for them, and name.
        started: what ``item`` was not to start and has started.
    """

    def __init__(self):
        self.item = None
        self.setups = []
        self.shared = set()
        self.started = None

    def note(self, what):
        """Raises ``pytest.fail.Exception``, which no ``except Exception`` of the tested code takes for its own."""
        __tracebackhide__ = True
        if self.item is None:
            return
        wide = [fixture for fixture in self.setups if fixture.scope != "function"]
        self.shared |= {(fixture.baseid, fixture.argname) for fixture in wide}
        if not _is_slow(self.item):
            self.started = self.started or what
            pytest.fail(self.message(what))

    def message(self, what):
        return (
            f"{self.item.name} {what} and is not marked as slow. Put `@pytest.mark.slow` above it or around its parameter "
            "(`pytestmark = pytest.mark.slow` at the head of a file in which each test does), or test the same without: "
            "`bash scripts/test.sh fast` runs all tests that have no such mark."
        )


GUARD = Guard()


def _is_slow(item):
    return item.get_closest_marker("slow") is not None


def _audit(event, arguments):
    __tracebackhide__ = True
    if event in PROCESSES and GUARD.item is not None and not _is_imported(sys._getframe(1)):
        command = arguments[1] if event == "subprocess.Popen" else ""
        shown = command if isinstance(command, str) else " ".join(map(str, command))
        GUARD.note(f"starts a process ({event}{shown and ': '}{shown:.100})")


def _is_imported(frame):
    """Whether a module is being imported: some ask the system for something, the first time and in whichever test that is."""
    while frame is not None and frame.f_globals.get("__name__") != "importlib._bootstrap":
        frame = frame.f_back
    return frame is not None


def _noted(kind, name):
    method = getattr(kind, name)

    @functools.wraps(method)
    def call(*arguments, **keywords):
        __tracebackhide__ = True
        GUARD.note(f"calls {kind.__name__}.{name}")
        return method(*arguments, **keywords)

    setattr(kind, name, call)


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "slow: starts a process, a Trainer or an engine, or takes long; not in the fast tier"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """What takes longest comes first, so that the last to end are short: files that stay in one worker, then slow tests."""
    items.sort(key=lambda item: (item.path.name not in WHOLE, not _is_slow(item)))


class Scheduling(LoadScopeScheduling):
    """Hands out tests one by one, but the files of `WHOLE` as they are.

    ``--dist loadgroup`` of pytest-xdist 3.8 does nothing with pytest 9.2, whose tests have no ``_nodeid``.
    """

    def _split_scope(self, nodeid):
        file = nodeid.partition("::")[0]
        return file if file.rpartition("/")[2] in WHOLE else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)


def pytest_collection_finish(session):
    """Not before: a module under test sees the classes as they are while it is imported."""
    if session.items:
        gc.collect()
        gc.freeze()  # a third of a million objects of imported libraries, which handlers and the end would go through each time
        sys.addaudithook(_audit)
        for kind, names in RUNS:
            for name in names:
                _noted(kind, name)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    GUARD.setups.append(fixturedef)
    try:
        return (yield)
    finally:
        GUARD.setups.pop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    GUARD.item, GUARD.started = item, None
    try:
        return (yield)
    finally:
        GUARD.item = None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    """A fixture that another test has set up is not run again: what it starts is this test's too."""
    for node, name in GUARD.shared if not _is_slow(item) else ():
        if name in item.fixturenames and item.nodeid.startswith(node):
            pytest.fail(GUARD.message(f"asks for `{name}`, which starts a process or a run,"), pytrace=False)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A test that was told and went on, in another thread or past a bare ``except``, fails all the same."""
    try:
        return (yield)
    finally:
        if GUARD.started and not isinstance(sys.exc_info()[1], pytest.fail.Exception):
            pytest.fail(GUARD.message(GUARD.started), pytrace=False)
