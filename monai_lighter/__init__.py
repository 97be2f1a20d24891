"""Configuration-driven deep learning for medical imaging: MONAI bundles on PyTorch Lightning.

    python -m monai.bundle run fit --workflow monai_lighter.Workflow --config_file configs/train.yaml

The names in ``__all__`` are imported when they are first used, so that ``import monai_lighter`` costs next to nothing. ``dir()``
does not list them before: MONAI looks at all that ``dir()`` names in modules whose names begin with ``monai``, in every program.
"""

import sys

if "".join(getattr(sys, "argv", ())[:1]).endswith("monai-lighter"):
    import monai_lighter.commands  # before anything else is: from here on Ctrl-C ends the command without a traceback

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "BatchAdapter": "system.adapters",
    "BundleError": "errors",
    "CaseError": "errors",
    "CaseMetrics": "callbacks.case_metrics",
    "ComponentError": "errors",
    "ConfigError": "errors",
    "CriterionAdapter": "system.adapters",
    "CsvWriter": "callbacks.output_writers",
    "CurvesLogger": "callbacks.curves",
    "Ensemble": "ensemble",
    "EnsembleEvaluator": "engines.engine",
    "FileWriter": "callbacks.writers",
    "FlipInferer": "flip_inferer",
    "Folds": "data.folds",
    "Freezer": "callbacks.freezer",
    "LastCheckpoint": "system.checkpoints",
    "LighterDataModule": "system.lighter_module",
    "LighterModule": "system.lighter_module",
    "LoggingAdapter": "system.adapters",
    "MetricsAdapter": "system.adapters",
    "ModelWeights": "system.weights",
    "NonFiniteError": "errors",
    "OutputWriter": "callbacks.output_writers",
    "ProgressBar": "callbacks.progress_bar",
    "RunSummary": "callbacks.run_summary",
    "SlidingWindowLabelInferer": "label_inferer",
    "SupervisedEvaluator": "engines.engine",
    "SupervisedTrainer": "engines.engine",
    "System": "system.system",
    "TableWriter": "callbacks.tables",
    "Workflow": "workflow.workflow",
    "find_common_folder": "folders",
    "load_bundle": "share.loading",
    "load_weights": "models",
}

__all__ = sorted(_HOME)  # noqa: PLE0605

if TYPE_CHECKING:
    from monai_lighter.callbacks.case_metrics import CaseMetrics
    from monai_lighter.callbacks.curves import CurvesLogger
    from monai_lighter.callbacks.freezer import Freezer
    from monai_lighter.callbacks.output_writers import CsvWriter, OutputWriter
    from monai_lighter.callbacks.progress_bar import ProgressBar
    from monai_lighter.callbacks.run_summary import RunSummary
    from monai_lighter.callbacks.tables import TableWriter
    from monai_lighter.callbacks.writers import FileWriter
    from monai_lighter.data.folds import Folds
    from monai_lighter.engines.engine import EnsembleEvaluator, SupervisedEvaluator, SupervisedTrainer
    from monai_lighter.ensemble import Ensemble
    from monai_lighter.errors import BundleError, CaseError, ComponentError, ConfigError, NonFiniteError
    from monai_lighter.flip_inferer import FlipInferer
    from monai_lighter.folders import find_common_folder
    from monai_lighter.label_inferer import SlidingWindowLabelInferer
    from monai_lighter.models import load_weights
    from monai_lighter.share.loading import load_bundle
    from monai_lighter.system.adapters import BatchAdapter, CriterionAdapter, LoggingAdapter, MetricsAdapter
    from monai_lighter.system.checkpoints import LastCheckpoint
    from monai_lighter.system.lighter_module import LighterDataModule, LighterModule
    from monai_lighter.system.system import System
    from monai_lighter.system.weights import ModelWeights
    from monai_lighter.workflow.workflow import Workflow


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
