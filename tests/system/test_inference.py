import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import (
    AvgMerger,
    PatchInferer,
    SaliencyInferer,
    SimpleInferer,
    SliceInferer,
    SlidingWindowInferer,
    SlidingWindowInfererAdapt,
    SlidingWindowSplitter,
)
from monai.networks.nets import DenseNet
from monai.utils.enums import PatchKeys
from parts import Outputs, items, loader, trainer
from torch import nn

from monai_lighter import System
from monai_lighter.system.batches import copy_metadata, count_cases, make_items


def blur():
    """A network whose output depends on where patches are cut only at their borders."""
    torch.manual_seed(0)
    return nn.Conv2d(1, 2, 1)


def predicted(tmp_path, model, inferer, mode, data=None, batch_size=2):
    """What each step of one run of a mode gave."""
    outputs = Outputs()
    system = System(model, {mode: loader(data or items(3), batch_size)}, inferer=inferer)
    run = trainer(tmp_path, callbacks=[outputs])
    if mode == "predict":
        run.predict(system, return_predictions=False)
    else:
        {"val": run.validate, "test": run.test}[mode](system, verbose=False)
    return torch.cat([output["pred"] for output in outputs.of[mode]])


WHOLE = {
    "simple": lambda: SimpleInferer(),
    "sliding": lambda: SlidingWindowInferer(roi_size=(4, 4), overlap=0.25),
    "adapting": lambda: SlidingWindowInfererAdapt(roi_size=(4, 4)),
    "patches": lambda: PatchInferer(splitter=SlidingWindowSplitter((4, 4)), merger_cls=AvgMerger),
}


@pytest.mark.slow
class TestInferers:
    @pytest.mark.parametrize("mode", ["val", "test", "predict"])
    @pytest.mark.parametrize("name", WHOLE)
    def test_a_pointwise_network_gives_the_same_through_each(self, tmp_path, name, mode):
        result = predicted(tmp_path, blur(), WHOLE[name](), mode)
        with torch.no_grad():
            expected = blur()(torch.stack([item["image"] for item in items(3)]))
        assert torch.allclose(result, expected, atol=1e-6)

    def test_slices_of_a_volume(self, tmp_path):
        volumes = [{"image": torch.rand(1, 8, 8, 3)} for _ in range(2)]
        result = predicted(tmp_path, blur(), SliceInferer(roi_size=(4, 4), spatial_dim=2), "predict", volumes)
        assert result.shape == (2, 2, 8, 8, 3)

    def test_patches_with_their_places_in_the_metadata(self, tmp_path):
        image = torch.rand(1, 1, 8, 8)
        places = [(0, 0), (0, 4), (4, 0), (4, 4)]
        patches = torch.cat([image[..., y : y + 4, x : x + 4] for y, x in places])
        batch = MetaTensor(patches, meta={PatchKeys.LOCATION: np.array(places)})
        inferer = PatchInferer(merged_shape=(1, 2, 8, 8), batch_size=4, value_dtype=torch.float32)
        system = System(blur(), {"predict": loader([0], collate_fn=lambda _: {"image": batch})}, inferer=inferer)
        outputs = Outputs()
        trainer(tmp_path, callbacks=[outputs]).predict(system)
        with torch.no_grad():
            assert torch.allclose(outputs.of["predict"][0]["pred"], blur()(image), atol=1e-6)

    @pytest.mark.parametrize("mode", ["val", "test", "predict"])
    @pytest.mark.parametrize("cam", ["CAM", "GradCAM", "GradCAMpp"])
    def test_saliency_although_lightning_turns_gradients_off(self, tmp_path, cam, mode):
        network = DenseNet(
            spatial_dims=2, in_channels=1, out_channels=2, init_features=4, growth_rate=2, block_config=(2,)
        )
        arguments = {"fc_layers": "class_layers.out"} if cam == "CAM" else {}
        inferer = SaliencyInferer(cam, "class_layers.relu", None, **arguments)
        data = [{"image": torch.rand(1, 32, 32)} for _ in range(2)]
        result = predicted(tmp_path, network, inferer, mode, data, batch_size=1)  # MONAI's GradCAMpp takes no more
        assert result.shape == (2, 1, 32, 32)
        assert result.isfinite().all()
        assert not result.requires_grad

    def test_training_goes_through_one_where_given(self, tmp_path):
        calls = []

        class Counting(SimpleInferer):
            def __call__(self, inputs, network, *args, **kwargs):
                calls.append(type(inputs))
                return super().__call__(inputs, network, *args, **kwargs)

        def fitted(inferer):
            calls.clear()
            model = blur()
            system = System(
                model,
                {"train": loader(items(4)), "val": loader(items(2))},
                optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
                criterion=lambda pred, target: (pred.mean(1, keepdim=True) - target).abs().mean(),
                inferer=inferer,
            )
            trainer(tmp_path).fit(system)
            return len(calls)

        assert fitted({"train": Counting()}) == 2
        assert fitted({"train": Counting(), "val": Counting()}) == 3
        assert fitted(Counting()) == 1  # one inferer is for evaluation, as in Lighter

    def test_inferers_and_networks_are_given_plain_tensors_and_the_prediction_has_the_metadata(self, tmp_path):
        kinds = []

        def inferer(inputs, network):
            kinds.append(type(inputs))
            return network(inputs)

        data = [{"image": MetaTensor(torch.rand(1, 8, 8), meta={"filename_or_obj": f"{i}.nii"})} for i in range(2)]
        outputs = Outputs()
        system = System(blur(), {"predict": loader(data)}, inferer=inferer)
        trainer(tmp_path, callbacks=[outputs]).predict(system)
        assert kinds == [torch.Tensor]
        output = outputs.of["predict"][0]
        assert list(output["pred"].meta["filename_or_obj"]) == ["0.nii", "1.nii"]
        assert output["identifier"] == ["0.nii", "1.nii"]

    def test_epoch_and_step_pass_through_an_inferer(self, tmp_path):
        class Net(nn.Conv2d):
            def forward(self, x, step):
                return super().forward(x) * 0 + step

        assert predicted(tmp_path, Net(1, 2, 1), SlidingWindowInferer((4, 4)), "predict").unique().tolist() == [0]


class TestParts:
    @pytest.mark.parametrize(
        ("value", "count"),
        [
            (torch.zeros(3, 1), 3),
            (torch.zeros(()), 1),
            ({"a": torch.zeros(2, 1), "b": torch.zeros(2)}, 2),
            ((torch.zeros(4, 1), torch.zeros(4)), 4),
            ([torch.zeros(1, 8, 9), torch.zeros(1, 7, 8)], 2),  # images of several sizes, as for detection
            ({}, 1),
            (None, 1),
        ],
    )
    def test_count_cases(self, value, count):
        assert count_cases(value) == count

    def test_metadata_is_for_predictions_with_one_row_per_input(self):
        source = MetaTensor(torch.zeros(2, 1, 4))
        assert type(copy_metadata(torch.zeros(3, 1), source)) is torch.Tensor
        assert type(copy_metadata(torch.zeros(2, 1), source)) is MetaTensor
        assert copy_metadata({"a": 1}, source) == {"a": 1}
        several = copy_metadata({"seg": torch.zeros(2, 1), "cls": [torch.zeros(2), torch.zeros(3)]}, source)
        assert [type(tensor) for tensor in (several["seg"], *several["cls"])] == [MetaTensor, MetaTensor, torch.Tensor]

    def test_batches_that_are_no_dictionary_have_image_and_label(self):
        image, label = torch.zeros(2, 1), torch.ones(2, 1)
        assert [set(item) for item in make_items((image, label), None, image, label, None, image)] == [
            {"image", "label", "pred"}
        ] * 2
        assert set(make_items(image, None, image, None, None, image)[0]) == {"image", "pred"}
