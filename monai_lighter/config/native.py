"""What makes a config a native one, and its stages: a leaf, which command lines read before MONAI is imported."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["BY_MODE", "MODEL", "STAGES", "find_similar_stage", "has_model_section", "is_native"]

STAGES = ("fit", "validate", "test", "predict")
BY_MODE = ("dataloaders", "metrics", "adapters", "postprocessing")
SYSTEM_KEYS = frozenset((*BY_MODE, "model", "criterion", "optimizer", "scheduler", "inferer"))
MODEL = "model"
TRAINERS = re.compile(r"(lightning\.pytorch|pytorch_lightning|lightning)(\.trainer)*\.Trainer")
OTHER_WORDS = {
    "fit": ("train", "training", "trainer", "learn", "fine_tune", "finetune"),
    "validate": ("val", "valid", "validation"),
    "test": ("eval", "evaluate", "evaluation", "evaluating", "testing"),
    "predict": ("infer", "inference", "inferring", "prediction", "segment", "apply"),
}
"""What else people call a stage, as MONAI's types of workflow do."""


def is_native(config: Any) -> bool:
    """Whether a config has a ``system`` section, and not something of its own under that name, as a bundle of engines may; or a
    ``model`` section in its place (`has_model_section`)."""
    if not isinstance(config, dict) or "system" not in config:
        return has_model_section(config)
    system = config["system"]
    return not isinstance(system, dict) or not system or "_target_" in system or not SYSTEM_KEYS.isdisjoint(system)


def has_model_section(config: Any) -> bool:
    """Whether a config has, as those of Lighter 0.1.0, a LightningModule as ``model``, Lightning's Trainer, and no system."""
    if not isinstance(config, dict) or "system" in config:
        return False
    model, trainer = config.get(MODEL), config.get("trainer")
    target = trainer.get("_target_") if isinstance(trainer, dict) else None
    return isinstance(model, dict) and "_target_" in model and TRAINERS.fullmatch(str(target)) is not None


def find_similar_stage(word: str) -> str | None:
    """The stage that a word means which is none; None where it is no such word."""
    meant = word.lower().replace("-", "_")
    return next((stage for stage, words in OTHER_WORDS.items() if meant == stage or meant in words), None)
