"""The ``lightning`` section: each keyword of Lightning's Trainer does to an engine's run what it does to any other."""

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import timer
from monai.data import DataLoader, Dataset
from monai.losses import DiceLoss
from monai.utils import set_determinism
from test_trace_own_iteration import gan
from test_trace_run_lists import VALIDATION
from zoo import clear, run_bundle, write_bundle
from zoo_parts import Net, items, summary

from monai_lighter import BundleError, Workflow

PLAIN = {
    "train#random": [],
    "train#dataloader#shuffle": False,
    "train#key_metric": None,
    "train#trainer#postprocessing": None,
    "train#extra": [],
    "network_def#dropout": 0.0,
}
"""What the training of `by_hand` has not."""


@pytest.fixture
def lightning(root):
    """Outcome of a run on Lightning, with changes of the config and keywords of the section by override."""

    def run(keywords=None, changes=None, fresh=True, **more):
        if fresh:
            clear(root)
        write_bundle(root, changes or {}, **more)
        return run_bundle(root, "lightning", **{f"lightning::{key}": value for key, value in (keywords or {}).items()})

    return run


def by_hand(step, epochs=2):
    """Weights of a loop that is written out: two epochs of three batches. ``step(optimizer, loss, i)`` after each backward."""
    set_determinism(123)
    network, loss = Net(dropout=0.0), DiceLoss(sigmoid=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    loader = DataLoader(Dataset(items(5)), batch_size=2)
    for _ in range(epochs):
        for i, batch in enumerate(loader):
            step(network, optimizer, lambda batch=batch: loss(network(batch["image"]), batch["label"]), i)
    set_determinism(None)
    return summary(network.state_dict())


def usual(network, optimizer, loss, i):
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()


def accumulated(network, optimizer, loss, i):
    if i % 2 == 0:
        optimizer.zero_grad()
    (loss() / 2).backward()
    if i % 2 == 1 or i == 2:
        optimizer.step()


def clipped(network, optimizer, loss, i):
    optimizer.zero_grad()
    loss().backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 0.001)
    optimizer.step()


def clamped(network, optimizer, loss, i):
    optimizer.zero_grad()
    loss().backward()
    torch.nn.utils.clip_grad_value_(network.parameters(), 0.001)
    optimizer.step()


def half(network, optimizer, loss, i):
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss()
    value.backward()
    optimizer.step()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keywords", "step"),
    [
        pytest.param({}, usual, id="none"),
        pytest.param({"accumulate_grad_batches": 2}, accumulated, id="accumulation"),
        pytest.param({"gradient_clip_val": 0.001}, clipped, id="clipping by norm"),
        pytest.param({"gradient_clip_val": 0.001, "gradient_clip_algorithm": "value"}, clamped, id="clipping by value"),
        pytest.param({"precision": "bf16-mixed"}, half, id="bf16"),
    ],
)
def test_the_weights_are_those_of_a_loop_written_out(lightning, keywords, step):
    weights = lightning(keywords, PLAIN).parts["network"]
    assert weights == by_hand(step)
    assert (weights == by_hand(usual)) == (step is usual)


def started(outcome, event="epoch_started", engine="trainer"):
    """How often an event of an engine came."""
    return sum((row["engine"], row["event"], row["place"]) == (engine, event, "first") for row in outcome.rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keywords", "epochs", "batches", "validated"),
    [
        pytest.param({"max_epochs": 1}, 1, 3, 2, id="fewer epochs"),
        pytest.param({"max_epochs": 3}, 3, 9, 6, id="more epochs"),
        pytest.param({"max_epochs": -1, "max_steps": 7}, 3, 7, 6, id="steps"),
        pytest.param({"max_steps": 2, "accumulate_grad_batches": 2}, 1, 3, 2, id="steps of several batches"),
        pytest.param({"limit_train_batches": 2}, 2, 4, 4, id="train batches"),
        pytest.param({"limit_train_batches": 0.7}, 2, 4, 4, id="a fraction of train batches"),
        pytest.param({"limit_val_batches": 1}, 2, 6, 2, id="validation batches"),
        pytest.param({"limit_val_batches": 0}, 2, 6, 0, id="no validation"),
        pytest.param({"fast_dev_run": True}, 1, 1, 1, id="fast_dev_run"),
        pytest.param({"max_time": {"seconds": 0}}, 0, 0, 0, id="time"),
    ],
)
def test_limits(lightning, keywords, epochs, batches, validated):
    outcome = lightning(keywords)
    assert outcome.error is None
    assert started(outcome) == started(outcome, "epoch_completed") == epochs
    assert started(outcome, "iteration_completed") == batches
    assert started(outcome, "iteration_completed", "evaluator") == validated
    assert started(outcome, "completed") == (epochs > 0)


@pytest.mark.slow
def test_more_epochs_are_those_of_a_run_with_more_epochs(lightning):
    """Handlers see them too, so a schedule that goes by ``max_epochs`` is that of the longer run."""
    longer = lightning({"max_epochs": 4}, PLAIN)
    reference = lightning({}, {**PLAIN, "epochs": 4})
    assert longer.rows[0]["state"]["max_epochs"] == "4"
    assert longer.rows == reference.rows
    assert longer.parts == reference.parts


@pytest.mark.slow
def test_epochs_of_a_trainer_are_not_those_of_an_evaluator(lightning):
    outcome = lightning({"max_epochs": 4}, {"run": ["$@validate#evaluator.run()"]})
    assert started(outcome, engine="evaluator") == 1


CLOCK = SimpleNamespace(now=0.0, monotonic=lambda: CLOCK.now)


@pytest.mark.slow
def test_time_ends_a_run_within_an_epoch(lightning, monkeypatch):
    monkeypatch.setattr(timer, "time", CLOCK)
    wait = {
        "_target_": "zoo_parts.At",
        "event": "forward_completed",
        "call": "$lambda engine: setattr(it.CLOCK, 'now', it.CLOCK.now + 0.6)",
    }
    imports = ["$import torch", "$import monai", "$import zoo_parts", "$import test_settings as it"]
    outcome = lightning({"max_time": {"seconds": 1}}, {"train#extra": [wait], "imports": imports})
    assert started(outcome, "iteration_completed") == 2
    assert started(outcome, "completed") == 1


CSV = {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": "."}
LOSS, ACCURACY, DICE = ("train/loss/step", "train/metrics/train_accuracy/epoch", "val/metrics/val_dice/epoch")


@pytest.mark.slow
def test_logger_true_is_tensorboard(lightning):
    outcome = lightning({"logger": True, "log_every_n_steps": 1})
    scalars, _ = outcome.files["lightning_logs/version_0/events"]
    steps = [[step for step, _ in scalars[name]] for name in (LOSS, ACCURACY, DICE)]
    assert steps == [[0, 1, 2, 3, 4, 5], [2, 5], [2, 5]]
    metrics = [
        row["state"]["metrics"] for row in outcome.rows if (row["engine"], row["event"]) == ("evaluator", "completed")
    ]
    assert scalars[DICE][-1][1] == pytest.approx(float(metrics[-1]["val_dice"]))


@pytest.mark.slow
def test_csv_learning_rates_and_checkpoints_by_a_monitored_metric(lightning, root):
    scheduler = {"_target_": "torch.optim.lr_scheduler.StepLR", "optimizer": "@optimizer", "step_size": 1}
    handler = {"_target_": "LrScheduleHandler", "lr_scheduler": scheduler, "print_lr": False}
    rates = {"_target_": "lightning.pytorch.callbacks.LearningRateMonitor", "logging_interval": "epoch"}
    best = {"dirpath": "kept", "filename": "best", "monitor": DICE, "mode": "max"}
    checkpoint = {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", **best}
    outcome = lightning(
        {"logger": CSV, "log_every_n_steps": 1, "callbacks": [rates, checkpoint]},
        {"train#extra": [handler, VALIDATION]},
    )
    assert outcome.error is None
    with open(root / "lightning_logs" / "version_0" / "metrics.csv", newline="") as file:
        table = list(csv.DictReader(file))
    columns = {name: [float(row[name]) for row in table if row[name]] for name in (LOSS, ACCURACY, DICE, "lr-Adam")}
    assert [len(columns[name]) for name in (LOSS, ACCURACY, DICE)] == [6, 2, 2]
    assert columns["lr-Adam"] == pytest.approx([0.01, 0.001])
    kept = torch.load(root / "kept" / "best.ckpt", weights_only=True)
    assert kept["epoch"] == max((0, 1), key=lambda epoch: columns[DICE][epoch])
    (state,) = kept["callbacks"].values()
    assert float(state["best_model_score"]) == pytest.approx(max(columns[DICE]))


@pytest.mark.slow
@pytest.mark.parametrize("monitor", [DICE, ACCURACY])
def test_early_stopping_by_a_metric_of_an_engine(lightning, monitor):
    patience = {"monitor": monitor, "mode": "max", "patience": 1, "min_delta": 10}
    stop = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", **patience}
    outcome = lightning({"callbacks": stop}, {"epochs": 5})
    assert started(outcome) == 2
    assert started(outcome, "completed") == 1


@pytest.mark.slow
def test_early_stopping_by_a_name_that_is_not_logged(lightning):
    stop = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val_dice"}
    outcome = lightning({"callbacks": stop})
    assert "val_dice" in outcome.error
    assert DICE in outcome.error


@pytest.mark.slow
def test_profiler(lightning, root):
    profiler = {"_target_": "lightning.pytorch.profilers.SimpleProfiler", "dirpath": ".", "filename": "profile"}
    lightning({"profiler": profiler})
    (line,) = [
        line
        for line in (root / "fit-profile.txt").read_text().splitlines()
        if "Strategy]InPlaceStrategy.training_step" in line
    ]
    assert line.split("|")[3].split() == ["6"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "shown"), [({}, False), ({"enable_progress_bar": True}, True)], ids=["unsaid", "given"]
)
def test_progress_bar(lightning, capsys, given, shown):
    """Unsaid, it is shown where standard error is a terminal, which it is not here."""
    lightning(given)
    captured = capsys.readouterr()
    assert ("epoch 1/" in captured.err) == shown
    assert (f"{DICE.split('/')[2]} " in captured.err) == shown


@pytest.mark.slow
@pytest.mark.parametrize("given", [False, True])
def test_strategy_and_the_place_of_logs(lightning, root, given):
    """Unsaid, networks stay where the config has them, and nothing is written."""
    strategy = {"_target_": "lightning.pytorch.strategies.SingleDeviceStrategy", "device": "cpu"}
    keywords = {"strategy": strategy, "default_root_dir": "here", "enable_checkpointing": True} if given else {}
    seen = {
        "_target_": "zoo_parts.At",
        "event": "started",
        "call": "$lambda engine: @names.append(strategy_of(engine))",
    }
    imports = ["$import torch", "$import monai", "$import zoo_parts", "$from scripts.seen import strategy_of"]
    source = (
        "from monai_lighter.engines.engine import UNDER_WAY\n\n"
        "def strategy_of(engine):\n    return type(UNDER_WAY.get().trainer.strategy).__name__\n"
    )
    changes = {
        "names": "$list()",
        "train#extra": [seen],
        "imports": imports,
        "run": ["$@train#trainer.run()", "$@names"],
    }
    outcome = lightning(keywords, changes, scripts={"seen.py": source})
    assert outcome.error is None
    assert outcome.returned[-1] == ["list", repr("SingleDeviceStrategy" if given else "InPlaceStrategy")]
    assert outcome.parts["network"] == lightning({}, {"train#extra": []}).parts["network"]
    assert [Path(name).parts[0] for name in outcome.files] == (["here"] if given else [])


@pytest.mark.slow
def test_precision_of_networks_and_batches(lightning):
    outcome = lightning({"precision": "64-true"}, PLAIN)
    assert " torch.float64 " in outcome.parts["network"]["conv.weight"]
    rows = [row for row in outcome.rows if row["event"] == "iteration_completed"]
    assert "torch.float64" in str(rows[0]["state"]["output"])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("alone", [False, True], ids=["in training", "alone"])
def test_transforms_that_need_numpy_see_what_it_knows(lightning, precision, alone):
    """NumPy has no bfloat16, and MONAI's transforms go through it."""
    transform = "$lambda item: {**item, 'pred': torch.from_numpy((item['pred'].numpy() > 0).astype('float32'))}"
    changes = {f"{section}#postprocessing": transform for section in ("validate", "train", "train#trainer")}
    changes["validate#inferer"] = {"_target_": "SimpleInferer"}
    run = {"run": ["$@validate#evaluator.run()"]} if alone else {}
    outcome = lightning({"precision": precision}, {**changes, **run})
    assert outcome.error is None
    seen = [row["state"]["output"] for row in outcome.rows if row["event"] == "forward_completed"]
    assert "torch.bfloat16" in str(seen[-1])


@pytest.mark.slow
@pytest.mark.parametrize("written", ["train#trainer", "train::trainer", "nested", "override"])
def test_keywords_for_one_engine(lightning, written):
    own = {"max_epochs": 1, "limit_train_batches": 2}
    if written == "override":
        outcome = lightning({"max_epochs": 5, **{f"train#trainer::{key}": value for key, value in own.items()}})
    else:
        entry = {"train": {"trainer": own}} if written == "nested" else {written: own}
        outcome = lightning({}, {"lightning": {"max_epochs": 5, **entry}})
    assert outcome.error is None
    assert (started(outcome), started(outcome, "iteration_completed")) == (1, 2)


@pytest.mark.slow
def test_keywords_for_engines_that_other_items_refer_to(lightning):
    run = {"engines": ["@train#trainer", "@validate#evaluator"], "run": ["$[engine.run() for engine in @engines]"]}
    keywords = {"train#trainer::max_epochs": 1, "validate#evaluator::limit_val_batches": 1}
    outcome = lightning(keywords, {**run, "train#extra": []})
    assert outcome.error is None
    assert (started(outcome), started(outcome, "iteration_completed", "evaluator")) == (1, 1)


@pytest.mark.slow
def test_the_section_may_be_a_reference_or_an_expression(lightning):
    assert started(lightning({}, {"lightning": "@other", "other": {"max_epochs": "$3 - 2"}})) == 1
    assert started(lightning({}, {"lightning": "$dict(max_epochs=1)"})) == 1
    assert started(lightning({}, {"lightning": {"max_epochs": 1, "_requires_": "@loss"}})) == 1


WRONG = [
    pytest.param({"max_epoch": 1}, {}, "lightning::max_epoch", "Did you mean 'max_epochs'?", id="override"),
    pytest.param({}, {"lightning": "@o", "o": {"max_epoch": 1}}, "o::max_epoch", "'max_epochs'?", id="reference"),
    pytest.param(
        {"train#trainer::precison": 1}, {}, "lightning::train::trainer::precison", "'precision'?", id="of one"
    ),
    pytest.param({"train#traner::precision": 1}, {}, "lightning::train::traner", "no argument 'traner'", id="engine"),
    pytest.param({"_target_": "Trainer"}, {}, "lightning::_target_", "no argument '_target_'", id="target"),
    pytest.param({}, {"lightning": 3}, "lightning", "must be a section, got 3", id="no section"),
]


@pytest.mark.parametrize(("keywords", "changes", "id", "words"), WRONG)
def test_unknown_keywords_are_found_before_anything_is_built(lightning, root, keywords, changes, id, words):
    outcome = lightning(keywords, {"first": "$open('built', 'w')", "initialize": ["@first"], **changes})
    assert outcome.error.startswith(f"ConfigError: {id}: ")
    assert words in outcome.error
    assert not (root / "built").exists()


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("$dict(max_epoch=1)", "lightning::max_epoch: lightning.pytorch.Trainer has no such argument, got 1"),
        ("$3", "lightning: must be a section, got 3"),
        ({"devices": "two"}, "lightning: no Trainer can be made of {'devices': 'two'}: TypeError"),
        ({"precision": "15-mixed"}, "lightning: no Trainer can be made of {'precision': '15-mixed'}: ValueError"),
    ],
    ids=str,
)
def test_what_only_the_run_can_find(root, monkeypatch, section, words):
    clear(root)
    write_bundle(root, {"lightning": section})
    monkeypatch.chdir(root)
    workflow = Workflow("configs/train.yaml", logging_file=False)
    workflow.initialize()
    with pytest.raises(BundleError) as raised:
        workflow.run()
    set_determinism(None)
    assert str(raised.value).startswith(words)


def test_keywords_that_an_own_iteration_cannot_have(lightning):
    outcome = lightning({"gradient_clip_val": 1.0, "accumulate_grad_batches": 2, "precision": "bf16-mixed"}, gan())
    assert "lightning::gradient_clip_val: GanTrainer steps its optimizers itself, got 1.0" in outcome.error
    assert "lightning::accumulate_grad_batches" in outcome.error
    assert "precision" not in outcome.error


@pytest.mark.slow
def test_precision_of_an_own_iteration(lightning):
    plain, half = (lightning(keywords, gan()) for keywords in ({}, {"precision": "bf16-mixed"}))
    assert half.error is None
    assert half.parts["generator"] != plain.parts["generator"]


@pytest.mark.slow
def test_from_the_command_line(root, monai_bundle):
    clear(root)
    write_bundle(root, {})
    keywords = ["--lightning::logger", str(CSV), "--lightning::train#trainer::max_epochs", "1",
                "--lightning::enable_progress_bar", "True", "--lightning::log_every_n_steps", "1"]  # fmt: skip
    path = {"PYTHONPATH": str(Path(__file__).parent)}
    arguments = ["run", "--workflow", "monai_lighter.Workflow", "--config_file", "configs/train.yaml"]
    done = monai_bundle(*arguments, *keywords, cwd=root, **path)
    assert done.returncode == 0, done.stderr
    assert "epoch 1/1: loss" in done.stderr
    with open(root / "lightning_logs" / "version_0" / "metrics.csv", newline="") as file:
        assert sum(bool(row[LOSS]) for row in csv.DictReader(file)) == 3


@pytest.mark.slow
def test_a_misspelt_keyword_on_the_command_line(root, monai_bundle):
    clear(root)
    write_bundle(root, {})
    arguments = ["run", "--workflow", "monai_lighter.Workflow", "--config_file", "configs/train.yaml"]
    done = monai_bundle(*arguments, "--lightning::device", "2", cwd=root, PYTHONPATH=str(Path(__file__).parent))
    assert done.returncode == 2
    assert (
        "lightning::device: lightning.pytorch.Trainer has no argument 'device', got 2. Did you mean 'devices'?"
        in done.stderr
    )
    assert "Traceback" not in done.stderr
