"""The report, the command, and the bundles of this repository."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from planted import write_config

from monai_lighter.commands.inspect import inspect as command
from monai_lighter.inspection import bundle_digest, inspect
from monai_lighter.inspection.report import NOTE
from monai_lighter.share.layout import SharingError

BUNDLES = sorted(path for path in (Path(__file__).parents[2] / "bundles").glob("*") if path.is_dir())
ZOO = {
    "imports": ["$import glob", "$import os", "$import torch.distributed as dist", "$from functools import partial"],
    "bundle_root": ".",
    "ckpt_dir": "$@bundle_root + '/models'",
    "dataset_dir": "/workspace/data/Task09_Spleen",
    "images": "$list(sorted(glob.glob(@dataset_dir + '/imagesTr/*.nii.gz')))",
    "device": "$torch.device('cuda:' + os.environ['LOCAL_RANK'])",
    "network_def": {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2},
    "network": "$@network_def.to(@device)",
    "optimizer": {"_target_": "torch.optim.Adam", "params": "$@network.parameters()", "lr": 0.0001},
    "train": {
        "dataset": {
            "_target_": "CacheDataset",
            "data": "$[{'image': i} for i in @images[:-9]]",
            "transform": "%train#pre",
        },
        "pre": {
            "_target_": "Compose",
            "transforms": [{"_target_": "LoadImaged", "keys": "image", "reader": "NibabelReader"}],
        },
        "handlers": [
            {"_target_": "CheckpointSaver", "save_dir": "@ckpt_dir", "save_dict": {"model": "@network"}},
            {"_target_": "StatsHandler", "output_transform": "$monai.handlers.from_engine(['loss'], first=True)"},
        ],
        "trainer": {"_target_": "SupervisedTrainer", "max_epochs": 1, "device": "@device", "mode": "eval"},
    },
    "initialize": [
        "$dist.is_initialized() or dist.init_process_group(backend='nccl')",
        "$torch.cuda.set_device(@device)",
        "$monai.utils.set_determinism(seed=123)",
        "$setattr(torch.backends.cudnn, 'benchmark', True)",
        "$@train#trainer.logger.setLevel(logging.WARNING if dist.get_rank() > 0 else logging.INFO)",
    ],
    "run": ["$@train#trainer.run()", "$print('Dice:\\n', @train#trainer.state.metrics['a'].cpu().numpy())"],
}


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_bundles_of_this_repository(bundle):
    report = inspect(bundle)
    assert report.exit_code < 2, str(report)
    assert {"target", "expression", "script"} <= {entry.kind for entry in report.entries}


def test_a_zoo_bundle(tmp_path):
    report = inspect(write_config(tmp_path, ZOO))
    looked_at = {entry.id for entry in report.entries if entry.level}
    assert looked_at <= {"imports::3", "initialize::4"}, str(report)
    targets = {entry.what: entry.why for entry in report.entries if entry.kind == "target"}
    assert targets["UNet"].startswith("monai.networks.nets.unet.UNet")


def test_text_and_json(tmp_path):
    root = write_config(tmp_path, {"a": {"_target_": "UNet"}, "b": "$eval('1')"})
    report = inspect(root)
    text = str(report)
    assert (
        text.splitlines()[-1]
        == report.verdict
        == "verdict: dangerous or broken, do not run it (1 danger, 0 look, 1 ok)"
    )
    assert bundle_digest(root) in text
    assert NOTE in text
    printed = command(str(root), json=True)
    assert printed.exit_code == 2
    content = json.loads(str(printed))
    assert content["exit_code"] == 2
    assert content["sha256"] == bundle_digest(root)
    assert content["entries"][1] == {
        "level": "danger",
        "kind": "expression",
        "file": "configs/inference.json",
        "what": "$eval('1')",
        "why": "builtins.eval: runs code given as text or data",
        "id": "b",
        "group": "dangerous",
    }


def test_no_bundle(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such directory"):
        inspect(tmp_path / "none")
    with pytest.raises(SharingError, match="Mend the path"):
        command(str(tmp_path / "none"))


def test_a_single_file(tmp_path):
    (tmp_path / "train.yaml").write_text("a: $torch.os.system('x')")
    assert inspect(tmp_path / "train.yaml").exit_code == 2


def test_nothing_of_the_working_directory_is_imported(tmp_path):
    """In a fresh process that is started in the bundle, with names that this inspection imports itself."""
    root = write_config(
        tmp_path / "bundle", {"a": {"_target_": "ignite.handlers.EarlyStopping"}, "b": "$import pandas"}
    )
    marker = tmp_path / "marker"
    for name in ("ignite", "torchmetrics", "lightning", "pandas", "monai_extra"):
        (root / f"{name}.py").write_text(f"open({str(marker)!r}, 'a').write(__name__)")
    code = "import sys, os; from monai_lighter.inspection import inspect; sys.path.insert(0, ''); print(inspect('.').exit_code)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.remove(''); {code}"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.strip() == "2"
    assert not marker.exists(), marker.read_text()
