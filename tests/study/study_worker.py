"""A worker of a study as submitit runs it: ``python -m study_worker study CONFIG …``."""

import sys

from monai_lighter.study.cluster import StudyWorker

StudyWorker(sys.argv[1:], ".")()
