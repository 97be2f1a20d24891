"""AUROC and average precision of classes that no target has, against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torchmetrics.classification import (
    MulticlassAUROC,
    MulticlassAveragePrecision,
    MultilabelAUROC,
    MultilabelAveragePrecision,
)

from monai_lighter.system.aggregates import compute

RANDOM = np.random.default_rng(0)
SCORES = RANDOM.dirichlet(np.ones(4), 60).astype(np.float32)
CLASSES = RANDOM.integers(0, 2, 60)  # of four classes two are in no target
ONE_HOT = np.eye(4, dtype=int)[CLASSES]


def expected(score):
    return np.array([score(ONE_HOT[:, i], SCORES[:, i]) for i in range(2)])


@pytest.mark.parametrize(
    ("kind", "score", "target", "count"),
    [
        (MulticlassAUROC, roc_auc_score, CLASSES, "num_classes"),
        (MulticlassAveragePrecision, average_precision_score, CLASSES, "num_classes"),
        (MultilabelAUROC, roc_auc_score, ONE_HOT, "num_labels"),
        (MultilabelAveragePrecision, average_precision_score, ONE_HOT, "num_labels"),
    ],
)
@pytest.mark.parametrize(("thresholds", "near"), [(None, 1e-5), (2000, 5e-3)])
def test_a_class_that_is_in_no_target_has_no_area(kind, score, target, count, thresholds, near):
    right = expected(score)
    for average in ("none", "macro"):
        metric = kind(**{count: 4}, average=average, thresholds=thresholds)
        for part in (slice(0, 40), slice(40, 60)):
            metric.update(torch.from_numpy(SCORES[part]), torch.from_numpy(target[part]))
        value = compute(metric).numpy()
        assert metric.average == average
        if average == "macro":
            assert value == pytest.approx(right.mean(), abs=near)
        else:
            assert np.isnan(value[2:]).all()
            assert value[:2] == pytest.approx(right, abs=near)
