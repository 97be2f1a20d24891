"""Which case each file belongs to that a run writes: none takes another's place, and none that of an input."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

from monai_lighter.errors import CaseError, Finding
from monai_lighter.errors.cases import describe
from monai_lighter.safe_files import folder_beside, sweep, sync
from monai_lighter.system.manifest import FAILED, WRITING, WRITTEN, Manifest, ManifestRow
from monai_lighter.system.provenance import digest_item, hash_case_file, join_digests
from monai_lighter.trust.digest import hash_file

__all__ = ["Ledger", "Output", "identify"]

LOCK = RLock()
"""Cases may end in any thread."""


class Output(NamedTuple):
    """A file that a case is written to.

    Attributes:
        path: the file; its suffix may be missing where a user's function adds it.
        root: folder that the names of outputs are relative to; nothing is written outside of it.
        case: source file or identifier of the case; None where it has no name.
        label: the case in words.
        writer: config id of what writes.
        settings: the settings that keep two outputs apart, in words.
        overwrite: whether a file of an earlier run gives way, of whichever case it is; None where that cannot be set.
    """

    path: Path
    root: Path
    case: str | None
    label: str
    writer: str
    settings: str
    overwrite: bool | None = None


class Ledger:
    """Keeps the files of a run apart, and what came of each case in the `Manifest` of the folder that they are written to.

    Within a run a file is written once. A file of an earlier run is replaced by the same case alone (the manifest says which case
    that was: where its file lies, seen from there, and the sha256 of it, by which it is known when data have been moved), so that
    a prediction can be repeated and none of another case is lost. What else lies there is never replaced, inputs least of all, by
    whichever of their names.

    A case ends (`finish`) when its last file is there. Where a part of its work is done later, in whatever thread, `hold` it
    before it could end and `release` it after. Methods may be called by any thread.

    Attributes:
        recipe: digest of all that cases are predicted with; empty where nobody may go by the outputs later.
    """

    def __init__(self) -> None:
        self._inputs: dict[tuple[int, int], str] = {}
        self._items: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        self.recipe = ""
        self.reset()

    def reset(self, shared: Path | None = None) -> None:
        """Forgets what was written.

        Args:
            shared: folder where the processes of the run tell each other which files they have written.
        """
        self._shared = shared
        self._claims: dict[str, Output] = {}
        self._written: dict[tuple[int, int], Output] = {}
        self._manifests: dict[Path, Manifest] = {}
        self._cases: dict[str, _Case] = {}
        self._has_nameless = False
        self._swept: set[Path] = set()

    def expect(self, case: str, item: Any, files: Iterable[str]) -> None:
        """Takes note of a case of the data, in its order.

        Args:
            case: the file that its prediction is named by, or its identifier.
            item: of the data, before its transforms.
            files: that it is read from, and its identifier; outputs that are named by one of them are the case's.
        """
        self._items.setdefault(case, item)
        for file in files:
            self._names[file] = case if self._names.get(file, case) == case else file  # which two cases have

    def protect(self, files: Iterable[str | Path]) -> None:
        """Takes note of files that cases are read from; what is no file is left out."""
        for file in files:
            try:
                status = os.stat(file)
            except (OSError, ValueError):
                continue
            self._inputs[status.st_dev, status.st_ino] = str(file)

    def check(self, outputs: Iterable[Output]) -> tuple[list[Finding], list[Finding]]:
        """What stands against a run that writes these files: clashes between them, and files that may not be replaced."""
        owners: dict[str, Output] = {}
        clashes, refusals = [], []
        for output in outputs:
            owner = owners.setdefault(_normalize(output.path), output)
            if owner is not output:
                clashes.append(_describe_clash(owner, output))
            elif refusal := self._refuse(output):
                refusals.append(refusal)
        return clashes, refusals

    @contextmanager
    def write(self, output: Output) -> Iterator[Path]:
        """Gives a path in a new folder beside an output; the files that are written there go to their place at the end.

        Raises:
            CaseError: the place is taken, by another output of the run, an input, or a file of another case.
        """
        folder = output.path.parent
        if folder not in self._swept:
            self._swept.add(folder)
            sweep(folder)
        with folder_beside(output.path) as temporary:
            yield temporary / output.path.name
            for file in sorted(temporary.rglob("*")):
                if file.is_file():
                    self._place(file, output._replace(path=folder / file.relative_to(temporary)))

    def hold(self, case: str) -> None:
        """Keeps a case from ending until it is released as often."""
        with LOCK:
            self._find_case(case).holds += 1

    def release(self, case: str) -> None:
        """Ends a case that has been finished in the meantime, if nothing else holds it."""
        with LOCK:
            found = self._find_case(case)
            found.holds -= 1
        self._end(found)

    def finish(self, case: str, began: float) -> None:
        """Says that a case's outputs have been written, but for those that it is held for.

        Args:
            case: its file or identifier.
            began: when work on it began, by ``time.monotonic``.
        """
        with LOCK:
            found = self._find_case(case)
            found.began = began
        self._end(found)

    def fail(self, case: str, cause: str) -> None:
        """Says what kept a case from being predicted."""
        with LOCK:
            found = self._find_case(case)
            outputs, found.outputs = found.outputs, []
            for root, manifest in self._manifests.items():
                manifest.append(self._make_row(found, outputs, root, f"{FAILED}: {cause}"))

    def find_described(self, text: str) -> str:
        """The case of the data that is so described (`describe`); the text itself where it is none."""
        return next((case for case, item in self._items.items() if describe(item) == text), text)

    def close(self) -> None:
        """Ends all cases of a run that is through."""
        for case in self._cases.values():
            case.began, case.holds = case.began or math.inf, 0
            self._end(case)

    def open(self, root: Path) -> Manifest:
        """The manifest of a folder."""
        root = Path(_resolve_folder(root))
        return self._manifests[root] if root in self._manifests else self._manifests.setdefault(root, Manifest(root))

    def list_roots(self) -> list[Path]:
        """Folders of the run."""
        return [*self._manifests]

    def rewrite(self, roots: Iterable[Path]) -> None:
        """Leaves the manifests of folders with one row for each case and run, in the order of the data."""
        for root in roots:
            self.open(root).rewrite({identify(case, root): place for place, case in enumerate(self._items)})

    def digest_made_of(self, case: str) -> str:
        """What the outputs of a case are made of, as a number; empty where nobody may go by them later."""
        known = self.recipe and case in self._items and not self._has_nameless
        return join_digests(self.recipe, digest_item(self._items[case])) if known else ""

    def _find_case(self, case: str) -> _Case:
        name = case if case in self._items else self._names.get(case, case)
        return self._cases.setdefault(name, _Case(name, []))

    def _end(self, case: _Case) -> None:
        with LOCK:
            if case.holds > 0 or not case.began:
                return
            outputs, case.outputs = case.outputs, []
        rows = {root: self._make_row(case, outputs, root, WRITTEN) for root in {root for root, *_ in outputs}}
        with LOCK:
            for root, row in rows.items():
                self.open(root).append(row)

    def _make_row(self, case: _Case, outputs: list[tuple[Path, str, str]], root: Path, state: str) -> ManifestRow:
        own = [(name, digest) for at, name, digest in outputs if at == root]
        ended = state == WRITTEN
        return ManifestRow(
            identify(case.name, root),
            tuple(name for name, _ in own),
            tuple(digest for _, digest in own),
            f"{time.monotonic() - case.began:.3f}" if ended and case.began < math.inf else "",
            state,
            _digest(case.name),
            self.digest_made_of(case.name) if ended else "",
        )

    def list_written(self) -> list[Path]:
        """Files that this process has written since the last `reset`, in order."""
        return [output.path for output in self._written.values()]

    def __deepcopy__(self, memo: Any) -> Ledger:
        return self  # of the whole run, also where transforms are copied for threads

    def _place(self, file: Path, output: Output) -> None:
        with LOCK:
            owner = self._claim(output)
            refusal = _describe_clash(owner, output) if owner is not None else self._refuse(output)
        if refusal is not None:
            raise CaseError(str(refusal))
        output.path.parent.mkdir(parents=True, exist_ok=True)
        sync(file)
        digest = hash_file(file)
        with LOCK:
            self._record(output, digest)  # first: what lies at a place must not be unknown to the next run
            file.replace(output.path)
            status = output.path.stat()
            self._written[status.st_dev, status.st_ino] = output

    def _claim(self, output: Output) -> Output | None:
        """Takes a place; gives the output that has it already, of whichever process."""
        key = _normalize(output.path)
        owner = self._claims.setdefault(key, output)
        if owner is not output or self._shared is None:
            return None if owner is output else owner
        claim = self._shared / sha256(key.encode()).hexdigest()
        try:
            with open(claim, "x") as file:
                json.dump([output.label, output.writer], file)
        except FileExistsError:
            label, writer = json.loads(claim.read_text() or '["a case", ""]')
            return output._replace(label=label, writer=writer)
        return None

    def _refuse(self, output: Output) -> Finding | None:
        """Why a place may not be written to, with regard to what lies there."""
        if _name_below(output.path, output.root).split("/")[0] == os.pardir:
            problem = f"{output.label} would be written outside of {output.root}, to {output.path}"
            return Finding(output.writer, problem, "data_root_dir must be a folder above the files of all cases.")
        try:
            status = os.stat(output.path)
        except OSError:
            return None
        place = status.st_dev, status.st_ino
        if place in self._inputs:
            problem = f"{output.label} would be written over an input, {self._inputs[place]}"
            return Finding(output.writer, problem, f"Set {output.settings}.")
        if place in self._written:
            return _describe_clash(self._written[place], output)
        if output.overwrite:
            return None
        return self._refuse_earlier(output)

    def _refuse_earlier(self, output: Output) -> Finding | None:
        root = output.root
        known = self.open(root).find_owner(_name_below(output.path, root))
        case = None if output.case is None else self._find_case(output.case).name
        if known is None:
            problem = f"{output.path} exists, and no earlier run says that it is of {output.label}"
        elif not known.case or case is None:
            problem = f"{output.path} exists from an earlier run, and cases without names cannot be told apart"
        elif known.case not in (identify(case, root), identify(str(output.case), root)) and not _has_moved(
            known, root, case
        ):
            problem = f"{output.path} is the output of another case, {known.case}; {output.label} would replace it"
        else:
            return None
        way = "." if output.overwrite is None else ", or overwrite: true to replace it."
        hint = f"Delete it if it may be replaced, move it away, or set {output.settings}{way}"
        return Finding(output.writer, problem, hint)

    def _record(self, output: Output, digest: str) -> None:
        manifest, name = self.open(output.root), _name_below(output.path, output.root)
        if output.case is None:
            self._has_nameless = True
            manifest.append(ManifestRow("", (name,), (digest,), "", WRITTEN))
            return
        case = self._find_case(output.case)
        case.outputs.append((manifest.folder, name, digest))
        known = identify(case.name, manifest.folder), _digest(case.name)
        manifest.append(ManifestRow(known[0], (name,), (digest,), "", WRITING, known[1]))


@dataclass
class _Case:
    """A case of the run.

    Attributes:
        name: its file, or its identifier.
        outputs: folder, name in it and sha256 of those that are there, as long as it has not ended.
        holds: what it is yet to wait for.
        began: when work on it began; 0 until it is said to have ended, infinite where only the end of the run says so.
    """

    name: str
    outputs: list[tuple[Path, str, str]]
    holds: int = 0
    began: float = 0.0


def _has_moved(known: ManifestRow, root: Path, case: str) -> bool:
    """Whether a case's file is the one that a row is of, which is no longer where it was."""
    return bool(known.case_sha256) and not (root / known.case).exists() and known.case_sha256 == _digest(case)


def _digest(case: str) -> str:
    """sha256 of the file of a case, its voxels included; empty where it has none that can be read."""
    try:
        return hash_case_file(Path(case)) if os.path.isfile(case) else ""
    except (OSError, TypeError):
        return ""


def _describe_clash(owner: Output, output: Output) -> Finding:
    what = f"{owner.label} and {output.label}" if owner.label != output.label else f"{output.label}, twice,"
    by = f" (also by {owner.writer})" if owner.writer != output.writer else ""
    hint = f"Set {output.settings}."
    if owner.label != output.label and owner.case is not None and owner.case == output.case:
        hint = f"If it is one case, leave it out of the data once, else set {output.settings}."
    elif owner.case != output.case and _differ_in_suffix(owner.case, output.case):
        hint = (
            "No setting parts files that differ in their suffix alone: rename one of them, or leave it out of the data."
        )
    return Finding(output.writer, f"{what} would be written to one file, {output.path}{by}", hint)


def _differ_in_suffix(*cases: str | None) -> bool:
    """Whether files lie in one folder and have one name but for what follows its first dot."""
    return (
        None not in cases
        and len({os.path.join(os.path.dirname(str(c)), Path(str(c)).name.split(".")[0]) for c in cases}) == 1
    )


def _normalize(path: Path) -> str:
    return os.path.join(_resolve_folder(os.path.dirname(path)), path.name)


@lru_cache(maxsize=4096)
def _resolve_folder(folder: str | Path) -> str:
    return os.path.realpath(folder)


def _name_below(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def identify(case: str, root: Path) -> str:
    """A case as it is written down: a file relative to the folder of outputs, which both may be moved with; else its name."""
    if not os.path.exists(case):
        return case
    return Path(os.path.relpath(os.path.realpath(case), os.path.realpath(root))).as_posix()
