import csv
import math

import numpy as np
import pytest
from scipy import stats

from monai_lighter.report.content import read_content
from monai_lighter.report.scores import choose_key, summarize
from monai_lighter.study.case_tables import read_case_table
from monai_lighter.study.comparison import find_interval

RNG = np.random.default_rng(0)


def write(path, rows, *columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["case", *columns], *rows])
    return path


@pytest.fixture
def table(tmp_path):
    """Dice of two classes, one of which two cases do not have, and distances, one of which is infinite."""
    rows = []
    for i in range(12):
        rows.append([f"/data/p{i:02}/ct.nii.gz", "dice", "liver", float(np.float32(RNG.uniform(0.5, 1))), ""])
        rows.append([rows[-1][0], "dice", "tumour", "nan" if i in (2, 5) else float(np.float32(RNG.uniform(0, 1))), ""])
        rows.append([rows[-1][0], "hd95", "liver", "inf" if i == 7 else float(np.float32(RNG.uniform(1, 30))), "mm"])
    return write(tmp_path / "eval" / "dice.csv", rows, "metric", "class", "value", "unit")


def column(path, metric, label):
    with open(path, newline="") as file:
        return {
            row["case"]: float(row["value"])
            for row in csv.DictReader(file)
            if (row["metric"], row["class"]) == (metric, label)
        }


def test_numbers_equal_those_made_of_the_csv_by_hand(table):
    scores = {(each.measured.metric, each.measured.label): each for each in summarize(read_case_table(table))}
    assert [*scores] == [("dice", "all"), ("dice", "liver"), ("dice", "tumour"), ("hd95", "liver")]
    for (metric, label), score in scores.items():
        if label == "all":
            both = np.array([[*column(table, metric, name).values()] for name in ("liver", "tumour")])
            own = np.nanmean(both, axis=0)
        else:
            own = np.array([*column(table, metric, label).values()])
        finite = own[np.isfinite(own)]
        assert (score.n, score.without, score.infinite) == (len(finite), np.isnan(own).sum(), np.isinf(own).sum())
        assert score.mean == pytest.approx(finite.mean(), rel=1e-12)
        assert score.sd == pytest.approx(finite.std(ddof=1), rel=1e-12)
        assert score.median == pytest.approx(np.median(finite), rel=1e-12)
        expected = stats.bootstrap((finite,), np.mean, n_resamples=9999, rng=0).confidence_interval
        assert score.interval == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_the_worst_case_is_the_lowest_dice_and_the_largest_distance(table):
    scores = {(each.measured.metric, each.measured.label): each for each in summarize(read_case_table(table))}
    dice = column(table, "dice", "liver")
    assert scores["dice", "liver"].ordered[0] == min(dice, key=dice.get)
    distances = column(table, "hd95", "liver")
    assert scores["hd95", "liver"].ordered[0] == max(distances, key=distances.get) == "/data/p07/ct.nii.gz"
    assert len(scores["dice", "tumour"].ordered) == 10


def test_what_is_better_is_said_by_the_table_or_by_hand(tmp_path):
    rows = [["a", "mse", "0", 1.0, "lower"], ["b", "mse", "0", 2.0, "lower"]]
    own = summarize(read_case_table(write(tmp_path / "a.csv", rows, "metric", "class", "value", "better")))[0]
    assert own.ordered == ["b", "a"]
    plain = read_case_table(write(tmp_path / "b.csv", [row[:4] for row in rows], "metric", "class", "value"))
    assert summarize(plain)[0].ordered == ["a", "b"]
    assert summarize(plain, ["mse"])[0].ordered == ["b", "a"]


def test_a_run_is_not_told_to_be_better_or_worse_by_an_entropy(tmp_path):
    rows = [["a", "pred_entropy", "0", 0.1, "neither"], ["b", "pred_entropy", "0", 0.2, "neither"]]
    columns = ("metric", "class", "value", "better")
    alone = read_content(write(tmp_path / "a.csv", rows, *columns)).data
    assert alone["tables"][0]["scores"][0]["better"] == "neither"
    assert (alone["tables"][0]["ranked_by"], alone["headline"]) == ("", [])
    rows += [["a", "dice", "1", 0.9, "higher"], ["b", "dice", "1", 0.8, "higher"]]
    both = read_content(write(tmp_path / "b.csv", rows, *columns)).data
    assert both["tables"][0]["ranked_by"] == "dice 1"
    assert [row["case"] for row in both["tables"][0]["cases"]] == ["case 2", "case 1"]
    assert [name for name, _, _ in both["headline"]] == ["dice"]


def test_several_loaders_stay_apart(tmp_path):
    rows = [["a", "in", "dice", "0", 0.5], ["a", "out", "dice", "0", 0.1], ["b", "in", "dice", "0", 0.7]]
    path = write(tmp_path / "a.csv", rows, "loader", "metric", "class", "value")
    scores = summarize(read_case_table(path))
    assert [(each.measured.loader, each.n, each.mean) for each in scores] == [
        ("in", 2, pytest.approx(0.6)),
        ("out", 1, 0.1),
    ]
    data = read_content(path).data["tables"][0]
    assert [(row["case"], row["loader"]) for row in data["cases"]] == [
        ("case 1", "in"),
        ("case 1", "out"),
        ("case 2", "in"),
    ]
    assert math.isnan(data["cases"][0]["values"][1])


def test_the_metric_that_was_monitored_comes_first(table):
    scores = summarize(read_case_table(table))
    assert choose_key(scores).measured.metric == "dice"
    assert choose_key(scores, "val/metrics/hd95/epoch").measured.metric == "hd95"
    assert choose_key([]) is None


def test_one_case_and_none_have_no_interval(tmp_path):
    rows = [["a", "dice", "0", 0.5], ["b", "dice", "0", "nan"]]
    score = summarize(read_case_table(write(tmp_path / "a.csv", rows, "metric", "class", "value")))[0]
    assert (score.n, score.mean, score.without) == (1, 0.5, 1)
    assert math.isnan(score.sd)
    assert math.isnan(score.interval[0])


def test_a_bootstrap_of_many_cases_draws_the_same_in_parts():
    values = RNG.uniform(0, 1, 1500)
    whole = stats.bootstrap((values,), np.mean, n_resamples=9999, batch=None, rng=0).confidence_interval
    assert find_interval(values, 0.95) == pytest.approx((whole.low, whole.high), rel=1e-12)


def test_two_units_of_one_metric_are_told(tmp_path):
    rows = [["a", "hd", "0", 5.0, "mm"], ["b", "hd", "0", 3.0, "voxels"]]
    table = read_case_table(write(tmp_path / "a.csv", rows, "metric", "class", "value", "unit"))
    assert summarize(table)[0].unit == "mm and voxels"
