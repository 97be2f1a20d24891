import math
import os
import re

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from monai.metrics import DiceMetric, HausdorffDistanceMetric
from monai.networks.utils import one_hot
from monai.transforms import AsDiscreted
from parts import classification, classifier, items, loader, pairs, trainer
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from monai_lighter import BatchAdapter, CaseMetrics, FileWriter, System, TableWriter
from monai_lighter.callbacks.case_values import Scores
from monai_lighter.callbacks.run_summary import RunSummary, format_duration
from monai_lighter.callbacks.score_table import format_scores

COMMANDS = {
    "fit": ["monai-lighter", "fit", "my configs/train.yaml", "--args::fit::ckpt_path", "old.ckpt"],
    "test": ["monai-lighter", "test", "my configs/evaluate.yaml"],
}


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def fields(text):
    """What stands after the names of a summary."""
    return {
        label.strip(): value
        for label, value in (re.split(r"\s{2,}", row.strip(), maxsplit=1) for row in text if "  " in row.strip())
    }


class Raise(Callback):
    def __init__(self, error):
        self.error = error

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise self.error


@pytest.mark.slow
class TestFit:
    def fit(self, path, capsys, *callbacks, error=None, **how):
        run = trainer(path, callbacks=[RunSummary(COMMANDS), *callbacks], **how)
        metrics = {"val": {"acc": MulticlassAccuracy(3)}}
        if error is None:
            run.fit(classification(metrics=metrics))
        else:
            with pytest.raises(error):
                run.fit(classification(metrics=metrics))
        return run, lines(capsys)

    def test_it_ends_with_what_it_made(self, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        run, text = self.fit(tmp_path, capsys, max_epochs=3, logger=True)
        told = fields(text)
        weights = next(each for each in run.callbacks if type(each).__name__ == "ModelWeights")
        assert re.fullmatch(r"fitted 3 epochs \(9 steps\) in \d.* s", text[1])
        assert told["ended by"] == "max_epochs = 3"
        assert (
            told["best"]
            == f"val/metrics/acc/epoch = {weights.best:.4f} in epoch {weights.best_epoch + 1} (higher is better)"
        )
        assert told["best weights"] == "models/model.pt"
        assert told["last weights"] == "models/model_last.pt"
        assert (tmp_path / told["checkpoint"]).is_file()
        assert told["logs"] == "lightning_logs/version_0"
        assert text[-2:] == ["next:", "  monai-lighter test 'my configs/evaluate.yaml'"]
        assert max(map(len, text)) <= 80

    @pytest.mark.parametrize(
        ("how", "why"),
        [
            ({"max_steps": 4, "max_epochs": -1}, "max_steps = 4"),
            ({"max_time": {"seconds": 0}, "max_epochs": 50}, "max_time"),
            (
                {"max_epochs": 9, "callbacks": EarlyStopping("val/metrics/acc/epoch", patience=1, min_delta=5)},
                "early stopping: ",
            ),
        ],
    )
    def test_it_says_why(self, tmp_path, capsys, how, why):
        given = [how.pop("callbacks")] if "callbacks" in how else []
        _, text = self.fit(tmp_path, capsys, *given, **how)
        assert fields(text)["ended by"].startswith(why)

    def test_after_ctrl_c_it_says_how_to_go_on(self, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        _, text = self.fit(tmp_path, capsys, Raise(KeyboardInterrupt()), error=SystemExit, max_epochs=3)
        assert fields(text)["ended by"] == "Ctrl-C"
        command = " ".join(row.rstrip("\\").strip() for row in text[text.index("go on with:") + 1 :])
        checkpoint = "checkpoints/epoch=0-step=3.ckpt"
        assert command == "monai-lighter fit 'my configs/train.yaml' --resume auto"
        again = trainer(tmp_path, max_epochs=3)
        again.fit(classification(metrics={"val": {"acc": MulticlassAccuracy(3)}}), ckpt_path=checkpoint)
        assert again.global_step == 9

    def test_an_error_is_named_and_a_fit_with_no_checkpoint_begins_again(self, tmp_path, capsys):
        _, text = self.fit(
            tmp_path, capsys, Raise(ValueError("no")), error=ValueError, max_epochs=3, enable_checkpointing=False
        )
        assert fields(text)["ended by"] == "ValueError, told below"
        assert "no checkpoint has been written yet; begin again with:" in text

    def test_files_of_an_earlier_run_are_not_its_own(self, tmp_path, capsys):
        (tmp_path / "models").mkdir()
        old = tmp_path / "models" / "model.pt"
        old.touch()
        os.utime(old, (0, 0))
        _, text = self.fit(
            tmp_path, capsys, Raise(ValueError("no")), error=ValueError, max_epochs=3, limit_val_batches=0
        )
        assert not [row for row in text if "weights" in row]

    def test_the_best_of_another_callback(self, tmp_path, capsys):
        kept = ModelCheckpoint(tmp_path, "best", monitor="val/loss/epoch")
        _, text = self.fit(tmp_path, capsys, kept, max_epochs=2)
        assert f"val/loss/epoch = {float(kept.best_model_score):.4f}" in "\n".join(text)

    def test_it_says_nothing_of_the_validations_of_a_fit_and_keeps_no_cases(self, tmp_path, capsys):
        summary = RunSummary()
        trainer(tmp_path, callbacks=[summary], max_epochs=2).fit(classification())
        assert not summary._scores
        assert "validated" not in "\n".join(lines(capsys))


def segmentation(data, mode="test", **kwargs):
    torch.manual_seed(0)
    dice = {"dice": DiceMetric(include_background=False), "far": HausdorffDistanceMetric(include_background=False)}
    return System(
        nn.Conv2d(1, 3, 3, padding=1),
        {mode: data},
        metrics={mode: dice},
        postprocessing={mode: AsDiscreted(["pred", "label"], argmax=[True, False], to_onehot=3)},
        labels={0: "rest", 1: "grey", 2: "white"},
        adapters={mode: {"batch": BatchAdapter("image", "label", identifier_accessor="name")}},
        **kwargs,
    )


def named_items(count, seed=0):
    return [{**item, "name": f"/data/case_{i}.nii.gz"} for i, item in enumerate(items(count, 3, seed))]


def dice_by_hand(data):
    """``(N, C)`` without background."""
    torch.manual_seed(0)
    model, found = nn.Conv2d(1, 3, 3, padding=1), []
    for item in data:
        pred = one_hot(model(item["image"][None]).argmax(1, keepdim=True), 3)[0, 1:].detach().numpy()
        true = one_hot(item["label"][None], 3)[0, 1:].numpy()
        found.append(
            [2 * (p * t).sum() / (p.sum() + t.sum()) if t.sum() else math.nan for p, t in zip(pred, true, strict=True)]
        )
    return np.array(found)


@pytest.mark.slow
class TestEvaluation:
    def test_a_table_by_class_with_the_worst_cases(self, tmp_path, capsys):
        data = named_items(5)
        data[2]["label"][data[2]["label"] == 1] = 0  # the class is nowhere in it
        run = trainer(tmp_path, callbacks=[RunSummary()])
        (result,) = run.test(segmentation(loader(data)), verbose=False)
        text = lines(capsys)
        expected = dice_by_hand(data)
        assert text[1].startswith("tested 5 cases in ")
        assert text[2].split() == ["metric", "class", "mean", "sd", "n"]
        rows = [row.split() for row in text[3:6]]
        for row, column, name in zip(rows[1:], expected.T, ("grey", "white"), strict=True):
            known = column[~np.isnan(column)]
            assert row[0] == name
            assert [float(cell) for cell in row[1:]] == pytest.approx(
                [known.mean(), known.std(ddof=1), len(known)], abs=6e-5
            )
        cases = np.nanmean(expected, 1)
        assert rows[0][:2] == ["dice", "all"]
        assert float(rows[0][2]) == pytest.approx(result["test/metrics/dice/epoch"], abs=6e-5)
        assert float(rows[0][3]) == pytest.approx(cases.std(ddof=1), abs=6e-5)
        worst = [f"case_{i}.nii.gz {cases[i]:.4f}" for i in np.argsort(cases)[:3]]
        assert f"worst dice: {', '.join(worst)}" in text
        assert "far [voxels]" in text[6]
        assert max(map(len, text)) <= 80

    def test_of_distances_the_largest_are_the_worst(self, tmp_path, capsys):
        table = CaseMetrics(tmp_path / "cases.csv", metrics=["far"])
        trainer(tmp_path, callbacks=[RunSummary(), table]).test(segmentation(loader(named_items(4))), verbose=False)
        text = lines(capsys)
        rows = [row.split(",") for row in (tmp_path / "cases.csv").read_text().splitlines()[1:]]
        by_case = {}
        for case, _, _, value, _ in rows:
            by_case.setdefault(case, []).append(float(value))
        farthest = max(by_case, key=lambda case: np.nanmean(by_case[case]))
        (row,) = [row for row in text if row.startswith("worst far:")]
        assert row.split()[2] == farthest.rpartition("/")[2]
        assert text[-1] == f"  1 file        {tmp_path / 'cases.csv'}"

    def test_loaders_have_rows_of_their_own(self, tmp_path, capsys):
        first, second = named_items(3), named_items(4, seed=1)
        data = {"site_a": loader(first), "site_b": loader(second)}
        run = trainer(tmp_path, callbacks=[RunSummary()])
        run.validate(segmentation(data, "val"), verbose=False)
        text = lines(capsys)
        assert text[1].startswith("validated 7 cases")
        for name, cases in (("site_a", first), ("site_b", second)):
            (row,) = [row for row in text if row.startswith(f"dice {name} ")]
            assert float(row.split()[3]) == pytest.approx(np.nanmean(np.nanmean(dice_by_hand(cases), 1)), abs=6e-5)
            assert row.split()[-1] == str(len(cases))
            assert any(row.startswith(f"worst dice {name}:") for row in text)

    def test_metrics_without_values_by_case_have_a_mean(self, tmp_path, capsys):
        metrics = {"test": {"acc": MulticlassAccuracy(3), "each": MulticlassAccuracy(3, average="none")}}
        system = classification(metrics=metrics, dataloaders={"test": loader(pairs(6))})
        (result,) = trainer(tmp_path, callbacks=[RunSummary()]).test(system, verbose=False)
        rows = {tuple(row.split()[:-1]): float(row.split()[-1]) for row in lines(capsys)[3:]}
        assert rows["acc",] == pytest.approx(result["test/metrics/acc/epoch"], abs=6e-5)
        assert len(rows) == len(result)

    def test_any_lightning_module(self, tmp_path, capsys):
        class Own(LightningModule):
            def test_step(self, batch, batch_idx):
                self.log("score", 0.25)

        trainer(tmp_path, callbacks=[RunSummary()]).test(Own(), loader(pairs(4)), verbose=False)
        text = lines(capsys)
        assert text[1].startswith("tested in")
        assert text[3].split() == ["score", "0.2500"]


@pytest.mark.slow
def test_prediction_says_how_many_files_and_where(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    system = System(classifier(), {"predict": loader(pairs(5))}, adapters={"predict": {"batch": BatchAdapter(0)}})
    writers = [FileWriter("out", "tensor"), TableWriter("tables/all.csv")]
    trainer(tmp_path, callbacks=[RunSummary(), *writers]).predict(system, return_predictions=False)
    text = lines(capsys)
    assert text[1].startswith("predicted 5 cases in ")
    assert text[2:] == ["  5 files       out", "  1 file        tables/all.csv"]
    trainer(tmp_path, callbacks=[RunSummary()]).predict(system, return_predictions=False)
    assert lines(capsys)[2].startswith("no files")


def test_long_names_lose_their_middle_and_equal_names_keep_their_folders():
    values = torch.tensor([[0.5], [0.25]])
    name = "a_metric_with_a_name_that_is_much_longer_than_any_column_of_a_terminal_can_be"
    scores = Scores(name, "", ["a_class_with_a_long_name_too"], False, "", ["a/x.nii", "b/x.nii"], [values])
    text = format_scores([scores], {}, "test")
    assert max(map(len, text[:2])) <= 80
    assert text[1].split()[0].startswith("a_metric")
    assert "..." in text[1]
    assert "b/x.nii 0.2500, a/x.nii 0.5000" in " ".join("".join(text[2:]).split())


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.96, "10 s"), (125, "2 min 5 s"), (4320, "1 h 12 min")]
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text
