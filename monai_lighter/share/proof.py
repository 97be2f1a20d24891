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
from monai_lighter.errors import BundleError
from monai_lighter.share.fetch import unpack
from monai_lighter.share.layout import Bundle, SharingError
from monai_lighter.share.loading import load_bundle
from monai_lighter.share.schema import check_metadata
from monai_lighter.share.synthetic import write_image

__all__ = ["prove", "prove_archive"]

STAGES = {"train": "fit", "evaluate": "test", "inference": "predict"}
"""Of the configs of a bundle."""
TYPES = {"train": "train", "evaluate": "eval", "inference": "infer"}
"""Of the workflows of these configs."""
MARGIN = 8
"""By how many points the synthetic case is larger than the network's input, so that there is more than one patch."""


def prove_archive(archive: Path) -> list[dict[str, Any]]:
    """Unpack a package into an empty directory and run `prove` there, in a new process.

    Returns:
        A row for each check: its name, ``passed`` or what went wrong, its seconds.

    Raises:
        SharingError: the process failed.
    """
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        root, answer = unpack(archive, Path(folder)), Path(folder) / "answer.json"
        source = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "monai_lighter.share.proof", str(root), str(answer)]
        environment = {**os.environ, "PYTHONPATH": path}
        run = subprocess.run(command, cwd=root.parent, env=environment, capture_output=True, text=True)
        if run.returncode or not answer.is_file():
            raise SharingError.of("package", f"could not be tried out: {run.stderr.strip()[-500:]}", "Mend it.")
        return json.loads(answer.read_text())


def prove(root: Path) -> list[dict[str, Any]]:
    """Check metadata against the schema, configs statically, the network against the metadata, and run one inference.

    Args:
        root: directory of the bundle, which becomes the working directory.

    Returns:
        A row for each check: its name, ``passed`` or what went wrong, its seconds.
    """
    bundle = Bundle(root)
    os.chdir(root)
    checks: dict[str, Callable[[], object]] = {"metadata schema": partial(_check_schema, bundle)}
    for name, kind in TYPES.items():
        if bundle.config(name) is not None:
            checks[f"static check of {name}"] = partial(load_bundle, bundle.root, workflow_type=kind)
    checks["verify_net_in_out"] = partial(_verify_network, bundle)
    checks["inference on a synthetic case"] = partial(_infer, bundle)
    return [_run_check(name, check) for name, check in checks.items()]


def _run_check(name: str, check: Callable[[], object]) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        check()
        result = "passed"
    except BundleError as error:
        result = f"failed: {error}"
    except Exception as error:
        result = f"failed: {type(error).__name__}: {error}"
    return {"check": name, "result": result, "seconds": round(time.perf_counter() - start, 1)}


def _check_schema(bundle: Bundle) -> None:
    findings = check_metadata(bundle.metadata())
    if findings:
        raise SharingError(*findings)


def _verify_network(bundle: Bundle) -> None:
    load_bundle(bundle.root, workflow_type="infer")  # refuses what it is not trusted with, as MONAI's check does not
    config = str(bundle.require("inference"))
    sys.path.insert(0, str(bundle.root))
    verify_net_in_out("network_def", meta_file=str(bundle.metadata_file), config_file=config, device="cpu")


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
    config = ConfigParser.load_config_file(str(bundle.require("inference")))
    parser = ConfigParser(config)
    loaders = [id for id, item in items(config) if isinstance(item, dict) and "LoadImage" in str(item.get("_target_"))]
    keys = [key for id in loaders for key in ensure_tuple(parser.get_parsed_content(f"{id}::keys"))]
    if not loaders:
        return {"image": random.uniform(0, 255, (channels, *shape)).astype(np.float32)}
    case = {}
    for key in keys:
        file = directory / f"synthetic_{key}.nii.gz"
        write_image(file, random.uniform(0, 255, (*shape, channels) if channels > 1 else shape))
        case[key] = str(file)
    return case


def _list_files(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(prove(Path(sys.argv[1]))))
