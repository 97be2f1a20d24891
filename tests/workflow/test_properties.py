"""MONAI's names for the parts of a bundle, as its own tests of ConfigWorkflow use them (tests/bundle/test_bundle_workflow.py)."""

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.properties import InferProperties, TrainProperties
from monai.data import Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.transforms import Compose, LoadImaged

from monai_lighter import Workflow
from monai_lighter.workflow.properties import MissingPropertyError, make_native_properties, set_item


def train(bundle, **arguments):
    run = Workflow(str(bundle / "configs" / "train.yaml"), logging_file=False, **arguments)
    run.initialize()
    return run


def infer(bundle, **arguments):
    file = str(bundle / "configs" / "inference.yaml")
    run = Workflow(file, logging_file=False, workflow_type="infer", **arguments)
    run.initialize()
    return run


def test_properties_of_a_training(bundle):
    run = train(bundle)
    assert run.get_workflow_type() == "train"
    assert run.bundle_root == str(bundle)
    assert run.dataset_dir == str(bundle / "data")
    assert run.device == torch.device("cpu")
    assert run.max_epochs == 1
    assert run.trainer.max_epochs == 1
    assert isinstance(run.trainer, SupervisedTrainer)
    assert isinstance(run.evaluator, SupervisedEvaluator)
    assert run.trainer is run.trainer
    assert run.trainer.trainer is run.evaluator.trainer is run.parser.get_parsed_content("trainer")
    assert type(run.network_def).__name__ == "UNet"
    assert run.network_def is run.parser.get_parsed_content("system").model
    assert len(run.train_dataset) == len(run.train_dataset_data) == 4
    assert len(run.val_dataset) == len(run.val_dataset_data) == 2
    assert isinstance(run.val_preprocessing, Compose)
    assert type(run.val_postprocessing).__name__ == "AsDiscreted"
    assert list(run.val_key_metric) == ["dice"]
    assert isinstance(run.train_inferer, SimpleInferer)
    assert isinstance(run.val_inferer, SlidingWindowInferer)
    assert run.train_handlers is None
    assert run.val_interval is None
    assert run.check_properties() == []


def test_properties_of_an_inference(bundle):
    run = infer(bundle)
    assert run.get_workflow_type() == "infer"
    assert len(run.dataset) == len(run.dataset_data) == 2
    assert isinstance(run.preprocessing, Compose)
    assert isinstance(run.postprocessing, Compose)
    assert isinstance(run.inferer, SlidingWindowInferer)
    assert run.evaluator.trainer is run.parser.get_parsed_content("trainer")
    assert run.evaluator.stage == "predict"
    assert run.device.type == "cpu"
    assert run.handlers is None
    assert run.key_metric is None
    assert run.check_properties() == []


def test_an_evaluation_means_the_test_data(bundle, extra):
    loaders = {"test": {"_target_": "DataLoader", "dataset": {"_target_": "Dataset", "data": "$@data[:1]"}}}
    files = [str(bundle / "configs" / "inference.yaml"), extra({"system::dataloaders": loaders, "run": "$1"})]
    run = Workflow(files, logging_file=False, workflow_type="eval")
    run.initialize()
    assert run.stage is None
    assert len(run.dataset) == 1


def test_a_fit_of_an_inference_workflow_means_the_validation_data(bundle):
    run = Workflow(str(bundle / "configs" / "train.yaml"), logging_file=False, workflow_type="infer", run_id="fit")
    run.initialize()
    assert len(run.dataset) == 2


@pytest.mark.slow
def test_a_training_with_what_was_set(bundle):
    run = train(bundle)
    used = []

    class Recorded(Dataset):
        def __getitem__(self, index):
            used.append(index)
            return super().__getitem__(index)

    transform = Compose([LoadImaged(keys=["image", "label"], ensure_channel_first=True)])
    run.train_dataset = Recorded(run.train_dataset_data[:2], transform)
    run.network_def = network = torch.nn.Conv2d(1, 2, 1)
    run.max_epochs = 3
    run.device = "cpu"
    assert not run._is_initialized
    before = network.weight.detach().clone()
    run.run()
    assert run.trainer.current_epoch == 3
    assert sorted(used) == [0, 0, 0, 1, 1, 1]
    assert run.network_def is network
    assert not torch.equal(network.weight, before)


def test_the_device_is_the_trainers(bundle):
    run = train(bundle, run_id="fit")
    run.device = torch.device("cuda:1")
    assert run.parser["trainer::accelerator"] == run.config["trainer"]["accelerator"] == "cuda"
    assert run.parser["trainer::devices"] == run.config["trainer"]["devices"] == [1]
    run.device = "cpu"
    assert run.parser["trainer::accelerator"] == "cpu"
    run = train(bundle, run_id="fit", device="cpu")
    run.device = torch.device("meta")
    run.initialize()
    assert run.device == torch.device("meta")
    assert run.parser["trainer::accelerator"] == "cpu"


def test_properties_can_be_set_before_initialize(bundle):
    run = Workflow(str(bundle / "configs" / "train.yaml"), logging_file=False, run_id="fit")
    run.max_epochs = 2
    run.network_def = network = torch.nn.Conv2d(1, 2, 1)
    with pytest.raises(RuntimeError, match="initialize"):
        _ = run.max_epochs
    run.initialize()
    assert run.max_epochs == 2
    assert run.network_def is network
    assert run.parser.get_parsed_content("system").model is network


@pytest.mark.slow
def test_an_inference_with_what_was_set(bundle, tmp_path):
    run = infer(bundle)
    run.dataset_data = [{"image": str(bundle / "data" / "image_0.nii.gz")}]
    run.network_def = torch.nn.Conv2d(1, 2, 1)
    run.inferer = SlidingWindowInferer(roi_size=(8, 8))
    run.bundle_root = str(tmp_path)
    run.initialize()
    assert run.parser.get_parsed_content("system").inferer["predict"].roi_size == (8, 8)
    run.run()
    assert [path.name for path in (tmp_path / "eval").glob("*.nii.gz")] == ["image_0_trans.nii.gz"]


def test_one_inferer_for_all_modes_stays_that_of_the_others(bundle):
    run = Workflow(str(bundle / "configs" / "train.yaml"), logging_file=False, run="$1")
    run.initialize()
    run.val_inferer = SimpleInferer()
    run.train_inferer = train_inferer = SimpleInferer()
    run.initialize()
    inferer = run.parser.get_parsed_content("system").inferer
    assert type(inferer["val"]) is SimpleInferer
    assert inferer["train"] is train_inferer
    assert isinstance(inferer["test"], SlidingWindowInferer)
    assert run.config["system"]["inferer"]["test"] == {"_target_": "SlidingWindowInferer", "roi_size": [16, 16]}
    assert "SimpleInferer" in run.config["system"]["inferer"]["val"]


@pytest.mark.slow
def test_handlers_are_callbacks(bundle):
    run = train(bundle)
    run.train_handlers = [{"_target_": "monai_lighter.ModelWeights", "path": str(bundle / "here.pt")}]
    run.run()
    assert (bundle / "here.pt").is_file()
    assert not (bundle / "models").exists()


def test_what_is_missing_is_listed(bundle):
    run = Workflow(str(bundle / "configs" / "inference.yaml"), logging_file=False, run_id="predict")
    run.initialize()
    assert run.check_properties() == ["max_epochs", "train_dataset"]
    with pytest.raises(
        MissingPropertyError, match="'train_dataset' with config ID 'system::dataloaders::train::dataset'"
    ):
        _ = run.train_dataset
    assert issubclass(MissingPropertyError, (AttributeError, KeyError))


def test_properties_can_be_added(bundle):
    run = infer(bundle)
    run.add_property(name="where", required=True, config_id="output_dir", desc="…")
    run.add_property(name="preparation", required=True, config_id="system::dataloaders::predict::dataset::transform")
    run.add_property(name="lost", required=True, config_id="nowhere::at::all")
    assert run.where == str(bundle / "eval")
    assert isinstance(run.preparation, Compose)
    assert run.check_properties() == ["lost"]
    run.where = "/other"
    run.initialize()
    assert run.parser.get("output_dir") == "/other"


def test_with_no_workflow_type_only_metadata_is_known(bundle):
    run = Workflow(str(bundle / "configs" / "train.yaml"), logging_file=False, workflow_type=None, run_id="fit")
    run.initialize()
    assert run.version == "0.1.0"
    assert "max_epochs" not in run.properties
    assert run.check_properties() == []


def test_monais_own_tables_are_not_changed():
    properties = make_native_properties(TrainProperties, {}, "train", "fit")
    assert properties["trainer"]["id"] == "trainer"
    assert properties["network_def"]["id"] == "system::model"
    assert TrainProperties["trainer"]["id"] == "train::trainer"
    properties = make_native_properties(InferProperties, {"network_def": 1}, "infer", "validate")
    assert properties["dataset"]["id"] == "system::dataloaders::val::dataset"
    assert properties["network_def"]["id"] == "network_def"
    assert InferProperties["dataset"]["id"] == "dataset"


def test_a_section_that_is_not_there_is_made():
    parser = ConfigParser({"system": "@mine", "mine": {"inferer": "@one"}, "one": {"_target_": "SimpleInferer"}})
    set_item(parser, "system::inferer::val", 3)
    set_item(parser, "trainer::max_epochs", 2)
    one = {"_target_": "SimpleInferer"}
    assert parser["mine"]["inferer"] == {"val": 3, "test": one, "predict": one}
    assert parser["trainer"] == {"max_epochs": 2}


ZOO_STYLE = """
bundle_root: /bundle
device: cpu
dataset_dir: /data
network_def: {_target_: torch.nn.Conv2d, in_channels: 1, out_channels: 1, kernel_size: 1}
network: $@network_def.to(@device)
preprocessing: {_target_: Compose, transforms: []}
dataset: {_target_: Dataset, data: [{image: 1}], transform: "@preprocessing"}
inferer: {_target_: SimpleInferer}
postprocessing: {_target_: Compose, transforms: []}
evaluator: {_target_: builtins.dict, network: "@network"}
run: ["$@evaluator['network']"]
"""


@pytest.mark.parametrize("kind", [ConfigWorkflow, Workflow])
def test_configs_with_no_system_are_as_under_config_workflow(extra, kind):
    run = kind(extra(ZOO_STYLE, "zoo.yaml"), logging_file=False, workflow_type="infer")
    run.initialize()
    run.network_def = network = torch.nn.Conv2d(1, 1, 1)
    run.initialize()
    assert run.bundle_root == "/bundle"
    assert run.inferer is run.parser.get_parsed_content("inferer")
    assert run.dataset_data == [{"image": 1}]
    assert run.key_metric is None
    run.add_property(name="net", required=True, config_id="network")
    assert run.net is network
    assert run.run() == [network]


def test_what_a_zoo_style_config_misses_is_listed_too(extra):
    run = Workflow(extra(ZOO_STYLE, "zoo.yaml"), logging_file=False, workflow_type="infer")
    run.initialize()
    run.add_property(name="lost", required=True, config_id="nowhere")
    assert run.check_properties() == ["lost"]
    with pytest.raises(KeyError):
        _ = run.lost
