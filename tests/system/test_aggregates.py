"""A class that is nowhere has no value, in every metric and reduction; numbers by numpy over the values that there are."""

import math
import warnings

import numpy as np
import pytest
import torch
from monai.metrics import (
    AbsoluteVolumeDifferenceMetric,
    AveragePrecisionMetric,
    CalibrationErrorMetric,
    ConfusionMatrixMetric,
    Cumulative,
    CumulativeIterationMetric,
    DiceMetric,
    FBetaScore,
    HausdorffDistanceMetric,
    LossMetric,
    MeanIoU,
    MSEMetric,
    PanopticQualityMetric,
    ROCAUCMetric,
    SurfaceDiceMetric,
    SurfaceDistanceMetric,
)
from monai.metrics.utils import do_metric_reduction
from monai.networks.utils import one_hot
from monai.transforms import AsDiscreted
from parts import classification, loader, trainer
from torch import nn
from torchmetrics import MeanMetric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassJaccardIndex,
    MulticlassPrecision,
)
from torchmetrics.segmentation import MeanIoU as TorchMeanIoU
from torchmetrics.wrappers import ClasswiseWrapper, MinMaxMetric, Running

from monai_lighter import MetricsAdapter, System
from monai_lighter.system.aggregates import aggregate, check_labels, name_classes
from monai_lighter.system.metrics import Metrics

warnings.filterwarnings("ignore")
REDUCTIONS = ("none", "mean", "sum", "mean_batch", "sum_batch", "mean_channel", "sum_channel")
NAN = math.nan


class Given(CumulativeIterationMetric):
    """A user's metric whose values ``(B, C)`` are given, reduced as MONAI's examples have it."""

    def __init__(self, reduction):
        super().__init__()
        self.reduction = reduction

    def _compute_tensor(self, y_pred, y=None):
        return y_pred

    def aggregate(self):
        return do_metric_reduction(self.get_buffer(), self.reduction)[0]


class Counted(DiceMetric):
    """One of MONAI's whose values ``(B, C)`` are given."""

    def _compute_tensor(self, y_pred, y):
        return y_pred


def by_numpy(values, reduction):
    """``(value, classes)`` as they are to be logged; of MONAI's reductions, over what is no NaN, with NaN for nothing."""
    values = np.asarray(values)
    known = ~np.isnan(values)

    def mean(x, axis):
        count = (~np.isnan(x)).sum(axis)
        return np.where(count > 0, np.nansum(x, axis) / np.maximum(count, 1), NAN)

    def total(axis):
        return np.where(known.any(axis), np.nansum(values, axis), NAN)

    if reduction == "sum":
        return total((0, 1)), None
    if reduction == "mean":
        return mean(mean(values, 1), 0), None
    if reduction == "mean_channel":
        return mean(mean(values, 1), 0), None
    if reduction == "sum_channel":
        return mean(total(1), 0), None
    classes = total(0) if reduction == "sum_batch" else mean(values, 0)
    return mean(classes, 0), classes


VALUES = {
    "all known": [[0.5, 0.2, 1.0], [0.25, 0.0, 0.5]],
    "a class nowhere": [[0.5, NAN, 1.0], [0.25, NAN, 0.5]],
    "a case of nothing": [[NAN, NAN, NAN], [0.25, 0.75, NAN]],
    "nothing": [[NAN, NAN, NAN], [NAN, NAN, NAN]],
    "zeros": [[0.0, 0.0, NAN], [0.0, NAN, NAN]],
}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("counts", [None, False, True])
def test_what_is_nowhere_has_no_value_in_any_reduction(values, reduction, counts):
    metric = Given(reduction) if counts is None else Counted(reduction=reduction, get_not_nans=counts)
    metrics = Metrics({"x": metric})
    for row in values:  # in batches of one
        metrics.update(MetricsAdapter(0, None, 1), torch.tensor([row]), None, torch.tensor([row]))
    found = metrics.compute()
    value, classes = by_numpy(values, reduction)
    assert float(found["x"]) == pytest.approx(float(value), nan_ok=True)
    if classes is not None:
        assert [float(found[f"x/{i}"]) for i in range(3)] == pytest.approx(classes.tolist(), nan_ok=True)
    assert getattr(metric, "get_not_nans", counts) is counts


class TestMonai:
    """Class 2 of 3 is in no case, neither true nor predicted; the prediction of the others is perfect."""

    maps = torch.stack([torch.arange(64).reshape(1, 8, 8) % 2, torch.arange(64).reshape(1, 8, 8) // 32])
    hot = one_hot(maps, 3)

    @pytest.mark.parametrize(
        ("metric", "best"),
        [
            (DiceMetric(reduction="mean_batch"), 1),
            (DiceMetric(reduction="mean_batch", return_with_label=["a", "b", "c"]), 1),
            (MeanIoU(reduction="mean_batch"), 1),
            (HausdorffDistanceMetric(include_background=True, reduction="mean_batch"), 0),
            (SurfaceDistanceMetric(include_background=True, reduction="mean_batch"), 0),
            (SurfaceDiceMetric([1, 1, 1], include_background=True, reduction="mean_batch"), 1),
            (AbsoluteVolumeDifferenceMetric(reduction="mean_batch"), 0),
            (ConfusionMatrixMetric(metric_name="f1 score", reduction="mean_batch"), 1),
            (ConfusionMatrixMetric(metric_name="f1 score", reduction="mean_batch", compute_sample=True), 1),
            (
                ConfusionMatrixMetric(
                    metric_name="f1 score", reduction="mean_batch", compute_sample=True, get_not_nans=True
                ),
                1,
            ),
        ],
    )
    def test_it_counts_in_no_mean(self, metric, best):
        metrics = Metrics({"x": metric})
        metrics.update(MetricsAdapter(None, 1, 0), None, self.hot, self.hot)
        found = metrics.compute()
        names = [name for name in found if name.startswith("x/") and "not_nans" not in name]
        assert [float(found[name]) for name in names] == pytest.approx([best, best, NAN], nan_ok=True)
        assert float(found["x"]) == best

    def test_several_results_of_a_confusion_matrix(self):
        metric = ConfusionMatrixMetric(metric_name=["precision", "recall"], reduction="mean_batch", compute_sample=True)
        metrics = Metrics({"x": metric})
        metrics.update(MetricsAdapter(None, 1, 0), None, self.hot, self.hot)
        found = metrics.compute()
        for name in ("precision", "recall"):
            assert float(found[f"x/{name}"]) == 1
            assert math.isnan(found[f"x/{name}/2"])

    @pytest.mark.parametrize("names", ["pq", ["pq", "sq"]])
    def test_panoptic_quality(self, names):
        metrics = Metrics({"x": PanopticQualityMetric(2, names)})
        instances = torch.zeros(2, 2, 8, 8, dtype=torch.int)
        instances[:, :, 2:5, 2:5] = 1  # one instance of class 1 in each case
        metrics.update(MetricsAdapter(None, 1, 0), None, instances, instances)
        found = metrics.compute()
        for part in ("x",) if names == "pq" else ("x/pq", "x/sq"):
            assert float(found[part]) == pytest.approx(1, abs=1e-4)
            assert math.isnan(found[f"{part}/1"])

    @pytest.mark.parametrize("kind", [ROCAUCMetric, AveragePrecisionMetric])
    @pytest.mark.parametrize("average", ["macro", "weighted"])
    def test_areas_are_those_of_classes_that_have_a_curve(self, kind, average):
        scores = torch.tensor([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.7, 0.3, 0.0], [0.2, 0.8, 0.0]])
        target = one_hot(torch.tensor([[0], [1], [0], [1]]), 3)
        metric, two = kind(average), kind(average)
        metric(scores, target)
        two(scores[:, :2], target[:, :2])
        assert float(aggregate(metric)) == pytest.approx(float(two.aggregate()))
        assert not math.isnan(two.aggregate())

    @pytest.mark.parametrize("counts", [False, True])
    def test_f_beta_score(self, counts):
        metrics = Metrics({"x": FBetaScore(reduction="mean_batch", get_not_nans=counts)})
        metrics.update(MetricsAdapter(None, 1, 0), None, self.hot, self.hot)
        found = metrics.compute()
        assert [float(found[f"x/{i}"]) for i in range(3)] == pytest.approx([1, 1, NAN], nan_ok=True)
        assert float(found["x"]) == 1

    @pytest.mark.parametrize("reduction", ["none", "mean_channel"])
    def test_calibration_of_cases_is_averaged_over_them(self, reduction):
        metric, pred = CalibrationErrorMetric(metric_reduction=reduction), torch.rand(4, 2, 6, 6).softmax(1)
        metrics = Metrics({"x": metric})
        metrics.update(MetricsAdapter(None, 1, 0), None, one_hot(pred.argmax(1, keepdim=True), 2), pred)
        found = metrics.compute()
        values = metric.get_buffer()
        assert float(found["x"]) == pytest.approx(float(values.mean()))
        assert len(found) == (3 if reduction == "none" else 1)

    def test_a_value_of_zero_stays_one(self):
        metrics = Metrics({"x": DiceMetric(reduction="mean_batch")})
        metrics.update(MetricsAdapter(None, 1, 0), None, self.hot, self.hot.flip(1))
        found = metrics.compute()
        assert float(found["x/0"]) == 0
        assert math.isnan(found["x/2"])

    @pytest.mark.parametrize(
        "metric", [MSEMetric(reduction="mean_batch"), LossMetric(nn.L1Loss(reduction="none")), CalibrationErrorMetric()]
    )
    def test_where_every_value_is_known_it_is_what_monai_says(self, metric):
        pred = torch.rand(3, 2, 4, 4)
        metric(pred, one_hot(pred.argmax(1, keepdim=True), 2))
        values = metric.aggregate()
        assert torch.equal(torch.as_tensor(aggregate(metric)), values)


class TestTorchmetrics:
    pred = torch.tensor([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    target = torch.tensor([0, 1, 1, 1])

    @pytest.mark.parametrize(
        "kind", [MulticlassF1Score, MulticlassAccuracy, MulticlassPrecision, MulticlassJaccardIndex]
    )
    def test_the_mean_over_classes_is_torchmetrics_own(self, kind):
        metrics = Metrics({"each": kind(3, average="none"), "macro": kind(3, average="macro")})
        metrics.update(MetricsAdapter(None, 1, 0), None, self.target, self.pred)
        found = metrics.compute()
        assert math.isnan(found["each/2"])
        assert float(found["each"]) == pytest.approx(float(found["macro"]))
        assert float(found["each/0"]) == pytest.approx(float(kind(3, average="none")(self.pred, self.target)[0]))

    def test_classes_by_name(self):
        metrics = Metrics({"x": ClasswiseWrapper(MulticlassF1Score(3, average="none"), ["a", "b", "c"])})
        metrics.update(MetricsAdapter(None, 1, 0), None, self.target, self.pred)
        found = metrics.compute()
        values = {name.rpartition("_")[2]: float(value) for name, value in found.items() if name != "x"}
        assert values == pytest.approx({"a": 2 / 3, "b": 0.8, "c": NAN}, nan_ok=True)
        assert float(found["x"]) == pytest.approx((2 / 3 + 0.8) / 2)

    def test_minus_one_is_no_value(self):
        metrics = Metrics({"x": TorchMeanIoU(3, per_class=True)})
        metrics.update(MetricsAdapter(None, 1, 0), None, TestMonai.hot, TestMonai.hot)
        assert [float(value) for value in metrics.compute().values()] == pytest.approx([1, 1, 1, NAN], nan_ok=True)

    def test_samplewise_counts_are_left_alone(self):
        metric = MulticlassAccuracy(3, average="none", multidim_average="samplewise")
        metrics = Metrics({"x": metric})
        metrics.update(MetricsAdapter(None, 1, 0), None, self.target[:, None], self.pred[..., None])
        assert len(metrics.compute()) == 13


class TestNothing:
    metrics = (DiceMetric(), LossMetric(nn.L1Loss()), ROCAUCMetric(), MeanMetric(), MulticlassAccuracy(3))

    @pytest.mark.parametrize("metric", [*metrics, MinMaxMetric(MeanMetric())])
    def test_a_metric_that_no_batch_updated_has_no_value(self, metric):
        found = Metrics({"x": metric}).compute()
        assert list(found) == ["x"]
        assert math.isnan(found["x"])

    def test_a_wrapper_that_counts_no_updates_has_its_value(self):
        metrics = Metrics({"x": Running(MeanMetric(), 2)})
        metrics.update(lambda metric, input, target, pred: metric(pred), None, None, torch.tensor([2.0, 4.0]))
        assert float(metrics.compute()["x"]) == 3

    def test_a_metric_that_keeps_its_own_sums(self):
        class Own(Cumulative):
            total = 0.0

            def __call__(self, pred, target):
                self.total += float(pred.sum())

            def aggregate(self):
                return torch.tensor(self.total)

        metrics = Metrics({"x": Own()})
        metrics.update(MetricsAdapter(None, 1, 0), None, torch.ones(2), torch.ones(2))
        assert float(metrics.compute()["x"]) == 2

    @pytest.mark.slow
    def test_an_adapter_that_passes_cases_over(self, tmp_path):
        system = classification(
            metrics={"val": {"acc": MulticlassAccuracy(3), "dice": DiceMetric()}},
            adapters={"val": {"metrics": lambda metric, input, target, pred: None}},
        )
        (result,) = trainer(tmp_path).validate(system, verbose=False)
        assert math.isnan(result["val/metrics/acc/epoch"])
        assert math.isnan(result["val/metrics/dice/epoch"])


class TestLabels:
    @pytest.mark.slow
    def test_classes_have_their_names_in_what_is_logged(self, tmp_path):
        data = [{"image": hot.float(), "label": each} for hot, each in zip(TestMonai.hot, TestMonai.maps, strict=True)]
        metrics = {
            "dice": DiceMetric(include_background=False, reduction="mean_batch"),
            "all": DiceMetric(reduction="mean_batch"),
            "cm": ConfusionMatrixMetric(metric_name=["precision", "recall"], reduction="mean_batch"),
            "iou": TorchMeanIoU(3, include_background=False, per_class=True),
            "mean": DiceMetric(),
        }
        system = System(
            nn.Identity(),
            {"test": loader(data)},
            metrics={"test": metrics},
            postprocessing={"test": AsDiscreted(["pred", "label"], argmax=[True, False], to_onehot=3)},
            labels={1: "grey", "2": "white"},
        )
        (result,) = trainer(tmp_path).test(system, verbose=False)
        names = {name.removeprefix("test/metrics/").removesuffix("/epoch") for name in result}
        expected = {"dice", "dice/grey", "dice/white", "all", "all/0", "all/grey", "all/white", "iou", "mean"}
        expected |= {"iou/grey", "iou/white"} | {
            f"cm/{part}{each}" for part in ("precision", "recall") for each in ("", "/0", "/grey", "/white")
        }
        assert names == expected
        assert result["test/metrics/dice/grey/epoch"] == 1
        assert math.isnan(result["test/metrics/dice/white/epoch"])

    @pytest.mark.parametrize(
        ("metric", "count", "labels", "expected"),
        [
            (DiceMetric(), 3, {}, ["0", "1", "2"]),
            (DiceMetric(include_background=False), 2, {}, ["1", "2"]),
            (DiceMetric(include_background=False), 2, {0: "a", 1: "b", 2: "c"}, ["b", "c"]),
            (DiceMetric(), 4, {0: "a", 1: "b", 2: "c"}, ["0", "1", "2", "3"]),  # of another task
            (DiceMetric(), 3, {2: "c"}, ["0", "1", "c"]),
            (PanopticQualityMetric(2), 2, {1: "b", 2: "c"}, ["b", "c"]),
            (PanopticQualityMetric(2), 2, {}, ["0", "1"]),
            (TorchMeanIoU(3, include_background=False), 2, {}, ["0", "1"]),
            (TorchMeanIoU(3, include_background=False), 2, {1: "b", 2: "c"}, ["b", "c"]),
        ],
    )
    def test_names_of_a_metrics_values(self, metric, count, labels, expected):
        assert name_classes(metric, count, labels) == expected

    @pytest.mark.parametrize("labels", [{-1: "a"}, {"x": "a"}, {1: ""}, {1: None}, {1: "a", 2: "a"}, {1.5: "a"}])
    def test_what_names_no_classes(self, labels):
        with pytest.raises(ValueError, match="system::labels: "):
            check_labels(labels)
