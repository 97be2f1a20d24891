"""What a run says beside its results: messages of MONAI and Lightning, warnings of libraries, progress of caches."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from monai.bundle.config_item import ComponentLocator
from monai.data import CacheDataset

from monai_lighter.check.targets import target_of
from monai_lighter.config.items import is_text, items
from monai_lighter.errors import ConfigError, Finding

__all__ = ["Screen"]

RANK_ZERO = tuple(
    f"{package}.utilities.rank_zero"
    for package in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")
)
"""Lightning's loggers of the first process. Where code imports ``pytorch_lightning``, its twin says what either has to say."""
TOLD_TWICE = ("\N{ELECTRIC LIGHT BULB} Tip", "GPU available: ", "TPU available: ", "HPU available: ", "`Trainer.")
"""Beginnings of Lightning's messages: advertisements, devices that are not used, and the end of the run, which is told anyway."""
UNSAID: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(RANK_ZERO, TOLD_TWICE),
    "lightning.pytorch.accelerators.cuda": ("LOCAL_RANK: ",),
    "monai.bundle.scripts": ("--- input summary", "> ", "---"),
    "monai_lighter.system.weights": ("best weights: ",),
    "monai.data.image_writer": ("writing: ",),
}
"""Logger to the beginnings of its messages that are left out."""
NEEDLESS = (
    ".*`tensorboardX` has been removed",
    ".*Skipping val loop",
    ".*predict returned None",  # of a batch with no case left, which is told
    "No (positive|negative) samples in targets",  # of a batch; a class that no case has is NaN
    r"axcodes \('\(.*length is smaller",  # than 2, of the three that MONAI itself takes to invert Orientationd in 2D
)
"""Warnings that no config can do anything about."""
LIBRARIES = (
    r"(?!monai\.(utils\.module|bundle))(lightning|lightning_utilities|torch|torchmetrics|monai|ignite|nibabel)\b"
)
"""Modules whose own use of what is deprecated is nobody else's business. MONAI's `instantiate` is not among them: what is
deprecated there stands in the config."""


class Screen:
    """How much a run prints.

    Args:
        quiet: errors and the result alone: no progress, warnings or messages, nor in log files.
        verbose: all that MONAI, Lightning and other libraries say too.

    Raises:
        ConfigError: both, or one that is neither true nor false.
    """

    def __init__(self, quiet: Any = False, verbose: Any = False) -> None:
        given = {"quiet": quiet, "verbose": verbose}
        found = [
            Finding(name, f"must be true or false, got {value!r:.80}", "Give it alone, --quiet, for true.")
            for name, value in given.items()
            if not isinstance(value, bool)
        ]
        if found or (quiet and verbose):
            raise ConfigError(found or [Finding("quiet", "and verbose cannot both be true", "Leave one out.")])
        self.quiet, self.verbose = quiet, verbose
        self._shown = False

    @classmethod
    def of_run(cls, config: Mapping[str, Any], native: bool, quiet: bool | None, verbose: bool | None) -> Screen:
        """That of a run: as its arguments say, else as a native config does under ``quiet`` and ``verbose``.

        Raises:
            ConfigError: both, or one that is neither true nor false.
        """
        own = config if native else {}
        given = [own.get(name) if value is None else value for name, value in (("quiet", quiet), ("verbose", verbose))]
        return cls(*(False if value is None else value for value in given))

    @contextmanager
    def show(self) -> Iterator[None]:
        """Within it, no more is printed than was asked for."""
        if self._shown or self.verbose:
            yield
            return
        self._shown = True
        try:
            with ExitStack() as stack:
                self._enter(stack)
                yield
        finally:
            self._shown = False

    def keep(self) -> None:
        """For the rest of the process, which is one run, no more is printed than was asked for."""
        if not (self._shown or self.verbose):
            self._shown = True
            self._enter(None)

    def _enter(self, stack: ExitStack | None) -> None:
        if stack is not None:
            stack.enter_context(warnings.catch_warnings())
        for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
            warnings.filterwarnings("ignore", category=category, module=LIBRARIES)
        for message in NEEDLESS:
            warnings.filterwarnings("ignore", message=message)
        for name, beginnings in UNSAID.items():
            said, source = _leave_out(beginnings), logging.getLogger(name)
            source.addFilter(said)
            if stack is not None:
                stack.callback(source.removeFilter, said)
        if self.quiet:
            warnings.simplefilter("ignore")
            before = logging.root.manager.disable
            logging.disable(logging.WARNING)
            if stack is not None:
                stack.callback(logging.disable, before)

    def clear_trainer(self, trainer: Trainer) -> None:
        """Takes the progress bar of a quiet run out of its Trainer."""
        if self.quiet:
            kept = [each for each in trainer.callbacks if not isinstance(each, ProgressBar)]  # type: ignore[attr-defined]
            trainer.callbacks = kept  # type: ignore[attr-defined]

    def hide_caching(self, config: dict, locator: ComponentLocator) -> None:
        """In place: caches show no progress while they are filled, in a quiet run and where no terminal can redraw it.

        Args:
            config: what a run resolves.
            locator: of its targets.
        """
        if self.verbose or (not self.quiet and sys.stderr.isatty()):
            return
        for _, section in items(config):
            if isinstance(section, dict) and is_text(section.get("_target_")):
                target = target_of(section["_target_"], locator)
                if isinstance(target, type) and issubclass(target, CacheDataset):
                    section.setdefault("progress", False)


def _leave_out(beginnings: tuple[str, ...]) -> Callable[[logging.LogRecord], bool]:
    return lambda record: not record.getMessage().lstrip().startswith(beginnings)
