"""A bundle to plant things in, and where what is planted leaves its marker."""

import sys

import pytest
from escapes import write_config

from monai_lighter.trust import enforce


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "marker"


@pytest.fixture
def bundle(tmp_path):
    root = write_config(tmp_path / "bundle", {"a": 1})
    (root / "models").mkdir()
    return root


@pytest.fixture(autouse=True)
def _process(monkeypatch):
    """What a run with trust sets for its process is not kept for the next test."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "path_hooks", [*sys.path_hooks])
    monkeypatch.setattr(enforce.CountedLoader, "bundles", [])
    for name in (enforce.VARIABLE, enforce.FORCE, enforce.FORCE_NOT):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    yield
    sys.path_importer_cache.clear()
