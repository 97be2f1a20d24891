"""Batches, cases and heads: taken apart by hand, and through `System` and the writers."""

import csv
from collections import namedtuple

import nibabel
import numpy as np
import pytest
import torch
from monai.data import Dataset, MetaTensor
from monai.data.utils import list_data_collate
from monai.losses import DiceLoss
from monai.metrics import DiceMetric
from monai.transforms import AsDiscreted, LoadImaged, SaveImaged
from parts import Outputs, items, loader, trainer
from torch import nn
from torchmetrics.classification import BinaryAccuracy, MulticlassAccuracy

from monai_lighter import BatchAdapter, CaseMetrics, FileWriter, LoggingAdapter, System, TableWriter
from monai_lighter.errors import CaseError
from monai_lighter.system.batches import (
    Cases,
    copy_metadata,
    count_cases,
    find_image,
    list_identifiers,
    make_items,
    read_case_names,
    split_cases,
    split_outputs,
)

Heads = namedtuple("Heads", "a b")
IMAGES = torch.zeros(2, 1, 4, 5)


def image(names, plain=False):
    """A collated batch of images ``(1, 4, 5, 6)``, one for each name."""
    cases = [
        MetaTensor(
            torch.rand(1, 4, 5, 6), affine=torch.diag(torch.tensor([2.0, 3, 4, 1])), meta={"filename_or_obj": name}
        )
        for name in names
    ]
    batch = list_data_collate([{"x": case} for case in cases])["x"]
    return batch.as_tensor() if plain else batch


class TestListIdentifiers:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (None, None),
            (["a", "b"], ["a", "b"]),
            (("a", "b"), ["a", "b"]),
            (torch.tensor([3, 4]), [3, 4]),
            (np.array(["a", "b"]), ["a", "b"]),
        ],
    )
    def test_an_entry_for_each_case(self, given, expected):
        assert list_identifiers(given, IMAGES) == expected

    @pytest.mark.parametrize("given", ["case_7", 7, torch.tensor(7)])
    def test_one_text_names_a_batch_of_one(self, given):
        assert list_identifiers(given, IMAGES[:1]) == [7 if given != "case_7" else given]
        with pytest.raises(ValueError, match=r"identifier_accessor must give a list .* each of the 2 cases .* got "):
            list_identifiers(given, IMAGES)

    @pytest.mark.slow
    def test_in_files_and_in_tables(self, tmp_path):
        data = [{"image": torch.rand(1, 4, 5), "label": torch.ones(1, 4, 5), "id": f"case_{i}"} for i in range(2)]
        system = System(
            nn.Identity(),
            {mode: loader(data, 1) for mode in ("test", "predict")},
            metrics={"test": DiceMetric()},
            adapters={
                mode: {"batch": BatchAdapter("image", "label", lambda batch: batch["id"][0])}
                for mode in ("test", "predict")
            },
        )
        run = trainer(tmp_path, callbacks=[FileWriter(tmp_path / "out", "tensor"), CaseMetrics(tmp_path / "cases.csv")])
        run.predict(system, return_predictions=False)
        assert sorted(path.name for path in (tmp_path / "out").glob("*.pt")) == ["case_0.pt", "case_1.pt"]
        run.test(system, verbose=False)
        with open(tmp_path / "cases.csv") as file:
            assert [row["case"] for row in csv.DictReader(file)] == ["case_0", "case_1"]
        system.dataloaders["predict"] = loader(data, 2)
        with pytest.raises(
            ValueError, match="identifier_accessor must give a list with an entry for each of the 2 cases"
        ):
            run.predict(system, return_predictions=False)


class TestSplitCases:
    a, b = torch.arange(2.0), torch.arange(10.0, 12)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ((a, b), [(0, 10), (1, 11)]),
            ([a, b], [[0, 10], [1, 11]]),
            (Heads(a, b), [Heads(0, 10), Heads(1, 11)]),
            ({"x": a, "y": (b, "name")}, [{"x": 0, "y": (10, "name")}, {"x": 1, "y": (11, "name")}]),
            (["p", "q"], ["p", "q"]),
            (Cases([a, b]), [a, b]),
            (a, [0, 1]),
            (7, [7, 7]),
            (None, [None, None]),
            (torch.arange(3), [torch.arange(3)] * 2),
            ([torch.zeros(3, 4), torch.zeros(5, 4)], [torch.zeros(3, 4), torch.zeros(5, 4)]),  # boxes of two images
            ([{"boxes": a}, {"boxes": b}], [{"boxes": a}, {"boxes": b}]),  # though an image may have as many boxes
        ],
    )
    def test_an_entry_for_each_case(self, value, expected):
        assert _same(split_cases(value, IMAGES), expected)

    def test_maps_of_several_resolutions_are_heads(self):
        maps = [torch.rand(2, 3, 4, 5), torch.rand(2, 3, 2, 2)]
        cases = split_cases(maps, IMAGES)
        assert [[part.shape for part in case] for case in cases] == [[(3, 4, 5), (3, 2, 2)]] * 2
        assert torch.equal(cases[1][0], maps[0][1])

    @pytest.mark.parametrize("count", [1, 2])
    def test_a_list_of_images_has_an_entry_for_each_case_though_channels_are_as_many(self, count):
        maps = [torch.rand(count, 4, 5) for _ in range(count)]
        assert split_cases(maps, torch.zeros(count, 1, 4, 5)) == maps
        heads = [torch.rand(count, 2, 4, 5) for _ in range(count)]
        assert split_cases(heads, torch.zeros(count, 1, 4, 5))[0][0].shape == (2, 4, 5)

    def test_metadata_are_those_of_the_case(self):
        whole = image(["a.nii", "b.nii"])
        cases = split_cases((whole, torch.zeros(2, 1)), whole)
        assert [case[0].meta["filename_or_obj"] for case in cases] == ["a.nii", "b.nii"]
        assert cases[1][0].affine.shape == (4, 4)

    def test_outputs_of_another_module_are_its_predictions(self):
        assert len(split_outputs(torch.zeros(3, 2), None)) == 3
        assert split_outputs(["a", "b"], None) == ["a", "b"]
        assert len(split_outputs((torch.zeros(2), torch.zeros(2)), {"image": IMAGES})) == 2
        given = {"pred": (torch.zeros(2), torch.zeros(2)), "input": None}
        assert len(split_outputs(given, {"image": IMAGES})) == 2


def _same(a, b):
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return bool((torch.as_tensor(a) == torch.as_tensor(b)).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b


class TestSource:
    @pytest.mark.parametrize("form", [dict, tuple, list, "nested", "second"])
    def test_several_inputs_have_the_geometry_and_names_of_the_first_image(self, form):
        t1, t2 = image(["a.nii", "b.nii"]), image(["c.nii", "d.nii"])
        inputs = {
            dict: {"t1": t1, "t2": t2},
            tuple: (t1, t2),
            list: [t1, t2],
            "nested": ({"clinical": torch.zeros(2, 3)}, {"t1": t1}),
            "second": (MetaTensor(torch.zeros(2, 3)), t1),
        }[form]
        assert find_image(inputs) is t1
        assert read_case_names(inputs) == ["a.nii", "b.nii"]
        assert count_cases(inputs) == 2
        pred = copy_metadata({"seg": torch.zeros(2, 1, 4, 5, 6), "scalar": torch.zeros(())}, inputs)
        assert pred["seg"].meta["filename_or_obj"] == ["a.nii", "b.nii"]
        assert torch.equal(pred["seg"].affine, t1.affine)
        assert type(pred["scalar"]) is torch.Tensor

    def test_an_input_without_metadata_has_those_of_an_image_of_its_size_in_the_batch(self):
        t1 = image(["a.nii", "b.nii"])
        batch = {"age": torch.zeros(2), "t1": t1}
        merged = torch.cat([t1.as_tensor()] * 2, 1)
        assert read_case_names(merged, batch) == ["a.nii", "b.nii"]
        assert copy_metadata(torch.zeros(2, 1, 4, 5, 6), merged, batch).meta["filename_or_obj"] == ["a.nii", "b.nii"]
        assert find_image(merged[..., :3], batch) is None

    def test_a_list_of_cases_of_several_sizes(self):
        cases = [image([name])[0, :, :size] for name, size in (("a.nii", 2), ("b.nii", 3))]
        for case, name in zip(cases, "ab", strict=True):
            case.meta["filename_or_obj"], case.is_batch = f"{name}.nii", False
        assert read_case_names(cases) == ["a.nii", "b.nii"]
        pred = copy_metadata([torch.zeros(1, 2, 5, 6), torch.zeros(1, 3, 5, 6)], cases)
        assert [each.meta["filename_or_obj"] for each in pred] == ["a.nii", "b.nii"]


def positive(batch):
    return (batch["label"] > 0).float()


class Positive:
    """A batch adapter of one's own."""

    def __call__(self, batch):
        return batch["image"], positive(batch), None


ADAPTERS = {
    "dict": (BatchAdapter("image", positive), lambda item: item),
    "tuple": (
        BatchAdapter(0, lambda batch: (batch[1] > 0).float()),
        lambda item: (item["image"], item["label"]),
    ),
    "own": (Positive(), lambda item: item),
    "renamed": (
        lambda batch: (batch["scan"], (batch["mask"] > 0).float(), None),
        lambda item: {"scan": item["image"], "mask": item["label"]},
    ),
    "key": (
        BatchAdapter("image", "seg"),
        lambda item: {"image": item["image"], "seg": (item["label"] > 0).float(), "label": torch.rand(1, 8, 8)},
    ),
}


class TestOneTarget:
    """Label maps of classes 0, 1, 2 where the adapter asks for class > 0, and images that are the right answer."""

    data = [{"image": (item["label"] > 0).float(), "label": item["label"]} for item in items(3, classes=3)]

    @pytest.mark.slow
    @pytest.mark.parametrize("mode", ["train", "val", "test"])
    @pytest.mark.parametrize("name", ADAPTERS)
    def test_loss_metrics_and_callbacks_see_what_the_adapter_gave(self, tmp_path, name, mode):
        adapter, form = ADAPTERS[name]
        model = nn.Conv2d(1, 1, 1)
        nn.init.constant_(model.weight, 1.0)
        nn.init.constant_(model.bias, 0.0)
        outputs = Outputs()
        system = System(
            model,
            {mode: loader([form(item) for item in self.data])},
            optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
            criterion=DiceLoss(),
            metrics={mode: {"dice": DiceMetric(), "acc": BinaryAccuracy()}},
            adapters={mode: {"batch": adapter}},
            postprocessing={mode: AsDiscreted("pred", threshold=0.5)},
        )
        run = trainer(tmp_path, callbacks=[outputs])
        {"train": run.fit, "val": run.validate, "test": run.test}[mode](system)
        assert float(run.callback_metrics[f"{mode}/metrics/dice/epoch"]) == 1
        assert float(run.callback_metrics[f"{mode}/metrics/acc/epoch"]) == 1
        if mode != "test":
            assert float(run.callback_metrics[f"{mode}/loss/epoch"]) == pytest.approx(0, abs=1e-4)
        for output in outputs.of[mode] if mode != "train" else ():
            assert {value for target in output["target"] for value in target.unique().tolist()} == {0, 1}

    def test_transforms_change_the_one_target(self):
        batch = {"image": IMAGES, "label": torch.tensor([[5], [6]])}
        made = make_items(batch, Positive(), IMAGES, torch.tensor([[1], [0]]), ["a", "b"], IMAGES)
        assert [int(item["label"]) for item in made] == [1, 0]
        assert [item["identifier"] for item in made] == ["a", "b"]

    @pytest.mark.slow
    def test_no_target_is_none_though_the_batch_has_a_label(self, tmp_path):
        seen = []
        system = System(
            nn.Identity(),
            {"test": loader(items(1))},
            metrics={"test": {"acc": BinaryAccuracy()}},
            adapters={
                "test": {
                    "batch": BatchAdapter("image"),
                    "metrics": lambda metric, input, target, pred: seen.append(target),
                }
            },
            postprocessing={"test": lambda item: item},
        )
        trainer(tmp_path).test(system, verbose=False)
        assert seen == [None]

    def test_an_image_of_the_batch_stays_beside_several_inputs(self):
        batch = {"image": IMAGES, "age": torch.zeros(2, 1)}
        made = make_items(batch, Positive(), (IMAGES + 1, batch["age"]), None, None, IMAGES)
        assert float(made[0]["image"].max()) == 0
        made = make_items(batch, Positive(), IMAGES + 1, None, None, IMAGES)
        assert float(made[0]["image"].max()) == 1


@pytest.mark.slow
class TestHeads:
    @pytest.mark.slow
    def test_each_case_gets_its_part_of_each_head(self, tmp_path):
        data = [{"image": torch.full((1, 4, 4), float(i))} for i in range(4)]
        for form, kind in ((tuple, tuple), (list, list), (lambda pair: dict(zip("ab", pair, strict=True)), dict)):
            system = System(
                nn.Identity(),
                {"predict": loader(data)},
                inferer=lambda x, net, form=form: form((x.mean((1, 2, 3)), 100 + x.mean((1, 2, 3)))),
            )
            path = tmp_path / f"{kind.__name__}.csv"
            trainer(tmp_path, callbacks=[TableWriter(path)]).predict(system, return_predictions=False)
            with open(path, newline="") as file:
                found = [row["pred"] for row in csv.DictReader(file)]
            values = [[float(i), 100.0 + i] for i in range(4)]
            assert found == [str(dict(zip("ab", each, strict=True)) if kind is dict else each) for each in values]

    @pytest.mark.slow
    def test_a_logging_adapter_may_drop_the_input_and_make_a_list(self, tmp_path):
        data = [{"image": torch.full((1, 4, 4), float(i))} for i in range(3)]
        adapter = LoggingAdapter(
            input_transforms=lambda x: None, pred_transforms=lambda pred: [each + 1 for each in pred]
        )
        for size in (1, 2, 3):
            system = System(nn.Identity(), {"predict": loader(data, size)}, adapters={"predict": {"logging": adapter}})
            writer = FileWriter(tmp_path / str(size), "tensor")
            trainer(tmp_path, callbacks=[writer]).predict(system, return_predictions=False)
            for i in range(3):
                assert torch.equal(torch.load(tmp_path / str(size) / f"{i}.pt"), data[i]["image"] + 1)

    @pytest.mark.slow
    def test_a_file_is_of_one_head(self, tmp_path):
        system = System(nn.Identity(), {"predict": loader(items(2))}, inferer=lambda x, net: (x, x.mean((1, 2, 3))))
        writer = FileWriter(tmp_path / "out", "tensor")
        with pytest.raises(
            CaseError, match=r"case 0: a prediction must be a tensor .* got tuple. Of several heads, pick one"
        ):
            trainer(tmp_path, callbacks=[writer]).predict(system, return_predictions=False)
        system.adapters["predict"]["logging"] = LoggingAdapter(pred_transforms=lambda pred: pred[1])
        trainer(tmp_path, callbacks=[FileWriter(tmp_path / "out", "tensor")]).predict(system, return_predictions=False)
        assert float(torch.load(tmp_path / "out" / "1.pt")) == pytest.approx(float(items(2)[1]["image"].mean()))

    @pytest.mark.slow
    @pytest.mark.parametrize("form", [dict, tuple])
    @pytest.mark.parametrize("post", [True, False])
    def test_an_adapter_picks_from_the_heads_for_metrics_of_either_kind(self, tmp_path, form, post):
        data = [{**item, "grade": i % 2} for i, item in enumerate(items(5))]

        def infer(x, net):
            scores = torch.stack([1 - x.mean((1, 2, 3)), x.mean((1, 2, 3))], 1)
            return {"seg": x, "cls": scores} if form is dict else (x, scores)

        def adapt(metric, input, target, pred):
            if post:
                seg, cls = zip(
                    *(each[:2] if form is tuple else (each["seg"], each["cls"]) for each in pred), strict=True
                )
                seg, cls = list(seg), torch.stack(cls)
            else:
                seg, cls = pred if form is tuple else pred.values()
                seg = (seg > 0.5).float()
            return metric(seg, target) if isinstance(metric, DiceMetric) else metric(cls, cls.argmax(1))

        key = "seg" if form is dict else "pred"

        def threshold(item):
            return {
                **item,
                key: (item[key] > 0.5).float() if form is dict else ((item[key][0] > 0.5).float(), item[key][1]),
            }

        system = System(
            nn.Identity(),
            {"val": loader(data)},
            inferer=infer,
            metrics={"val": {"acc": MulticlassAccuracy(2, average="micro"), "dice": DiceMetric()}},
            adapters={"val": {"metrics": adapt}},
            postprocessing={"val": threshold} if post else {},
        )
        (result,) = trainer(tmp_path).validate(system, verbose=False)
        assert result["val/metrics/acc/epoch"] == 1
        masks, labels = ([np.asarray(item[name]) > 0.5 for item in data] for name in ("image", "label"))
        dice = np.mean([2 * (m & t).sum() / (m.sum() + t.sum()) for m, t in zip(masks, labels, strict=True)])
        assert result["val/metrics/dice/epoch"] == pytest.approx(dice)

    @pytest.mark.slow
    @pytest.mark.parametrize("equal", [True, False])
    def test_deep_supervision_gives_adapters_what_the_network_gave(self, tmp_path, equal):
        class Deep(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(1, 1, 1)

            def forward(self, x):
                x = self.conv(x)
                return [x, x if equal else nn.functional.avg_pool2d(x, 2)] if self.training else x

        seen = []

        def first(fn, input, target, pred):
            seen.append(type(pred))
            return fn(pred[0].sigmoid(), target.float())

        model = Deep()
        system = System(
            model,
            {"train": loader(items(3))},
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            criterion=nn.BCELoss(),
            adapters={"train": {"criterion": first, "metrics": first}},
            metrics={"train": {"acc": BinaryAccuracy(), "dice": DiceMetric()}},
        )
        run = trainer(tmp_path)
        run.fit(system)
        assert set(seen) == {list}
        assert 0 <= float(run.callback_metrics["train/metrics/acc/epoch"]) <= 1

    @pytest.mark.slow
    def test_cases_of_several_shapes_are_no_batch_for_torchmetrics(self, tmp_path):
        system = System(
            nn.Identity(),
            {"test": loader(items(2))},
            metrics={"test": {"acc": BinaryAccuracy()}},
            postprocessing={
                "test": lambda item: {**item, "pred": item["pred"][:, : int(10 * item["image"][0, 0, 0]) + 1]}
            },
        )
        with pytest.raises(ValueError, match=r"metric 'acc': .* cases of one shape after postprocessing, got \(1, "):
            trainer(tmp_path).test(system, verbose=False)


@pytest.mark.slow
def test_two_modalities_are_saved_with_the_geometry_and_name_of_their_source(tmp_path):
    affine = np.array([[-1.5, 0, 0, 30], [0, 1.2, 0, -20], [0, 0, 2, 5], [0, 0, 0, 1.0]])
    for name in ("t1", "t2"):
        (tmp_path / name).mkdir()
        for i in range(3):
            values = np.random.default_rng(i).random((5, 6, 7), dtype=np.float32)
            nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / name / f"case_{i}.nii.gz")
    data = [{name: str(tmp_path / name / f"case_{i}.nii.gz") for name in ("t1", "t2")} for i in range(3)]
    inputs = {
        "dict": (lambda b: {"t1": b["t1"], "t2": b["t2"]}, lambda x, net: net(x["t1"] + x["t2"])),
        "tuple": (lambda b: (b["t1"], b["t2"]), lambda x, net: net(x[0] + x[1])),
        "plain": (
            lambda b: torch.cat([b["t1"].as_tensor(), b["t2"].as_tensor()], 1),
            lambda x, net: x.sum(1, keepdim=True),
        ),
    }
    for name, (accessor, inferer) in inputs.items():
        out = tmp_path / name
        system = System(
            nn.Identity(),
            {"predict": loader(Dataset(data, LoadImaged(["t1", "t2"], ensure_channel_first=True)))},
            inferer=inferer,
            adapters={"predict": {"batch": BatchAdapter(accessor)}},
            postprocessing={
                "predict": SaveImaged("pred", output_dir=out, separate_folder=False, print_log=False, resample=False)
            },
        )
        writer = FileWriter(out / "own", "itk_nifti")
        trainer(tmp_path, callbacks=[writer]).predict(system, return_predictions=False)
        for i in range(3):
            expected = 2 * nibabel.load(data[i]["t1"]).get_fdata()
            for path in (out / f"case_{i}_trans.nii.gz", out / "own" / f"case_{i}.nii.gz"):
                saved = nibabel.load(path)
                assert np.allclose(saved.affine, affine)
                assert np.allclose(saved.get_fdata(), expected, atol=1e-6)
