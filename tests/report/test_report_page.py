"""The page of a report: what is in it, and what must not be."""

import getpass
import json
import math
import os
import re
import socket
from html.parser import HTMLParser
from pathlib import Path

import browser
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.utils import MetaKeys, SpaceKeys

from monai_lighter.callbacks.case_slices import Grid, cut_slice, cut_volume, read_slices, write_slices
from monai_lighter.callbacks.run_report import choose_cases
from monai_lighter.commands.compare import compare
from monai_lighter.commands.report import report
from monai_lighter.errors import ConfigError
from monai_lighter.report.content import read_content
from monai_lighter.report.figures import draw_distribution
from monai_lighter.report.scores import summarize
from monai_lighter.report.writing import LARGEST, write_report
from monai_lighter.study.case_tables import CaseTable, MetricKey
from monai_lighter.study.study_folder import StudyRequest, Trial, read_study
from monai_lighter.trust.digest import hash_file

TABLE = "case_metrics_test.csv"
EVIL = "<img src=x onerror=alert(1)>"
PATIENTS = [f"/home/hans/MUELLER_{i:02}/ct.nii.gz" for i in range(9)]
SECRETS = ("MUELLER", "/home", "hans", "ct.nii", "secret")


class Page(HTMLParser):
    """Tags, attributes and texts of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def cases(values, name="liver", metric="dice", rows=None):
    rows = rows or zip(PATIENTS, values, strict=False)
    return "case,metric,class,value\n" + "".join(f'"{case}",{metric},"{name}",{value}\n' for case, value in rows)


def volume(shift):
    shape = (48, 40, 24)
    affine = torch.diag(torch.tensor([1.0, 1.2, 3.0, 1.0], dtype=torch.float64))
    label = torch.zeros(1, *shape)
    label[0, 10:30, 10:30, 6:18] = 1
    pred = torch.roll(label, shift, 1)
    image = label * 0.7 + torch.rand(label.shape, generator=torch.Generator().manual_seed(0)) * 0.3
    meta = {"filename_or_obj": "x.nii.gz", MetaKeys.SPACE: SpaceKeys.RAS}
    return [MetaTensor(each, affine=affine, meta=dict(meta)) for each in (image, label, pred)]


@pytest.fixture
def run(tmp_path):
    """Folder of a run as one has left it: curves, a table, slices, and what it said."""
    folder = tmp_path / "version_0"
    folder.mkdir()
    rows = [f"{i},{10 * i + 9},{1 / (i + 1)},{1.1 / (i + 1)},{1 - 1 / (i + 2)},{0.01 * 0.9**i}" for i in range(8)]
    head = "epoch,step,train/loss/epoch,val/loss/epoch,val/metrics/dice/epoch,train/optimizer/AdamW/lr"
    (folder / "metrics.csv").write_text("\n".join([head, *rows]) + "\n")
    values = [0.91, 0.5, 0.8, math.nan, 0.7, 0.95, 0.6, 0.85, 0.75]
    (folder / "case_metrics_test.csv").write_text(cases(values, EVIL))
    said = {
        "stage": "test",
        "ended": "2026-01-01 10:00",
        "versions": {"torch": "2.13"},
        "hardware": {"accelerator": "cpu", "precision": "32-true"},
        "digest": "ab" * 32,
        "warnings": [
            f"case {PATIENTS[1]}: its affine is odd",
            f"{EVIL} is no class",
            f"made by {getpass.getuser()}@{socket.gethostname()}@home",
        ],
        "timing": {"seconds": {"total": 12.0, "step": 9.0}, "share": {"step": 0.75}, "memory": {"process": 512.0}},
        "config": {"seed": 0, "note": "secret", "system": {"_target_": "monai_lighter.System"}, EVIL: EVIL},
    }
    (folder / "report_run.json").write_text(json.dumps(said))
    known = {case: value for case, value in zip(PATIENTS, values, strict=True) if not math.isnan(value)}
    slices, kept = [], None
    for case, role in choose_cases(known, lower=False).items():
        image, label, pred = volume(len(slices) + 1)
        grid = Grid.of_case(label, pred, pred)
        slices.append(cut_slice(grid, image, {1: EVIL}, case, "dice", known[case])._replace(role=role))
        kept = kept or cut_volume(grid, image, case)
    write_slices(folder / "report_slices.npz", slices, kept)
    return folder


def test_the_page_is_one_file_with_no_names(run):
    page = write_report(run)
    text = page.read_text()
    assert page.stat().st_size < LARGEST
    for content in (text, (run / "report.json").read_text()):
        plain = re.sub(r"base64,[\w+/=]+", "", content)
        assert [secret for secret in SECRETS if secret.lower() in plain.lower()] == []
        assert "made by" in plain
        assert not re.search(rf"\b({re.escape(getpass.getuser())}|{re.escape(socket.gethostname())})@", plain)
    read = Page(page)
    assert EVIL not in text
    assert any(EVIL in each for each in read.text)
    assert not any(tag == "img" and attributes.get("src") == "x" for tag, attributes in read.tags)
    sources = [each[name] for _, each in read.tags for name in ("src", "href") if name in each]
    assert all(source.startswith("data:") for source in sources)
    assert all(attributes.get("alt") for tag, attributes in read.tags if tag == "img")
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in read.tags


def test_the_numbers_are_those_of_the_table(run):
    write_report(run)
    data = json.loads((run / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    values = np.array([0.91, 0.5, 0.8, 0.7, 0.95, 0.6, 0.85, 0.75])
    score = data["tables"][0]["scores"][0]
    assert score["mean"] == pytest.approx(values.mean())
    assert (score["n"], score["without"], score["better"]) == (8, 1, "higher")
    rows = data["tables"][0]["cases"]
    assert rows[0] == {"case": "case 2", "loader": "", "values": [0.5]}
    assert rows[-1] == {"case": "case 4", "loader": "", "values": [None]}
    shown = [(each["case"], each["role"], each["value"]) for each in data["slices"]]
    worst = [("case 2", "worst", 0.5), ("case 7", "worst", 0.6), ("case 5", "worst", 0.7)]
    assert shown == [*worst, ("case 3", "median", 0.8)]
    assert data["curves"]["test"]["points"]["val/loss/epoch"][0] == [1, 1.1]


def test_names_are_shown_where_they_are_asked_for(run, tmp_path):
    text = report(str(run), output=str(tmp_path / "own.html"), names=True)
    assert "own.html" in text
    page = (tmp_path / "own.html").read_text()
    assert PATIENTS[1] in page
    assert "secret" in page
    assert not (run / "report.html").exists()
    assert (tmp_path / "own.json").is_file()


def test_what_is_missing_is_told(tmp_path):
    (tmp_path / "dice.csv").write_text(cases([0.5, 0.6]))
    text = write_report(tmp_path / "dice.csv").read_text()
    assert "No pictures: a fit and a test keep slices" in text
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "metrics.csv").write_text("epoch,step,train/loss/epoch\n0,1,0.5\n1,2,0.4\n")
    assert "no monai_lighter.CaseMetrics" in write_report(tmp_path / "logs").read_text()
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match=r"has no metrics\.csv, no table of CaseMetrics"):
        write_report(tmp_path / "none")
    with pytest.raises(ConfigError, match="must be the name of a page"):
        write_report(tmp_path / "logs", tmp_path / "x.json")
    with pytest.raises(ConfigError, match="must be a metric of the tables, got 'dise'"):
        write_report(tmp_path / "dice.csv", lower_is_better=["dise"])


def test_pictures_of_another_run_than_the_table_are_not_shown(run):
    said = json.loads((run / "report_run.json").read_text())
    said["tables"] = {"case_metrics_test.csv": hash_file(run / "case_metrics_test.csv")}
    (run / "report_run.json").write_text(json.dumps(said))
    write_report(run)
    assert len(json.loads((run / "report.json").read_text())["slices"]) == 4
    (run / "case_metrics_test.csv").write_text(cases([0.1] * 9))
    assert "are of another run than the table" in write_report(run).read_text()
    data = json.loads((run / "report.json").read_text())
    assert (data["slices"], data["volume"], data["runs"]) == ([], None, [])


def test_a_page_never_is_too_large(run, monkeypatch):
    monkeypatch.setattr("monai_lighter.report.writing.LARGEST", 10_000)
    text = write_report(run).read_text()
    assert "The volume is left out" in text
    assert 'id="volume"' not in text


def test_a_page_of_many_cases_classes_and_tables_is_within_its_bound(tmp_path):
    random = np.random.default_rng(0)
    names = [f"/data/hospital/P{i:05}_study/image.nii.gz" for i in range(2500)]
    for table in range(3):
        rows = ((name, random.random(), label) for name in names for label in range(24))
        text = "".join(f"{name},dice,{label},{value!r}\n" for name, value, label in rows)
        (tmp_path / f"table_{table}.csv").write_text(f"case,metric,class,value\n{text}")
    words = {"_target_": "monai_lighter.System", **{f"part_{i}": "bilinear" for i in range(100)}}
    said = {"stage": "test", "warnings": [f"case {name}: is odd" for name in names[:50]], "config": words}
    (tmp_path / "report_run.json").write_text(json.dumps(said))
    page = write_report(tmp_path)
    assert page.stat().st_size <= 6_000_000
    assert "better cases are left out here" in page.read_text()
    assert "P00001" not in page.read_text()
    assert json.loads((tmp_path / "report.json").read_text())["warnings"][:2] == ["case 1: is odd", "case 2: is odd"]


@pytest.mark.parametrize("name", ["report_run.html", "case_metrics_test.csv", "notes.html", "page"])
def test_a_report_takes_the_place_of_no_other_file(run, name):
    """Nor do its numbers: those of ``report_run.html`` would be ``report_run.json``."""
    (run / "notes.html").write_text("<p>mine</p>")
    before = {path: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(ConfigError, match=r"no report that it could take the place of|must be the name of a page"):
        write_report(run, run / name)
    assert {path: path.read_bytes() for path in run.iterdir()} == before
    write_report(run)
    write_report(run)


def test_tables_of_others_in_the_folder_are_not_this_run_s(run):
    said = json.loads((run / "report_run.json").read_text())
    (run / "report_run.json").write_text(
        json.dumps({**said, "tables": {"case_metrics_test.csv": hash_file(run / TABLE)}})
    )
    (run / "other.csv").write_text(cases([0.1] * 9))
    write_report(run)
    data = json.loads((run / "report.json").read_text())
    assert [len(data["tables"]), len(data["slices"])] == [1, 4]
    write_report(run / "other.csv")
    data = json.loads((run / "report.json").read_text())
    assert [len(data["tables"]), data["tables"][0]["scores"][0]["mean"], data["slices"]] == [1, pytest.approx(0.1), []]


def test_equal_label_and_prediction_are_said_to_be_equal(run):
    slices, kept = read_slices(run / "report_slices.npz")
    write_slices(run / "report_slices.npz", [each._replace(error=0.0) for each in slices], kept)
    text = write_report(run).read_text()
    assert "label and prediction are equal in all of the case" in text
    assert "more than in any other slice" not in text


@pytest.fixture
def study(tmp_path):
    """A study of two learning rates by three folds."""
    folder = tmp_path / "studies" / "rates"
    folder.mkdir(parents=True)
    request = StudyRequest(
        ["train.yaml"],
        {},
        {"lr": [0.1, 0.01], "fold": [0, 1, 2]},
        {},
        ["fold"],
        None,
        "val/metrics/dice/epoch",
        "maximize",
        True,
        "",
    )
    request.write(folder)
    rng = np.random.default_rng(0)
    for number in range(6):
        rate, fold = (0.1, 0.01)[number // 3], number % 3
        trial = folder / f"{number:03d}"
        logs = trial / "lightning_logs" / "version_0"
        logs.mkdir(parents=True)
        values = np.sort(rng.uniform(0.3, 0.9, 6)) + (number > 2) * 0.05
        rows = "".join(f"{i},{i * 5},{1 - value},{value}\n" for i, value in enumerate(values))
        (logs / "metrics.csv").write_text(f"epoch,step,train/loss/epoch,val/metrics/dice/epoch\n{rows}")
        note = "/home/hans/x.py, line 3: MUELLER_01" if number == 1 else ""
        one = Trial(
            trial, number, number // 3, {"lr": rate, "fold": fold}, {"fold": fold}, "complete", float(values[-1])
        )
        one._replace(exit_code=0, seconds=3.0, epoch=5, note=note).write()
    (folder / "out_of_fold.csv").write_text(cases([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]))
    return folder


def test_a_study_has_its_sets_folds_and_the_table_out_of_fold(study):
    text = write_report(study).read_text()
    data = json.loads((study / "report.json").read_text())
    assert [each for each in SECRETS if each.lower() in re.sub(r"base64,[\w+/=]+", "", text).lower()] == []
    values = [json.loads((study / f"{i:03d}" / "trial.json").read_text())["value"] for i in range(6)]
    best = int(np.mean(values[3:]) > np.mean(values[:3]))
    own = values[3 * best : 3 * best + 3]
    row = data["study"]["sets"][best]
    assert row["best"]
    assert (row["mean"], row["std"]) == (pytest.approx(np.mean(own)), pytest.approx(np.std(own, ddof=1)))
    assert [*data["curves"]] == [f"trial {3 * best + i}" for i in range(3)]
    assert data["tables"][0]["scores"][0]["mean"] == pytest.approx(0.65)
    assert data["tables"][0]["title"] == "out of fold"


def slices_of(cases, values, epoch):
    """As a fit has kept them of a validation: role to case by their values."""
    slices, kept = [], None
    for case, role in choose_cases(dict(zip(cases, values, strict=True)), lower=False).items():
        image, label, pred = volume(len(slices) + 1)
        grid = Grid.of_case(label, pred, pred)
        value = values[cases.index(case)]
        slices.append(cut_slice(grid, image, {}, case, "dice", value)._replace(role=role, epoch=epoch))
        kept = kept or cut_volume(grid, image, case)
    return slices, kept


def list_best_trials(folder):
    return [trial.folder for trial in read_study(folder).best.trials]


TABLE_OF_FOLDS = dict(zip(PATIENTS, (0.9, 0.8, 0.7, 0.6, 0.5, 0.4), strict=False))


@pytest.fixture
def pictured(study):
    """The same, of which the trials of the best set have kept slices of two cases each, in the epoch of the best weights."""
    for number, trial in enumerate(list_best_trials(study)):
        cases = PATIENTS[2 * number : 2 * number + 2]
        path = trial / "lightning_logs" / "version_0" / "report_slices.npz"
        write_slices(path, *slices_of(cases, [TABLE_OF_FOLDS[case] for case in cases], 5))
    return study


def test_a_study_shows_the_worst_and_the_median_case_of_all_folds(pictured):
    text = write_report(pictured).read_text()
    data = json.loads((pictured / "report.json").read_text())
    rows = {row["case"]: row["values"] for row in data["tables"][0]["cases"]}
    assert [(each["case"], each["role"]) for each in data["slices"]] == [
        ("case 6", "worst"),
        ("case 5", "worst"),
        ("case 4", "worst"),
        ("case 3", "median"),
    ]
    assert all(rows[each["case"]] == [each["value"]] for each in data["slices"])
    assert data["volume"]["case"] == "case 6"
    assert "of each fold by its own network" in text
    assert [each for each in SECRETS if each.lower() in re.sub(r"base64,[\w+/=]+", "", text).lower()] == []


def test_pictures_of_a_study_are_of_the_weights_that_its_table_is_of(pictured):
    """One went on after it was killed, in another folder; another has slices of an epoch that is not the best."""
    first, second, _ = list_best_trials(pictured)
    old = first / "lightning_logs" / "version_0" / "report_slices.npz"
    os.utime(old, (1, 1))
    write_slices(first / "lightning_logs" / "version_1" / "report_slices.npz", *slices_of(PATIENTS[:1], [0.9], 5))
    write_slices(
        second / "lightning_logs" / "version_0" / "report_slices.npz", *slices_of(PATIENTS[2:4], [0.1, 0.2], 2)
    )
    write_report(pictured)
    data = json.loads((pictured / "report.json").read_text())
    assert [(each["case"], each["value"]) for each in data["slices"]] == [
        ("case 6", 0.4),
        ("case 5", 0.5),
        ("case 1", 0.9),
    ]


def test_a_study_without_pictures_says_so(study):
    assert "No pictures: a fit and a test keep slices" in write_report(study).read_text()


def test_pictures_of_a_fit_are_of_its_best_epoch_or_not_there(run):
    """The slices may be those of a fit before it, in a folder of the same name."""
    said = json.loads((run / "report_run.json").read_text())
    best = {"monitor": "val/metrics/dice/epoch", "value": 0.5, "epoch": 2, "mode": "max"}
    (run / "report_run.json").write_text(json.dumps({**said, "stage": "fit", "best": best}))
    for epoch, count in ((2, 2), (1, 0)):
        write_slices(run / "report_slices.npz", *slices_of(PATIENTS[:2], [0.4, 0.6], epoch))
        text = write_report(run).read_text()
        data = json.loads((run / "report.json").read_text())
        assert [len(data["slices"]), data["volume"] is not None] == [count, count > 0]
        assert ("Of the validation in epoch 3, whose weights are the best. The table is of the last one." in text) == (
            epoch == 2
        )


def test_a_trial_that_was_killed_and_went_on_has_all_its_epochs(study):
    """Which began a new log folder, with the epoch that was not through once more."""
    for trial in study.glob("0*"):
        first = trial / "lightning_logs" / "version_0" / "metrics.csv"
        os.utime(first, (1, 1))
        second = trial / "lightning_logs" / "version_1" / "metrics.csv"
        second.parent.mkdir()
        second.write_text(f"{first.read_text().splitlines()[0]}\n5,25,0.5,0.125\n6,30,0.4,0.25\n")
    for curves in read_content(study).curves.values():
        epochs, values = zip(*curves.points["val/metrics/dice/epoch"], strict=True)
        assert epochs == (1, 2, 3, 4, 5, 6, 7)
        assert values[5:] == (0.125, 0.25)
        assert 0.125 not in values[:5]


def test_a_bundle_has_its_metadata_and_its_newest_runs(run, tmp_path):
    root = tmp_path / "bundle"
    (root / "configs").mkdir(parents=True)
    proof = "passed: metadata schema, inference on a synthetic case"
    metadata = {"name": f"Liver {EVIL}", "version": "0.1.0", "task": "x", "eval_metrics": {"dice": 0.9}, "proof": proof}
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    run.rename(root / "eval")
    text = write_report(root).read_text()
    data = json.loads((root / "report.json").read_text())
    assert data["bundle"]["eval_metrics"] == {"dice": 0.9}
    assert data["bundle"]["about"]["proof"] == proof
    assert proof in text
    assert data["tables"][0]["scores"][0]["n"] == 8
    assert EVIL not in text


def test_the_trials_of_a_study_are_no_runs_of_the_bundle(run, tmp_path):
    root = tmp_path / "bundle"
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "metadata.json").write_text("{}")
    trial = root / "studies" / "lr" / "000" / "eval"
    trial.parent.mkdir(parents=True)
    (trial.parent.parent / "study.json").write_text("{}")
    run.rename(trial)
    write_report(root)
    assert json.loads((root / "report.json").read_text())["tables"] == []


def test_a_comparison_is_a_page_too(tmp_path):
    files = []
    for name, shift in (("hans", 0.0), ("secret", 0.05)):
        files.append(tmp_path / f"{name}.csv")
        files[-1].write_text(cases([0.5 + 0.03 * i + shift * (i % 3) for i in range(9)], EVIL))
    page = tmp_path / "page.html"
    compare(*map(str, files), html=str(page))
    text = page.read_text()
    assert [each for each in SECRETS if each.lower() in re.sub(r"base64,[\w+/=]+", "", text).lower()] == []
    assert EVIL not in text
    told = json.loads(compare(*map(str, files), json=True))["rows"][0]
    assert f'data-v="{told["difference"]!r}"' in text
    assert f'data-v="{told["p"]!r}"' in text
    number = PATIENTS.index(told["differing"][0][0]) + 1
    assert f"<td>case {number}</td>" in text
    compare(*map(str, files), html=str(page), names=True)
    assert PATIENTS[1] in page.read_text()


PIXELS = """
const canvas = document.querySelector("#viewer canvas");
return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
"""
NEXT_SLICE = """
const slider = document.querySelector("#viewer input[type=range]");
slider.value = 8;
slider.dispatchEvent(new Event("input"));
"""
SORT = """
const table = document.querySelector("[aria-label=Cases] table"), head = table.querySelectorAll("th")[1];
head.querySelector("button").click();
return [head.getAttribute("aria-sort"), ...[...table.tBodies[0].rows].map(row => row.cells[0].textContent)];
"""
INJECT = """
const script = document.createElement("script");
script.textContent = "window.evil = 1";
document.body.append(script);
return window.evil ?? null;
"""


@pytest.mark.slow
@pytest.mark.skipif(not (browser.CHROMIUM and browser.DRIVER), reason="no chromium with its chromedriver")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_the_page_without_an_error_or_a_request(run, width, tmp_path):
    page = write_report(run)
    with browser.Browser(width) as window:
        window.open(page)
        assert window.read_requests() == [page.resolve().as_uri()]
        assert window.run("return document.documentElement.scrollWidth") <= width
        assert window.run("return document.getElementById('no-viewer').hidden")
        assert window.run("return [...document.images].every(each => each.naturalWidth > 0)")
        assert window.run(SORT)[:2] == ["ascending", "case 2"]
        last = window.run(SORT)
        assert (last[:2], last[-1]) == (["descending", "case 6"], "case 4")
        window.run(NEXT_SLICE)
        assert window.read_console() == []
        before = window.run(PIXELS)
        assert len({*before}) > 20
        window.run(NEXT_SLICE.replace("8", "9"))
        assert window.run(PIXELS) != before
        assert window.run(INJECT) is None
        assert "Content Security Policy" in str(window.read_console())
        picture = tmp_path / "page.png"
        window.save_picture(picture)
        assert picture.stat().st_size > 10_000


def test_long_names_of_classes_leave_place_for_the_picture(recwarn):
    names = [f"a very long name of an anatomical structure, left side, number {i}" for i in range(6)]
    measured = [MetricKey("dice", name) for name in names]
    values = {each: {str(i): i / 10 for i in range(5)} for each in measured}
    draw_distribution(summarize(CaseTable(Path("cases.csv"), values, {}))[1:], "dice")
    assert not [each for each in recwarn if "constrained_layout not applied" in str(each.message)]
