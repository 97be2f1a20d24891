"""The command line, ``monai-lighter VERB``: one verb a file.

A verb's module imports nothing heavy, and the verb imports what it needs in its body: ``--help`` shows its docstring, and what is
wrong with a command is told, before torch, MONAI and Lightning are imported, which takes seconds.
"""

import os
import signal
import sys

__all__ = ["INTERRUPTED", "PROGRAM", "interruptible"]

PROGRAM = "monai-lighter"
INTERRUPTED = 130
"""Exit code of what Ctrl-C ended, as a shell has it."""


def _end_quietly(number: int, frame: object) -> None:
    os._exit(INTERRUPTED)


def interruptible() -> None:
    """Ctrl-C is a ``KeyboardInterrupt`` again, where the command line has begun so far that it can catch it."""
    if signal.getsignal(signal.SIGINT) is _end_quietly:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if os.path.basename("".join(sys.argv[:1])) == PROGRAM and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(
        signal.SIGINT, _end_quietly
    )  # while the rest of the command line is imported, which nothing is around
