"""Workers of a study as jobs of a cluster, by submitit: each is the study's own command, and takes what is left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from submitit import AutoExecutor
from submitit.helpers import DelayedSubmission

from monai_lighter.errors import BundleError, in_short

__all__ = ["StudyWorker", "run_on_cluster"]

DAY = 24 * 60


class StudyWorker:
    """A job: the command of a study in a process. One whose time is over is queued again, and goes on.

    Args:
        words: of the command, after ``monai-lighter``.
        folder: that it is run in.
    """

    def __init__(self, words: Sequence[str], folder: str) -> None:
        self.words, self.folder = [*words], folder

    def __call__(self) -> int:
        command = [sys.executable, "-m", "monai_lighter", *self.words]
        with subprocess.Popen(command, cwd=self.folder) as process:
            try:
                return process.wait()
            except BaseException:  # killed, as `subprocess.call` does it, it would leave its trials running
                process.terminate()
                process.wait()  # its trials end after their step
                raise

    def checkpoint(self) -> DelayedSubmission:
        """What submitit queues when the time of the job is over, or it is preempted."""
        return DelayedSubmission(self)


def run_on_cluster(words: Sequence[str], logs: Path, cluster: str, jobs: int, options: Mapping[str, Any]) -> list[int]:
    """Submits workers and waits for them.

    Args:
        words: of the command of a worker, after ``monai-lighter``.
        logs: folder for submitit's files.
        cluster: ``slurm``, ``local`` (processes on this machine), or another that submitit knows.
        jobs: how many workers.
        options: of ``submitit.AutoExecutor.update_parameters``: ``timeout_min``, ``gpus_per_node``, ``slurm_partition``, …

    Returns:
        Exit code of each worker.

    Raises:
        BundleError: a cluster or options that submitit refuses, or a worker that its cluster ended.
    """
    try:
        executor = AutoExecutor(folder=logs, cluster=cluster)
        executor.update_parameters(**{"name": "monai-lighter", "timeout_min": DAY, **options})
        with executor.batch():
            submitted = [executor.submit(StudyWorker(words, os.getcwd())) for _ in range(jobs)]
    except (AssertionError, ImportError, KeyError, NameError, RuntimeError, TypeError, ValueError) as error:
        raise BundleError(
            f"cluster: submitit cannot submit to {cluster!r} with {dict(options)}: {in_short(error)}."
        ) from error
    print(
        f"{jobs} workers submitted to {cluster}: {', '.join(job.job_id for job in submitted)}; their logs are in {logs}"
    )
    try:
        return [job.result() for job in submitted]
    except KeyboardInterrupt:
        for job in submitted:
            job.cancel()
        raise
    except Exception as error:
        raise BundleError(f"cluster: a worker did not come to its end: {in_short(error)}. See {logs}.") from error
