"""What a run that failed says of the config, in this process and on the command line."""

import os
import signal
import subprocess
import sys
import time

import nibabel
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.exceptions import SIGTERMException
from monai.data import Dataset
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceLoss
from monai.networks.nets import UNet
from monai.transforms import AsDiscreted, Compose, LoadImaged
from parts import classification, classifier, items, loader, pairs, trainer
from torch import nn
from torchmetrics.classification import BinaryAccuracy

from monai_lighter import BatchAdapter, ComponentError, System
from monai_lighter.errors import in_terms_of_config
from monai_lighter.errors.cases import name_cases
from monai_lighter.errors.context import explained


class Fails(nn.Linear):
    def forward(self, x):
        raise ArithmeticError("no such vector")


class FailingCallback(Callback):
    def on_train_epoch_end(self, trainer, module):
        raise OSError("no space left")


class FailingData:
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.zeros(index + 1), 0


def fails(*arguments, **keywords):
    raise ArithmeticError("no")


def message(tmp_path, system, **keywords):
    """What the config is told of a fit that fails."""
    fit = trainer(tmp_path, **keywords)
    built = {"system": system, "trainer": fit}
    with pytest.raises(Exception, match=r".") as caught, explained(built, name_cases(system)):
        fit.fit(system)
    return in_terms_of_config(caught.value) or ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keywords", "start"),
    [
        ({"model": Fails(4, 3)}, "system::model: ArithmeticError: no such vector\nin train batch 1\nat "),
        ({"model": nn.Linear(5, 3)}, "system::model: RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        ({"criterion": fails}, "system::criterion: ArithmeticError: no\nin train batch 1\n"),
        ({"criterion": nn.BCEWithLogitsLoss()}, "system::criterion: ValueError: Target size"),
        ({"criterion": lambda pred, target: {"loss": pred.sum()}}, "system::criterion: a dictionary of losses must"),
        ({"metrics": {"train": {"acc": BinaryAccuracy()}}}, "system::metrics::train::acc: "),
        ({"inferer": {"train": SlidingWindowInferer([3, 3])}}, "system::inferer: ValueError: Inputs must have 4"),
        ({"adapters": {"train": {"batch": BatchAdapter("image")}}}, "system::adapters::train::batch: ValueError: acc"),
        ({"adapters": {"train": {"logging": fails}}}, "system::adapters::train::logging: ArithmeticError: no"),
        (
            {"dataloaders": {"train": loader(FailingData())}},
            "system::dataloaders::train: a batch failed: RuntimeError: stack expects each tensor to be equal size",
        ),
        (
            {"dataloaders": {"train": loader(pairs(4), num_workers=1, collate_fn=fails)}},
            "system::dataloaders::train: a batch failed: ArithmeticError: no\ncases: item 0 of the batch; item 1 of",
        ),
    ],
)
def test_a_part_of_the_system(tmp_path, keywords, start):
    assert message(tmp_path, classification(**keywords)).startswith(start)


@pytest.mark.slow
def test_where_and_on_what(tmp_path):
    lines = message(tmp_path, classification(model=Fails(4, 3))).splitlines()
    assert lines[1] == "in train batch 1"
    assert lines[2].startswith(f"at {__file__}:")
    assert lines[3] == "with input (2, 4) float32"


@pytest.mark.slow
def test_postprocessing_and_a_scheduler(tmp_path):
    system = classification()
    system.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(system.optimizer)
    assert message(tmp_path, system).startswith("system::scheduler: ReduceLROnPlateau needs the name")
    model = nn.Conv2d(1, 1, 1)
    segmentation = System(
        model,
        {"train": loader(items(2))},
        torch.optim.SGD(model.parameters()),
        criterion=nn.MSELoss(),
        postprocessing={"train": fails},
    )
    assert message(tmp_path, segmentation).startswith("system::postprocessing::train: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keywords", "start"),
    [
        ({"callbacks": [FailingCallback()]}, "trainer::callbacks (FailingCallback): OSError: no space left\nat "),
        ({"callbacks": [EarlyStopping("val/los")]}, "trainer::callbacks (EarlyStopping): RuntimeError: Early stopping"),
        ({"gradient_clip_val": 1.0}, "trainer: MisconfigurationException: Automatic gradient clipping"),
    ],
)
def test_a_part_of_the_trainer(tmp_path, keywords, start):
    system = classification()
    if "gradient_clip_val" in keywords:
        system = classification(optimizer=[system.optimizer, torch.optim.SGD(classifier().parameters())])
    assert message(tmp_path, system, **keywords).startswith(start)


@pytest.fixture
def files(tmp_path):
    """Writes a NIfTI file of the values given and gives its path."""

    def write(name, values):
        path = tmp_path / f"{name}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
        return str(path)

    return write


def read(tmp_path, cases, workers=0, batch_size=2, **keywords):
    """What the config is told of a fit on cases of files, a line each."""
    model = keywords.pop("model", None) or UNet(3, 1, 2, (4, 8), (2,))
    system = System(
        model,
        {
            "train": loader(
                Dataset(cases, LoadImaged(("image", "label"), ensure_channel_first=True)),
                batch_size,
                num_workers=workers,
            )
        },
        torch.optim.SGD(model.parameters()),
        criterion=keywords.pop("criterion", DiceLoss(to_onehot_y=True, softmax=True)),
        **keywords,
    )
    return message(tmp_path, system).splitlines()


IMAGE, LABEL = np.zeros((8, 8, 8), "float32"), np.zeros((8, 8, 8), "uint8")


@pytest.mark.slow
class TestCases:
    """Ordinary faults of cases."""

    @pytest.fixture
    def good(self, files):
        return {"image": files("image", IMAGE), "label": files("label", LABEL)}

    def test_a_label_value_that_is_no_class(self, tmp_path, files, good):
        five = {**good, "label": files("five", LABEL + 5)}
        lines = read(tmp_path, [good, five])
        assert lines[0].startswith("system::criterion: RuntimeError: index 5 is out of bounds")
        assert lines[1].startswith(f"label={five['label']} has the value 5: with 2 classes, 0 to 1 are allowed.")
        cases = [f"image={each['image']}, label={each['label']}" for each in (good, five)]
        assert lines[2] == f"in train batch 1: {'; '.join(cases)}"
        assert "target (2, 1, 8, 8, 8) float32, pred (2, 2, 8, 8, 8) float32" in lines[-1]

    def test_in_the_postprocessing(self, tmp_path, files, good):
        five = {**good, "label": files("five", LABEL + 5)}
        transform = Compose([AsDiscreted("label", to_onehot=2)])
        criterion = lambda pred, target: pred.mean()  # noqa: E731
        lines = read(tmp_path, [five], criterion=criterion, postprocessing={"train": transform})
        case = f"image={five['image']}, label={five['label']}"
        assert lines[0].startswith(f"system::postprocessing::train: case {case}")
        assert "RuntimeError: index 5 is out of bounds" in lines[0]
        assert lines[1].startswith(f"label={five['label']} has the value 5: with 2 classes")

    def test_a_label_of_another_shape(self, tmp_path, files, good):
        lines = read(tmp_path, [{**good, "label": files("big", np.zeros((8, 8, 10), "uint8"))}])
        assert lines[0].startswith("system::criterion: AssertionError: ground truth has different shape")
        assert "big.nii.gz" in lines[1]

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_series_among_volumes(self, tmp_path, files, good, workers):
        series = {**good, "image": files("series", np.zeros((8, 8, 8, 3), "float32"))}
        lines = read(tmp_path, [good, series], workers)
        assert lines[0].startswith(
            "system::dataloaders::train: a batch failed: RuntimeError: stack expects each tensor"
        )
        assert lines[1] == f"image: (1, 8, 8, 8) of {good['image']}; (3, 8, 8, 8) of {series['image']}"

    def test_a_size_that_the_strides_do_not_divide(self, tmp_path, files):
        case = {"image": files("odd", IMAGE[:6]), "label": files("odd_label", LABEL[:6])}
        lines = read(tmp_path, [case], model=UNet(3, 1, 2, (4, 8, 16), (2, 2)))
        assert lines[0].startswith("system::model: RuntimeError: Sizes of tensors must match")
        assert lines[1].startswith("the network does not take the input (6, 8, 8), it takes (8, 8, 8): multiples of 4.")
        assert "odd.nii.gz" in lines[2]

    @pytest.mark.parametrize("blank", [None, float("nan")])
    def test_a_blank_label(self, tmp_path, good, blank):
        (line,) = read(tmp_path, [{**good, "label": blank}])
        assert line.startswith(
            f"system::dataloaders::train: case image={good['image']}, label={blank!s} failed: TypeError"
        )

    def test_a_list_of_modalities(self, tmp_path, files, good):
        other = files("other", np.zeros((8, 8, 9), "float32"))
        (line,) = read(tmp_path, [{**good, "image": [good["image"], other]}])
        assert line.startswith(
            f"system::dataloaders::train: case image=[{good['image']}, {other}], label={good['label']} "
        )


@pytest.mark.slow
def test_a_worker_that_cannot_be_started(tmp_path):
    unpicklable = loader(pairs(4), num_workers=1, multiprocessing_context="spawn", collate_fn=lambda batch: batch)
    told = message(tmp_path, classification(dataloaders={"train": unpicklable}))
    assert told.startswith("system::dataloaders::train: ")
    assert "<lambda>" in told
    assert "combined_loader" not in told


@pytest.mark.slow
def test_the_backward_pass(tmp_path):
    told = message(tmp_path, classification(criterion=lambda pred, target: pred.detach().mean()))
    assert told.startswith("system::model (backward pass): RuntimeError: element 0 of tensors does not require grad")
    assert told.endswith("with loss () float32")


class Renamed(System):
    """What is told does not hang on the names of methods, their objects or their variables."""

    def forward(me, x):
        return super().forward(x)

    def training_step(me, what, number):
        values = batch = mode = None  # noqa: F841
        return super().training_step(what, number)


@pytest.mark.slow
def test_names_within_the_package_tell_nothing(tmp_path):
    system = classification(criterion=fails)
    system.__class__ = Renamed
    lines = message(tmp_path, system).splitlines()
    assert lines[0] == "system::criterion: ArithmeticError: no"
    assert lines[-1] == "with input (2, 4) float32, target (2,) int64, pred (2, 3) float32"


def test_what_has_nothing_to_do_with_the_config_is_left_alone():
    with pytest.raises(KeyError) as caught, explained({}, {}):
        {}["a"]
    assert in_terms_of_config(caught.value) is None
    with pytest.raises(ComponentError, match="mine"), explained({}, {}):
        raise ComponentError("id", "mine")


def test_terminated():
    with pytest.raises(SIGTERMException) as caught, explained({}, {}):
        raise SIGTERMException
    assert caught.value.code == 143


@pytest.mark.slow
def test_the_command_line(bundle, monai_bundle):
    arguments = ["fit", "--workflow", "monai_lighter.Workflow", "--config_file", "configs/train.yaml"]
    done = monai_bundle("run", *arguments, "--network_def::in_channels", "3", cwd=bundle)
    assert done.returncode == 1
    assert "system::model: RuntimeError: Given groups=1" in done.stderr
    assert "with input (1, 1, 16, 16) float32" in done.stderr
    assert "Traceback" not in done.stderr
    shown = monai_bundle("run", *arguments, "--network_def::in_channels", "3", cwd=bundle, MONAI_DEBUG="true")
    assert "Traceback" in shown.stderr


SLOW = """
import time
from lightning.pytorch import Callback


class Slow(Callback):
    def on_train_batch_end(self, *arguments):
        print("a step", flush=True)
        time.sleep(0.5)
"""


@pytest.mark.slow
def test_a_fit_that_is_terminated_has_an_exit_code(bundle):
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "slow.py").write_text(SLOW)
    command = [sys.executable, "-m", "monai.bundle", "run", "fit", "--workflow", "monai_lighter.Workflow"]
    changes = ["--trainer::callbacks", "[{'_target_': 'scripts.slow.Slow'}]", "--max_epochs", "100"]
    process = subprocess.Popen(
        [*command, "--config_file", "configs/train.yaml", *changes], cwd=bundle, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    for line in process.stdout:
        if "a step" in line:
            break
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    assert process.wait(60) == 143
