"""A trial: a fresh process of ``monai-lighter fit`` in a folder of its own."""

from __future__ import annotations

import csv
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Event
from typing import Any

from monai_lighter.callbacks.trial_record import DIRECTION_VARIABLE, METRIC_VARIABLE, TRIAL_VARIABLE
from monai_lighter.study.locks import HOST, TrialLock
from monai_lighter.study.study_folder import COMPLETE, FAILED, MAXIMIZE, PRUNED, StudyRequest, Trial
from monai_lighter.study.values import format_value

__all__ = ["TrialProcess", "make_command", "read_key_metric"]

PROGRAM = "monai-lighter"
POLL = 0.2
LEFT_OUT = 3
"""Exit code of a fit that came to its end without some cases, which could not be read."""
LAST_LINES = 15


def make_command(request: StudyRequest, parameters: Mapping[str, Any]) -> list[str]:
    """The words that run a trial once more, bit for bit: its seed is among them, or in the config.

    Args:
        request: of the study.
        parameters: of the trial.
    """
    values = {**request.fixed, **{id: format_value(value) for id, value in parameters.items()}}
    return [PROGRAM, "fit", *request.configs, *(f"--{id}={text}" for id, text in values.items())]


def read_key_metric(path: Path) -> dict[int, float]:
    """Epoch to the value of the metric, of the file that a trial writes; the last where an epoch was begun twice."""
    return {epoch: value for epoch, value, _ in _read_rows(path)}


def _read_rows(path: Path) -> list[tuple[int, float, str]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = csv.reader(lines[1:])
    return [(int(epoch), float(value), metric) for epoch, value, metric in rows]


class TrialProcess:
    """Runs trials of a study, one after another.

    Args:
        request: of the study.
        outputs: config id to the folder, seen from that of the trial, that is set for it.
        device: as ``CUDA_VISIBLE_DEVICES`` has it; empty for what there is.
        stop: set when the study is to end.
    """

    def __init__(self, request: StudyRequest, outputs: Mapping[str, str], device: str, stop: Event) -> None:
        self.request, self.outputs, self.device, self.stop = request, outputs, device, stop

    def run(self, trial: Trial, lock: TrialLock, judge: Callable[[int, float], bool]) -> Trial:
        """Runs a trial, or what is left of one that has died: with ``resume: auto``, which goes on exactly.

        Args:
            trial: to be run. One that is over already is given back as it was.
            lock: which its process holds too.
            judge: called with each epoch and value as they come; whether the trial is to be pruned.

        Returns:
            What has become of it; `RUNNING` where it is to go on when the study does.
        """
        before = Trial.read(trial.folder)
        if before is not None and before.state in (COMPLETE, PRUNED):
            return before
        trial.folder.mkdir(parents=True, exist_ok=True)
        spent, attempts = (before.seconds, before.attempts) if before is not None else (0.0, 0)
        trial = trial._replace(
            command=make_command(self.request, trial.parameters),
            cwd=os.getcwd(),
            attempts=attempts + 1,
            seconds=spent,
            host=HOST,
            device=self.device,
        )
        trial.write()
        start = time.monotonic()
        code, pruned = self._wait(trial, lock, judge)
        trial = trial._replace(seconds=round(spent + time.monotonic() - start, 1))
        stopped = self.stop.is_set() and code not in (0, LEFT_OUT)
        trial = trial if stopped else self._conclude(trial, code, pruned)
        trial.write()
        return trial

    def _wait(self, trial: Trial, lock: TrialLock, judge: Callable[[int, float], bool]) -> tuple[int, bool]:
        """Exit code of the process, and whether it was pruned."""
        known = read_key_metric(trial.key_metric_path)
        for epoch, value in known.items():
            judge(epoch, value)  # those of an attempt before, which was not pruned by them
        asked_to_end, pruned = False, False
        with self._begin(trial, lock) as process:
            try:
                while process.poll() is None:
                    lock.beat()
                    for epoch, value in read_key_metric(trial.key_metric_path).items():
                        if epoch not in known:
                            known[epoch] = value
                            pruned = judge(epoch, value) or pruned
                    if (pruned or self.stop.is_set()) and not asked_to_end:
                        asked_to_end = True
                        process.send_signal(signal.SIGTERM)  # it ends after the step, with a checkpoint
                    time.sleep(POLL)
            except BaseException:
                process.send_signal(signal.SIGTERM)
                raise
        return process.returncode, pruned

    def _begin(self, trial: Trial, lock: TrialLock) -> subprocess.Popen[bytes]:
        words = [f"--{id}={(trial.folder / folder).resolve()}" for id, folder in self.outputs.items()]
        command = [sys.executable, "-m", "monai_lighter", *trial.command[1:], *words, "--resume=auto"]
        environment = {**os.environ, TRIAL_VARIABLE: str(trial.folder.resolve()), METRIC_VARIABLE: self.request.metric}
        environment[DIRECTION_VARIABLE] = self.request.direction
        environment |= {"CUDA_VISIBLE_DEVICES": self.device} if self.device else {}
        with open(trial.log_path, "ab") as log:
            log.write(f"$ {shlex.join(command[3:])}\n".encode())
            log.flush()
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C is the study's, which has its trials end
                pass_fds=[lock.number],
            )

    def _conclude(self, trial: Trial, code: int, pruned: bool) -> Trial:
        if code not in (0, LEFT_OUT):
            ended = code in (128 + signal.SIGTERM, -signal.SIGTERM)  # the second before it receives signals
            state = PRUNED if pruned and ended else FAILED
            note = "worse than the median of the trials before" if state == PRUNED else _read_end(trial.log_path)
            return self._measure(trial)._replace(state=state, exit_code=code, note=note)
        trial = self._measure(trial)
        notes = ["cases were left out, see bad_cases_fit.csv"] if code == LEFT_OUT else []
        if trial.value is None:
            notes.append(
                "no value: the metric was no number in any validation, there was no validation, or --metric is missing"
            )
        return trial._replace(state=COMPLETE, exit_code=code, note="; ".join(notes))

    def _measure(self, trial: Trial) -> Trial:
        """With value, epoch and weights: of the best weights as the fit has chosen them; of MONAI's engines, the best value.

        Those choose weights by their key metric: by another one that the study was given, none are known.
        """
        path = trial.folder / "best.json"
        if path.is_file():
            best = json.loads(path.read_text(encoding="utf-8"))
            value = best["value"]
            known = value is not None and math.isfinite(value)
            return trial._replace(
                value=value if known else None, metric=best["metric"], epoch=best["epoch"], weights=best["weights"]
            )
        rows = [row for row in _read_rows(trial.key_metric_path) if math.isfinite(row[1])]
        if not rows:
            return trial
        epoch, value, metric = (max if self.request.direction == MAXIMIZE else min)(rows, key=lambda row: row[1])
        found = [] if self.request.metric else [*_find_weights(trial.folder)]
        return trial._replace(value=value, metric=metric, epoch=epoch, weights=found[0] if len(found) == 1 else "")


def _find_weights(folder: Path) -> Iterator[str]:
    """Files that a ``CheckpointSaver`` of MONAI has written for its key metric, and for nothing else."""
    for path in sorted((folder / "models").glob("*.pt")):
        if not any(word in path.stem for word in ("epoch", "iteration", "final")):
            yield str(path.relative_to(folder))


def _read_end(path: Path) -> str:
    lines = path.read_bytes()[-20_000:].decode(errors="replace").splitlines()
    return "\n".join(lines[-LAST_LINES:])
