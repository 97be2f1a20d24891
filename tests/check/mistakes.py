"""Two configs with nothing wrong, one native and one of MONAI's engines, and mistakes: a change, and what must be found."""

import copy
from functools import cache

import yaml
from monai.bundle import ConfigParser

NATIVE = """
imports: ["$import glob", "$from pathlib import Path"]
bundle_root: .
dataset_dir: ./data
max_epochs: 2
seed: 0
files: "$sorted(glob.glob(@dataset_dir + '/*.nii.gz'))"
data: "$[{'image': f, 'label': f} for f in @files]"
network_def: {_target_: UNet, spatial_dims: 2, in_channels: 1, out_channels: 2, channels: [4, 8], strides: [2]}
preprocessing:
  - {_target_: LoadImaged, keys: [image, label], ensure_channel_first: true}
  - {_target_: ScaleIntensityd, keys: image}
augmentation: [{_target_: RandFlipd, keys: [image, label], prob: 0.5}]
system:
  model: "@network_def"
  criterion: {_target_: DiceLoss, softmax: true}
  optimizer: {_target_: torch.optim.AdamW, params: "$@network_def.parameters()", lr: 0.01}
  scheduler: {_target_: torch.optim.lr_scheduler.StepLR, optimizer: "@system::optimizer", step_size: 1}
  inferer: {_target_: SlidingWindowInferer, roi_size: [16, 16]}
  metrics: {val: {dice: {_target_: DiceMetric}}}
  postprocessing: {val: "%vars::post"}
  dataloaders:
    train:
      _target_: DataLoader
      dataset: {_target_: Dataset, data: "@data", transform: {_target_: Compose, transforms: $@preprocessing + @augmentation}}
      batch_size: 2
    val: {_target_: DataLoader, dataset: {_target_: Dataset, data: "$@data[:1]", transform: "@validation"}}
validation: {_target_: Compose, transforms: "@preprocessing"}
vars: {name: torch.nn.Linear, post: {_target_: AsDiscreted, keys: pred, argmax: true}}
trainer: {max_epochs: "@max_epochs", callbacks: [{_target_: monai_lighter.ModelWeights}]}
run: $@trainer.fit(@system)
"""

ZOO = """
imports: [$import glob, $import os]
bundle_root: .
ckpt_dir: $@bundle_root + '/models'
output_dir: ./eval
dataset_dir: ./data
images: $sorted(glob.glob(os.path.join(@dataset_dir, '*.nii.gz')))
device: $torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')
network_def: {_target_: UNet, spatial_dims: 2, in_channels: 1, out_channels: 2, channels: [4, 8], strides: [2]}
network: $@network_def.to(@device)
loss: {_target_: DiceCELoss, softmax: true}
optimizer: {_target_: Novograd, params: $@network.parameters(), lr: 0.002}
train:
  preprocessing: {_target_: Compose, transforms: [{_target_: LoadImaged, keys: [image, label]}]}
  dataset: {_target_: CacheDataset, data: "$[{'image': i, 'label': i} for i in @images]", transform: '@train#preprocessing'}
  dataloader: {_target_: DataLoader, dataset: '@train#dataset', batch_size: 2, num_workers: 0}
  inferer: {_target_: SimpleInferer}
  handlers:
    - {_target_: ValidationHandler, validator: '@validate#evaluator', epoch_level: true, interval: 1}
    - {_target_: StatsHandler, tag_name: loss, output_transform: "$monai.handlers.from_engine(['loss'], first=True)"}
  trainer:
    _target_: SupervisedTrainer
    max_epochs: 2
    device: '@device'
    train_data_loader: '@train#dataloader'
    network: '@network'
    loss_function: '@loss'
    optimizer: '@optimizer'
    inferer: '@train#inferer'
    train_handlers: '@train#handlers'
validate:
  dataloader: {_target_: DataLoader, dataset: '@train#dataset'}
  postprocessing: {_target_: Compose, transforms: [{_target_: AsDiscreted, keys: pred, argmax: true}]}
  handlers:
    - _target_: CheckpointSaver
      _disabled_: $torch.distributed.is_available() and False
      save_dir: '@ckpt_dir'
      save_dict: {model: '@network'}
      save_key_metric: true
  key_metric: {dice: {_target_: MeanDice, output_transform: "$monai.handlers.from_engine(['pred', 'label'])"}}
  evaluator:
    _target_: SupervisedEvaluator
    device: '@device'
    val_data_loader: '@validate#dataloader'
    network: '@network'
    inferer: {_target_: SlidingWindowInferer, roi_size: [16, 16]}
    postprocessing: '@validate#postprocessing'
    key_val_metric: '@validate#key_metric'
    val_handlers: '@validate#handlers'
initialize: ["$monai.utils.set_determinism(seed=123)"]
run: ["$@train#trainer.run()"]
"""

BASES = {"native": NATIVE, "zoo": ZOO}


@cache
def _parse(base):
    return yaml.load(BASES[base], yaml.CSafeLoader)


def write_spoiled(folder, base, id=None, value=None):
    """Writes one of the two configs with one item changed, or removed where ``value`` is None, and gives the file."""
    parser = ConfigParser(copy.deepcopy(_parse(base)))
    if value is None and id is not None:
        parent, _, key = id.rpartition("::")
        del (parser.get(parent) if parent else parser.get())[key]
    elif id is not None and id.endswith("::2"):
        parser.get(id[:-3]).append(value)
    elif id is not None:
        parser.set(value, id)
    if id == "training":
        del parser.get()["run"]
    file = folder / "configs" / "train.yaml"
    file.write_text(yaml.dump(parser.get(), Dumper=yaml.CSafeDumper, sort_keys=False))
    return str(file)


MISTAKES = [  # base, id, value (None: removed), id of the finding, words in it
    # targets
    ("native", "network_def::_target_", "UNett", "network_def::_target_", "cannot be found. Did you mean 'UNet'?"),
    (
        "native",
        "system::optimizer::_target_",
        "torch.optim.Adamw",
        "system::optimizer::_target_",
        "'torch.optim.AdamW'",
    ),
    (
        "native",
        "system::optimizer::_target_",
        "torhc.optim.Adam",
        "system::optimizer::_target_",
        "Did you mean 'torch'?",
    ),
    ("native", "system::criterion::_target_", "monai.loss.DiceLoss", "system::criterion::_target_", "cannot be found"),
    ("native", "augmentation::0::_target_", "torch.nn", "augmentation::0::_target_", "must be a class or function"),
    ("native", "augmentation::0::_target_", 3, "augmentation::0::_target_", "must be a class or function, got 3"),
    ("native", "trainer::_target_", "torch.nn.Linear", "trainer::_target_", "must be a lightning.pytorch.Trainer"),
    (
        "native",
        "augmentation::0::_mode_",
        "partial",
        "augmentation::0::_mode_",
        "must be one of default, callable, debug",
    ),
    ("native", "augmentation::0::_disable_", True, "augmentation::0::_disable_", "Did you mean '_disabled_'?"),
    ("zoo", "train::trainer::_target_", "SupervisedTrainr", "train::trainer::_target_", "'SupervisedTrainer'"),
    ("zoo", "optimizer::_target_", "torch.optim.Adamm", "optimizer::_target_", "Did you mean 'torch.optim.Adam'?"),
    ("native", "network_def::_target_", "nosuchpackage.Net", "network_def::_target_", "the package 'nosuchpackage'"),
    ("zoo", "network_def::_target_", "scirpts.nets.Net", "network_def::_target_", "cannot be found"),
    (
        "native",
        "trainer::callbacks::0::_target_",
        "ModelWeight",
        "trainer::callbacks::0::_target_",
        "Did you mean 'monai_lighter.ModelWeights'?",
    ),
    (
        "native",
        "trainer::callbacks::0::_target_",
        "ModelWeights",
        "trainer::callbacks::0::_target_",
        "Did you mean 'monai_lighter.ModelWeights'?",
    ),
    (
        "native",
        "trainer::callbacks::0::_target_",
        "ModelCheckpoints",
        "trainer::callbacks::0::_target_",
        "Did you mean 'lightning.pytorch.callbacks.ModelCheckpoint'?",
    ),
    (
        "native",
        "trainer::logger",
        {"_target_": "TensorBoardLoger"},
        "trainer::logger::_target_",
        "Did you mean 'lightning.pytorch.loggers.TensorBoardLogger'?",
    ),
    ("native", "system::criterion", {"_targets_": "DiceLoss"}, "system::criterion::_targets_", "mean '_target_'?"),
    ("native", "system::criterion", {"target_": "DiceLoss"}, "system::criterion::target_", "mean '_target_'?"),
    ("native", "system::criterion", {"_TARGET_": "DiceLoss"}, "system::criterion::_TARGET_", "mean '_target_'?"),
    ("native", "system::criterion::_disabled", True, "system::criterion::_disabled", "Did you mean '_disabled_'?"),
    ("native", "augmentation::0::_mode", "default", "augmentation::0::_mode", "Did you mean '_mode_'?"),
    ("native", "augmentation::0::requires_", "@data", "augmentation::0::requires_", "Did you mean '_requires_'?"),
    ("zoo", "loss", {"_target": "DiceCELoss", "softmax": True}, "loss::_target", "Did you mean '_target_'?"),
    ("native", "network_def::_disabled_", True, "network_def::_disabled_", "keeps system::model from being built"),
    ("native", "system::criterion::_disabled_", "true", "system::criterion::_disabled_", "keeps system::criterion"),
    ("native", "network_def::_mode_", "callable", "network_def::_mode_", "keeps system::model from being built"),
    (
        "native",
        "system::dataloaders::train::_disabled_",
        True,
        "system::dataloaders::train::_disabled_",
        "keeps system::dataloaders::train from being built, got True",
    ),
    # objects
    ("native", "system::model", "network_def", "system::model", "got the text 'network_def'. Write '@network_def'."),
    (
        "native",
        "system::criterion",
        "torch.nn.CrossEntropyLoss",
        "system::criterion",
        "must be an object, got the text 'torch.nn.CrossEntropyLoss'. Write {_target_: torch.nn.CrossEntropyLoss}.",
    ),
    ("native", "system::criterion", "DiceCELoss", "system::criterion", "Write {_target_: DiceCELoss}."),
    ("native", "system::criterion", {"softmax": True}, "system::criterion", "got a section without `_target_`"),
    ("native", "system::optimizer", "torch.optim.SGD", "system::optimizer", "Write {_target_: torch.optim.SGD}."),
    ("native", "system::scheduler", "StepLR", "system::scheduler", "{_target_: torch.optim.lr_scheduler.StepLR}."),
    ("native", "system::scheduler", {"scheduler": "x"}, "system::scheduler::scheduler", "got the text 'x'"),
    ("native", "system::inferer", "SimpleInferer", "system::inferer", "Write {_target_: SimpleInferer}."),
    ("native", "system::metrics::val::dice", "DiceMetric", "system::metrics::val::dice", "got the text"),
    ("native", "system::metrics::val", ["DiceMetric"], "system::metrics::val::0", "must be an object"),
    ("native", "system::postprocessing::val", "validtion", "system::postprocessing::val", "mean '@validation'?"),
    ("native", "system::adapters", {"val": {"batch": "x"}}, "system::adapters::val::batch", "Write '@ID' for an item"),
    ("native", "system::dataloaders::train", "data", "system::dataloaders::train", "Write '@data'."),
    ("native", "system::dataloaders::val", "null", "system::dataloaders::val", "Write null, without quotes."),
    ("native", "system::inferer", "none", "system::inferer", "Write null, without quotes."),
    (
        "native",
        "system::dataloaders::val",
        {"dataset": "@data", "batch_size": 2},
        "system::dataloaders::val",
        "got a section without `_target_`",
    ),
    ("native", "trainer::callbacks", ["data"], "trainer::callbacks::0", "got the text 'data'. Write '@data'."),
    ("native", "trainer::callbacks", "ModelCheckpoint", "trainer::callbacks", "callbacks.ModelCheckpoint}."),
    ("native", "trainer::logger", "false", "trainer::logger", "Write false, without quotes."),
    # keywords
    (
        "native",
        "system::dataloaders::train::num_worker",
        2,
        "system::dataloaders::train::num_worker",
        "DataLoader has no argument 'num_worker', got 2. Did you mean 'num_workers'?",
    ),
    ("zoo", "train::dataloader::batchsize", 2, "train::dataloader::batchsize", "Did you mean 'batch_size'?"),
    (
        "native",
        "system::optimizer::lrr",
        1,
        "system::optimizer::lrr",
        "has no argument 'lrr', got 1. Did you mean 'lr'?",
    ),
    ("native", "trainer::max_epoch", 5, "trainer::max_epoch", "Did you mean 'max_epochs'?"),
    ("native", "system::scheduler::step_size", None, "system::scheduler", "needs 'step_size'"),
    ("native", "augmentation::0::key", "image", "augmentation::0::key", "Did you mean 'keys'?"),
    ("zoo", "network_def::out_channel", 3, "network_def::out_channel", "Did you mean 'out_channels'?"),
    ("zoo", "network_def::channels", None, "network_def", "UNet needs 'channels'"),
    ("zoo", "train::trainer::max_epoch", 3, "train::trainer::max_epoch", "Did you mean 'max_epochs'?"),
    ("zoo", "train::trainer::network", None, "train::trainer", "SupervisedTrainer needs 'network'"),
    ("zoo", "validate::evaluator::val_dataloader", 1, "validate::evaluator::val_dataloader", "'val_data_loader'"),
    ("zoo", "lightning", {"device": 2}, "lightning::device", "Did you mean 'devices'?"),
    # sections and stages
    ("native", "system::optimiser", 1, "system::optimiser", "Did you mean 'optimizer'?"),
    ("native", "system::dataloaders::vall", "@data", "system::dataloaders::vall", "Did you mean 'val'?"),
    ("native", "system::inferer", {"vall": "@data"}, "system::inferer::vall", "Did you mean 'val'?"),
    (
        "native",
        "system::scheduler",
        {"scheduler": "$torch.optim.lr_scheduler.StepLR(@system::optimizer, 1)", "intervall": "step"},
        "system::scheduler::intervall",
        "unknown key 'intervall', got 'step'. Did you mean 'interval'?",
    ),
    (
        "native",
        "system::scheduler",
        [{"scheduler": "$torch.optim.lr_scheduler.StepLR(@system::optimizer, 1)", "frequenzy": 1}],
        "system::scheduler::0::frequenzy",
        "Did you mean 'frequency'?",
    ),
    ("native", "max_epochs", 1.5, "max_epochs", "must be a whole number, got 1.5"),
    ("native", "max_epochs", "fifty", "max_epochs", "must be a whole number or null, got the text 'fifty'"),
    ("native", "system::optimizer::lr", "fast", "system::optimizer::lr", "must be a number, got the text 'fast'"),
    ("native", "augmentation::0::prob", "half", "augmentation::0::prob", "must be a number, got the text 'half'"),
    (
        "native",
        "args",
        {"validate": {"weights_only": False}},
        "args::validate::weights_only",
        "must be true, since a checkpoint of strangers would be run, got False",
    ),
    ("native", "args", {"fit": {"weights_only": "$1 == 2"}}, "args::fit::weights_only", "must be true"),
    ("native", "args", {"fitt": {}}, "args::fitt", "Did you mean 'fit'?"),
    ("native", "args", {"fit": {"ckpt": "x"}}, "args::fit::ckpt", "Did you mean 'ckpt_path'?"),
    ("native", "system::criterion", None, "system::criterion", "stage 'fit' needs it"),
    ("native", "system::dataloaders", None, "system::dataloaders::train", "needs a dataloader"),
    ("native", "project", "./no_such_folder", "project", "must be a directory with an __init__.py"),
    ("zoo", "run", None, "run_id", "run ID 'run' doesn't exist in the config file"),
    # references and macros
    ("native", "system::model", "@netwrok_def", "system::model", "Did you mean 'network_def'?"),
    ("native", "max_epochs", "@trainer::max_epochs", "trainer::max_epochs", "refers to itself"),
    (
        "native",
        "vars::post::keys",
        "@zzz",
        "system::postprocessing::val::keys",
        "refers to `@zzz`, which is not in the config",
    ),
    (
        "native",
        "system::postprocessing::val",
        "%vars::pots",
        "system::postprocessing::val",
        "Did you mean 'vars::post'?",
    ),
    ("native", "validation", "%other.yaml::x", "validation", "names a file that does not exist"),
    ("native", "run", "$@trainer.fit(@sytem)", "run", "Did you mean 'system'?"),
    ("zoo", "train::trainer::network", "@netwrk", "train::trainer::network", "Did you mean 'network'?"),
    (
        "zoo",
        "validate::dataloader::dataset",
        "@validate#datset",
        "validate::dataloader::dataset",
        "`@validate::datset`",
    ),
    ("zoo", "validate::postprocessing", "%train#postprocesing", "validate::postprocessing", "does not exist"),
    ("zoo", "run", ["$@train#trainr.run()"], "run::0", "Did you mean 'train::trainer'?"),
    (
        "native",
        "system::optimizer::params",
        "@network_def.parameters()",
        "system::optimizer::params",
        "MONAI replaces no `@network_def` inside a text without $, got '@network_def.parameters()'. "
        "Write '$@network_def.parameters()'.",
    ),
    (
        "native",
        "system::scheduler::optimizer",
        "@system:optimizer",
        "system::scheduler::optimizer",
        "Write '@system::optimizer'.",
    ),
    (
        "native",
        "system::scheduler::optimizer",
        "@system.optimizer",
        "system::scheduler::optimizer",
        "Write '@system::optimizer'.",
    ),
    ("native", "files", "@dataset_dir/train.csv", "files", "Write \"$@dataset_dir + '/train.csv'\"."),
    ("native", "max_epochs", "@seed + 1", "max_epochs", "Write '$@seed + 1'."),
    ("zoo", "ckpt_dir", "@bundle_root/models", "ckpt_dir", "Write \"$@bundle_root + '/models'\"."),
    # expressions
    ("native", "data", "$[{'image': f} for f in @files", "data", "is not a valid expression"),
    ("native", "data", "$x = 1", "data", "is not a valid expression"),
    ("native", "data", "$'a@'.index('@')", "data", "has an `@` that is no reference"),
    ("native", "files", "$sorted(golb.glob('*'))", "files", "uses the name 'golb', which nothing defines"),
    ("native", "imports::0", "$import golb", "imports::0", "Did you mean 'glob'?"),
    ("native", "imports::1", "$from pathlib import Pth", "imports::1", "Did you mean 'Path'?"),
    ("native", "system::optimizer::params", "$@network_def.parametres()", "system::optimizer::params", "'parameters'"),
    ("zoo", "imports", ["$import glob"], "images", "uses the name 'os', which nothing defines"),
    ("zoo", "initialize::0", "$monai.utils.set_determinsm(seed=123)", "initialize::0", "'set_determinism'"),
    ("zoo", "initialize::0", "$monai.utils.set_determinism(sed=123)", "initialize::0", "Did you mean 'seed'?"),
    ("zoo", "run", ["$@train#trainer.rnu()"], "run::0", "SupervisedTrainer (@train::trainer) has no attribute 'rnu'"),
    (
        "zoo",
        "validate::handlers::0",
        {"_target_": "no.such.Handler", "_disabled_": True, "save_dir": "@nowhere"},
        "validate::handlers::0::save_dir",
        "refers to `@nowhere`",
    ),
    ("zoo", "optimizer::params", "$@network.paramters()", "optimizer::params", "Did you mean 'parameters'?"),
    (
        "native",
        "system::optimizer::params",
        "$@network_def.parameters(recurs=True)",
        "system::optimizer::params",
        "@network_def.parameters cannot be called so (got an unexpected keyword argument 'recurs')",
    ),
    ("zoo", "optimizer::params", "$@network.parameters(True, 1)", "optimizer::params", "too many positional"),
    (
        "native",
        "files",
        "$@dataset_dir + '/important'",
        "files",
        "has the letters 'import', so that MONAI reads it as a statement and fails",
    ),
    ("native", "nobody", "$@dataset_dir + '/important'", "nobody", "Split the word, as in 'im' + 'port'"),
    ("zoo", "nobody", "$@dataset_dir + '/important'", "nobody", "Split the word, as in 'im' + 'port'"),
    ("native", "files", "$torch.nosuch if torch.cuda.is_available() else 1", "files", "has no attribute 'nosuch'"),
    ("zoo", "device", "$torch.devcie('cpu')", "device", "torch has no attribute 'devcie'"),
]

NOTES = [  # what need not be wrong
    ("zoo", "finalise", ["$print(1)"], "finalise", "Did you mean 'finalize'?"),
    (
        "zoo",
        "validate::handlers::0::_target_",
        "CheckpointSavr",
        "validate::handlers::0::_target_",
        "'CheckpointSaver'",
    ),
    (
        "native",
        "preprocessing::0::ensure_chanel_first",
        True,
        "preprocessing::0::ensure_chanel_first",
        "LoadImaged may have no argument 'ensure_chanel_first', got True. Did you mean 'ensure_channel_first'?",
    ),
    ("native", "vars::post::argmx", True, "system::postprocessing::val::argmx", "Did you mean 'argmax'?"),
    (
        "native",
        "dataset_dir",
        "data/@seed/x",
        "dataset_dir",
        "MONAI replaces no `@seed` inside a text without $, got 'data/@seed/x'",
    ),
    ("native", "dataset_dir", "/no/such/data", "dataset_dir", "'/no/such/data' does not exist"),
    ("native", "files", ["./data/tabel.csv"], "files::0", "Did you mean"),
    ("native", "dataset_dir", "nowhere/data", "dataset_dir", "'nowhere/data' does not exist"),
    ("native", "image_root", "nowhere/images/", "image_root", "does not exist"),
    ("native", "prior_path", "nowhere/prior", "prior_path", "does not exist"),
    ("native", "imports::2", "$import nosuchpackage", "imports::2", "the package 'nosuchpackage' is not installed"),
    ("native", "trainer::max_epochs", None, "trainer::max_epochs", "the property 'max_epochs'"),
    (
        "zoo",
        "optimizer::lr",
        "2e-3",
        "optimizer::lr",
        "the text '2e-3' is handed on where 0.002 may be meant. Write 0.002",
    ),
    ("zoo", "optimizer::lr", "fast", "optimizer::lr", "must be a number, got the text 'fast'"),
    ("zoo", "imports::2", "$import torch_tensorrt_or_so", "imports::2", "is not installed"),
    ("zoo", "imports::2", "$from os import path, sep", "imports::2", "the first of several names alone"),
    ("zoo", "training", ["$@train#trainer.run()"], "run_id", "--run_id training"),
]

FINE = [  # nothing is to be said about
    ("native", "system::optimizer::_target_", "$torch.optim.AdamW"),
    (
        "native",
        "system::criterion",
        {"_target_": "torch.nn.functional.cross_entropy", "_mode_": "callable", "_requires_": "@data"},
    ),
    ("native", "system::criterion", "$lambda pred, target: (pred - target).mean()"),
    ("native", "system::model", "$torch.nn.Sequential(@network_def)"),
    ("native", "system::inferer", {"val": {"_target_": "SimpleInferer"}, "test": None}),
    ("native", "system::metrics::val", [{"_target_": "DiceMetric"}]),
    ("native", "system::postprocessing", None),
    (
        "native",
        "system::scheduler",
        {
            "scheduler": {"_target_": "torch.optim.lr_scheduler.ConstantLR", "optimizer": "@system::optimizer"},
            "interval": "step",
            "monitor": "val/loss/epoch",
            "frequency": 2,
            "name": "lr",
        },
    ),
    (
        "native",
        "system::optimizer",
        {"a": {"_target_": "torch.optim.AdamW", "params": "$@network_def.parameters()"}},
    ),
    ("native", "system::dataloaders::val", [{"_target_": "DataLoader", "dataset": "@data"}, "$@data"]),
    ("native", "trainer::logger", [{"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": "."}]),
    ("native", "trainer::logger", False),
    ("native", "system::optimizer::lr", "1e-4"),
    ("native", "augmentation::0::prob", "5e-1"),
    ("native", "max_epochs", "3"),
    ("native", "system::dataloaders::test", False),
    ("native", "trainer::strategy", "auto"),
    ("native", "trainer::callbacks", {"_target_": "monai_lighter.ModelWeights"}),
    ("native", "trainer::max_steps", -1),
    ("native", "args", {"fit": {"weights_only": True}}),
    ("native", "dataset_dir", "a@seed.org"),
    ("native", "vars::post::_desc_", "made for @seed"),
    ("native", "vars::post::allow_missing_keys", True),
    ("native", "data", {"_target_": "dict", "target_": "data", "mode_": 1}),
    ("native", "data", {"target_": "label", "targets": "data", "mode": "x", "target": "torch.nn.Linear"}),
    ("native", "files", "$torch.npu.foo if hasattr(torch, 'npu') else 0"),
    ("native", "files", "$torch.newer() if int(torch.__version__.split('.')[0]) > 99 else torch.zeros(1)"),
    ("native", "files", "$torch_npu.count() if monai.utils.version_geq('1', '2') else 0"),
    ("native", "files", "$hasattr(torch, 'npu') and torch.npu.is_available()"),
    ("native", "files", "$@network_def.parameters(recurse=False)"),
    ("native", "files", "$@network_def.to('cpu', non_blocking=True)"),
    ("native", "files", "$'important ' + str(1)"),
    ("native", "system::dataloaders::train::persistent_workers", False),
    ("native", "network_def", {"_target_": "@vars::name", "in_features": 1, "out_features": 1}),
    ("native", "files", "$[(lambda path: path)(p) for p in Path('.').iterdir() if (n := p.name) and n]"),
    ("native", "files", "$np.array([str(p) for p in Path('.').glob('*')]).tolist()"),
    ("native", "output_dir", "/no/such/output"),
    ("native", "output_dir", "no/such/output"),
    ("native", "download_dir", "no/such/download"),
    ("native", "pretrained_model_name_or_path", "organisation/model"),
    ("native", "modality", "CT/MR"),
    ("native", "ckpt_path", "./models/model.pt"),
    ("native", "monitor", "val/loss/epoch"),
    ("native", "url", "https://example.org/data.zip"),
    ("zoo", "validate::handlers::0", {"_target_": "no.such.Handler", "_disabled_": True}),
    ("zoo", "train::trainer::amp", "$torch.cuda.is_available()"),
    ("zoo", "lightning", {"devices": 1}),
    ("zoo", "output_dir", "$@bundle_root + '/eval'"),
]
