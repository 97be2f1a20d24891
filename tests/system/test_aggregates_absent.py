"""Metrics that give 0 or 1 to a class that is nowhere, and count it in their mean: right values by numpy and scikit-learn."""

import math
import pickle

import numpy as np
import pytest
import torch
from monai.metrics import GeneralizedDiceScore, HausdorffDistanceMetric
from scipy.ndimage import binary_erosion, distance_transform_edt
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score
from torchmetrics import segmentation
from torchmetrics.classification import (
    MulticlassAUROC,
    MulticlassLogAUC,
    MulticlassSensitivityAtSpecificity,
    MulticlassSpecificityAtSensitivity,
    MultilabelEER,
    MultilabelF1Score,
    MultilabelJaccardIndex,
    MultilabelLogAUC,
    MultilabelPrecision,
    MultilabelRecall,
)
from torchmetrics.detection import PanopticQuality
from torchmetrics.wrappers import ClasswiseWrapper

from monai_lighter import MetricsAdapter
from monai_lighter.system.aggregates import compute
from monai_lighter.system.metrics import Metrics

NAN = math.nan
RANDOM = np.random.default_rng(0)
MAPS = RANDOM.integers(0, 3, (2, 3, 8, 8))[0], RANDOM.integers(0, 3, (2, 3, 8, 8))[1]
"""Label and prediction of three cases, of four classes 0 to 2; the second case has the background alone, the third no class 2."""
for case in (0, 1):
    MAPS[case][1] = 0
    MAPS[case][2] %= 2
HOT = [np.eye(4)[each].transpose(0, 3, 1, 2) for each in MAPS]


def generalized_dice(background, by_class, weight):
    """Values of the cases ``(B, C or 1)``, NaN for what is neither true nor predicted."""
    target, pred = (hot[:, 0 if background else 1 :] for hot in HOT)
    size, both = target.sum((2, 3)), (target * pred).sum((2, 3))
    total = size + pred.sum((2, 3))
    with np.errstate(divide="ignore"):
        weights = 1 / {"square": size**2, "simple": size}[weight]
    for row in weights:
        finite = row[np.isfinite(row)]
        row[~np.isfinite(row)] = finite.max() if finite.size else 1
    above, below = 2 * both * weights, total * weights
    if not by_class:
        above, below = above.sum(1, keepdims=True), below.sum(1, keepdims=True)
    return np.where(below > 0, above / np.where(below > 0, below, 1), NAN)


def means(values):
    known = ~np.isnan(values)
    return np.where(known.any(0), np.nansum(values, 0) / np.maximum(known.sum(0), 1), NAN)


def of_two_processes(value, group):
    return [value, value]


def always():
    return True


def evaluate(metric, batches=(slice(0, 2), slice(2, 3)), kind=torch.float):
    metrics = Metrics({"x": metric})
    for batch in batches:
        target, pred = (torch.from_numpy(hot[batch]).to(kind) for hot in HOT)
        given = metrics.update(MetricsAdapter(0, 1, None), pred, target, None)
    return metrics, given["x"], {name: float(value) for name, value in metrics.compute().items()}


class TestGeneralizedDice:
    @pytest.mark.parametrize("background", [True, False])
    @pytest.mark.parametrize("weight", ["square", "simple"])
    def test_monai(self, background, weight):
        by_class = generalized_dice(background, True, weight)
        metric = GeneralizedDiceScore(include_background=background, reduction="mean_batch", weight_type=weight)
        _, last, found = evaluate(metric)
        assert np.allclose(last.numpy(), by_class[2:], equal_nan=True)  # what `CaseMetrics` writes
        assert [float(value) for name, value in found.items() if "/" in name] == pytest.approx(
            means(by_class), nan_ok=True
        )
        assert found["x"] == pytest.approx(np.nanmean(means(by_class)))
        _, _, found = evaluate(GeneralizedDiceScore(include_background=background, weight_type=weight))
        assert found["x"] == pytest.approx(means(generalized_dice(background, False, weight))[0])

    def test_an_ignored_class_of_monai(self):
        _, last, found = evaluate(GeneralizedDiceScore(reduction="mean_batch", ignore_index=0))
        assert last.shape == (1, 3)
        assert math.isnan(found["x/2"])
        assert not math.isnan(found["x/0"])

    @pytest.mark.parametrize("background", [True, False])
    def test_torchmetrics(self, background):
        by_class = generalized_dice(background, True, "square")
        metric = segmentation.GeneralizedDiceScore(4, include_background=background, per_class=True)
        _, _, found = evaluate(metric, [slice(i, i + 1) for i in range(3)], torch.long)
        assert [value for name, value in found.items() if "/" in name] == pytest.approx(means(by_class), nan_ok=True)
        metric = segmentation.GeneralizedDiceScore(4, include_background=background)
        _, _, found = evaluate(metric, [slice(i, i + 1) for i in range(3)], torch.long)
        assert found["x"] == pytest.approx(means(generalized_dice(background, False, "square"))[0])

    def test_torchmetrics_by_name_over_processes_after_a_reset_and_a_copy(self):
        metric = segmentation.GeneralizedDiceScore(
            4, per_class=True, dist_sync_fn=of_two_processes, distributed_available_fn=always
        )
        metrics, _, _ = evaluate(ClasswiseWrapper(metric, ["a", "b", "c", "d"]), kind=torch.long)
        metrics.reset()
        metrics = pickle.loads(pickle.dumps(metrics))
        _, _, found = evaluate(metrics["x"], [slice(i, i + 1) for i in range(3)], torch.long)
        right = means(generalized_dice(True, True, "square"))
        assert [found[f"x/generalizeddicescore_{each}"] for each in "abcd"] == pytest.approx(right, nan_ok=True)


def hausdorff(a, b, spacing):
    """Of two masks in mm; infinite where one is empty, nan where both are."""
    if not a.any() or not b.any():
        return math.inf if a.any() or b.any() else NAN
    a, b = (mask & ~binary_erosion(mask) for mask in (a, b))
    fields = [distance_transform_edt(~mask, sampling=spacing) for mask in (a, b)]
    return max(fields[1][a].max(), fields[0][b].max())


class TestHausdorffOfTorchmetrics:
    """It fails by itself where a class is empty."""

    @pytest.mark.parametrize("background", [True, False])
    @pytest.mark.parametrize("form", ["one-hot", "index", "mixed", "logits"])
    def test_a_class_that_is_nowhere_counts_in_no_mean(self, form, background):
        metric = segmentation.HausdorffDistance(
            4, include_background=background, spacing=[1.5, 0.8], input_format="one-hot" if form == "logits" else form
        )
        target, pred = (np.where(each == 0, 3, each) if background else each for each in MAPS)
        hot = [torch.from_numpy(np.eye(4)[each].transpose(0, 3, 1, 2)) for each in (target, pred)]
        given = (
            [torch.from_numpy(each) for each in (target, pred)] if form == "index" else [each.long() for each in hot]
        )
        given = [each * 3 for each in hot] if form == "logits" else given
        given[0] = torch.from_numpy(target) if form == "mixed" else given[0]
        metrics = Metrics({"x": metric})
        for i in range(3):
            metrics.update(MetricsAdapter(None, 1, 0), None, given[0][i : i + 1], given[1][i : i + 1])
        classes = range(0 if background else 1, 4)
        right = [hausdorff(a == k, b == k, (1.5, 0.8)) for a, b in zip(target, pred, strict=True) for k in classes]
        assert float(metrics.compute()["x"]) == pytest.approx(np.nanmean(right))

    def test_no_class_at_all_has_no_value_and_an_empty_one_is_infinite_as_monais(self):
        metrics = Metrics({"x": segmentation.HausdorffDistance(2), "monai": HausdorffDistanceMetric()})
        empty, full = torch.zeros(1, 2, 6, 6).long(), torch.ones(1, 2, 6, 6).long()
        metrics.update(MetricsAdapter(None, 1, 0), None, empty, empty)
        assert all(value.isnan() for value in metrics.compute().values())
        metrics.reset()
        metrics.update(MetricsAdapter(None, 1, 0), None, full, empty)
        assert all(value.isinf() for value in metrics.compute().values())


SCORES = RANDOM.random((60, 4)).astype(np.float32) * [0.9, 0.9, 0.9, 0.4]
LABELS = RANDOM.integers(0, 2, (60, 4))
LABELS[:, 3] = 0  # in no case, and predicted in none


def given(metric, target, scores=SCORES):
    metric.update(torch.from_numpy(scores), torch.from_numpy(target))
    return metric


@pytest.mark.parametrize(
    ("kind", "score"),
    [
        (MultilabelF1Score, f1_score),
        (MultilabelPrecision, precision_score),
        (MultilabelRecall, recall_score),
        (MultilabelJaccardIndex, jaccard_score),
    ],
)
def test_a_label_that_is_nowhere(kind, score):
    right = [score(LABELS[:, i], SCORES[:, i] > 0.5) for i in range(3)]
    assert compute(given(kind(4, average="none"), LABELS)).numpy() == pytest.approx([*right, NAN], nan_ok=True)
    metric = given(kind(4, average="macro"), LABELS)
    own = float(metric.compute())
    assert float(compute(metric)) == pytest.approx(np.mean(right)) != own
    assert metric.average == "macro"
    assert float(metric.compute()) == own
    named = compute(given(ClasswiseWrapper(kind(4, average="none"), list("abcd")), LABELS))
    assert float(named[""]) == pytest.approx(np.mean(right))


CLASSES = RANDOM.integers(0, 3, 60)


@pytest.mark.parametrize("kind", [MulticlassLogAUC, MultilabelLogAUC])
def test_the_mean_of_logarithmic_areas(kind):
    target = CLASSES if kind is MulticlassLogAUC else LABELS
    each = compute(given(kind(4, average="none"), target))
    assert math.isnan(each[3])
    assert float(compute(given(kind(4, average="macro"), target))) == pytest.approx(float(each[:3].mean()))


@pytest.mark.parametrize(
    ("metric", "target"),
    [
        (MulticlassSensitivityAtSpecificity(4, min_specificity=0.5), CLASSES),
        (MulticlassSpecificityAtSensitivity(4, min_sensitivity=0.5), CLASSES),
        (MultilabelEER(4), LABELS),
        (ClasswiseWrapper(MulticlassAUROC(4, average="none")), CLASSES),
    ],
)
def test_what_is_made_of_a_curve(metric, target):
    result = compute(given(metric, target))
    parts = result if isinstance(result, tuple) else [result]
    for part in parts:
        values = [*part.values()][1:] if isinstance(part, dict) else part
        assert [math.isnan(value) for value in values] == [False, False, False, True]
    if isinstance(result, dict):
        assert float(result[""]) == pytest.approx(np.mean([float(value) for value in [*result.values()][1:4]]))


@pytest.mark.parametrize("parts", [False, True])
def test_panoptic_quality_of_torchmetrics(parts):
    image = torch.zeros(1, 8, 8, 2, dtype=torch.long)
    image[:, 2:4, 2:4, 0] = 1
    metric = PanopticQuality(things={1, 2}, stuffs={0}, return_per_class=True, return_sq_and_rq=parts)
    metric.update(image, image)
    columns = compute(metric).reshape(3, -1)
    assert torch.isnan(columns).all(1).sum() == 1
    assert columns[~torch.isnan(columns)].tolist() == [1.0] * (2 * columns.shape[1])
