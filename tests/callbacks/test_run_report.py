import csv
import json

import numpy as np
import pytest
import torch

from monai_lighter import Workflow
from monai_lighter.callbacks.case_slices import read_slices
from monai_lighter.callbacks.run_report import MOST_KEPT, _KeptCases, choose_cases
from monai_lighter.study.case_tables import read_case_table
from monai_lighter.study.comparison import compare_runs

TEST = {
    "system::metrics::test": {"dice": {"_target_": "DiceMetric", "include_background": False}},
    "system::postprocessing::test": {
        "_target_": "AsDiscreted",
        "keys": ["pred", "label"],
        "argmax": [True, False],
        "to_onehot": 2,
    },
    "system::dataloaders::test": {
        "_target_": "DataLoader",
        "dataset": {
            "_target_": "Dataset",
            "data": "@data",
            "transform": {"_target_": "Compose", "transforms": "@preprocessing"},
        },
    },
    "trainer::callbacks": [{"_target_": "monai_lighter.CaseMetrics", "path": "$@bundle_root + '/eval/dice.csv'"}],
}


def run(bundle, extra, stage, config=TEST, **override):
    workflow = Workflow(
        [str(bundle / "configs" / "train.yaml"), extra({"report": True, **config})], run_id=stage, **override
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


@pytest.mark.slow
def test_a_test_leaves_a_report_beside_its_table(bundle, extra, capsys):
    run(bundle, extra, "test")
    folder = bundle / "eval"
    assert "report        " in capsys.readouterr().out
    with open(folder / "dice.csv", newline="") as file:
        values = {row["case"]: float(row["value"]) for row in csv.DictReader(file)}
    slices, volume = read_slices(folder / "case_slices.npz")
    worst = min(values, key=values.get)
    assert slices[0].case == worst
    assert {each.case: each.value for each in slices} == {
        each.case: pytest.approx(values[each.case]) for each in slices
    }
    assert [each.role for each in slices] == ["worst"] * 3 + ["median"]
    for each in slices:  # the Dice of the picture, which is the whole of a 2D case, is that of the table
        both = (each.label & each.pred).sum()
        assert 2 * both / (each.label.sum() + each.pred.sum()) == pytest.approx(each.value, abs=1e-6)
        assert each.image.shape == (16, 16)
    assert volume is None
    data = json.loads((folder / "report.json").read_text())
    assert data["tables"][0]["scores"][0]["mean"] == pytest.approx(np.mean([*values.values()]))
    assert str(bundle) not in (folder / "report.html").read_text()
    assert len(data["runs"][0]["about"]["bundle digest (sha256)"]) == 64


@pytest.mark.slow
def test_a_fit_leaves_a_report_beside_its_logs(bundle, extra):
    run(bundle, extra, "fit", {"trainer::logger": True, "max_epochs": 2})
    (folder,) = (bundle / "lightning_logs").iterdir()
    data = json.loads((folder / "report.json").read_text())
    with open(folder / "metrics.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    points = data["curves"]["fit"]["points"]
    assert points["val/metrics/dice/epoch"] == [
        [i + 1, float(row["val/metrics/dice/epoch"])] for i, row in enumerate(rows)
    ]
    assert "CaseMetrics" in data["missing"]["cases"]
    assert data["runs"][0]["timing"]["seconds"]["total"] > 0
    best = max(float(row["val/metrics/dice/epoch"]) for row in rows)
    assert any(
        name == "val/metrics/dice/epoch" and float(value) == pytest.approx(best, abs=1e-4)
        for name, value, _ in data["headline"]
    )


@pytest.mark.slow
def test_a_run_has_none_where_the_config_says_so_and_where_it_writes_nothing(bundle, extra):
    run(bundle, extra, "test", {**TEST, "report": False})
    assert sorted(path.name for path in (bundle / "eval").iterdir()) == ["dice.csv"]
    run(bundle, extra, "fit", {})
    assert not [*bundle.rglob("report.html")]


@pytest.mark.slow
def test_a_report_that_cannot_be_written_is_one_warning(bundle, extra, caplog):
    (bundle / "eval" / "report.html").mkdir(parents=True)
    run(bundle, extra, "test")
    assert (bundle / "eval" / "dice.csv").is_file()
    warnings = [each.getMessage() for each in caplog.records if "no report was written" in each.getMessage()]
    assert len(warnings) == 1
    assert "report.html" in warnings[0]


def test_the_worst_come_first_and_the_median_is_none_of_them():
    values = {str(i): float(i) for i in range(9)}
    assert choose_cases(values, lower=False) == {"0": "worst", "1": "worst", "2": "worst", "4": "median"}
    assert choose_cases(values, lower=True) == {"8": "worst", "7": "worst", "6": "worst", "4": "median"}
    assert choose_cases({"a": 1.0}, lower=False) == {"a": "worst"}
    assert choose_cases({"a": 1.0, "b": 0.5}, lower=False) == {"b": "worst", "a": "median"}
    assert choose_cases({}, lower=False) == {}
    assert choose_cases(values, False, {"1", "5"}) == {"1": "worst", "5": "median"}
    assert choose_cases({"a": 1.0, "b": float("inf")}, lower=True)["b"] == "worst"


@pytest.mark.parametrize("step", [1, -1])
def test_of_many_cases_few_slices_are_kept_and_the_median_is_near_it(step):
    """However they are ordered: the data of hospitals, one after the other, may become better or worse."""
    kept, label = _KeptCases(), torch.zeros(1, 8, 8)
    label[0, 2:6, 2:6] = 1
    most = 0
    for i in range(2000)[::step]:
        kept.add(str(i), "dice", i / 2000, {}, None, label, label, label.roll(1, 1))
        most = max(most, len(kept.slices))
    assert most == MOST_KEPT
    kept.join()
    assert [each.case for each in kept.slices[:3]] == ["0", "1", "2"]
    assert [each.role for each in kept.slices[3:]] == ["median"]
    assert 0.5 <= kept.slices[3].value < 0.6


@pytest.mark.slow
def test_a_test_with_logs_too_has_its_report_beside_its_table(bundle, extra):
    (bundle / "eval").mkdir()
    (bundle / "eval" / "others.csv").write_text("case,metric,class,value\nx,dice,1,0.5\n")
    run(bundle, extra, "test", {**TEST, "trainer::logger": True})
    data = json.loads((bundle / "eval" / "report.json").read_text())
    assert [len(table["cases"]) > 1 for table in data["tables"]] == [True]
    assert data["slices"]


@pytest.mark.slow
def test_a_table_says_of_which_metrics_less_is_better(bundle, extra):
    config = {
        **TEST,
        "report": False,
        "system::metrics::test": {"mse": {"_target_": "MSEMetric"}, "dice": {"_target_": "DiceMetric"}},
    }
    run(bundle, extra, "test", config)
    table = read_case_table(bundle / "eval" / "dice.csv")
    assert {each.metric: each in table.lower for each in table.values} == {"mse": True, "dice": False}
    lines = [line.split(",") for line in (bundle / "eval" / "dice.csv").read_text().splitlines()]
    higher = [[*line[:3], str(float(line[3]) + 1), *line[4:]] for line in lines[1:]]
    (bundle / "other.csv").write_text("\n".join(map(",".join, [lines[0], *higher])) + "\n")
    (row, *_) = compare_runs([bundle / "eval" / "dice.csv", bundle / "other.csv"], "mse").rows
    assert (row.better, row.worse, row.lower_is_better) == (0, row.n, True)
    assert row.n
