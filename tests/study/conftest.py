import pytest
from tiny_bundle import write_bundle


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """The folder of a bundle, in which the test is run."""
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path)
    return tmp_path
