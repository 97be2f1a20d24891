"""Checkpoints that a killed run leaves whole, and the newest of them."""

from __future__ import annotations

import logging
import math
import time
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from monai_lighter.safe_files import written_beside

__all__ = [
    "LAST",
    "MADE_WITH",
    "LastCheckpoint",
    "SafeCheckpointIO",
    "ends_stretch",
    "find_newest_checkpoint",
    "list_checkpoints",
    "place_before_checkpoints",
    "save_last",
]

logger = logging.getLogger(__name__)

LAST = "last.ckpt"
MADE_WITH = "made_with"
"""Key of Lightning's checkpoints: the digest of the bundle and of its code, of a config of engines the config too."""


class SafeCheckpointIO(TorchCheckpointIO):
    """Lightning's, but that a file is written beside its place: Lightning moves it from ``TMPDIR``, which on another file system
    is a copy that a killed run leaves half done. Addresses (``s3://…``) are written as Lightning does."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with written_beside(Path(path)) as temporary:
            torch.save(checkpoint, temporary)

    @classmethod
    def into(cls, trainer: Trainer) -> None:
        """Puts one in the place of Lightning's own; that of a strategy or a user stays."""
        with suppress(NotImplementedError):  # strategies that write shards have none
            if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
                trainer.strategy.checkpoint_io = cls()


def place_before_checkpoints(callback: Callback, trainer: Trainer) -> None:
    """Has a callback called after the others of a Trainer, as what the weights of an epoch are worth is known by then, and before
    those that save checkpoints: what it notes of a best epoch must not be missing where a checkpoint knows of that."""
    others = [each for each in trainer.callbacks if each is not callback]  # type: ignore[attr-defined]
    saving = [each for each in others if isinstance(each, Checkpoint)]
    trainer.callbacks = [*(each for each in others if each not in saving), callback, *saving]  # type: ignore[attr-defined]


class LastCheckpoint(ModelCheckpoint):
    """Keeps the newest checkpoint of a fit, ``checkpoints/last.ckpt`` in its log folder, to go on from.

    Every native fit has one that has no ``ModelCheckpoint`` of its own, in place of Lightning's default, whose files have the
    names of epoch and step.

    Args:
        minutes: from one checkpoint within an epoch to the next; beside them there is one after each epoch, and with ``inf`` no
            other.
        dirpath: folder for it. Default: ``checkpoints`` in the log folder.
    """

    def __init__(self, minutes: float = 15.0, dirpath: str | Path | None = None) -> None:
        super().__init__(dirpath, filename="last", enable_version_counter=False, save_on_train_epoch_end=True)
        self.minutes = minutes
        self._saved = time.monotonic()

    @classmethod
    def into(cls, trainer: Trainer) -> None:
        """Puts one in the place of Lightning's default checkpoint callback; one that a user has set stays."""
        trainer.callbacks = [  # type: ignore[attr-defined]
            cls() if _is_default(each) else each
            for each in trainer.callbacks  # type: ignore[attr-defined]
        ]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes nothing: a fit that goes on has a log folder, and a checkpoint, of its own."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """By the clock alone: Lightning's own, by steps, has nothing to do here and takes a while to find out."""
        due = time.monotonic() - self._saved >= 60 * self.minutes
        if not (due or trainer.world_size > 1) or self.minutes == math.inf or ends_stretch(trainer, batch_idx):
            return
        if trainer.world_size > 1:
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if due and save_last(trainer) is not None:
            self._saved = time.monotonic()


def _is_default(callback: Any) -> bool:
    """Whether a callback is the one that Lightning adds where none is named."""
    names = ("dirpath", "filename", "monitor", "save_last", "save_top_k", "state_key", "save_weights_only")
    default = ModelCheckpoint()
    return type(callback) is ModelCheckpoint and all(getattr(callback, n) == getattr(default, n) for n in names)


def ends_stretch(trainer: Trainer, batch_idx: int) -> bool:
    """Whether validation or the end of the epoch comes after a batch: Lightning would leave it out after a checkpoint of now."""
    every: Any = trainer.val_check_batch  # type: ignore[attr-defined]
    counts = (batch_idx + 1, trainer.fit_loop.total_batch_idx + 1)
    return bool(trainer.is_last_batch) or (isinstance(every, int) and every > 0 and any(c % every == 0 for c in counts))


def save_last(trainer: Trainer) -> Path | None:
    """Writes ``last.ckpt`` where the Trainer's first checkpoint callback writes; None where it has none, or is not to write.

    It is called by all processes at once.
    """
    folder = next((each.dirpath for each in _list_savers(trainer) if each.dirpath), None)
    if folder is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    path = Path(folder) / LAST
    trainer.save_checkpoint(str(path))
    return path


def _list_savers(trainer: Trainer) -> list[ModelCheckpoint]:
    return [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]


def list_checkpoints(trainer: Trainer) -> set[Path]:
    """Files that Lightning's checkpoint callbacks have written for a Trainer, in this fit or in others before.

    They lie in ``checkpoints`` in ``default_root_dir`` or the folder of a logger, or in a log folder there; or where a
    ``ModelCheckpoint`` says.
    """
    folders = [trainer.default_root_dir, *(each.save_dir for each in trainer.loggers)]
    patterns = ("checkpoints/*.ckpt", "*/*/checkpoints/*.ckpt")
    places: list[tuple[Any, str]] = [(folder, pattern) for folder in folders for pattern in patterns]
    places += [(each.dirpath, "*.ckpt") for each in _list_savers(trainer)]
    return {
        path for folder, pattern in places if folder and "://" not in str(folder) for path in Path(folder).glob(pattern)
    }


def find_newest_checkpoint(found: Iterable[Path]) -> Path | None:
    """The newest whole one of some checkpoints; a broken one is passed over with a warning."""
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
