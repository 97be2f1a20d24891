"""Lets ``python -m monai.bundle run --workflow monai_lighter.Workflow`` mean what it says.

MONAI names that option ``--workflow_name`` and takes ``--workflow`` for an override of a config item, so that Ignite would
run without a word. ``torch`` calls the entry points of the group ``torch.backends`` when it is imported, which is before
MONAI reads its arguments. It does so in every program of the environment: this module imports nothing but ``os``, ``sys`` and
``importlib`` and ``warnings``, never raises, and changes nothing unless the process is ``-m monai.bundle``. That one it ends
where MONAI would read the line another way than it is meant (`monai_lighter.long_command`).
"""

import os
import sys
import warnings
from importlib import import_module

TRUST_FLAG, TRUST_VARIABLE = "--trust", "MONAI_LIGHTER_TRUST"
FLAG, MONAI_FLAG, PACKAGE = "--workflow", "--workflow_name", "monai_lighter."


def is_monai_bundle(original: list, arguments: list) -> bool:
    """Whether the interpreter was started as ``python [options] -m monai.bundle arguments``.

    Args:
        original: ``sys.orig_argv``, the interpreter and its options included.
        arguments: ``sys.argv``, of which all but the first item ends ``original``.
    """
    tail = arguments[1:]
    if tail and original[-len(tail) :] != tail:
        return False
    head = original[: len(original) - len(tail)]
    if len(head) < 2:
        return False
    option, module = head[-2:]
    if module in ("monai.bundle", "monai.bundle.__main__"):
        return option.startswith("-") and not option.startswith("--") and option.endswith("m")
    return module.startswith("-") and module.split("m", 1)[-1] in ("monai.bundle", "monai.bundle.__main__")


def rename_flag(arguments: list) -> None:
    """In place: ``--workflow X`` and ``--workflow=X`` become ``--workflow_name X`` where X is one of this package's."""
    for i, argument in enumerate(arguments):
        if argument == FLAG and i + 1 < len(arguments) and arguments[i + 1].startswith(PACKAGE):
            arguments[i] = MONAI_FLAG
        elif argument.startswith(f"{FLAG}={PACKAGE}"):
            arguments[i] = MONAI_FLAG + argument[len(FLAG) :]


def replace_warning(arguments: list) -> None:
    """For a workflow of this package, leaves out what MONAI warns of at every config: `Workflow` says it in a line."""
    words = " ".join(map(str, arguments)).replace("=", " ").split()
    named = words[words.index(MONAI_FLAG) + 1 :][:1] if MONAI_FLAG in words else []
    if named and named[0].startswith(PACKAGE) and "--verbose" not in words:
        warnings.filterwarnings("ignore", message="parsing config_file ", category=UserWarning)


def leave_directory(arguments: list, path: list) -> None:
    """In place: for a declarative run nothing is imported from the working directory, where ``python -m`` looks first.

    It may be the bundle's, and hold a module by the name of one that is yet to be imported.
    """
    words = " ".join(map(str, arguments)).replace("=", " ").split()
    given = words[words.index(TRUST_FLAG) + 1 :][:1] if TRUST_FLAG in words else [os.environ.get(TRUST_VARIABLE)]
    if given == ["declarative"] and path[:1] in ([os.getcwd()], [""]):
        del path[0]


def autoload() -> None:
    """Entry point of the group ``torch.backends``.

    Raises:
        SystemExit: the line is one that MONAI would read another way than it is meant; it has been told.
    """
    traps: list = []
    try:
        if is_monai_bundle(sys.orig_argv, sys.argv):
            leave_directory(sys.argv, sys.path)
            rename_flag(sys.argv)
            replace_warning(sys.argv)
            traps = import_module("monai_lighter.long_command").find_traps(sys.argv[1:])
    except Exception:  # it runs at every `import torch`: whatever is odd about this process is not ours to report
        return
    if traps:
        print(*traps, sep="\n", file=sys.stderr, flush=True)
        raise SystemExit(2)
