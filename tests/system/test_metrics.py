"""Aggregates over the epoch, as `System` logs them, against values computed by hand on the whole data at once."""

import copy
import math

import numpy as np
import pytest
import torch
from monai.metrics import (
    ConfusionMatrixMetric,
    DiceMetric,
    HausdorffDistanceMetric,
    LossMetric,
    MAEMetric,
    MeanIoU,
    ROCAUCMetric,
)
from monai.networks.utils import one_hot
from monai.transforms import AsDiscreted
from parts import Memory, classifier, items, loader, pairs, trainer
from sklearn.metrics import roc_auc_score
from torch import nn
from torchmetrics import MeanAbsoluteError, MeanMetric, MetricCollection
from torchmetrics.classification import BinaryF1Score, MulticlassAccuracy, MulticlassAUROC, MulticlassF1Score
from torchmetrics.wrappers import (
    BootStrapper,
    ClasswiseWrapper,
    LambdaInputTransformer,
    MinMaxMetric,
    MultioutputWrapper,
    Running,
)

from monai_lighter import MetricsAdapter, System
from monai_lighter.system.metrics import EpochMean, Metrics, lower_is_better
from monai_lighter.system.tensors import plain


class Threshold(nn.Module):
    """Two classes, by brightness."""

    def forward(self, x):
        return torch.cat([0.5 - x, x - 0.5], 1)


POST = AsDiscreted(["pred", "label"], argmax=[True, False], to_onehot=2)


def segmented(tmp_path, metrics, data=None, batch_size=2, **kwargs):
    """What a test run of `Threshold` logs."""
    data = items(5) if data is None else data
    system = System(
        Threshold(),
        {"test": loader(data, batch_size)},
        metrics={"test": metrics},
        postprocessing={"test": POST},
        **kwargs,
    )
    return trainer(tmp_path).test(system, verbose=False)[0]


def whole(data):
    """Prediction and target of all items, one-hot ``(N, 2, 8, 8)``."""
    images, labels = (torch.stack([item[key] for item in data]) for key in ("image", "label"))
    return one_hot(Threshold()(images).argmax(1, keepdim=True), 2), one_hot(labels, 2)


@pytest.mark.slow
class TestTorchmetrics:
    def classified(self, tmp_path, metrics, model=None):
        system = System(model or classifier(), {"test": loader(pairs(7))}, metrics={"test": metrics})
        return trainer(tmp_path).test(system, verbose=False)[0]

    @property
    def pred_target(self):
        return classifier()(torch.stack([x for x, _ in pairs(7)])).detach(), torch.tensor([y for _, y in pairs(7)])

    @pytest.mark.parametrize("given", ["one", "list", "dict", "collection", "prefixed"])
    def test_every_way_to_give_them(self, tmp_path, given):
        metric = MulticlassF1Score(3)
        metrics, name = {
            "one": (metric, "MulticlassF1Score"),
            "list": ([metric, MulticlassAccuracy(3)], "MulticlassF1Score"),
            "dict": ({"f1": metric}, "f1"),
            "collection": (MetricCollection({"f1": metric, "acc": MulticlassAccuracy(3)}), "f1"),
            "prefixed": (MetricCollection([metric], prefix="my_"), "my_MulticlassF1Score"),
        }[given]
        result = self.classified(tmp_path, metrics)
        assert result[f"test/metrics/{name}/epoch"] == pytest.approx(float(MulticlassF1Score(3)(*self.pred_target)))

    def test_the_epochs_value_is_the_metrics_own_not_a_mean_over_batches(self, tmp_path):
        result = self.classified(tmp_path, {"auroc": MulticlassAUROC(3)})
        assert result["test/metrics/auroc/epoch"] == pytest.approx(float(MulticlassAUROC(3)(*self.pred_target)))

    def test_a_vector_gives_its_mean_and_each_class(self, tmp_path):
        result = self.classified(tmp_path, {"f1": MulticlassF1Score(3, average="none")})
        expected = MulticlassF1Score(3, average="none")(*self.pred_target)
        assert result["test/metrics/f1/epoch"] == pytest.approx(float(expected.mean()))
        assert [result[f"test/metrics/f1/{i}/epoch"] for i in range(3)] == pytest.approx(expected.tolist())

    def test_a_dictionary_gives_its_keys(self, tmp_path):
        class Extremes(MeanMetric):
            def update(self, pred, target):
                super().update(pred)

            def compute(self):
                return {"mean": super().compute(), "double": 2 * super().compute()}

        result = self.classified(tmp_path, {"x": Extremes()})
        assert result["test/metrics/x/double/epoch"] == pytest.approx(2 * float(self.pred_target[0].mean()))

    def test_a_dictionary_of_classes_has_a_mean_too(self, tmp_path):
        result = self.classified(
            tmp_path, {"x": ClasswiseWrapper(MulticlassAccuracy(3, average=None), ["a", "b", "c"])}
        )
        parts = [value for name, value in result.items() if name.startswith("test/metrics/x/multiclass")]
        assert len(parts) == 3
        assert result["test/metrics/x/epoch"] == pytest.approx(sum(parts) / 3)

    def test_a_list_gives_its_places(self, tmp_path):
        class Two(MeanMetric):
            def update(self, pred, target):
                super().update(pred)

            def compute(self):
                return [super().compute(), torch.tensor(True)]

        result = self.classified(tmp_path, {"x": Two()})
        assert result["test/metrics/x/0/epoch"] == pytest.approx(float(self.pred_target[0].mean()))
        assert result["test/metrics/x/1/epoch"] == 1

    def test_items_after_postprocessing_are_stacked_again(self, tmp_path):
        result = segmented(tmp_path, {"f1": BinaryF1Score()})
        pred, target = whole(items(5))
        assert result["test/metrics/f1/epoch"] == pytest.approx(float(BinaryF1Score()(pred, target)))


@pytest.mark.slow
class TestMonai:
    @pytest.mark.parametrize("batch_size", [1, 2, 5])
    def test_dice_is_that_of_all_cases_at_once(self, tmp_path, batch_size):
        metric = DiceMetric(include_background=False)
        metric(*whole(items(5)))
        result = segmented(tmp_path, {"dice": DiceMetric(include_background=False)}, batch_size=batch_size)
        assert result["test/metrics/dice/epoch"] == float(metric.aggregate())

    def test_mean_over_cases_gives_each_class(self, tmp_path):
        metric = DiceMetric(reduction="mean_batch")
        metric(*whole(items(5)))
        expected = metric.aggregate()
        result = segmented(tmp_path, {"dice": DiceMetric(reduction="mean_batch")})
        assert [result[f"test/metrics/dice/{i}/epoch"] for i in (0, 1)] == expected.tolist()
        assert result["test/metrics/dice/epoch"] == pytest.approx(float(expected.mean()))

    def test_classes_are_counted_from_one_where_the_background_is_left_out(self, tmp_path):
        metric = DiceMetric(include_background=False, reduction="mean_batch")
        three = AsDiscreted(["pred", "label"], to_onehot=3, argmax=[True, False])
        system = System(
            nn.Conv2d(1, 3, 1),
            {"test": loader(items(4, classes=3))},
            metrics={"test": {"dice": metric}},
            postprocessing={"test": three},
        )
        (result,) = trainer(tmp_path).test(system, verbose=False)
        assert sorted(result) == [f"test/metrics/dice/{name}epoch" for name in ("1/", "2/", "")]

    @pytest.mark.parametrize("reduction", ["none", "mean_channel"])
    def test_values_of_cases_are_averaged_over_them(self, tmp_path, reduction):
        metric = DiceMetric(reduction=reduction)
        metric(*whole(items(5)))
        expected = metric.aggregate().mean(dim=0)
        result = segmented(tmp_path, {"dice": DiceMetric(reduction=reduction)})
        assert result["test/metrics/dice/epoch"] == pytest.approx(float(expected.mean()))
        classes = [
            value for name, value in result.items() if name.startswith("test/metrics/dice/") and name[18].isdigit()
        ]
        assert classes == pytest.approx(expected.tolist() if expected.ndim else [])

    @pytest.mark.parametrize("counts", [False, True])
    def test_classes_with_names_have_a_mean_too(self, tmp_path, counts):
        metric = DiceMetric(reduction="mean_batch", return_with_label=["gm", "wm"], get_not_nans=counts)
        result = segmented(tmp_path, {"dice": metric})
        both = [result[f"test/metrics/dice/{name}/epoch"] for name in ("gm", "wm")]
        assert result["test/metrics/dice/epoch"] == pytest.approx(sum(both) / 2)
        assert next(iter(result)) == "test/metrics/dice/epoch"

    @pytest.mark.parametrize("reduction", ["mean", "mean_batch"])
    def test_counts_of_cases_stand_beside_the_value(self, tmp_path, reduction):
        data = items(3)
        data[0]["label"][:] = 0  # no foreground: NaN
        metric = DiceMetric(include_background=False, get_not_nans=True, reduction=reduction, ignore_empty=True)
        result = segmented(tmp_path, {"dice": metric}, data)
        again = DiceMetric(include_background=False)
        pred, target = whole(data[1:])
        again(pred, target)
        assert result["test/metrics/dice/epoch"] == pytest.approx(float(again.aggregate()))
        assert result["test/metrics/dice/not_nans/epoch"] == 2

    def test_cases_that_have_no_value_do_not_count(self, tmp_path):
        data = items(4)
        data[2]["label"][:] = data[2]["image"][:] = 0
        metric = HausdorffDistanceMetric(include_background=False)
        pred, target = whole([item for i, item in enumerate(data) if i != 2])
        metric(pred, target)
        result = segmented(tmp_path, {"hd": HausdorffDistanceMetric(include_background=False)}, data)
        assert result["test/metrics/hd/epoch"] == pytest.approx(float(metric.aggregate()))

    def test_the_results_of_a_confusion_matrix_have_their_names(self, tmp_path):
        names = ["sensitivity", "precision", "f1 score"]
        metric = ConfusionMatrixMetric(include_background=False, metric_name=names, compute_sample=True)
        metric(*whole(items(5)))
        expected = [float(value) for value in metric.aggregate()]
        result = segmented(
            tmp_path, {"cm": ConfusionMatrixMetric(include_background=False, metric_name=names, compute_sample=True)}
        )
        assert [result[f"test/metrics/cm/{name}/epoch"] for name in names] == pytest.approx(expected)
        single = segmented(
            tmp_path,
            {
                "cm": ConfusionMatrixMetric(
                    include_background=False, compute_sample=True, get_not_nans=True, metric_name="sensitivity"
                )
            },
        )
        assert single["test/metrics/cm/epoch"] == pytest.approx(expected[0])
        assert single["test/metrics/cm/not_nans/epoch"] == 5

    def test_area_under_the_curve_needs_all_cases(self, tmp_path):
        data = [{"image": x, "label": int(y > 0)} for x, y in pairs(9)]
        model = nn.Sequential(classifier(), nn.Softmax(1))
        adapter = (
            MetricsAdapter(0, 1)
            if False
            else MetricsAdapter(pred_argument=0, target_argument=1, pred_transforms=lambda p: p[:, 0])
        )
        system = System(
            model,
            {"test": loader(data)},
            metrics={"test": {"auc": ROCAUCMetric()}},
            adapters={"test": {"metrics": adapter}},
        )
        result = trainer(tmp_path).test(system, verbose=False)[0]
        scores = model(torch.stack([item["image"] for item in data]))[:, 0].detach()
        expected = roc_auc_score([item["label"] for item in data], scores)
        assert result["test/metrics/auc/epoch"] == pytest.approx(expected)

    def test_every_epoch_starts_anew(self, tmp_path):
        log = Memory()
        model = nn.Conv2d(1, 2, 1)
        system = System(
            model,
            {"train": loader(items(2)), "val": loader(items(4))},
            optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
            criterion=lambda pred, target: pred.mean(),
            metrics={"train": {"iou": MeanIoU()}, "val": {"iou": MeanIoU()}},
            postprocessing={"train": POST, "val": POST},
        )
        trainer(tmp_path, logger=log, max_epochs=3).fit(system)
        for mode in ("train", "val"):
            values = log.values(f"{mode}/metrics/iou/epoch")
            assert len(values) == 3
            assert len(set(values)) == 1
            assert f"{mode}/metrics/iou/step" not in log.keys  # one row per case is no value of a step
            assert len(system.metrics[mode]["iou"]) == 0

    def test_two_kinds_side_by_side(self, tmp_path):
        result = segmented(tmp_path, {"f1": BinaryF1Score(), "dice": DiceMetric()})
        assert {"test/metrics/f1/epoch", "test/metrics/dice/epoch"} <= result.keys()


class TestArguments:
    @pytest.mark.parametrize("name", ["dice.fg", "values", "training"])
    def test_any_name(self, name):
        metrics = Metrics({name: MulticlassAccuracy(3)})
        assert any(module is metrics[name] for module in metrics.modules())
        assert copy.deepcopy(metrics)[name] is not metrics[name]
        metrics[name].update(torch.tensor([0, 1]), torch.tensor([0, 1]))
        assert metrics.compute().keys() == {name}

    def test_two_of_a_class_need_names(self):
        with pytest.raises(ValueError, match="metrics of one class need names"):
            Metrics([DiceMetric(), DiceMetric()])

    def test_something_else_is_an_error(self):
        with pytest.raises(TypeError, match=r"metric 'loss' must be a torchmetrics.Metric or a MONAI .*, got L1Loss"):
            Metrics({"loss": nn.L1Loss()})

    @pytest.mark.parametrize(
        ("metric", "expected"),
        [
            (DiceMetric(), False),
            (MeanIoU(), False),
            (HausdorffDistanceMetric(), True),
            (MAEMetric(), True),
            (LossMetric(nn.L1Loss()), True),
            (MulticlassAccuracy(3), False),
            (MeanMetric(), False),
            (ConfusionMatrixMetric(metric_name="sensitivity"), False),
            (ConfusionMatrixMetric(metric_name=["false positive rate", "sensitivity"]), True),
            (LambdaInputTransformer(MeanAbsoluteError()), True),
            (LambdaInputTransformer(MulticlassAccuracy(3)), False),
            (MinMaxMetric(Running(MeanAbsoluteError())), True),
            (MultioutputWrapper(MeanAbsoluteError(), 2), True),
            (BootStrapper(MeanAbsoluteError()), True),
        ],
    )
    def test_lower_is_better(self, metric, expected):
        assert lower_is_better(metric) is expected

    def test_plain_keeps_structure(self):
        named = np.zeros(2)
        assert plain({"a": [1, (torch.zeros(1),)], "b": named})["b"] is named

    def test_mean_of_nothing_is_empty_and_nan_shows(self):
        mean = EpochMean()
        assert mean.compute() == {}
        mean.update("loss", torch.tensor(1.0), 2)
        mean.update("loss", torch.tensor(4.0, dtype=torch.float64), 1)
        assert mean.compute() == {"loss": pytest.approx(2.0)}
        mean.update("loss", torch.tensor(math.nan), 1)
        assert mean.compute()["loss"].isnan()
