"""Which case each file belongs to that a run writes: none takes another's place, and none that of an input."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, NamedTuple

from monai_lighter.errors import CaseError, Finding
from monai_lighter.safe_files import sync

__all__ = ["Ledger", "Output"]

RECORD = ".cases.jsonl"
"""File in a folder of outputs: a line for each file, with the case it was made of."""


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
    """Keeps the files of a run apart.

    Within a run a file is written once. A file of an earlier run is replaced by the same case alone (``.cases.jsonl`` in the
    folder says which case that was: where its file lies, seen from there, and the sha256 of it, by which it is known when data
    have been moved), so that a prediction can be repeated and none of another case is lost. What else lies there is never
    replaced, inputs least of all, by whichever of their names.
    """

    def __init__(self) -> None:
        self._inputs: dict[tuple[int, int], str] = {}
        self._lock = Lock()
        self.reset()

    def reset(self, shared: Path | None = None) -> None:
        """Forgets what was written.

        Args:
            shared: folder where the processes of the run tell each other which files they have written.
        """
        self._shared = shared
        self._claims: dict[str, Output] = {}
        self._written: dict[tuple[int, int], Output] = {}
        self._records: dict[Path, dict[str, _Known]] = {}

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
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".part-", dir=folder) as temporary:
            yield Path(temporary) / output.path.name
            for file in sorted(Path(temporary).rglob("*")):
                if file.is_file():
                    self._place(file, output._replace(path=folder / file.relative_to(temporary)))

    def list_written(self) -> list[Path]:
        """Files that this process has written since the last `reset`, in order."""
        return [output.path for output in self._written.values()]

    def __deepcopy__(self, memo: Any) -> Ledger:
        return self  # of the whole run, also where transforms are copied for threads

    def _place(self, file: Path, output: Output) -> None:
        sync(file)
        with self._lock:
            self._take_place(file, output)

    def _take_place(self, file: Path, output: Output) -> None:
        owner = self._claim(output)
        refusal = _describe_clash(owner, output) if owner is not None else self._refuse(output)
        if refusal is not None:
            raise CaseError(str(refusal))
        output.path.parent.mkdir(parents=True, exist_ok=True)
        file.replace(output.path)
        status = output.path.stat()
        self._written[status.st_dev, status.st_ino] = output
        self._record(output)

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
        known = self._read_record(output.root).get(_name_below(output.path, output.root))
        if known is None:
            problem = f"{output.path} exists, and no earlier run says that it is of {output.label}"
        elif known.case is None or output.case is None:
            problem = f"{output.path} exists from an earlier run, and cases without names cannot be told apart"
        elif known.case != _identify(output.case, output.root) and not known.has_moved_to(output.case, output.root):
            problem = f"{output.path} is the output of another case, {known.case}; {output.label} would replace it"
        else:
            return None
        way = "." if output.overwrite is None else ", or overwrite: true to replace it."
        hint = f"Delete it if it may be replaced, move it away, or set {output.settings}{way}"
        return Finding(output.writer, problem, hint)

    def _read_record(self, root: Path) -> dict[str, _Known]:
        if root not in self._records:
            self._records[root] = {}
            if (root / RECORD).is_file():
                with open(root / RECORD, encoding="utf-8") as file:
                    self._records[root] = dict(_parse_lines(file))
        return self._records[root]

    def _record(self, output: Output) -> None:
        record, name = self._read_record(output.root), _name_below(output.path, output.root)
        case = None if output.case is None else _identify(output.case, output.root)
        if name not in record or record[name].case != case:
            known = record[name] = _Known(case, None if output.case is None else _digest(output.case))
            with open(output.root / RECORD, "a", encoding="utf-8") as file:
                file.write(json.dumps({"file": name, **known._asdict()}) + "\n")


class _Known(NamedTuple):
    """What is written down of the case that an output is of.

    Attributes:
        case: its file, relative to the folder of outputs, or its name.
        sha256: of the file; None where there is none.
    """

    case: str | None
    sha256: str | None = None

    def has_moved_to(self, case: str, root: Path) -> bool:
        """Whether a file is the one that this case was, which is no longer where it was."""
        gone = self.case is not None and not (root / self.case).exists()
        return gone and self.sha256 is not None and self.sha256 == _digest(case)


def _digest(case: str) -> str | None:
    if not os.path.isfile(case):
        return None
    digest = sha256()
    with open(case, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _parse_lines(file: Iterable[str]) -> Iterator[tuple[str, _Known]]:
    for line in file:
        try:
            entry: Any = json.loads(line)
            yield entry["file"], _Known(entry["case"], entry.get("sha256"))
        except (ValueError, KeyError, TypeError, AttributeError):  # cut off by a run that was killed
            continue


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
def _resolve_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _name_below(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _identify(case: str, root: Path) -> str:
    """A case as it is written down: a file relative to the folder of outputs, which both may be moved with; else its name."""
    if not os.path.exists(case):
        return case
    return Path(os.path.relpath(os.path.realpath(case), os.path.realpath(root))).as_posix()
