"""Run by test_processes: the same evaluation in as many processes as are asked for. ``python -m ddp_run FOLDER DEVICES``."""

import json
import sys
from pathlib import Path

import torch
from monai.data import list_data_collate
from monai.metrics import ConfusionMatrixMetric, DiceMetric, HausdorffDistanceMetric, ROCAUCMetric
from monai.transforms import AsDiscreted
from parts import Logged, Steps, items, loader, pairs, trainer
from parts import classification as classify_pairs
from torch import nn
from torchmetrics import SpearmanCorrCoef
from torchmetrics.classification import BinaryAccuracy, MulticlassAccuracy, MulticlassAUROC, MulticlassF1Score

from monai_lighter import BatchAdapter, CaseMetrics, FileWriter, Freezer, System, TableWriter
from monai_lighter.errors import NonFiniteError


def segmentation(count):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    post = AsDiscreted(["pred", "label"], argmax=[True, False], to_onehot=3)  # class 2 is in no case
    data = items(count)
    if count > 3:
        data[3]["label"][:] = 0

    def metrics():
        return {
            "dice": DiceMetric(include_background=False),
            "classes": DiceMetric(reduction="mean_batch", get_not_nans=True),
            "hd": HausdorffDistanceMetric(percentile=95),
            "confusion": ConfusionMatrixMetric(metric_name=["sensitivity", "f1 score"], reduction="mean_batch"),
            "acc": BinaryAccuracy(),
        }

    return System(
        model,
        {
            "train": loader(items(4)),
            "val": [loader(data), loader(items(1))],
            "test": loader(data),
            "predict": loader([{"image": item["image"], "id": f"/s{i}/T1.nii.gz"} for i, item in enumerate(data)]),
        },
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=lambda pred, target: nn.functional.cross_entropy(pred, target[:, 0].long()),
        metrics={"val": metrics(), "test": metrics()},
        postprocessing={"val": post, "test": post},
        adapters={"predict": {"batch": BatchAdapter("image", identifier_accessor="id")}},
    )


def classification(count):
    torch.manual_seed(0)
    data = [(x, min(y, 1)) for x, y in pairs(count)]
    return System(
        nn.Sequential(nn.Linear(4, 2), nn.Softmax(1)),
        {"test": loader(data, collate_fn=list_data_collate)},
        metrics={
            "test": {
                "auroc": MulticlassAUROC(2),
                "f1": MulticlassF1Score(2, average="none"),
                "roc": ROCAUCMetric(),
                "cat": SpearmanCorrCoef(),
            }
        },
        adapters={
            "test": {
                "metrics": lambda metric, input, target, pred: metric(
                    pred[:, 1] if isinstance(metric, (ROCAUCMetric, SpearmanCorrCoef)) else pred,
                    target.float() if isinstance(metric, SpearmanCorrCoef) else target,
                )
            }
        },
    )


def main(folder, devices):
    torch.set_num_threads(1)
    arguments = {"devices": devices, "strategy": "ddp" if devices > 1 else "auto"}
    results = {}
    for count in (5, 1):
        results[f"val {count}"] = trainer(folder, **arguments).validate(segmentation(count), verbose=False)
        results[f"test {count}"] = trainer(
            folder, callbacks=[CaseMetrics(folder / f"cases_{count}.csv")], **arguments
        ).test(segmentation(count), verbose=False)
    for name, count in (("classified", 7), ("classified 1", 1)):
        results[name] = trainer(folder, **arguments).test(classification(count), verbose=False)
    trainer(
        folder,
        callbacks=[
            TableWriter(folder / "table.csv", lambda pred: round(float(pred.detach().mean()), 6)),
            FileWriter(folder / "files", "tensor", data_root_dir="/"),
        ],
        **arguments,
    ).predict(segmentation(5), return_predictions=False)
    few = segmentation(1)
    few.dataloaders["predict"] = [loader([{"image": torch.ones(1, 8, 8), "id": f"{i}"}]) for i in range(2)]
    callbacks = [
        FileWriter(folder / "few", "tensor"),
        TableWriter(folder / "few.csv", lambda pred: round(float(pred.mean()), 6)),
    ]
    trainer(folder, callbacks=callbacks, **arguments).predict(few, return_predictions=False)
    run = trainer(folder, callbacks=[Freezer("0.weight")], max_epochs=2, **arguments)
    system = segmentation(5)
    run.fit(system)
    results["fit"] = sorted(run.callback_metrics)
    if run.is_global_zero:
        (folder / "results.json").write_text(json.dumps(results))
    log_by_step(folder, **arguments)
    stop_at_nan(folder, **arguments)


def log_by_step(folder, **arguments):
    """What callbacks find after each step of a `System` and of a LightningModule that logs the same by ``self.log``."""
    metrics = {mode: {"right": MulticlassAccuracy(3, average="micro")} for mode in ("train", "val")}
    loaders = {"train": loader(pairs(8)), "val": loader(pairs(4, seed=1))}
    found = []
    for module in (classify_pairs(metrics=metrics, dataloaders=loaders), Logged(loaders)):
        steps = Steps()
        run = trainer(folder / "logged", callbacks=[steps], max_epochs=2, use_distributed_sampler=True, **arguments)
        run.fit(module)
        found.append(steps.found)
    (folder / f"logged_{run.global_rank}.json").write_text(json.dumps(found))


def stop_at_nan(folder, **arguments):
    """A fit whose batches of step 1 hold one case of NaN: all processes end, with the weights after step 0."""
    data = pairs(4)
    data[3] = (torch.full((4,), torch.nan), 0)
    model = nn.Linear(4, 3)
    system = System(
        model,
        {"train": loader(data, batch_size=1 if arguments["devices"] == 2 else 2)},
        torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=lambda pred, target: pred.square().mean(),
    )
    run = trainer(folder / "stopped", **arguments)
    try:
        run.fit(system)
    except NonFiniteError as error:
        (folder / f"stopped_{run.global_rank}.txt").write_text(f"{run.global_step} {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
