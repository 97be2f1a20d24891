import gc
import weakref

import nibabel
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.tuner import Tuner
from monai.data import CacheDataset, Dataset, MetaTensor
from monai.metrics import DiceMetric
from monai.transforms import (
    AsDiscreted,
    Compose,
    Invertd,
    LoadImaged,
    Orientationd,
    RandFlipd,
    SaveImaged,
    Spacingd,
)
from parts import Memory, Outputs, classification, classifier, items, loader, pairs, trainer
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from monai_lighter import BatchAdapter, CriterionAdapter, LoggingAdapter, MetricsAdapter, System


def accuracy():
    return MulticlassAccuracy(num_classes=3, average="micro")


class MeanError(Metric):
    """Keeps in its state whatever kind of tensor it is given."""

    def __init__(self):
        super().__init__()
        self.add_state("total", torch.tensor(0.0), "sum")

    def update(self, pred, target):
        self.total = self.total + (pred.mean() - target.float().mean()).abs()

    def compute(self):
        return self.total


def segmentation(**kwargs):
    model = nn.Conv2d(1, 2, 1)
    return System(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=lambda pred, target: nn.functional.cross_entropy(pred, target[:, 0].long()),
        **kwargs,
    )


def nifti(folder, count=2, affine=None):
    """Images and label maps ``(12, 10, 6)`` voxels of 1 x 1.5 x 2 mm, the first axis flipped."""
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-1, 1.5, 2, 1]) if affine is None else affine
    affine[:3, 3] = (7, -5, 3)
    data = []
    for i in range(count):
        image = np.random.default_rng(i).random((12, 10, 6), dtype=np.float32)
        item = {"image": str(folder / f"image_{i}.nii.gz"), "label": str(folder / f"label_{i}.nii.gz")}
        nibabel.save(nibabel.Nifti1Image(image, affine), item["image"])
        nibabel.save(nibabel.Nifti1Image((image > 0.5).astype(np.uint8), affine), item["label"])
        data.append(item)
    return data


@pytest.mark.slow
class TestLogging:
    def test_the_names_are_lighters(self, tmp_path):
        log = Memory()
        metrics = {"train": {"acc": accuracy()}, "val": {"acc": accuracy()}, "test": {"acc": accuracy()}}
        system = classification(metrics=metrics)
        system.dataloaders["test"] = loader(pairs(3))
        system.test_dataloader = lambda: system.dataloaders["test"]
        run = trainer(tmp_path, logger=log)
        run.fit(system)
        run.test(system, verbose=False)
        steps = {f"{mode}/{name}/step" for mode in ("train", "val") for name in ("loss", "metrics/acc")}
        epochs = {name.replace("step", "epoch") for name in steps}
        assert log.keys == {
            *steps,
            *epochs,
            "test/metrics/acc/step",
            "test/metrics/acc/epoch",
            "train/optimizer/SGD/lr",
            "train/optimizer/SGD/momentum",
        }

    def test_a_dictionary_of_losses_is_logged_by_name(self, tmp_path):
        def losses(pred, target):
            total = nn.functional.cross_entropy(pred, target)
            return {"total": total, "half": total / 2, "constant": 3.0}

        log = Memory()
        system = classification(criterion=losses)
        before = [p.clone() for p in system.parameters()]
        trainer(tmp_path, logger=log).fit(system)
        names = {
            f"{m}/loss/{n}/{w}"
            for m in ("train", "val")
            for n in ("total", "half", "constant")
            for w in ("step", "epoch")
        }
        assert names == {key for key in log.keys if "loss" in key}
        assert log.values("val/loss/half/epoch")[0] * 2 == pytest.approx(log.values("val/loss/total/epoch")[0])
        assert not all(torch.equal(old, new) for old, new in zip(before, system.parameters(), strict=True))

    def test_everything_is_visible_to_callbacks_and_the_progress_bar_with_no_logger(self, tmp_path):
        seen = {}

        class Look(Callback):
            def on_train_batch_end(self, trainer, *args):
                seen["step"] = dict(trainer.progress_bar_metrics)

        system = classification(metrics={"val": {"acc": accuracy()}})
        run = trainer(tmp_path, callbacks=[Look()])
        run.fit(system)
        assert "train/loss/step" in seen["step"]
        assert {"val/loss/epoch", "val/metrics/acc/epoch", "train/loss/epoch"} <= run.progress_bar_metrics.keys()
        assert {
            "train/loss/epoch",
            "train/loss/step",
            "val/loss/epoch",
            "val/metrics/acc/epoch",
        } <= run.callback_metrics.keys()
        assert run.callback_metrics["train/optimizer/SGD/lr"] == pytest.approx(0.1)

    @pytest.mark.parametrize("interval", [1.0, 1 / 3])
    def test_means_of_the_training_loss_are_over_the_whole_epoch_although_validation_runs_inside(
        self, tmp_path, interval
    ):
        log, outputs = Memory(), Outputs()
        system = classification(train=5)  # batches of 2, 2 and 1
        trainer(tmp_path, logger=log, callbacks=[outputs], val_check_interval=interval).fit(system)
        losses = [float(output["loss"]) for output in outputs.of["train"]]
        assert log.values("train/loss/epoch") == [pytest.approx((2 * losses[0] + 2 * losses[1] + losses[2]) / 5)]
        assert len(log.values("val/loss/epoch")) == round(1 / interval)

    def test_the_mean_is_weighted_by_items_whatever_the_model_gives(self, tmp_path):
        class Two(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 3)

            def forward(self, x):
                return {"a": self.layer(x), "b": x, "c": x}

        log, outputs = Memory(), Outputs()
        model = Two()
        system = classification(
            model=model, train=3, criterion=lambda pred, target: nn.functional.cross_entropy(pred["a"], target)
        )
        trainer(tmp_path, logger=log, callbacks=[outputs]).fit(system)
        first, second = (float(output["loss"]) for output in outputs.of["train"])
        assert log.values("train/loss/epoch") == [pytest.approx((2 * first + second) / 3)]
        assert not any(value.requires_grad for value in outputs.of["train"][0]["pred"].values())

    def test_each_of_two_loaders_has_its_own_loss_and_metrics(self, tmp_path):
        log = Memory()
        data = pairs(5, seed=1), pairs(3, seed=2)
        system = classification(
            metrics={"val": {"acc": accuracy()}},
            dataloaders={"train": loader(pairs(4)), "val": [loader(part) for part in data]},
        )
        run = trainer(tmp_path, logger=log)
        run.fit(system)
        for i, part in enumerate(data):
            x, y = torch.stack([x for x, _ in part]), torch.tensor([y for _, y in part])
            with torch.no_grad():
                pred = system.model(x)
            loss = nn.functional.cross_entropy(pred, y)
            assert run.callback_metrics[f"val/loss/epoch/dataloader_idx_{i}"] == pytest.approx(float(loss), abs=1e-6)
            right = float((pred.argmax(1) == y).float().mean())
            assert run.callback_metrics[f"val/metrics/acc/epoch/dataloader_idx_{i}"] == pytest.approx(right)
        assert {"val/loss/step/dataloader_idx_0", "val/metrics/acc/step/dataloader_idx_1"} <= log.keys

    def test_the_sanity_check_counts_for_nothing(self, tmp_path):
        def logged(steps):
            log = Memory()
            system = classification(metrics={"val": {"acc": accuracy()}})
            trainer(tmp_path, logger=log, num_sanity_val_steps=steps, max_epochs=2).fit(system)
            return [{key: float(value) for key, value in entry.items()} for entry in log.logged]

        assert logged(1) == logged(0)

    def test_a_broken_off_epoch_is_forgotten(self, tmp_path):
        class Break(Callback):
            def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
                raise RuntimeError("broken off")

        system = classification(metrics={"val": {"acc": accuracy()}})
        with pytest.raises(RuntimeError, match="broken off"):
            trainer(tmp_path, callbacks=[Break()]).validate(system, verbose=False)
        again = trainer(tmp_path).validate(system, verbose=False)
        assert again == trainer(tmp_path).validate(classification(metrics={"val": {"acc": accuracy()}}), verbose=False)

    def test_a_metric_that_two_modes_share_is_aggregated_for_each(self, tmp_path):
        one, log, outputs = accuracy(), Memory(), Outputs()
        system = classification(metrics={"train": {"acc": one}, "val": {"acc": one}})
        trainer(tmp_path, logger=log, callbacks=[outputs]).fit(system)
        hits = torch.cat([o["pred"].argmax(1) == o["target"] for o in outputs.of["train"]])
        assert log.values("train/metrics/acc/epoch") == [pytest.approx(float(hits.float().mean()))]


class TestStep:
    @pytest.mark.slow
    def test_callbacks_get_what_a_step_knows(self, tmp_path):
        outputs = Outputs()
        system = classification(
            metrics={"train": {"acc": accuracy()}},
            adapters={
                "train": {
                    "batch": BatchAdapter(0, 1, lambda batch: ["a", "b"]),
                    "logging": LoggingAdapter(pred_transforms=lambda pred: pred.argmax(1)),
                }
            },
        )
        trainer(tmp_path, callbacks=[outputs], max_epochs=2).fit(system)
        output = outputs.of["train"][-1]
        names = {"identifier", "input", "target", "pred", "loss", "losses", "metrics", "step", "epoch", "notes"}
        assert set(output) == names
        assert output["identifier"] == ["a", "b"]
        assert output["pred"].shape == (2,)
        assert output["epoch"] == 1
        assert outputs.of["val"][0]["loss"] is not None
        assert not any(loss.requires_grad for loss in output["losses"].values())

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["dict", "tuple", "list", "other keys"])
    def test_batches_of_every_kind_need_no_adapter_or_an_accessor(self, tmp_path, kind):
        data = items(4)
        adapters = None
        if kind == "tuple":
            data = [(item["image"], item["label"]) for item in data]
        elif kind == "list":
            data = [[item["image"], item["label"]] for item in data]
        elif kind == "other keys":
            data = [{"t1": item["image"], "seg": item["label"]} for item in data]
            adapters = {mode: {"batch": BatchAdapter("t1", "seg")} for mode in ("train", "val")}
        make = DataLoader if kind == "list" else loader  # MONAI's loader takes a list for several items
        data = {"train": make(data, batch_size=2), "val": make(data, batch_size=2)}
        system = segmentation(dataloaders=data, adapters=adapters)
        run = trainer(tmp_path)
        run.fit(system)
        assert run.callback_metrics["val/loss/epoch"].isfinite()

    @pytest.mark.slow
    def test_a_batch_that_is_a_tensor_trains_an_autoencoder(self, tmp_path):
        model = nn.Linear(4, 4)
        system = System(
            model,
            {"train": loader([x for x, _ in pairs(4)])},
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            criterion=nn.MSELoss(),
            adapters={"train": {"criterion": CriterionAdapter(pred_argument=0, input_argument=1)}},
        )
        run = trainer(tmp_path)
        run.fit(system)
        assert run.callback_metrics["train/loss/epoch"].isfinite()

    @pytest.mark.slow
    def test_test_and_predict_need_no_criterion_and_no_target(self, tmp_path):
        outputs = Outputs()
        system = System(
            classifier(), {"test": loader([x for x, _ in pairs(3)]), "predict": loader([x for x, _ in pairs(3)])}
        )
        run = trainer(tmp_path, callbacks=[outputs])
        run.test(system, verbose=False)
        run.predict(system, return_predictions=False)
        assert outputs.of["test"][0]["loss"] is None
        assert outputs.of["predict"][0]["target"] is None
        assert outputs.of["predict"][0]["pred"].shape == (2, 3)

    @pytest.mark.slow
    def test_fit_without_criterion_or_optimizer_says_what_is_missing(self, tmp_path):
        data = {"train": loader(pairs(2))}
        with pytest.raises(ValueError, match=r"system::optimizer: must be given to fit, got None\."):
            trainer(tmp_path).fit(System(classifier(), data))
        with pytest.raises(ValueError, match=r"system::criterion: must be given to fit, got None\."):
            trainer(tmp_path).fit(classification(criterion=None, dataloaders=data))

    @pytest.mark.slow
    def test_a_dictionary_of_losses_needs_a_total(self, tmp_path):
        system = classification(criterion=lambda pred, target: {"dice": pred.sum()})
        with pytest.raises(ValueError, match=r"system::criterion: .* must have the key 'total', got \['dice'\]\."):
            trainer(tmp_path).fit(system)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"dataloaders": {"valid": None}},
                "system::dataloaders: must have the keys train, val, test, predict, got 'valid'",
            ),
            ({"metrics": {"training": None}}, "system::metrics: .* got 'training'"),
            ({"adapters": {"val": {"loss": None}}}, "system::adapters::val: .* got 'loss'"),
        ],
    )
    def test_unknown_modes_and_adapters_are_errors(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            System(classifier(), **arguments)

    @pytest.mark.slow
    def test_a_model_may_take_epoch_and_step(self, tmp_path):
        seen = []

        class Net(nn.Linear):
            def forward(self, x, epoch, step):
                seen.append((epoch, step))
                return super().forward(x)

        system = classification(model=Net(4, 3), train=4, val=2)
        trainer(tmp_path, max_epochs=2).fit(system)
        assert seen == [(0, 0), (0, 1), (0, 2), (1, 2), (1, 3), (1, 4)]

    @pytest.mark.slow
    def test_outside_of_a_run_the_system_is_its_model(self, tmp_path):
        def inferer(inputs, network):
            raise AssertionError("not in a run")

        x = torch.rand(2, 4)
        system = classification(inferer={"predict": inferer})
        assert torch.equal(system(x), system.model(x))
        assert system.mode == ""
        trainer(tmp_path).fit(system)
        assert torch.equal(system(x), system.model(x))

    @pytest.mark.slow
    def test_a_traced_torchscript_network(self, tmp_path):
        traced = torch.jit.trace(classifier(), torch.rand(2, 4))
        outputs = Outputs()
        trainer(tmp_path, callbacks=[outputs]).predict(System(traced, {"predict": loader(pairs(2))}))
        assert torch.equal(outputs.of["predict"][0]["pred"], classifier()(torch.stack([x for x, _ in pairs(2)])))

    @pytest.mark.slow
    def test_metrics_adapter_transforms_reach_the_metric(self, tmp_path):
        system = segmentation(
            dataloaders={"val": loader(items(3), batch_size=3)},
            metrics={"val": {"dice": DiceMetric(include_background=False)}},
            adapters={
                "val": {
                    "metrics": MetricsAdapter(
                        pred_argument="y_pred",
                        target_argument="y",
                        pred_transforms=lambda p: nn.functional.one_hot(p.argmax(1), 2).movedim(-1, 1),
                        target_transforms=lambda t: nn.functional.one_hot(t[:, 0], 2).movedim(-1, 1),
                    )
                }
            },
        )
        result = trainer(tmp_path).validate(system, verbose=False)[0]
        batch = next(iter(system.dataloaders["val"]))
        with torch.no_grad():
            p, t = system.model(batch["image"]).argmax(1) == 1, batch["label"][:, 0] == 1
        dice = (2 * (p & t).sum((1, 2)) / (p.sum((1, 2)) + t.sum((1, 2)))).mean()
        assert result["val/metrics/dice/epoch"] == pytest.approx(float(dice))


class TestTrainer:
    """What Lightning offers applies: the weights are those of a LightningModule written by hand."""

    class Plain(LightningModule):
        def __init__(self):
            super().__init__()
            self.model = classifier()

        def training_step(self, batch, batch_idx):
            loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

        def train_dataloader(self):
            return loader(pairs(6))

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"accumulate_grad_batches": 2},
            {"gradient_clip_val": 0.05},
            {"precision": "bf16-mixed"},
            {"precision": "64-true"},
        ],
    )
    def test_equal_to_a_plain_lightning_module(self, tmp_path, arguments):
        plain, system = self.Plain(), classification(dataloaders={"train": loader(pairs(6))})
        trainer(tmp_path, max_epochs=2, **arguments).fit(plain)
        trainer(tmp_path, max_epochs=2, **arguments).fit(system)
        assert torch.equal(plain.model.weight, system.model.weight)

    @pytest.mark.slow
    def test_resuming_gives_the_weights_of_the_uninterrupted_run(self, tmp_path):
        def system():
            seed_everything(0, verbose=False)
            model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
            return classification(
                model=model, optimizer=optimizer, scheduler=scheduler, metrics={"val": {"acc": accuracy()}}
            )

        whole = system()
        trainer(tmp_path / "a", max_epochs=4).fit(whole)
        first = system()
        run = trainer(tmp_path / "b", max_epochs=2)
        run.fit(first)
        second = system()
        trainer(tmp_path / "b", max_epochs=4).fit(second, ckpt_path=run.checkpoint_callback.best_model_path)
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, second.model.state_dict()[name]), name
        best = [torch.load(tmp_path / name / "models" / "model.pt", weights_only=True) for name in "ab"]
        assert all(torch.equal(value, best[1][name]) for name, value in best[0].items())

    @pytest.mark.slow
    def test_a_datamodule_brings_the_data(self, tmp_path):
        class Data(LightningDataModule):
            def train_dataloader(self):
                return loader(pairs(4))

            def val_dataloader(self):
                return [loader(pairs(3)), loader(pairs(2))]

        system = classification(dataloaders=None)
        run = trainer(tmp_path)
        run.fit(system, datamodule=Data())
        assert run.global_step == 2
        assert "val/loss/epoch/dataloader_idx_1" in run.callback_metrics

    @pytest.mark.slow
    def test_the_tuner_finds_and_sets_the_learning_rate(self, tmp_path):
        model = classifier()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)
        system = classification(
            train=40, model=model, optimizer=optimizer, scheduler=scheduler, dataloaders={"train": loader(pairs(200))}
        )
        run = trainer(tmp_path)
        found = Tuner(run).lr_find(system, num_training=30, min_lr=1e-4, max_lr=1.0).suggestion()
        assert system.learning_rate == found
        log = Memory()
        trainer(tmp_path, logger=log, max_epochs=2).fit(system)
        assert log.values("train/optimizer/SGD/lr") == [pytest.approx(found)] * 2

    def test_the_learning_rate_of_several_groups_is_no_single_one(self):
        model = classifier()
        groups = [{"params": [model.weight]}, {"params": [model.bias]}]
        with pytest.raises(ValueError, match="exactly one parameter group, got 2"):
            _ = classification(model=model, optimizer=torch.optim.SGD(groups, lr=0.1)).learning_rate

    @pytest.mark.slow
    def test_no_metatensor_anywhere_after_training_on_nifti(self, tmp_path):
        data = nifti(tmp_path / "data")
        transform = Compose(
            [LoadImaged(["image", "label"], ensure_channel_first=True), RandFlipd(["image", "label"], prob=0.5)]
        )
        binary = MetricsAdapter(pred_argument=0, target_argument=1, pred_transforms=lambda p: (p[:, :1] > 0).float())
        log, outputs = Memory(), Outputs()
        model = nn.Conv3d(1, 2, 1)
        system = System(
            model,
            {"train": loader(Dataset(data, transform)), "val": loader(Dataset(data, transform))},
            optimizer=torch.optim.Adam(model.parameters(), lr=0.1),
            criterion=lambda pred, target: (pred.mean(1, keepdim=True) - target).abs().mean(),
            metrics={
                "train": {"mae": MeanError()},
                "val": {"mae": MeanError(), "dice": DiceMetric()},
            },
            adapters={"val": {"metrics": binary}},
        )
        checkpoint = ModelCheckpoint(tmp_path / "ckpt", monitor="val/loss/epoch", save_last=True)
        run = trainer(tmp_path, logger=log, callbacks=[outputs, checkpoint], max_epochs=2)
        run.fit(system)
        assert type(outputs.of["train"][0]["loss"]) is torch.Tensor
        assert isinstance(outputs.of["val"][0]["input"], MetaTensor)  # callbacks may want the metadata
        values = [*run.callback_metrics.values(), *system.buffers(), *(v for m in log.logged for v in m.values())]
        values += [metric.total for metric in (system.metrics["train"]["mae"], system.metrics["val"]["mae"])]
        assert not any(isinstance(value, MetaTensor) for value in values)
        saved = torch.load(checkpoint.last_model_path, weights_only=True)
        assert saved["epoch"] == 1
        assert set(saved["state_dict"]) == {"model.weight", "model.bias"}


@pytest.mark.slow
class TestPostprocessing:
    @pytest.mark.parametrize("spacing", [(2, 2, 2), (0.8, 1, 1.3)])
    def test_predictions_are_saved_on_the_grid_of_the_original_image(self, tmp_path, spacing):
        data = nifti(tmp_path / "data")
        pre = Compose(
            [
                LoadImaged("image", ensure_channel_first=True),
                Orientationd("image", axcodes="RAS", labels=None),
                Spacingd("image", pixdim=spacing),
            ]
        )
        post = Compose(
            [
                Invertd("pred", transform=pre, orig_keys="image", nearest_interp=False),
                SaveImaged(
                    "pred", output_dir=tmp_path / "out", output_postfix="pred", separate_folder=False, print_log=False
                ),
            ]
        )
        system = System(
            nn.Identity(),
            {"predict": loader(Dataset([{"image": d["image"]} for d in data], pre), 1)},
            postprocessing={"predict": post},
        )
        trainer(tmp_path).predict(system, return_predictions=False)
        for i, item in enumerate(data):
            source, saved = nibabel.load(item["image"]), nibabel.load(tmp_path / "out" / f"image_{i}_pred.nii.gz")
            assert saved.shape == source.shape
            assert np.allclose(saved.affine, source.affine, atol=1e-4)
            if spacing[0] < 1:  # finer than the source: what comes back is close to it
                assert np.corrcoef(saved.get_fdata().ravel(), source.get_fdata().ravel())[0, 1] > 0.8

    def test_flips_alone_come_back_voxel_by_voxel(self, tmp_path):
        data = nifti(tmp_path / "data", count=1)
        pre = Compose(
            [LoadImaged("image", ensure_channel_first=True), Orientationd("image", axcodes="PLI", labels=None)]
        )
        seen = []
        post = Compose(
            [Invertd("pred", transform=pre, orig_keys="image"), lambda item: seen.append(item["pred"]) or item]
        )
        system = System(nn.Identity(), {"predict": loader(Dataset(data, pre), 1)}, postprocessing={"predict": post})
        trainer(tmp_path).predict(system, return_predictions=False)
        assert np.array_equal(seen[0][0].numpy(), nibabel.load(data[0]["image"]).get_fdata(dtype=np.float32))

    def test_metrics_see_the_items_after_it(self, tmp_path):
        post = AsDiscreted(["pred", "label"], argmax=[True, False], to_onehot=2)
        system = segmentation(
            dataloaders={"val": loader(items(3))},
            metrics={"val": {"dice": DiceMetric(include_background=False)}},
            postprocessing={"val": post},
        )
        result = trainer(tmp_path).validate(system, verbose=False)[0]
        dice = []
        for item in items(3):
            with torch.no_grad():
                p, t = system.model(item["image"][None]).argmax(1)[0] == 1, item["label"][0] == 1
            dice.append(2 * (p & t).sum() / (p.sum() + t.sum()))
        assert result["val/metrics/dice/epoch"] == pytest.approx(float(torch.stack(dice).mean()))

    @pytest.mark.parametrize("kind", ["tuple", "dict"])
    def test_labels_that_are_numbers(self, tmp_path, kind):
        data = pairs(5) if kind == "tuple" else [{"image": x, "label": y} for x, y in pairs(5)]
        system = System(
            classifier(),
            {"test": loader(data)},
            metrics={"test": {"acc": accuracy()}},
            postprocessing={"test": lambda item: {**item, "pred": item["pred"].softmax(0)}},
        )
        result = trainer(tmp_path).test(system, verbose=False)[0]
        hits = [float(classifier()(x).argmax() == y) for x, y in pairs(5)]
        assert result["test/metrics/acc/epoch"] == pytest.approx(sum(hits) / 5)

    def test_a_dictionary_of_predictions_gives_keys_of_their_own(self, tmp_path):
        class Two(nn.Module):
            def forward(self, x):
                return {"mask": x > 0.5, "edge": x}

        seen, outputs = [], Outputs()
        system = System(
            Two(),
            {"predict": loader(items(2))},
            postprocessing={"predict": lambda item: seen.append(set(item)) or item},
        )
        trainer(tmp_path, callbacks=[outputs]).predict(system)
        assert seen == [{"image", "label", "mask", "edge"}] * 2
        assert set(outputs.of["predict"][0]["pred"][0]) == {"image", "label", "mask", "edge"}

    def test_nothing_is_kept_in_memory(self, tmp_path):
        alive, most = [], []

        def watch(item):
            gc.collect()
            most.append(sum(reference() is not None for reference in alive))
            alive.append(weakref.ref(item["pred"]))
            return item

        system = System(nn.Identity(), {"predict": loader(items(6), 1)}, postprocessing={"predict": watch})
        trainer(tmp_path).predict(system, return_predictions=False)
        gc.collect()
        assert max(most) <= 2
        assert sum(reference() is not None for reference in alive) == 0

    def test_cached_items_are_not_changed_by_postprocessing(self, tmp_path):
        data = CacheDataset(items(2), transform=lambda item: item, progress=False)
        before = [item["image"].clone() for item in items(2)]

        def spoil(item):
            item["image"] = item["image"] * 0
            return item

        trainer(tmp_path).predict(System(nn.Identity(), {"predict": loader(data)}, postprocessing={"predict": spoil}))
        assert all(torch.equal(data[i]["image"], image) for i, image in enumerate(before))
