"""The proof of a package: what a stranger would do with it, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser, verify_net_in_out
from monai.utils import ensure_tuple

from monai_lighter.config.items import items
from monai_lighter.errors import BundleError, Finding
from monai_lighter.share.layout import Bundle, SharingError
from monai_lighter.share.load import load_bundle
from monai_lighter.share.schema import metadata_findings
from monai_lighter.share.synthetic import write_image
from monai_lighter.trust.archive import extract_zip

__all__ = ["prove", "prove_archive"]

STAGES = {"train": "fit", "evaluate": "test", "inference": "predict"}
MARGIN = 8
"""By how many points the synthetic case is larger than the network's input, so that there is more than one patch."""


def prove_archive(archive: Path) -> list[dict[str, Any]]:
    """Unpacks a package into an empty directory and runs `prove` there, in a new process.

    Returns:
        A row for each check: its name, ``passed`` or what went wrong, its seconds.
    """
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        unpacked = Path(folder) / "unpacked"
        extract_zip(archive, unpacked)
        (root,) = unpacked.iterdir()
        source = str(Path(__file__).parent.parent.parent)
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        code = "import sys; from monai_lighter.share.proof import main; main(*sys.argv[1:])"
        answer = Path(folder) / "answer.json"
        run = subprocess.run(
            [sys.executable, "-c", code, str(root), str(answer)],
            cwd=unpacked,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        if run.returncode or not answer.is_file():
            raise SharingError(Finding("package", f"could not be tried out: {run.stderr.strip()[-500:]}", "Mend it."))
        return json.loads(answer.read_text())


def main(root: str, answer: str) -> None:
    """`prove` in this process, its rows to a JSON file."""
    Path(answer).write_text(json.dumps(prove(Path(root))))


def prove(root: Path) -> list[dict[str, Any]]:
    """Metadata against the schema, configs against the static check, the network against the metadata, one inference."""
    bundle = Bundle(root)
    os.chdir(root)
    checks: list[tuple[str, Callable[[], None]]] = [("metadata schema", lambda: _schema(bundle))]
    for name in STAGES:
        if bundle.config(name) is not None:
            checks.append((f"static check of {name}", lambda name=name: _static(bundle, name)))  # type: ignore[misc]
    checks += [
        ("verify_net_in_out", lambda: _network(bundle)),
        ("inference on a synthetic case", lambda: _infer(bundle)),
    ]
    return [_row(name, check) for name, check in checks]


def _row(name: str, check: Callable[[], None]) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        check()
        result = "passed"
    except BundleError as error:
        result = f"failed: {error}"
    except Exception as error:
        result = f"failed: {type(error).__name__}: {error}"
    return {"check": name, "result": result, "seconds": round(time.perf_counter() - start, 1)}


def _schema(bundle: Bundle) -> None:
    findings = metadata_findings(bundle.metadata())
    if findings:
        raise SharingError(*findings)


def _static(bundle: Bundle, name: str) -> None:
    kind = {"train": "train", "evaluate": "eval", "inference": "infer"}[name]
    load_bundle(bundle.root, workflow_type=kind)


def _network(bundle: Bundle) -> None:
    load_bundle(
        bundle.root, workflow_type="infer"
    )  # which refuses what it is not trusted with, as MONAI's check does not
    config = str(bundle.require("inference"))
    sys.path.insert(0, str(bundle.root))
    verify_net_in_out("network_def", meta_file=str(bundle.metadata_file), config_file=config, device="cpu")


def _infer(bundle: Bundle) -> None:
    before = _files(bundle.root)
    workflow = load_bundle(bundle.root, workflow_type="infer")
    workflow.dataset_data = [synthetic_case(bundle, bundle.root / "data")]
    workflow.initialize()
    workflow.run()
    if not _files(bundle.root / "eval") - before and not _files(bundle.root) - before - _files(bundle.root / "data"):
        raise SharingError(Finding("inference", "wrote no file", "Save the predictions: SaveImaged, TableWriter, …."))


def synthetic_case(bundle: Bundle, directory: Path) -> dict[str, Any]:
    """A case of noise as the inference config wants it: a NIfTI file for each key that it loads, else an array.

    Args:
        bundle: with metadata.
        directory: for the files.
    """
    image = bundle.metadata()["network_data_format"]["inputs"]["image"]
    channels = int(image["num_channels"])
    shape = [(size if isinstance(size, int) else 64) + MARGIN for size in image["spatial_shape"]]
    random = np.random.default_rng(0)
    config = ConfigParser.load_config_file(str(bundle.require("inference")))
    targets = [(id, item.get("_target_")) for id, item in items(config) if isinstance(item, dict)]
    parser = ConfigParser(config)
    loaded = [parser.get_parsed_content(f"{id}::keys") for id, target in targets if "LoadImage" in str(target)]
    if not loaded:
        return {"image": random.uniform(0, 255, (channels, *shape)).astype(np.float32)}
    keys = [key for keys in loaded for key in ensure_tuple(keys)]
    case = {}
    for key in keys:
        file = directory / f"synthetic_{key}.nii.gz"
        write_image(file, random.uniform(0, 255, (*shape, channels) if channels > 1 else shape))
        case[key] = str(file)
    return case


def _files(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
