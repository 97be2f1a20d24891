"""Sound cases as NIfTI files, a native config that reads them, and its check."""

import copy
import shutil
import sys

import nibabel
import numpy as np
import pytest
import yaml

from monai_lighter.data.integrity import DataCheck
from monai_lighter.workflow.check_config import Check

AFFINE = np.array([[-1.5, 0, 0, 30], [0, 1.2, 0, -20], [0, 0, 2, 5], [0, 0, 0, 1.0]])
SHAPE = (12, 14, 10)
CONFIG = {
    "network_def": {
        "_target_": "UNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 3,
        "channels": [4, 8],
        "strides": [2],
    },
    "preprocessing": [
        {"_target_": "LoadImaged", "keys": ["image", "label"], "ensure_channel_first": True},
        {"_target_": "Orientationd", "keys": ["image", "label"], "axcodes": "RAS", "labels": None},
        {"_target_": "NormalizeIntensityd", "keys": "image"},
    ],
    "augmentation": [{"_target_": "RandFlipd", "keys": ["image", "label"], "prob": 0.5}],
    "system": {
        "model": "@network_def",
        "criterion": {"_target_": "DiceCELoss", "softmax": True, "to_onehot_y": True},
        "optimizer": {"_target_": "torch.optim.SGD", "params": "$@network_def.parameters()", "lr": 0.1},
        "dataloaders": {
            mode: {
                "_target_": "DataLoader",
                "batch_size": 1,
                "dataset": {
                    "_target_": "CacheDataset",
                    "data": f"@{mode}_data",
                    "transform": {"_target_": "Compose", "transforms": f"$@preprocessing{more}"},
                },
            }
            for mode, more in (("train", " + @augmentation"), ("val", ""))
        },
    },
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_progress_bar": False},
}


class Folder:
    """A folder of cases, ``train_0`` to ``train_5`` and ``val_0`` to ``val_2``, each with an image and a label of three classes.

    Attributes:
        root: the folder.
        config: a native config that reads them, to be changed.
    """

    def __init__(self, root):
        self.root = root
        self.random = np.random.default_rng(0)
        self.config = copy.deepcopy(CONFIG)
        self.config["train_data"] = [self.write(f"train_{i}") for i in range(6)]
        self.config["val_data"] = [self.write(f"val_{i}") for i in range(3)]

    def copy_to(self, root):
        """The same folder elsewhere."""
        other = copy.deepcopy(self)
        other.root = shutil.copytree(self.root, root, dirs_exist_ok=True)
        for mode in ("train_data", "val_data"):
            for case in other.config[mode]:
                case.update({key: file.replace(str(self.root), str(root)) for key, file in case.items()})
        return other

    def write(self, name, affine=AFFINE, shape=SHAPE, label_affine=None):
        """Writes an image and its label, and gives the case."""
        image = self.random.normal(100, 20, shape)
        label = np.zeros(shape[:3], np.uint8)
        label[2:5, 2:5, 2:5], label[6:8, 2:5, 2:5] = 1, 2
        label[9:, 9:, :2] = self.random.integers(0, 2, label[9:, 9:, :2].shape)
        self.save(f"{name}/image.nii.gz", image.astype(np.float32), affine)
        self.save(f"{name}/label.nii.gz", label, affine if label_affine is None else label_affine)
        return {key: f"{self.root}/{name}/{key}.nii.gz" for key in ("image", "label")}

    def save(self, name, values, affine=AFFINE):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(values, affine), path)

    def load(self, name):
        """The voxels of a file, as its own type."""
        return np.asanyarray(nibabel.load(self.root / name).dataobj)

    def change(self, name, function):
        """Writes what a function makes of the voxels of a file."""
        affine = nibabel.load(self.root / name).affine
        self.save(name, function(self.load(name).copy()), affine)

    def check(self, **keywords):
        """The check of the config as it stands."""
        file = self.root / "configs" / "train.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.dump(self.config, Dumper=yaml.CSafeDumper))
        check = Check(str(file))
        assert check.errors == []
        built = [one.id for components in check.built.values() for one in components]
        return DataCheck(check.prepared.config, check.prepared.native, built=built, **keywords)

    def found(self, **keywords):
        """``(level, kind, case, file)`` of every finding, with the names of folder and file alone."""
        findings = self.check(**keywords).findings
        return [(each.level, each.kind, each.case.split("/")[0], each.file.rpartition("/")[2]) for each in findings]


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    return Folder(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def folder(tmp_path, sound):
    return sound.copy_to(tmp_path)


@pytest.fixture
def own_modules(monkeypatch):
    """What a bundle adds to ``sys.path`` and ``sys.modules`` goes with the test."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("project", "scripts")]:
        del sys.modules[name]
