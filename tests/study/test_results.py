import csv
import json
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_study_folder import write_study

from monai_lighter.study.case_tables import read_case_table
from monai_lighter.study.comparison import compare_runs
from monai_lighter.study.results import write_results
from monai_lighter.study.study_folder import FAILED, Trial, read_study


def write_cases(folder, rows, header=("case", "metric", "class", "value")):
    with open(folder / "cases.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def study(tmp_path):
    write_study(tmp_path)
    for number in range(6):
        fold, better = number % 3, 0.1 * (number // 3)
        rows = [(f"/data/{fold}_{i}.nii.gz", "dice", name, 0.5 + better + i / 100) for i in range(4) for name in "ab"]
        write_cases(tmp_path / f"{number:03d}", rows)
    return tmp_path


def test_each_case_is_there_once_with_the_value_of_its_fold(study):
    write_results(read_study(study))
    with open(study / "out_of_fold_000.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({(row["case"], row["class"]) for row in rows}) == 3 * 4 * 2
    for row in rows:
        assert row["case"].split("/")[-1][0] == row["fold"]
        assert float(row["value"]) == 0.5 + int(row["case"][-8]) / 100
    assert "repeats" not in rows[0]
    assert (study / "out_of_fold.csv").read_text() == (study / "out_of_fold_000.csv").read_text()  # of the best


def test_compare_reads_the_tables(study):
    write_results(read_study(study))
    row = compare_runs([study / "out_of_fold_000.csv", study / "out_of_fold_001.csv"]).rows[0]
    assert (row.n, row.difference, row.better) == (12, pytest.approx(0.1), 12)


def test_a_case_of_several_trials_has_the_mean_and_says_so(tmp_path):
    write_study(tmp_path, {0.1: [0.5, 0.6, 0.7]})
    for number, values in enumerate([(0.25, "nan", "nan"), (0.75, 0.5, "nan"), (0.5, 1.0, "nan")]):
        rows = [(f"case {i}", "distance", "a", value, "mm") for i, value in enumerate(values)]
        write_cases(tmp_path / f"{number:03d}", rows, ("case", "metric", "class", "value", "unit"))
    write_results(read_study(tmp_path))
    table = read_case_table(tmp_path / "out_of_fold.csv")
    ((key, values),) = table.values.items()
    assert values["case 0"] == (0.25 + 0.75 + 0.5) / 3
    assert values["case 1"] == (0.5 + 1.0) / 2
    assert math.isnan(values["case 2"])
    assert table.units[key] == "mm"
    with open(tmp_path / "out_of_fold.csv", newline="") as file:
        assert [(row["fold"], row["repeats"]) for row in csv.DictReader(file)] == [("0;1;2", "3")] * 3
    assert not (tmp_path / "out_of_fold_000.csv").exists()


def test_the_table_says_what_is_better_and_of_what_nothing_is(tmp_path):
    write_study(tmp_path, {0.1: [0.5, 0.6, 0.7]})
    for number in range(3):
        rows = [
            (f"case {number}", "dice", "a", 0.5, "higher"),
            (f"case {number}", "mse", "a", 0.1, "lower"),
            (f"case {number}", "pred_entropy", "0", 0.2, "neither"),
        ]
        write_cases(tmp_path / f"{number:03d}", rows, ("case", "metric", "class", "value", "better"))
    write_results(read_study(tmp_path))
    table = read_case_table(tmp_path / "out_of_fold.csv")
    assert [{key.metric for key in keys} for keys in (table.lower, table.neither)] == [{"mse"}, {"pred_entropy"}]


def test_a_set_that_is_not_whole_has_no_table(study):
    (study / "001" / "trial.json").unlink()
    write_results(read_study(study))
    assert not (study / "out_of_fold_000.csv").exists()
    assert (study / "out_of_fold.csv").read_text() == (study / "out_of_fold_001.csv").read_text()


def test_a_table_of_trials_that_are_run_again_does_not_stay(study):
    write_results(read_study(study))
    assert (study / "out_of_fold.csv").is_file()
    for number in range(6):
        trial = Trial.read(study / f"{number:03d}")
        trial._replace(state=FAILED).write()
    write_results(read_study(study))
    assert [*study.glob("out_of_fold*")] == []


def test_the_results_have_a_row_for_each_trial_and_are_json(study):
    write_results(read_study(study))
    found = json.loads((study / "results.json").read_text(), parse_constant=pytest.fail)
    assert [one["trials"] for one in found["sets"]] == [[0, 1, 2], [3, 4, 5]]
    assert found["best"]["set"] == 0
    with open(study / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["trial"], row["fold"], row["lr"], row["value"]) for row in rows][1] == ("1", "1", "0.1", "0.75")
    kept = json.loads((study / "001" / "trial.json").read_text())["epoch"]
    assert int(rows[1]["epoch"]) == found["trials"][1]["epoch"] == kept + 1  # from 1, as runs print it


def test_several_that_come_to_the_end_at_once_write_one_table(study):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: write_results(read_study(study)), range(40)))
    assert [*study.glob(".*")] == []


def test_metrics_without_values_for_cases_make_no_table(study):
    for number in range(6):
        write_cases(study / f"{number:03d}", [])
    write_results(read_study(study))
    assert not [*study.glob("out_of_fold*.csv")]
    assert (study / "results.csv").is_file()
