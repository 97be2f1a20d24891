import csv
import json
from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.distributed as dist
from parts import trainer

from monai_lighter import Workflow
from monai_lighter.callbacks.case_slices import read_slices
from monai_lighter.callbacks.case_values import CaseNames
from monai_lighter.callbacks.run_report import MOST_KEPT, RunReport, _KeptCases, choose_cases
from monai_lighter.study.case_tables import read_case_table
from monai_lighter.study.comparison import compare_runs
from monai_lighter.system.processes import gather

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
    slices, volume = read_slices(folder / "report_slices.npz")
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


def end_with_a_broken_case(folder):
    """The end of a test in which a case has a value that has no place among others; gives the report."""
    report, run = RunReport({}), trainer(folder)
    report._folder, report._names, report._mode = folder, CaseNames(run, 1), "test"
    report._kept._values = {"a": None, "b": 1.0} if int(dist.is_initialized() and dist.get_rank()) == 0 else {"c": 1.0}
    report.on_test_end(run, None)
    return report


def test_slices_that_cannot_be_chosen_do_not_end_a_test(tmp_path):
    assert "TypeError" in end_with_a_broken_case(tmp_path)._problem


def end_in_one_process(rank, folder, told):
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=timedelta(seconds=30)
    )
    told.put((rank, end_with_a_broken_case(folder)._problem[:9], gather(rank)))
    dist.barrier()


@pytest.mark.slow
def test_where_one_process_has_what_is_broken_none_waits_for_it(tmp_path):
    """What all processes do together after it goes on in step."""
    context = torch.multiprocessing.get_context("fork")
    told = context.SimpleQueue()
    processes = [context.Process(target=end_in_one_process, args=(rank, tmp_path, told)) for rank in range(2)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(60)
    assert [each.exitcode for each in processes] == [0, 0]
    assert sorted(told.get() for _ in processes) == [(0, "TypeError", [0, 1]), (1, "TypeError", [0, 1])]


WORST = {
    "seed": 3,
    "trainer::logger": True,
    "trainer::callbacks": [
        {"_target_": "monai_lighter.ModelWeights", "monitor": "val/metrics/dice/epoch", "mode": "min"}
    ],
    "system::dataloaders::val::dataset::data": "@data",
}
"""The best epoch is the one with the lowest Dice, which a fit leaves behind it."""


def validate(bundle, extra):
    """Case to the value that a validation of its own has with the best weights."""
    weights = {"_target_": "monai_lighter.load_weights", "model": "@network_def"}
    config = {
        **WORST,
        "report": False,
        "system::model": {**weights, "ckpt_path": str(bundle / "models" / "model.pt")},
        "trainer::logger": False,
        "trainer::callbacks": [{"_target_": "monai_lighter.CaseMetrics", "path": str(bundle / "validated.csv")}],
    }
    run(bundle, extra, "validate", config)
    with open(bundle / "validated.csv", newline="") as file:
        return {row["case"]: float(row["value"]) for row in csv.DictReader(file)}


@pytest.mark.slow
def test_a_fit_shows_the_cases_of_its_best_epoch_and_goes_as_without(bundle, extra):
    fitted = run(bundle, extra, "fit", {**WORST, "max_epochs": 4})
    best = next(each for each in fitted.trainer.callbacks if type(each).__name__ == "ModelWeights").best_epoch
    assert best < 3
    own = torch.load(bundle / "models" / "model.pt", weights_only=True)
    values = validate(bundle, extra)
    folder = bundle / "lightning_logs" / "version_0"
    slices, _ = read_slices(folder / "report_slices.npz")
    assert {each.case: each.role for each in slices} == choose_cases(values, lower=False)
    assert {each.case: each.value for each in slices} == {each.case: values[each.case] for each in slices}
    assert {each.epoch for each in slices} == {best}
    for each in slices:
        both = (each.label & each.pred).sum()
        assert 2 * both / (each.label.sum() + each.pred.sum()) == pytest.approx(each.value, abs=1e-6)
    data = json.loads((folder / "report.json").read_text())
    assert [each["value"] for each in data["slices"]] == [each.value for each in slices]
    assert data["slices_of"] == f"Of the validation in epoch {best + 1}, whose weights are the best."
    run(bundle, extra, "fit", {**WORST, "report": False, "max_epochs": 4})
    other = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(value, other[name]) for name, value in own.items())
    assert not (bundle / "lightning_logs" / "version_1" / "report_slices.npz").exists()


@pytest.mark.slow
def test_a_fit_that_goes_on_keeps_the_pictures_of_its_best_epoch(bundle, extra):
    first = run(bundle, extra, "fit", {**WORST, "max_epochs": 3})
    best = next(each for each in first.trainer.callbacks if type(each).__name__ == "ModelWeights").best_epoch
    run(bundle, extra, "fit", {**WORST, "max_epochs": 4}, resume="auto")
    before, after = (read_slices(path)[0] for path in sorted(bundle.rglob("report_slices.npz")))
    assert [(each.case, each.value, each.epoch) for each in after] == [(e.case, e.value, e.epoch) for e in before]
    data = json.loads((bundle / "lightning_logs" / "version_1" / "report.json").read_text())
    assert {each["epoch"] for each in data["slices"]} == {best + 1}


@pytest.mark.slow
def test_without_best_weights_the_pictures_are_those_of_the_last_epoch(bundle, extra):
    config = {
        **WORST,
        "trainer::callbacks": [{"_target_": "monai_lighter.ModelWeights", "monitor": "train/loss/epoch"}],
    }
    fitted = run(bundle, extra, "fit", {**config, "max_epochs": 3})
    best = next(each for each in fitted.trainer.callbacks if type(each).__name__ == "ModelWeights").best_epoch
    slices = json.loads((bundle / "lightning_logs" / "version_0" / "report.json").read_text())["slices"]
    assert {each["epoch"] for each in slices} <= {best + 1}  # of a metric of training: those of the best epoch, or none


@pytest.mark.slow
def test_files_of_a_user_in_a_folder_that_all_runs_share_stay(bundle, extra, tmp_path, monkeypatch):
    """As the working directory is with W&B's logger."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    names = ("config.yaml", "timing.json", "run.json", "case_slices.npz", "case_metrics_val.csv")
    for name in names:
        (place / name).write_text("mine")
    callbacks = [{"_target_": "monai_lighter.CaseMetrics"}]
    config = {"trainer::logger": {"_target_": "parts.Shared", "save_dir": "."}, "trainer::callbacks": callbacks}
    run(bundle, extra, "fit", config)
    own = place / "project" / "7"
    assert {path.name for path in place.iterdir()} == {*names, "project"}
    assert {(place / name).read_text() for name in names} == {"mine"}
    assert {"config.yaml", "timing.json", "report.html", "report_run.json", "case_metrics_val.csv"} <= {
        path.name for path in own.iterdir()
    }
    data = json.loads((own / "report.json").read_text())
    assert len(data["tables"]) == 1
    assert data["slices_of"].endswith("The table is of the last one.")
