"""Two processes: a bundle's own ``multi_gpu_train`` config under torchrun, and ``lightning::devices`` with no such config.

All runs train and evaluate the same bundle on the CPU, in processes of their own; what they leave behind is compared.
"""

import json
import os
import socket
from pathlib import Path

import preloaded
import pytest
import torch
import yaml
from ignite.engine import Events
from monai.data import DataLoader, DistributedSampler
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import GarbageCollector, StatsHandler
from test_trace_own_iteration import gan
from torch.utils.data import IterableDataset, WeightedRandomSampler
from zoo import clear, content, run_bundle, write_bundle

from monai_lighter.engines.replicas import find_handler_owners, join

VALIDATION = {"_target_": "ValidationHandler", "validator": "@validate#evaluator", "interval": 1}
BOARD = {
    "_target_": "TensorBoardStatsHandler",
    "log_dir": "@output_dir",
    "output_transform": "$monai.handlers.from_engine(['loss'], first=True)",
}
NETWORK = {"network": "@network"}
SAVER = {"_target_": "CheckpointSaver", "save_dir": "@output_dir", "save_dict": NETWORK, "save_key_metric": True,
         "key_metric_filename": "best.pt"}  # fmt: skip
TABLE = {"_target_": "MetricsSaver", "save_dir": "@output_dir", "metrics": "*", "metric_details": "*",
         "batch_transform": "$lambda batch: [item['image'].meta for item in batch]"}  # fmt: skip
SCHEDULE = {"_target_": "LrScheduleHandler", "print_lr": False, "lr_scheduler": {
    "_target_": "torch.optim.lr_scheduler.StepLR", "optimizer": "@optimizer", "step_size": 1}}  # fmt: skip
RUN = [
    "$@train#trainer.run()",
    "$zoo_parts.leave('trained', @network, @train#trainer, @validate#evaluator)",
    "$@validate#evaluator.run()",
    "$zoo_parts.leave('evaluated', @network, @train#trainer, @validate#evaluator)",
]
CHANGES = {
    "train#extra": [SCHEDULE, VALIDATION, BOARD],
    "validate#extra": [TABLE, SAVER],
    "validate#dataset#data": "$zoo_parts.items(5, seed=1)",
    "run": RUN,
}
MULTI = {
    "network": {"_target_": "torch.nn.parallel.DistributedDataParallel", "module": "$@network_def.to(@device)"},
    "train#sampler": {
        "_target_": "DistributedSampler",
        "dataset": "@train#dataset",
        "even_divisible": True,
        "shuffle": True,
    },
    "train#dataloader#sampler": "@train#sampler",
    "train#dataloader#shuffle": False,
    "train#next": {
        "_target_": "zoo_parts.At",
        "event": "epoch_started",
        "call": "$lambda engine: @train#sampler.set_epoch(engine.state.epoch)",
    },
    "train#trainer#train_handlers": "$[@train#next] + @train#handlers[: -2 if dist.get_rank() > 0 else None]",
    "validate#sampler": {
        "_target_": "DistributedSampler",
        "dataset": "@validate#dataset",
        "even_divisible": False,
        "shuffle": False,
    },
    "validate#dataloader#sampler": "@validate#sampler",
    "validate#evaluator#val_handlers": "$@validate#handlers[: -2 if dist.get_rank() > 0 else None]",
    "initialize": [
        "$import torch.distributed as dist",
        "$dist.is_initialized() or dist.init_process_group(backend='gloo')",
        "$monai.utils.set_determinism(seed=123)",
        "$import logging",
        "$@train#trainer.logger.setLevel(logging.WARNING if dist.get_rank() > 0 else logging.INFO)",
    ],
    "finalize": ["$dist.is_initialized() and dist.destroy_process_group()"],
}
OURS = ("--workflow", "monai_lighter.Workflow")
FILES = "['configs/train.yaml','configs/multi_gpu_train.yaml']"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder of each run by name."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": path}
    folders = {}
    for name, arguments, environments in [
        ("ignite", ["--config_file", FILES], under_torchrun(alone)),
        ("torchrun", [*OURS, "--config_file", FILES], under_torchrun(alone)),
        ("devices", [*OURS, "--config_file", "configs/train.yaml", "--lightning::devices", "2"], [alone]),
    ]:
        root = folders[name] = tmp_path_factory.mktemp(name)
        write_bundle(root, CHANGES)
        (root / "configs" / "multi_gpu_train.yaml").write_text(yaml.safe_dump(MULTI))
        commands = [(["-m", "monai.bundle", "run", *arguments], root, environment) for environment in environments]
        for done in preloaded.run_together(commands, timeout=100):
            assert done.returncode == 0, done.stderr[-3000:]
    return folders


def under_torchrun(environment):
    """Environments of two processes as ``torchrun --standalone --nproc_per_node 2`` sets them.

    That it starts a run itself is tested once, in ``test_command_line.py``.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    size = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none"}
    return [{**environment, **address, **size, "RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]


def left(root, name, rank):
    """Weights and state that `zoo_parts.leave` wrote."""
    state = json.loads((root / f"{name}_{rank}.json").read_text())
    return torch.load(root / f"{name}_{rank}.pt", weights_only=True), state


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchrun", "devices"])
class TestTwoProcesses:
    def test_weights_are_those_of_ignite_bit_for_bit(self, runs, name):
        for rank in (0, 1):
            reference, ours = (left(runs[run], "trained", rank)[0] for run in ("ignite", name))
            assert {key for key in ours if not equal({0: ours[key]}, {0: reference[key]})} == set()

    @pytest.mark.parametrize("when", ["trained", "evaluated"])
    def test_counts_and_metrics_are_those_of_ignite(self, runs, name, when):
        for rank in (0, 1):
            reference, ours = (left(runs[run], when, rank)[1] for run in ("ignite", name))
            assert (ours["iterations"], ours["epoch_length"], ours["rank"]) == (4, [2, 2 - rank], rank)
            assert (reference["iterations"], reference["epoch_length"]) == (4, [2, 2 - rank])
            assert "LightningEngine" in ours["bases"]
            assert "LightningEngine" not in reference["bases"]
            for engine in ("trainer", "evaluator"):
                assert ours[engine] == pytest.approx(reference[engine], abs=1e-6)
            assert ours["evaluator"]["val_dice"] > 0

    def test_files_are_those_of_ignite_and_written_once(self, runs, name):
        reference, ours = (written(runs[run]) for run in ("ignite", name))
        assert {"out/best.pt", "out/events", "out/metrics.csv", "out/val_dice_raw.csv"} <= reference.keys()
        assert reference.keys() == ours.keys()
        assert {key for key in reference if reference[key] != ours[key]} == set()

    def test_metrics_are_those_of_one_process(self, runs, name):
        _, state = left(runs[name], "evaluated", 0)
        root = runs[name]
        load = f"$@network_def.load_state_dict(torch.load('{root}/evaluated_0.pt'))"
        alone = root / "alone"
        write_bundle(
            alone, {**CHANGES, "run": [load, "$@validate#evaluator.run()", "$@validate#evaluator.state.metrics"]}
        )
        outcome = run_bundle(alone, "lightning")
        assert outcome.error is None
        assert float(outcome.returned[-1]["val_dice"]) == pytest.approx(state["evaluator"]["val_dice"], abs=1e-6)


def written(root):
    """Files of a run but for what `zoo_parts.leave` wrote, comparable, with the folder of the run left out.

    TensorBoard's writers begin a file in every process.
    """
    files = (path for path in sorted((root / "out").rglob("*")) if path.is_file())
    found = [(key, value) for key, value in (content(path, root) for path in files) if value != [{}, {}]]
    assert len({key for key, _ in found}) == len(found)
    return {key: value.replace(str(root), "") if isinstance(value, str) else value for key, value in found}


@pytest.mark.slow
def test_weights_are_one_and_the_same_in_all_processes(runs):
    for root in runs.values():
        first, second = (left(root, "trained", rank)[0] for rank in (0, 1))
        learnt = [key for key in first if not key.startswith("norm.running")]
        assert all(torch.equal(first[key], second[key]) for key in learnt)


@pytest.mark.slow
def test_two_processes_go_on_as_if_they_had_not_ended(tmp_path, python_module):
    """Each with its own random numbers, which the checkpoint of the first one holds."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])

    def fit(root, epochs, resume):
        words = [*OURS, "--config_file", "configs/train.yaml", "--lightning::devices", "2", "--epochs", epochs]
        done = python_module("monai.bundle", "run", *words, "--resume", resume, cwd=root, PYTHONPATH=path)
        assert done.returncode == 0, done.stderr[-3000:]

    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
        write_bundle(tmp_path / name, {**CHANGES, "validate#extra": []})
    fit(tmp_path / "whole", 3, "none")
    fit(tmp_path / "stopped", 2, "none")
    fit(tmp_path / "stopped", 3, "auto")
    for rank in (0, 1):
        one, two = (left(tmp_path / name, "trained", rank) for name in ("whole", "stopped"))
        assert equal(one[0], two[0])
        assert one[1]["trainer"] == two[1]["trainer"]


class Strategy:
    """As Lightning's are after the processes have been connected."""

    def __init__(self, rank, world_size=2):
        self.global_rank, self.world_size, self.root_device = rank, world_size, torch.device("cpu")


def joined(rank, loader, world_size=2, handlers=(), kind=SupervisedEvaluator):
    arguments = {"device": "cpu", "network": torch.nn.Identity()}
    if kind is SupervisedTrainer:
        more = {"max_epochs": 1, "optimizer": None, "loss_function": None}
        engine = kind(train_data_loader=loader, train_handlers=list(handlers), **more, **arguments)
    else:
        engine = kind(val_data_loader=loader, val_handlers=list(handlers), **arguments)
    engine.state.dataloader = loader
    join(engine, Strategy(rank, world_size))
    assert engine.state.dataloader is engine.data_loader
    return engine


def dealt(loader):
    return [int(item) for batch in loader for item in batch]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("kind", [SupervisedTrainer, SupervisedEvaluator])
def test_each_process_has_its_share(kind, shuffle):
    engines = [joined(rank, DataLoader(range(5), batch_size=2, shuffle=shuffle), kind=kind) for rank in (0, 1)]
    trains = kind is SupervisedTrainer
    shares = [dealt(engine.data_loader) for engine in engines]
    assert [len(share) for share in shares] == ([3, 3] if trains else [3, 2])
    assert [engine.state.epoch_length for engine in engines] == ([2, 2] if trains else [2, 1])
    assert {*shares[0], *shares[1]} == set(range(5))


def test_another_order_in_every_epoch():
    engine = joined(0, DataLoader(range(64), batch_size=64, shuffle=True))
    orders = []
    for engine.state.epoch in (1, 2):
        engine.fire_event(Events.EPOCH_STARTED)
        orders.append(dealt(engine.data_loader))
    assert orders[0] != orders[1]


def test_a_sampler_of_the_bundle_is_shared_too():
    weighted = [WeightedRandomSampler([0, 1, 1, 0], 4, generator=torch.Generator().manual_seed(0)) for _ in (0, 1)]
    shares = [dealt(joined(rank, DataLoader(range(4), sampler=weighted[rank])).data_loader) for rank in (0, 1)]
    assert [len(share) for share in shares] == [2, 2]
    assert {*shares[0], *shares[1]} <= {1, 2}


class Endless(IterableDataset):
    def __iter__(self):
        return iter(range(3))


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(range(4), sampler=DistributedSampler(range(4), num_replicas=2, rank=0)),
        torch.utils.data.DataLoader(Endless()),
        torch.utils.data.DataLoader(range(4), batch_sampler=[[0, 1], [2, 3]]),
        [1, 2],
    ],
    ids=["shared already", "iterable", "own batches", "list"],
)
def test_what_cannot_or_need_not_be_shared_is_left(loader):
    assert joined(1, loader).data_loader is loader


def test_an_epoch_length_of_the_config_stays():
    loader = DataLoader(range(8))
    engine = SupervisedEvaluator(device="cpu", network=None, val_data_loader=loader, epoch_length=3)
    engine.state.dataloader = loader
    join(engine, Strategy(0))
    assert len(engine.data_loader) == 4
    assert engine.state.epoch_length == 3


def test_alone_nothing_changes():
    loader = DataLoader(range(4))
    assert joined(0, loader, world_size=1).data_loader is loader


@pytest.mark.parametrize(("rank", "left"), [(0, 2), (1, 1)])
def test_only_the_first_process_writes(rank, left):
    handlers = [StatsHandler(iteration_log=False), GarbageCollector()]
    engine = joined(rank, DataLoader(range(4)), handlers=handlers)
    assert (
        len([owner for owner in find_handler_owners(engine) if isinstance(owner, (StatsHandler, GarbageCollector))])
        == left
    )


def test_an_own_iteration_in_several_processes_is_refused(root):
    """Nothing could average its gradients; the message says what to do."""
    clear(root)
    write_bundle(root, gan())
    outcome = run_bundle(root, "lightning", **{"lightning::devices": 2})
    assert "lightning::devices: must be 1 for GanTrainer, which has its own iteration" in outcome.error
    assert "torchrun" in outcome.error
