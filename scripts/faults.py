"""What becomes of runs that are killed, stopped, cut off or spread over processes: a table of how often all was well.

    python scripts/faults.py [--short] [--only NAME …] [--seed 0]

Runs are commands (``monai-lighter fit …``) in forked processes of a tiny native config with random transforms, dropout and a
scheduler. A run that was killed goes on with ``--resume auto``; its weights, best and last, must be those of the run that nobody
disturbed, bit for bit. The exit code is 0 where every row is full.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import math
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import torch
import yaml

from monai_lighter.commands.main import main as command
from monai_lighter.errors import print_errors_briefly
from monai_lighter.system.checkpoints import SafeCheckpointIO, find_newest_checkpoint
from monai_lighter.workflow.workflow import Workflow

CASES = "$[{'image': torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(i)), 'label': "
CASES += "torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(i)).round(), 'name': i} for i in range(@count)]"
SLOW = {"_target_": "Lambdad", "keys": "image", "func": "$lambda image: (time.sleep(@delay), image)[1]"}


def loader(count: str, transforms: list, **keywords: object) -> dict:
    """A loader of cases of two random images each."""
    data = {"data": CASES.replace("@count", count), "transform": {"_target_": "Compose", "transforms": transforms}}
    return {"_target_": "DataLoader", "dataset": {"_target_": "Dataset", **data}, "batch_size": 2, **keywords}


CONFIG = {
    "imports": ["$import glob", "$import time", "$import torch"],
    "seed": 7,
    "workers": 0,
    "delay": 0.0,
    "cases": 5,
    "report": False,
    "network": {
        **{"_target_": "UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 1},
        **{"channels": [4, 8], "strides": [2], "dropout": 0.2},
    },
    "system": {
        "model": "@network",
        "criterion": {"_target_": "DiceLoss", "sigmoid": True},
        "optimizer": {"_target_": "torch.optim.Adam", "params": "$@network.parameters()", "lr": 0.01},
        "scheduler": {
            "scheduler": {
                "_target_": "torch.optim.lr_scheduler.StepLR",
                "optimizer": "@system::optimizer",
                "step_size": 1,
            }
        },
        "metrics": {
            "val": {
                "dice": {"_target_": "DiceMetric"},
                "classes": {"_target_": "DiceMetric", "reduction": "mean_batch", "get_not_nans": True},
                "confusion": {"_target_": "ConfusionMatrixMetric", "metric_name": ["sensitivity", "f1 score"]},
                "distance": {"_target_": "HausdorffDistanceMetric", "percentile": 95},
                "error": {"_target_": "torchmetrics.MeanSquaredError"},
            }
        },
        "dataloaders": {
            "train": loader(
                "24",
                [
                    {"_target_": "RandFlipd", "keys": ["image", "label"], "prob": 0.5},
                    {"_target_": "RandGaussianNoised", "keys": "image", "prob": 1.0},
                    SLOW,
                ],
                shuffle=True,
                num_workers="@workers",
            ),
            "val": loader("@cases", [SLOW]),
            "predict": {
                **{"_target_": "DataLoader", "batch_size": 2, "num_workers": "@workers"},
                "dataset": {
                    "_target_": "Dataset",
                    "data": "$[{'image': file} for file in sorted(glob.glob(@bundle_root + '/data/*.nii.gz'))]",
                    "transform": {
                        "_target_": "Compose",
                        "transforms": [{"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True}, SLOW],
                    },
                },
            },
        },
        "postprocessing": {
            "predict": {
                **{"_target_": "SaveImaged", "keys": "pred", "output_dir": "$@bundle_root + '/out'"},
                **{"output_postfix": "logits", "separate_folder": False, "print_log": False},
            },
            "val": {
                "_target_": "Compose",
                "transforms": [
                    {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
                    {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
                ],
            },
        },
    },
    "trainer": {
        **{"max_epochs": 4, "accelerator": "cpu", "devices": 1, "num_sanity_val_steps": 0},
        **{"enable_progress_bar": False, "log_every_n_steps": 5},
        "callbacks": [
            {"_target_": "monai_lighter.LastCheckpoint", "minutes": 0.001},
            {
                "_target_": "monai_lighter.FileWriter",
                "path": "$@bundle_root + '/out'",
                "writer": "tensor",
            },
        ],
    },
}


class Row(NamedTuple):
    """A line of the table."""

    fault: str
    tried: int
    held: int
    why: str = ""


def write_bundle(folder: Path) -> Path:
    """A bundle of the config; gives its file."""
    file = folder / "configs" / "train.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    return file


def start(log: Path, act: Callable[[], object]) -> int:
    """A forked process that does something with its output in a file; gives its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        with open(log, "a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        act()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def wait(pid: int) -> int:
    """Exit code of a process, as a shell has it."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def run(file: Path, stage: str, *words: str) -> int:
    """Starts ``monai-lighter STAGE FILE …``; gives the id of its process."""

    def act() -> None:
        sys.argv = ["monai-lighter", stage, str(file), *words]
        command()

    return start(file.parent.parent / "log.txt", act)


def weights(bundle: Path) -> dict[str, torch.Tensor]:
    """Best and last weights of a fit."""
    found = {}
    for name in ("model.pt", "model_last.pt"):
        state = torch.load(bundle / "models" / name, weights_only=True)
        found.update({f"{name} {key}": value for key, value in state.items()})
    return found


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two fits came to the same, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


class Undisturbed(NamedTuple):
    """What a run comes to that nobody disturbs."""

    weights: dict[str, torch.Tensor]
    seconds: float


def run_undisturbed(folder: Path, *words: str) -> Undisturbed:
    """A fit from its beginning to its end."""
    file, began = write_bundle(folder), time.monotonic()
    if wait(run(file, "fit", *words)):
        raise SystemExit((folder / "log.txt").read_text())
    return Undisturbed(weights(folder), time.monotonic() - began)


def disturb(
    name: str,
    root: Path,
    times: int,
    words: tuple[str, ...],
    number: int,
    chance: random.Random,
    codes: tuple[int, ...],
) -> Row:
    """Sends a signal to fits, each at a random moment, and has them go on.

    Args:
        name: of the row.
        root: folder for the bundles.
        times: number of fits.
        words: of the command.
        number: of the signal.
        chance: where moments come from.
        codes: exit codes that a fit may end with that the signal reached; 0 is that of one that was through.
    """
    whole = run_undisturbed(root / "whole", *words)
    held, why = 0, ""
    for i in range(times):
        file = write_bundle(root / str(i))
        pid = run(file, "fit", *words)
        time.sleep(chance.uniform(0.02, 1.0) * whole.seconds)
        os.kill(pid, number)
        code = wait(pid)
        again = wait(run(file, "fit", *words, "--resume", "auto"))
        good = code in (0, *codes) and again == 0 and same(whole.weights, weights(root / str(i)))
        held += good
        why = why if good else f"run {i}: codes {code}, {again}"
        if good:
            shutil.rmtree(root / str(i))
    return Row(name, times, held, why)


def kills(root: Path, short: bool, chance: random.Random) -> Iterator[Row]:
    """``kill -9`` of fits."""
    for workers in (0, 2):
        name = f"kill -9 of a fit, {workers} workers, then --resume auto: equal bit for bit"
        words = ("--workers", str(workers), "--delay", "0.005")
        yield disturb(name, root / f"kill{workers}", 2 if short else 20, words, signal.SIGKILL, chance, (137,))


def stops(root: Path, short: bool, chance: random.Random) -> Iterator[Row]:
    """SIGTERM and SIGINT in training and validation."""
    cases = ("training", ("--delay", "0.005")), ("validation", ("--delay", "0.02", "--cases", "60"))
    for place, words in cases[: 1 if short else 2]:
        yield from stop(place, words, root, short, chance)


def stops_in_saving(root: Path, short: bool, chance: random.Random) -> Iterator[Row]:
    """SIGTERM and SIGINT in fits of a larger network that write a checkpoint after each step, which takes most of their time."""
    words = ("--network::channels", "[64, 128]", "--trainer::callbacks::0::minutes", "0")
    yield from () if short else stop("saving", words, root, short, chance)


def stop(place: str, words: tuple[str, ...], root: Path, short: bool, chance: random.Random) -> Iterator[Row]:
    """A row for each of the two signals."""
    for each, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        name = f"{each.name} mostly in {place}, exit code {code}, then --resume auto: equal bit for bit"
        yield disturb(name, root / f"{place}{code}", 1 if short else 5, words, each, chance, (code,))


def predictions(root: Path, short: bool, chance: random.Random) -> Iterator[Row]:
    """Signals while a run predicts, two files a case: what has its name is whole; going on leaves whole cases as they are."""
    whole, began = write_cases(root / "whole"), time.monotonic()
    if wait(run(whole, "predict", "--delay", "0.02")):
        raise SystemExit((root / "whole" / "log.txt").read_text())
    seconds, expected = time.monotonic() - began, read_files(root / "whole" / "out")
    for number, times in ((signal.SIGKILL, 2 if short else 20), (signal.SIGTERM, 1 if short else 5)):
        held, why, left = 0, "", 0
        for i in range(times):
            bundle = root / f"{number.name}{i}"
            pid = run(write_cases(bundle), "predict", "--delay", "0.02")
            time.sleep(chance.uniform(0.1, 1.0) * seconds)
            os.kill(pid, number)
            code = wait(pid)
            before = read_files(bundle / "out")
            partial = [name for name, (data, _) in before.items() if data != expected[name][0]]
            done = [
                name for row in read_manifest(bundle) if row["state"] == "written" for name in row["outputs"].split(";")
            ]
            again = wait(
                run(bundle / "configs" / "train.yaml", "predict", "--delay", "0.02", "--skip_existing", "true")
            )
            after = read_files(bundle / "out")
            equal = {name: data for name, (data, _) in after.items()} == {
                name: data for name, (data, _) in expected.items()
            }
            touched = [name for name in done if after[name] != before[name]]
            skipped = sum(row["state"] == "skipped" for row in read_manifest(bundle))
            states = len(read_manifest(bundle)) == 24 and skipped == len(done) // 2
            good = code in (0, 128 + number) and not again and not partial and equal and not touched and states
            held, left = held + good, left + skipped
            why = (
                why
                if good
                else f"run {i}: codes {code}, {again}, {partial=}, {equal=}, {touched=}, {skipped=} of {done}"
            )
        name = f"{number.name} while predicting, then --skip_existing true: no partial file, {left} whole cases left as they"
        yield Row(f"{name} were, {24 * times - left} predicted, all equal byte for byte", times, held, why)


def write_cases(folder: Path) -> Path:
    """A bundle with 24 images; gives its config."""
    file = write_bundle(folder)
    for i in range(24):
        path = folder / "data" / f"case_{i}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        values = torch.rand(16, 16, generator=torch.Generator().manual_seed(i)).numpy()
        nibabel.save(nibabel.Nifti1Image(values, None), path)
    return file


def read_files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Outputs that have their final name: what is in them, and when it was written."""
    files = [path for path in folder.glob("*") if path.is_file() and path.suffix in (".gz", ".pt")]
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files if not path.name.startswith(".")}


def read_manifest(bundle: Path) -> list[dict[str, str]]:
    """Its rows; none where there is no manifest yet."""
    path = bundle / "out" / "manifest.csv"
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _is_readable(file: Path) -> bool:
    try:
        torch.load(file, weights_only=True)
    except Exception:
        return False
    return True


def saves(root: Path, short: bool, chance: random.Random) -> Iterator[Row]:
    """``kill -9`` while checkpoints are written, with a TMPDIR on the same and on another file system."""
    state = {"x": torch.rand(500_000)}
    for place, folder in (("the same", root), ("another", Path("/dev/shm"))):
        path, times, held = root / f"{place.split()[-1]}.ckpt", 5 if short else 50, 0
        SafeCheckpointIO().save_checkpoint(state, path)

        def save(path: Path = path, folder: Path = folder) -> None:
            os.environ["TMPDIR"] = str(folder)
            while True:
                SafeCheckpointIO().save_checkpoint(state, path)

        for _ in range(times):
            pid = start(root / "log.txt", save)
            time.sleep(chance.uniform(0.005, 0.05))
            os.kill(pid, signal.SIGKILL)
            wait(pid)
            held += find_newest_checkpoint([path]) == path and _is_readable(path)
        yield Row(f"kill -9 while saving, TMPDIR on {place} file system: checkpoint readable", times, held)


def full_disks(root: Path, short: bool, chance: random.Random) -> Iterator[Row]:
    """A disk that is full at some byte of a checkpoint, which the limit of file sizes stands for."""
    path, state = root / "last.ckpt", {"x": torch.ones(50_000)}
    SafeCheckpointIO().save_checkpoint(state, path)
    times, held, size = 2 if short else 10, 0, path.stat().st_size
    for i in range(times):

        def save(limit: int = size * i // times) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            SafeCheckpointIO().save_checkpoint({"x": torch.zeros(50_000)}, path)

        failed = wait(start(Path(os.devnull), save)) != 0
        kept = torch.equal(torch.load(path, weights_only=True)["x"], state["x"])
        held += failed and kept and [*root.glob(".*")] == []
    yield Row("disk full within a checkpoint: the old one readable, nothing left beside it", times, held)


def broken(root: Path, short: bool, chance: random.Random) -> Iterator[Row]:
    """A newest checkpoint that is cut off or altered: the fit goes on from the one before."""
    whole = run_undisturbed(root / "whole")
    kinds = {
        "cut off": lambda data: data[: len(data) // 2],
        "empty": lambda data: b"",
        "altered": lambda data: data[: len(data) // 2] + bytes(64) + data[len(data) // 2 + 64 :],
    }
    held, why = 0, ""
    for kind, spoil in kinds.items():
        file = write_bundle(root / kind)
        codes = [wait(run(file, "fit", "--trainer::max_epochs", str(epochs), "--resume", "auto")) for epochs in (2, 3)]
        newest = root / kind / "lightning_logs" / "version_1" / "checkpoints" / "last.ckpt"
        newest.write_bytes(spoil(newest.read_bytes()))
        codes.append(wait(run(file, "fit", "--resume", "auto")))
        told = "is broken" in (root / kind / "log.txt").read_text()
        good = not any(codes) and told and same(whole.weights, weights(root / kind))
        held += good
        why = why if good else f"{kind}: codes {codes}, told: {told}"
    yield Row(
        "newest checkpoint cut off, empty or altered: gone on from the one before, equal bit for bit", 3, held, why
    )


PAIRS = "$[{key: @bundle_root + '/data/' + key + f'_{i}.nii.gz' for key in ('image', 'label')} for i in @numbers]"
FILES = 6
KINDS = ("cut off", "empty", "a text", "missing", "another shape", "a folder")


def write_files(folder: Path) -> Path:
    """A bundle whose cases are NIfTI files; gives its config."""
    file = write_bundle(folder)
    config = yaml.safe_load(file.read_text())
    both = {"keys": ["image", "label"]}
    transforms: list[dict] = [
        {"_target_": "LoadImaged", **both, "ensure_channel_first": True},
        {"_target_": "Spacingd", **both, "pixdim": [1.0, 1.0]},
        {"_target_": "Lambdad", "keys": "image", "func": "$lambda image: (time.sleep(@delay), image)[1]"},
        {"_target_": "ConcatItemsd", **both, "name": "both"},
    ]
    config |= {"numbers": [*range(FILES)], "pairs": PAIRS}
    for mode, loader in config["system"]["dataloaders"].items():
        own = [{"_target_": "RandFlipd", **both, "prob": 0.5}] if mode == "train" else []
        compose = {"_target_": "Compose", "transforms": [*transforms, *own]}
        loader["dataset"] = {"_target_": "Dataset", "data": "@pairs", "transform": compose}
        loader["num_workers"] = "@workers"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "data").mkdir()
    values = np.random.default_rng(0)
    for i in range(FILES):
        for key in ("image", "label"):
            array = values.random((16, 16)).astype(np.float32)
            nibabel.save(
                nibabel.Nifti1Image(array.round() if key == "label" else array, np.eye(4)),
                folder / "data" / f"{key}_{i}.nii.gz",
            )
    return file


def spoil(image: Path, kind: str) -> None:
    """Breaks a file, so that it cannot be read, or not be transformed."""
    if kind == "missing":
        image.unlink()
    elif kind in ("cut off", "empty", "a text"):
        content = image.read_bytes()
        image.write_bytes({"cut off": content[: len(content) // 2], "empty": b"", "a text": b"no image"}[kind])
    elif kind == "another shape":
        nibabel.save(nibabel.Nifti1Image(np.zeros((16, 12), np.float32), np.eye(4)), image)
    else:
        image.unlink()
        image.mkdir()


def bad_cases(root: Path, short: bool, chance: random.Random) -> Iterator[Row]:
    """Files that cannot be read or transformed, first, in the middle and last; a loader's worker that is killed."""
    places = [0, FILES // 2, FILES - 1]
    file = write_files(root / "whole")
    expected = {}
    for place in places:
        expected[place] = evaluate(file, root / f"{place}.pt", numbers=[i for i in range(FILES) if i != place])[1]
    tried = [
        (kind, place) for n, kind in enumerate(KINDS) for place in (places[n % 3 : n % 3 + 1] if short else places)
    ]
    name = (
        "six kinds of broken file, each at one of three positions"
        if short
        else "six kinds of broken file at three positions"
    )
    for workers in (0,) if short else (0, 2):
        named, equal, why = 0, 0, ["", ""]
        for kind, place in tried:
            file = write_files(root / f"{workers} {kind} {place}")
            image = file.parent.parent / "data" / f"image_{place}.nii.gz"
            spoil(image, kind)
            code, _ = evaluate(file, root / "raised.pt", workers=workers)
            good = code == 1 and str(image) in (root / "raised.txt").read_text().rpartition("failed: ")[0]
            named, why[0] = named + good, why[0] if good else f"{kind}, {place}: code {code}"
            code, found = evaluate(file, root / "skipped.pt", workers=workers, **{"system::on_bad_case": "skip"})
            lists = [*file.parent.parent.rglob("bad_cases_validate.csv")]
            listed = [row["case"] for each in lists for row in csv.DictReader(each.open())]
            good = code == 3 and len(listed) == 1 and str(image) in listed[0] and found == expected[place]
            equal, why[1] = equal + good, why[1] if good else f"{kind}, {place}: code {code}, {listed}, {found}"
            (root / "raised.txt").unlink()
        yield Row(f"{name}, {workers} workers: the run ends and names the case", len(tried), named, why[0])
        yield Row(
            f"{name}, {workers} workers, on_bad_case: skip: listed, exit code 3, metrics as without the case, bit for bit",
            len(tried),
            equal,
            why[1],
        )
    yield validate_without(
        root, ((2, 0),) if short else [(size, place) for size in (2, 3) for place in places], expected
    )
    yield go_on_without(root, 1 if short else 5, chance)
    yield kill_workers(root, 1 if short else 5, chance)


def evaluate(file: Path, result: Path, **override: object) -> tuple[int, dict[str, float]]:
    """Exit code of a validation, and what it logs."""

    def act() -> None:
        print_errors_briefly()
        workflow = Workflow(str(file), logging_file=False, **override)
        torch.save(workflow.validate(), result)
        raise SystemExit(workflow.exit_code)

    result.unlink(missing_ok=True)
    code = wait(start(result.with_suffix(".txt"), act))
    return code, torch.load(result) if result.is_file() else {}


def validate_without(root: Path, tried: Sequence[tuple[int, int]], expected: dict[int, dict[str, float]]) -> Row:
    """Validations over several processes that leave a case out."""
    held, why = 0, ""
    for size, place in tried:
        file = write_files(root / f"{size} processes {place}")
        spoil(file.parent.parent / "data" / f"image_{place}.nii.gz", "cut off")
        over = {"trainer::devices": size, "trainer::strategy": "ddp_fork", "system::on_bad_case": "skip"}
        code, found = evaluate(file, root / "skipped.pt", **over)
        one = expected[place]
        good = code == 3 and found.keys() == one.keys() and all(_is_near(found[name], one[name]) for name in one)
        held, why = held + good, why if good else f"{size} processes, {place}: code {code}, {found}, without it: {one}"
    return Row(
        "a broken file in a validation on 2 or 3 processes, on_bad_case: skip: as without it, to 1e-6",
        len(tried),
        held,
        why,
    )


def go_on_without(root: Path, times: int, chance: random.Random) -> Row:
    """Fits that leave a case out and are killed."""
    words = ("--workers", "2", "--delay", "0.02", "--system::on_bad_case", "skip")
    ends, seconds, why, held = [], 0.0, "", 0
    for i in range(times + 1):
        file = write_files(root / f"killed {i}")
        spoil(root / f"killed {i}" / "data" / "image_1.nii.gz", "cut off")
        began = time.monotonic()
        pid = run(file, "fit", *words)
        if i:
            time.sleep(chance.uniform(0.3, 1.0) * seconds)
            os.kill(pid, signal.SIGKILL)
        codes = [wait(pid)]
        seconds = seconds or time.monotonic() - began
        codes += [wait(run(file, "fit", *words, "--resume", "auto"))] if i else []
        newest = max((root / f"killed {i}").rglob("bad_cases_fit.csv"), key=os.path.getmtime, default=None)
        listed = len(newest.read_text().splitlines()) - 1 if newest else 0
        ends.append(weights(root / f"killed {i}") if codes[-1] == 3 else {})
        good = bool(ends[i]) and same(ends[0], ends[i]) and listed == 2
        held += good and i > 0
        why = why if good else f"run {i}: codes {codes}, {listed} listed"
    return Row(
        "kill -9 of a fit that leaves a case out, 2 workers, then --resume auto: equal bit for bit, the list too",
        times,
        held,
        why,
    )


def kill_workers(root: Path, times: int, chance: random.Random) -> Row:
    """``kill -9`` of a worker of a loader, as where memory is out."""
    held, why = 0, ""
    for i in range(times):
        file = write_files(root / f"worker {i}")
        pid = run(file, "fit", "--workers", "2", "--delay", "0.4", "--numbers", str([*range(FILES)] * 50))
        children: list[str] = []
        while len(children) < 2:
            time.sleep(0.05)
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        time.sleep(chance.uniform(2, 4))
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(chance.choice(children)), signal.SIGKILL)
        code, text = wait(pid), (root / f"worker {i}" / "log.txt").read_text()
        good = code == 1 and re.search("(at work on|after) case image=", text) is not None
        held, why = held + good, why if good else f"run {i}: code {code}, {text[-300:]!r}"
    return Row(
        "kill -9 of a loader's worker: exit code 1, names the case that it was at work on, or had done",
        times,
        held,
        why,
    )


def processes(root: Path, short: bool, chance: random.Random) -> Iterator[Row]:
    """Validation over several processes."""
    counts, sizes = ((1, 2, 5), (2,)) if short else (range(1, 18), (2, 3, 4))
    file = write_bundle(root)
    expected = {count: validate(file, root / f"{count}_1.pt", count, 1) for count in counts}
    for size in sizes:
        held, why = 0, ""
        for count in counts:
            found = validate(file, root / f"{count}_{size}.pt", count, size)
            one = expected[count]
            good = bool(one) and found.keys() == one.keys() and all(_is_near(found[name], one[name]) for name in one)
            held += good
            why = why if good else f"{count} cases: {found}, one process: {one}"
        yield Row(
            f"validation with {counts[0]} to {counts[-1]} cases on {size} processes: as on one, to 1e-6",
            len(counts),
            held,
            why,
        )


def _is_near(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-6 or (one != one and other != other)


LAUNCHERS = {
    "Lightning's launcher": ([sys.executable], "ddp"),
    "ddp_spawn": ([sys.executable], "ddp_spawn"),
    "torchrun": ([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"], "ddp"),
}
DYING = """
import os, signal, sys, time
from torch import distributed

calls = 0

def meet(image):
    global calls
    kind, _, rank = os.environ["FAULT"].partition(" of rank ")
    calls += 1
    time.sleep(0.01)
    if distributed.get_rank() != int(rank):
        time.sleep(10)
    elif calls == 3:
        print(f"died at {time.time()}", file=sys.stderr, flush=True)
        if kind == "kill -9":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "sys.exit":
            sys.exit(3)
        raise ValueError("the error of its own")
    return image
"""
"""A transform that ends one process at its third case; the others have a minute to go."""


def dead(root: Path, short: bool, chance: random.Random) -> Iterator[Row]:
    """One of two processes that dies while each predicts cases of its own: the other ends, and it is said which it was."""
    told = {
        "kill -9": ("killed", "SIGKILL"),
        "an exception": ("the error of its own",),
        "sys.exit": ("SystemExit: 3", "exitcode", "exit code 3"),
    }
    faults = ["kill -9 of rank 1", "kill -9 of rank 0", "an exception of rank 1", "sys.exit of rank 0"]
    for launcher, (words, strategy) in [*LAUNCHERS.items()][: 1 if short else None]:
        held, why, tried = 0, "", faults[:1] if short else faults
        for i, fault in enumerate(tried):
            file = write_cases(root / launcher.split()[-1] / str(i))
            log, code, seconds = _run_dying(file, [*words, "-m", "monai_lighter"], strategy, fault)
            good = code != 0 and seconds <= 30 and any(each in log for each in told[fault.partition(" of ")[0]])
            held += good
            why = why if good else f"{fault}: code {code} after {seconds:.0f} s, {log[-300:]!r}"
        yield Row(
            f"one of two processes of {launcher} dies: the other ends within 30 s and tells", len(tried), held, why
        )


def _run_dying(file: Path, words: list[str], strategy: str, fault: str) -> tuple[str, int, float]:
    """What a prediction said, its exit code, and the seconds from the death of a process to the end of all."""
    (file.parent.parent / "scripts").mkdir()
    (file.parent.parent / "scripts" / "__init__.py").touch()
    (file.parent.parent / "scripts" / "dying.py").write_text(DYING)
    more = {"imports": [*CONFIG["imports"], "$from scripts.dying import meet"]}
    more["system::dataloaders::predict::dataset::transform::transforms::1::func"] = "$meet"  # that of SLOW
    (file.parent / "more.yaml").write_text(yaml.safe_dump(more))
    place = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])}
    given = ["--trainer::devices", "2", "--trainer::strategy", strategy]
    done = subprocess.run(
        [*words, "predict", str(file), str(file.parent / "more.yaml"), *given],
        env={**os.environ, **place, "FAULT": fault, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    died = re.search(r"died at ([\d.]+)", done.stdout)
    return done.stdout, done.returncode, time.time() - float(died[1]) if died else math.inf


def validate(file: Path, result: Path, cases: int, size: int) -> dict[str, float]:
    """What validation logs; empty where it fails."""

    def act() -> None:
        override = {"trainer::devices": size, "trainer::strategy": "ddp_fork" if size > 1 else "auto"}
        workflow = Workflow(str(file), logging_file=False, cases=cases, **override)
        torch.save(workflow.validate(), result)

    return torch.load(result) if wait(start(result.with_suffix(".txt"), act)) == 0 else {}


FAULTS = {
    each.__name__: each
    for each in (kills, stops, stops_in_saving, predictions, saves, full_disks, broken, bad_cases, processes, dead)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a few of each, for continuous integration")
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=[*FAULTS])
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the runs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    root, chance, rows = Path(tempfile.mkdtemp(prefix="faults_")), random.Random(given.seed), []
    print("| fault | tried | held |\n| --- | --- | --- |", flush=True)
    for name in given.only:
        (root / name).mkdir()
        for row in FAULTS[name](root / name, given.short, chance):
            rows.append(row)
            print(f"| {row.fault} | {row.tried} | {row.held} |{'  <- ' + row.why if row.why else ''}", flush=True)
    if given.keep or any(row.held < row.tried for row in rows):
        print(f"runs: {root}")
    else:
        shutil.rmtree(root)
    sys.exit(any(row.held < row.tried for row in rows))


if __name__ == "__main__":
    main()
