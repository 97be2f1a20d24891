"""Checkpoints that a killed run leaves whole, and the newest of them."""

from __future__ import annotations

import logging
import os
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

__all__ = ["LastCheckpoint", "SafeCheckpointIO", "find_newest_checkpoint", "written_beside"]

logger = logging.getLogger(__name__)


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; what is there at the end is synced to the disk and takes the place of ``path``.

    Where something fails, ``path`` is as it was and nothing is left beside it; a killed process leaves ``.NAME.part``, which the
    next one writes over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class SafeCheckpointIO(TorchCheckpointIO):
    """Lightning's, but that a file is written beside its place: Lightning moves it from ``TMPDIR``, which on another file system
    is a copy that a killed run leaves half done. Addresses (``s3://…``) are written as Lightning does."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with written_beside(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class LastCheckpoint(ModelCheckpoint):
    """Keeps the newest checkpoint of a fit, ``checkpoints/last.ckpt`` in its log folder, to go on from.

    Every native fit has one that has no ``ModelCheckpoint`` of its own, in place of Lightning's default, whose files have the
    names of epoch and step.

    Args:
        minutes: from one checkpoint within an epoch to the next; beside them there is one after each epoch.
    """

    def __init__(self, minutes: float = 15.0) -> None:
        super().__init__(filename="last", enable_version_counter=False)
        self.minutes = minutes
        self._saved = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        due = time.monotonic() - self._saved >= 60 * self.minutes
        if trainer.world_size > 1:
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if due and self.dirpath and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(str(Path(self.dirpath) / "last.ckpt"), self.save_weights_only)
            self._saved = time.monotonic()


def find_newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of the fits that ran in a folder; a broken one is passed over with a warning.

    Args:
        folder: ``default_root_dir`` of the Trainer: ``checkpoints`` in it, and in its log folders, hold ``*.ckpt``.
    """
    found = {*folder.glob("checkpoints/*.ckpt"), *folder.glob("*/*/checkpoints/*.ckpt")}
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        if _is_whole(path):
            return path
        logger.warning(f"{path} is broken: the checkpoint before it is taken")
    return None


def _is_whole(path: Path) -> bool:
    """Whether a file of ``torch.save`` is all there, by the checksums of its parts; a folder of shards by its list of them."""
    if path.is_dir():
        return (path / ".metadata").is_file()
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile, NotImplementedError):
        return False
