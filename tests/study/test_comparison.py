import csv
import math

import numpy as np
import pytest
from scipy import stats

from monai_lighter.commands.compare import compare
from monai_lighter.errors import ConfigError
from monai_lighter.study.comparison import compare_runs, correct_by_holm

RNG = np.random.default_rng(0)


def write(path, values, metric="dice", label="object", folder="/data", **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "metric", "class", "value", *columns])
        writer.writerows(
            [f"{folder}/case_{i:02}.nii.gz", metric, label, value, *columns.values()] for i, value in enumerate(values)
        )
    return path


@pytest.fixture
def values():
    first = RNG.uniform(0.5, 0.9, 20)
    return first, first + RNG.normal(0.02, 0.05, 20)


def test_numbers_are_those_of_scipy_on_the_same_pairs(tmp_path, values):
    first, second = values
    row = compare_runs([write(tmp_path / "a.csv", first), write(tmp_path / "b.csv", second)]).rows[0]
    assert row.p == stats.wilcoxon(first, second).pvalue == row.p_corrected
    assert row.difference == pytest.approx((second - first).mean())
    assert row.means == pytest.approx((first.mean(), second.mean()))
    low, high = stats.bootstrap((second - first,), np.mean, n_resamples=9999, rng=0).confidence_interval
    assert row.interval == (low, high)
    assert low < row.difference < high
    assert (row.better, row.worse, row.equal) == ((second > first).sum(), (second < first).sum(), 0)


def test_the_order_of_cases_does_not_matter(tmp_path, values):
    first, second = values
    a, b = write(tmp_path / "a.csv", first), write(tmp_path / "b.csv", second)
    head, *rows = b.read_text().splitlines()
    b.write_text("\n".join([head, *reversed(rows)]) + "\n")
    assert compare_runs([a, b]).rows[0].p == stats.wilcoxon(first, second).pvalue


def test_cases_that_differ_most_come_first(tmp_path):
    a = write(tmp_path / "a.csv", [0.5, 0.5, 0.5, 0.5])
    b = write(tmp_path / "b.csv", [0.5, 0.9, 0.4, 0.6001])
    names = [case for case, _, _ in compare_runs([a, b]).rows[0].differing]
    assert names == ["/data/case_01.nii.gz", "/data/case_03.nii.gz", "/data/case_02.nii.gz"]


def test_moved_data_are_paired_by_their_place_below_the_shared_folder(tmp_path, values):
    a = write(tmp_path / "a.csv", values[0], folder="/old/data/images")
    b = write(tmp_path / "b.csv", values[1], folder="/new/place")
    assert compare_runs([a, b]).rows[0].n == 20


def test_a_distance_is_better_where_it_is_smaller(tmp_path):
    a = write(tmp_path / "a.csv", [5.0, 4.0, 3.0], "hd", unit="mm")
    b = write(tmp_path / "b.csv", [4.0, 3.0, 3.0], "hd", unit="mm")
    row = compare_runs([a, b]).rows[0]
    assert (row.better, row.worse, row.equal, row.unit) == (2, 0, 1, "mm")


def test_a_metric_can_be_named_as_better_where_it_is_smaller(tmp_path):
    a, b = write(tmp_path / "a.csv", [5.0, 4.0], "rmse"), write(tmp_path / "b.csv", [4.0, 3.0], "rmse")
    assert compare_runs([a, b]).rows[0].better == 0
    assert compare_runs([a, b], lower_is_better=["rmse"]).rows[0].better == 2


def test_no_run_is_better_by_an_entropy(tmp_path):
    a = write(tmp_path / "a.csv", [0.5, 0.4, 0.3], "pred_entropy", better="neither")
    b = write(tmp_path / "b.csv", [0.4, 0.3, 0.3], "pred_entropy", better="neither")
    row = compare_runs([a, b]).rows[0]
    assert (row.better, row.worse, row.equal, row.lower_is_better) == (None, None, 1, None)
    assert row.difference == pytest.approx(-0.2 / 3)
    text = compare(str(a), str(b))
    assert "-/-/1 (neither is better)" in text
    assert compare_runs([a, b], lower_is_better=["pred_entropy"]).rows[0].better == 2


def test_what_is_better_may_be_said_by_the_second_table_alone(tmp_path):
    a, b = write(tmp_path / "a.csv", [5.0, 4.0], "mse"), write(tmp_path / "b.csv", [4.0, 3.0], "mse", better="lower")
    assert compare_runs([a, b]).rows[0].better == compare_runs([b, a]).rows[0].worse == 2


def test_a_case_without_a_value_in_one_run_is_left_out_and_counted(tmp_path):
    a = write(tmp_path / "a.csv", [0.5, math.nan, math.nan, 0.6])
    b = write(tmp_path / "b.csv", [0.6, 0.9, math.nan, 0.8])
    row = compare_runs([a, b]).rows[0]
    assert (row.n, row.left_out) == (2, 1)
    assert row.difference == pytest.approx(0.15)


def test_runs_that_do_not_differ(tmp_path):
    row = compare_runs([write(tmp_path / "a.csv", [0.5] * 4), write(tmp_path / "b.csv", [0.5] * 4)]).rows[0]
    assert (row.p, row.interval, row.equal, row.differing) == (1.0, (0.0, 0.0), 4, [])


def test_several_runs_are_compared_with_the_first_and_corrected_together(tmp_path, values):
    first, second = values
    runs = [write(tmp_path / f"{i}.csv", first + i * (second - first)) for i in range(3)]
    rows = compare_runs(runs).rows
    assert [row.run for row in rows] == [str(path) for path in runs[1:]]
    assert [row.p_corrected for row in rows] == correct_by_holm([row.p for row in rows])


def test_what_not_every_run_has_is_told(tmp_path):
    a, b = write(tmp_path / "a.csv", [0.5, 0.6]), write(tmp_path / "b.csv", [0.6, 0.7])
    with open(b, "a") as file:
        file.write("/data/case_00.nii.gz,iou,object,0.4\n")
    found = compare_runs([a, b])
    assert found.unshared == ["iou object"]
    assert [str(row.measured) for row in found.rows] == ["dice object"]


def test_holm_by_hand():
    assert correct_by_holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx([0.03, 0.06, 0.06, math.nan], nan_ok=True)
    assert correct_by_holm([0.6, 0.7]) == [1.0, 1.0]


class TestRefused:
    def test_cases_that_one_run_does_not_have(self, tmp_path):
        a, b = write(tmp_path / "a.csv", [0.5, 0.6, 0.7]), write(tmp_path / "b.csv", [0.5, 0.6])
        with pytest.raises(ConfigError, match=r"a.csv: has 1 cases that not every run has: /data/case_02.nii.gz"):
            compare_runs([a, b])
        found = compare_runs([a, b], common_cases=True)
        assert found.rows[0].n == 2
        assert found.unpaired == {str(a): ["/data/case_02.nii.gz"]}

    def test_millimetres_against_voxels(self, tmp_path):
        a, b = write(tmp_path / "a.csv", [1.0], unit="mm"), write(tmp_path / "b.csv", [1.0], unit="voxels")
        with pytest.raises(ConfigError, match="dice object: is in mm and voxels"):
            compare_runs([a, b])

    def test_a_folder_with_two_tables(self, tmp_path):
        write(tmp_path / "a/dice.csv", [1.0])
        write(tmp_path / "a/more/hd.csv", [1.0])
        with pytest.raises(ConfigError, match="has 2 tables of CaseMetrics"):
            compare_runs([tmp_path / "a", tmp_path / "a"])

    def test_values_that_are_none(self, tmp_path):
        a = write(tmp_path / "a.csv", [1.0, "good"])
        with pytest.raises(ConfigError, match="line 3: value must be a number, got 'good'"):
            compare_runs([a, a])

    def test_a_case_that_stands_twice(self, tmp_path):
        a = write(tmp_path / "a.csv", [1.0])
        a.write_text(a.read_text() + a.read_text().splitlines()[1] + "\n")
        with pytest.raises(ConfigError, match="has dice object twice"):
            compare_runs([a, a])

    @pytest.mark.parametrize(
        ("keywords", "message"),
        [({"metric": "dcie"}, "Did you mean 'dice'"), ({"confidence": 95}, "must be above 0 and below 1")],
    )
    def test_what_is_asked_for(self, tmp_path, keywords, message):
        a = write(tmp_path / "a.csv", [1.0, 0.5])
        with pytest.raises(ConfigError, match=message):
            compare_runs([a, a], **keywords)

    def test_a_folder_without_a_table(self, tmp_path):
        (tmp_path / "other.csv").write_text("a,b\n1,2\n")
        with pytest.raises(ConfigError, match="has no table of CaseMetrics"):
            compare_runs([tmp_path, tmp_path])


@pytest.mark.parametrize("other", ["inf", 3.0, "nan"])
def test_a_value_that_is_not_finite_is_left_out_and_counted(tmp_path, values, other):
    """As a distance is where a prediction is empty; a mean, p or interval of it says nothing of the other cases."""
    first, second = values
    a, b = write(tmp_path / "a.csv", ["inf", *first]), write(tmp_path / "b.csv", [other, *second])
    row = compare_runs([a, b]).rows[0]
    assert (row.n, row.left_out) == (20, 1)
    assert row.difference == pytest.approx((second - first).mean())
    assert row.better + row.worse + row.equal == 20
    assert row.p == stats.wilcoxon(first, second).pvalue


def test_what_better_means_is_told(tmp_path, values):
    """An error such as mse has no unit that would say it."""
    a, b = (str(write(tmp_path / name, own, metric="mse")) for name, own in zip("ab", values, strict=True))
    assert "(better is higher)" in compare(a, b)
    assert "(better is lower)" in compare(a, b, lower_is_better="mse")


def test_a_table_that_a_spreadsheet_has_saved(tmp_path, values):
    a = write(tmp_path / "a.csv", values[0])
    (tmp_path / "b.csv").write_text(a.read_text(), encoding="utf-8-sig")
    assert compare_runs([a, tmp_path / "b.csv"]).rows[0].n == 20


def test_what_better_means_is_known_from_either_table(tmp_path, values):
    """An older table of the first run has no column that says so."""
    first, second = values
    runs = [write(tmp_path / "a.csv", first, "mse"), write(tmp_path / "b.csv", second, "mse", better="lower")]
    for order in (runs, runs[::-1]):
        assert compare_runs(order).rows[0].lower_is_better
    assert compare_runs(runs).rows[0].better == (second < first).sum()
