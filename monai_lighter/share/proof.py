"""The proof of a package: what a stranger would do with it, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser, verify_net_in_out
from monai.utils import ensure_tuple

from monai_lighter.config.items import items
from monai_lighter.errors import BundleError, in_short
from monai_lighter.share.layout import Bundle, SharingError
from monai_lighter.share.loading import find_bundle, load_bundle
from monai_lighter.share.measure import find_network
from monai_lighter.share.schema import check_metadata
from monai_lighter.share.synthetic import write_nifti

__all__ = ["list_checks", "prove", "prove_archive"]

STAGES = {"train": "fit", "evaluate": "test", "inference": "predict"}
"""Of the configs of a bundle."""
TYPES = {"train": "train", "evaluate": "eval", "inference": "infer"}
"""Of the workflows of these configs."""
MARGIN = 8
"""By how many points the synthetic case is larger than the network's input, so that there is more than one patch."""


def prove_archive(archive: Path, source: Path) -> list[dict[str, Any]]:
    """Load a package into an empty directory, as its receiver does, and run `prove` there, in a new process.

    Args:
        archive: the zip.
        source: directory of the bundle that was packaged, which the process may not read.

    Returns:
        A row for each check: its name, ``passed`` or what went wrong, its seconds.

    Raises:
        SharingError: the process failed.
    """
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        root, answer = find_bundle(archive, bundle_dir=folder, progress=False), Path(folder) / "answer.json"
        kept = [
            each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each and not _is_in(each, source)
        ]
        command = [sys.executable, "-m", "monai_lighter.share.proof", str(root), str(answer), str(source)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *kept])}
        run = subprocess.run(command, cwd=root.parent, env=environment, capture_output=True, text=True)
        if run.returncode or not answer.is_file():
            raise SharingError.of("package", f"could not be tried out: {run.stderr.strip()[-500:]}", "Mend it.")
        return json.loads(answer.read_text())


def _is_in(path: str, folder: Path) -> bool:
    return Path(path).resolve().is_relative_to(folder)


def _refuse_reading(source: Path) -> None:
    """From here on this process, and those that are forked from it, cannot open or list what lies in a folder: a package that
    reads the bundle it was made from runs on one machine alone. Installed packages and this one may lie there."""
    installed = [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[1], Path(tempfile.gettempdir())]
    installed = [place.resolve() for place in installed]
    beside = [place for place in installed if place.is_relative_to(source)]
    above = f"{source}{os.sep}"

    def refuse(event: str, arguments: tuple) -> None:
        if event not in ("open", "os.listdir", "os.scandir", "glob.glob"):
            return
        path = os.fspath(arguments[0]) if isinstance(arguments[0], (str, bytes, os.PathLike)) else ""
        path = os.path.abspath(os.fsdecode(path)) if path else ""
        if f"{path}{os.sep}".startswith(above) and not any(Path(path).is_relative_to(place) for place in beside):
            raise PermissionError(f"{path} is in the bundle that was packaged, which nobody else has")

    sys.addaudithook(refuse)


def prove(root: Path) -> list[dict[str, Any]]:
    """Check metadata against the schema, configs statically, the network against the metadata, and run one inference.

    Args:
        root: directory of the bundle, which becomes the working directory.

    Returns:
        A row for each check: its name, ``passed`` or what went wrong, its seconds.
    """
    os.chdir(root)
    return [_run_check(name, check) for name, check in list_checks(Bundle(root)).items()]


def list_checks(bundle: Bundle) -> dict[str, Callable[[], object]]:
    """Name of each check to what raises where it fails."""
    checks: dict[str, Callable[[], object]] = {"metadata schema": partial(_check_schema, bundle)}
    for name, kind in TYPES.items():
        if bundle.config(name) is not None:
            checks[f"static check of {name}"] = partial(load_bundle, bundle.root, workflow_type=kind)
    checks["verify_net_in_out"] = partial(_verify_network, bundle)
    checks["inference on a synthetic case"] = partial(_infer, bundle)
    return checks


def _run_check(name: str, check: Callable[[], object]) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        check()
        result = "passed"
    except BundleError as error:
        result = f"failed: {error}"
    except Exception as error:
        result = f"failed: {in_short(error)}"
    return {"check": name, "result": result, "seconds": round(time.perf_counter() - start, 1)}


def _check_schema(bundle: Bundle) -> None:
    findings = check_metadata(bundle.metadata())
    if findings:
        raise SharingError(*findings)


def _verify_network(bundle: Bundle) -> None:
    load_bundle(bundle.root, workflow_type="infer")  # refuses what it is not trusted with, as MONAI's check does not
    config = str(bundle.require("inference"))
    id = find_network(bundle.read(Path(config)), Path(config).name)
    sys.path.insert(0, str(bundle.root))
    verify_net_in_out(id, meta_file=str(bundle.metadata_file), config_file=config, device="cpu")


def _infer(bundle: Bundle) -> None:
    before = _list_files(bundle.root)
    workflow = load_bundle(bundle.root, workflow_type="infer")
    workflow.dataset_data = [_write_case(bundle, bundle.root / "data")]
    workflow.initialize()
    workflow.run()
    if not _list_files(bundle.root) - before - _list_files(bundle.root / "data"):
        raise SharingError.of("inference", "wrote no file", "Save the predictions: SaveImaged, TableWriter, ….")


def _write_case(bundle: Bundle, directory: Path) -> dict[str, Any]:
    """Writes a case of noise as the inference config wants it: a NIfTI file for each key that it loads, else an array.

    Args:
        bundle: with metadata.
        directory: for the files.
    """
    image = bundle.metadata()["network_data_format"]["inputs"]["image"]
    channels = int(image["num_channels"])
    shape = [(size if isinstance(size, int) else 64) + MARGIN for size in image["spatial_shape"]]
    random = np.random.default_rng(0)
    config = bundle.read(bundle.require("inference"))
    parser = ConfigParser(config)
    loaders = [id for id, item in items(config) if isinstance(item, dict) and "LoadImage" in str(item.get("_target_"))]
    keys = [key for id in loaders for key in ensure_tuple(parser.get_parsed_content(f"{id}::keys"))]
    if not loaders:
        return {"image": random.uniform(0, 255, (channels, *shape)).astype(np.float32)}
    case: dict[str, Any] = {}
    for key in keys:
        files = [
            f"synthetic_{key}_{i}.nii.gz" for i in range(channels if len(shape) < 3 else 1)
        ]  # no channels in 2D NIfTI
        for file in files:
            size = (*shape, channels) if channels > len(files) else shape
            write_nifti(directory / file, random.uniform(0, 255, size))
        paths = [str(directory / file) for file in files]
        case[key] = paths if len(paths) > 1 else paths[0]
    return case


def _list_files(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


if __name__ == "__main__":
    _refuse_reading(Path(sys.argv[3]))
    Path(sys.argv[2]).write_text(json.dumps(prove(Path(sys.argv[1]))))
