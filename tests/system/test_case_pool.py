"""Cases that are finished in threads: every result of them against that of one thread."""

import copy
import csv
import gc
import logging
import os
import signal
import threading
import time
import weakref

import nibabel
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from monai.data import Dataset, pad_list_data_collate
from monai.inferers import SlidingWindowInferer
from monai.metrics import DiceMetric, HausdorffDistanceMetric
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    FromMetaTensord,
    Invertd,
    Lambdad,
    LoadImaged,
    Orientationd,
    RandGaussianNoised,
    SaveClassificationd,
    SaveImaged,
    Spacingd,
)
from parts import loader, trainer
from torch import nn
from torchmetrics import MeanMetric

from monai_lighter import CaseMetrics, FileWriter, System, TableWriter
from monai_lighter.errors.marks import find_mark
from monai_lighter.system.case_pool import CasePool, check_workers, count_workers
from monai_lighter.system.signals import RunStopped, StopOnSignal

KEYS = ["image", "label"]


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Seven scans of several sizes, orientations and spacings, as items."""
    folder = tmp_path_factory.mktemp("scans")
    items = []
    for i in range(7):
        random = np.random.default_rng(i)
        shape, spacing = (11 + i, 12, 9 + 2 * (i % 2)), 1 + 0.25 * (i % 3)
        image = random.random(shape, np.float32)
        affine = np.diag([-spacing if i % 2 else spacing, 1.5, 2.0, 1.0])
        item = {key: str(folder / f"{i}_{key}.nii.gz") for key in KEYS}
        nibabel.save(nibabel.Nifti1Image(image, affine), item["image"])
        nibabel.save(nibabel.Nifti1Image((image > 0.6).astype(np.uint8), affine), item["label"])
        items.append(item)
    return items


class Net(nn.Module):
    """Two classes, of fixed weights; takes as long as it is told."""

    def __init__(self, seconds=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.layers, self.seconds = nn.Conv3d(1, 2, 3, padding=1), seconds

    def forward(self, x):
        time.sleep(self.seconds)
        return self.layers(x)


def system(scans, mode, workers, out=None, steps=(), net=None, batch_size=1, keys=KEYS, **kwargs):
    pre = Compose(
        [
            LoadImaged(keys, ensure_channel_first=True),
            Orientationd(keys, "RAS", labels=None),
            Spacingd(keys, (1.0, 1.5, 2.0), mode=["bilinear", "nearest"][: len(keys)]),
        ]
    )
    post = [
        Activationsd("pred", softmax=True),
        Invertd(
            [*keys[1:], "pred"], pre, orig_keys=[*keys[1:], "image"], nearest_interp=[True, False][2 - len(keys) :]
        ),
        AsDiscreted(["pred"], argmax=True, to_onehot=2 if mode != "predict" else None),
        *([AsDiscreted("label", to_onehot=2)] if mode != "predict" else []),
        *steps,
    ]
    if out is not None:
        post.append(SaveImaged("pred", output_dir=out, output_postfix="seg", separate_folder=False, print_log=False))
    data = [{key: item[key] for key in keys} for item in scans]
    return System(
        net or Net(),
        {mode: loader(Dataset(data, pre), batch_size, collate_fn=pad_list_data_collate)},
        inferer=SlidingWindowInferer((8, 8, 8), sw_batch_size=2, overlap=0.25),
        postprocessing={mode: Compose(post)},
        workers=workers,
        **kwargs,
    )


def read_files(folder):
    """Path to bytes, of everything below a folder; of the manifest, which says how long each case took, all but the seconds."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: [{**row, "seconds": bool(row["seconds"])} for row in csv.DictReader(path.open(newline=""))]
        if path.name == "manifest.csv"
        else path.read_bytes()
        for name, path in files.items()
    }


@pytest.mark.slow
class TestPredict:
    def run(self, scans, folder, workers, **kwargs):
        folder.mkdir()
        callbacks = [
            FileWriter(folder / "files", "itk_nifti"),
            TableWriter(folder / "table.csv", writer=lambda pred: float(pred.float().mean())),
        ]
        model = system(scans, "predict", workers, folder / "saved", keys=["image"], **kwargs)
        trainer(folder, callbacks=callbacks).predict(model, return_predictions=False)
        return read_files(folder)

    @pytest.mark.parametrize("batch_size", [1, 2])
    def test_files_and_tables_are_those_of_one_thread(self, scans, tmp_path, batch_size):
        serial = self.run(scans, tmp_path / "0", 0, batch_size=batch_size)
        assert len(serial) == 2 * len(scans) + 3
        for workers in (1, 3):
            assert self.run(scans, tmp_path / str(workers), workers, batch_size=batch_size) == serial

    def test_cases_without_names_are_counted_in_order(self, tmp_path):
        def run(workers):
            out = tmp_path / str(workers)
            data = [{"image": torch.rand(1, 4, 4, 4, generator=torch.Generator().manual_seed(i))} for i in range(5)]
            save = SaveImaged("pred", output_dir=out, separate_folder=False, print_log=False)
            model = System(Net(), {"predict": loader(data, 1)}, postprocessing={"predict": save}, workers=workers)
            trainer(tmp_path).predict(model, return_predictions=False)
            return {name: data for name, data in read_files(out).items() if name.endswith(".nii.gz")}

        serial = run(0)
        assert len(serial) == 5
        assert run(3) == serial

    @pytest.mark.parametrize("heads", [False, True])
    def test_a_network_may_give_each_prediction_in_the_same_memory(self, tmp_path, heads):
        class Engine(nn.Module):  # as monai.networks.trt_compile has them
            def __init__(self):
                super().__init__()
                self.given = torch.zeros(1, 1, 4)

            def forward(self, x):
                self.given.copy_(x)
                return {"a": self.given, "b": x} if heads else self.given

        class Slow(TableWriter):
            def write(self, tensor, identifier):
                time.sleep(0.02)
                super().write(tensor, identifier)

        def run(workers):
            data = [{"image": torch.full((1, 4), float(i))} for i in range(6)]
            model = System(Engine(), {"predict": loader(data, 1)}, workers=workers)
            path = tmp_path / f"{workers}.csv"
            trainer(tmp_path, callbacks=[Slow(path)]).predict(model, return_predictions=False)
            return path.read_text()

        assert run(2) == run(0)

    def test_the_predictions_that_lightning_keeps_are_plain(self, scans, tmp_path):
        outputs = trainer(tmp_path).predict(system(scans, "predict", 2, keys=["image"]))
        assert [type(each) for each in outputs] == [dict] * len(scans)

    def test_the_network_does_not_wait(self, scans, tmp_path):
        class Slow(FileWriter):
            def write(self, tensor, identifier):
                time.sleep(0.1)

        def seconds(workers):
            model = system(scans, "predict", workers, keys=["image"], net=Net(seconds=0.02))
            started = time.monotonic()
            trainer(tmp_path, callbacks=[Slow(tmp_path / "x", "tensor")]).predict(model, return_predictions=False)
            return time.monotonic() - started

        assert seconds(2) < seconds(0) - 0.3


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["val", "test"])
class TestEvaluation:
    def run(self, scans, folder, mode, workers, callbacks=(), **kwargs):
        folder.mkdir(exist_ok=True)
        metrics = {
            "dice": DiceMetric(include_background=False),
            "hd": HausdorffDistanceMetric(include_background=False),
        }
        model = system(scans, mode, workers, folder / "saved", metrics={mode: metrics}, **kwargs)
        run = trainer(folder, callbacks=[*callbacks, CaseMetrics(folder / "cases.csv")])
        (values,) = (run.validate if mode == "val" else run.test)(model, verbose=False)
        return values, read_files(folder)

    @pytest.mark.parametrize("batch_size", [1, 3])
    def test_metrics_tables_and_files_are_those_of_one_thread(self, scans, tmp_path, mode, batch_size):
        criterion = {"criterion": lambda pred, target: (pred[:, 1:] - target).square().mean()}
        values, files = self.run(scans, tmp_path / "0", mode, 0, batch_size=batch_size, **criterion)
        assert len(files) == len(scans) + 2
        assert all(value == value for value in values.values())
        for workers in (1, 3):
            assert self.run(scans, tmp_path / str(workers), mode, workers, batch_size=batch_size, **criterion) == (
                values,
                files,
            )

    def test_a_callback_of_anyones_reads_what_it_always_did(self, scans, tmp_path, mode):
        class Reader(Callback):
            def __init__(self):
                self.seen = []

            def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
                shown = {**outputs}
                assert isinstance(outputs, dict)
                assert list(outputs) == list(shown)
                assert outputs["metrics"]["dice"] is shown["metrics"]["dice"]
                self.seen.append((shown["identifier"], shown["pred"][0].sum().item(), shown["metrics"]["hd"].tolist()))
                outputs["pred"] = None  # what comes after it sees so
                assert copy.copy(outputs)["pred"] is None

            on_test_batch_end = on_validation_batch_end

        readers = [Reader(), Reader()]
        results = [self.run(scans, tmp_path / str(i), mode, 2 * i, [reader]) for i, reader in enumerate(readers)]
        assert readers[0].seen == readers[1].seen
        assert len(readers[0].seen) == len(scans)
        assert results[0] == results[1]

    def test_several_loaders(self, scans, tmp_path, mode):
        def run(workers):
            model = system(scans, mode, workers, metrics={mode: {"dice": DiceMetric(include_background=False)}})
            own = model.dataloaders[mode]
            others = [loader(Dataset(own.dataset.data[i : i + 3], own.dataset.transform), 1) for i in (0, 4)]
            model.dataloaders[mode] = {"a": own, "b": others[0], "c": others[1]}
            each = trainer(tmp_path)
            return (each.validate if mode == "val" else each.test)(model, verbose=False)

        assert run(0) == run(3)


@pytest.mark.slow
class TestErrors:
    @pytest.mark.parametrize("workers", [0, 3])
    def test_it_is_the_first_one_in_the_order_of_the_data(self, scans, tmp_path, workers):
        def fail(pred):
            name = os.path.basename(str(pred.meta["filename_or_obj"]))
            if name.startswith("2"):
                time.sleep(0.3)  # the later ones have failed by then
            if name[0] in "245":
                raise RuntimeError(f"bad {name}")
            return pred

        model = system(scans, "predict", workers, tmp_path / "out", steps=[Lambdad("pred", fail)], keys=["image"])
        with pytest.raises(RuntimeError) as raised:
            trainer(tmp_path).predict(model, return_predictions=False)
        error = raised.value
        while error.__cause__ is not None:
            error = error.__cause__
        assert str(error) == "bad 2_image.nii.gz"
        mark = find_mark(raised.value)
        assert (mark.part, mark.place) == ("system::postprocessing::predict", "predict batch 3")
        assert mark.batch["image"].meta["filename_or_obj"] == [scans[2]["image"]]
        names = sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz"))
        assert names[:1] == ["0_image_seg.nii.gz"]
        assert "1_image_seg.nii.gz" in names
        assert not list((tmp_path / "out").glob(".part*"))
        assert not [each for each in threading.enumerate() if each.name.startswith(("postprocessing", "metrics"))]

    def test_that_of_a_case_before_it_comes_before_that_of_the_network(self, scans, tmp_path):
        class Failing(Net):
            calls = 0

            def forward(self, x):
                self.calls += 1
                if self.calls > 12:
                    raise RuntimeError("network")
                return super().forward(x)

        def fail(pred):
            time.sleep(0.3)
            raise RuntimeError("postprocessing")

        model = system(scans, "predict", 4, steps=[Lambdad("pred", fail)], keys=["image"], net=Failing())
        with pytest.raises(RuntimeError) as raised:
            trainer(tmp_path).predict(model, return_predictions=False)
        assert find_mark(raised.value).part == "system::postprocessing::predict"

    def test_one_in_a_writer_names_it_and_ends_the_run(self, scans, tmp_path):
        class Bad(FileWriter):
            def write(self, tensor, identifier):
                if os.path.basename(identifier).startswith("1"):
                    raise OSError("disk")
                super().write(tensor, identifier)

        model = system(scans, "predict", 2, keys=["image"])
        with pytest.raises(OSError, match="disk"):
            trainer(tmp_path, callbacks=[Bad(tmp_path / "out", "tensor")]).predict(model, return_predictions=False)
        assert [path.name for path in (tmp_path / "out").glob("*.pt")] == ["0_image.pt"]


@pytest.mark.slow
class TestBounds:
    @pytest.mark.parametrize("workers", [1, 3])
    def test_no_more_cases_than_workers_and_two_are_held(self, scans, tmp_path, workers):
        seen, held, full = [], [], threading.Event()

        class Counting(Net):
            def forward(self, x):
                time.sleep(0.02)  # a thread that has finished a case needs a moment to let go of it
                count = sum(batch() is not None for batch in seen)
                if count > workers + 2 or (count == workers + 2 and not full.is_set()):
                    gc.collect()
                    count = sum(batch() is not None for batch in seen)
                held.append(count)
                if count >= workers + 2:
                    full.set()
                return super().forward(x)

        class Watch(Callback):
            def on_predict_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
                seen.append(weakref.ref(batch["image"]))

        class Slow(FileWriter):
            def write(self, tensor, identifier):
                full.wait(60)

        model = system(scans, "predict", workers, keys=["image"], net=Counting())
        callbacks = [Watch(), Slow(tmp_path / "x", "tensor")]
        trainer(tmp_path, callbacks=callbacks).predict(model, return_predictions=False)
        assert max(held) == workers + 2

    def test_a_signal_ends_it_with_whole_files(self, scans, tmp_path):
        class Stop(Callback):
            def on_predict_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
                if batch_idx == 3:
                    os.kill(os.getpid(), signal.SIGTERM)

        model = system(scans, "predict", 2, tmp_path / "out", keys=["image"])
        with pytest.raises(RunStopped) as raised:
            trainer(tmp_path, callbacks=[Stop(), StopOnSignal()]).predict(model, return_predictions=False)
        assert raised.value.code == 143
        files = sorted((tmp_path / "out").glob("*.nii.gz"))
        assert files
        for file in files:
            assert nibabel.load(file).get_fdata().size
        assert not list((tmp_path / "out").glob(".part*"))


@pytest.mark.slow
class TestFit:
    def test_training_is_that_of_one_thread(self, scans, tmp_path):
        def run(workers):
            seed_everything(0)
            net = nn.Sequential(nn.Conv3d(1, 4, 1), nn.Dropout(0.5), nn.Conv3d(4, 2, 1))
            model = system(
                scans,
                "val",
                workers,
                net=net,
                metrics={"val": {"dice": DiceMetric(include_background=False)}},
                optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
                criterion=lambda pred, target: (pred[:, 1:] - target).square().mean(),
            )
            data = [{"image": torch.rand(1, 4, 4, 4), "label": torch.rand(1, 4, 4, 4)} for _ in range(4)]
            model.dataloaders["train"] = loader(data, 1, shuffle=True)
            model.train_dataloader = lambda: model.dataloaders["train"]
            run = trainer(tmp_path / str(workers), max_epochs=3)
            run.fit(model)
            weights = [each.clone() for each in net.parameters()]
            return weights, {name: float(value) for name, value in run.callback_metrics.items()}, torch.rand(1)

        (weights, values, drawn), (other_weights, other_values, other_drawn) = run(0), run(3)
        assert all(torch.equal(a, b) for a, b in zip(weights, other_weights, strict=True))
        assert values == other_values
        assert torch.equal(drawn, other_drawn)


@pytest.mark.slow
class TestWhereThereAreNone:
    def messages(self, caplog, scans, folder, workers, mode="test", run=None, **kwargs):
        with caplog.at_level(logging.INFO, "monai_lighter.system.case_pool"):
            model = system(scans[:2], mode, workers, **kwargs)
            each = run or trainer(folder)
            each.predict(model, return_predictions=False) if mode == "predict" else each.test(model)
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    def test_random_transforms(self, caplog, scans, tmp_path):
        steps = [RandGaussianNoised("pred", prob=1.0)]
        ((level, message),) = self.messages(caplog, scans, tmp_path, 2, steps=steps)
        assert level == "WARNING"
        assert "RandGaussianNoised in it draws random numbers" in message

    @pytest.mark.parametrize("flush", [True, False])
    def test_one_table_of_all_cases(self, caplog, scans, tmp_path, flush):
        save = SaveClassificationd("pred", output_dir=tmp_path, filename="all.csv", flush=flush)
        mean = Compose([Lambdad("pred", lambda pred: pred.mean()[None]), FromMetaTensord("pred")])
        ((level, message),) = self.messages(caplog, scans, tmp_path, 2, "predict", steps=[mean, save], keys=["image"])
        assert level == "WARNING"
        assert "SaveClassificationd in it writes one file for all cases" in message
        save.saver.finalize()
        assert len((tmp_path / "all.csv").read_text().splitlines()) == 2

    def test_functions_of_a_users_own_unless_threads_are_asked_for(self, caplog, scans, tmp_path):
        steps = [Lambdad("pred", lambda pred: pred)]
        ((level, message),) = self.messages(caplog, scans, tmp_path, None, steps=steps)
        assert level == "INFO"
        assert "<lambda> may not be for threads; if it is, set system::workers" in message
        caplog.clear()
        assert self.messages(caplog, scans, tmp_path, 2, steps=steps) == []

    def test_what_cannot_be_copied(self, caplog, scans, tmp_path):
        lock = threading.Lock()
        ((_, message),) = self.messages(caplog, scans, tmp_path, 2, steps=[Lambdad("pred", _Locked(lock))])
        assert "cannot be made (TypeError: " in message

    def test_metrics_with_a_value_for_each_step(self, caplog, scans, tmp_path):
        class Mean(MeanMetric):
            def update(self, pred, target):
                super().update(torch.stack([each.float().mean() for each in pred]))

        metrics = {"test": {"mean": Mean()}}
        ((_, message),) = self.messages(caplog, scans[:1], tmp_path, 2, metrics=metrics)
        assert "Mean of torchmetrics logs a value in each step" in message

    def test_precisions_that_change_the_default_dtype(self, caplog, scans, tmp_path):
        run = trainer(tmp_path, precision="64-true")
        ((_, message),) = self.messages(caplog, scans, tmp_path, 2, run=run)
        assert "precision 64-true" in message


class _Locked:
    def __init__(self, lock):
        self.lock = lock

    def __call__(self, pred):
        return pred


@pytest.mark.slow
def test_mixed_precision_is_that_of_the_step(scans, tmp_path):
    def run(workers):
        model = system(scans[:3], "predict", workers, tmp_path / str(workers), keys=["image"])
        trainer(tmp_path, precision="bf16-mixed").predict(model, return_predictions=False)
        return read_files(tmp_path / str(workers))

    assert run(0) == run(2)


@pytest.mark.parametrize("workers", [-1, 1.5, True, "2"])
def test_what_is_no_number_of_threads(workers):
    with pytest.raises(ValueError, match="system::workers: must be a number of threads"):
        System(Net(), workers=workers)


def test_the_default_is_by_cores_and_memory():
    assert check_workers(None) is None
    assert 0 <= count_workers() <= min(4, os.cpu_count())
    assert count_workers(1000) in (0, 1)
    assert copy.deepcopy(CasePool(2)) is not None
