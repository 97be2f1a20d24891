"""Distances in mm, against scipy on the files' own spacing."""

import nibabel
import numpy as np
import pytest
import torch
from monai.data import Dataset, MetaTensor
from monai.data.utils import pad_list_data_collate
from monai.metrics import (
    CumulativeIterationMetric,
    DiceMetric,
    HausdorffDistanceMetric,
    LossMetric,
    SurfaceDiceMetric,
    SurfaceDistanceMetric,
)
from monai.transforms import AsDiscreted, Compose, Invertd, LoadImage, LoadImaged, SaveImaged, Spacingd
from parts import items, loader, trainer
from scipy.ndimage import binary_erosion, distance_transform_edt
from torch import nn
from torchmetrics import Metric

from monai_lighter import System
from monai_lighter.system.metrics import Metrics
from monai_lighter.system.spacing import Compared, Spaced, is_distance, read_spacing, takes_spacing

SPACINGS = ((1.5, 1.2, 2.0), (1.0, 1.0, 1.0), (0.8, 2.5, 3.0))


def surface_distances(a, b, spacing):
    """Distances in mm from each surface voxel of one mask to the surface of the other, and the other way round."""
    edges = [mask & ~binary_erosion(mask) for mask in (a, b)]
    fields = [distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return fields[1][edges[0]], fields[0][edges[1]]


def hausdorff(a, b, spacing):
    return max(part.max() for part in surface_distances(a, b, spacing))


def hausdorff_95(a, b, spacing):
    return max(np.percentile(part, 95) for part in surface_distances(a, b, spacing))


def average_distance(a, b, spacing):  # from prediction to target
    return surface_distances(a, b, spacing)[0].mean()


def surface_dice(a, b, spacing, tolerance=2.0):
    parts = surface_distances(a, b, spacing)
    return sum((part <= tolerance).sum() for part in parts) / sum(len(part) for part in parts)


@pytest.fixture
def cases(tmp_path):
    """Three cases: prediction (the image) and target as masks, files ``(16, 14, 12)`` of three spacings, axes oblique."""
    result, turn = [], np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    for i, spacing in enumerate(SPACINGS):
        pred, target = np.zeros((2, 16, 14, 12), np.uint8)
        pred[3:8, 2:9, 3 : 8 + i] = 1
        target[4:12, 3:7, 1:7] = 1
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = turn @ np.diag(spacing), (5, -3, 2)
        paths = {"image": str(tmp_path / f"pred_{i}.nii.gz"), "label": str(tmp_path / f"target_{i}.nii.gz")}
        for key, mask in (("image", pred), ("label", target)):
            nibabel.save(nibabel.Nifti1Image(mask, affine), paths[key])
        result.append((paths, pred > 0, target > 0, spacing))
    return result


METRICS = {
    "hd": (lambda: HausdorffDistanceMetric(include_background=False), hausdorff),
    "hd95": (lambda: HausdorffDistanceMetric(include_background=False, percentile=95), hausdorff_95),  # docs/metrics.md
    "asd": (lambda: SurfaceDistanceMetric(include_background=False), average_distance),
    "nsd": (lambda: SurfaceDiceMetric([2.0], include_background=False), surface_dice),
}
POST = AsDiscreted(["pred", "label"], threshold=[0.5, None], to_onehot=2)
LOAD = LoadImaged(["image", "label"], ensure_channel_first=True)


def one_hot_of_masks(metric, input, target, pred):
    """An adapter that knows nothing of spacing."""
    both = [torch.cat([1 - mask, mask], 1).float() for mask in (pred, target)]
    assert isinstance(metric, CumulativeIterationMetric)
    return metric(*both)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("how", ["postprocessing", "adapter"])
def test_each_case_is_measured_in_its_own_spacing(tmp_path, cases, batch_size, how):
    post = how == "postprocessing"
    system = System(
        nn.Identity(),
        {"test": loader(Dataset([paths for paths, *_ in cases], LOAD), batch_size)},
        metrics={"test": {name: build() for name, (build, _) in METRICS.items()}},
        adapters={} if post else {"test": {"metrics": one_hot_of_masks}},
        postprocessing={"test": POST} if post else {},
    )
    (result,) = trainer(tmp_path).test(system, verbose=False)
    for name, (_, by_scipy) in METRICS.items():
        expected = np.mean([by_scipy(pred, target, spacing) for _, pred, target, spacing in cases])
        assert result[f"test/metrics/{name}/epoch"] == pytest.approx(expected, rel=1e-5), name
        assert system.metrics["test"].find_unit(name) == ("" if name == "nsd" else "mm")


@pytest.mark.slow
def test_after_inversion_it_is_the_spacing_of_the_file(tmp_path, cases):
    transform = Compose([LOAD, Spacingd("image", (1.0, 1.0, 1.0), mode="nearest")])
    post = Compose(
        [
            Invertd("pred", transform, orig_keys="image", nearest_interp=True),
            AsDiscreted(["pred", "label"], to_onehot=2),
        ]
    )
    save = SaveImaged("pred", output_dir=tmp_path / "out", separate_folder=False, print_log=False)
    system = System(
        nn.Identity(),
        {"val": loader(Dataset([paths for paths, *_ in cases], transform), 3, collate_fn=pad_list_data_collate)},
        metrics={"val": {"hd": HausdorffDistanceMetric(include_background=False)}},
        postprocessing={"val": Compose([post, save])},
    )
    (result,) = trainer(tmp_path).validate(system, verbose=False)
    values = []
    for i, (_, _, target, spacing) in enumerate(cases):
        saved = nibabel.load(tmp_path / "out" / f"pred_{i}_trans.nii.gz").get_fdata()
        values.append(hausdorff(saved[..., 1] > 0.5, target, spacing))
    assert result["val/metrics/hd/epoch"] == pytest.approx(np.mean(values), rel=1e-5)


@pytest.mark.slow
def test_in_training_it_is_that_of_the_input(tmp_path, cases):
    model = nn.Conv3d(1, 1, 1)
    nn.init.constant_(model.weight, 1.0)
    nn.init.constant_(model.bias, 0.0)
    system = System(
        model,
        {"train": loader(Dataset([paths for paths, *_ in cases], LOAD), 3)},
        optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
        criterion=nn.L1Loss(),
        metrics={"train": {"hd": HausdorffDistanceMetric(include_background=False)}},
        adapters={"train": {"metrics": one_hot_of_masks}},
    )
    run = trainer(tmp_path)
    run.fit(system)
    expected = np.mean([hausdorff(pred, target, spacing) for _, pred, target, spacing in cases])
    assert float(run.callback_metrics["train/metrics/hd/epoch"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_images_without_spacing_count_voxels_and_it_is_said(tmp_path, caplog):
    data = [{**item, "image": (item["image"] > 0.5).float()} for item in items(4)]
    system = System(
        nn.Identity(),
        {"test": loader(data)},
        metrics={"test": {"hd": HausdorffDistanceMetric(include_background=False)}},
        postprocessing={"test": POST},
    )
    (result,) = trainer(tmp_path).test(system, verbose=False)
    masks = [[np.asarray(item[key])[0] > 0.5 for key in ("image", "label")] for item in data]
    assert result["test/metrics/hd/epoch"] == pytest.approx(np.mean([hausdorff(*pair, None) for pair in masks]))
    assert system.metrics["test"].find_unit("hd") == "voxels"
    assert caplog.text.count("metric 'hd': the spacing of its cases is not known") == 1


class InVoxels(CumulativeIterationMetric):
    """A user's metric that gives the spacing it was given."""

    def _compute_tensor(self, y_pred, y, spacing=None):
        return torch.tensor([spacing] * len(y_pred), dtype=torch.float)

    def aggregate(self):
        return self.get_buffer().mean(0)


class TorchVolume(Metric):
    """A torchmetrics metric whose update takes spacing."""

    def __init__(self):
        super().__init__()
        self.add_state("total", torch.tensor(0.0), "sum")

    def update(self, pred, target, spacing):
        rows = spacing if isinstance(spacing[0], list) else [spacing] * len(pred)
        self.total += sum(float(np.prod(row)) * float(mask.sum()) for row, mask in zip(rows, pred, strict=True))

    def compute(self):
        return self.total


@pytest.mark.slow
def test_metrics_of_a_user_that_take_spacing(tmp_path, cases):
    for batch_size in (1, 3):
        system = System(
            nn.Identity(),
            {"test": loader(Dataset([paths for paths, *_ in cases], LOAD), batch_size)},
            metrics={"test": {"own": InVoxels(), "volume": TorchVolume()}},
        )
        (result,) = trainer(tmp_path).test(system, verbose=False)
        expected = np.mean(SPACINGS, axis=0)
        assert [result[f"test/metrics/own/{i}/epoch"] for i in range(3)] == pytest.approx(expected.tolist())
        volume = sum(pred.sum() * np.prod(spacing) for _, pred, _, spacing in cases)
        assert result["test/metrics/volume/epoch"] == pytest.approx(volume, rel=1e-5)


@pytest.mark.slow
def test_adapters_that_ask_for_it_have_the_metadata_of_each_case(tmp_path, cases):
    seen = []

    def adapt(metric, input, target, pred, meta):
        seen.extend(meta)
        return metric(pred, target, spacing=[1.0, 1.0, 1.0])

    def criterion(fn, input, target, pred, meta):
        assert len(meta) == len(pred)
        return fn(pred, target)

    system = System(
        nn.Identity(),
        {"val": loader(Dataset([paths for paths, *_ in cases], LOAD), 2)},
        criterion=nn.L1Loss(),
        metrics={"val": {"hd": HausdorffDistanceMetric(include_background=False)}},
        adapters={"val": {"metrics": adapt, "criterion": criterion}},
        postprocessing={"val": POST},
    )
    (result,) = trainer(tmp_path).validate(system, verbose=False)
    assert [meta["filename_or_obj"] for meta in seen] == [paths["image"] for paths, *_ in cases]
    assert [meta["spacing"] for meta in seen] == [pytest.approx(spacing) for spacing in SPACINGS]
    expected = np.mean([hausdorff(pred, target, (1, 1, 1)) for _, pred, target, _ in cases])
    assert result["val/metrics/hd/epoch"] == pytest.approx(expected)  # its own spacing stands


class TestParts:
    @pytest.mark.parametrize(
        ("metric", "takes", "distance"),
        [
            (HausdorffDistanceMetric(), True, True),
            (SurfaceDistanceMetric(), True, True),
            (SurfaceDiceMetric([1]), True, False),
            (DiceMetric(), False, False),
            (LossMetric(nn.L1Loss()), True, False),
            (InVoxels(), True, False),
            (TorchVolume(), True, False),
        ],
    )
    def test_which_metrics(self, metric, takes, distance):
        assert takes_spacing(metric) is takes
        assert is_distance(metric) is distance

    def test_spacing_that_is_not_known(self):
        affine = torch.diag(torch.tensor([2.0, 3, 4, 1]))
        assert read_spacing(MetaTensor(torch.zeros(1, 4, 5), affine=affine)) == (2, 3)
        assert read_spacing(torch.zeros(1, 4, 5)) is None
        assert read_spacing(MetaTensor(torch.zeros(1, 4, 5))) is None

    def test_spacing_of_files(self, tmp_path):
        """Of an array MONAI's reader tells a space, and no affine: distances in it are in voxels."""
        np.save(tmp_path / "x.npy", np.zeros((4, 5, 6), np.float32))
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.eye(4)), tmp_path / "x.nii.gz")
        load = LoadImage(ensure_channel_first=True)
        assert read_spacing(load(tmp_path / "x.npy")) is None
        assert read_spacing(load(tmp_path / "x.nii.gz")) == (1, 1, 1)

    def test_spacing_of_an_affine_that_is_broken(self):
        affine = torch.diag(torch.tensor([2.0, 3, 4, 1]))
        for broken in (0.0, np.nan):
            affine[1, 1] = broken
            assert read_spacing(MetaTensor(torch.zeros(1, 4, 5), affine=affine)) is None

    def test_a_part_of_the_cases_needs_a_spacing_where_they_differ(self):
        metric = HausdorffDistanceMetric()
        mask = torch.zeros(1, 2, 4, 4)
        mask[..., 1:3, 1:3] = 1
        with pytest.raises(ValueError, match="1 of 2 cases, whose spacings differ, must give it their `spacing`"):
            Spaced(metric, [(1, 1), (2, 2)])(mask, mask)
        assert Spaced(metric, [(2, 2), (2, 2)])(mask, mask).shape == (1, 1)

    def test_it_is_the_metric_in_all_else(self):
        metric = HausdorffDistanceMetric(percentile=95)
        spaced = Spaced(metric, [None])
        assert isinstance(spaced, HausdorffDistanceMetric)
        assert spaced.percentile == 95

    def test_a_head_with_the_geometry_is_looked_for(self):
        head = MetaTensor(torch.zeros(1, 4, 5), affine=torch.diag(torch.tensor([2.0, 3, 4, 1])))
        image = MetaTensor(torch.zeros(1, 9, 9), affine=torch.eye(4) * 7)
        compared = Compared(
            torch.zeros(1, 1, 9, 9), None, [{"image": image, "seg": head, "cls": torch.zeros(2)}], ("seg", "cls")
        )
        assert compared.spacings == [(2, 3)]

    def test_without_cases_it_is_the_metric_itself(self):
        metrics = Metrics({"hd": HausdorffDistanceMetric()})
        mask = torch.zeros(1, 2, 4, 4)
        mask[..., 1:3, 1:3] = 1
        metrics.update(lambda metric, input, target, pred: metric(pred, target), None, mask, mask)
        assert float(metrics.compute()["hd"]) == 0
        assert metrics.find_unit("hd") == "voxels"
