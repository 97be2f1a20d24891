"""Values that a metric would make a wrong number of are refused at its first batch; what its documentation allows is taken."""

import copy
import logging

import pytest
import torch
from monai.metrics import ConfusionMatrixMetric, DiceMetric, HausdorffDistanceMetric, MAEMetric, MeanIoU, ROCAUCMetric
from torchmetrics.classification import BinaryJaccardIndex, MulticlassJaccardIndex
from torchmetrics.segmentation import DiceScore

from monai_lighter import MetricsAdapter
from monai_lighter.system.metric_inputs import Watched, find_blurred_label, find_wrong_input
from monai_lighter.system.metrics import Metrics

CLASSES = torch.randint(0, 3, (2, 1, 8, 8), generator=torch.Generator().manual_seed(0)).float()
ONE_HOT = torch.nn.functional.one_hot(CLASSES[:, 0].long(), 3).movedim(-1, 1).float()
LOGITS = 4 * ONE_HOT + torch.rand(ONE_HOT.shape, generator=torch.Generator().manual_seed(0))
ADAPTER = MetricsAdapter(pred_argument=0, target_argument=1)


def test_why_outputs_of_a_network_are_refused():
    dice = DiceMetric()
    assert dice(ONE_HOT, ONE_HOT).mean() == 1
    assert dice(LOGITS, ONE_HOT).mean() < 0.6


@pytest.mark.parametrize(
    ("metric", "pred", "target"),
    [
        (DiceMetric(), LOGITS, ONE_HOT),
        (DiceMetric(), list(LOGITS), list(CLASSES)),
        (DiceMetric(), CLASSES, CLASSES),  # of which it would count class 1 alone
        (DiceMetric(), ONE_HOT, 255 * CLASSES),
        (DiceMetric(num_classes=2), CLASSES, CLASSES),
        (MeanIoU(), LOGITS, ONE_HOT),
        (MeanIoU(), ONE_HOT, 255 * ONE_HOT),
        (HausdorffDistanceMetric(), CLASSES, CLASSES),
        (ConfusionMatrixMetric(), LOGITS.sigmoid(), ONE_HOT),
        (DiceScore(num_classes=2), CLASSES / 2, CLASSES),  # it would take the largest of one channel
    ],
)
def test_what_a_metric_does_not_take(metric, pred, target):
    with pytest.raises(ValueError, match=rf"{type(metric).__name__} takes .*(prediction|target)"):
        Metrics({"one": metric}).update(ADAPTER, None, target, pred)


@pytest.mark.parametrize(
    ("metric", "pred", "target"),
    [
        (DiceMetric(), ONE_HOT, ONE_HOT),
        (DiceMetric(), ONE_HOT.bool(), CLASSES.int()),
        (DiceMetric(), list(ONE_HOT), list(CLASSES)),
        (DiceMetric(num_classes=3), CLASSES, CLASSES),
        (DiceMetric(), (CLASSES > 0).float(), (CLASSES > 0).float()),
        (DiceMetric(), ONE_HOT, ONE_HOT * 0.5),  # soft labels
        (MeanIoU(), ONE_HOT, ONE_HOT),
        (MAEMetric(), LOGITS, ONE_HOT),
        (ConfusionMatrixMetric(), ONE_HOT[:, :, 0, 0], ONE_HOT[:, :, 0, 0]),
        (DiceScore(num_classes=3), LOGITS, ONE_HOT),
        (DiceScore(num_classes=3, input_format="index"), CLASSES[:, 0].long(), CLASSES[:, 0].long()),
        (BinaryJaccardIndex(), LOGITS, ONE_HOT.int()),
        (MulticlassJaccardIndex(num_classes=3), LOGITS, CLASSES[:, 0].long()),
    ],
)
def test_what_a_metric_takes(metric, pred, target):
    Metrics({"one": metric}).update(ADAPTER, None, target, pred)


def test_scores_of_a_curve_are_scores():
    assert find_wrong_input(ROCAUCMetric(), torch.rand(4, 2), torch.ones(4, 2)) is None


def test_only_the_first_batch_is_looked_at_and_an_adapter_sees_the_metric():
    metrics, seen = Metrics({"one": DiceMetric()}), []

    def adapter(metric, input, target, pred):
        seen.append((isinstance(metric, DiceMetric), metric.include_background))
        return metric(y_pred=pred, y=target)

    metrics.update(adapter, None, ONE_HOT, ONE_HOT)
    metrics.update(adapter, None, ONE_HOT, LOGITS)
    assert seen == [(True, True)] * 2
    with pytest.raises(ValueError, match="DiceMetric takes"):
        Metrics({"one": DiceMetric()}).update(adapter, None, ONE_HOT, LOGITS)


def test_a_metric_that_is_watched_says_it_once_and_goes_on(caplog):
    metric = copy.copy(Watched(DiceMetric(), "key_metric::dice"))
    with caplog.at_level(logging.WARNING):
        values = [metric(LOGITS, ONE_HOT) for _ in range(2)]
    assert values[0].shape == (2, 3)
    (record,) = caplog.records
    assert record.getMessage().startswith("key_metric::dice: DiceMetric takes one channel a class")
    assert len(metric.aggregate()) == 1


def test_probabilities_make_a_soft_dice_which_is_said_once(caplog):
    metrics = Metrics({"one": DiceMetric()})
    probabilities = LOGITS.softmax(1)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            metrics.update(ADAPTER, None, ONE_HOT, probabilities)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "system::metrics::one: it is a soft Dice, not that of label maps: DiceMetric takes"
    )
    with pytest.raises(ValueError, match="MeanIoU takes 0 and 1"):
        Metrics({"one": MeanIoU()}).update(ADAPTER, None, ONE_HOT, probabilities)


@pytest.mark.parametrize("value", [0.9999, 2.995])
def test_labels_that_are_nearly_classes(value):
    label = torch.zeros(2, 1, 4, 4)
    label[1, 0, 2, 2] = value
    assert f"has {value}" in find_blurred_label(label)
    assert "AsDiscreted" in find_blurred_label(label.unsqueeze(-1))


@pytest.mark.parametrize(
    "target",
    [
        torch.tensor([[0.9999]]),
        torch.rand(2, 1, 4, 4),
        CLASSES,
        CLASSES.long(),
        CLASSES + 0.0001,  # which is cut off rightly
        torch.rand(2, 3, 4, 4),
        None,
        torch.zeros(0, 1, 4, 4),
    ],
)
def test_targets_that_are_not_nearly_classes(target):
    assert find_blurred_label(target) is None
