import csv
import locale

import nibabel
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from monai.data import Dataset
from monai.metrics import DiceMetric, HausdorffDistanceMetric
from monai.networks.utils import one_hot
from monai.transforms import AsDiscreted, LoadImaged
from parts import classifier, items, loader, pairs, trainer
from torch import nn
from torchmetrics.classification import BinaryAccuracy

from monai_lighter import BatchAdapter, CaseMetrics, ConfigError, System, TableWriter
from monai_lighter.callbacks.tables import order_by_data

pytestmark = pytest.mark.slow


def rows(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


def predict(path, writer, data=None, identifier=None, callbacks=()):
    system = System(
        classifier(),
        {"predict": loader(data or pairs(5))},
        adapters={"predict": {"batch": BatchAdapter(0, identifier_accessor=identifier)}},
    )
    trainer(path, callbacks=[writer, *callbacks]).predict(system, return_predictions=False)


def test_tables_are_utf_8_wherever_they_are_written(tmp_path):
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C")  # whose files have another encoding, as those of Windows do
        predict(tmp_path, TableWriter(tmp_path / "out.csv"), [(pairs(1)[0][0], "M\u00fcller")], identifier=1)
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    assert "M\u00fcller" in (tmp_path / "out.csv").read_text("utf-8")


class TestTableWriter:
    def test_one_row_per_prediction_sorted_by_identifier(self, tmp_path):
        data = [(x, name) for (x, _), name in zip(pairs(3), ("c", "a", "b"), strict=True)]
        predict(tmp_path, TableWriter(tmp_path / "tables" / "out.csv"), data, identifier=1)
        table = rows(tmp_path / "tables" / "out.csv")
        assert [row[0] for row in table] == ["identifier", "a", "b", "c"]
        expected = classifier()(data[1][0]).tolist()
        assert [float(v) for v in table[1][1].strip("[]").split(",")] == pytest.approx(expected)
        assert [file.name for file in (tmp_path / "tables").iterdir()] == ["out.csv"]

    def test_numbers_are_sorted_as_numbers(self, tmp_path):
        data = [(x, i) for i, (x, _) in zip((10, 9, 100), pairs(3), strict=True)]
        predict(tmp_path, TableWriter(tmp_path / "out.csv", lambda pred: int(pred.argmax())), data, identifier=1)
        assert [row[0] for row in rows(tmp_path / "out.csv")] == ["identifier", "9", "10", "100"]

    def test_without_identifiers_items_are_numbered(self, tmp_path):
        predict(tmp_path, TableWriter(tmp_path / "out.csv", lambda pred: float(pred.max())))
        table = rows(tmp_path / "out.csv")[1:]
        assert [row[0] for row in table] == [str(i) for i in range(5)]
        assert [float(row[1]) for row in table] == pytest.approx([float(classifier()(x).max()) for x, _ in pairs(5)])

    def test_a_case_that_is_not_finite_has_a_note(self, tmp_path):
        data = [(x.clone(), name) for (x, _), name in zip(pairs(3), "abc", strict=True)]
        data[1][0][0] = torch.nan
        predict(tmp_path, TableWriter(tmp_path / "out.csv", lambda pred: int(pred.argmax())), data, identifier=1)
        table = rows(tmp_path / "out.csv")
        assert table[0] == ["identifier", "pred", "note"]
        assert [row[2] for row in table[1:]] == ["", "input and prediction not finite", ""]

    def test_a_path_without_suffix_is_a_file_too(self, tmp_path):
        predict(tmp_path, TableWriter(tmp_path / "out"))
        assert len(rows(tmp_path / "out")) == 6

    def test_an_interrupted_run_keeps_the_old_table_and_the_rows_so_far(self, tmp_path):
        path = tmp_path / "out.csv"
        predict(tmp_path, TableWriter(path))
        before = rows(path)

        class Break(Callback):
            def on_predict_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
                if batch_idx == 1:
                    raise RuntimeError("broken off")

        with pytest.raises(RuntimeError, match="broken off"):
            predict(tmp_path, TableWriter(path), callbacks=[Break()])
        assert rows(path) == before
        assert rows(tmp_path / ".out.csv.part0") == before[1:5]
        predict(tmp_path, TableWriter(path), pairs(2))
        assert len(rows(path)) == 3
        assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]

    def test_a_file_that_is_no_such_table_is_not_replaced(self, tmp_path):
        (tmp_path / "test.csv").write_text("image,label\nx.nii.gz,1\n")
        with pytest.raises(ConfigError, match=r"TableWriter\): .*test.csv is there and is no table .*'image', 'label'"):
            predict(tmp_path, TableWriter(tmp_path / "test.csv"))
        assert (tmp_path / "test.csv").read_text() == "image,label\nx.nii.gz,1\n"

    def test_two_tables_with_one_path(self, tmp_path):
        with pytest.raises(ConfigError, match="is the table of another callback too"):
            predict(tmp_path, TableWriter(tmp_path / "out.csv"), callbacks=[TableWriter(tmp_path / "out.csv")])


class Threshold(nn.Module):
    def forward(self, x):
        return one_hot((x > 0.5).long(), 2)


def case_metrics(path, callback, data, stage="test", metrics=None, **kwargs):
    mode = {"test": "test", "validate": "val"}[stage]
    system = System(
        Threshold(),
        {mode: loader(data)},
        metrics={mode: metrics or {"dice": DiceMetric(include_background=False)}},
        postprocessing={mode: lambda item: {**item, "label": one_hot(item["label"], 2, dim=0)}},
        adapters={mode: {"batch": BatchAdapter("image", "label", "id" if "id" in data[0] else None)}},
    )
    getattr(trainer(path, callbacks=[callback], **kwargs), stage)(system, verbose=False)


class TestCaseMetrics:
    def test_a_name_that_no_metric_has(self, tmp_path):
        with pytest.raises(ValueError, match=r"got 'dicee'\. Did you mean 'dice'\?"):
            case_metrics(tmp_path, CaseMetrics(metrics=["dicee"]), items(2))
        assert not list(tmp_path.rglob("*.csv"))

    @pytest.mark.parametrize("stage", ["test", "validate"])
    def test_a_row_for_each_case_and_class(self, tmp_path, stage):
        data = [{**item, "id": f"case_{i}"} for i, item in enumerate(items(3))]
        metrics = {"dice": DiceMetric(include_background=False), "both": DiceMetric(), "acc": BinaryAccuracy()}
        case_metrics(tmp_path, CaseMetrics(), data, stage, metrics)
        table = rows(tmp_path / f"case_metrics_{'test' if stage == 'test' else 'val'}.csv")
        assert table[0] == ["case", "metric", "class", "value"]
        values = DiceMetric()(
            one_hot((torch.stack([d["image"] for d in data]) > 0.5).long(), 2),
            one_hot(torch.stack([d["label"] for d in data]), 2),
        )
        expected = []
        for i in range(3):
            expected.append([f"case_{i}", "dice", "1", float(values[i, 1])])
            expected += [[f"case_{i}", "both", str(c), float(values[i, c])] for c in range(2)]
        assert [[*row[:3], float(row[3])] for row in table[1:]] == expected

    def test_path_metrics_and_numbered_cases(self, tmp_path):
        metrics = {"dice": DiceMetric(include_background=False), "both": DiceMetric()}
        data = items(3)
        data[1]["label"][:] = 0
        case_metrics(tmp_path, CaseMetrics(tmp_path / "t" / "x.csv", ["dice"]), data, metrics=metrics)
        table = rows(tmp_path / "t" / "x.csv")[1:]
        assert [row[:3] for row in table] == [[str(i), "dice", "1"] for i in range(3)]
        assert table[1][3] == "nan"

    def test_a_case_that_is_not_finite_has_a_note(self, tmp_path):
        data = [{**item, "id": f"case_{i}"} for i, item in enumerate(items(3))]
        data[1]["image"][0, 0, 0] = torch.nan
        case_metrics(tmp_path, CaseMetrics(metrics=["dice"]), data)
        table = rows(tmp_path / "case_metrics_test.csv")
        assert table[0] == ["case", "metric", "class", "value", "note"]
        assert {row[0]: row[4] for row in table[1:]} == {
            "case_0": "",
            "case_1": "input not finite",
            "case_2": "",
        }

    def test_each_validation_of_a_fit_replaces_the_table_the_sanity_check_does_not(self, tmp_path):
        model = nn.Conv2d(1, 1, 1)
        lines = []

        class Count(Callback):
            def on_train_epoch_end(self, trainer, module):
                lines.append(len(rows(tmp_path / "case_metrics_val.csv")))

            def on_sanity_check_end(self, trainer, module):
                assert not (tmp_path / "case_metrics_val.csv").exists()

        system = System(
            model,
            {"train": loader(items(2)), "val": loader(items(5))},
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            criterion=lambda pred, target: pred.mean(),
            metrics={"val": {"dice": DiceMetric()}},
            postprocessing={"val": lambda item: {**item, "pred": (item["pred"] > 0).float()}},
        )
        trainer(tmp_path, max_epochs=2, num_sanity_val_steps=1, callbacks=[CaseMetrics(), Count()]).fit(system)
        assert lines == [6, 6]

    def test_a_fast_development_run_writes_nothing(self, tmp_path):
        case_metrics(tmp_path, CaseMetrics(), items(2), fast_dev_run=True)
        case_metrics(tmp_path, CaseMetrics(), items(2), "validate", fast_dev_run=True)
        assert list(tmp_path.iterdir()) == []

    def test_values_that_are_not_of_cases_and_classes_are_left_out(self, tmp_path):
        class Whole(DiceMetric):
            def __call__(self, y_pred, y=None, **kwargs):
                return super().__call__(y_pred, y, **kwargs)[:, 0]

        case_metrics(tmp_path, CaseMetrics(), items(2), metrics={"whole": Whole()})
        assert rows(tmp_path / "case_metrics_test.csv") == [["case", "metric", "class", "value"]]

    def test_in_the_log_directory_of_a_logger(self, tmp_path):
        case_metrics(tmp_path, CaseMetrics(), items(2), logger=True)
        assert len(list(tmp_path.glob("lightning_logs/version_0/case_metrics_test.csv"))) == 1

    def test_classes_and_loaders_have_their_names_and_distances_their_unit(self, tmp_path):
        affine = np.diag([1.5, 2.0, 1, 1])
        masks = [np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)]
        masks[0][2:5, 2:6] = masks[1][2:5, 3:7] = 1
        data = []
        for i in range(2):
            item = {key: str(tmp_path / f"{key}_{i}.nii.gz") for key in ("image", "label")}
            for mask, path in zip(masks, item.values(), strict=True):
                nibabel.save(nibabel.Nifti1Image(mask, affine), path)
            data.append(item)
        load = LoadImaged(["image", "label"], ensure_channel_first=True)
        known, plain = (
            loader(Dataset(data, load)),
            loader(Dataset([load(data[0])], lambda item: {k: v.as_tensor() for k, v in item.items()})),
        )
        system = System(
            nn.Identity(),
            {"test": {"site_a": known, "site_b": plain}},
            metrics={
                "test": {
                    "dice": DiceMetric(include_background=False),
                    "hd": HausdorffDistanceMetric(include_background=False),
                }
            },
            postprocessing={"test": AsDiscreted(["pred", "label"], to_onehot=2)},
            labels={0: "background", 1: "lesion"},
        )
        trainer(tmp_path, callbacks=[CaseMetrics(tmp_path / "x.csv")]).test(system, verbose=False)
        table = rows(tmp_path / "x.csv")
        assert table[0] == ["case", "loader", "metric", "class", "value", "unit"]
        dice, distance = str(float(np.float32(0.75))), "2.0"  # one voxel of 2 mm along the second axis
        paths = [item["image"] for item in data]
        expected = [
            [path, "site_a", *rest]
            for path in paths
            for rest in (["dice", "lesion", dice, ""], ["hd", "lesion", distance, "mm"])
        ]
        expected += [["0", "site_b", "dice", "lesion", dice, ""], ["0", "site_b", "hd", "lesion", "1.0", "voxels"]]
        assert sorted(table[1:]) == sorted(expected)

    def test_loaders_without_names_are_numbered(self, tmp_path):
        system = System(
            Threshold(),
            {"test": [loader(items(3)), loader(items(1))]},
            metrics={"test": {"dice": DiceMetric(include_background=False)}},
            postprocessing={"test": lambda item: {**item, "label": one_hot(item["label"], 2, dim=0)}},
        )
        trainer(tmp_path, callbacks=[CaseMetrics(tmp_path / "x.csv")]).test(system, verbose=False)
        assert [row[:2] for row in rows(tmp_path / "x.csv")[1:]] == [["0", "0"], ["0", "1"], ["1", "0"], ["2", "0"]]

    def test_values_of_some_of_the_cases_name_none(self, tmp_path):
        system = System(
            Threshold(),
            {"test": loader(items(2))},
            metrics={"test": {"dice": DiceMetric(include_background=False)}},
            adapters={
                "test": {"metrics": lambda metric, input, target, pred: metric(pred[:1], one_hot(target[:1], 2))}
            },
        )
        with pytest.raises(ValueError, match="metric 'dice' has values of 1 cases for a batch of 2"):
            trainer(tmp_path, callbacks=[CaseMetrics(tmp_path / "x.csv")]).test(system, verbose=False)


def test_rows_of_several_processes_are_in_the_order_of_the_data():
    """Two loaders, of 5 and 3 cases, on two processes, of which each has every second case."""
    first = [["0", "a0"], ["0", "a2"], ["0", "a4"], ["1", "b0"], ["1", "b2"]]
    second = [["0", "a1"], ["0", "a3"], ["1", "b1"]]
    names = [name for (name,) in order_by_data([first, second])]
    assert names == ["a0", "a1", "a2", "a3", "a4", "b0", "b1", "b2"]
