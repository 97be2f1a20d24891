"""From a trained experiment to a file that others can run."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from monai.bundle import ConfigParser

from monai_lighter.config.stages import is_native
from monai_lighter.errors import Finding
from monai_lighter.safe_files import copy_safely
from monai_lighter.share.derive import write_inference
from monai_lighter.share.layout import Bundle, SharingError
from monai_lighter.share.measure import Measured, find_network, measure_case, measure_noise
from monai_lighter.share.members import Members, find_members
from monai_lighter.share.metadata import APART, complete_metadata, find_packages
from monai_lighter.share.plain_weights import find_checkpoint_to_share, read_best
from monai_lighter.share.portable import find_leaks, make_config_portable, make_metadata_portable
from monai_lighter.share.proof import STAGES, list_checks, prove_archive
from monai_lighter.share.runs import compare_with_run
from monai_lighter.share.schema import require_jsonschema
from monai_lighter.share.staging import find_project, stage

__all__ = ["Package", "package_bundle", "write_zip"]

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of all files in an archive, the first that a zip can hold."""
BEGIN, END = "<!-- begin: written by monai_lighter package -->", "<!-- end -->"


class Package(NamedTuple):
    """What `package_bundle` made.

    Attributes:
        file: the zip.
        digest: its sha256.
        files: names of the files in it.
        changes: what it changed or could not know.
        checks: rows of `prove_archive`; empty where it was not asked for.
    """

    file: Path
    digest: str
    files: list[str]
    changes: list[Finding]
    checks: list[dict[str, Any]]


def package_bundle(
    directory: str | Path,
    output: str | Path | None = None,
    version: str | None = None,
    weights: str | Path | None = None,
    prove: bool = True,
) -> Package:
    """Write a bundle as a zip, with nothing in it that is not the bundle's own, and tries it out.

    The bundle itself is not changed. The same bundle, in the same environment, gives the same bytes.

    Args:
        directory: the bundle; or a study, of which the networks of its best parameter set, as an `Ensemble`, take the place of
            the network of the bundle that was trained.
        output: the zip; default: ``NAME_vVERSION.zip`` in the working directory, as MONAI's hosting names it; of a study
            ``NAME_STUDY_vVERSION.zip``.
        version: of the package; default: that in the metadata.
        weights: checkpoint to take for ``models/model.pt``.
        prove: unpack it elsewhere and run it on a synthetic case; with False it is just written.

    Raises:
        SharingError: what is missing, what names this machine, or what fails in the proof; no file is written then.
    """
    if prove:
        require_jsonschema()
    members = find_members(directory)
    if members and weights:
        problem = f"is for a bundle of one network, got {str(weights)!r} for a study"
        raise SharingError.of("weights", problem, "Leave it out.")
    bundle = members.bundle if members else Bundle(directory)
    config = bundle.require("inference", "train")
    find_network(bundle.read(config), config.name)
    if output and Path(str(output)).is_dir():
        raise SharingError.of("output", f"must be a file, {str(output)!r} is a directory", "Name a zip file in it.")
    with tempfile.TemporaryDirectory(prefix="package-") as folder:
        staged = Path(folder) / bundle.name
        files = dict(zip(members.names, members.weights, strict=True)) if members else {}
        changes = [*([] if members else _compare_with_run(bundle, weights)), *stage(bundle, staged, weights, files)]
        metadata, more = _complete(bundle, staged, version, weights, members, prove)
        found = find_leaks(staged, bundle.root)
        if found:
            raise SharingError(*found)
        archive = Path(folder) / "package.zip"
        write_zip(staged, archive)
        checks = prove_archive(archive, bundle.root) if prove else []
        failed = [Finding(row["check"], row["result"].rstrip(".")) for row in checks if row["result"] != "passed"]
        if failed:
            raise SharingError(*failed)
        name = f"{bundle.name}_{members.study.folder.resolve().name}" if members else bundle.name
        target = Path(str(output or f"{name}_v{metadata['version']}.zip")).resolve()
        _put(archive, target)
        names = sorted(path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.is_file())
    return Package(target, hashlib.sha256(target.read_bytes()).hexdigest(), names, [*changes, *more], checks)


def _compare_with_run(bundle: Bundle, weights: str | Path | None) -> list[Finding]:
    """Notes on what the run of the weights had otherwise.

    Raises:
        SharingError: what the package would predict with is not what was trained.
    """
    checkpoint = Path(weights) if weights else find_checkpoint_to_share(bundle.root)
    wrong, notes = compare_with_run(bundle, checkpoint) if checkpoint is not None and checkpoint.is_file() else ([], [])
    if wrong:
        raise SharingError(*wrong)
    return notes


def _put(file: Path, target: Path) -> None:
    """Copies a file to its place, where it is as a whole or not at all."""
    try:
        copy_safely(file, target)
    except OSError as error:
        raise SharingError.of("output", f"{target} cannot be written: {error}", "Name another file.") from error


def _complete(
    bundle: Bundle, staged: Path, version: str | None, weights: str | Path | None, members: Members | None, prove: bool
) -> tuple[dict[str, Any], list[Finding]]:
    """Adds to the staged files what is derived: inference config, metadata, README; of a study its networks as one.

    That the checks are passed stands in the metadata before they are done, as these are checked too; where one fails, there is no
    package.
    """
    package = Bundle(staged)
    measured = _measure(bundle, package, members)
    changes = []
    if package.config("inference") is None:
        (staged / "configs" / "inference.yaml").write_text(_derive_inference(package, measured), "utf-8")
        changes.append(Finding("configs/inference.yaml", "was derived from the training config", "Look at it."))
    if members:
        changes += members.put_into(package)
    configs = {name: file for name in STAGES if (file := package.config(name)) is not None}
    contents = [package.read(file) for file in configs.values()]
    native = any(map(is_native, contents))
    packages = _find_packages(bundle, staged, contents, native)
    key_metric, unknown = (members.read_results(), []) if members else _read_key_metric(bundle, weights)
    own_metadata, left_out = make_metadata_portable(bundle.metadata())
    proof = f"passed: {', '.join(list_checks(package))}" if prove else ""
    metadata, missing = complete_metadata(own_metadata, bundle.name, measured, packages, key_metric, version, proof)
    changes += [*left_out, *unknown]
    changes += [Finding(f"metadata::{field}", "was missing", "Say it in configs/metadata.json.") for field in missing]
    package.metadata_file.write_text(json.dumps(metadata, indent=4, ensure_ascii=False) + "\n", "utf-8")
    commands = {STAGES[name]: file.name for name, file in configs.items()} if native else {}
    _write_readme(staged, metadata, commands, members.describe() if members else "")
    return metadata, changes


def _find_packages(bundle: Bundle, staged: Path, configs: list[dict], native: bool) -> dict[str, str]:
    code, project = sorted(staged.rglob("*.py")), find_project(bundle)
    own = {"project", *(path.name for path in staged.iterdir()), *(file.stem for file in code)}
    return find_packages(configs, code, own | ({project.name} if project else set()), native)


def _read_key_metric(bundle: Bundle, weights: str | Path | None) -> tuple[dict[str, float], list[Finding]]:
    """Of a run, and why it is not known."""
    checkpoint = Path(weights) if weights else find_checkpoint_to_share(bundle.root)
    try:
        return read_best(checkpoint) if checkpoint else {}, []
    except SharingError as error:
        hint = "Say it in configs/metadata.json."
        return {}, [Finding("metadata::eval_metrics", f"lack the key metric: {error.findings[0].problem}", hint)]


def _measure(bundle: Bundle, package: Bundle, members: Members | None) -> Measured:
    train = bundle.config("train")
    measured = None
    if members:
        measured = measure_case(members.configs, members.settings)
    elif train is not None and is_native(ConfigParser.load_config_file(str(train))):
        measured = measure_case([train])
    return measured or measure_noise(package, package.require("inference", "train"), bundle.metadata())


def _derive_inference(package: Bundle, measured: Measured) -> str:
    train = package.require("train")
    config = package.read(train)
    if not is_native(config):
        problem = f"cannot be derived from {train.name}, which has no system"
        raise SharingError.of("inference", problem, "Write configs/inference.yaml by hand.")
    text = write_inference(config, train.name, spatial=measured.output.ndim > 2)
    return make_config_portable(text, package.root)[0]


def _write_readme(root: Path, metadata: Mapping[str, Any], configs: Mapping[str, str], about: str) -> None:
    """Writes results and commands into ``docs/README.md``, in a section that a later packaging replaces.

    Args:
        root: of the package; its README is made where it has none.
        metadata: complete.
        configs: stage to file name in ``configs``.
        about: a sentence on its networks; empty where there is one.
    """
    file = root / "docs" / "README.md"
    file.parent.mkdir(exist_ok=True)
    text = file.read_text("utf-8") if file.is_file() else ""
    text = text or f"# {metadata['name']}\n{metadata['description']}\n"
    lines = [BEGIN, f"## Version {metadata['version']}", *([about, ""] if about else [])]
    if metadata["eval_metrics"]:
        lines += ["| metric | value |", "| --- | --- |"]
        lines += [*(f"| {name} | {value} |" for name, value in metadata["eval_metrics"].items()), ""]
    packages = {package: metadata[field] for field, package in APART.items()} | metadata["required_packages_version"]
    lines.append("Made with " + ", ".join(f"{name} {number}" for name, number in packages.items()) + ".")
    lines += ["", "From the folder of the bundle:", ""]
    command = "    python -m monai.bundle run {} --workflow monai_lighter.Workflow --config_file configs/{}"
    section = "\n".join([*lines, *(command.format(*config) for config in configs.items()), END])
    if BEGIN in text and END in text:
        old = f"{re.escape(BEGIN)}.*?{re.escape(END)}"
        text = re.sub(old, lambda match: section, text, count=1, flags=re.DOTALL)
    else:
        text = f"{text.rstrip()}\n\n{section}\n"
    file.write_text(text, "utf-8")


def write_zip(directory: Path, file: Path) -> None:
    """Packs a directory under its own name. The same content gives the same bytes: names sorted, no times, one mode."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path in sorted(directory.rglob("*"), key=lambda path: path.relative_to(directory).as_posix()):
            if path.is_dir():
                continue
            name = PurePosixPath(directory.name, path.relative_to(directory).as_posix())
            member = zipfile.ZipInfo(str(name), EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            member.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(member, "w") as target:
                shutil.copyfileobj(source, target, 2**20)
