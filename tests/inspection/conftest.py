"""A bundle to plant things in, and where what is planted leaves its marker."""

import pytest
from planted import write_config


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "marker"


@pytest.fixture
def bundle(tmp_path):
    root = write_config(tmp_path / "bundle", {"a": 1})
    (root / "models").mkdir()
    return root
