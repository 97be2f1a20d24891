"""Mistakes that people make: what is written into a config that runs, and what must be said of it.

A row is one mistake in a config that has nothing else wrong: ``train`` and ``inference`` of the fixture ``bundle``, or
`ENGINES`. ``{file: …}`` of a row is written beside it, or removed with None. What is said must hold all of ``says``: the config
id, the value, and what to do.
"""

from typing import Any, NamedTuple

REMOVED = object()
"""The value of an item that is left out."""

ENGINES = """
bundle_root: .
dataset_dir: $@bundle_root + '/data'
imports: [$import glob]
images: "$sorted(glob.glob(@dataset_dir + '/image_*.nii.gz'))"
items: "$[{'image': i, 'label': i.replace('image', 'label')} for i in @images]"
device: $torch.device('cpu')
network_def: {_target_: UNet, spatial_dims: 2, in_channels: 1, out_channels: 2, channels: [4, 8], strides: [2]}
network: $@network_def.to(@device)
loss: {_target_: DiceCELoss, softmax: true, to_onehot_y: true}
optimizer: {_target_: torch.optim.Adam, params: $@network.parameters(), lr: 0.01}
train:
  preprocessing:
    _target_: Compose
    transforms:
      - {_target_: LoadImaged, keys: [image, label]}
      - {_target_: EnsureChannelFirstd, keys: [image, label]}
      - {_target_: ScaleIntensityd, keys: image}
  dataset: {_target_: Dataset, data: "$@items[:2]", transform: '@train#preprocessing'}
  dataloader: {_target_: DataLoader, dataset: '@train#dataset', batch_size: 2}
  inferer: {_target_: SimpleInferer}
  handlers: [{_target_: ValidationHandler, validator: '@validate#evaluator', epoch_level: true, interval: 1}]
  trainer:
    _target_: SupervisedTrainer
    max_epochs: 1
    device: '@device'
    train_data_loader: '@train#dataloader'
    network: '@network'
    loss_function: '@loss'
    optimizer: '@optimizer'
    inferer: '@train#inferer'
    train_handlers: '@train#handlers'
validate:
  dataset: {_target_: Dataset, data: "$@items[4:]", transform: '@train#preprocessing'}
  dataloader: {_target_: DataLoader, dataset: '@validate#dataset'}
  postprocessing:
    _target_: Compose
    transforms: [{_target_: AsDiscreted, keys: [pred, label], argmax: [true, false], to_onehot: 2}]
  key_metric: {dice: {_target_: MeanDice, output_transform: "$monai.handlers.from_engine(['pred', 'label'])"}}
  evaluator:
    _target_: SupervisedEvaluator
    device: '@device'
    val_data_loader: '@validate#dataloader'
    network: '@network'
    inferer: {_target_: SimpleInferer}
    postprocessing: '@validate#postprocessing'
    key_val_metric: '@validate#key_metric'
run: ["$@train#trainer.run()"]
"""


class Mistake(NamedTuple):
    """One mistake.

    Attributes:
        what: in a few words.
        edit: config id to what is written there, or `REMOVED`.
        says: what must be in the message: config id, value, cure.
        base: config that the edit is made in.
        run_id: what is asked of it.
        files: path in the bundle to its text, or None where it is not there.
        arguments: of the command beside the config.
    """

    what: str
    edit: dict[str, Any]
    says: tuple[str, ...]
    base: str = "train"
    run_id: str = "fit"
    files: dict[str, str | None] = {}
    arguments: dict[str, Any] = {}


OPTIMIZER, TRAIN, VAL = "system::optimizer", "system::dataloaders::train", "system::dataloaders::val"
CALLBACK = "trainer::callbacks::0"
POOL = "torch.optim.lr_scheduler"


def _callbacks(target: str, **arguments: Any) -> dict[str, Any]:
    return {"trainer::callbacks": [{"_target_": target, **arguments}]}


def _volume(**network: Any) -> dict[str, Any]:
    return {"network_def::spatial_dims": 3, **{f"network_def::{key}": value for key, value in network.items()}}


def _transform(i: int, target: str, **arguments: Any) -> dict[str, Any]:
    return {f"preprocessing::{i}": {"_target_": target, **arguments}}


SCHEDULER = {"_target_": f"{POOL}.ReduceLROnPlateau", "optimizer": "@system::optimizer"}
NET = "import torch\nclass Net(torch.nn.Conv2d):\n    def __init__(self):\n        super().__init__(1, 2, 1)\n"
PL_MODULE = "import pytorch_lightning as pl\nclass Module(pl.LightningModule):\n    pass\n"
PL_CALLBACK = "import pytorch_lightning as pl\nclass Mine(pl.Callback):\n    pass\n"

BEFORE = [
    # names
    Mistake("a class misspelt", {"network_def::_target_": "UNett"}, ("network_def::_target_", "'UNett'", "'UNet'")),
    Mistake(
        "a class by its name alone",
        {f"{OPTIMIZER}::_target_": "AdamW"},
        (f"{OPTIMIZER}::_target_", "'AdamW'", "'torch.optim.AdamW'"),
    ),
    Mistake(
        "a module of torch misspelt",
        {f"{OPTIMIZER}::_target_": "torhc.optim.AdamW"},
        (f"{OPTIMIZER}::_target_", "torhc", "'torch'"),
    ),
    Mistake(
        "an argument misspelt",
        {"network_def::out_channel": 2},
        ("network_def::out_channel", "got 2", "'out_channels'"),
    ),
    Mistake("an argument left out", {"network_def::channels": REMOVED}, ("network_def", "'channels'", "Add it")),
    Mistake("a key of the system misspelt", {"system::optimiser": 1}, ("system::optimiser", "got 1", "'optimizer'")),
    Mistake(
        "a key of the Trainer misspelt", {"trainer::max_epoch": 3}, ("trainer::max_epoch", "got 3", "'max_epochs'")
    ),
    Mistake(
        "what becomes of bad cases misspelt",
        {"system::on_bad_case": "skipp"},
        ("system::on_bad_case", "'skipp'", "'skip'"),
    ),
    Mistake(
        "bad cases counted that end the run",
        {"system::max_bad_cases": 3},
        ("system::max_bad_cases", "got 3", "Add on_bad_case: skip"),
    ),
    Mistake(
        "no number of bad cases",
        {"system::on_bad_case": "skip", "system::max_bad_cases": 0},
        ("system::max_bad_cases", "got 0", "a whole number from 1"),
    ),
    Mistake(
        "cases as text",
        {"system::dataloaders::train::dataset::data": "[{image: a.nii.gz}]"},
        ("system::dataloaders::train::dataset::data", "'[{image: a.nii.gz}]'", "a list of cases"),
    ),
    Mistake("no number of threads", {"system::workers": "two"}, ("system::workers", "'two'", "a whole number from 0")),
    Mistake(
        "bad cases left out of a cache that a thread replaces",
        {
            "system::on_bad_case": "skip",
            "system::dataloaders::train::dataset::_target_": "SmartCacheDataset",
            "system::dataloaders::train::dataset::cache_num": 2,
        },
        ("system::dataloaders::train::dataset", "SmartCacheDataset", "CacheDataset or PersistentDataset"),
    ),
    Mistake(
        "a mode misspelt",
        {"system::metrics::vall": {"d": {"_target_": "DiceMetric"}}},
        ("system::metrics::vall", "'vall'", "'val'"),
    ),
    Mistake(
        "_target_ misspelt",
        {"system::criterion": {"_targt_": "DiceLoss"}},
        ("system::criterion::_targt_", "'DiceLoss'", "'_target_'"),
    ),
    Mistake(
        "a class without _target_",
        {"system::criterion": "DiceLoss"},
        ("system::criterion", "'DiceLoss'", "{_target_: DiceLoss}"),
    ),
    Mistake(
        "a reference misspelt", {"system::model": "@netwrok_def"}, ("system::model", "@netwrok_def", "'network_def'")
    ),
    Mistake("@ forgotten", {"system::model": "network_def"}, ("system::model", "'network_def'", "'@network_def'")),
    Mistake(
        "$ forgotten",
        {f"{OPTIMIZER}::params": "@network_def.parameters()"},
        (f"{OPTIMIZER}::params", "@network_def.parameters()", "'$@network_def.parameters()'"),
    ),
    Mistake(
        "an expression that is no Python",
        {"data": "$[{'image': f} for f in @files"},
        ("data", "for f in @files", "expression"),
    ),
    Mistake(
        "a name that nothing defines",
        {"files": "$sorted(os.listdir(@dataset_dir))"},
        ("files", "'os'", "$import os"),
    ),
    Mistake("a macro that names nothing", {"data": "%fils"}, ("data", "'%fils'", "'files'")),
    Mistake("a circle", {"max_epochs": "@trainer::max_epochs"}, ("trainer::max_epochs", "refers to itself", "Break")),
    # values
    Mistake("a learning rate in words", {f"{OPTIMIZER}::lr": "fast"}, (f"{OPTIMIZER}::lr", "'fast'", "a number")),
    Mistake("epochs in words", {"max_epochs": "five"}, ("max_epochs", "'five'", "a whole number")),
    Mistake("half an epoch", {"trainer::max_epochs": 1.5}, ("trainer::max_epochs", "1.5", "a whole number")),
    Mistake(
        "channels in words",
        {"network_def::channels": ["four", "8"]},
        ("network_def::channels::0", "'four'", "a whole number"),
    ),
    Mistake(
        "channels as one text",
        {"network_def::channels": "4, 8, x"},
        ("network_def::channels", "'4, 8, x'", "a list"),
    ),
    Mistake("a batch of a word", {f"{TRAIN}::batch_size": "two"}, (f"{TRAIN}::batch_size", "'two'", "number")),
    Mistake("a batch of nothing", {f"{TRAIN}::batch_size": 0}, (TRAIN, "batch_size", "0")),
    Mistake(
        "a probability in words",
        {"augmentation::0::prob": "half"},
        ("augmentation::0::prob", "'half'", "a number"),
    ),
    Mistake("going on in words", {"skip_existing": "yes"}, ("skip_existing", "'yes'", "true or false")),
    Mistake("a seed in words", {"seed": "today"}, ("seed", "'today'", "whole number")),
    Mistake(
        "patch sizes in words",
        {"system::inferer::roi_size": [16, "all"]},
        ("system::inferer::roi_size", "'all'", "number"),
    ),
    Mistake(
        "a spacing in words",
        _transform(1, "Spacingd", keys="image", pixdim=["1mm", "1mm"]),
        ("preprocessing::1::pixdim", "'1mm'", "number"),
    ),
    Mistake(
        "a monitor's mode that there is not",
        _callbacks("monai_lighter.ModelWeights", mode="maximum"),
        (CALLBACK, "'maximum'", "'max'"),
    ),
    Mistake("null in quotes", {VAL: "null"}, (VAL, "'null'", "without quotes")),
    # the Trainer and its devices
    Mistake(
        "gpus of older Lightning", {"trainer::gpus": 1}, ("trainer::gpus", "got 1", "accelerator: gpu", "devices: 1")
    ),
    Mistake("a GPU that is not there", {"trainer::accelerator": "gpu"}, ("trainer::accelerator", "'gpu'", "cpu")),
    Mistake(
        "CUDA that is not there",
        {"trainer::accelerator": "cuda", "trainer::devices": 2},
        ("trainer::accelerator", "'cuda'", "cpu"),
    ),
    Mistake(
        "a device for an accelerator",
        {"trainer::accelerator": "cuda:0"},
        ("trainer::accelerator", "'cuda:0'", "devices"),
    ),
    Mistake(
        "an index for a number of devices",
        {"trainer::devices": [0]},
        ("trainer", "devices", "[0]"),
    ),
    Mistake("no devices", {"trainer::devices": 0}, ("trainer", "devices", "0")),
    Mistake(
        "a precision that there is not", {"trainer::precision": "fp16"}, ("trainer", "precision", "'fp16'", "16-mixed")
    ),
    Mistake("a strategy that there is not", {"trainer::strategy": "ddpp"}, ("trainer", "strategy", "'ddpp'", "ddp")),
    Mistake(
        "a callback of pytorch_lightning for the Trainer of lightning.pytorch",
        {
            "trainer::_target_": "lightning.pytorch.Trainer",
            **_callbacks("pytorch_lightning.callbacks.EarlyStopping", monitor="val/loss/epoch"),
        },
        (f"{CALLBACK}::_target_", "pytorch_lightning.callbacks", "Write lightning.pytorch.callbacks.EarlyStopping"),
    ),
    Mistake(
        "a Trainer of pytorch_lightning for a callback of lightning.pytorch",
        {
            "trainer::_target_": "pytorch_lightning.Trainer",
            **_callbacks("lightning.pytorch.callbacks.EarlyStopping", monitor="val/loss/epoch"),
        },
        ("trainer::_target_", "pytorch_lightning.Trainer", "Write lightning.pytorch.Trainer"),
    ),
    Mistake(
        "a LightningModule of pytorch_lightning",
        {"system": {"_target_": "scripts.module.Module"}},
        ("system::_target_", "scripts.module.Module", "pytorch_lightning", "lightning.pytorch"),
        files={"scripts/module.py": PL_MODULE},
    ),
    Mistake(
        "an own callback of pytorch_lightning",
        _callbacks("scripts.module.Mine"),
        (f"{CALLBACK}::_target_", "scripts.module.Mine", "pytorch_lightning", "lightning.pytorch"),
        files={"scripts/module.py": PL_CALLBACK},
    ),
    Mistake(
        "a network for a LightningModule",
        {
            "system": {
                "_target_": "UNet",
                "spatial_dims": 2,
                "in_channels": 1,
                "out_channels": 2,
                "channels": [4, 8],
                "strides": [2],
            }
        },
        ("system::_target_", "UNet", "LightningModule"),
    ),
    # functions
    Mistake(
        "_mode_: callable forgotten for a loss",
        {"system::criterion": {"_target_": "torch.nn.functional.cross_entropy"}},
        ("system::criterion", "torch.nn.functional.cross_entropy", "_mode_: callable"),
    ),
    Mistake(
        "_mode_: callable forgotten for a function of torch",
        {
            "system::adapters": {
                "val": {
                    "logging": {
                        "_target_": "monai_lighter.LoggingAdapter",
                        "pred_transforms": [{"_target_": "torch.argmax", "dim": 1}],
                    }
                }
            }
        },
        ("system::adapters::val::logging::pred_transforms::0", "torch.argmax", "_mode_: callable"),
    ),
    Mistake(
        "_mode_: callable forgotten for a collate function",
        {f"{TRAIN}::collate_fn": {"_target_": "monai.data.list_data_collate"}},
        (f"{TRAIN}::collate_fn", "list_data_collate", "_mode_: callable"),
    ),
    Mistake(
        "_mode_ of a network",
        {"network_def::_mode_": "callable"},
        ("network_def::_mode_", "'callable'", "Remove it"),
    ),
    # own modules
    Mistake(
        "scripts. forgotten",
        {"network_def": {"_target_": "nets.Net"}},
        ("network_def::_target_", "'nets.Net'", "'scripts.nets.Net'"),
        files={"scripts/__init__.py": "", "scripts/nets.py": NET},
    ),
    Mistake(
        "an own module misspelt",
        {"network_def": {"_target_": "scripts.netz.Net"}},
        ("network_def::_target_", "'scripts.netz.Net'", "scripts.nets"),
        files={"scripts/__init__.py": "", "scripts/nets.py": NET},
    ),
    Mistake(
        "an own class misspelt",
        {"network_def": {"_target_": "scripts.nets.Nett"}},
        ("network_def::_target_", "'scripts.nets.Nett'", "'scripts.nets.Net'"),
        files={"scripts/__init__.py": "", "scripts/nets.py": NET},
    ),
    Mistake(
        "an own module that cannot be imported",
        {"network_def": {"_target_": "scripts.nets.Net"}},
        ("network_def::_target_", "scripts.nets.Net", "SyntaxError", "nets.py"),
        files={"scripts/__init__.py": "", "scripts/nets.py": "class Net(:\n"},
    ),
    Mistake(
        "an own module that needs a package",
        {"network_def": {"_target_": "scripts.nets.Net"}},
        ("network_def::_target_", "'nosuchpackage'", "pip install nosuchpackage"),
        files={"scripts/__init__.py": "", "scripts/nets.py": "import nosuchpackage\n"},
    ),
    Mistake(
        "a folder of own modules that is not there",
        {"project": "./mine"},
        ("project", "./mine", "__init__.py"),
    ),
    # data
    Mistake("no data", {"dataset_dir": "./dta"}, (f"{TRAIN}::dataset", "no items", "list of cases")),
    Mistake(
        "more in a batch than there is, and the rest dropped",
        {f"{TRAIN}::batch_size": 8, f"{TRAIN}::drop_last": True},
        (TRAIN, "no batches", "batch_size"),
    ),
    Mistake("no data for the stage", {"system::dataloaders": REMOVED}, (TRAIN, "'fit'", "Add it")),
    Mistake(
        "a dataset for a loader",
        {TRAIN: {"_target_": "Dataset", "data": "@data"}},
        (TRAIN, "Dataset", "DataLoader"),
    ),
    Mistake(
        "a table that is not there",
        {"data": {"_target_": "scripts.dataset.cases", "table": "$@dataset_dir + '/train.csv'"}},
        ("data", "data/train.csv", "image", "label"),
        files={"scripts/__init__.py": "", "scripts/dataset.py": "@template"},
    ),
    Mistake(
        "a list of cases that is not there",
        {
            "data": {
                "_target_": "monai.data.load_decathlon_datalist",
                "data_list_file_path": "$@dataset_dir + '/dataset.json'",
            }
        },
        ("data", "data/dataset.json", "does not exist"),
    ),
    Mistake(
        "a table of pandas that is not there",
        {
            "imports": ["$import glob", "$import pandas"],
            "data": "$pandas.read_csv(@dataset_dir + '/train.csv').to_dict('records')",
        },
        ("data", "data/train.csv", "No such file"),
    ),
    # sizes
    Mistake(
        "a spacing of two numbers in 3D",
        {**_volume(), **_transform(1, "Spacingd", keys=["image", "label"], pixdim=[1.0, 2.0])},
        ("preprocessing::1::pixdim", "[1.0, 2.0]", "3"),
    ),
    Mistake(
        "a patch of two numbers in 3D",
        _volume(),
        ("system::inferer::roi_size", "[16, 16]", "3"),
    ),
    Mistake(
        "a patch of three numbers in 2D",
        {"system::inferer::roi_size": [16, 16, 16]},
        ("system::inferer::roi_size", "[16, 16, 16]", "2"),
    ),
    Mistake(
        "a list in brackets without quotes on the command line",
        {"patch_size": [16, 16]},
        ("init_id", "'64]'", "quotes"),
        arguments={"init_id": "64]", "patch_size": "[64,"},
    ),
    Mistake(
        "a softmax over one output",
        {"network_def::out_channels": 1, "system::criterion": {"_target_": "torch.nn.CrossEntropyLoss"}},
        ("network_def::out_channels", "got 1", "sigmoid"),
    ),
    Mistake(
        "a Dice loss with a softmax over one output",
        {"network_def::out_channels": 1},
        ("network_def::out_channels", "got 1", "sigmoid"),
    ),
    # the order of transforms
    Mistake(
        "spacing before channels",
        {
            "preprocessing": [
                {"_target_": "LoadImaged", "keys": ["image", "label"]},
                {"_target_": "Spacingd", "keys": ["image", "label"], "pixdim": [1.0, 1.0]},
                {"_target_": "EnsureChannelFirstd", "keys": ["image", "label"]},
            ]
        },
        ("preprocessing::1", "Spacingd", "EnsureChannelFirstd", "Move it behind"),
    ),
    Mistake(
        "loading last",
        {
            "preprocessing": [
                {"_target_": "ScaleIntensityd", "keys": "image"},
                {"_target_": "LoadImaged", "keys": ["image", "label"], "ensure_channel_first": True},
            ]
        },
        ("preprocessing::0", "ScaleIntensityd", "LoadImaged", "Move it behind"),
    ),
    # what is monitored
    Mistake(
        "a monitor of Lightning's own names",
        _callbacks("lightning.pytorch.callbacks.EarlyStopping", monitor="val_loss"),
        (f"{CALLBACK}::monitor", "'val_loss'", "'val/loss/epoch'"),
    ),
    Mistake(
        "a monitor misspelt",
        _callbacks("lightning.pytorch.callbacks.ModelCheckpoint", monitor="val/metrics/dise/epoch"),
        (f"{CALLBACK}::monitor", "'val/metrics/dise/epoch'", "'val/metrics/dice/epoch'"),
    ),
    Mistake(
        "a monitor of the best weights misspelt",
        _callbacks("monai_lighter.ModelWeights", monitor="val/metrics/Dice/epoch"),
        (f"{CALLBACK}::monitor", "'val/metrics/Dice/epoch'", "'val/metrics/dice/epoch'"),
    ),
    Mistake(
        "a monitor of a scheduler misspelt",
        {"system::scheduler": {"scheduler": SCHEDULER, "monitor": "val/los/epoch"}},
        ("system::scheduler::monitor", "'val/los/epoch'", "'val/loss/epoch'"),
    ),
    Mistake(
        "a plateau without a monitor",
        {"system::scheduler": SCHEDULER},
        ("system::scheduler", "ReduceLROnPlateau", "monitor: val/loss/epoch"),
    ),
    Mistake(
        "a key of a scheduler misspelt",
        {"system::scheduler": {"scheduler": SCHEDULER, "monitr": "val/loss/epoch"}},
        ("system::scheduler::monitr", "'monitor'"),
    ),
    Mistake(
        "a metric for a monitor without validation",
        {**_callbacks("lightning.pytorch.callbacks.EarlyStopping", monitor="val/loss/epoch"), VAL: REMOVED},
        (f"{CALLBACK}::monitor", "'val/loss/epoch'", VAL),
    ),
    # metrics
    Mistake(
        "a loss for a metric",
        {"system::metrics::val::dice": {"_target_": "DiceLoss"}},
        ("system::metrics::val::dice", "DiceLoss", "DiceMetric"),
    ),
    Mistake(
        "a function for a metric",
        {"system::metrics::val::dice": {"_target_": "monai.metrics.compute_dice", "_mode_": "callable"}},
        ("system::metrics::val::dice", "function", "DiceMetric"),
    ),
    # files
    Mistake(
        "a config that is no YAML",
        {},
        ("config_file", "train.yaml", "line 2"),
        files={"configs/train.yaml": "a: [1\nb: 2\n"},
    ),
    Mistake(
        "metadata that is no JSON",
        {},
        ("meta_file", "metadata.json", "line 1"),
        files={"configs/metadata.json": '{"version": "1",}'},
    ),
    Mistake(
        "metadata that is a list",
        {},
        ("meta_file", "metadata.json", "[1]", "section"),
        files={"configs/metadata.json": "[1]"},
    ),
    Mistake(
        "a tab in a config", {}, ("config_file", "train.yaml", "line 2"), files={"configs/train.yaml": "a: 1\n\tb: 2\n"}
    ),
    Mistake(
        "a key twice",
        {},
        ("network_def", "train.yaml:", "twice"),
        files={"configs/train.yaml": "@append:network_def: {_target_: UNet}\n"},
    ),
    Mistake("an empty config", {}, ("config_file", "train.yaml", "nothing"), files={"configs/train.yaml": ""}),
    Mistake(
        "a config that is not there", {}, ("config_file", "train.yaml", "path"), files={"configs/train.yaml": None}
    ),
    Mistake("a stage misspelt", {}, ("run_id", "'fti'", "'fit'"), run_id="fti"),
    Mistake(
        "weights before there are any",
        {
            "system::model": {
                "_target_": "monai_lighter.load_weights",
                "model": "@network_def",
                "ckpt_path": "$@bundle_root + '/models/model.pt'",
            }
        },
        ("system::model", "models/model.pt", "run fit"),
        run_id="validate",
    ),
    Mistake(
        "weights of another network",
        {
            "system::model": {
                "_target_": "monai_lighter.load_weights",
                "model": "@network_def",
                "ckpt_path": "$@bundle_root + '/models/model.pt'",
            }
        },
        ("system::model", "models/model.pt"),
        run_id="validate",
        files={"models/model.pt": "@weights"},
    ),
    Mistake(
        "a checkpoint that is not there",
        {"args": {"fit": {"ckpt_path": "last.ckpt"}}},
        ("args::fit::ckpt_path", "'last.ckpt'", "path"),
    ),
    Mistake(
        "predict with a config that has no such data",
        {},
        ("system::dataloaders::predict", "'predict'", "Add it"),
        run_id="predict",
    ),
    # engines
    Mistake(
        "engines: a class misspelt",
        {"network_def::_target_": "UNett"},
        ("network_def", "'UNett'", "'UNet'"),
        "engines",
        "run",
    ),
    Mistake(
        "engines: an argument misspelt",
        {"train::trainer::max_epoch": 1},
        ("train::trainer", "max_epoch", "'max_epochs'"),
        "engines",
        "run",
    ),
    Mistake(
        "engines: a reference misspelt",
        {"train::trainer::network": "@netwrk"},
        ("train::trainer::network", "netwrk", "'network'"),
        "engines",
        "run",
    ),
    Mistake("engines: a text for a number", {"optimizer::lr": "fast"}, ("optimizer::lr", "'fast'"), "engines", "run"),
    Mistake(
        "engines: keywords of the Trainer misspelt",
        {"lightning": {"device": 1}},
        ("lightning::device", "got 1", "'devices'"),
        "engines",
        "run",
    ),
    Mistake(
        "engines: gpus", {"lightning": {"gpus": 1}}, ("lightning::gpus", "got 1", "accelerator: gpu"), "engines", "run"
    ),
    Mistake(
        "engines: a GPU that is not there",
        {"lightning": {"accelerator": "gpu"}},
        ("lightning::accelerator", "'gpu'", "cpu"),
        "engines",
        "run",
    ),
    Mistake("engines: nothing of that name", {}, ("run_id", "'trian'", "train"), "engines", "trian"),
    Mistake(
        "engines: another name for the run",
        {"run": REMOVED, "training": ["$monai.utils.set_determinism(seed=1)", "$@train#trainer.run()"]},
        ("run_id", "'run'", "run training"),
        "engines",
        "run",
    ),
    Mistake(
        "engines: a name for the evaluation",
        {"run": REMOVED, "evaluating": ["$@validate#evaluator.run()"]},
        ("run_id", "'run'", "run evaluating"),
        "engines",
        "run",
    ),
    Mistake("engines: a stage of native configs", {}, ("run_id", "'fit'", "run"), "engines", "fit"),
]

AT_WORK = [
    # order of transforms
    Mistake(
        "channels forgotten",
        {"preprocessing::0::ensure_channel_first": False},
        ("system::inferer", "image_4", "EnsureChannelFirstd after LoadImaged"),
    ),
    Mistake(
        "a key that the cases do not have",
        {"preprocessing::0::keys": ["image", "lable"]},
        ("system::dataloaders::val", "LoadImaged", "lable", "label="),
    ),
    Mistake(
        "a file that is not there",
        {
            "data": [{"image": "data/image_0.nii.gz", "label": "data/label_9.nii.gz"}],
            f"{TRAIN}::dataset::data": "@data",
            f"{VAL}::dataset::data": "@data",
        },
        ("label_9.nii.gz", "system::dataloaders"),
    ),
    Mistake("a file that is broken", {}, ("image_0.nii.gz", TRAIN), files={"data/image_0.nii.gz": "no image"}),
    # networks and losses
    Mistake(
        "patches that the strides do not divide",
        {"network_def::channels": [4, 8, 16], "network_def::strides": [2, 2], "system::inferer::roi_size": [10, 10]},
        ("system::model", "roi_size (10, 10)", "(12, 12)", "multiples of 4"),
    ),
    Mistake(
        "crops that the strides do not divide",
        {
            "network_def::channels": [4, 8, 16],
            "network_def::strides": [2, 2],
            "augmentation::0": {
                "_target_": "RandSpatialCropd",
                "keys": ["image", "label"],
                "roi_size": [10, 10],
                "random_size": False,
            },
            VAL: REMOVED,
        },
        ("system::model", "input (10, 10)", "(12, 12)", "multiples of 4"),
    ),
    Mistake(
        "a network for volumes",
        {"network_def::spatial_dims": 3, "system::inferer": REMOVED},
        ("system::model", "(B, C, H, W, D)"),
    ),
    Mistake("channels that images do not have", {"network_def::in_channels": 3}, ("system", "(1, 1, 16, 16)", "3")),
    Mistake(
        "a learning rate that is far too high",
        {f"{OPTIMIZER}::lr": 1e30, "max_epochs": 3},
        ("system::", "learning rate"),
    ),
    Mistake(
        "a batch of cases of two sizes",
        {
            "augmentation::0": {
                "_target_": "RandSpatialCropd",
                "keys": ["image", "label"],
                "roi_size": [4, 4],
                "random_size": True,
            }
        },
        (TRAIN, "image_", "image"),
    ),
    Mistake(
        "a key that a batch does not have",
        {
            "system::adapters": {
                "train": {
                    "batch": {
                        "_target_": "monai_lighter.BatchAdapter",
                        "input_accessor": "img",
                        "target_accessor": "label",
                    }
                }
            }
        },
        ("system::adapters::train::batch", "'img'", "image"),
    ),
    # metrics
    Mistake(
        "outputs of the network for Dice",
        {"system::postprocessing": REMOVED},
        ("system::metrics::val::dice", "AsDiscreted", "image_4"),
    ),
    Mistake(
        "probabilities for Dice",
        {"system::postprocessing::val": {"_target_": "Activationsd", "keys": "pred", "softmax": True}},
        ("system::metrics::val::dice", "soft Dice", "AsDiscreted"),
    ),
    Mistake(
        "outputs for Dice of torchmetrics",
        {
            "system::postprocessing": REMOVED,
            "system::metrics::val::dice": {"_target_": "torchmetrics.segmentation.DiceScore", "num_classes": 2},
        },
        ("system::metrics::val::dice", "image_4"),
    ),
    Mistake(
        "outputs for the mean IoU of torchmetrics",
        {
            "system::postprocessing": REMOVED,
            "system::metrics::val::dice": {"_target_": "torchmetrics.segmentation.MeanIoU", "num_classes": 2},
        },
        ("system::metrics::val::dice", "image_4"),
    ),
    Mistake(
        "outputs for the Jaccard index of torchmetrics",
        {
            "system::postprocessing": REMOVED,
            "system::metrics::val::dice": {"_target_": "torchmetrics.classification.BinaryJaccardIndex"},
        },
        ("system::metrics::val::dice",),
    ),
    Mistake(
        "postprocessing of another key",
        {"system::postprocessing::val::keys": ["prediction", "label"]},
        ("system::postprocessing::val", "prediction", "image_4"),
    ),
    # what is monitored, where it cannot be known before
    Mistake(
        "a monitor of a LightningModule that it does not log",
        {
            "system": {"_target_": "scripts.module.Module"},
            **_callbacks("lightning.pytorch.callbacks.EarlyStopping", monitor="val_los"),
        },
        ("trainer::callbacks (EarlyStopping)", "`val_los`", "`val_loss`"),
        files={
            "scripts/__init__.py": "",
            "scripts/module.py": """
import torch, lightning.pytorch as pl
class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(2, 1)
    def training_step(self, batch, i):
        return self.net(batch).mean()
    def validation_step(self, batch, i):
        self.log("val_loss", self.net(batch).mean())
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.rand(4, 2), batch_size=2)
    val_dataloader = train_dataloader
""",
        },
    ),
    Mistake(
        "classes of one channel for Dice",
        {
            "system::postprocessing::val": {
                "_target_": "Compose",
                "transforms": [
                    {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                    {"_target_": "MapLabelValued", "keys": "pred", "orig_labels": [0, 1], "target_labels": [3, 2]},
                ],
            }
        },
        ("system::metrics::val::dice", "of classes below 2", "to_onehot", "image_4"),
    ),
    Mistake(
        "labels of 255 for a distance",
        {
            "system::metrics::val::dice": {"_target_": "HausdorffDistanceMetric"},
            "system::postprocessing::val": {
                "_target_": "Compose",
                "transforms": [
                    {"_target_": "AsDiscreted", "keys": ["pred", "label"], "argmax": [True, False], "to_onehot": 2},
                    {"_target_": "ScaleIntensityd", "keys": "label", "maxv": 255},
                ],
            },
        },
        ("system::metrics::val::dice", "255", "'label'", "image_4"),
    ),
    # the Trainer and sizes
    Mistake(
        "a cropped size of three numbers in 2D",
        {
            "augmentation::0": {
                "_target_": "RandSpatialCropd",
                "keys": ["image", "label"],
                "roi_size": [8, 8, 8],
                "random_size": False,
            }
        },
        (TRAIN, "image_", "length 2, got 3"),
    ),
    Mistake("more strides than there are levels", {"network_def::strides": [2, 2, 2]}, ("strides", "not be used")),
    Mistake(
        "a column that the table does not have",
        {
            "data": {"_target_": "scripts.dataset.cases", "table": "$@dataset_dir + '/train.csv'"},
            f"{TRAIN}::dataset::data": "@data",
            f"{VAL}::dataset::data": "@data",
        },
        ("data", "scripts.dataset.cases", "must have the columns image and label", "'img'"),
        files={
            "scripts/__init__.py": "",
            "scripts/dataset.py": "@template",
            "data/train.csv": "img,label\nimage_0.nii.gz,label_0.nii.gz\n",
        },
    ),
    Mistake(
        "steps between validations that are more than there are",
        {"trainer::val_check_interval": 100},
        ("trainer", "val_check_interval", "100"),
    ),
    # files
    Mistake(
        "a folder that a file is in the place of",
        {},
        ("trainer::callbacks", "models"),
        files={"models": "a file"},
    ),
    Mistake(
        "weights for a checkpoint",
        {"args": {"fit": {"ckpt_path": "models/model.pt"}}},
        ("args::fit::ckpt_path", "model.pt", "load_weights"),
        files={"models/model.pt": "@weights"},
    ),
    Mistake(
        "prediction: a file for the folder",
        {"output_dir": "data/image_0.nii.gz"},
        ("system::postprocessing::predict", "data/image_0.nii.gz"),
        "inference",
        "predict",
    ),
    Mistake(
        "a log folder that a file is in the place of",
        {"trainer::logger": True},
        ("trainer", "lightning_logs", "File exists", "default_root_dir"),
        files={"lightning_logs": "a file"},
    ),
    Mistake(
        "weights where nothing can be written",
        _callbacks("monai_lighter.ModelWeights", path="/proc/model.pt"),
        ("trainer::callbacks", "/proc", "another place"),
    ),
    Mistake(
        "predictions where nothing can be written",
        {"output_dir": "/proc/predictions"},
        ("system::postprocessing::predict", "/proc/predictions", "image_4"),
        "inference",
        "predict",
    ),
    Mistake(
        "a table where nothing can be written",
        _callbacks("monai_lighter.TableWriter", path="/proc/tables/pred.csv"),
        ("trainer::callbacks (TableWriter)", "/proc/tables"),
        "inference",
        "predict",
    ),
    # engines
    Mistake(
        "engines: a key of the images misspelt",
        {"train::preprocessing::transforms::0::keys": ["image", "lable"]},
        ("train::", "LoadImaged", "lable"),
        "engines",
        "run",
    ),
    Mistake(
        "engines: channels forgotten",
        {"train::preprocessing::transforms::1": {"_target_": "Identityd", "keys": "image"}},
        ("train::trainer", "iteration 1", "image_"),
        "engines",
        "run",
    ),
    Mistake(
        "engines: outputs for Dice",
        {"validate::postprocessing": REMOVED, "validate::evaluator::postprocessing": REMOVED},
        ("validate::key_metric::dice", "AsDiscreted", "image_4"),
        "engines",
        "run",
    ),
    Mistake(
        "engines: weights before there are any",
        {
            "validate::evaluator::val_handlers": [
                {
                    "_target_": "CheckpointLoader",
                    "load_path": "$@bundle_root + '/models/model.pt'",
                    "load_dict": {"model": "@network"},
                }
            ],
            "evaluating": ["$@validate#evaluator.run()"],
        },
        ("models/model.pt", "The bundle's training makes it", "run fit"),
        "engines",
        "evaluating",
    ),
]
