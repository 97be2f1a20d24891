"""One bundle under Ignite and under Lightning.

``REFERENCE_ONLY=1 pytest tests/engines`` runs Ignite on both sides: it shows that what is compared depends on nothing else.
"""

import os

import pytest
from zoo import clear, differences, run_bundle, write_bundle

REFERENCE_ONLY = bool(os.environ.get("REFERENCE_ONLY"))


@pytest.fixture
def root(tmp_path):
    """Folder of the bundle. Every run has the same one, so that paths in files are equal."""
    return tmp_path / "bundle"


@pytest.fixture
def run(root):
    """Writes a bundle and runs it under an engine: ``run(engine, changes, **keywords of write_bundle)``."""

    def one(engine, changes=None, fresh=True, **keywords):
        if fresh:
            clear(root)
        engine = "ignite" if REFERENCE_ONLY else engine
        write_bundle(root, changes or {}, named=engine == "named", **keywords)
        return run_bundle(root, engine)

    return one


@pytest.fixture
def both(run):
    """Runs a bundle under Ignite and under Lightning and asserts that the two did the same; gives the outcome of the first.

    ``fails``: whether the run is to end with an exception. Two runs that fail alike do the same, so a bundle that is wrong in
    itself would pass; None leaves it open.
    """

    def compare(changes=None, engine="lightning", fails=False, nested=False, **keywords):
        reference = run("ignite", changes, **keywords)
        assert fails is None or (reference.error is not None) == fails, reference.error
        ours = run(engine, changes, **keywords)
        assert differences(reference, ours) == []
        if not REFERENCE_ONLY:
            assert ours.calls["ignite"] == 0
            assert (
                ours.calls["trainer"] >= reference.calls["outer"]
                if nested
                else ours.calls["trainer"] == reference.calls["outer"]
            )
        return reference

    return compare
