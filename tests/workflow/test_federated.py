"""MONAI's clients of federated learning with workflows of ours, on both kinds of config."""

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.fl.client import MonaiAlgo, MonaiAlgoStats
from monai.fl.utils.constants import ExtraItems, FlStatistics, ModelType
from monai.fl.utils.exchange_object import ExchangeObject
from monai.utils import set_determinism
from zoo import write_bundle
from zoo_parts import Net, summary

from monai_lighter import Workflow

pytestmark = pytest.mark.slow

EXTRA = {ExtraItems.CLIENT_NAME: "client", ExtraItems.APP_ROOT: ""}
ZOO = {"dataset_dir": ".", "train#trainer#key_train_metric": "@train#key_metric"}


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A bundle of MONAI's engines; commands run in its folder."""
    root = tmp_path / "zoo"
    write_bundle(root, ZOO)
    monkeypatch.chdir(root)
    yield root
    set_determinism(None)


def client(root, kind, **arguments):
    """A client with a training and an evaluating workflow, initialized."""

    def workflow():
        return kind(str(root / "configs" / "train.yaml"), logging_file=False, workflow_type="train")

    algo = MonaiAlgo(str(root), train_workflow=workflow(), eval_workflow=workflow(), **arguments)
    algo.initialize(EXTRA)
    return algo


def rounds(algo, weights, count=2):
    """Weights and metrics after some rounds of one client."""
    for _ in range(count):
        algo.train(ExchangeObject(weights=weights))
        weights = algo.get_weights().weights
        metrics = algo.evaluate(ExchangeObject(weights=weights)).metrics
    return weights, metrics, algo.get_weights().statistics


def test_a_zoo_bundle_learns_what_it_learns_under_ignite(zoo):
    torch.manual_seed(1)
    start = Net().state_dict()
    results = []
    for kind in (ConfigWorkflow, Workflow):
        algo = client(zoo, kind, send_weight_diff=False)
        assert isinstance(algo.trainer, SupervisedTrainer)
        set_determinism(0)
        results.append(rounds(algo, start))
        algo.finalize()
    reference, ours = results
    assert summary(ours[0]) == summary(reference[0])
    assert ours[1] == reference[1]
    assert ours[2] == reference[2]
    assert ours[2][FlStatistics.NUM_EXECUTED_ITERATIONS] == 3
    assert summary(ours[0]) != summary(start)


def test_the_lightning_section_holds_for_a_client_too(zoo):
    write_bundle(zoo, {**ZOO, "lightning": {"limit_train_batches": 1}})
    algo = client(zoo, Workflow)
    algo.train(ExchangeObject(weights=Net().state_dict()))
    assert algo.trainer.state.iteration == 1


def test_native_learns_and_is_evaluated(bundle):
    algo = client(bundle, Workflow, send_weight_diff=False)
    assert isinstance(algo.trainer, SupervisedTrainer)
    assert isinstance(algo.evaluator, SupervisedEvaluator)
    torch.manual_seed(1)
    start = {name: torch.randn_like(value) * 0.1 for name, value in algo.trainer.network.state_dict().items()
             if value.is_floating_point()}  # fmt: skip
    weights, metrics, statistics = rounds(algo, start)
    assert any(not torch.equal(weights[name], start[name]) for name in start)
    assert 0 <= metrics["val/metrics/dice/epoch"] <= 1
    assert statistics["current_epoch"] == 2
    assert statistics[FlStatistics.NUM_EXECUTED_ITERATIONS] == 2
    network = algo.evaluator.network
    assert network is not algo.trainer.network
    assert all(torch.equal(network.state_dict()[name], weights[name]) for name in weights)
    algo.finalize()


def test_native_rounds_are_the_fit_of_as_many_epochs(bundle):
    """Two rounds of one epoch, with the weights sent back as they came, are a fit of two epochs."""
    loader = {"system::dataloaders::train::shuffle": False, "augmentation": [], "logging_file": False}
    file = str(bundle / "configs" / "train.yaml")
    torch.manual_seed(0)
    whole = Workflow(file, run_id="fit", trainer={"max_epochs": 2, "logger": False}, **loader)
    whole.run()
    torch.manual_seed(0)
    algo = MonaiAlgo(str(bundle), train_workflow=Workflow(file, **loader), config_evaluate_filename=None,
                     send_weight_diff=False)  # fmt: skip
    algo.initialize(EXTRA)
    weights = algo.get_weights().weights
    for _ in range(2):
        algo.train(ExchangeObject(weights=weights))
        weights = algo.get_weights().weights
    assert summary(weights) == summary(whole.network_def.state_dict())


def test_native_weight_differences_and_the_best_model(bundle):
    algo = client(bundle, Workflow)
    start = {name: value.clone() for name, value in algo.trainer.network.state_dict().items()}
    algo.train(ExchangeObject(weights=start))
    difference = algo.get_weights().weights
    now = algo.trainer.network.state_dict()
    assert all(torch.equal(difference[name], now[name] - start[name]) for name in start)
    best = algo.get_weights({ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL}).weights
    assert best.keys() == now.keys()


@pytest.mark.parametrize("native", [True, False], ids=["native", "zoo"])
def test_a_round_is_aborted_and_the_next_goes_on(bundle, zoo, native):
    algo = client(bundle if native else zoo, Workflow, local_epochs=3)
    weights = {name: value.clone() for name, value in algo.trainer.network.state_dict().items()}
    handler = algo.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: algo.abort())
    algo.train(ExchangeObject(weights=weights))
    assert algo.trainer.state.iteration == 1
    handler.remove()
    algo.train(ExchangeObject(weights=weights))
    assert algo.trainer.state.iteration > 3
    algo.finalize()


def test_handlers_see_a_native_fit(bundle):
    workflow = Workflow(str(bundle / "configs" / "train.yaml"), logging_file=False)
    workflow.initialize()
    seen = []
    for event in (
        Events.STARTED,
        Events.EPOCH_STARTED,
        Events.ITERATION_COMPLETED,
        Events.EPOCH_COMPLETED,
        Events.COMPLETED,
    ):
        workflow.trainer.add_event_handler(
            event, lambda engine, name: seen.append((name, engine.state.iteration)), event.name
        )
    workflow.trainer.run()
    assert seen == [("STARTED", 0), ("EPOCH_STARTED", 0), ("ITERATION_COMPLETED", 1), ("ITERATION_COMPLETED", 2),
                    ("EPOCH_COMPLETED", 2), ("COMPLETED", 2)]  # fmt: skip
    assert float(workflow.trainer.state.output["loss"]) > 0
    assert "val/metrics/dice/epoch" in workflow.trainer.state.metrics
    assert workflow.trainer.current_epoch == 1
    with pytest.raises(AttributeError, match="nothing"):
        _ = workflow.trainer.nothing


def test_an_evaluation_of_a_native_config_is_its_test(bundle, extra):
    loader = {"_target_": "DataLoader", "dataset": "%system::dataloaders::val::dataset"}
    more = {"system::dataloaders::test": loader, "system::metrics::test": {"dice": {"_target_": "DiceMetric"}},
            "system::postprocessing::test": "%system::postprocessing::val"}  # fmt: skip
    workflow = Workflow([str(bundle / "configs" / "train.yaml"), extra(more)], logging_file=False, workflow_type="eval")
    workflow.initialize()
    workflow.evaluator.run()
    assert 0 <= workflow.evaluator.state.metrics["test/metrics/dice/epoch"] <= 1


@pytest.mark.parametrize("native", [True, False], ids=["native", "zoo"])
def test_statistics_of_the_data(bundle, zoo, tmp_path, native):
    root = bundle if native else zoo
    if not native:
        pair = "{'image': f'@dataset_dir@/image_{i}.nii.gz', 'label': f'@dataset_dir@/label_{i}.nii.gz'}"
        data = f"$[{pair} for i in range(4)]".replace("@dataset_dir@", str(bundle / "data"))
        write_bundle(
            zoo, {**ZOO, "dataset_dir": str(bundle / "data"), "train#dataset#data": data, "validate#dataset#data": data}
        )
    workflow = Workflow(str(root / "configs" / "train.yaml"), logging_file=False, workflow_type="train")
    algo = MonaiAlgoStats(str(root), workflow=workflow)
    algo.initialize({ExtraItems.CLIENT_NAME: "client", ExtraItems.APP_ROOT: str(tmp_path)})
    stats = algo.get_data_stats({FlStatistics.HIST_BINS: 10, FlStatistics.HIST_RANGE: [-1, 2]}).statistics
    assert stats["train"]["data_count"] == 4
    assert stats["eval"]["data_count"] == (2 if native else 4)
    algo.finalize()
