"""Projects written for Lighter 0.0.4, 0.0.5 and 0.1.0 run as they are, and give what the same computation gives by hand."""

import csv
import sys

import pytest
import torch
import yaml
from torch.nn import functional

from monai_lighter import ConfigError, LighterDataModule, LighterModule, System, Workflow
from monai_lighter.errors import in_terms_of_config
from monai_lighter.workflow.check_config import Check
from monai_lighter.workflow.prepare import Asked

MODEL = """
import torch
from lighter import LighterModule

class Classifier(LighterModule):
    def _step(self, batch, metrics):
        x, y = batch
        pred = self(x)
        if metrics is not None:
            metrics(pred, y)
        return {"loss": self.criterion(pred, y), "pred": pred, "target": y}

    def training_step(self, batch, batch_idx):
        return self._step(batch, self.train_metrics)

    def validation_step(self, batch, batch_idx):
        return self._step(batch, self.val_metrics)

    def test_step(self, batch, batch_idx):
        return self._step(batch, self.test_metrics)

    def predict_step(self, batch, batch_idx):
        return {"pred": self(batch[0]).argmax(1), "target": batch[1], "name": [f"case_{y}" for y in batch[1].tolist()]}
"""
SYSTEM = """
import pytorch_lightning as pl
import torch
from lighter import System
from lighter.callbacks import Freezer

class Named(System):
    def validation_step(self, batch, batch_idx):
        self.mode = "val"
        return super().validation_step(batch, batch_idx)

class Seen(pl.Callback):
    seen = []
    def on_fit_end(self, trainer, module):
        self.seen.append((isinstance(module, System), isinstance(trainer.callbacks[0], Freezer)))
"""
DATA = """
import torch

class Shades(torch.utils.data.Dataset):
    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return index % 3 + 0.3 * torch.randn(1, 4, 4, generator=generator), index % 3

def network(classes):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, classes))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with its modules in a package of its own, from which commands are run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "parts").mkdir()
    for name, text in {"__init__": "", "parts/__init__": "", "parts/model": MODEL, "parts/system": SYSTEM}.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "parts" / "data.py").write_text(DATA)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "project"]:
        del sys.modules[name]


def by_hand(weights, length=10):
    """Mean loss over all cases, and accuracy, of the linear classifier with these weights."""
    sources = {}
    exec(DATA, sources)
    cases = sources["Shades"](length)
    inputs, targets = zip(*(cases[i] for i in range(length)), strict=True)
    pred = torch.stack(inputs).flatten(1) @ weights["1.weight"].T + weights["1.bias"]
    target = torch.tensor(targets)
    return (
        functional.cross_entropy(pred, target).item(),
        (pred.argmax(1) == target).float().mean().item(),
        pred.argmax(1),
    )


NEW = """
vars: {classes: 3, lr: 0.5}
trainer:
  _target_: pytorch_lightning.Trainer
  max_epochs: 2
  accelerator: cpu
  enable_progress_bar: false
  enable_model_summary: false
  logger: {_target_: pytorch_lightning.loggers.CSVLogger, save_dir: out}
  callbacks:
    - _target_: pytorch_lightning.callbacks.ModelCheckpoint
      monitor: val/metrics/MulticlassAccuracy/epoch
      mode: max
      dirpath: weights
model:
  _target_: project.parts.model.Classifier
  network: {_target_: project.parts.data.network, classes: "%vars::classes"}
  criterion: {_target_: torch.nn.CrossEntropyLoss, label_smoothing: 0.5}
  optimizer:
    _target_: torch.optim.SGD
    _args_: ["$@model::network.parameters()"]
    lr: "%vars::lr"
  scheduler: {_target_: torch.optim.lr_scheduler.StepLR, optimizer: "@model::optimizer", step_size: 1}
  train_metrics: {_target_: torchmetrics.classification.MulticlassAccuracy, num_classes: "%vars::classes", average: micro}
  val_metrics: "%::train_metrics"
  test_metrics: "%::val_metrics"
data:
  _target_: lighter.LighterDataModule
  train_dataloader:
    _target_: torch.utils.data.DataLoader
    batch_size: 4
    dataset: {_target_: project.parts.data.Shades, length: 12}
  val_dataloader:
    _target_: torch.utils.data.DataLoader
    batch_size: 4
    dataset: {_target_: project.parts.data.Shades, length: 10}
  predict_dataloader: "%::val_dataloader"
"""
CHANGES = """
trainer:
  callbacks:
    - {_target_: lighter.callbacks.Freezer, names: ["1.bias"]}
    - {_target_: lighter.callbacks.CsvWriter, path: out/table.csv, keys: [pred, target, name]}
    - {_target_: lighter.callbacks.FileWriter, directory: out/files, value_key: pred, writer_fn: text}
model:
  criterion:
    ~label_smoothing:
data:
  test_dataloader: "%data::val_dataloader"
=vars: {classes: 3, lr: 0.05}
"""


def stage(files, stage, **override):
    run = Workflow(files, logging_file=False, run_id=stage, workflow_type=None, **override)
    result = run.run()
    run.finalize()
    return run, result


@pytest.mark.slow
def test_a_project_of_lighter_0_1_0(project):
    (project / "__lighter__.py").write_text("")
    (project / "experiments").mkdir()
    (project / "base.yaml").write_text(NEW)
    (project / "experiments" / "small.yaml").write_text(CHANGES)
    files = "base.yaml,experiments/small.yaml"
    run, _ = stage(files, "fit")
    module, trainer = run.parser.get_parsed_content("system"), run.parser.get_parsed_content("trainer")
    assert module is run.parser.get_parsed_content("model")
    assert isinstance(module, LighterModule)
    assert isinstance(trainer.datamodule, LighterDataModule)
    assert isinstance(module.criterion, torch.nn.CrossEntropyLoss)
    assert module.criterion.label_smoothing == 0
    assert module.optimizer.param_groups[0]["initial_lr"] == 0.05
    trainer.save_checkpoint("weights/end.ckpt")
    weights = module.network.state_dict()
    loss, accuracy, pred = by_hand(weights)
    assert trainer.callback_metrics["val/loss/epoch"].item() == pytest.approx(loss, rel=1e-5)
    assert trainer.callback_metrics["val/metrics/MulticlassAccuracy/epoch"].item() == pytest.approx(accuracy)
    torch.manual_seed(0)
    assert torch.equal(weights["1.bias"], torch.nn.Linear(16, 3).bias.data)  # frozen
    for name, mode in (("validate", "val"), ("test", "test")):
        _, ((values,),) = stage(files, name, **{f"args::{name}::ckpt_path": "weights/end.ckpt"})
        assert values[f"{mode}/loss/epoch"] == pytest.approx(loss, rel=1e-5)
        assert values[f"{mode}/metrics/MulticlassAccuracy/epoch"] == pytest.approx(accuracy)
    stage(files, "predict", **{"args::predict::ckpt_path": "weights/end.ckpt"})
    with open("out/table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["pred"]) for row in rows] == pred.tolist()
    assert [row["name"] for row in rows] == [f"case_{i % 3}" for i in range(10)]
    assert [(project / "out" / "files" / f"{i}.txt").read_text() for i in range(10)] == [f"tensor({p})" for p in pred]
    saved = yaml.safe_load((next((project / "out").rglob("config.yaml"))).read_text())
    assert saved["model"]["train_metrics"]["num_classes"] == 3
    assert "system" not in saved
    assert "lighter" not in sys.modules


def test_it_is_checked_in_its_own_terms(project):
    (project / "__lighter__.py").write_text("")
    config = yaml.safe_load(NEW)
    (project / "base.yaml").write_text(yaml.safe_dump(config))
    assert [str(error) for error in Check("base.yaml", {}, Asked()).errors] == []
    (error,) = Check("base.yaml", {}, Asked(run_id="test")).errors
    assert str(error) == (
        "data::test_dataloader: stage 'test' needs a dataloader, got none; it has train_dataloader, val_dataloader, "
        "predict_dataloader. Add it."
    )
    config["model"]["_target_"] = "project.parts.data.Shades"
    config["model"]["length"] = 3
    config["data"]["val_dataloader"]["bach_size"] = 3
    (project / "base.yaml").write_text(yaml.safe_dump(config))
    check = Check("base.yaml", {}, Asked(run_id="fit"))
    messages = {error.id: str(error) for error in check.errors}
    assert messages["model::_target_"].startswith(
        "model::_target_: must be a lightning.pytorch.LightningModule, got project"
    )
    assert "Did you mean 'batch_size'?" in messages["data::val_dataloader::bach_size"]


def test_a_mark_without_its_package_is_told(project):
    (project / "__lighter__.py").write_text("")
    (project / "__init__.py").unlink()
    (project / "base.yaml").write_text(NEW)
    errors = [str(error) for error in Check("base.yaml", {}, Asked(run_id="fit")).errors]
    assert errors[0].startswith(f"project: must be a directory with an __init__.py, got {str(project)!r}")


def test_without_trust_in_code_no_project_is_imported(project):
    (project / "__lighter__.py").write_text("")
    (project / "__init__.py").write_text("raise SystemExit('imported')\n")
    (project / "configs").mkdir()
    (project / "configs" / "base.yaml").write_text(NEW)
    with pytest.raises(ConfigError, match=r"project\.parts\.model\.Classifier"):
        Workflow("configs/base.yaml", logging_file=False, run_id="fit", trust="declarative").initialize()
    assert "project" not in sys.modules
    assert "lighter" not in sys.modules


OLD = """
project: .
_requires_:
  - "$import torch"
args:
  validate: {ckpt_path: null}
  test: "%#validate"
  predict: "%#validate"
vars:
  classes: 3
trainer:
  _target_: pytorch_lightning.Trainer
  max_epochs: 2
  accelerator: cpu
  enable_progress_bar: false
  enable_model_summary: false
  logger: false
  callbacks:
    - {_target_: lighter.callbacks.Freezer, names: ["1.bias"]}
    - _target_: project.parts.system.Seen
system:
  _target_: project.parts.system.Named
  model:
  criterion: {_target_: torch.nn.CrossEntropyLoss}
  optimizer: {_target_: torch.optim.SGD, params: "$@system#model.parameters()", lr: 0.05}
  adapters:
    val:
      metrics:
        _target_: lighter.adapters.MetricsAdapter
        pred_argument: 0
        target_argument: 1
        pred_transforms: [{_target_: torch.argmax, _mode_: callable, dim: 1}]
    predict:
      batch: {_target_: lighter.adapters.BatchAdapter, input_accessor: 0}
      logging: {_target_: lighter.adapters.LoggingAdapter, pred_transforms: ["$lambda x: x.argmax(1)"]}
  metrics:
    val: [{_target_: torchmetrics.classification.MulticlassAccuracy, num_classes: "@vars#classes", average: micro}]
  dataloaders:
    train:
      _target_: torch.utils.data.DataLoader
      batch_size: 4
      dataset: {_target_: project.parts.data.Shades, length: 12}
    val:
      _target_: torch.utils.data.DataLoader
      batch_size: 4
      dataset: {_target_: project.parts.data.Shades, length: 10}
    predict: "%#val"
"""
NET = """
system#model: {_target_: project.parts.data.network, classes: "@vars#classes"}
trainer#max_epochs: 3
"""


@pytest.mark.slow
def test_a_project_of_lighter_0_0_4_with_configs_in_folders(project):
    (project / "experiments" / "nets").mkdir(parents=True)
    (project / "experiments" / "base.yaml").write_text(OLD)
    (project / "experiments" / "nets" / "linear.yaml").write_text(NET)
    files = "experiments/base.yaml,experiments/nets/linear.yaml"
    check = Check(files, {}, Asked())
    assert [str(error) for error in check.errors] == []
    assert set(check.built) == {"fit", "validate", "predict"}  # `args: {test: …}` is for data that it does not have
    run, _ = stage(files, "fit")
    system, trainer = run.parser.get_parsed_content("system"), run.parser.get_parsed_content("trainer")
    assert isinstance(system, System)
    assert sys.modules["project.parts.system"].Seen.seen == [(True, True)]
    assert trainer.current_epoch == 3
    loss, accuracy, _ = by_hand(system.model.state_dict())
    assert trainer.callback_metrics["val/loss/epoch"].item() == pytest.approx(loss, rel=1e-5)
    assert trainer.callback_metrics["val/metrics/MulticlassAccuracy/epoch"].item() == pytest.approx(accuracy)
    _, ((values,),) = stage(files, "validate")
    _, first, pred = by_hand(project_network())
    assert values["val/metrics/MulticlassAccuracy/epoch"] == pytest.approx(first)
    _, (batches,) = stage(files, "predict", **{"args#predict": {"return_predictions": True}, "trainer#callbacks": []})
    assert torch.equal(torch.cat([batch["pred"] for batch in batches]), pred)


def project_network():
    sources = {}
    exec(DATA, sources)
    return sources["network"](3).state_dict()


FIVE = """
trainer: {max_epochs: 1, callbacks: [{_target_: pytorch_lightning.callbacks.LearningRateMonitor}], logger: true, ~profiler: }
system:
  model: {_target_: project.parts.data.network, classes: "@vars::classes"}
  optimizer: {lr: 0.1}
  adapters:
    predict: {logging: {=pred_transforms: ["$lambda x: -x"]}}
"""


@pytest.mark.slow
def test_a_project_of_lighter_0_0_5(project):
    base = OLD.replace("#", "::").replace("_requires_:\n  - ", "imports: ").replace("logger: false", "profiler: simple")
    (project / "base.yaml").write_text(base)
    (project / "small.yaml").write_text(FIVE)
    run, _ = stage(["base.yaml", "small.yaml"], "fit")
    system, trainer = run.parser.get_parsed_content("system"), run.parser.get_parsed_content("trainer")
    assert [type(callback).__name__ for callback in trainer.callbacks[:3]] == ["Freezer", "Seen", "LearningRateMonitor"]
    assert trainer.max_epochs == 1
    assert system.optimizer.param_groups[0]["lr"] == 0.1
    loss, accuracy, _ = by_hand(system.model.state_dict())
    assert trainer.callback_metrics["val/loss/epoch"].item() == pytest.approx(loss, rel=1e-5)
    assert trainer.callback_metrics["val/metrics/MulticlassAccuracy/epoch"].item() == pytest.approx(accuracy)


def test_the_folder_of_the_command_comes_first_for_lighter(project):
    (project / "experiments").mkdir()
    (project / "experiments" / "__init__.py").write_text("raise RuntimeError('the wrong one')\n")
    (project / "experiments" / "base.yaml").write_text(OLD)
    (project / "net.yaml").write_text(NET)
    assert [str(error) for error in Check("experiments/base.yaml,net.yaml", {}, Asked(run_id="fit")).errors] == []


def test_a_native_config_has_its_project_beside_it(project):
    native = yaml.safe_load(
        OLD.replace("lighter.", "monai_lighter.").replace(".adapters.", ".").replace(".callbacks.", ".")
    )
    native["system"]["model"] = {"_target_": "project.network"}
    (project / "bundle").mkdir()
    (project / "bundle" / "__init__.py").write_text("from torch.nn import Flatten as network\n")
    (project / "bundle" / "train.yaml").write_text(yaml.safe_dump(native))
    errors = [error.id for error in Check("bundle/train.yaml", {}, Asked(run_id="fit")).errors]
    assert "system::model::_target_" not in errors
    assert sys.modules["project"].__file__ == str(project / "bundle" / "__init__.py")


@pytest.mark.slow
def test_a_part_of_the_model_that_fails_is_named_by_its_id(project):
    (project / "__lighter__.py").write_text("")
    config = yaml.safe_load(NEW)
    config["model"]["criterion"] = {"_target_": "torch.nn.BCELoss"}
    config["trainer"]["num_sanity_val_steps"] = 0
    (project / "base.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match="target size") as caught:
        stage("base.yaml", "fit")
    assert in_terms_of_config(caught.value).startswith("model::criterion: ValueError: Using a target size")


@pytest.mark.slow
def test_stages_from_python_share_the_model(project):
    (project / "__lighter__.py").write_text("")
    (project / "base.yaml").write_text(NEW)
    (project / "small.yaml").write_text(CHANGES)
    run = Workflow("base.yaml,small.yaml", logging_file=False, workflow_type=None)
    run.fit()
    values = run.test()
    loss, accuracy, _ = by_hand(run.parser.get_parsed_content("model").network.state_dict())
    assert values["test/loss/epoch"] == pytest.approx(loss, rel=1e-5)
    assert values["test/metrics/MulticlassAccuracy/epoch"] == pytest.approx(accuracy)
