"""Studies that are killed and go on, on the brain example: five folds, and a search by two processes.

    python scripts/study_folds.py [--short] [--only folds|search] [--work FOLDER]

Small blocks of the MNI152 template that nilearn ships, ten cases. Five folds are killed twice (kill -9: the study with its trial,
then the study alone) and gone on with; what they come to is held against a loop over the folds without studies: weights bit for
bit, Dice of each case computed by plain MONAI and numpy, mean and standard deviation by numpy. Then eight trials of a search are
run by two processes on one storage, one of which is killed. The exit code is 0 where all of it is so. ``--short``: three folds
and four trials.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import Compose, CropForegroundd, LoadImaged, NormalizeIntensityd, Orientationd, Spacingd

from monai_lighter.study.study_folder import COMPLETE, PRUNED, Study, Trial, read_study

BUNDLE = Path(__file__).parents[1] / "bundles" / "brain_tissue_segmentation"
CHANNELS, PATCH, SPACING = (4, 8, 8), (16, 16, 16), (3, 3, 3)
FOLDS_CONFIG = """
imports: ["$import glob"]
images: "$sorted(glob.glob(@dataset_dir + '/*_image.nii.gz'))"
cases: "$[{'image': file, 'label': file.replace('_image', '_label')} for file in @images]"
fold: 0
folds: {_target_: monai_lighter.Folds, data: "@cases", fold: "@fold", n_splits: 5, path: "$@bundle_root + '/splits.json'"}
system::dataloaders::train::dataset::data: "$@folds.train"
system::dataloaders::val::dataset::data: "$@folds.val"
"""
CONFIGS = ["brain/configs/train.yaml", "brain/configs/folds.yaml"]
SMALL = [
    "--patch_size=[16,16,16]",
    "--spacing=[3,3,3]",
    "--network_def::channels=[4,8,8]",
    "--network_def::strides=[2,2]",
    "--crops_per_step=2",
    "--steps_per_epoch=1",
    "--learning_rate=0.01",
    "--trainer::accelerator=cpu",
    "--report=False",
]


def write_data(folder: Path) -> None:
    """Ten cases: five blocks of each hemisphere, at 3 mm."""
    sys.path.insert(0, str(BUNDLE))
    from scripts.dataset import hemisphere  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as whole:
        for side in ("left", "right"):
            (case,) = hemisphere(whole, side)
            for kind, file in case.items():
                volume = nibabel.load(file)
                for i, block in enumerate(np.array_split(np.arange(12, volume.shape[1] - 12), 5)):
                    part = volume.slicer[:, block[0] : block[-1] + 1].slicer[::3, ::3, ::3]
                    folder.mkdir(parents=True, exist_ok=True)
                    nibabel.save(part, folder / f"{side}_{i}_{kind}.nii.gz")
    sys.path.remove(str(BUNDLE))


def begin(*words: str) -> subprocess.Popen:
    """A command, ``monai-lighter …``."""
    return subprocess.Popen(
        [sys.executable, "-m", "monai_lighter", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen, code: int = 0) -> str:
    output, _ = process.communicate(timeout=900)
    assert process.returncode == code, output
    return output


def wait_for(happened: Callable[[], bool], process: subprocess.Popen) -> None:
    start = time.monotonic()
    while not happened():
        assert process.poll() is None, process.stdout and process.stdout.read()
        assert time.monotonic() - start < 300
        time.sleep(0.05)


def list_children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def kill(process: subprocess.Popen, trials: bool) -> None:
    """kill -9 of a study, with the trials that it runs or without them."""
    children = list_children(process.pid) if trials else []
    process.kill()
    for child in children:
        os.kill(child, signal.SIGKILL)
    process.communicate()


def has_epochs(folder: Path, count: int = 1) -> bool:
    """Whether a trial has come to the end of its first epochs."""
    path = folder / "key_metric.csv"
    return path.is_file() and len(path.read_text().splitlines()) > count


def measure(weights: Path, cases: list[str]) -> dict[str, tuple[float, float]]:
    """Dice of grey and of white matter of each case, by MONAI's network and transforms and by numpy."""
    network = UNet(3, 1, 3, CHANNELS, (2, 2), norm="batch")
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.eval()
    keys = ["image", "label"]
    transform = Compose(
        [
            LoadImaged(keys, ensure_channel_first=True),
            Orientationd(keys, axcodes="RAS", labels=None),
            Spacingd(keys, pixdim=SPACING, mode=("bilinear", "nearest")),
            CropForegroundd(keys, source_key="image"),
            NormalizeIntensityd("image", nonzero=True),
        ]
    )
    found = {}
    for image in cases:
        case = transform({"image": image, "label": image.replace("_image", "_label")})
        with torch.no_grad():
            pred = SlidingWindowInferer(PATCH, 4, mode="gaussian")(case["image"][None], network)
        pred, label = np.asarray(pred[0].argmax(0)), np.asarray(case["label"][0])
        found[image] = tuple(
            2 * ((pred == c) & (label == c)).sum() / ((pred == c).sum() + (label == c).sum()) for c in (1, 2)
        )
    return found


def show_folds(folds: int, epochs: int) -> None:
    study = Path("studies/folds")
    words = ["study", *CONFIGS, "--name=folds", f"--max_epochs={epochs}", *SMALL]
    words += [f"--folds::n_splits={folds}", f"--fold={','.join(map(str, range(folds)))}"]
    first = begin(*words)
    wait_for(lambda: has_epochs(study / "001"), first)
    kill(first, trials=True)
    print("killed in trial 001, study and trial")
    second = begin(*words)
    wait_for(lambda: has_epochs(study / "002"), second)
    kill(second, trials=False)
    print("killed in trial 002, the study alone")
    output = finish(begin(*words))
    print(output)
    found = read_study(study)
    assert [trial.state for trial in found.trials] == [COMPLETE] * folds
    assert [trial.attempts for trial in found.trials[:3]] == [1, 2, 2], "the trial that was running goes on, no other"
    compare_with_loop(found, folds, epochs)


def compare_with_loop(found: Study, folds: int, epochs: int) -> None:
    """Holds a study against a loop over the folds, and MONAI's and numpy's Dice of its networks."""
    means, dice = [], {}
    for fold, trial in enumerate(found.trials):
        place = Path(f"hand/{fold}")
        finish(begin("fit", *CONFIGS, *SMALL, f"--max_epochs={epochs}", f"--folds::n_splits={folds}", f"--fold={fold}",
                     f"--trainer::default_root_dir={place.resolve()}"))  # fmt: skip
        own, other = (torch.load(path, weights_only=True) for path in (place / "models/model.pt", trial.weights_path))
        assert own.keys() == other.keys()
        assert all(torch.equal(own[name], other[name]) for name in own), fold
        names = json.loads(Path("brain/splits.json").read_text())["folds"][fold]
        cases = [str(path) for path in sorted(Path("brain/data").resolve().glob("*_image.nii.gz")) if path.name in
                 {Path(name).name for name in names}]  # fmt: skip
        measured = measure(place / "models/model.pt", cases)
        dice |= measured
        means.append(np.mean([value for values in measured.values() for value in values]))
    print(f"weights of {folds} folds: equal bit for bit to those of a loop over the folds")
    np.testing.assert_allclose([trial.value for trial in found.trials], means, rtol=1e-5)
    best = json.loads(found.results_path.read_text())["best"]
    np.testing.assert_allclose([best["mean"], best["std"]], [np.mean(means), np.std(means, ddof=1)], rtol=1e-5)
    compare_table(found.out_of_fold_path, dice)
    print(
        f"Dice of {len(dice)} cases, mean {best['mean']:.4f} and standard deviation {best['std']:.4f}: those of the loop"
    )


def compare_table(path: Path, dice: dict[str, tuple[float, float]]) -> None:
    """Holds the out-of-fold table against the Dice of each case."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(dice) == 20, "ten cases, two classes"
    table = {(Path(row["case"]).name, row["class"]): float(row["value"]) for row in rows}
    for image, values in dice.items():
        for label in (1, 2):
            key = next(
                key
                for key in table
                if key[0] == Path(image).name and key[1] == sorted({k[1] for k in table})[label - 1]
            )
            np.testing.assert_allclose(table[key], values[label - 1], rtol=1e-5)


def show_search(trials: int, epochs: int, folds: int) -> None:
    study = Path("studies/search")
    words = ["study", *CONFIGS, "--name=search", f"--n_trials={trials}", f"--max_epochs={epochs}", *SMALL]
    words += [f"--folds::n_splits={folds}"]
    words = [word for word in words if "learning_rate" not in word] + ["--learning_rate=log(1e-4, 1e-1)"]
    pair = [begin(*words) for _ in range(2)]
    wait_for(lambda: has_epochs(study / "000") and has_epochs(study / "001"), pair[0])
    taken = [Trial.read(study / name) for name in ("000", "001")]
    kill(pair[1], trials=True)
    print("two processes, one killed with its trial")
    output = finish(pair[0])
    print(output)
    found = read_study(study)
    assert [trial.number for trial in found.trials] == list(range(trials))
    assert all(trial.state in (COMPLETE, PRUNED) for trial in found.trials)
    assert sorted(trial.attempts for trial in found.trials)[-1] == 2, "the killed one's trial has been taken again"
    assert [trial.parameters for trial in found.trials[:2]] == [trial.parameters for trial in taken]
    assert len({trial.parameters["learning_rate"] for trial in found.trials}) == trials
    states = json.loads(found.results_path.read_text())["states"]
    print(f"{trials} trials of a search by two processes: {states}, none twice, none lost")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="three folds and four trials")
    parser.add_argument("--work", help="folder that is left there; default: a temporary one")
    parser.add_argument("--only", choices=("folds", "search"))
    asked = parser.parse_args(arguments)
    folds, trials, epochs = (3, 4, 2) if asked.short else (5, 8, 3)
    work = Path(asked.work or tempfile.mkdtemp())
    before = Path.cwd()
    try:
        shutil.copytree(BUNDLE, work / "brain")
        (work / "brain" / "configs" / "folds.yaml").write_text(FOLDS_CONFIG)
        write_data(work / "brain" / "data")
        os.chdir(work)
        if asked.only != "search":
            show_folds(folds, epochs)
        if asked.only != "folds":
            show_search(trials, epochs, folds)
    finally:
        os.chdir(before)
        if not asked.work:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
