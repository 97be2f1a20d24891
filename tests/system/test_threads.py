from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.metrics import DiceMetric
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    Flipd,
    Invertd,
    KeepLargestConnectedComponentd,
    Lambdad,
    OneOf,
    RandFlipd,
    SaveImaged,
    Spacingd,
)

from monai_lighter import LoggingAdapter, System
from monai_lighter.system.threads import ThreadState, copy_transform, find_random, find_unknown

KEYS = ["image", "label"]
PRE = Compose(
    [
        Flipd(KEYS, 0),
        RandFlipd(KEYS, prob=1.0, spatial_axis=1),
        Compose([Spacingd(KEYS, (2.0, 1.0, 0.5), mode="bilinear")]),
    ]
)
POST = Compose([Invertd("pred", PRE, orig_keys="image", nearest_interp=False), AsDiscreted("pred", threshold=0.5)])


def make_item(seed):
    values = torch.rand(1, 8, 9, 7, generator=torch.Generator().manual_seed(seed))
    item = PRE({key: MetaTensor(values.clone(), affine=np.eye(4)) for key in KEYS})
    return {**item, "pred": item["image"].clone()}


class TestCopy:
    def test_it_inverts_what_the_original_has_done(self):
        copied, item = copy_transform(POST), make_item(0)
        expected = POST(item)["pred"]
        assert expected.shape == (1, 8, 9, 7)
        assert torch.equal(copied(item)["pred"], expected)
        assert copied(item)["pred"].applied_operations == expected.applied_operations

    def test_many_at_once_give_what_one_gives_after_the_other(self):
        items = [make_item(i) for i in range(24)]
        expected = [POST(item)["pred"] for item in items]
        copies = [copy_transform(POST) for _ in range(4)]

        def run(i):
            return [copies[i](item)["pred"] for item in items[i::4]]

        with ThreadPoolExecutor(4) as executor:
            found = list(executor.map(run, range(4)))
        assert all(torch.equal(a, b) for i in range(4) for a, b in zip(found[i], expected[i::4], strict=True))

    def test_keys_may_be_missing_in_it_alone(self):
        flip, keys = PRE.transforms[0], []

        def look(pred):
            keys.append(flip.allow_missing_keys)
            return pred

        inverted = Invertd("pred", PRE, orig_keys="image", nearest_interp=False, post_func=look)
        seen = Compose([Lambdad("image", look), Flipd("image", 0)])
        copied = copy_transform(Compose([inverted, seen]))
        assert copied.transforms[0].transform is not PRE
        copied(make_item(0))
        assert keys == [False, False]

    def test_what_cannot_be_copied(self):
        with pytest.raises(TypeError):
            copy_transform(Lambdad("pred", (each for each in ())))


class Own:
    def __call__(self, value):
        return value


def scale(value):
    return value


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (POST, None),
        (Compose([POST, RandFlipd("pred", prob=0.1)]), "RandFlipd"),
        (OneOf([Flipd("pred", 0)]), "OneOf"),
        ([{"a": (RandFlipd("pred"),)}], "RandFlipd"),
        (LoggingAdapter(pred_transforms=[RandFlipd("pred")]), "RandFlipd"),
    ],
)
def test_random_transforms_but_for_those_that_are_inverted(part, name):
    assert find_random(part) == name


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (POST, None),
        (Compose([Activationsd("pred", other=torch.sigmoid), KeepLargestConnectedComponentd("pred")]), None),
        (SaveImaged("pred", output_dir="nowhere", print_log=False), None),
        ([DiceMetric(), LoggingAdapter(pred_transforms=np.exp)], None),
        (Compose([Own()]), "Own"),
        (Lambdad("pred", scale), "scale"),
        (Activationsd("pred", other=scale), "scale"),
        (LoggingAdapter(pred_transforms=partial(scale)), "scale"),
        (Own().__call__, "Own.__call__"),
    ],
)
def test_what_is_not_of_a_known_package(part, name):
    assert find_unknown(part) == name


def test_torchs_state_is_that_of_the_thread_that_made_it():
    def read():
        x = torch.rand(2, 2)
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled(), (x @ x).dtype

    def there(state):
        with state.entered():
            return read()

    with ThreadPoolExecutor(1) as executor:
        for inference, autocast in ((True, True), (True, False), (False, True)):
            with torch.inference_mode(inference), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                assert executor.submit(there, ThreadState()).result() == read()
                outside = executor.submit(there, ThreadState(autocast=False)).result()
                assert outside == (inference, not inference, torch.float32)
        with torch.no_grad():
            assert executor.submit(there, ThreadState()).result() == read()
        assert executor.submit(read).result() == (False, True, torch.float32)


def test_a_system_knows_its_number_of_threads():
    assert System(torch.nn.Identity()).workers is None
    assert System(torch.nn.Identity(), workers=0).workers == 0
