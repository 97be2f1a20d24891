"""Failures of a bundle's run: what is missing is named, and MONAI's reasons stay MONAI's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from monai.utils import set_determinism
from zoo import clear, run_bundle, write_bundle

from monai_lighter import BundleError, Workflow

LISTED = 'large_files:\n  - path: "models/model.pt"\n    url: "somewhere"\n'
LOADER = {"_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/model.pt'",
          "load_dict": {"network": "@network"}}  # fmt: skip
BLOCKER = """
import importlib.machinery, sys
find = importlib.machinery.PathFinder.find_spec.__func__
def without(cls, name, path=None, target=None):
    return None if name.partition(".")[0] == "ignite" else find(cls, name, path, target)
importlib.machinery.PathFinder.find_spec = classmethod(without)
"""


@pytest.fixture
def without_ignite(tmp_path, monai_bundle):
    """Runs ``python -m monai.bundle run`` where pytorch-ignite is not installed."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(BLOCKER)
    path = os.pathsep.join([str(blocked), str(Path(__file__).parent)])
    return lambda *arguments, cwd: monai_bundle("run", *arguments, cwd=cwd, fresh=True, PYTHONPATH=path)


@pytest.mark.slow
def test_engines_without_ignite(root, without_ignite):
    clear(root)
    write_bundle(root, {})
    done = without_ignite("--workflow", "monai_lighter.Workflow", "--config_file", "configs/train.yaml", cwd=root)
    assert done.returncode == 2
    assert "train::trainer::_target_: SupervisedTrainer needs pytorch-ignite" in done.stderr
    assert "pip install 'monai_lighter[zoo]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_native_config_needs_no_ignite(bundle, without_ignite):
    arguments = ["fit", "--workflow", "monai_lighter.Workflow", "--config_file", "configs/train.yaml"]
    done = without_ignite(*arguments, cwd=bundle)
    assert done.returncode == 0, done.stderr
    assert (bundle / "models" / "model.pt").is_file()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"train#extra": [LOADER]}, id="handler", marks=pytest.mark.slow),
        pytest.param({"loader": LOADER, "initialize": ["$@loader(@train#trainer)"]}, id="initialize"),
        pytest.param({"initialize": ["$torch.load(@bundle_root + '/models/model.pt')"]}, id="expression"),
    ],
)
def test_weights_that_are_not_there(root, monkeypatch, changes):
    clear(root)
    write_bundle(root, changes)
    monkeypatch.chdir(root)

    def error():
        workflow = Workflow("configs/train.yaml", logging_file=False)
        with pytest.raises(BundleError) as raised:
            workflow.run()
        set_determinism(None)
        return str(raised.value)

    assert "./models/model.pt" in error()
    assert "download_large_files" not in error()
    (root / "large_files.yml").write_text(LISTED)
    assert f"python -m monai.bundle download_large_files --bundle_path {root}" in error()
    assert error().count("download_large_files") == 1


def test_packages_that_are_not_installed_are_a_warning(root, caplog):
    clear(root)
    write_bundle(root, {"run": ["$1"]})
    asked = '{"required_packages_version": {"no-such-package": "1.2", "pytorch-ignite": "0.4"}}'
    (root / "configs" / "metadata.json").write_text(asked)
    assert run_bundle(root, "lightning").error is None
    (message,) = [record.getMessage() for record in caplog.records if "asks for" in record.getMessage()]
    assert "no-such-package 1.2, which is not installed" in message


UNFIT = """
from monai.engines import SupervisedTrainer


class Final(SupervisedTrainer):
    def __init_subclass__(cls):
        raise TypeError("Final is not to be extended")


class OwnLoop(SupervisedTrainer):
    def run(self):
        self.state.dataloader = self.data_loader
        return self._internal_run()
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Final", "Final cannot be run by Lightning's Trainer: Final is not to be extended"),
        ("OwnLoop", "OwnLoop cannot be run by Lightning's Trainer: its own run() begins Ignite's loop"),
    ],
)
def test_an_engine_that_cannot_be_driven(root, name, words):
    clear(root)
    write_bundle(root, {"train#trainer#_target_": f"scripts.unfit.{name}"}, scripts={"unfit.py": UNFIT})
    outcome = run_bundle(root, "lightning")
    assert words in outcome.error
    assert outcome.calls["trainer"] == 0


CANNOT = [
    pytest.param({"loss": {"_target_": "NoSuchLoss"}}, "NoSuchLoss", id="unknown class"),
    pytest.param({"loss": {"_target_": "DiceLoss", "sigmod": True}}, "sigmod", id="unknown argument"),
    pytest.param({"train#trainer#optimizer": "@nothing"}, "nothing", id="unknown reference"),
    pytest.param({"train#inferer": {"_target_": "SlidingWindowInferer"}}, "roi_size", id="missing argument"),
    pytest.param({"optimizer#lr": "$1 / 0"}, "division by zero", id="expression"),
    pytest.param({"optimizer#lr": "@epochs", "epochs": "@optimizer#lr"}, "circular", id="circle"),
    pytest.param(
        {"train#trainer#max_epochs": "two"}, "TypeError: '<' not supported", id="value", marks=pytest.mark.slow
    ),
    pytest.param({"run": ["$@train#trainer.go()"]}, "go", id="method"),
]


@pytest.mark.parametrize(("changes", "words"), CANNOT)
def test_what_monai_cannot_run_fails_for_monais_reason(run, changes, words):
    reference, ours = (run(engine, changes) for engine in ("ignite", "lightning"))
    assert words in reference.error
    assert words in ours.error
    assert ours.error == reference.error


SLOW = """
import time


def slow(engine):
    print("a step", flush=True)
    time.sleep(20)
"""


@pytest.mark.slow
@pytest.mark.parametrize("run", ["@train#trainer.run()", "@validate#evaluator.run()"], ids=["fit", "validate"])
def test_a_run_that_is_terminated_ends_at_once(root, run):
    clear(root)
    handler = {"_target_": "zoo_parts.At", "event": "iteration_started", "call": "$slow"}
    imports = ["$import torch", "$import monai", "$import zoo_parts", "$from scripts.slow import slow"]
    changes = {"imports": imports, "train#handlers": [handler], "validate#handlers": [handler], "run": [f"${run}"]}
    write_bundle(root, changes, scripts={"slow.py": SLOW})
    command = [sys.executable, "-m", "monai.bundle", "run", "--workflow", "monai_lighter.Workflow"]
    process = subprocess.Popen(
        [*command, "--config_file", "configs/train.yaml"], cwd=root, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip
    assert any("a step" in line for line in process.stdout)
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    assert process.wait(10) == -signal.SIGTERM
