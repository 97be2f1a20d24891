"""``scripts/compare_engines.py``: run for real on a bundle, and what it says about files that differ."""

import importlib.util
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from zoo import write_bundle

SCRIPT = Path(__file__).parents[2] / "scripts" / "compare_engines.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("compare_engines", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def compared(script, monkeypatch):
    """Calls the script in this process; the bundle's runs are processes of their own."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["compare_engines.py", *map(str, arguments)])
        return script.main()

    return call


@pytest.mark.slow
def test_a_bundle_under_both_engines(compared, root, tmp_path, capsys):
    """Command, run id and overrides are passed through; the bundle is left as it was."""
    saver = {
        "_target_": "CheckpointSaver",
        "save_dir": "@output_dir",
        "save_dict": {"net": "@network"},
        "save_final": True,
    }
    stats = {
        "_target_": "TensorBoardStatsHandler",
        "log_dir": "@output_dir",
        "output_transform": "$lambda x: x[0]['loss']",
    }
    metrics = {"_target_": "MetricsSaver", "save_dir": "@output_dir"}
    validation = {"_target_": "ValidationHandler", "validator": "@validate#evaluator", "interval": 1}
    write_bundle(root, {"train#extra": [validation, saver, stats], "validate#extra": [metrics], "training": "%run"})
    command = ["training", "--config_file", "configs/train.yaml", "--epochs", "1"]
    assert compared("--keep", tmp_path / "kept", root, *command) == 0
    *rows, last = capsys.readouterr().out.splitlines()
    names = ["events", "metrics.csv", "net_final_iteration=3.pt"]
    assert [row.split()[:2] for row in rows] == [["equal", f"out/{name}"] for name in names]
    assert last.startswith("all files are equal; time, Lightning to Ignite: whole command ")
    assert "loops " in last
    assert not (root / "out").exists()
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"ignite", "lightning"}


@pytest.mark.slow
def test_command_that_fails(compared, root):
    write_bundle(root, {"run": ["$1 / 0"]})
    with pytest.raises(SystemExit, match=r"(?s)ZeroDivisionError.*The command failed under ignite, exit code 1"):
        compared(root, "--config_file", "configs/train.yaml")


@pytest.mark.parametrize(
    "arguments", [[], ["."], ["nowhere", "--config_file", "x"], ["--keep", ".", ".", "--config_file", "x"]]
)
def test_arguments_that_are_wrong(compared, arguments):
    with pytest.raises(SystemExit, match="2"):
        compared(*arguments)


def save(path, value):
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".pt":
        torch.save({"net": {"weight": torch.tensor([1.0, value])}, "epoch": 3}, path)
    elif path.suffix == ".gz":
        nibabel.save(nibabel.Nifti1Image(np.array([[[1.0, value]]]), np.eye(4)), path)
    elif path.suffix == ".npy":
        np.save(path, np.array([1.0, value]))
    else:
        path.write_text(f"2026-01-0{int(value)} 10:00:00 dice\t{value}\n")


@pytest.mark.parametrize("name", ["a.pt", "a.nii.gz", "a.npy", "a.csv"])
def test_files_that_differ(script, tmp_path, capsys, name):
    one, two = tmp_path / "ignite", tmp_path / "lightning"
    files = {"ignite": [Path(name)], "lightning": [Path(name)]}
    save(one / name, 2.0)
    save(two / name, 2.0)
    assert script.compare(one, two, files) == 0
    save(two / name, 2.5)
    assert script.compare(one, two, files) == 1
    equal, different = capsys.readouterr().out.splitlines()
    assert equal.startswith("equal ")
    assert different.startswith("DIFFERENT")
    assert "max difference 0.5" in different


def test_files_of_one_side_alone(script, tmp_path, capsys):
    save(tmp_path / "ignite" / "a.csv", 1)
    assert (
        script.compare(tmp_path / "ignite", tmp_path / "lightning", {"ignite": [Path("a.csv")], "lightning": []}) == 1
    )
    assert "written under Ignite alone" in capsys.readouterr().out
