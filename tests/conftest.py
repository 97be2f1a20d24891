"""A small native bundle on real NIfTI files, and MONAI's command line in a process of its own."""

import functools
import json
import os
import subprocess
import sys

import nibabel
import numpy as np
import preloaded
import pytest
import torch
import yaml

from monai_lighter.commands.main import main

pytest_plugins = ["tiers", "mistake_report"]
subprocess.Popen = preloaded.Popen

TRAIN = """
bundle_root: .
dataset_dir: $@bundle_root + '/data'
max_epochs: 1
report: false
imports: [$import glob]
files: "$sorted(glob.glob(@dataset_dir + '/image_*.nii.gz'))"
data: "$[{'image': f, 'label': f.replace('image', 'label')} for f in @files]"
network_def: {_target_: UNet, spatial_dims: 2, in_channels: 1, out_channels: 2, channels: [4, 8], strides: [2]}
preprocessing:
  - {_target_: LoadImaged, keys: [image, label], ensure_channel_first: true}
  - {_target_: ScaleIntensityd, keys: image}
augmentation: [{_target_: RandFlipd, keys: [image, label], prob: 0.5}]
system:
  model: "@network_def"
  criterion: {_target_: DiceCELoss, softmax: true, to_onehot_y: true}
  optimizer: {_target_: torch.optim.AdamW, params: "$@network_def.parameters()", lr: 0.01}
  inferer: {_target_: SlidingWindowInferer, roi_size: [16, 16]}
  metrics: {val: {dice: {_target_: DiceMetric, include_background: false}}}
  postprocessing: {val: {_target_: AsDiscreted, keys: [pred, label], argmax: [true, false], to_onehot: 2}}
  dataloaders:
    train:
      _target_: DataLoader
      batch_size: 2
      shuffle: true
      dataset:
        _target_: Dataset
        data: $@data[:4]
        transform: {_target_: Compose, transforms: $@preprocessing + @augmentation}
    val:
      _target_: DataLoader
      dataset: {_target_: Dataset, data: "$@data[4:]", transform: {_target_: Compose, transforms: "@preprocessing"}}
trainer:
  max_epochs: "@max_epochs"
  accelerator: cpu
  enable_progress_bar: false
  enable_model_summary: false
  logger: false
"""

INFERENCE = """
bundle_root: .
dataset_dir: $@bundle_root + '/data'
output_dir: $@bundle_root + '/eval'
imports: [$import glob]
data: "$[{'image': f} for f in sorted(glob.glob(@dataset_dir + '/image_*.nii.gz'))[4:]]"
network_def: {_target_: UNet, spatial_dims: 2, in_channels: 1, out_channels: 2, channels: [4, 8], strides: [2]}
preprocessing:
  _target_: Compose
  transforms:
    - {_target_: LoadImaged, keys: image, ensure_channel_first: true}
    - {_target_: ScaleIntensityd, keys: image}
system:
  model: "@network_def"
  inferer: {_target_: SlidingWindowInferer, roi_size: [16, 16]}
  postprocessing:
    predict:
      _target_: Compose
      transforms:
        - {_target_: AsDiscreted, keys: pred, argmax: true}
        - {_target_: SaveImaged, keys: pred, output_dir: "@output_dir", separate_folder: false, print_log: false}
  dataloaders:
    predict:
      _target_: DataLoader
      dataset: {_target_: Dataset, data: "@data", transform: "@preprocessing"}
trainer: {accelerator: cpu, enable_progress_bar: false, enable_model_summary: false, logger: false}
"""


METADATA = {"version": "0.1.0", "monai_version": "1.6.1", "pytorch_version": "2.13.0", "numpy_version": "2.4.6"}


@pytest.fixture(autouse=True)
def search_path():
    """Leaves the search path of modules as it was: MONAI's own workflow adds the folder of each bundle for good."""
    before = sys.path[:]
    yield
    sys.path[:] = before


@pytest.fixture(autouse=True)
def own_safe_path(monkeypatch):
    """What a declarative run sets for the processes that it starts goes with the test."""
    monkeypatch.setenv("PYTHONSAFEPATH", "")


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """Directory of a bundle with ``configs/{train,inference}.yaml``, metadata and six 16 x 16 images with labels in ``data``."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    root = tmp_path / "bundle"
    for folder in ("configs", "data"):
        (root / folder).mkdir(parents=True)
    (root / "configs" / "train.yaml").write_text(TRAIN)
    (root / "configs" / "inference.yaml").write_text(INFERENCE)
    (root / "configs" / "metadata.json").write_text(json.dumps(METADATA))
    random = np.random.default_rng(0)
    for i in range(6):
        label = np.zeros((16, 16), np.uint8)
        label[i : i + 8, 4:12] = 1
        image = label + 0.1 * random.standard_normal((16, 16)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), root / "data" / f"image_{i}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), root / "data" / f"label_{i}.nii.gz")
    return root


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Working directory with ``configs``, a package ``scripts``, and ``data``; what a config sets goes with the test."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.chdir(tmp_path)
    for name in ("configs", "data", "scripts"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "table.csv").touch()
    (tmp_path / "scripts" / "__init__.py").touch()
    return tmp_path


@pytest.fixture
def extra(bundle):
    """Writes a config beside those of the bundle, to be merged with one of them, and gives its path."""

    def write(config, name="extra.yaml"):
        path = bundle / "configs" / name
        path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
        return str(path)

    return write


@pytest.fixture(scope="module")
def impatient_workers():
    """torch waits 5 s for each worker of a loader that has failed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
        yield


@pytest.fixture(autouse=True)
def _no_module_is_left():
    """Modules of a bundle are called as those of the next one."""
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("project", "scripts")]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def _no_seed_is_left():
    """``seed_everything`` leaves its seed to the processes that are started later."""
    yield
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def python_module():
    """Runs ``python -m MODULE ARGUMENTS`` and gives the finished process.

    It is forked from one that has imported MONAI and Lightning, see `preloaded`. ``fresh``: it is a new interpreter, where
    that is what is tested; ``line`` are other words than ``-m MODULE``.
    """

    def run(module, *arguments, line=None, fresh=False, cwd=None, timeout=400, **variables):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", **variables}
        if (
            fresh
        ):  # what it runs of the package is measured in the forked ones; the import of MONAI takes a third longer so
            environment = {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}
        words = [*(line or ("-m", module)), *map(str, arguments)]
        (done,) = preloaded.run_together([(words, cwd, environment)], timeout, fresh)
        return done

    return run


@pytest.fixture(scope="session")
def monai_bundle(python_module):
    """Runs ``python -m monai.bundle ARGUMENTS`` as `python_module` does."""
    return functools.partial(python_module, "monai.bundle")


@pytest.fixture
def command(monkeypatch, capfd):
    """Runs ``monai-lighter ARGUMENTS`` in this process; gives exit code, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["monai-lighter", *map(str, arguments)])
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capfd.readouterr()

    return run


@pytest.fixture
def check_command(command):
    """Runs ``monai-lighter check ARGUMENTS`` in this process; gives exit code and standard output."""
    return lambda *arguments: command("check", *arguments)[:2]
