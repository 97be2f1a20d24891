"""Bundles as ``init`` writes them, with weights, and the command line in a process of its own."""

import functools
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from monai_lighter.share.create import create_bundle
from monai_lighter.share.layout import Bundle
from monai_lighter.trust.enforce import FORCE


@pytest.fixture(autouse=True)
def own_modules(monkeypatch):
    """What a bundle adds to ``sys.path``, and a declarative run to the environment, goes with the test."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv(FORCE, "0")


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """Makes a bundle with synthetic data and random weights, as if trained; each once. Its directory is not to be changed."""

    @functools.cache
    def create(task="segmentation", dims=2, synthetic=True, name="lesion"):
        root = tmp_path_factory.mktemp("bundles") / name
        create_bundle(root, task, dims, synthetic)
        parser = ConfigParser(Bundle(root).read(root / "configs" / "inference.yaml"))
        torch.manual_seed(0)
        (root / "models").mkdir()
        torch.save(parser.get_parsed_content("network_def").state_dict(), root / "models" / "model.pt")
        return root

    return create


@pytest.fixture
def created(tmp_path, bundles):
    """Makes a bundle as `bundles` does, in a directory of its own, and gives that."""

    def create(task="segmentation", dims=2, synthetic=True, name="lesion"):
        return Path(shutil.copytree(bundles(task, dims, synthetic, name), tmp_path / name))

    return create


@pytest.fixture
def verb(python_module):
    """Runs ``python -m monai_lighter ARGUMENTS``, or another module, as `python_module` does."""

    def run(*arguments, module="monai_lighter", code=0, **keywords):
        done = python_module(module, *arguments, timeout=240, **keywords)
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return json.loads(done.stdout) if "--json" in arguments and not code else done

    return run
