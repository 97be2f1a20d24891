"""How sure each case is, of an ensemble and of flips: as a map and as a number, in threads and without."""

import csv

import nibabel
import numpy as np
import pytest
import scipy.stats
import torch
from monai.data import Dataset, MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.metrics import DiceMetric
from monai.transforms import AsDiscreted, Compose, EnsureChannelFirstd, LoadImaged, SaveImaged
from parts import Outputs, items, loader, trainer
from torch import nn

from monai_lighter import CaseMetrics, CsvWriter, Ensemble, FlipInferer, OutputWriter, System
from monai_lighter.share.synthetic import write_nifti
from monai_lighter.transforms import PredictiveEntropyd

WINDOWS = SlidingWindowInferer((4, 4, 4), overlap=0.25)
FLIPPED = FlipInferer([0, 1, 2], WINDOWS)


def networks():
    torch.manual_seed(0)
    return [nn.Conv3d(1, 3, 3, padding=1).eval() for _ in range(3)]


@pytest.fixture
def cases(tmp_path):
    generator = np.random.default_rng(0)
    affine = np.diag([2.0, 1.5, 1.0, 1.0])
    files = [tmp_path / "in" / f"case_{i}.nii.gz" for i in range(3)]
    for file in files:
        write_nifti(file, generator.random((9, 8, 7)))
        nibabel.save(nibabel.Nifti1Image(generator.random((9, 8, 7)).astype(np.float32), affine), file)
    return [{"image": str(file), "label": str(file)} for file in files]


def run_stage(tmp_path, cases, stage, workers, inferer, *callbacks, more=()):
    load = Compose([LoadImaged(["image", "label"]), EnsureChannelFirstd(["image", "label"])])
    finish = Compose([PredictiveEntropyd("pred"), *more, AsDiscreted("pred", argmax=True, to_onehot=3)])
    system = System(
        Ensemble(networks(), activation="softmax"),
        {stage: loader(Dataset(cases, load), batch_size=1)},
        inferer=inferer,
        postprocessing={stage: finish},
        metrics={"test": {"dice": DiceMetric(include_background=False)}} if stage == "test" else None,
        adapters={stage: {"batch": binary}},
        workers=workers,
    )
    run = trainer(tmp_path, callbacks=[*callbacks])
    if stage == "predict":
        run.predict(system, return_predictions=False)
    else:
        run.test(system, verbose=False)


def binary(batch):
    target = torch.cat([batch["label"] > 0.5] * 3, 1).float()
    return batch["image"], target, None


def entropies(cases, inferer):
    """Of the mean of probabilities, by SciPy, case by case."""
    result = []
    for case in cases:
        image = torch.from_numpy(nibabel.load(case["image"]).get_fdata(dtype=np.float32))[None, None]
        with torch.no_grad():
            mean = np.mean([inferer(image, lambda x, one=one: one(x).softmax(1)).numpy()[0] for one in networks()], 0)
        result.append(scipy.stats.entropy(mean, axis=0))
    return result


def rows(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


@pytest.mark.slow
@pytest.mark.parametrize("inferer", [WINDOWS, FLIPPED], ids=["windows", "flips"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stage", ["test", "predict"])
def test_a_number_for_each_case(tmp_path, cases, stage, workers, inferer):
    outputs = Outputs()
    callbacks = [CaseMetrics(tmp_path / "cases.csv", outputs=["pred_entropy"]), outputs]
    run_stage(tmp_path, cases, stage, workers, inferer, *callbacks)
    table = rows(tmp_path / "cases.csv")
    assert table[0] == ["case", "metric", "class", "value", "better"]
    assert {row[1]: row[4] for row in table[1:]} == {
        "pred_entropy": "neither",
        **({"dice": "higher"} if stage == "test" else {}),
    }
    expected = entropies(cases, inferer)
    own = [row for row in table[1:] if row[1] == "pred_entropy"]
    assert [(row[0].rpartition("/")[2], row[2]) for row in own] == [(f"case_{i}.nii.gz", "0") for i in range(3)]
    assert np.allclose([float(row[3]) for row in own], [each.mean() for each in expected], atol=1e-6)
    assert len(table) - 1 - len(own) == (6 if stage == "test" else 0)  # two classes of dice
    for output, each in zip(outputs.of[stage], expected, strict=True):
        assert np.allclose(output["pred_entropy"][0][0], each, atol=1e-5)
        assert "loss" in output
        assert "pred_entropie" not in output


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_map_for_each_case(tmp_path, cases, workers):
    writer = OutputWriter(tmp_path / "maps", "pred_entropy", "itk_nifti", "identifier")
    save = SaveImaged("pred_entropy", output_dir=tmp_path / "saved", output_postfix="entropy", separate_folder=False)
    run_stage(tmp_path, cases, "predict", workers, FLIPPED, writer, more=[save])
    for case, expected in zip(cases, entropies(cases, FLIPPED), strict=True):
        name = case["image"].rpartition("/")[2]
        for file in (tmp_path / "maps" / name, tmp_path / "saved" / name.replace(".nii", "_entropy.nii")):
            image = nibabel.load(file)
            assert np.allclose(image.get_fdata(), expected, atol=1e-5)
            assert np.allclose(image.affine, nibabel.load(case["image"]).affine)


@pytest.mark.slow
def test_what_no_transform_adds(tmp_path, cases):
    with pytest.raises(ValueError, match="outputs must be keys of the cases, got 'pred_entropie': a transform of"):
        run_stage(tmp_path, cases, "predict", 0, WINDOWS, CaseMetrics(tmp_path / "x.csv", outputs="pred_entropie"))


@pytest.mark.slow
def test_numbers_and_channels_of_what_a_transform_of_ones_own_adds(tmp_path):
    def add(item):
        return {
            **item,
            "number": float(item["image"].sum()),
            "maps": torch.stack([item["image"][0], -item["image"][0]]),
            "loss": 9,
        }

    data = items(3)
    system = System(nn.Identity(), {"predict": loader(data)}, postprocessing={"predict": add})
    callbacks = [
        CaseMetrics(tmp_path / "cases.csv", outputs=["number", "maps"]),
        CsvWriter(tmp_path / "x.csv", ["number", "loss"]),
    ]
    trainer(tmp_path, callbacks=callbacks).predict(system, return_predictions=False)
    found = {tuple(row[:3]): float(row[3]) for row in rows(tmp_path / "cases.csv")[1:]}
    for i, item in enumerate(data):
        assert found[str(i), "number", "0"] == pytest.approx(float(item["image"].sum()))
        assert [found[str(i), "maps", str(k)] for k in range(2)] == pytest.approx(
            [float(item["image"].mean() * f) for f in (1, -1)]
        )
    assert [row[1] for row in rows(tmp_path / "x.csv")[1:]] == ["", "", ""]  # the step's own
    assert not isinstance(data[0]["image"], MetaTensor)
