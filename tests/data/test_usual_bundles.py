"""Bundles with sound data: nothing is found in them."""

import shutil
from pathlib import Path

import pytest

from monai_lighter.data.integrity import DataCheck
from monai_lighter.share.create import create_bundle
from monai_lighter.workflow.check_config import Check

BUNDLES = Path(__file__).parents[2] / "bundles"
CONFIGS = ("train", "evaluate", "inference")


pytestmark = pytest.mark.usefixtures("own_modules")


def findings(root, config):
    check = Check(str(root / "configs" / f"{config}.yaml"))
    assert check.errors == []
    done = DataCheck(check.prepared.config, check.prepared.native)
    assert done.cases
    return [str(finding) for finding in done.findings]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", ["brain_tissue_segmentation", "digits_classification"])
def test_an_example_bundle(name, config, tmp_path):
    pytest.importorskip("nilearn" if name.startswith("brain") else "sklearn")
    root = tmp_path / name
    shutil.copytree(BUNDLES / name, root, ignore=shutil.ignore_patterns("data", "lightning_logs", "models"))
    assert findings(root, config) == []


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("task", ["segmentation", "classification", "regression"])
def test_a_bundle_of_init(task, dims, tmp_path):
    create_bundle(tmp_path / "new", task, dims, True)
    assert [findings(tmp_path / "new", config) for config in CONFIGS] == [[]] * 3
