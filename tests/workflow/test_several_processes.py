"""One config in one process and in two, by each way of starting them: the same weights and tables; a dead process ends the other.

Where it does not matter who starts the processes they are forked, with the environment that they would be given.
"""

import os
import signal
import socket
import subprocess
from pathlib import Path

import preloaded
import pytest
import torch
import yaml

pytestmark = pytest.mark.slow

CASES = (
    "$[{'image': torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(i)), 'label': (torch.rand(1, 16, 16, "
    "generator=torch.Generator().manual_seed(i)) > 0.5).float(), 'name': i} for i in range(9)]"
)
CONFIG = {
    "imports": ["$import torch", "$from scripts.faults import meet"],
    "seed": 7,
    "batch": 4,
    "cases": CASES,
    "network": {
        **{"_target_": "UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 1},
        **{"channels": [4, 8], "strides": [2]},
    },
    "system": {
        "model": "@network",
        "criterion": {"_target_": "DiceLoss", "sigmoid": True},
        "optimizer": {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": 0.1},
        "metrics": {"val": {"dice": {"_target_": "DiceMetric"}}},
        "postprocessing": {
            "val": {
                "_target_": "Compose",
                "transforms": [
                    {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
                    {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
                ],
            }
        },
        "dataloaders": {
            "train": {
                "_target_": "DataLoader",
                "batch_size": "@batch",
                "shuffle": True,
                "dataset": {
                    "_target_": "Dataset",
                    "data": "$@cases[:8]",
                    "transform": {
                        "_target_": "Compose",
                        "transforms": [
                            {"_target_": "RandGaussianNoised", "keys": "image", "prob": 1.0},
                            {"_target_": "Lambdad", "keys": "image", "func": "$meet"},
                        ],
                    },
                },
            },
            "val": {
                "_target_": "DataLoader",
                "dataset": {
                    "_target_": "CacheDataset",
                    "data": "@cases",
                    "transform": {"_target_": "Compose", "transforms": [{"_target_": "EnsureTyped", "keys": "image"}]},
                    "runtime_cache": "threads",
                    "progress": False,
                },
            },
            "predict": {
                "_target_": "DataLoader",
                "dataset": {
                    "_target_": "Dataset",
                    "data": "@cases",
                    "transform": {"_target_": "Lambdad", "keys": "image", "func": "$meet"},
                },
            },
        },
        "adapters": {
            mode: {"batch": {"_target_": "monai_lighter.BatchAdapter", "identifier_accessor": "name"}}
            for mode in ("val", "predict")
        },
    },
    "trainer": {
        **{"max_epochs": 2, "accelerator": "cpu", "devices": 1, "strategy": "auto", "num_sanity_val_steps": 0},
        **{"enable_progress_bar": False, "num_nodes": 1, "logger": False},
        "callbacks": [{"_target_": "monai_lighter.CaseMetrics", "path": "$@bundle_root + '/cases.csv'"}],
    },
    "after_predict": "$None",
    "after_fit": "$print('cached:', sum(each is not None for each in @system::dataloaders::val::dataset._cache))",
}
FAULT = """
import os, signal, sys, time
from torch import distributed
from monai_lighter.system import watchdog
calls = 0
watchdog.GRACE = 2.0

def meet(image):
    global calls
    kind, _, rank = os.environ.get("FAULT", "").partition(":")
    calls += 1
    if kind and distributed.is_initialized() and distributed.get_rank() == int(rank):
        if calls == 3 and kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if calls == 3 and kind == "exit":
            sys.exit(3)
        if calls == 3 and kind == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        if calls == 3 and kind == "raise":
            raise ValueError("of this kind is no case")
    elif kind:
        time.sleep(float(os.environ.get("PAUSE", "0")))
    return image
"""


def write(root):
    for folder in ("configs", "scripts"):
        (root / folder).mkdir()
    (root / "configs" / "train.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    (root / "scripts" / "__init__.py").touch()
    (root / "scripts" / "faults.py").write_text(FAULT)
    return root


def find_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}


def list_environments(way):
    """What each of two processes is told by what starts it: one more than the address."""
    if way == "torchrun":
        size = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none"}
        return [{**size, "RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    if way == "nodes":
        return [{"NODE_RANK": rank} for rank in "01"]
    job = {"SLURM_JOB_ID": "17", "SLURM_JOB_NAME": "fit", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    job |= {"SLURM_NODEID": "0", "SLURM_NNODES": "1", "SLURM_NODELIST": "localhost"}
    return [{**job, "SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in "01"]


WORDS = {way: ["--trainer::devices", "2", "--trainer::strategy", "ddp"] for way in ("torchrun", "slurm")}
WORDS["nodes"] = ["--trainer::devices", "1", "--trainer::num_nodes", "2", "--trainer::strategy", "ddp"]
BASE = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def commands(root, way, stage, *more, **variables):
    address = find_address()
    words = [
        "-m",
        "monai_lighter",
        stage,
        "configs/train.yaml",
        *more,
        *WORDS[way],
        "--batch",
        "2",
        "--final_id",
        f"after_{stage}",
    ]
    return [(words, root, {**BASE, **address, **each, **variables}) for each in list_environments(way)]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Folder and finished processes by the way they were started."""
    roots = {way: write(tmp_path_factory.mktemp(way)) for way in ("one", *WORDS)}
    all_commands = {way: commands(roots[way], way, "fit") for way in WORDS}
    words = ["-m", "monai_lighter", "fit", "configs/train.yaml", "--final_id", "after_fit"]
    all_commands["one"] = [(words, roots["one"], BASE)]
    result = {}
    for way, some in all_commands.items():
        done = preloaded.run_together(some, timeout=120)
        assert [each.returncode for each in done] == [0] * len(done), done[0].stderr + done[-1].stderr
        result[way] = roots[way], done
    return result


def read_weights(root):
    return torch.load(root / "models" / "model_last.pt", weights_only=True)


@pytest.mark.parametrize("way", ["torchrun", "nodes", "slurm"])
class TestEachWay:
    def test_comes_to_the_weights_of_one_process(self, fitted, way):
        one, two = (read_weights(fitted[name][0]) for name in ("one", way))
        first = read_weights(fitted["torchrun"][0])
        for name, value in one.items():
            assert torch.allclose(value, two[name], atol=1e-6, rtol=0), name
            assert torch.equal(two[name], first[name])

    def test_writes_one_table_that_is_that_of_one_process(self, fitted, way):
        one, two = ((fitted[name][0] / "cases.csv").read_text().splitlines() for name in ("one", way))
        assert len(one) == 10
        for mine, expected in zip(two, one, strict=True):
            assert mine.split(",")[:3] == expected.split(",")[:3]
        assert [float(row.split(",")[3]) for row in two[1:]] == pytest.approx(
            [float(row.split(",")[3]) for row in one[1:]], abs=1e-6
        )

    def test_tells_what_it_came_to_once(self, fitted, way):
        said = "".join(each.stdout + each.stderr for each in fitted[way][1])
        assert said.count("fitted 2 epochs") == 1
        assert said.count("best weights ") == 1

    def test_each_process_caches_the_cases_that_it_validates_on(self, fitted, way):
        counts = [each.stdout.partition("cached: ")[2].split()[0] for each in fitted[way][1]]
        assert counts == ["5", "5"]  # of 9: one comes twice, and is counted once
        assert "cached: 9" in fitted["one"][1][0].stdout


@pytest.mark.parametrize(
    ("way", "stage", "fault", "codes", "told"),
    [
        ("torchrun", "fit", "kill:1", [1, -signal.SIGKILL], "rank 1 has ended: it was killed"),
        ("nodes", "fit", "raise:0", [1, 1], "ValueError: of this kind is no case"),
        ("nodes", "predict", "raise:1", [1, 1], "rank 1 has ended: ValueError: of this kind is no case"),
        ("slurm", "predict", "kill:0", [-signal.SIGKILL, 1], "rank 0 has ended: it was killed"),
        ("torchrun", "predict", "exit:1", [1, 3], "rank 1 has ended: SystemExit: 3"),
    ],
)
def test_a_process_that_dies_ends_the_other_which_says_why(tmp_path, way, stage, fault, codes, told):
    """In a fit the next exchange with the dead one fails. Prediction has none: the other would go on for 20 seconds."""
    pause = "5" if stage == "predict" else "0"
    root = write(tmp_path)
    done = preloaded.run_together(commands(root, way, stage, FAULT=fault, PAUSE=pause), timeout=60)
    assert [each.returncode for each in done] == codes, done[0].stderr + done[1].stderr
    survivor = done[1 - int(fault[-1])]
    assert told in survivor.stderr
    assert "gloo/transport" not in survivor.stderr
    if fault.startswith("raise"):
        failed = done[int(fault[-1])]
        assert f"[rank{fault[-1]}]: system::dataloaders::" in failed.stderr
        assert "of this kind is no case" in failed.stderr


def test_a_job_that_slurm_stops_goes_on_where_it_was(tmp_path, fitted):
    """SIGTERM, which reaches one process first, ends both after the same step."""
    root = write(tmp_path)
    stopped = preloaded.run_together(commands(root, "slurm", "fit", FAULT="term:1"), timeout=60)
    assert [each.returncode for each in stopped] == [143, 143], stopped[0].stderr + stopped[1].stderr
    assert not (root / "models" / "model_last.pt").exists()
    done = preloaded.run_together(commands(root, "slurm", "fit", "--resume", "auto"), timeout=60)
    assert [each.returncode for each in done] == [0, 0], done[0].stderr + done[1].stderr
    whole, gone_on = read_weights(fitted["slurm"][0]), read_weights(root)
    assert all(torch.equal(value, gone_on[name]) for name, value in whole.items())


@pytest.mark.parametrize(("code", "requeued"), [(0, ""), (1, ""), (143, "requeue 17")])
def test_the_script_for_slurm_has_a_job_queued_again_that_was_stopped(tmp_path, code, requeued):
    for name, text in (("srun", f"echo $@ > ran; exit {code}"), ("scontrol", "echo $@ > requeued")):
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "17", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2"}
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    script = Path(__file__).parents[2] / "scripts" / "slurm.sh"
    done = subprocess.run(["bash", script, "a.yaml", "--x", "1"], cwd=tmp_path, env={**job, "PATH": path}, check=False)
    assert done.returncode == code
    words = "monai-lighter fit a.yaml --x 1 --resume auto --trainer::strategy ddp --trainer::devices 4 --trainer::num_nodes 2"
    assert (tmp_path / "ran").read_text().split(maxsplit=1)[1].strip() == words
    assert (tmp_path / "requeued").exists() == bool(requeued)
    assert not requeued or (tmp_path / "requeued").read_text().strip() == requeued
