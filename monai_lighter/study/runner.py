"""A study from its beginning, or from where it was left, to its table: as many trials at once as asked for."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from threading import Event, Thread
from typing import Any
from uuid import uuid4

from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.errors import ConfigError, Finding
from monai_lighter.safe_files import written_beside
from monai_lighter.study.locks import locked
from monai_lighter.study.plan import (
    CONFIG_FILE,
    Plan,
    digest_splits,
    require_same,
    require_same_splits,
    require_unchanged,
)
from monai_lighter.study.storage import Job, Queue
from monai_lighter.study.study_folder import COMPLETE, FAILED, PRUNED, RUNNING, Trial
from monai_lighter.study.trial_process import TrialProcess
from monai_lighter.trust.digest import hash_imported_code

__all__ = ["begin_study", "compare_with_others", "run_study"]

IDLE = 1.0
"""Seconds between two looks for what others have left."""


def begin_study(folder: Path, plan: Plan) -> Plan:
    """Writes down what is asked, unless it stands there already, and the splits of the folds, which all trials share.

    Returns:
        the plan, with the key of the study that stands there, its code and its splits.

    Raises:
        ConfigError: the folder holds another study; code or splits are others than they were; `Folds` that cannot be made, or
            that no file keeps the same for all trials.
    """
    with locked(folder / "lock"):
        before = require_same(folder, plan)
        key = before.key if before is not None else f"{folder.name}-{uuid4().hex[:12]}"
        if plan.folds or plan.request.native:
            plan.workflow.initialize()  # which imports code that the config only names in expressions
        for id in plan.folds:
            folds = plan.workflow.parser.get_parsed_content(id)
            if folds.path is None:
                hint = "Write path: $@bundle_root + '/splits.json'."
                raise ConfigError([Finding(f"{id}{ID_SEP_KEY}path", "must be a file in a study, got None", hint)])
            _ = folds.val  # two trials at once would both write the file
        splits = digest_splits(plan)
        code = hash_imported_code(plan.workflow.code_folders)
        if before is not None:
            require_same_splits(before, splits)
            code |= before.code
        plan = plan._replace(request=plan.request._replace(key=key, code=code, splits=splits))
        if before is None:
            with written_beside(folder / CONFIG_FILE) as temporary:
                ConfigParser.export_config_file(plan.config, temporary, "yaml", sort_keys=False)
        plan.request.write(folder)
    return plan


def run_study(folder: Path, plan: Plan, queue: Queue, devices: Sequence[str], n_jobs: int) -> bool:
    """Runs trials until none is left, here or elsewhere.

    Args:
        folder: of the study.
        plan: of the study.
        queue: its trials.
        devices: as ``CUDA_VISIBLE_DEVICES`` has them, dealt out in turn; empty for what there is.
        n_jobs: trials at once.

    Returns:
        False where Ctrl-C or SIGTERM ended it before that.
    """
    stop, errors = Event(), []

    def work(slot: int) -> None:
        device = devices[slot % len(devices)] if devices else ""
        process = TrialProcess(plan.request, plan.outputs, device, stop)
        try:
            while not stop.is_set():
                job = queue.take()
                if job is not None:
                    _run_job(job, process, queue, folder, plan)
                elif queue.is_over:
                    return
                else:  # others run what is left, and may die
                    stop.wait(IDLE)
        except BaseException as error:
            errors.append(error)
            stop.set()

    threads = [Thread(target=work, args=(slot,), name=f"trials {slot}") for slot in range(n_jobs)]
    with _stopped_by_signals(stop):
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)
    if errors:
        raise errors[0]
    return not stop.is_set()


def _run_job(job: Job, process: TrialProcess, queue: Queue, folder: Path, plan: Plan) -> None:
    try:
        ended: list[Trial] = []
        for trial in job.trials:
            require_unchanged(folder, plan)
            _tell(f"trial {trial.number:03d} begins: {_describe(trial)}")
            alone = len(job.trials) == 1

            def judge(epoch: int, value: float, alone: bool = alone) -> bool:
                return alone and compare_with_others(job, epoch, value)

            trial = process.run(trial, job.lock, judge)
            if trial.state == RUNNING:
                return  # goes on when the study does
            ended.append(trial)
            value = "" if trial.value is None else f", {trial.metric} = {trial.value:.5g}"
            _tell(f"trial {trial.number:03d} {trial.state}{value} ({trial.seconds:.0f} s)")
            if trial.state != COMPLETE:
                break
            values = [each.value for each in ended if each.value is not None]
            if (
                not alone
                and len(values) == len(ended) < len(job.trials)
                and compare_with_others(job, len(ended), fmean(values))
            ):
                _tell(
                    f"trials {trial.number + 1:03d} to {job.trials[-1].number:03d} are left out: worse than the median"
                )
                queue.tell(job, None, PRUNED)
                return
        values = [each.value for each in ended if each.value is not None]
        whole = len(values) == len(job.trials)
        queue.tell(job, fmean(values) if whole else None, ended[-1].state if ended else FAILED)
    finally:
        job.lock.release()


def compare_with_others(job: Job, step: int, value: float) -> bool:
    """Whether a job is worse than the median of those before at a step: an epoch, or of several folds their number.

    One without a value yet is not: Optuna would prune it.
    """
    if not math.isfinite(value):
        return False
    job.asked.report(value, step)
    return job.asked.should_prune()


def _describe(trial: Trial) -> str:
    return ", ".join(f"{id} = {value}" for id, value in trial.parameters.items())


def _tell(text: str) -> None:
    print(text, flush=True)


@contextmanager
def _stopped_by_signals(stop: Event) -> Iterator[None]:
    """Within it, SIGINT and SIGTERM have the trials end after their step, with a checkpoint."""

    def receive(number: int, frame: Any) -> None:
        _tell("the trials that run end after their step; the same command goes on with them")
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    former = {number: signal.signal(number, receive) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
