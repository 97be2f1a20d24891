"""Attributes that say something of themselves, whatever the object is."""

from __future__ import annotations

__all__ = ["DANGEROUS_ATTRIBUTES", "HARMLESS_DUNDERS", "WITH_TEXT", "WRITING_ATTRIBUTES"]


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


HARMLESS_DUNDERS = _words("__version__ __name__ __len__ __doc__ __main__ __init__ __call__ __getitem__")
DANGEROUS_ATTRIBUTES = _words(
    "system popen Popen check_output check_call getoutput getstatusoutput fork forkpty execl execle execlp execv execve",
    "execvp execvpe spawnl spawnv spawnve spawnlp spawnvp posix_spawn startfile rmtree unlink import_module load_module",
    "exec_module run_path run_module urlopen urlretrieve modules f_globals f_locals f_builtins f_back gi_frame cr_frame",
    "ag_frame tb_frame gi_code co_code func_globals read_pickle to_pickle load_library _getframe run_cmd optional_import",
    "load_from_checkpoint write_text write_bytes",
)
"""Attributes that are dangerous on an object that is not known."""
WRITING_ATTRIBUTES = _words("write writelines touch mkdir makedirs save savez savetxt tofile to_csv dump rename")
WITH_TEXT = _words("eval query exec")
"""Methods that run the text they are given, and are harmless without (``network.eval()``)."""
