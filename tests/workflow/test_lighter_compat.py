"""Configs written for Lighter 0.0.4, as its documentation shows them, run as they are."""

import csv

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping

from monai_lighter import FileWriter, Freezer, System, TableWriter, Workflow

CLASSIFICATION = """
_requires_: "$import torch"
project: ./project
vars:
  num_classes: 3
trainer:
  _target_: pytorch_lightning.Trainer
  accelerator: cpu
  max_epochs: 2
  log_every_n_steps: 1
  enable_progress_bar: False
  enable_model_summary: False
  logger:
    _target_: pytorch_lightning.loggers.CSVLogger
    save_dir: "$str(OUTPUT)"
  callbacks:
    - _target_: lighter.callbacks.Freezer
      name_starts_with: ["1"]
      until_epoch: 1
    - _target_: pytorch_lightning.callbacks.ModelCheckpoint
      monitor: val/metrics/MulticlassAccuracy/epoch
      mode: max
      save_last: True
system:
  _target_: lighter.System
  model:
    _target_: project.network
    num_classes: "@vars#num_classes"
  criterion:
    _target_: torch.nn.CrossEntropyLoss
  optimizer:
    _target_: torch.optim.Adam
    params: "$@system#model.parameters()"
    lr: 0.001
  scheduler:
    _target_: torch.optim.lr_scheduler.MultiStepLR
    optimizer: "@system#optimizer"
    milestones: [1]
  metrics:
    train:
      - _target_: torchmetrics.Accuracy
        task: multiclass
        num_classes: "@vars#num_classes"
      - _target_: torchmetrics.classification.MulticlassAUROC
        num_classes: "@vars#num_classes"
    val: "%#train"
    test: "%#train"
  dataloaders:
    train:
      _target_: torch.utils.data.DataLoader
      dataset:
        _target_: project.data.Digits
        length: 12
      batch_size: 4
      shuffle: True
    val:
      _target_: torch.utils.data.DataLoader
      dataset:
        _target_: project.data.Digits
        length: 6
      batch_size: 2
    test: "%#val"
"""

PROJECT = """
from torch.nn import Flatten, Linear, Sequential
def network(num_classes):
    return Sequential(Flatten(), Linear(4, 4), Linear(4, num_classes))
"""
DATA = """
import torch
class Digits(torch.utils.data.Dataset):
    def __init__(self, length):
        self.length = length
    def __len__(self):
        return self.length
    def __getitem__(self, index):
        return torch.full((1, 2, 2), float(index % 3)), index % 3
"""


@pytest.fixture
def experiment(bundle, tmp_path):
    project = bundle / "project"
    project.mkdir()
    (project / "__init__.py").write_text(PROJECT)
    (project / "data.py").write_text(DATA)
    file = bundle / "experiment.yaml"
    file.write_text(CLASSIFICATION.replace("$str(OUTPUT)", str(tmp_path / "out")))
    return file


@pytest.mark.slow
def test_a_classification_is_trained_and_tested(experiment, tmp_path):
    run = Workflow(str(experiment), logging_file=False, run_id="fit", **{"trainer#max_epochs": 3})
    run.run()
    system, trainer = run.parser.get_parsed_content("system"), run.trainer
    assert isinstance(system, System)
    assert isinstance(trainer.callbacks[0], Freezer)
    assert trainer.current_epoch == 3
    (metrics,) = tmp_path.rglob("metrics.csv")
    with metrics.open() as file:
        logged = set(next(csv.reader(file)))
    assert {
        "train/loss/step",
        "train/loss/epoch",
        "val/loss/epoch",
        "train/metrics/MulticlassAccuracy/step",
        "val/metrics/MulticlassAccuracy/epoch",
        "val/metrics/MulticlassAUROC/epoch",
        "train/optimizer/Adam/lr",
        "train/optimizer/Adam/momentum",
    } <= logged
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    run = Workflow(str(experiment), logging_file=False, run_id="test", **{"args#test#ckpt_path": str(checkpoint)})
    ((result,),) = run.run()
    assert set(result) == {"test/metrics/MulticlassAccuracy/epoch", "test/metrics/MulticlassAUROC/epoch"}


MODEL = """
_requires_: ["$import torch", "$import os"]
system:
  _target_: lighter.System
  model:
    _target_: monai.networks.nets.UNet
    spatial_dims: 2
    in_channels: 1
    out_channels: 1
    channels: [4, 8]
    strides: [2]
  criterion:
    _target_: monai.losses.DiceLoss
  optimizer:
    _target_: torch.optim.SGD
    params: "$@system::model.parameters()"
    lr: 0.1
  inferer:
    _target_: monai.inferers.SlidingWindowInferer
    roi_size: [16, 16]
  adapters:
    train:
      batch: {_target_: lighter.adapters.BatchAdapter, input_accessor: image, target_accessor: label}
      criterion:
        _target_: lighter.adapters.CriterionAdapter
        pred_argument: 0
        target_argument: 1
        pred_transforms: "$torch.sigmoid"
      metrics:
        _target_: lighter.adapters.MetricsAdapter
        pred_argument: 0
        target_argument: 1
        pred_transforms: ["$torch.sigmoid", "$lambda x: (x > 0.5).float()"]
    val: "%#train"
    predict:
      batch:
        _target_: lighter.adapters.BatchAdapter
        input_accessor: image
        identifier_accessor: "$lambda batch: [os.path.basename(n) for n in batch['image'].meta['filename_or_obj']]"
      logging:
        _target_: lighter.adapters.LoggingAdapter
        pred_transforms: ["$torch.sigmoid", "$lambda x: (x > 0.5).float()"]
  metrics:
    val: [{_target_: monai.metrics.DiceMetric}]
trainer:
  _target_: pytorch_lightning.Trainer
  accelerator: cpu
  max_epochs: 1
  logger: False
  enable_progress_bar: False
  enable_model_summary: False
  callbacks:
    - _target_: lighter.callbacks.FileWriter
      path: "@out_files"
      writer: tensor
    - _target_: lighter.callbacks.TableWriter
      path: "@out_table"
      writer: "$lambda tensor: tensor.sum().item()"
args:
  predict: {return_predictions: False}
"""

IMAGES = """
root: .
out_files: "$@root + '/files'"
out_table: "$@root + '/table.csv'"
items: "$[{'image': @root + f'/image_{i}.nii.gz', 'label': @root + f'/label_{i}.nii.gz'} for i in range(4)]"
system#dataloaders:
  train:
    _target_: torch.utils.data.DataLoader
    batch_size: 2
    collate_fn: "$monai.data.list_data_collate"
    dataset:
      _target_: monai.data.Dataset
      data: "@items"
      transform:
        _target_: monai.transforms.LoadImaged
        keys: [image, label]
        ensure_channel_first: True
  val: "%#train"
  predict: "%#train"
"""


@pytest.mark.slow
def test_a_segmentation_in_two_files_is_trained_and_predicts(bundle):
    (bundle / "model.yaml").write_text(MODEL)
    (bundle / "data.yaml").write_text(IMAGES)
    files = f"{bundle / 'model.yaml'},{bundle / 'data.yaml'}"
    override = {"root": str(bundle / "data")}
    run = Workflow(files, logging_file=False, run_id="fit", **override)
    run.run()
    assert "val/metrics/DiceMetric/epoch" in run.trainer.callback_metrics
    run = Workflow(files, logging_file=False, run_id="predict", **override)
    assert run.run() == [None]
    assert [type(callback) for callback in run.trainer.callbacks[:2]] == [FileWriter, TableWriter]
    written = sorted((bundle / "data" / "files").glob("*.pt"))
    assert len(written) == 4
    assert torch.load(written[0], weights_only=True).shape == (1, 16, 16)
    with (bundle / "data" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["identifier"] for row in rows] == [f"image_{i}.nii.gz" for i in range(4)]
    assert float(rows[0]["pred"]) == torch.load(written[0], weights_only=True).sum()


def test_pytorch_lightning_is_lightning(experiment):
    callback = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "x"}
    run = Workflow(str(experiment), logging_file=False, run_id="fit", **{"trainer#callbacks#0": callback})
    assert type(run.trainer) is Trainer
    assert any(type(each) is EarlyStopping for each in run.trainer.callbacks)
