"""What MONAI asks of ``ConfigWorkflow`` in its own tests (tests/bundle/test_bundle_workflow.py), asked of `Workflow` too."""

import json
import logging
import sys
from copy import deepcopy

import nibabel
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import BundleWorkflow, ConfigWorkflow, create_workflow, load, run_workflow
from monai.data import Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import StatsHandler, ValidationHandler
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import Compose, LoadImage, LoadImaged, SaveImaged
from monai.utils import set_determinism

from monai_lighter import Workflow

SHAPE = (12, 10, 8)
NETWORK = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [2, 4], "strides": [2],
           "num_res_units": 1, "norm": "batch"}  # fmt: skip
PREPROCESSING = [{"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True},
                 {"_target_": "ScaleIntensityd", "keys": "image"}]  # fmt: skip
METADATA = {"version": "0.1.0", "monai_version": "1.6.1", "pytorch_version": "2.4.0", "numpy_version": "1.26.0",
            "network_data_format": {"inputs": {}, "outputs": {}}}  # fmt: skip
INFERENCE = {
    "imports": ["$import torch"],
    "bundle_root": ".",
    "dataset_dir": "/workspace/data",
    "output_dir": "$@bundle_root + '/eval'",
    "device": "$torch.device('cpu')",
    "network_def": NETWORK,
    "network": "will be overridden",
    "preprocessing": {"_target_": "Compose", "transforms": PREPROCESSING},
    "dataset": {"_target_": "need override", "data": "@_meta_#nothing", "transform": "@preprocessing"},
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [8, 8, 8], "sw_batch_size": 2},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_postfix": "override here"},
        ],
    },
    "handlers": [],
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "device": "@device",
        "val_data_loader": "@dataloader",
        "network": "@network",
        "inferer": "@inferer",
        "postprocessing": "@postprocessing",
        "val_handlers": "@handlers",
    },
    "initialize": ["$monai.utils.set_determinism(0)"],
    "run": ["$@evaluator.run()", "$@evaluator.state.iteration"],
    "finalize": ["$monai.utils.set_determinism(None)"],
}
TRAIN = {
    "imports": ["$import torch", "$import monai"],
    "bundle_root": ".",
    "dataset_dir": "/workspace/data",
    "device": "$torch.device('cpu')",
    "network_def": NETWORK,
    "network": "$@network_def.to(@device)",
    "loss": {"_target_": "DiceLoss", "softmax": True, "to_onehot_y": True},
    "optimizer": {"_target_": "torch.optim.Adam", "params": "$@network.parameters()", "lr": 0.01},
    "train": {
        "inferer": {"_target_": "SimpleInferer"},
        "preprocessing": {"_target_": "Compose", "transforms": PREPROCESSING},
        "dataset": {"_target_": "Dataset", "data": "@data", "transform": "@train#preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@train#dataset", "batch_size": 1},
        "postprocessing": {"_target_": "Compose", "transforms": []},
        "handlers": [
            {"_target_": "ValidationHandler", "validator": "@validate#evaluator", "interval": "@val_interval"},
            {"_target_": "StatsHandler", "output_transform": "$monai.handlers.from_engine(['loss'], first=True)"},
        ],
        "key_metric": {"train_accuracy": {"_target_": "ignite.metrics.Accuracy",
                       "output_transform": "$monai.handlers.from_engine(['pred', 'label'])"}},
        "trainer": {
            "_target_": "SupervisedTrainer",
            "max_epochs": 2,
            "device": "@device",
            "train_data_loader": "@train#dataloader",
            "network": "@network",
            "loss_function": "@loss",
            "optimizer": "@optimizer",
            "inferer": "@train#inferer",
            "train_handlers": "@train#handlers",
            "prepare_batch": "$lambda batch, device, non_blocking: (batch['image'], (batch['image'] > 0.5).float())",
        },
    },
    "val_interval": 1,
    "data": [],
    "validate": {
        "preprocessing": "%train#preprocessing",
        "dataset": {"_target_": "Dataset", "data": "@data", "transform": "@validate#preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@validate#dataset", "batch_size": 1},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [8, 8, 8]},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@validate#dataloader",
            "network": "@network",
            "inferer": "@validate#inferer",
        },
    },
    "initialize": ["$monai.utils.set_determinism(0)"],
    "run": ["$@train#trainer.run()", "$@train#trainer.state.iteration"],
    "finalize": ["$monai.utils.set_determinism(None)"],
}  # fmt: skip
RESPONSIVE = {
    **{key: INFERENCE[key] for key in ("imports", "bundle_root", "dataset_dir", "device", "network_def", "inferer")},
    "network": "$@network_def.to(@device).eval()",
    "dataflow": "$dict()",
    "preprocessing": {"_target_": "Compose", "transforms": [{"_target_": "EnsureChannelFirstd", "keys": "image"}]},
    "dataset": {"_target_": "Dataset", "data": ["@dataflow"], "transform": "@preprocessing"},
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
    "postprocessing": {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
    "evaluator": {**INFERENCE["evaluator"], "val_handlers": None},
    "run": ["$@evaluator.run()", "$@dataflow.update(**@evaluator.state.output[0])"],
}
BOTH = pytest.mark.parametrize("kind", [ConfigWorkflow, Workflow])


@pytest.fixture
def image(tmp_path):
    """Path of a volume."""
    path = tmp_path / "image.nii.gz"
    data = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), path)
    return str(path)


@pytest.fixture
def configs(tmp_path, monkeypatch):
    """Folder ``configs`` of a bundle in MONAI's style, with JSON and YAML; runs leave torch as it was."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = tmp_path / "spleen" / "configs"
    folder.mkdir(parents=True)
    for name, config in (("inference", INFERENCE), ("train", TRAIN), ("responsive", RESPONSIVE)):
        (folder / f"{name}.json").write_text(json.dumps(config))
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    (folder / "metadata.json").write_text(json.dumps(METADATA))
    yield folder
    set_determinism(None)


def inference(kind, file, image, folder, **more):
    override = {
        "network": "$@network_def.to(@device)",
        "dataset#_target_": "Dataset",
        "dataset#data": [{"image": image}],
        "postprocessing#transforms#2#output_postfix": "seg",
        "output_dir": str(folder),
    }
    return kind(config_file=str(file), workflow_type="infer", logging_file=False, **override, **more)


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_inference(kind, configs, image, tmp_path, suffix):
    workflow = inference(kind, configs / f"inference.{suffix}", image, tmp_path)
    with pytest.raises(RuntimeError, match="initialize"):
        _ = workflow.dataset
    workflow.initialize()
    assert workflow.check_properties() == []
    assert workflow.get_workflow_type() == "infer"
    assert workflow.get_meta_file() == str(configs / "metadata.json")
    assert isinstance(workflow.dataset, Dataset)
    assert workflow.dataset_data == [{"image": image}]
    assert workflow.dataset_dir == "/workspace/data"
    assert isinstance(workflow.inferer, SlidingWindowInferer)
    assert isinstance(workflow.preprocessing, Compose)
    assert isinstance(workflow.postprocessing, Compose)
    assert isinstance(workflow.evaluator, SupervisedEvaluator)
    assert workflow.handlers == []
    assert (workflow.version, workflow.monai_version) == ("0.1.0", "1.6.1")
    assert workflow.key_metric is None
    workflow.key_metric = "is not in the config, and not set"
    assert workflow.key_metric is None

    workflow.bundle_root = "/workspace/data/spleen_ct_segmentation"
    workflow.device = device = torch.device("cpu")
    with pytest.raises(RuntimeError, match="initialize"):
        _ = workflow.network_def
    workflow.initialize()
    workflow.network_def = network = deepcopy(workflow.network_def)
    workflow.inferer = inferer = SlidingWindowInferer(roi_size=(6, 6, 6))
    workflow.initialize()
    assert workflow.bundle_root == "/workspace/data/spleen_ct_segmentation"
    assert workflow.device is device
    assert workflow.network_def is network
    assert workflow.evaluator.inferer is inferer
    assert workflow.run() == [None, 1]
    assert workflow.finalize() == [None]
    assert LoadImage()(tmp_path / "image" / "image_seg.nii.gz").shape == SHAPE


@pytest.mark.slow
@BOTH
def test_inference_that_responds(kind, configs, image, tmp_path):
    """One workflow serves one request after another."""
    workflow = kind(config_file=str(configs / "responsive.json"), workflow_type="infer", logging_file=False)
    workflow.add_property(name="dataflow", required=True, config_id="dataflow")
    workflow.initialize()
    assert workflow.check_properties() == []
    for number in range(2):
        workflow.dataflow.clear()
        workflow.dataflow.update(LoadImaged(keys="image")({"image": image}))
        workflow.run()
        SaveImaged(keys="pred", output_dir=tmp_path / str(number), print_log=False)(workflow.dataflow)
        assert LoadImage()(tmp_path / str(number) / "image" / "image_trans.nii.gz").shape == SHAPE


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_training(kind, configs, image, tmp_path, suffix):
    override = {"data": [{"image": image}] * 3}
    workflow = kind(
        config_file=str(configs / f"train.{suffix}"), workflow_type="training", logging_file=False, **override
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    assert workflow.get_workflow_type() == "train"
    assert isinstance(workflow.trainer, SupervisedTrainer)
    assert isinstance(workflow.evaluator, SupervisedEvaluator)
    assert isinstance(workflow.train_dataset, Dataset)
    assert len(workflow.train_dataset_data) == len(workflow.val_dataset_data) == 3
    assert isinstance(workflow.train_inferer, SimpleInferer)
    assert isinstance(workflow.val_inferer, SlidingWindowInferer)
    assert [type(handler) for handler in workflow.train_handlers] == [ValidationHandler, StatsHandler]
    assert isinstance(workflow.train_preprocessing, Compose)
    assert "train_accuracy" in workflow.train_key_metric
    assert workflow.val_handlers is None
    assert workflow.val_key_metric is None
    assert workflow.max_epochs == 2
    workflow.add_property(name="loss", required=True, config_id="loss")
    workflow.add_property(name="lost", required=True, config_id="nowhere")
    assert type(workflow.loss).__name__ == "DiceLoss"

    dataset = Dataset(workflow.train_dataset_data[:2], workflow.train_preprocessing)
    workflow.bundle_root = str(tmp_path)
    workflow.train_dataset = dataset
    workflow.network_def = network = UNet(3, 1, 2, (2, 4), (2,))
    workflow.max_epochs = 1
    workflow.initialize()
    before = deepcopy(network.state_dict())
    assert workflow.run() == [None, 2]
    workflow.finalize()
    assert workflow.trainer.network is network
    assert any(not torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_missing_required_properties_are_listed(configs, image, tmp_path):
    """``ConfigWorkflow.check_properties`` itself raises KeyError for what it is to list."""
    workflow = inference(Workflow, configs / "inference.json", image, tmp_path)
    workflow.initialize()
    workflow.add_property(name="lost", required=True, config_id="nowhere")
    assert workflow.check_properties() == ["lost"]


@BOTH
def test_optional_properties_with_another_id_are_listed(kind, configs):
    other = {"other": {"_target_": "Compose", "transforms": []}, "train#dataset#transform": "@other"}
    workflow = kind(config_file=str(configs / "train.json"), logging_file=False, **other)
    workflow.initialize()
    assert workflow.check_properties() == ["train_preprocessing"]


@BOTH
def test_properties_from_a_file(kind, configs, image, tmp_path):
    properties = {
        "infer": {"net": {"description": "network", "required": True, "id": "network_def"}},
        "meta": {"version": {"description": "version", "required": True, "id": "_meta_::version"}},
    }
    path = tmp_path / "properties.json"
    path.write_text(json.dumps(properties))
    workflow = inference(kind, configs / "inference.json", image, tmp_path, properties_path=path)
    workflow.initialize()
    assert isinstance(workflow.net, UNet)
    assert workflow.version == "0.1.0"
    assert workflow.check_properties() == []
    with pytest.raises(ValueError, match="does not exist"):
        inference(kind, configs / "inference.json", image, tmp_path, properties_path=tmp_path / "none.json")


@BOTH
def test_meta_files(kind, configs, image, tmp_path):
    other = tmp_path / "meta.json"
    other.write_text(json.dumps({"version": "9.9.9"}))
    workflow = inference(kind, configs / "inference.json", image, tmp_path, meta_file=str(other))
    workflow.initialize()
    assert workflow.version == "9.9.9"
    both = [str(configs / "metadata.json"), str(other)]
    workflow = inference(kind, configs / "inference.json", image, tmp_path, meta_file=both)
    workflow.initialize()
    assert (workflow.version, workflow.monai_version) == ("9.9.9", "1.6.1")
    assert workflow.get_meta_file() == both


LOGGING = """
[loggers]
keys=root
[handlers]
keys=file
[formatters]
keys=plain
[logger_root]
level={level}
handlers=file
[handler_file]
class=FileHandler
args=('{path}',)
formatter=plain
[formatter_plain]
format=%(message)s
"""


@pytest.fixture
def root_logger():
    """Put back as it was."""
    root = logging.getLogger()
    level, handlers = root.level, [*root.handlers]
    yield root
    root.setLevel(level)
    root.handlers[:] = handlers


@BOTH
@pytest.mark.parametrize("given", [True, False], ids=["given", "of the bundle"])
def test_logging_file(kind, configs, tmp_path, monkeypatch, root_logger, given):
    monkeypatch.chdir(tmp_path)
    path = (tmp_path if given else configs) / "logging.conf"
    path.write_text(LOGGING.format(level="WARNING", path="run.log"))
    kind(config_file=str(configs / "train.json"), logging_file=str(path) if given else None)
    logging.getLogger("somewhere").warning("seen")
    assert "seen" in (tmp_path / "run.log").read_text()


@BOTH
def test_logging_file_that_is_not_there(kind, configs):
    with pytest.raises(FileNotFoundError, match=r"Cannot find the logging config file: .*wrong\.conf"):
        kind(config_file=str(configs / "train.json"), logging_file="wrong.conf")


@BOTH
def test_config_file_that_is_not_there(kind, configs):
    with pytest.raises(FileNotFoundError, match=r"Cannot find the config file: .*none\.json"):
        kind(config_file=str(configs / "none.json"), logging_file=False)


@BOTH
def test_a_run_id_that_is_not_there(kind, configs):
    workflow = kind(config_file=str(configs / "train.json"), logging_file=False, run_id="wrong")
    workflow.initialize()
    with pytest.raises(ValueError, match="run ID 'wrong' doesn't exist in the config file"):
        workflow.run()


@BOTH
def test_an_unknown_workflow_type(kind, configs):
    with pytest.raises(ValueError, match="Unsupported workflow type: 'guess'"):
        kind(config_file=str(configs / "train.json"), logging_file=False, workflow_type="guess")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [Workflow, "monai_lighter.Workflow", "monai_lighter.workflow.workflow.Workflow"], ids=str
)
def test_workflows_are_created_and_run_by_name(configs, image, tmp_path, name):
    file = str(configs / "inference.json")
    override = {"network": "$@network_def.to(@device)", "dataset#_target_": "Dataset", "dataset#data": [{"image": image}],
                "output_dir": str(tmp_path), "postprocessing#transforms#2#output_postfix": "seg"}  # fmt: skip
    workflow = create_workflow(name, config_file=file, workflow_type="infer", logging_file=False, **override)
    assert isinstance(workflow, Workflow)
    assert isinstance(workflow.evaluator, SupervisedEvaluator)
    workflow.finalize()
    run_workflow(name, config_file=file, workflow_type="infer", logging_file=False, **override)
    assert (tmp_path / "image" / "image_seg.nii.gz").is_file()


def test_arguments_of_a_workflow_from_a_file(configs, image, tmp_path):
    arguments = {"workflow_name": "monai_lighter.Workflow", "config_file": str(configs / "train.yaml"), "val_interval": 7,
                 "data": [{"image": image}], "logging_file": False}  # fmt: skip
    path = tmp_path / "args.json"
    path.write_text(json.dumps(arguments))
    workflow = create_workflow(args_file=str(path))
    assert isinstance(workflow, Workflow)
    assert workflow.parser["val_interval"] == 7


class Counted(BundleWorkflow):
    """A workflow with no config."""

    calls = []

    def __init__(self, workflow_type="train", **more):
        super().__init__(workflow_type=workflow_type)
        self.calls.append(more)

    def initialize(self):
        self.calls.append("initialize")

    def run(self):
        self.calls.append("run")

    def finalize(self):
        self.calls.append("finalize")

    def _get_property(self, name, property):
        return name

    def _set_property(self, name, property, value):
        pass


def test_a_workflow_with_no_config_runs_as_ever():
    Counted.calls.clear()
    run_workflow(Counted, much=3)
    assert Counted.calls == [{"much": 3}, "initialize", "run", "finalize"]


@pytest.mark.parametrize("native", [False, True], ids=["zoo", "native"])
def test_a_network_with_its_weights_is_loaded(configs, bundle, native):
    """``monai.bundle.load`` of a bundle in a local folder: it reads ``configs/train.json``."""
    root = bundle if native else configs.parent
    if native:
        config = yaml.safe_load((bundle / "configs" / "train.yaml").read_text())
        (bundle / "configs" / "train.json").write_text(json.dumps(config))
    workflow = Workflow(str(root / "configs" / "train.json"), logging_file=False)
    workflow.initialize()
    weights = {name: torch.full_like(value, 2) for name, value in workflow.network_def.state_dict().items()}
    (root / "models").mkdir()
    torch.save(weights, root / "models" / "model.pt")
    arguments = {"name": root.name, "bundle_dir": root.parent, "source": "github", "device": "cpu"}
    network = load(workflow_name="monai_lighter.Workflow", **arguments)
    assert isinstance(network, UNet)
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())
    (root / "models" / "model.pt").unlink()
    changed = {"channels": [3, 6]}
    workflow = Workflow(str(root / "configs" / "train.json"), logging_file=False, **{"network_def#channels": [3, 6]})
    workflow.initialize()
    torch.save(workflow.network_def.state_dict(), root / "models" / "model.pt")
    network = load(workflow_name=Workflow, net_override=changed, **arguments)
    shapes = [
        {name: value.shape for name, value in each.state_dict().items()} for each in (network, workflow.network_def)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.slow
def test_overrides_as_auto3dseg_makes_them(configs, image, tmp_path):
    """Several files joined by commas, ids with ``#`` at any depth, values of any kind, expressions among them."""
    more = configs / "hyper_parameters.yaml"
    more.write_text(yaml.safe_dump({"val_interval": 2, "train#trainer#max_epochs": "$@epochs * 2", "epochs": 1}))
    overrides = {
        "epochs": 2,
        "data": [{"image": image}],
        "train#preprocessing#transforms#1": {
            "_target_": "ScaleIntensityRanged",
            "keys": "image",
            "a_min": 0.0,
            "a_max": 1.0,
        },
        "train#dataloader#batch_size": 1,
        "optimizer#lr": "$0.1 / 2",
        "lightning::limit_train_batches": 1,
    }
    workflow = Workflow(f"{configs / 'train.yaml'},{more}", logging_file=False, **overrides)
    workflow.initialize()
    assert workflow.max_epochs == 4
    assert workflow.parser.get_parsed_content("optimizer").param_groups[0]["lr"] == 0.05
    assert type(workflow.train_preprocessing.transforms[1]).__name__ == "ScaleIntensityRanged"
    assert workflow.run() == [None, 4]
