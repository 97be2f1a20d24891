"""Runs a small bundle in the zoo's style under two engines, in this process, and compares all that can be seen of it."""

import contextlib
import os
import random
import re
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import coverage
import ignite.engine
import lightning.pytorch
import numpy as np
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import set_determinism
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from zoo_parts import named, random_state, summary

from monai_lighter import Workflow

CONFIG = """
imports: [$import torch, $import monai, $import ignite, $import zoo_parts, $import itertools]
bundle_root: .
output_dir: $@bundle_root + '/out'
device: $torch.device('cpu')
epochs: 2
network_def: {_target_: zoo_parts.Net}
network: $@network_def.to(@device)
loss: {_target_: DiceLoss, sigmoid: true}
optimizer: {_target_: torch.optim.Adam, params: $@network.parameters(), lr: 0.01}
recorder: {_target_: zoo_parts.Recorder}
train:
  random: [{_target_: RandFlipd, keys: [image, label], prob: 0.5}, {_target_: RandGaussianNoised, keys: image, prob: 0.5}]
  dataset:
    _target_: Dataset
    data: $zoo_parts.items(5)
    transform: {_target_: Compose, transforms: '@train#random'}
  dataloader: {_target_: DataLoader, dataset: '@train#dataset', batch_size: 2, shuffle: true, num_workers: 0}
  inferer: {_target_: SimpleInferer}
  postprocessing:
    _target_: Compose
    transforms: [{_target_: Activationsd, keys: pred, sigmoid: true}, {_target_: AsDiscreted, keys: pred, threshold: 0.5}]
  key_metric:
    train_accuracy:
      _target_: ignite.metrics.Accuracy
      output_transform: $monai.handlers.from_engine(['pred', 'label'])
  extra:
    - {_target_: ValidationHandler, validator: '@validate#evaluator', epoch_level: true, interval: 1}
  handlers: $[@recorder] + @train#extra + [@recorder]
  trainer:
    _target_: SupervisedTrainer
    max_epochs: '@epochs'
    device: '@device'
    train_data_loader: '@train#dataloader'
    network: '@network'
    loss_function: '@loss'
    optimizer: '@optimizer'
    inferer: '@train#inferer'
    postprocessing: '@train#postprocessing'
    key_train_metric: '@train#key_metric'
    train_handlers: '@train#handlers'
validate:
  dataset: {_target_: Dataset, data: '$zoo_parts.items(3, seed=1)'}
  dataloader: {_target_: DataLoader, dataset: '@validate#dataset', batch_size: 2, num_workers: 0}
  inferer: {_target_: SlidingWindowInferer, roi_size: [8, 8], sw_batch_size: 2}
  postprocessing: '%train#postprocessing'
  key_metric:
    val_dice:
      _target_: MeanDice
      include_background: true
      output_transform: $monai.handlers.from_engine(['pred', 'label'])
  additional_metrics: null
  extra: []
  handlers: $[@recorder] + @validate#extra + [@recorder]
  evaluator:
    _target_: SupervisedEvaluator
    device: '@device'
    val_data_loader: '@validate#dataloader'
    network: '@network'
    inferer: '@validate#inferer'
    postprocessing: '@validate#postprocessing'
    key_val_metric: '@validate#key_metric'
    additional_metrics: '@validate#additional_metrics'
    val_handlers: '@validate#handlers'
initialize: [$monai.utils.set_determinism(seed=123)]
run: [$@train#trainer.run()]
"""

WORKFLOWS = {"ignite": ConfigWorkflow, "lightning": Workflow, "named": ConfigWorkflow}
"""By engine. ``named``: stock MONAI on a config whose ``_target_`` are our engines."""

NAMED = re.compile(r"\b_target_: (Supervised(?:Trainer|Evaluator)|EnsembleEvaluator)\b")
SECONDS = re.compile(r"Time taken: [\d:.]+|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+")


@dataclass
class Outcome:
    """What one run did.

    Attributes:
        rows: events, as `zoo_parts.Recorder` wrote them.
        parts: state of every network, optimizer and scheduler of the config at the end.
        files: content by path, in a form that can be compared.
        returned: values of the run's expressions.
        error: exception that ended the run.
        random: random state at the end.
        calls: how often engines were driven. ``ignite``: runs of Ignite's ``Engine``, ``outer``: those not inside another one,
            ``trainer``: stages of Lightning's Trainer.
    """

    rows: list = field(default_factory=list)
    parts: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)
    returned: list = field(default_factory=list)
    error: str | None = None
    random: list = field(default_factory=list)
    calls: Counter = field(default_factory=Counter)


def write_bundle(root, changes, scripts=None, base=CONFIG, named=False):
    """Writes ``configs/train.yaml``, with items replaced by id, and the modules of ``scripts``. A value is a config."""
    parser = ConfigParser(yaml.safe_load(base))
    parser.update(changes)
    text = yaml.safe_dump(parser.get(), sort_keys=False)
    (root / "configs").mkdir(parents=True, exist_ok=True)
    (root / "configs" / "train.yaml").write_text(NAMED.sub(r"_target_: monai_lighter.\1", text) if named else text)
    for name, source in (scripts or {}).items():
        (root / "scripts").mkdir(exist_ok=True)
        (root / "scripts" / "__init__.py").touch()
        (root / "scripts" / name).write_text(source)


def run_bundle(root, engine="ignite", **keywords):
    """Runs ``configs/train.yaml`` of a bundle in its folder: initialize, run, finalize."""
    outcome = Outcome()
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    with _in_bundle(root), _counted(outcome.calls), _unmeasured() if engine == "ignite" else contextlib.nullcontext():
        workflow = WORKFLOWS[engine]("configs/train.yaml", logging_file=False, workflow_type="train", **keywords)
        try:
            workflow.initialize()
            outcome.returned = summary(workflow.run())
            workflow.finalize()
        except (Exception, KeyboardInterrupt) as error:
            outcome.error = named(root_cause(error))
        outcome.random = random_state()
        resolved = workflow.parser.ref_resolver.resolved_content
        outcome.rows = resolved["recorder"].rows if "recorder" in resolved else []
        outcome.parts = {id: summary(part.state_dict()) for id, part in resolved.items() if _has_state(part)}
    new = [path for path in sorted(root.rglob("*")) if path.is_file() and before.get(path) != path.stat().st_mtime_ns]
    outcome.files = dict(content(path, root) for path in new if "__pycache__" not in path.parts)
    return outcome


@contextlib.contextmanager
def _unmeasured():
    """Coverage of this package is not asked for where MONAI runs alone; it takes a third of the time."""
    measured = coverage.Coverage.current()
    if measured:
        measured.stop()
    try:
        yield
    finally:
        if measured:
            measured.start()


def root_cause(error):
    """The exception that was raised first: each workflow wraps it in its own way."""
    return error if error.__cause__ is None else root_cause(error.__cause__)


def _has_state(part):
    kinds = (nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
    return isinstance(part, kinds)


@contextlib.contextmanager
def _in_bundle(root):
    """The folder and the search path of a bundle, and random numbers that begin alike; all put back afterwards."""
    folder, path = Path.cwd(), [*sys.path]
    os.chdir(root)
    sys.path.insert(0, str(root))
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    try:
        yield
    finally:
        os.chdir(folder)
        sys.path[:] = path
        set_determinism(None)
        torch.set_grad_enabled(True)
        torch.backends.cudnn.benchmark = False
        for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
            del sys.modules[name]


@contextlib.contextmanager
def _counted(calls):
    """Counts stages of Lightning's Trainer and runs of Ignite's Engine."""
    engine, trainer = ignite.engine.Engine, lightning.pytorch.Trainer
    stages = {name: getattr(trainer, name) for name in ("fit", "validate", "test", "predict")}
    run = engine.run
    depth = 0

    def counted_run(*arguments, **keywords):
        nonlocal depth
        calls["ignite"] += 1
        calls["outer"] += depth == 0
        depth += 1
        try:
            return run(*arguments, **keywords)
        finally:
            depth -= 1

    def counted(stage):
        def call(*arguments, **keywords):
            calls["trainer"] += 1
            return stage(*arguments, **keywords)

        return call

    engine.run = counted_run
    for name, stage in stages.items():
        setattr(trainer, name, counted(stage))
    try:
        yield
    finally:
        engine.run = run
        for name, stage in stages.items():
            setattr(trainer, name, stage)


def content(path, root):
    """Name and comparable content of a file: tensors, TensorBoard's scalars and images, text without times, or bytes."""
    name = str(path.relative_to(root))
    if "events.out.tfevents" in path.name:
        events = EventAccumulator(str(path), size_guidance={"scalars": 0, "images": 0}).Reload()
        scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
        images = {
            tag: [(e.step, e.encoded_image_string) for e in events.Images(tag)] for tag in events.Tags()["images"]
        }
        return f"{path.parent.relative_to(root)}/events", [scalars, images]
    if path.suffix in (".pt", ".pth"):
        return name, summary(torch.load(path, weights_only=False))
    if path.suffix in (".csv", ".txt", ".log", ".yaml", ".json"):
        return name, SECONDS.sub("TIME", path.read_text())
    return name, path.read_bytes()


def differences(one, two):
    """Sentences about all that differs between two outcomes; no more than one about the rows."""
    found = [f"{name}: {was!r} and {now!r}" for name in ("error", "random", "returned")
             if (was := getattr(one, name)) != (now := getattr(two, name))]  # fmt: skip
    for name in ("parts", "files"):
        was, now = getattr(one, name), getattr(two, name)
        found += [f"{name}: {key} only on one side" for key in sorted(was.keys() ^ now.keys())]
        found += [f"{name}: {key}: {was[key]} and {now[key]}" for key in was if key in now and was[key] != now[key]]
    for number, (was, now) in enumerate(zip(one.rows, two.rows, strict=False)):
        if was != now:
            found.append(
                f"rows: {number} of {len(one.rows)}: {_difference(was, now)}; before: {_names(one.rows, number)}"
            )
            break
    else:
        if len(one.rows) != len(two.rows):
            shorter = min(len(one.rows), len(two.rows))
            longer = max(one.rows, two.rows, key=len)
            found.append(f"rows: {len(one.rows)} and {len(two.rows)}; the first more: {_name(longer[shorter])}")
    return found


def _name(row):
    return f"{row['engine']}:{row['event']}:{row['place']} @{row['state']['epoch']}/{row['state']['iteration']}"


def _names(rows, number):
    return [_name(row) for row in rows[max(number - 4, 0) : number]]


def _difference(one, two):
    if _name(one) != _name(two):
        return f"{_name(one)} and {_name(two)}"
    flat = [{**row, **row["state"], "state": None} for row in (one, two)]
    keys = [key for key in {**flat[0], **flat[1]} if flat[0].get(key, "absent") != flat[1].get(key, "absent")]
    return f"{_name(one)}: " + "; ".join(
        f"{key}: {flat[0].get(key, 'absent')} and {flat[1].get(key, 'absent')}" for key in keys
    )


def clear(root):
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
